"""A second search around the answer itself, for the few problems whose first one stays short of what float64 could give.

Scores far from 0 beside how far they may move (a narrow box at 1e8, rows that nearly contradict one another) leave the row values of the
search few digits: sums are rounded to an ulp of the scores, not of the moves. With a constant c among the answers,

    y = c + y',   z = c + z',   lb, ub likewise,   f_k(y) = f_k'(y') + c sum_i A_ki + offset_k

is the same problem with the same prices, in numbers as small as the moves; c sum_i A_ki + offset_k goes to the limits, exactly.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from fairopt.arrays import Array
from fairopt.dual.base import Dual
from fairopt.dual.make import make_dual
from fairopt.dual.newton import DualSolution, solve_dual
from fairopt.dual.structure import numbers, structure
from fairopt.feasibility.exact_rows import exact_offsets
from fairopt.numerics.exact_sums import nearest_float
from fairopt.problem import ProjectionProblem

ENOUGH = 1e-12  # of the scores: a residual that asks for no second search
NEARER = 0.25  # what numbers around c may be at most, over those around 0
DOUBLE = 1e-15  # evaluators of this resolution count in float64


def recentred(scores: Tensor, problem: ProjectionProblem, dual: Dual, first: DualSolution, extent: float) -> DualSolution:
    """``first``, or the better prices that a search around its scores finds. ``scores`` (n,) as they came, ``extent`` the largest."""
    if first.residual <= ENOUGH * extent or dual.resolution > DOUBLE or not np.isfinite(first.p).all():
        return first
    y = dual.scores(first.p)
    c = float(y.median())
    if not float((y - c).abs().max()) <= NEARER * float(y.abs().max()) < np.inf:
        return first
    around = _around(problem, c)
    start = None if first.residual > extent else first.p
    found = solve_dual(make_dual(scores.detach().to("cpu", torch.float64) - c, around), structure(around), numbers(around), start)
    iterations = first.iterations + found.iterations
    if not found.residual < first.residual:
        return replace(first, iterations=iterations)
    bound = found.bound if found.converged else first.bound
    return DualSolution(found.p, dual.evaluate(found.p), found.residual, iterations, found.residual <= bound, bound)


def _around(problem: ProjectionProblem, c: float) -> ProjectionProblem:
    """The problem of y - c; limits and constants are exact sums, rounded once."""
    moved = [a + b * Fraction(c) for a, b in zip(exact_offsets(problem.rows), _totals(problem), strict=True)]
    offset, width = np.zeros(problem.m), problem.width.copy()
    for r, part in enumerate(problem.range_slices):
        own = moved[part.start]
        offset[part] = [nearest_float(v - own) for v in moved[part]]
        if np.isfinite(width[r]):
            width[r] = nearest_float(Fraction(float(width[r])) + (1 - Fraction(float(problem.ratio[r]))) * own)
    sides = [_less(side, moved) for side in (problem.lower, problem.upper)]
    rows = replace(problem.rows, offset=offset, offset_terms=())
    rows.__dict__.update({k: v for k, v in problem.rows.__dict__.items() if not k.startswith("_")})
    return replace(problem, rows=rows, lower=sides[0], upper=sides[1], width=width, lb=problem.lb - c, ub=problem.ub - c)


def _totals(problem: ProjectionProblem) -> list[Fraction]:
    """(m,) the sum of each row's coefficients: a mean's scale is the sum of its coefficients."""
    rows = problem.rows
    totals = []
    for k in range(problem.m):
        scales = rows.scales[k]
        totals.append(sum((Fraction(float(v)) for v in scales[np.flatnonzero(scales)]), Fraction(0)))
    if rows.dense is not None:
        for d, k in enumerate(rows.dense_rows.tolist()):
            totals[k] += sum(map(Fraction, rows.dense[d].tolist()), Fraction(0))
    return totals


def _less(limits: Array, moved: list[Fraction]) -> Array:
    """(L,) limits less the rows' constants."""
    return np.array([nearest_float(Fraction(v) - m) if np.isfinite(v) else v for v, m in zip(limits.tolist(), moved, strict=False)])
