"""The numbers of a compiled problem that move: tolerances, rho, gamma, and targets that require grad, read anew at each call."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fairopt.basics.errors import InputError
from fairopt.basics.sparse import SparseRows
from fairopt.compiler.items import Item
from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt.contract.rows import Rows
from fairopt.notions.amount import Amount


@dataclass(frozen=True, eq=False)
class MovingLimits:
    """linear and ranges as compiled; ``values`` as they came (with gradients)."""

    linear: tuple[Item, ...]
    ranges: tuple[Item, ...]
    values: tuple[Tensor, ...]

    @property
    def moves(self) -> bool:
        return any(item.moves for item in (*self.linear, *self.ranges)) or any(v.requires_grad for v in self.values)

    def read(self, problem: ProjectionProblem) -> Limits:
        """The limits now, as float64 CPU tensors connected to what they hang on. InputError where a parameter has left its domain."""
        lower = _stack([_joined(item.lower, torch.maximum, float("-inf")) for item in self.linear])
        upper = _stack([_joined(item.upper, torch.minimum, float("inf")) for item in self.linear])
        width = _stack([_joined(item.width, torch.minimum, float("inf")) for item in self.ranges])
        weight = _stack([item.soft.weight.tensor() for item in (*self.linear, *self.ranges)])
        self._check(lower, upper, width, weight)
        return Limits(lower, upper, width, self._offset(problem), weight)

    def _check(self, lower: Tensor, upper: Tensor, width: Tensor, weight: Tensor) -> None:
        items = (*self.linear, *self.ranges)
        wrong = [*(~(lower <= upper)).tolist(), *(~(width >= 0)).tolist()]
        for item, bad in zip(items, wrong, strict=True):
            if bad:
                raise InputError(f"{item.label}: a learned tolerance has become negative or NaN; keep it >= 0, e.g. softplus(parameter)")
        for item, w in zip(items, weight.tolist(), strict=True):
            if not (w > 0 if item.soft.kind == "quadratic" else w >= 0):
                raise InputError(f"{item.label}: a learned rho or gamma has become {w!r}; keep it positive")

    def _offset(self, problem: ProjectionProblem) -> Tensor:
        """The rows' constants: the compiled numbers, with the gradient of the means of the values that require it."""
        rows = problem.rows
        offset = torch.from_numpy(rows.offset.copy())
        live = [(row, scale, mask, v) for row, scale, mask, v in rows.offset_terms if v >= 0 and self.values[v].requires_grad]
        if not live:
            return offset
        means: dict[int, Tensor] = {}
        for v in {v for _, _, _, v in live}:
            values = self.values[v].to(device="cpu", dtype=torch.float64)
            sums = torch.zeros(rows.masks.shape[1], dtype=torch.float64, device="cpu").index_add(0, rows.cell, values)  # (C,)
            means[v] = _mask_sums(rows, sums) / torch.from_numpy(rows.mask_counts)
        index = torch.tensor([row for row, _, _, _ in live], device="cpu")
        parts = torch.stack([scale * means[v][mask] for _, scale, mask, v in live])
        moving = torch.zeros_like(offset).index_add(0, index, parts)
        return offset + (moving - moving.detach())


def _mask_sums(rows: Rows, sums: Tensor) -> Tensor:
    """(M,) from the sums of the cells (C,)."""
    masks = rows.masks
    if not isinstance(masks, SparseRows):
        return torch.from_numpy(masks).to(torch.float64) @ sums
    parts = sums[torch.from_numpy(masks.index)]
    return torch.zeros(masks.shape[0], dtype=torch.float64, device="cpu").index_add(0, torch.from_numpy(masks.row_of), parts)


def widened_limits(stated: Limits, problem: ProjectionProblem) -> Limits:
    """The limits of a problem that was widened, with the gradients of the limits as ``stated``."""
    own = problem.limits()

    def moved(a: Tensor, b: Tensor) -> Tensor:
        zero = torch.where(torch.isfinite(a), a - a.detach(), 0.0)
        return b + zero if a.requires_grad else b

    lower, upper, width = (moved(a, b) for a, b in ((stated.lower, own.lower), (stated.upper, own.upper), (stated.width, own.width)))
    return Limits(lower, upper, width, stated.offset, stated.softness_weight)


def _joined(amounts: tuple[Amount, ...], join: object, empty: float) -> Tensor:
    """The tightest of several limits; ties share the gradient."""
    if not amounts:
        return torch.tensor(empty, dtype=torch.float64, device="cpu")
    total = amounts[0].tensor()
    for other in amounts[1:]:
        total = join(total, other.tensor())  # type: ignore[operator]
    return total


def _stack(tensors: list[Tensor]) -> Tensor:
    return torch.stack(tensors) if tensors else torch.zeros(0, dtype=torch.float64, device="cpu")
