"""What a search needs of a problem, in two vectors, and what the compiled road needs beside them: built once and kept with the problem."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.sparse import SparseRows, most_in_a_column
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.structure import numbers, structure, unit_of
from fairopt.solve.finish.check import TINY
from fairopt.solve.finish.rounding import box_holds_numbers
from fairopt.solve.passes import stages as fields
from fairopt.solve.passes.refill import row_sums
from fairopt.solve.passes.search import NUMBERS
from fairopt.solve.units import NEAR, span

MOST_ROWS = 4096  # of rows that share no cell; of others
MOST_COUPLED = 2048
MOST_CELLS = 1 << 14
SAMPLE, LARGE = 12_000, 200_000  # scores that prices are guessed from, where there are so many and a box
NOTHING: Array = np.zeros(0)


@dataclass(frozen=True, eq=False)
class Extents:
    """What a plan knows of box and weights: sums and extremes over the samples, which may come from many places (``joined``).

    opened (C,): the sum of 1 / w of each cell; lightest, heaviest: the least and the largest weight, 1 where there are none; low, high: the
    least and the largest lower bound, and upper bound; uniform: one box for all; weighted: there are weights.
    """

    opened: Array
    lightest: float
    heaviest: float
    low: tuple[float, float]
    high: tuple[float, float]
    uniform: bool
    weighted: bool

    @property
    def boxed(self) -> bool:
        """Whether any bound is finite, or they differ."""
        return not (self.uniform and self.low[0] == -np.inf and self.high[1] == np.inf)

    def joined(self, other: Extents) -> Extents:
        """Those of the samples of both."""
        low = min(self.low[0], other.low[0]), max(self.low[1], other.low[1])
        high = min(self.high[0], other.high[0]), max(self.high[1], other.high[1])
        uniform = self.uniform and other.uniform and low[0] == low[1] and high[0] == high[1]
        weights = min(self.lightest, other.lightest), max(self.heaviest, other.heaviest)
        return Extents(self.opened + other.opened, *weights, low, high, uniform, self.weighted or other.weighted)


def extents_of(problem: ProjectionProblem) -> Extents:
    """The extents of a problem's own samples."""
    rows, w = problem.rows, problem.weights
    opened, lightest, heaviest = rows.counts.astype(np.float64), 1.0, 1.0
    if w is not None:
        opened = np.asarray(np.bincount(rows.cell.numpy(), weights=1.0 / w.numpy(), minlength=rows.masks.shape[1]), dtype=np.float64)
        lightest, heaviest = (float(v) for v in torch.aminmax(w))
    low, high = (_ends(b) for b in (problem.lb, problem.ub))
    return Extents(opened, lightest, heaviest, low, high, problem.uniform_box, w is not None)


def _ends(bound: float | Tensor) -> tuple[float, float]:
    if isinstance(bound, Tensor):
        low, high = torch.aminmax(bound)
        return float(low), float(high)
    return bound, bound


@dataclass(frozen=True, eq=False)
class CellPlan:
    """What a search needs of a problem, cell by cell: no sample is in it, and none is needed to make it.

    whole, real: see ``passes.stages``; size: of an answer; m, cells, constraints: of its prices, cells and violations; boxed: some bound
    is finite; name: the backend that "auto" stands for; single: every box holds a float32.
    """

    whole: IntArray
    real: Array
    size: int
    m: int
    cells: int
    constraints: int
    boxed: bool
    name: str
    single: bool


@dataclass(frozen=True, eq=False)
class Plan(CellPlan):
    """A plan with its samples, for the compiled road.

    cell (n,) uint16; lb, ub, inverse: (n,), (1,) or (0,); part (k,) positions of a sample; coded: the pass writes codes.
    """

    cell: Any
    lb: Array
    ub: Array
    inverse: Array
    part: IntArray
    coded: bool

    @cached_property
    def arguments(self) -> tuple[Any, ...]:
        """What a compiled solve takes of it, in order."""
        return self.cell, self.whole, self.real, self.lb, self.ub, self.inverse, self.part

    def with_samples(self, cell: Any, real: Array, inverse: Array, part: IntArray) -> Plan:
        """The plan of other samples (``replace``, which walks through all fields, takes a tenth of a small solve)."""
        made = object.__new__(Plan)
        made.__dict__.update(self.__dict__, cell=cell, real=real, inverse=inverse, part=part)
        made.__dict__.pop("arguments", None)
        return made


