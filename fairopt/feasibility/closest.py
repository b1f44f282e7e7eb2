"""Row values at a point inside the bounds that breaks the hard constraints least, in fractions.

The point comes from floats (the least sum of squared violations); its sums are put inside their exact bounds, so that limits widened
to these values are met by some scores, whatever rounding did.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from fairopt.contract.problem import ProjectionProblem
from fairopt.feasibility.decide import raw_region
from fairopt.feasibility.exact_rows import coefficients, exact_offsets, hard_constraints, rows_of, unknowns
from fairopt.feasibility.least_violation import least_violation


@np.errstate(all="ignore")
def least_values(problem: ProjectionProblem) -> dict[int, list[Fraction]]:
    """For each hard constraint the values of its rows at the least sum of squared violations."""
    hard = hard_constraints(problem)
    region = raw_region(problem, hard).in_one_scale()
    point = least_violation(region).point
    bounds = unknowns(problem, [k for c in hard for k in rows_of(problem, c)])
    counts = np.ones(problem.n, dtype=np.int64) if bounds.samples else problem.rows.counts
    scale = Fraction(2) ** region.scale
    sums: dict[int, Fraction] = {}
    for u, value in zip(np.flatnonzero(region.used).tolist(), point.tolist(), strict=True):
        total, low, high = Fraction(value) * scale * int(counts[u]), bounds.low[u], bounds.high[u]
        total = total if low is None else max(total, low)
        sums[u] = total if high is None else min(total, high)
    offsets = exact_offsets(problem.rows)

    def row(k: int) -> Fraction:
        return offsets[k] + sum((a * sums.get(u, Fraction(0)) for u, a in coefficients(problem, k, bounds.samples).items()), Fraction(0))

    return {c: [row(k) for k in rows_of(problem, c)] for c in hard}
