"""The curve of a group: which shares of its positives and negatives a threshold on the score decides "yes", and the corners of their hull.

Randomised thresholds reach every mixture of the points (share of negatives, share of positives) of the ROC curve, so a linear program over
the corners of its upper hull searches all of them. Labels may be shares (a probability of being positive a row) as well as 0 and 1.

Source: Provost, Fawcett 2001 (the hull); Hardt, Price, Srebro 2016 (mixtures of thresholds).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fairopt.basics.arrays import Array


@dataclass(frozen=True, eq=False)
class Curve:
    """Corners of one group's hull, from "nobody" (threshold inf) to "everybody" (-inf).

    thresholds (V,) descending: yes where score >= threshold
    yes        (2, V): share of the negatives [0] and of the positives [1] that are decided yes; 0 where the group has none of these
    weight     (2,): how many negatives and positives there are
    """

    thresholds: Array
    yes: Array
    weight: Array


def curve(scores: Array, positive: Array, *, whole: bool = False) -> Curve:
    """Of scores (n,) and the share (n,) of a positive in each row. ``whole``: every point of the curve, not the hull's corners alone."""
    values, place = np.unique(scores, return_inverse=True)  # ascending
    ones = np.bincount(place, weights=positive, minlength=len(values))
    zeros = np.bincount(place, weights=1.0 - positive, minlength=len(values))
    points = np.zeros((2, len(values) + 1))
    points[0, 1:], points[1, 1:] = np.cumsum(zeros[::-1]), np.cumsum(ones[::-1])
    thresholds = np.concatenate([[np.inf], between(values)[::-1]])
    kept = np.arange(len(thresholds)) if whole else corners(points)
    weight = points[:, -1]
    return Curve(thresholds[kept], points[:, kept] / np.maximum(weight, 1e-300)[:, None], weight)


def between(values: Array) -> Array:
    """(V,) for ascending values the threshold that takes each and leaves out the one before: half way, and -inf for the least."""
    low, high = values[:-1], values[1:]
    half = low / 2 + high / 2
    return np.concatenate([[-np.inf] * bool(len(values)), np.where(half > low, np.minimum(half, high), high)])


def corners(points: Array) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Positions of the corners of the upper hull of points (2, N), ascending in both rows; the first and the last are corners."""
    x, y = points[0].tolist(), points[1].tolist()
    kept: list[int] = []
    for k in range(len(x)):
        while len(kept) >= 2 and not _bends(x, y, kept[-2], kept[-1], k):
            kept.pop()
        kept.append(k)
    return np.array(kept, dtype=np.int64)


def _bends(x: list[float], y: list[float], a: int, b: int, c: int) -> bool:
    """Whether b lies above the line from a to c."""
    return (y[b] - y[a]) * (x[c] - x[b]) > (y[c] - y[b]) * (x[b] - x[a])
