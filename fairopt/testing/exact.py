"""Exact rational values of a problem's rows: what CERTIFIED is tested against.

A float is a rational number, so every mean, row and violation has an exact value. Sums of any length are taken in integers:
x = mantissa * 2^exponent, mantissas of equal exponent are added as integers, and only the total becomes a Fraction.
Nothing here is shared with the code that issues certificates.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.contract.problem import ProjectionProblem

_LOW = 26  # mantissas of 53 bits are added in two halves, so that int64 never overflows below 2^36 terms


@dataclass(frozen=True)
class ExactViolation:
    """By how much each constraint is broken, exactly (<= 0: met; None: that side is open).

    constraints  (L + R): max(f - upper, lower - f) of the linear ones, ratio max f - min f - width of the ranges
    bounds       the largest of lb - y and y - ub
    """

    constraints: tuple[Fraction | None, ...]
    bounds: Fraction | None

    @property
    def worst(self) -> Fraction:
        """The largest violation of any constraint or bound; 0 when all are met."""
        return max([v for v in (*self.constraints, self.bounds) if v is not None] + [Fraction(0)])


def violation_exact(problem: ProjectionProblem, y: Tensor) -> ExactViolation:
    """The exact violation of every constraint at ``y`` (n,), a finite tensor of any float dtype, as the very numbers it holds.

    The limits are the float64 numbers of the problem; counts and means are exact.

    Examples:
        >>> from fairopt.testing import violation_exact
        >>> problem = fo.compile(fo.DemographicParity("sex", tolerance=0.25), sensitive_features=["f", "m"]).problem
        >>> violation_exact(problem, torch.tensor([0.25, 0.75]))
        ExactViolation(constraints=(Fraction(1, 4),), bounds=None)
    """
    values = row_values_exact(problem, y)
    found: list[Fraction | None] = []
    for k in range(problem.linear):
        sides = []
        if np.isfinite(problem.upper[k]):
            sides.append(values[k] - Fraction(float(problem.upper[k])))
        if np.isfinite(problem.lower[k]):
            sides.append(Fraction(float(problem.lower[k])) - values[k])
        found.append(max(sides) if sides else None)
    for block, width, ratio in zip(problem.range_slices, problem.width, problem.ratio, strict=True):
        inside = values[block]
        found.append(Fraction(float(ratio)) * max(inside) - min(inside) - Fraction(float(width)) if np.isfinite(width) else None)
    return ExactViolation(tuple(found), _bounds_violation(problem, y))


def row_values_exact(problem: ProjectionProblem, y: Tensor) -> list[Fraction]:
    """(m,) exact values of A y + offset."""
    rows = problem.rows
    cell = rows.cell.numpy()
    numbers = _float64(y)
    if numbers.shape != (rows.n,):
        raise ValueError(f"y: got shape {numbers.shape}, expected ({rows.n},)")
    counts = np.bincount(cell, minlength=rows.masks.shape[1])
    means = _mask_means(cell_sums_exact(numbers, cell, rows.masks.shape[1]), counts, np.asarray(rows.masks))
    target_means = [
        _mask_means(cell_sums_exact(_float64(v), cell, rows.masks.shape[1]), counts, np.asarray(rows.masks)) for v in rows.values
    ]
    with_terms = {row for row, _, _, _ in rows.offset_terms}
    totals = [Fraction(0) if k in with_terms else Fraction(float(rows.offset[k])) for k in range(rows.m)]
    for row, scale, mask, value in rows.offset_terms:
        totals[row] += Fraction(float(scale)) * (target_means[value][mask] if value >= 0 else 1)
    for k in range(rows.m):
        totals[k] += sum((Fraction(float(rows.scales[k, j])) * means[j] for j in np.flatnonzero(rows.scales[k])), Fraction(0))
    if rows.dense is not None:
        for weights, k in zip(rows.dense.numpy(), rows.dense_rows.tolist(), strict=True):
            totals[k] += dot_exact(weights, numbers)
    return totals


def cell_sums_exact(values: Array, cell: IntArray, cells: int) -> list[Fraction]:
    """(cells,) the exact sum of the float64 ``values`` (n,) over each cell."""
    mantissa, exponent = _integers(values)
    totals = [Fraction(0)] * cells
    for e in np.unique(exponent):
        here = exponent == e
        high = np.zeros(cells, dtype=np.int64)
        low = np.zeros(cells, dtype=np.int64)
        np.add.at(high, cell[here], mantissa[here] >> _LOW)
        np.add.at(low, cell[here], mantissa[here] & ((1 << _LOW) - 1))
        unit = Fraction(2) ** int(e)
        for c in np.flatnonzero((high != 0) | (low != 0)).tolist():
            totals[c] += ((int(high[c]) << _LOW) + int(low[c])) * unit
    return totals


def dot_exact(a: Array, b: Array) -> Fraction:
    """The exact inner product of two float64 vectors (n,)."""
    (ma, ea), (mb, eb) = _integers(a), _integers(b)
    sums: dict[int, int] = defaultdict(int)
    for x, y, e in zip(ma.tolist(), mb.tolist(), (ea + eb).tolist(), strict=True):
        sums[e] += x * y
    return sum((total * Fraction(2) ** e for e, total in sums.items()), Fraction(0))


def _mask_means(sums: list[Fraction], counts: IntArray, masks: np.typing.NDArray[np.bool_]) -> list[Fraction]:
    return [
        sum((sums[c] for c in np.flatnonzero(mask).tolist()), Fraction(0)) / int(counts[mask].sum()) if mask.any() else Fraction(0)
        for mask in masks
    ]


def _bounds_violation(problem: ProjectionProblem, y: Tensor) -> Fraction | None:
    """The largest lb - y or y - ub. The float64 difference picks the candidates (it is right to an ulp); they are then taken exactly."""
    numbers = _float64(y)
    worst: Fraction | None = None
    for bound, sign in ((problem.lb, -1), (problem.ub, 1)):
        limit = np.broadcast_to(_float64(bound) if isinstance(bound, Tensor) else np.float64(bound), numbers.shape)
        finite = np.flatnonzero(np.isfinite(limit))
        if finite.size == 0:
            continue
        rough = sign * (numbers[finite] - limit[finite])
        for i in finite[rough >= rough.max() - 4.0 * np.spacing(np.abs(rough).max())][:1000].tolist():
            exact = sign * (Fraction(float(numbers[i])) - Fraction(float(limit[i])))
            worst = exact if worst is None else max(worst, exact)
    return worst


def _integers(values: Array) -> tuple[IntArray, IntArray]:
    """(mantissa, exponent) int64 with value = mantissa * 2^exponent exactly."""
    if not np.isfinite(values).all():
        raise ValueError("values: got NaN or infinity, expected finite numbers")
    fraction, exponent = np.frexp(values)
    return np.ldexp(fraction, 53).astype(np.int64), exponent.astype(np.int64) - 53


def _float64(values: Tensor) -> Array:
    """Every shorter float is a float64, so this loses nothing."""
    return np.asarray(values.detach().cpu().double().numpy())
