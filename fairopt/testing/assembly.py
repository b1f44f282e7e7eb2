"""Builds a ``ProjectionProblem`` from groups and rows written down one by one, without notions or the compiler.

The conformance kit and the exactness tests must not depend on the code that they check, so they build their problems here: a
list of masks, of linear rows and of ranges goes in, the cell form of ``fairopt.contract.problem`` comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.contract.problem import HARD, ProjectionProblem, Softness
from fairopt.contract.rows import Rows

INF = float("inf")


@dataclass(frozen=True)
class Functional:
    """sum_j scale_j * mean(y over mask_j) + sum_j scale_j * mean(value_j over mask_j) + const + dense . y"""

    means: tuple[tuple[int, float], ...] = ()  # (mask, scale)
    value_means: tuple[tuple[float, int, int], ...] = ()  # (scale, mask, value)
    const: float = 0.0
    dense: tuple[float, ...] | None = None  # (n,)
    label: str = "row"

    @property
    def vanishes(self) -> bool:
        """Whether the scores do not enter: the terms cancel."""
        totals: dict[int, float] = {}
        for mask, scale in self.means:
            totals[mask] = totals.get(mask, 0.0) + scale
        return self.dense is None and all(abs(t) < 1e-12 for t in totals.values())

    def scaled(self, factor: float) -> Functional:
        return Functional(
            tuple((j, s * factor) for j, s in self.means),
            tuple((s * factor, j, v) for s, j, v in self.value_means),
            self.const * factor,
            None if self.dense is None else tuple(d * factor for d in self.dense),
            f"{factor:g} * ({self.label})",
        )

    def plus(self, other: Functional, factor: float = 1.0) -> Functional:
        """self + factor * other."""
        term = other.scaled(factor)
        dense: tuple[float, ...] | None = self.dense or term.dense
        if self.dense is not None and term.dense is not None:
            dense = tuple(a + b for a, b in zip(self.dense, term.dense, strict=True))
        return Functional(
            self.means + term.means, self.value_means + term.value_means, self.const + term.const, dense, f"{self.label} + {term.label}"
        )


@dataclass(frozen=True)
class Linear:
    """lower <= functional <= upper."""

    functional: Functional
    lower: float
    upper: float
    softness: Softness = HARD


@dataclass(frozen=True)
class Range:
    """ratio * max - min of the functionals <= width."""

    members: tuple[Functional, ...]
    width: float
    softness: Softness = HARD
    ratio: float = 1.0


@dataclass
class Assembly:
    """The parts of a problem while it is put together. ``problem`` turns them into cell form."""

    n: int
    masks: list[BoolArray] = field(default_factory=list)  # each (n,)
    values: list[Array] = field(default_factory=list)  # each (n,)
    linear: list[Linear] = field(default_factory=list)
    ranges: list[Range] = field(default_factory=list)

    def mask(self, members: BoolArray) -> int:
        """The number of this mask, new or known."""
        if not members.any():
            raise ValueError("a mask without a sample has no mean")
        for j, known in enumerate(self.masks):
            if np.array_equal(known, members):
                return j
        self.masks.append(np.asarray(members, dtype=np.bool_))
        return len(self.masks) - 1

    def value(self, values: Array) -> int:
        self.values.append(np.asarray(values, dtype=np.float64))
        return len(self.values) - 1

    def mean(self, mask: int, scale: float = 1.0, label: str = "") -> Functional:
        return Functional(means=((mask, scale),), label=label or f"mean {mask}")

    def evaluate(self, functional: Functional, y: Array) -> float:
        """The functional at y (n,), in plain float64."""
        total = functional.const
        total += sum(s * float(y[self.masks[j]].mean()) for j, s in functional.means)
        total += sum(s * float(self.values[v][self.masks[j]].mean()) for s, j, v in functional.value_means)
        if functional.dense is not None:
            total += float(np.dot(np.asarray(functional.dense), y))
        return total

    def widen(self, witness: Array, slack: float) -> None:
        """Moves the limits of hard constraints just so far that ``witness`` (n,) meets them; misses below ``slack`` are left alone."""
        for k, row in enumerate(self.linear):
            value = self.evaluate(row.functional, witness)
            if row.softness.kind == "hard" and (value < row.lower - slack or value > row.upper + slack):
                self.linear[k] = replace(row, lower=min(row.lower, value - slack), upper=max(row.upper, value + slack))
        for k, block in enumerate(self.ranges):
            values = [self.evaluate(member, witness) for member in block.members]
            needed = block.ratio * max(values) - min(values)
            if block.softness.kind == "hard" and needed > block.width + slack:
                self.ranges[k] = replace(block, width=needed + slack)

    def problem(
        self,
        lb: float | Array = -INF,
        ub: float | Array = INF,
        weights: Array | None = None,
        feasible: bool = True,
    ) -> ProjectionProblem:
        functionals = [row.functional for row in self.linear] + [member for block in self.ranges for member in block.members]
        sizes = [len(block.members) for block in self.ranges]
        constraints = [row.functional.label for row in self.linear] + [f"range {r} of {k}" for r, k in enumerate(sizes)]
        return ProjectionProblem(
            rows=self._rows(functionals),
            lower=np.array([row.lower for row in self.linear], dtype=np.float64),
            upper=np.array([row.upper for row in self.linear], dtype=np.float64),
            width=np.array([block.width for block in self.ranges], dtype=np.float64),
            range_starts=(len(self.linear) + np.concatenate([[0], np.cumsum(sizes)])).astype(np.int64),
            lb=_bound(lb),
            ub=_bound(ub),
            weights=None if weights is None else torch.from_numpy(weights.copy()),
            softness=tuple(row.softness for row in self.linear) + tuple(block.softness for block in self.ranges),
            labels=tuple(f"{k}: {f.label}" for k, f in enumerate(functionals)),
            constraint_labels=tuple(f"{k}: {label}" for k, label in enumerate(constraints)),
            used_targets=bool(self.values),
            feasible=feasible,
            ratio=np.array([block.ratio for block in self.ranges], dtype=np.float64),
        )

    def _rows(self, functionals: Sequence[Functional]) -> Rows:
        masks = np.array(self.masks, dtype=np.bool_).reshape(len(self.masks), self.n)  # (M, n)
        patterns, cell = _cells(masks)
        scales = np.zeros((len(functionals), len(self.masks)))
        offset = np.zeros(len(functionals))
        terms: list[tuple[int, float, int, int]] = []
        for k, f in enumerate(functionals):
            for j, s in f.means:
                scales[k, j] += s
            for s, j, v in f.value_means:
                terms.append((k, s, j, v))
                offset[k] += s * float(self.values[v][self.masks[j]].mean())
            if f.const != 0.0:
                terms.append((k, f.const, -1, -1))
                offset[k] += f.const
        dense = [(k, f.dense) for k, f in enumerate(functionals) if f.dense is not None]
        return Rows(
            cell=torch.from_numpy(cell),
            masks=patterns,
            scales=scales,
            offset=offset,
            offset_terms=tuple(terms),
            values=tuple(torch.from_numpy(v.copy()) for v in self.values),
            dense=torch.tensor([d for _, d in dense], dtype=torch.float64, device="cpu") if dense else None,
            dense_rows=np.array([k for k, _ in dense], dtype=np.int64),
        )


def _cells(masks: BoolArray) -> tuple[BoolArray, IntArray]:
    """((M, C) patterns, (n,) cell): samples with the same column of ``masks`` share a cell."""
    if masks.shape[0] == 0:
        return np.zeros((0, 1), dtype=np.bool_), np.zeros(masks.shape[1], dtype=np.int64)
    patterns, cell = np.unique(masks, axis=1, return_inverse=True)
    return np.asarray(patterns, dtype=np.bool_), np.asarray(cell, dtype=np.int64).reshape(-1)


def _bound(bound: float | Array) -> float | torch.Tensor:
    return float(bound) if np.ndim(bound) == 0 else torch.from_numpy(np.array(bound, dtype=np.float64))
