"""What of a problem decides whether it needs units of its own: how large its rows, weights, limits and softness are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.contract.problem import ProjectionProblem
from fairopt.contract.rows import Rows
from fairopt.feasibility.exact_rows import exact_offsets
from fairopt.solve.units.exponents import NOTHING, as_numpy, exponent_of, exponents_of, row_exponents

NEAR = 30  # scores and rows within 2^-30 .. 2^30 are solved as they are
WIDE = 60  # the same for distance weights; beyond it the lightest becomes 2^LIGHT
LIGHT = -300
FAR = 300
SOFT = 200  # rho and gamma within 2^-200 .. 2^200


@dataclass(frozen=True, eq=False)
class Span:
    """What of a problem decides whether it needs units: the extents of scores that do not, and what it forces on any answer."""

    low: float
    high: float
    forced: int  # exponent
    rows: IntArray  # (m,) exponents u
    weights: int  # exponent b
    plain: bool
    faint: dict[int, int]  # constraints of a budget whose rows are far smaller than its largest one: the exponent that u leaves


def span(problem: ProjectionProblem) -> Span:
    """The span of a problem, kept with it."""
    return problem.workspace.keep("span", lambda: _span(problem))


def _span(problem: ProjectionProblem) -> Span:
    rows, L = problem.rows, problem.linear
    size = row_exponents(rows)  # (m,)
    u = np.where(np.abs(size) <= NEAR, 0, size)
    u[size == NOTHING] = 0
    for part in problem.range_slices:
        u[part] = u[part].max()  # the rows of a range are compared with one another
    blocks = {s.block for s in problem.softness if s.kind == "budget"}
    faint: dict[int, int] = {}
    for block in blocks:  # and a budget's with its one cap
        members = [k for k, s in enumerate(problem.softness) if s.kind == "budget" and s.block == block]
        mine = np.concatenate([_rows_of(problem, k) for k in members])
        u[mine] = u[mine].max()
        left = {k: int((size - u)[_rows_of(problem, k)].max()) for k in members}
        faint |= {k: e for k, e in left.items() if NOTHING < e < -SOFT}
    b, light = 0, 1
    if problem.weights is not None:
        light, heavy = (exponent_of(float(v)) for v in torch.aminmax(problem.weights))
        b = 0 if light >= -WIDE and heavy <= WIDE else light - LIGHT
    forced = max(_largest_constant(rows, u), _forced_by_limits(problem, u, size - light))
    for v in _excluding_zero(problem.lb, problem.ub):
        forced = max(forced, _largest(np.atleast_1d(v), 0))
    ends = [_largest(np.atleast_1d(as_numpy(v)), 0) for v in (problem.lb, problem.ub)]
    ends += [_largest(v, u[:L]) for v in (problem.lower, problem.upper)]
    ends.append(_largest(problem.width, u[problem.range_starts[:-1]]))
    soft = np.array([s.weight for s in problem.softness if s.kind != "hard"])
    plain = b == 0 and not u.any() and not faint and max(ends, default=NOTHING) <= FAR
    plain = plain and bool(np.isfinite(rows.offset).all())
    plain = plain and all(abs(e) <= SOFT for e in map(exponent_of, soft.tolist()) if e != NOTHING)
    if not plain or forced > NEAR:
        return Span(np.inf, -np.inf, forced, u, b, plain, faint)
    low = 0.0 if forced >= -NEAR else 2.0**-NEAR
    return Span(low, 2.0**NEAR, forced, u, b, plain, faint)


def _forced_by_limits(problem: ProjectionProblem, u: IntArray, push: IntArray) -> int:
    """The exponent of the scores that the rows' limits ask for. A capped price asks for no more than it can do: ``push`` (m,) is the
    exponent of how far a price of 1 moves the lightest sample.
    """
    forced = NOTHING
    caps = [(k, exponent_of(s.weight)) for k, s in enumerate(problem.softness[: problem.linear]) if s.kind in ("priced", "budget")]
    for limit in _excluding_zero(problem.lower, problem.upper):
        finite = np.isfinite(limit) & (limit != 0)
        asked = np.where(finite, exponents_of(np.where(finite, limit, 0.0)) - u[: problem.linear], NOTHING)
        for k, cap in caps:
            asked[k] = min(asked[k], max(cap + int(push[k]), NOTHING))
        forced = max(forced, int(asked.max(initial=NOTHING)))
    return forced


def _excluding_zero(lower: float | Tensor | Array, upper: float | Tensor | Array) -> tuple[Array, Array]:
    """What limits force on an answer: lower ones above 0, upper ones below 0."""
    return np.maximum(as_numpy(lower), 0.0), np.minimum(as_numpy(upper), 0.0)


def _rows_of(problem: ProjectionProblem, constraint: int) -> IntArray:
    if constraint < problem.linear:
        return np.array([constraint], dtype=np.int64)
    part = problem.range_slices[constraint - problem.linear]
    return np.arange(part.start, part.stop, dtype=np.int64)


def _largest(values: Array, u: IntArray | int) -> int:
    """The largest exponent of finite ``values`` over 2^u."""
    finite = np.isfinite(values) & (values != 0)
    exponents = np.where(finite, exponents_of(np.where(finite, values, 0.0)) - u, NOTHING)
    return int(exponents.max(initial=NOTHING))


def _largest_constant(rows: Rows, u: IntArray) -> int:
    """The largest exponent of the rows' constants over 2^u, also of those beyond float64."""
    if np.isfinite(rows.offset).all():
        return _largest(rows.offset, u)
    sizes = [v.numerator.bit_length() - v.denominator.bit_length() + 1 - int(e) for v, e in zip(exact_offsets(rows), u, strict=True) if v]
    return max(sizes, default=NOTHING)
