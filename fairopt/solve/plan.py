"""What the compiled road needs of a problem, in two vectors and the cells of the samples: built once and kept with the problem."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.sparse import SparseRows, most_in_a_column
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.structure import metric_of, numbers, structure, unit_of
from fairopt.solve.finish.check import TINY
from fairopt.solve.finish.rounding import box_holds_numbers
from fairopt.solve.passes import stages as fields
from fairopt.solve.passes.search import NUMBERS
from fairopt.solve.units import NEAR, span

MOST_ROWS = 4096  # of rows that share no cell; of others
MOST_COUPLED = 256
MOST_CELLS = 1 << 14
SAMPLE, LARGE = 12_000, 200_000  # scores that prices are guessed from, where there are so many and a box
NOTHING: Array = np.zeros(0)


@dataclass(frozen=True, eq=False)
class Plan:
    """cell (n,) uint16; whole, real: see ``passes.stages``; lb, ub, inverse: (n,), (1,) or (0,); part (k,) positions of a sample.

    size: of an answer; m, cells, constraints: of its prices, cells and violations; boxed: some bound is finite; coded: the pass writes
    codes; name: the backend that "auto" stands for; single: every box holds a float32.
    """

    cell: Any
    whole: IntArray
    real: Array
    lb: Array
    ub: Array
    inverse: Array
    part: IntArray
    size: int
    m: int
    cells: int
    constraints: int
    boxed: bool
    coded: bool
    name: str
    single: bool

    @cached_property
    def arguments(self) -> tuple[Any, ...]:
        """What a compiled solve takes of it, in order."""
        return self.cell, self.whole, self.real, self.lb, self.ub, self.inverse, self.part


def plan_of(problem: ProjectionProblem) -> Plan | None:
    """The plan of a problem, or None where the general road takes it."""
    return problem.workspace.keep("compiled", lambda: _of_kin(problem))


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


def _extents(problem: ProjectionProblem) -> tuple[float, float]:
    """The largest absolute scores, from and to, that are solved in the problem's own units; none where it needs others."""
    if _near(problem):
        return 2.0**-NEAR, 2.0**NEAR
    known = span(problem)
    return (known.low, known.high) if known.plain else (np.inf, -np.inf)


def _near(problem: ProjectionProblem) -> bool:
    """Whether all numbers of a problem are 0, infinite or about 1."""
    bounds = [np.atleast_1d(b.numpy()) if isinstance(b, Tensor) else np.array([b]) for b in (problem.lb, problem.ub)]
    soft = np.array([s.weight for s in problem.softness])
    parts = (problem.rows.offset, problem.lower, problem.upper, problem.width, *bounds, soft, unit_of(problem))
    sizes = np.abs(np.concatenate(parts))
    near = (sizes == 0.0) | (sizes == np.inf) | ((sizes >= 2.0**-NEAR) & (sizes <= 2.0**NEAR))
    return _weights_near(problem.weights) and bool(near.all())


def _weights_near(weights: Tensor | None) -> bool:
    return weights is None or bool((weights > 2.0**-NEAR).all() & (weights < 2.0**NEAR).all())


def _plan(problem: ProjectionProblem) -> Plan | None:
    if not _taken(problem):
        return None
    lowest, highest = _extents(problem)
    if not lowest <= highest:
        return None
    rows, st, nums = problem.rows, structure(problem), numbers(problem)
    n, m, L, R, C = problem.n, problem.m, problem.linear, problem.ranges, int(rows.masks.shape[1])
    starts, index, entries, apart = _entries(problem)
    boxed, weights = problem.has_box, problem.weights
    uniform = problem.uniform_box and weights is None
    plain = uniform or (not boxed and weights is None)
    cell = rows.cell.numpy().astype(np.uint16)
    lb, ub = (np.ascontiguousarray(np.atleast_1d(b.numpy() if isinstance(b, Tensor) else np.float64(b))) for b in (problem.lb, problem.ub))
    lowest_bound, highest_bound = float(lb.min()), float(ub.max())
    inverse = NOTHING if weights is None else 1.0 / weights.numpy()
    opened = rows.counts.astype(np.float64) if weights is None else np.bincount(cell, weights=inverse, minlength=C)
    part, scale = _sample(cell, rows.counts) if boxed and uniform and n > LARGE else (np.zeros(0, dtype=np.int64), np.ones(C))
    terms = _terms(rows.counts)
    low32, high32 = (_inward(lowest_bound), -_inward(-highest_bound)) if uniform else (-np.inf, np.inf)
    head = np.zeros(fields.INTS, dtype=np.int64)
    head[fields.M_], head[fields.C_], head[fields.L_], head[fields.R_], head[fields.ENTRIES] = m, C, L, R, entries.shape[0]
    head[fields.DIAGONAL], head[fields.APART], head[fields.BOXED], head[fields.UNIFORM] = rows.one_row_a_cell, apart, boxed, uniform
    numbers_ = np.zeros(fields.FLOATS)
    numbers_[fields.LOW], numbers_[fields.HIGH] = lowest_bound, highest_bound
    numbers_[fields.LOW32], numbers_[fields.HIGH32] = low32, high32
    numbers_[fields.TERMS], numbers_[fields.TINY] = terms, (n + terms) * TINY
    numbers_[fields.SPAN_LOW], numbers_[fields.SPAN_HIGH] = lowest, highest
    numbers_[fields.FORCED] = max(float(lb.max()), float(-ub.min()), 0.0)  # scores are at least so far from 0
    numbers_[fields.FARTHEST] = max(float(np.abs(lb).max()), float(np.abs(ub).max()))  # and at most so far
    numbers_[fields.LIGHT] = 1.0 if weights is None else float(inverse.max())
    whole = np.concatenate([head, starts, index, problem.range_starts, st.hard]).astype(np.int64)
    soft = 1.0 / nums.gamma
    parts = (numbers_, entries, problem.lower, problem.upper, problem.width, nums.rho, soft, rows.offset, st.unit, st.metric, opened, scale)
    real: Array = np.concatenate(parts, dtype=np.float64)
    size = fields.HEAD + m + (L + R) + m + R + 2 * C
    whole[fields.WHOLE_SIZE], whole[fields.REAL_SIZE] = whole.size, real.size
    whole[fields.WORK_SIZE], whole[fields.ANSWER_SIZE] = NUMBERS + 4 * m + 2 * C, size
    return Plan(
        cell=cell,
        whole=whole,
        real=real,
        lb=NOTHING if plain else lb,
        ub=NOTHING if plain else ub,
        inverse=inverse if weights is not None or plain else np.ones(1),
        part=part,
        size=size,
        m=m,
        cells=C,
        constraints=L + R,
        boxed=boxed,
        coded=boxed or weights is not None,
        name="closed_form" if not boxed and _simple(problem) else "dual_newton",
        single=low32 <= high32 if uniform else box_holds_numbers(problem, torch.float32),
    )


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
    return starts, column, a[row, column], apart


