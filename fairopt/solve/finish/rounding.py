"""Rounding to the returned dtype inside the box, and the check of every row: the small decisions around one call's scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.exact_sums import finite_float
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.evaluator import Dual, round_inward
from fairopt.solve.dual.structure import numbers, structure
from fairopt.solve.finish.check import constraint_bound, exact_violations, summation_bound, violations

EPS = 2.0**-52


@dataclass(frozen=True, eq=False)
class Check:
    """Signed violation (L + R,) of every constraint, whether all hard ones are proved to hold, and the bound of the float sums.

    ``finite``: the sums are, and so is every score in them.
    """

    violation: Array
    holds: bool
    bound: float
    finite: bool


class Finisher:
    """``scores`` (n,) as they came; ``extent``: their largest absolute value."""

    def __init__(self, scores: Tensor, problem: ProjectionProblem, dual: Dual, extent: float) -> None:
        self.scores, self.problem, self.dual, self.extent = scores, problem, dual, extent
        self.st, self.nums = structure(problem), numbers(problem)
        self.dtype = scores.dtype
        self.box = problem.has_box

    def rounded(self, sorted_y: Tensor) -> Tensor:
        """(n,) in the dtype of the scores, inside the box also after rounding."""
        if sorted_y.dtype == self.dtype:
            return sorted_y
        y = sorted_y.to(self.dtype)
        if self.box:
            low, high = dtype_box(self.problem, self.dtype)
            y = torch.minimum(torch.maximum(y, low), high)
        return y

    def unsorted(self, sorted_y: Tensor) -> Tensor:
        return to_sample_order(sorted_y, self.problem)

    def row_values(self, sorted_y: Tensor) -> Array:
        """(m,) float64 values of scores in cell order."""
        return self.dual.values_of(sorted_y)

    def check(self, sorted_y: Tensor, magnitude: float) -> Check:
        """Whether all hard rows hold, decided exactly where floats cannot. NaN and infinity prove nothing."""
        row_bound = summation_bound(self.problem, magnitude)
        bound = constraint_bound(self.st, row_bound)
        f = self.row_values(sorted_y)
        violation = violations(self.st, self.problem, f)
        hard = self.st.hard
        finite = f.size > 0 and bool(np.isfinite(f).all())
        largest_bound = float(bound.max(initial=0.0))
        if finite and (violation[hard] > bound[hard]).any():
            return Check(violation, False, largest_bound, finite)
        unsure = np.flatnonzero(hard & ~(violation < -bound)) if finite else np.flatnonzero(hard)
        if not unsure.size:
            return Check(violation, True, largest_bound, finite)
        finite = finite or bool(torch.isfinite(sorted_y).all())
        if not finite:
            return Check(violation, False, largest_bound, finite)
        holds = exactly(self.problem, self.unsorted(sorted_y), unsure.tolist(), violation)
        return Check(violation, holds, largest_bound, finite)

    def margin(self, magnitude: float, p: Array) -> Array:
        """(L + R,) how far rounding can move each hard row of scores made from prices p, with the bound of the check.

        A score is rounded to the returned dtype; the shift that it was moved by is rounded too, the same way for a whole cell. A clamped
        score is exact, and no other one was moved by more than what it came from and went to: light samples far outside the box do not
        count.
        """
        shift = min(self.shift(p), self.extent + magnitude)
        row = self.st.unit * (0.5 * torch.finfo(self.dtype).eps * magnitude + EPS * shift) + 2.0 * summation_bound(self.problem, magnitude)
        if self.dual.precision != torch.float64:
            row = row + self.st.unit * torch.finfo(self.dual.precision).eps * (magnitude + shift)
        return constraint_bound(self.st, row)

    def shift(self, p: Array) -> float:
        """The farthest that prices p move a free score."""
        lightest, dense = lightest_of(self.problem)
        pulls = np.abs(p @ self.dual.coefficients)  # (C,)
        shift = float((pulls if lightest is None else pulls / lightest).max(initial=0.0))
        return shift if dense is None else shift + float(np.abs(p[self.problem.rows.dense_rows]) @ dense)

    def magnitude(self, p: Array, y: Tensor | None = None) -> float:
        """A bound of the absolute scores at prices p; with ``y`` at hand their own where no cheaper bound is as good."""
        lb, ub = self.problem.lb, self.problem.ub
        if isinstance(lb, float) and isinstance(ub, float) and max(abs(lb), abs(ub)) <= 4.0 * self.extent:  # a wide box says nothing
            return max(abs(lb), abs(ub))
        if not self.problem.has_box and y is None:
            return self.extent + self.shift(p)
        return largest(self.dual.scores(p) if y is None else y)


def lightest_of(problem: ProjectionProblem) -> tuple[Array | None, Array | None]:
    """(C,) the least distance weight of each cell, None where all are 1; and for each dense row the largest |weight in the row| / w, None
    without dense rows. Kept with the problem.

    A light sample moves far, but only by the prices of its own rows.
    """

    def made() -> tuple[Array | None, Array | None]:
        rows, w = problem.rows, problem.weights
        cells = None if w is None else np.minimum.reduceat(w[rows.order].numpy(), rows.starts[:-1])
        dense = None if rows.dense is None else (rows.dense.abs() if w is None else rows.dense.abs() / w).amax(1).numpy()
        return cells, dense

    return problem.workspace.keep("lightest", made)


def exactly(problem: ProjectionProblem, y: Tensor, constraints: list[int], violation: Array) -> bool:
    """Whether finite scores y (n,) in the order of the samples meet ``constraints``, in rationals; writes their ``violation``."""
    open_ended = np.concatenate([np.isinf(problem.lower) & np.isinf(problem.upper), np.isinf(problem.width)])
    asked = [c for c in constraints if not open_ended[c]]
    violation[[c for c in constraints if open_ended[c]]] = -math.inf
    exact = exact_violations(structure(problem), problem, y.detach().to("cpu", torch.float64).numpy(), asked) if asked else {}
    for c, v in exact.items():
        violation[c] = finite_float(v)
    return all(v <= 0 for v in exact.values())


def to_cell_order(t: Tensor, problem: ProjectionProblem) -> Tensor:
    """(n,) from the order of the samples to that of the cells."""
    inverse = problem.rows.inverse_order
    # reading in order and writing a stream a cell is twice as fast as reading many streams
    return torch.empty_like(t).scatter_(0, inverse if t.device.type == "cpu" else inverse.to(t.device), t)


def to_sample_order(t: Tensor, problem: ProjectionProblem) -> Tensor:
    """(n,) from the order of the cells to that of the samples."""
    inverse = problem.rows.inverse_order
    return torch.index_select(t, 0, inverse if t.device.type == "cpu" else inverse.to(t.device))


def largest(y: Tensor) -> float:
    """The largest absolute value."""
    low, high = torch.aminmax(y)
    return max(abs(float(low)), abs(float(high)))


def inside_box(problem: ProjectionProblem, sorted_z: Tensor, low: float, high: float) -> bool:
    inside = True
    for bound, extreme, sign in ((problem.lb, low, 1.0), (problem.ub, high, -1.0)):
        if isinstance(bound, Tensor):
            gap = sign * (sorted_z.to("cpu", torch.float64) - to_cell_order(bound, problem))
            inside &= bool((gap >= 0).all())
        else:
            inside &= sign * extreme >= sign * bound
    return inside


def dtype_box(problem: ProjectionProblem, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The box in cell order, rounded inward to ``dtype``; kept with the problem."""

    def side(bound: float | Tensor, *, up: bool) -> Tensor:
        exact = to_cell_order(bound, problem) if isinstance(bound, Tensor) else torch.tensor(bound, dtype=torch.float64, device="cpu")
        return round_inward(exact, dtype, up=up)

    return problem.workspace.keep(("box", dtype), lambda: (side(problem.lb, up=True), side(problem.ub, up=False)))


def box_holds_numbers(problem: ProjectionProblem, dtype: torch.dtype) -> bool:
    """Whether every sample's box holds a number of ``dtype``: between two neighbouring ones there is none."""
    if not problem.has_box or dtype == torch.float64:
        return True

    def holds() -> bool:
        low, high = dtype_box(problem, dtype)
        return bool((low <= high).all())

    return problem.workspace.keep(("box holds", dtype), holds)
