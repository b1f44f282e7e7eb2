"""What the compiled road needs of a problem, in two vectors and the cells of the samples: built once and kept with the problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.sparse import SparseRows, most_in_a_column
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.evaluator import round_inward
from fairopt.solve.dual.structure import numbers, structure
from fairopt.solve.finish.check import TINY
from fairopt.solve.finish.rounding import box_holds_numbers
from fairopt.solve.passes import stages as fields
from fairopt.solve.passes.search import NUMBERS
from fairopt.solve.units import span

MOST_ROWS = 4096  # of rows that share no cell; of others
MOST_COUPLED = 256
MOST_CELLS = 1 << 14
SAMPLE = 12_000  # scores that prices are guessed from, where there are more than three times as many and a box
NOTHING: Array = np.zeros(0)


@dataclass(frozen=True, eq=False)
class Plan:
    """cell (n,) uint16; whole, real: see ``fairopt.solve.passes.project``; lb, ub, inverse: (n,), (1,) or (0,); part (k,) positions.

    size: of an answer; m, constraints: of its prices and violations; boxed: some bound is finite; coded: the pass writes codes; name: the
    backend that "auto" stands for; single: every box holds a float32.
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
    constraints: int
    boxed: bool
    coded: bool
    name: str
    single: bool


def plan_of(problem: ProjectionProblem) -> Plan | None:
    """The plan of a problem, or None where the general road takes it."""
    kept = problem.__dict__.get("_fast")
    if kept is None:
        kept = (_plan(problem),)
        problem.__dict__["_fast"] = kept
    plan: Plan | None = kept[0]
    return plan


def _taken(problem: ProjectionProblem) -> bool:
    rows = problem.rows
    C = int(rows.masks.shape[1])
    if problem.m == 0 or problem.stated is not None or not problem.feasible or rows.dense is not None:
        return False
    if C > MOST_CELLS or problem.m > MOST_ROWS or not span(problem).plain or not (problem.ratio == 1.0).all():
        return False
    st = structure(problem)
    if st.blocks or (problem.m > MOST_COUPLED and not rows.one_row_a_cell):
        return False
    limits = (problem.lower, problem.upper, problem.width)
    # no room for a margin: the general road goes to the grid of equal means
    narrow = np.concatenate([problem.lower == problem.upper, problem.width <= 0.0])
    return not any(np.isnan(v).any() for v in limits) and not (narrow & st.hard).any()


def _plan(problem: ProjectionProblem) -> Plan | None:
    if not _taken(problem):
        return None
    rows, st, nums = problem.rows, structure(problem), numbers(problem)
    n, m, L, R, C = problem.n, problem.m, problem.linear, problem.ranges, int(rows.masks.shape[1])
    a = rows.coefficients if isinstance(rows.coefficients, SparseRows) else SparseRows.of_dense(rows.coefficients)
    boxed, weights = problem.has_box, problem.weights
    uniform = problem.uniform_box and weights is None
    cell = rows.cell.numpy().astype(np.uint16)
    lb, ub = (np.atleast_1d(b.numpy() if isinstance(b, Tensor) else np.float64(b)) for b in (problem.lb, problem.ub))
    inverse = NOTHING if weights is None else 1.0 / weights.numpy()
    opened = rows.counts.astype(np.float64) if weights is None else np.bincount(cell, weights=inverse, minlength=C)
    part, scale = _sample(cell, rows.counts) if boxed and uniform and n > 3 * SAMPLE else (np.zeros(0, dtype=np.int64), np.ones(C))
    known = span(problem)
    terms = int(rows.counts.max(initial=1)) + C + 8
    ends = [_inward(problem.lb, up=True), _inward(problem.ub, up=False)] if uniform else [-np.inf, np.inf]
    head = np.zeros(fields.INTS, dtype=np.int64)
    head[[fields.M_, fields.C_, fields.L_, fields.R_, fields.ENTRIES]] = m, C, L, R, a.values.shape[0]
    head[[fields.DIAGONAL, fields.APART, fields.BOXED, fields.UNIFORM]] = rows.one_row_a_cell, _apart(a, problem), boxed, uniform
    numbers_ = np.zeros(fields.FLOATS)
    numbers_[[fields.LOW, fields.HIGH, fields.LOW32, fields.HIGH32]] = float(lb.min()), float(ub.max()), ends[0], ends[1]
    numbers_[[fields.TERMS, fields.TINY]] = terms, (n + terms) * TINY
    numbers_[[fields.SPAN_LOW, fields.SPAN_HIGH]] = known.low, known.high
    numbers_[fields.FORCED] = max(float(lb.max()), float(-ub.min()), 0.0)  # scores are at least so far from 0
    numbers_[fields.FARTHEST] = max(float(np.abs(lb).max()), float(np.abs(ub).max()))  # and at most so far
    numbers_[fields.LIGHT] = 1.0 if weights is None else float(inverse.max())
    whole = np.concatenate([head, a.starts, a.index, problem.range_starts, st.hard.astype(np.int64)]).astype(np.int64)
    soft = 1.0 / nums.gamma
    parts = (
        numbers_,
        a.values,
        problem.lower,
        problem.upper,
        problem.width,
        nums.rho,
        soft,
        rows.offset,
        st.unit,
        st.metric,
        opened,
        scale,
    )
    plain = uniform or (not boxed and weights is None)
    real = np.ascontiguousarray(np.concatenate(parts), dtype=np.float64)
    size = fields.HEAD + m + (L + R) + m + R + 2 * C
    whole[[fields.WHOLE_SIZE, fields.REAL_SIZE, fields.WORK_SIZE, fields.ANSWER_SIZE]] = (
        whole.size,
        real.size,
        NUMBERS + 4 * m + 2 * C,
        size,
    )
    return Plan(
        cell=cell,
        whole=whole,
        real=real,
        lb=NOTHING if plain else np.ascontiguousarray(lb),
        ub=NOTHING if plain else np.ascontiguousarray(ub),
        inverse=inverse if weights is not None or plain else np.ones(1),
        part=part,
        size=size,
        m=m,
        constraints=L + R,
        boxed=boxed,
        coded=boxed or weights is not None,
        name="closed_form" if not boxed and _simple(problem) else "dual_newton",
        single=box_holds_numbers(problem, torch.float32),
    )


def _simple(problem: ProjectionProblem) -> bool:
    """Whether "auto" takes the closed form where there is no box (as ``front.choose``)."""
    budget = any(s.kind == "budget" for s in problem.softness)
    return not budget and (structure(problem).shape in ("separable", "empty") or problem.m == 1)


def _inward(bound: float | Tensor, *, up: bool) -> float:
    return float(round_inward(torch.tensor(bound, dtype=torch.float64, device="cpu"), torch.float32, up=up))


def _apart(a: SparseRows, problem: ProjectionProblem) -> bool:
    """Whether no cell is in two rows of one range."""
    starts = problem.range_starts.tolist()
    return all(most_in_a_column(a.take(np.arange(p, q))) <= 1 for p, q in zip(starts[:-1], starts[1:], strict=True))


def _sample(cell: Any, counts: IntArray) -> tuple[IntArray, Array]:
    """Positions (k,) of about SAMPLE scores, and what one of them stands for in each cell (C,). None where a cell goes without."""
    part = np.arange(0, cell.shape[0], cell.shape[0] // SAMPLE, dtype=np.int64)
    taken = np.bincount(cell[part], minlength=counts.shape[0])
    if (taken == 0).any():
        return np.zeros(0, dtype=np.int64), np.ones(counts.shape[0])
    return part, counts / taken
