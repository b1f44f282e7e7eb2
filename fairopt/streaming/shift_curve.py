"""How the mean of one group answers a common shift of its scores in the batch: a piecewise linear curve, inverted exactly.

    F(s) = sum_i clip(z_i - s, lb, ub)   over the group's n samples of the batch;    M(s) = (base + F(s)) / count

Breakpoints are z_i - ub (sample i leaves the upper bound) and z_i - lb (it reaches the lower one). Sorting them once, O(n log n),
makes every later question a binary search. z may lie outside the box (other families' shifts are taken off first).
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


class Response:
    """The curve of one group. base: the sum sent before (minus this batch's targets for residuals); count: after the batch."""

    __slots__ = ("_points", "_values", "base", "count", "n", "width")

    def __init__(self, z: FloatArray, lb: float, ub: float, base: float, count: float) -> None:
        self.n = len(z)
        self.base = base
        self.count = count
        self.width = ub - lb
        points = np.concatenate([z - ub, z - lb])  # (2n,)
        change = np.concatenate([np.ones(self.n), -np.ones(self.n)])  # of the number of free samples
        order = np.argsort(points, kind="stable")
        points = points[order]
        free = np.cumsum(change[order])[:-1]  # (2n - 1,) free samples between neighbouring breakpoints
        drop = np.concatenate([[0.0], np.cumsum(free * np.diff(points))])
        self._points: list[float] = points.tolist()
        self._values: list[float] = ((base + self.n * ub - drop) / count).tolist()  # M at the breakpoints, decreasing

    def mean(self, shift: float) -> float:
        """M(shift)."""
        points, values = self._points, self._values
        j = bisect_left(points, shift)
        if j == 0:
            return values[0]
        if j == len(points):
            return values[-1]
        width = points[j] - points[j - 1]
        return values[j] if width <= 0.0 else values[j - 1] + (values[j] - values[j - 1]) * ((shift - points[j - 1]) / width)

    @property
    def span(self) -> tuple[float, float]:
        """The least and the largest mean that some shift reaches."""
        return self._values[-1], self._values[0]

    def shift_to(self, mean: float) -> float:
        """The shift nearest to 0 with M(shift) = mean; the end of the curve nearest to it where none has."""
        at_zero = self.mean(0.0)
        if mean == at_zero:
            return 0.0
        points, values = self._points, self._values
        if mean < at_zero:  # smallest s > 0 with M(s) <= mean
            j = self._first(mean, strict=False)
        else:  # largest s < 0 with M(s) >= mean
            j = self._first(mean, strict=True)
            if j == 0:
                return min(0.0, points[0])
        if j == 0:
            return max(0.0, points[0])
        j = min(j, len(values) - 1)  # beyond the last value, by rounding where the mean lies above M(0)
        a, b = values[j - 1], values[j]
        s = points[j] if a <= b else points[j - 1] + (points[j] - points[j - 1]) * min(1.0, max(0.0, (a - mean) / (a - b)))
        return max(0.0, s) if mean < at_zero else min(0.0, s)

    def _first(self, mean: float, *, strict: bool) -> int:
        """The first breakpoint whose value is <= mean (strict: < mean)."""
        lo, hi = 0, len(self._values)
        while lo < hi:
            mid = (lo + hi) // 2
            if self._values[mid] < mean or (not strict and self._values[mid] == mean):
                hi = mid
            else:
                lo = mid + 1
        return lo

    def spring(self, stiffness: float, lower: float, upper: float) -> float:
        """The shift s with ``s = stiffness * (M(s) - clip(M(s), lower, upper))``: the optimum of a quadratic potential of this group.

        ``s - stiffness * (M(s) - a)`` increases in s, so its root for a = upper (s > 0) or a = lower (s < 0) is a binary search.
        """
        at_zero = self.mean(0.0)
        if lower <= at_zero <= upper:
            return 0.0
        a = upper if at_zero > upper else lower
        points, values = self._points, self._values
        lo, hi = 0, len(points)
        while lo < hi:  # the first breakpoint with points - stiffness (values - a) >= 0
            mid = (lo + hi) // 2
            if points[mid] - stiffness * (values[mid] - a) >= 0.0:
                hi = mid
            else:
                lo = mid + 1
        if lo == 0:
            return stiffness * (values[0] - a)
        if lo == len(points):
            return stiffness * (values[-1] - a)
        p, v = points[lo - 1], values[lo - 1]
        width = points[lo] - p
        slope = (values[lo] - v) / width if width > 0.0 else 0.0
        # s = stiffness (v + slope (s - p) - a)  in coordinates from p, where nothing large cancels
        return p + (stiffness * (v - a) - p) / (1.0 - stiffness * slope)
