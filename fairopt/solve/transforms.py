"""PyTorch's transforms: forward mode and torch.func (grad, vjp, jvp, jacrev, jacfwd, hessian, vmap) as derivatives of one piece.

A solve leaves PyTorch for numbers of its own, so that forward mode finds no tangent behind it and a batched tensor has no storage. So the
projection of scores under a transform is one operator: it solves with plain tensors, once for every score vector, and its derivatives are
products with J and J' (the projection is linear on its piece), again an operator. What cannot be had (prices and certificates under a
transform, derivatives by tolerances that are tensors) is refused with a word, never answered with zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor as _wrapped
from torch._C._functorch import is_legacy_batchedtensor
from torch._C._functorch import maybe_current_level as _level
from torch.autograd import forward_ad

from fairopt.basics.errors import InputError, UnsupportedError

_INSTEAD = (
    "use reverse mode: backward(), torch.autograd.grad, or torch.autograd.functional.jacobian and hessian without vectorize; or torch.func "
    "on the scores alone; Prepared.project_batch projects (B, n) scores"
)


def batched(tensor: Tensor) -> bool:
    """Whether a tensor is batched by ``torch.autograd.functional`` (``vectorize=True``)."""
    return bool(is_legacy_batchedtensor(tensor))


def transformed(tensor: Tensor) -> bool:
    """Whether a tensor is inside torch.func (vmap, grad, jvp, jacrev, jacfwd), batched, or has a tangent of forward mode."""
    if _wrapped(tensor) or is_legacy_batchedtensor(tensor):
        return True
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


def refuse_transforms(tensor: Tensor, where: str = "scores") -> None:
    """UnsupportedError for a tensor under a transform, where only plain ones are taken."""
    if _wrapped(tensor) or batched(tensor):
        words = "a tensor inside torch.func or vmap (jacobian's vectorize=True too), which is not supported here"
        raise UnsupportedError(f"{where}: {words}; {_INSTEAD}")
    if transformed(tensor):
        raise UnsupportedError(f"{where}: a tensor with a tangent; forward-mode derivatives are not supported here; {_INSTEAD}")


def row_by_row(v: Tensor, times: Callable[[Tensor], Tensor]) -> Tensor:
    """``times(v)``, for each of the vectors in a tensor that is batched by ``torch.autograd.functional`` (``vectorize=True``)."""
    if not batched(v):
        return times(v)
    level = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    rows = torch._remove_batch_dim(v, level, 1, 0)  # (B, ...): the one in force, whose size the tensor knows itself
    return torch._add_batch_dim(torch.stack([row_by_row(row, times) for row in rows.unbind()]), 0, level)


def project_transformed(scores: Tensor, n: int, project: Callable[[Tensor], Tensor], weights: Tensor | None) -> Tensor:
    """Scores (n,) or (n, 1) under a transform by ``project``, which takes plain ones. ``weights`` (n,) of the distance, or None."""
    if batched(scores):
        refuse_transforms(scores)
    shape = tuple(scores.shape)
    if shape not in ((n,), (n, 1)):
        raise InputError(f"scores: got shape {shape}, expected ({n},) or ({n}, 1)")
    column = len(shape) == 2
    y: Tensor = _Projection.apply(scores.squeeze(1) if column else scores, Solves(project, weights))  # type: ignore[no-untyped-call]
    return y.unsqueeze(1) if column else y


class Solves:
    """The solves of one call of the operator: how to do them, and afterwards their pieces, one a score vector.

    Under vmap the operator is called again, one level further out, with one more dimension: ``outer`` are the solves there.
    """

    def __init__(self, project: Callable[[Tensor], Tensor], weights: Tensor | None) -> None:
        self.project, self.weights = project, weights
        self.pieces: list[tuple[Tensor, Tensor]] = []  # (scores, answer), each (n,), connected
        self.outer: Solves | None = None
        self.level: int | None = None

    def solve(self, scores: Tensor) -> Tensor:
        """Scores (..., n), plain, each projected."""
        self.pieces = []
        with torch.enable_grad():
            for row in scores.detach().reshape(-1, scores.shape[-1]):
                x = row.clone().requires_grad_(True)
                self.pieces.append((x, self.project(x)))
        return torch.stack([y.detach() for _, y in self.pieces]).reshape(scores.shape)

    def times(self, v: Tensor, forward: bool) -> Tensor:
        """J'v or J v for v (..., *batch, n), plain, with the batch of the scores that were solved for.

        J v = (1 / w) J'(w v): the projection is symmetric in the metric of the weights.
        """
        rows = v.detach().reshape(-1, len(self.pieces), v.shape[-1])
        w = None if self.weights is None or not forward else self.weights.to(v.device, v.dtype)
        out = torch.empty_like(rows)
        for k, (x, y) in enumerate(self.pieces):
            for i in range(rows.shape[0]):
                into = rows[i, k] if w is None else rows[i, k] * w
                (found,) = torch.autograd.grad(y, x, into.contiguous(), retain_graph=True)
                out[i, k] = found if w is None else found / w
        return out.reshape(v.shape)


class _Projection(torch.autograd.Function):
    """(..., n) scores -> (..., n) projected."""

    @staticmethod
    def forward(scores: Tensor, solves: Solves) -> Tensor:
        return solves.solve(scores)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.solves = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Product.apply(gradients[0], ctx.solves, False, 0), None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _Product.apply(tangents[0], ctx.solves, True, 0)  # type: ignore[no-untyped-call]

    @staticmethod
    def vmap(info: Any, in_dims: Any, scores: Tensor, solves: Solves) -> Any:
        solves.outer, solves.level = Solves(solves.project, solves.weights), _level()
        return _Projection.apply(scores.movedim(in_dims[0], 0), solves.outer), 0  # type: ignore[no-untyped-call]


class _Product(torch.autograd.Function):
    """v -> J'v or J v, which is linear: its derivatives are the same again. ``extra``: dimensions of v in front of the scores' own."""

    @staticmethod
    def forward(v: Tensor, solves: Solves, forward: bool, extra: int) -> Tensor:
        return row_by_row(v, lambda row: solves.times(row, forward))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.solves, ctx.way, ctx.extra = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Product.apply(gradients[0], ctx.solves, not ctx.way, ctx.extra), None, None, None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _Product.apply(tangents[0], ctx.solves, ctx.way, ctx.extra)  # type: ignore[no-untyped-call]

    @staticmethod
    def vmap(info: Any, in_dims: Any, v: Tensor, solves: Solves, forward: bool, extra: int) -> Any:
        if solves.outer is not None and solves.level == _level():  # the scores were batched here: one piece for each
            return _Product.apply(v.movedim(in_dims[0], extra), solves.outer, forward, extra), extra  # type: ignore[no-untyped-call]
        return _Product.apply(v.movedim(in_dims[0], 0), solves, forward, extra + 1), 0  # type: ignore[no-untyped-call]
