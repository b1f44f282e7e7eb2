"""What of a problem the dual methods need over and over, as small arrays: computed once for each problem and kept with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt.contract.rows import Rows
from fairopt.contract.workspace import Workspace
from fairopt.solve.dual.bordered import Split, split

MANY = 64  # rows from which a diagonal M, or one with a border, is not written out
ENTRIES = 1 << 25  # rows times border
BORDER = 1500  # rows that share samples with others, and wide masks, up to which they are a border
Shape = Literal["empty", "few_rows", "separable", "general"]


@dataclass(frozen=True, eq=False)
class Numbers:
    """The limits of a problem as numpy arrays. rho (L + R,): price caps (inf: none); gamma (L + R,): quadratic weights (inf: none)."""

    lower: Array
    upper: Array
    width: Array
    offset: Array
    rho: Array
    gamma: Array

    @cached_property
    def workspace(self) -> Workspace:
        """What is worked out of these limits and kept with them."""
        return Workspace()

    def tightened(self, margin: Array, hard: BoolArray, ratio: Array | None = None) -> Numbers:
        """Limits of the hard constraints moved inward by ``margin`` (L + R,); where they would cross, both go to the middle.

        ``ratio`` (R,) of the ranges; None: all 1.
        """
        L = self.lower.shape[0]
        m = np.where(hard, margin, 0.0)
        lower, upper, width = self.lower + m[:L], self.upper - m[:L], self.width - m[L:]
        floor = np.maximum(width, 0.0)
        width = floor if ratio is None else np.where(ratio < 1.0, width, floor)  # with a ratio a width below 0 is a set as well
        crossed = lower > upper
        if crossed.any():
            middle = np.zeros_like(lower)  # crossed limits are finite
            middle[crossed] = 0.5 * (self.lower[crossed] + self.upper[crossed])
            lower, upper = np.where(crossed, middle, lower), np.where(crossed, middle, upper)
        return Numbers(lower, upper, width, self.offset, self.rho, self.gamma)


@dataclass(frozen=True, eq=False)
class Structure:
    """Shape of the dual.

    shape     "empty" (no rows), "few_rows" (one or two linear rows, no budget), "separable" (no cell is in two rows, no budget: every
              constraint has its own prices), or "general"
    metric    (m,) s_k = sum_i A_ki^2 / w_i: how far row k moves for a unit of its own price when nothing is clamped
    unit      (m,) sum_i |A_ki|: how far row k moves when every score moves by 1
    blocks    for each budget block: (linear rows, ranges, rho's constraint index)
    hard      (L + R,) bool
    ratios    (R,) of the ranges
    coupled   (m,) bool: rows of a range or a budget
    owner     (m,) the constraint of each row
    diagonal  no sample is in two of many rows: M is kept as its diagonal, and pieces in sparse form
    bordered  few of many rows share samples with others: M is kept by its parts (``bordered``), and pieces in sparse form
    together  works out all ranges at once: (v, slopes, first, widths, rho, 1 / gamma, prices), prices in place. None: one by one
    """

    shape: Shape
    metric: Array
    unit: Array
    blocks: tuple[tuple[IntArray, IntArray, int], ...]
    hard: BoolArray
    slices: tuple[slice, ...]
    ratios: tuple[float, ...]
    linear: int
    in_block: BoolArray
    coupled: BoolArray
    owner: IntArray
    diagonal: bool
    bordered: bool
    together: Callable[..., None] | None = None

    @property
    def in_parts(self) -> bool:
        """Whether M and pieces are not written out."""
        return self.diagonal or self.bordered


def structure(problem: ProjectionProblem) -> Structure:
    """The structure of a problem, cached with it."""
    return problem.workspace.keep("structure", lambda: _analyse(problem))


def numbers(problem: ProjectionProblem) -> Numbers:
    """The numeric limits of a problem, cached with it."""
    return problem.workspace.keep("numbers", lambda: _numbers(problem))


def _numbers(problem: ProjectionProblem) -> Numbers:
    weight = problem.softness_weight
    kinds = np.array([s.kind for s in problem.softness], dtype=object)
    capped = (kinds == "priced") | (kinds == "budget")
    rho = np.where(capped, weight, np.inf)
    gamma = np.where(kinds == "quadratic", weight, np.inf)
    return Numbers(problem.lower, problem.upper, problem.width, problem.rows.offset, rho, gamma)


def with_numbers(problem: ProjectionProblem, limits: Limits) -> ProjectionProblem:
    """The problem with other limits, keeping its structure: limits change no shape."""
    structure(problem)
    changed = problem.with_limits(limits)
    changed.workspace.take(problem.workspace, "structure", "vector plan", "sliced plan", "sampled plan")
    return changed


@np.errstate(all="ignore")  # of a problem that is solved in other units (fairopt.solve.units) the shape alone is read
def _analyse(problem: ProjectionProblem) -> Structure:
    rows = problem.rows
    L, R = problem.linear, problem.ranges
    kinds = [s.kind for s in problem.softness]
    hard = np.array([k == "hard" for k in kinds], dtype=bool)
    by_block: dict[int, list[int]] = {}
    for k, s in enumerate(problem.softness):
        if s.kind == "budget":
            by_block.setdefault(s.block, []).append(k)
    by_block = {b: ks for b, ks in by_block.items() if len(ks) > 1}  # the largest violation of one constraint is that: it is priced
    blocks = tuple(
        (np.array([k for k in ks if k < L], dtype=np.int64), np.array([k - L for k in ks if k >= L], dtype=np.int64), ks[0])
        for ks in by_block.values()
    )
    in_block = np.zeros(L + R, dtype=bool)
    in_block[[k for ks in by_block.values() for k in ks]] = True
    coupled = np.ones(problem.m, dtype=bool)
    coupled[:L] = in_block[:L]
    owner = np.concatenate([np.arange(L), L + np.repeat(np.arange(R), np.diff(problem.range_starts))]).astype(np.int64)
    unit = unit_of(problem)
    diagonal = problem.m > MANY and rows.one_row_a_cell
    bordered = problem.m > MANY and rows.dense is None and not rows.one_row_a_cell and split_of(problem).border <= BORDER
    bordered = bordered and problem.m * split_of(problem).border <= ENTRIES
    shape: Shape
    if problem.m == 0:
        shape = "empty"
    elif not blocks and R == 0 and L <= 2:
        shape = "few_rows"
    elif rows.one_row_a_cell and (not blocks or diagonal):  # a block is solved by search: where there are many rows that is worth it
        shape = "separable"
    else:
        shape = "general"
    return Structure(
        shape,
        metric_of(problem),
        unit,
        blocks,
        hard,
        problem.range_slices,
        tuple(problem.ratio.tolist()),
        L,
        in_block,
        coupled,
        owner,
        diagonal,
        bordered,
    )


def split_of(problem: ProjectionProblem) -> Split:
    """How the rows fall into simple ones and a border; kept with them."""
    return problem.rows.workspace.keep("split", lambda: split(problem.rows.coefficients))


def unit_of(problem: ProjectionProblem) -> Array:
    """(m,) sum_i |A_ki|; 1 where a row is empty."""
    sums = problem.rows.absolute_sum
    return np.where(sums > 0, sums, 1.0)


def metric_of(problem: ProjectionProblem) -> Array:
    """(m,) sum_i A_ki^2 / w_i; 1 where a row is empty."""
    rows = problem.rows
    inverse = rows.counts.astype(np.float64) if problem.weights is None else _cell_sums(problem)
    if rows.dense is None:
        return metric_of_cells(rows, inverse)
    a = rows.matrix().numpy()
    metric = (a * a).sum(1) if problem.weights is None else (a * a) @ (1.0 / problem.weights.numpy())
    return np.where(metric > 0, metric, 1.0)


def metric_of_cells(rows: Rows, inverse: Array) -> Array:
    """``metric_of`` rows without a dense part, from the sums of 1 / w over the cells (C,)."""
    metric = (rows.coefficients**2) @ inverse
    return np.asarray(np.where(metric > 0, metric, 1.0))


def _cell_sums(problem: ProjectionProblem) -> Array:
    assert problem.weights is not None
    cells = problem.rows.cell.numpy()
    return np.asarray(np.bincount(cells, weights=1.0 / problem.weights.numpy(), minlength=problem.rows.masks.shape[1]), dtype=np.float64)
