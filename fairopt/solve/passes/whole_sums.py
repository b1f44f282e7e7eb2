"""Sums of scores as whole numbers: the same bits in whatever order, in however many parts and on however many threads they are added.

A clipped score is a multiple of a small power of two, up to an error below 2^-60 of the largest score; such multiples are added as int64
in two halves, which are exact. ``exact_sums`` leaves nothing out: a float64 is 53 bits times a power of two, and scores of one exponent are
added as whole numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fairopt.basics.arrays import Array, IntArray
from fairopt.solve.passes.jit import compiled
from fairopt.solve.passes.kernels import exact_bins

UNIT = 1126  # exact sums are whole multiples of 2^-1126: 53 bits of the smallest float64
BITS = 61
HALF = 32


@compiled
def whole_clipped_sums(
    z: Any, code: Any, shift: Any, low: float, high: float, scale: float, inverse: Any, mass_scale: float, high_sums: Any, low_sums: Any,
    high_free: Any, low_free: Any,
) -> None:  # fmt: skip
    """Adds, for each code, clip(z - shift, low, high) * scale, and the number of scores strictly between the bounds, to (K,) int64 halves.

    inverse (n,) 1 / w or (0,): a score moves by shift / w then, and free is the sum of mass_scale / w. shift (K,).
    """
    alike = inverse.shape[0] == 0
    half = np.int64(HALF)
    mask = np.int64((1 << HALF) - 1)
    for i in range(z.shape[0]):
        c = code[i]
        mass = 1.0 if alike else inverse[i]
        v = np.float64(z[i]) - shift[c] * mass
        whole = np.int64(min(max(v, low), high) * scale)
        high_sums[c] += whole >> half
        low_sums[c] += whole & mask
        inside = np.int64((v > low) & (v < high))
        if alike:
            low_free[c] += inside
        else:
            part = inside * np.int64(mass * mass_scale)
            high_free[c] += part >> half
            low_free[c] += part & mask


@compiled
def add_to_histogram(z: Any, code: Any, low: float, step: float, counts: Any) -> None:
    """counts (K, B) += the scores z (n,) of each code in bins of width ``step`` from ``low``; those outside in the first and the last."""
    last = counts.shape[1] - 1
    for i in range(z.shape[0]):
        place = (np.float64(z[i]) - low) / step
        counts[code[i], np.int64(min(max(place, 0.0), np.float64(last)))] += 1


@compiled
def count_at_least(z: Any, code: Any, threshold: float, counts: Any) -> None:
    """counts (K,) += the scores >= threshold of each code."""
    for i in range(z.shape[0]):
        counts[code[i]] += np.int64(np.float64(z[i]) >= threshold)


@compiled
def squared_distance(z: Any, y: Any, inverse: Any) -> float:
    """sum w (y - z)^2; inverse (n,) 1 / w, or (0,)."""
    total = 0.0
    alike = inverse.shape[0] == 0
    for i in range(z.shape[0]):
        d = np.float64(y[i]) - np.float64(z[i])
        total += d * d if alike else d * d / inverse[i]
    return total


def scale_of(largest: float) -> float:
    """The power of two that brings numbers up to ``largest`` > 0 below 2^61."""
    return math.ldexp(1.0, min(BITS - math.frexp(largest)[1], 1000)) if largest > 0.0 else 1.0


def joined(high: IntArray, low: IntArray) -> list[int]:
    """The whole numbers of two halves (K,)."""
    return [(h << HALF) + w for h, w in zip(high.tolist(), low.tolist(), strict=True)]


def exact_sums(values: Array, code: Any, codes: int) -> list[int]:
    """(codes,) the exact sums of finite values (n,) by their code, in units of 2^-UNIT."""
    totals = [0] * codes
    if values.shape[0] == 0:
        return totals
    exponent = np.frexp(values)[1].astype(np.int64)
    least = int(exponent.min())
    span = int(exponent.max()) - least + 1
    high, low = (np.zeros((span, codes), dtype=np.int64) for _ in range(2))
    exact_bins(values, code, exponent, least, high, low)
    for k, c in zip(*np.nonzero(high | low), strict=True):
        totals[c] += ((int(high[k, c]) << 27) + int(low[k, c])) << (int(k) + least - 53 + UNIT)
    return totals