def _simple(problem: ProjectionProblem) -> bool:
    """Whether "auto" takes the closed form where there is no box (as ``front.choose``)."""
    budget = any(s.kind == "budget" for s in problem.softness)
    return not budget and (structure(problem).shape in ("separable", "empty") or problem.m == 1)


def _inward(bound: float) -> float:
    """The least float32 that is not below ``bound``."""
    with np.errstate(over="ignore"):
        near = np.float32(bound)
    return float(near if float(near) >= bound else np.nextafter(near, np.float32(np.inf)))


def _sample(cell: Any, counts: IntArray) -> tuple[IntArray, Array]:
    """Positions (k,) of about SAMPLE scores, and what one of them stands for in each cell (C,). None where a cell goes without."""
    part = np.arange(0, cell.shape[0], cell.shape[0] // SAMPLE, dtype=np.int64)
    taken = np.bincount(cell[part], minlength=counts.shape[0])
    if (taken == 0).any():
        return np.zeros(0, dtype=np.int64), np.ones(counts.shape[0])
    return part, counts / taken


def _terms(counts: IntArray) -> int:
    """How many numbers a row value is summed from, at most."""
    return int(counts.max(initial=1)) + int(counts.shape[0]) + 8


# plans of problems that differ in their counts alone ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Layout:
    """The plan of the first of some problems that have all but samples and weights in common (``fairopt.compiler.template``); ``filled``
    (m, C): which coefficients are not 0."""

    plan: Plan
    filled: Array
    row: IntArray
    column: IntArray

    def of(self, problem: ProjectionProblem) -> Plan | None:
        """The plan of another of them: what ``_plan`` makes, number by number. None where counts change more than numbers."""
        rows, first, weights = problem.rows, self.plan, problem.weights
        a, m, C = rows.coefficients, first.m, first.cells
        if isinstance(a, SparseRows) or not np.array_equal(a != 0.0, self.filled):
            return None
        unit = unit_of(problem)
        if not (_weights_near(weights) and bool(((unit >= 2.0**-NEAR) & (unit <= 2.0**NEAR)).all())):
            return None
        cell = rows.cell.numpy().astype(np.uint16)
        inverse = first.inverse if weights is None else 1.0 / weights.numpy()
        opened = rows.counts if weights is None else np.bincount(cell, weights=inverse, minlength=C)
        sampled = first.boxed and weights is None and problem.n > LARGE
        part, scale = _sample(cell, rows.counts) if sampled else (np.zeros(0, dtype=np.int64), np.ones(C))
        real = first.real.copy()
        real[fields.FLOATS : fields.FLOATS + self.row.size] = a[self.row, self.column]
        real[-2 * (m + C) :] = np.concatenate([unit, metric_of(problem), opened, scale])
        terms = _terms(rows.counts)
        real[fields.TERMS], real[fields.TINY] = terms, (problem.n + terms) * TINY
        real[fields.LIGHT] = 1.0 if weights is None else float(inverse.max())
        return replace(first, cell=cell, real=real, inverse=inverse, part=part)


def _of_kin(problem: ProjectionProblem) -> Plan | None:
    """The plan of a problem, by that of an earlier one of its kin where there is one."""
    kin = problem.workspace.get("kin")
    if kin is None:
        return _plan(problem)
    key = "layout", problem.weights is None
    layout = kin.get(key)
    plan = None if layout is None else layout.of(problem)
    if plan is None:
        plan = _plan(problem)
        if plan is not None and layout is None and _near(problem) and not isinstance(problem.rows.coefficients, SparseRows):
            filled = problem.rows.coefficients != 0.0
            kin.put(key, Layout(replace(plan, cell=plan.cell[:0], part=plan.part[:0]), filled, *np.nonzero(filled)))
    return plan
