"""Group means in exact arithmetic: a gap that is said to be inside a tolerance is, whatever the order of the sum."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
from torch import Tensor


def group_means(values: Tensor, groups: npt.NDArray[np.str_]) -> dict[str, Fraction]:
    """The exact mean of ``values`` (n,) in each of ``groups`` (n,), sorted by name. Values must be finite."""
    exact = [Fraction(v) for v in values.detach().double().tolist()]
    means = {}
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        means[str(group)] = sum((exact[i] for i in own), Fraction(0)) / len(own)
    return means


def gap(values: Tensor, groups: npt.NDArray[np.str_]) -> Fraction:
    """Largest minus smallest group mean."""
    means = group_means(values, groups).values()
    return max(means) - min(means)
