"""Differences between two rows over seeds that have no row in common: their spread is the whole error, and nothing is drawn again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fairopt.basics.errors import InputError
from fairopt.experiments.evidence.bootstrap import Error, holm
from fairopt.experiments.evidence.comparisons import Comparison
from fairopt.experiments.evidence.protocol import LEAST_SEEDS, LEVEL


def over_seeds(values: Sequence[float]) -> Error:
    """The mean, its interval and p of Student's t with m - 1 degrees of freedom. Too few seeds or odd values: no interval."""
    if not len(values):
        raise InputError("values: got none, expected one a seed")
    each = np.asarray(values, dtype=np.float64)
    mean, m = float(each.mean()), len(each)
    if m < LEAST_SEEDS or not np.isfinite(each).all():
        return Error(mean)
    from scipy.stats import t

    error = float(each.std(ddof=1)) / math.sqrt(m)
    wide = float(t.ppf(1 - LEVEL / 2, m - 1)) * error
    return Error(mean, error, mean - wide, mean + wide, float(2 * t.sf(abs(mean) / error, m - 1)) if error > 0 else 1.0)


def compared_over_seeds(asked: Sequence[tuple[str, str, Sequence[float], Sequence[float]]]) -> tuple[Comparison, ...]:
    """(first, second, quality of first - second a seed, gap of first - second a seed), corrected together. More quality is better."""
    found = [(first, second, over_seeds(quality), over_seeds(gap)) for first, second, quality, gap in asked]
    corrected = holm([quality.p for _, _, quality, _ in found])
    return tuple(Comparison(*one, p) for one, p in zip(found, corrected, strict=True))
