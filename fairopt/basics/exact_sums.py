"""Exact sums and dot products of float64 numbers, as fractions, in a few vectorised passes.

A float64 is an integer of 53 bits times a power of two. Samples with the same exponent are summed as integers, in two halves of at
most 27 bits, so that a float64 accumulator stays exact up to 2**26 samples; the few partial sums are joined as Python integers.
"""

from __future__ import annotations

import math
import sys
from fractions import Fraction

import numpy as np

from fairopt.basics.arrays import Array, IntArray

_EXACT = 1 << 26


def exact_cell_sums(values: Array, cell: IntArray, cells: int) -> list[Fraction]:
    """The exact sum of ``values`` (n,) finite float64 over each of the cells 0 .. cells - 1; ``cell`` (n,)."""
    n = values.shape[0]
    if n == 0:
        return [Fraction(0)] * cells
    if n > _EXACT:  # in two halves
        half = n // 2
        first, second = exact_cell_sums(values[:half], cell[:half], cells), exact_cell_sums(values[half:], cell[half:], cells)
        return [a + b for a, b in zip(first, second, strict=True)]
    if np.abs(values).max() < (1 << 26) and np.array_equal(values, np.rint(values)):
        return [Fraction(int(s)) for s in np.bincount(cell, weights=values, minlength=cells)]
    mantissa, exponent = np.frexp(values)
    whole = np.ldexp(mantissa, 53).astype(np.int64)  # |whole| < 2**53
    low = whole & ((1 << 27) - 1)
    high = whole >> 27  # |high| <= 2**26
    smallest = int(exponent.min())
    span = int(exponent.max()) - smallest + 1
    totals = [0] * cells
    if span * cells > 8 * n + 4096:  # many empty bins: number the exponents that occur
        present, place = np.unique(exponent, return_inverse=True)
    else:
        present, place = np.arange(smallest, smallest + span), exponent - smallest
    bins = place.astype(np.int64) * cells + cell
    lows = np.bincount(bins, weights=low, minlength=len(present) * cells)
    highs = np.bincount(bins, weights=high, minlength=len(present) * cells)
    for k in np.flatnonzero((lows != 0) | (highs != 0)).tolist():
        totals[k % cells] += ((int(highs[k]) << 27) + int(lows[k])) << (int(present[k // cells]) - smallest)
    # value = whole * 2 ** (exponent - 53)
    shift = smallest - 53
    return [Fraction(t << shift) if shift >= 0 else Fraction(t, 1 << -shift) for t in totals]


def exact_counted_sums(values: Array, counts: IntArray, cell: IntArray, cells: int) -> list[Fraction]:
    """``exact_cell_sums`` of values (n,) each of which comes ``counts`` (n,) times."""
    totals = [Fraction(0)] * cells
    for value, count, c in zip(values.tolist(), counts.tolist(), cell.tolist(), strict=True):
        totals[c] += Fraction(value) * count
    return totals


def nearest_float(v: Fraction) -> float:
    """A float64 on the same side of 0; infinite where float64 ends."""
    try:
        value = float(v)
    except OverflowError:
        return math.inf if v > 0 else -math.inf
    return value if value or not v else 5e-324 if v > 0 else -5e-324


def finite_float(v: Fraction) -> float:
    """As ``nearest_float``; the largest float64 stands for what float64 cannot hold."""
    return min(max(nearest_float(v), -sys.float_info.max), sys.float_info.max)


def exact_dot(a: Array, b: Array) -> Fraction:
    """The exact dot product of finite numbers: mantissas multiplied without error (Dekker), summed exactly for each exponent.

    Mantissas lie in [1/2, 1), so that neither the split nor its parts can overflow or underflow, whatever the numbers' size.
    """
    (ma, ea), (mb, eb) = np.frexp(a), np.frexp(b)
    high = ma * mb
    split = 134217729.0  # 2^27 + 1
    ta, tb = split * ma, split * mb
    ah, bh = ta - (ta - ma), tb - (tb - mb)
    al, bl = ma - ah, mb - bh
    low = ((ah * bh - high) + ah * bl + al * bh) + al * bl
    exponents, place = np.unique(ea.astype(np.int64) + eb, return_inverse=True)
    sums = exact_cell_sums(np.concatenate([high, low]), np.concatenate([place, place]).astype(np.int64), len(exponents))
    return sum((s * Fraction(2) ** int(e) for s, e in zip(sums, exponents.tolist(), strict=True)), Fraction(0))