def _taken(problem: ProjectionProblem) -> bool:
    rows = problem.rows
    if problem.m == 0 or problem.stated is not None or not problem.feasible or rows.dense is not None:
        return False
    if rows.masks.shape[1] > MOST_CELLS or problem.m > MOST_ROWS or (problem.m > MOST_COUPLED and not rows.one_row_a_cell):
        return False
    if problem.ranges and not bool((problem.ratio == 1.0).all()):
        return False
    st, L = structure(problem), problem.linear
    # no room for a margin: the general road goes to the grid of equal means
    if bool((st.hard[:L] & ~(problem.lower < problem.upper)).any()) or bool((st.hard[L:] & ~(problem.width > 0.0)).any()):
        return False
    return not st.blocks


def _span(problem: ProjectionProblem, extents: Extents) -> tuple[float, float]:
    """The largest absolute scores, from and to, that are solved in the problem's own units; none where it needs others."""
    if near_one(problem, extents):
        return 2.0**-NEAR, 2.0**NEAR
    known = span(problem)
    return (known.low, known.high) if known.plain else (np.inf, -np.inf)


def near_one(problem: ProjectionProblem, extents: Extents | None = None) -> bool:
    """Whether all numbers of a problem are 0, infinite or about 1; ``extents``: None for those of its own samples."""
    extents = extents_of(problem) if extents is None else extents
    soft = np.array([s.weight for s in problem.softness])
    bounds = np.array([*extents.low, *extents.high])
    values = (problem.rows.offset, problem.lower, problem.upper, problem.width, bounds, soft, unit_of(problem))
    sizes = np.abs(np.concatenate(values))
    near = (sizes == 0.0) | (sizes == np.inf) | ((sizes >= 2.0**-NEAR) & (sizes <= 2.0**NEAR))
    return extents.lightest > 2.0**-NEAR and extents.heaviest < 2.0**NEAR and bool(near.all())


@dataclass(frozen=True, eq=False)
class Joint:
    """How the rows of a problem of class probabilities meet in the samples: joint (J, classes) the cells of samples that are in the same
    cell in every class; first (J + 1,), row, index, value: the rows' entries in each; apart: no two rows of a range meet there."""

    joint: IntArray
    first: IntArray
    row: IntArray
    index: IntArray
    value: Array
    apart: bool


def cell_plan(
    problem: ProjectionProblem, extents: Extents | None = None, *, terms: int | None = None, joint: Joint | None = None
) -> CellPlan | None:
    """The plan of a problem whose samples are wherever ``extents`` were summed; None where only the general road takes it.

    The problem's own rows say how many samples each cell has (``Rows.copies``: one position may stand for many), its limits what is asked.
    Its own weights are not read, and of its bounds only what ``extents`` say: None for those of its own samples. ``terms``: a sum
    over a cell errs by at most so many half ulps of the largest score, a sample; None: as sums in any order of float64 do. ``joint``: of
    class probabilities that sum to 1.
    """
    if not _taken(problem):
        return None
    extents = extents_of(problem) if extents is None else extents
    lowest, highest = _span(problem, extents)
    if not lowest <= highest:
        return None
    rows, st, nums = problem.rows, structure(problem), numbers(problem)
    m, L, R, C, n = problem.m, problem.linear, problem.ranges, int(rows.masks.shape[1]), int(rows.counts.sum())
    starts, index, entries, apart = _entries(problem)
    uniform = extents.uniform and not extents.weighted
    terms = _terms(rows.counts) if terms is None else terms + C + 8
    low32, high32 = (_inward(extents.low[0]), -_inward(-extents.high[1])) if uniform else (-np.inf, np.inf)
    head = np.zeros(fields.INTS, dtype=np.int64)
    head[fields.M_], head[fields.C_], head[fields.L_], head[fields.R_], head[fields.ENTRIES] = m, C, L, R, entries.shape[0]
    head[fields.DIAGONAL], head[fields.APART] = rows.one_row_a_cell, apart
    head[fields.BOXED], head[fields.UNIFORM] = extents.boxed, uniform
    head[fields.SLOPES] = C
    meetings: tuple[Any, ...] = ()
    products = NOTHING
    if joint is not None:
        J, classes = joint.joint.shape
        head[fields.DIAGONAL], head[fields.APART] = False, joint.apart
        head[fields.SLOPES], head[fields.CLASSES], head[fields.JOINTS] = J * classes**2, classes, J
        head[fields.JOINT_ENTRIES] = joint.value.shape[0]
        meetings, products = (joint.first, joint.row, joint.index), joint.value
    numbers_ = np.zeros(fields.FLOATS)
    numbers_[fields.LOW], numbers_[fields.HIGH] = extents.low[0], extents.high[1]
    numbers_[fields.LOW32], numbers_[fields.HIGH32] = low32, high32
    numbers_[fields.TERMS], numbers_[fields.TINY] = terms, (n + terms) * TINY
    numbers_[fields.SPAN_LOW], numbers_[fields.SPAN_HIGH] = lowest, highest
    numbers_[fields.FORCED] = max(extents.low[1], -extents.high[0], 0.0)  # scores are at least so far from 0
    numbers_[fields.FARTHEST] = max(abs(b) for b in (*extents.low, *extents.high))  # and at most so far
    numbers_[fields.LIGHT] = 1.0 / extents.lightest
    whole = np.concatenate([head, starts, index, problem.range_starts, st.hard, *meetings]).astype(np.int64)
    unit, metric = np.empty(m), np.empty(m)
    row_sums(starts, index, entries, rows.counts, extents.opened, unit, metric)
    soft = 1.0 / nums.gamma
    parts = (numbers_, entries, products, problem.lower, problem.upper, problem.width, nums.rho, soft, rows.offset, unit, metric)
    real: Array = np.concatenate([*parts, extents.opened, np.ones(C)], dtype=np.float64)
    slopes = int(head[fields.SLOPES])
    size = fields.HEAD + m + (L + R) + m + R + 2 * slopes
    whole[fields.WHOLE_SIZE], whole[fields.REAL_SIZE] = whole.size, real.size
    whole[fields.WORK_SIZE], whole[fields.ANSWER_SIZE] = NUMBERS + 4 * m + slopes + C, size
    name = "closed_form" if not extents.boxed and _simple(problem) else "dual_newton"
    return CellPlan(whole, real, size, m, C, L + R, extents.boxed, name, low32 <= high32)


