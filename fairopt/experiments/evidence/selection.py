"""The rule of selection: validation alone, no mixing, nothing interpolated."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def chosen(quality: Floats, gap: Floats, target: float) -> Indices:
    """Validation figures (..., candidates) -> (...) the candidate: the best among those with gap <= target, else that with the least gap.

    The first of equals; a candidate whose figures are not finite is none, unless no other is there.
    """
    inside = (gap <= target) & np.isfinite(quality)
    best = np.where(inside, quality, -np.inf).argmax(-1)
    nearest = np.where(np.isfinite(gap), gap, np.inf).argmin(-1)
    return np.asarray(np.where(inside.any(-1), best, nearest), dtype=np.int64)


def taken(figures: Floats, places: Indices) -> Floats:
    """The figures (..., candidates) of the chosen ones (...)."""
    return np.asarray(np.take_along_axis(figures, places[..., None], -1)[..., 0])
