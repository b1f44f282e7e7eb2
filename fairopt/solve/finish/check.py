"""Whether returned scores meet every row: by float64 sums with a stated error bound, and where those cannot tell, exactly.

The exact value of a row is the rational number  sum_j scale_j * (exact sum of y over mask j) / n_j  (+ exact offset), from the very numbers
that are returned; limits are the float64 numbers that were given (DESIGN 6, "Certified means").
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.basics.exact_sums import exact_cell_sums, exact_dot
from fairopt.contract.problem import ProjectionProblem
from fairopt.feasibility.exact_rows import exact_offsets, mask_means, offset_parts
from fairopt.solve.dual.structure import Structure, structure

HALF_ULP = 2.0**-53
TINY = 2.0**-1074


def summation_bound(problem: ProjectionProblem, magnitude: float) -> Array:
    """(m,) how far a float64 row value can be from the exact one, for scores of at most ``magnitude``.

    Any order of summation of k terms errs by at most (k - 1) half ulps of the sum of absolute values; a few more for coefficients.
    A product that falls among the subnormal numbers errs by up to half of 2^-1074 instead: one for each term, and for this bound's own.
    """
    rows = problem.rows
    terms = (int(rows.counts.max(initial=1)) if rows.dense is None else rows.n) + rows.masks.shape[1] + 8
    offset = np.abs(rows.offset)
    tiny = (rows.n + terms) * TINY * max(1.0, magnitude)  # a coefficient that underflowed is off by that much for each score
    size = structure(problem).unit if rows.term_sum is rows.absolute_sum else np.maximum(structure(problem).unit, rows.term_sum)
    return np.asarray(HALF_ULP * (terms * size * magnitude + 8 * offset) + tiny)


def violations(st: Structure, problem: ProjectionProblem, f: Array) -> Array:
    """(L + R,) signed violation of every constraint at row values f (m,): > 0 outside the limits, <= 0 inside."""
    L = st.linear
    out = np.empty(L + len(st.slices))
    out[:L] = np.maximum(f[:L] - problem.upper, problem.lower - f[:L])
    for r, rows in enumerate(st.slices):
        out[L + r] = st.ratios[r] * f[rows].max() - f[rows].min() - problem.width[r]
    return out


def constraint_bound(st: Structure, row_bound: Array) -> Array:
    """(L + R,) error bound of each constraint's violation from that of its rows."""
    L = st.linear
    out = np.empty(L + len(st.slices))
    out[:L] = row_bound[:L]
    for r, rows in enumerate(st.slices):
        out[L + r] = 2.0 * row_bound[rows].max()  # also where the ratio is below 1: its product rounds once more
    return out * (1 + 1e-9)


def exact_row_values(problem: ProjectionProblem, y: Array, rows: list[int]) -> dict[int, Fraction]:
    """Exact values of some rows, for scores y (n,) float64 in the order of the samples."""
    r = problem.rows
    out = values_of_sums(problem, exact_cell_sums(y, r.cell.numpy(), r.masks.shape[1]), rows)
    if r.dense is not None:
        for d, k in enumerate(r.dense_rows.tolist()):
            if k in out:
                out[k] += exact_dot(r.dense[d].numpy(), y)
    return out


def values_of_sums(problem: ProjectionProblem, sums: list[Fraction], rows: list[int]) -> dict[int, Fraction]:
    """Exact values of some rows, without their dense parts, from the exact sums of the scores over the cells (C,)."""
    r = problem.rows
    means, offsets = mask_means(r, sums), exact_offsets(r)
    out = {}
    for k in rows:
        value = offsets[k]
        for j in np.flatnonzero(r.scales[k]).tolist():
            value += Fraction(float(r.scales[k, j])) * means[j]
        out[k] = value
    return out


def exact_violations(st: Structure, problem: ProjectionProblem, y: Array, constraints: list[int]) -> dict[int, Fraction]:
    """Exact signed violation of some constraints."""
    return _exact_violations(st, problem, exact_row_values(problem, y, _rows_of(st, constraints)), constraints)


def violations_of_sums(st: Structure, problem: ProjectionProblem, sums: list[Fraction], constraints: list[int]) -> dict[int, Fraction]:
    """``exact_violations`` of a problem without dense rows, from the exact sums of the scores over the cells (C,)."""
    return _exact_violations(st, problem, values_of_sums(problem, sums, _rows_of(st, constraints)), constraints)


def _rows_of(st: Structure, constraints: list[int]) -> list[int]:
    L = st.linear
    return sorted({k for c in constraints for k in ([c] if c < L else range(st.slices[c - L].start, st.slices[c - L].stop))})


def _exact_violations(
    st: Structure, problem: ProjectionProblem, values: dict[int, Fraction], constraints: list[int]
) -> dict[int, Fraction]:
    L = st.linear
    out = {}
    for c in constraints:
        if c < L:
            sides = [values[c] - Fraction(float(problem.upper[c]))] if np.isfinite(problem.upper[c]) else []
            sides += [Fraction(float(problem.lower[c])) - values[c]] if np.isfinite(problem.lower[c]) else []
            out[c] = max(sides)
        else:
            members = [values[k] for k in range(st.slices[c - L].start, st.slices[c - L].stop)]
            out[c] = Fraction(st.ratios[c - L]) * max(members) - min(members) - Fraction(float(problem.width[c - L]))
    return out


def exact_offset_parts(problem: ProjectionProblem, k: int) -> dict[int, Fraction]:
    """Row k's constant, exact, by the mask that each part is a mean over; -1: constants that are no means."""
    return dict(offset_parts(problem.rows)[k])