def own_plan(problem: ProjectionProblem) -> Plan | None:
    """The plan of a problem and its samples, made from the problem alone; None where the general road takes it."""
    plan = cell_plan(problem)
    if plan is None:
        return None
    rows, weights, n = problem.rows, problem.weights, problem.n
    uniform = problem.uniform_box and weights is None
    plain = uniform or (not plan.boxed and weights is None)
    cell = rows.cell.numpy().astype(np.uint16)
    lb, ub = (np.ascontiguousarray(np.atleast_1d(b.numpy() if isinstance(b, Tensor) else np.float64(b))) for b in (problem.lb, problem.ub))
    inverse = NOTHING if plain else np.ones(1) if weights is None else 1.0 / weights.numpy()
    part = np.zeros(0, dtype=np.int64)
    if plan.boxed and uniform and n > LARGE:
        part, plan.real[-plan.cells :] = sample(cell, rows.counts)
    known = {**vars(plan), "single": plan.single if uniform else box_holds_numbers(problem, torch.float32)}
    bounds = (NOTHING, NOTHING) if plain else (lb, ub)
    return Plan(**known, cell=cell, lb=bounds[0], ub=bounds[1], inverse=inverse, part=part, coded=plan.boxed or weights is not None)


def _entries(problem: ProjectionProblem) -> tuple[IntArray, IntArray, Array, bool]:
    """The rows' entries (starts (m + 1,), index, value), and whether no cell is in two rows of one range."""
    rows, a = problem.rows, problem.rows.coefficients
    spans = [(p, q) for p, q in pairwise(problem.range_starts.tolist())]
    if isinstance(a, SparseRows):
        apart = rows.one_row_a_cell or all(most_in_a_column(a.take(np.arange(p, q))) <= 1 for p, q in spans)
        return a.starts, a.index, a.values, apart
    row, column = np.nonzero(a)
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=problem.m))])
    apart = rows.one_row_a_cell or all(int(np.count_nonzero(a[p:q], axis=0).max(initial=0)) <= 1 for p, q in spans)
    return starts, np.ascontiguousarray(column), a[row, column], apart


def _simple(problem: ProjectionProblem) -> bool:
    """Whether "auto" takes the closed form where there is no box (as ``front.choose``)."""
    budget = any(s.kind == "budget" for s in problem.softness)
    return not budget and (structure(problem).shape in ("separable", "empty") or problem.m == 1)


def _inward(bound: float) -> float:
    """The least float32 that is not below ``bound``."""
    with np.errstate(over="ignore"):
        near = np.float32(bound)
    return float(near if float(near) >= bound else np.nextafter(near, np.float32(np.inf)))


def sample(cell: Any, counts: IntArray) -> tuple[IntArray, Array]:
    """Positions (k,) of about SAMPLE scores, and what one of them stands for in each cell (C,). None where a cell goes without."""
    part = np.arange(0, cell.shape[0], cell.shape[0] // SAMPLE, dtype=np.int64)
    taken = np.bincount(cell[part], minlength=counts.shape[0])
    if (taken == 0).any():
        return np.zeros(0, dtype=np.int64), np.ones(counts.shape[0])
    return part, counts / taken


def _terms(counts: IntArray) -> int:
    """How many numbers a row value is summed from, at most."""
    return int(counts.max(initial=1)) + int(counts.shape[0]) + 8
