"""Prices from histograms: the first pass counts the scores of each composition in bins, and a search on them is nearly there.

Where in its bin a score lies matters to a clipped mean only in the two bins that a bound cuts, so that the prices found are off by about
the square of a bin's width, and one or two steps of Newton's method on the data are left.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.errors import UnsupportedError
from fairopt.solve.passes.whole_sums import add_to_histogram

Key = tuple[Any, ...]
BINS = 1 << 12
MOST = 1 << 9  # compositions that are counted in bins: 16 MiB


class Histograms:
    """Counts of scores in BINS bins from ``low`` to ``high`` by composition. What is added comes out the same in any order."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.step = low, (high - low) / BINS
        self._bins: dict[Key, IntArray] = {}
        self._lock = threading.Lock()
        self._full = False

    def add(self, keys: Sequence[Key], scores: Any, code: Any) -> None:
        """Scores (n,) of the compositions ``keys[code]``, code (n,)."""
        if self._full:
            return
        found = np.zeros((len(keys), BINS), dtype=np.int64)
        add_to_histogram(scores, code, self.low, self.step, found)
        with self._lock:
            for key, counts in zip(keys, found, strict=True):
                if key in self._bins:
                    self._bins[key] += counts
                elif counts.any():
                    self._bins[key] = counts.copy()
            self._full = len(self._bins) > MOST

    def by_cell(self, keys: Sequence[Key], cell: IntArray, cells: int) -> Array | None:
        """(cells, BINS) counts, the cell of each of ``keys`` given; None where there were too many compositions."""
        if self._full:
            return None
        counts = np.zeros((cells, BINS))
        for key, c in zip(keys, cell.tolist(), strict=True):
            counts[c] += self._bins[key]
        return counts


class BinnedPasses:
    """``Passes`` over histograms: scores are spread evenly over their bins, and 1 / w is ``mass`` (C,), the mean of its cell."""

    def __init__(self, histograms: Histograms, counts: Array, mass: Array, low: float, high: float, extent: tuple[float, float]) -> None:
        self._edges = histograms.low + histograms.step * np.arange(BINS + 1)
        self._counts, self._mass, self._step = counts, mass, histograms.step
        self._low, self._high, self._extent = low, high, extent
        self.eps = 2.0**-52

    def extent(self) -> tuple[float, float]:
        return self._extent

    def sums(self, shift: Array) -> tuple[Array, Array]:
        sums, slopes = np.zeros(len(shift)), np.zeros(len(shift))
        for c, (counts, mass) in enumerate(zip(self._counts, self._mass, strict=True)):
            edges = self._edges - shift[c] * mass
            # of an antiderivative of clip, whose mean over a bin is a difference of it over the width
            inside = np.minimum(np.maximum(edges, self._low), self._high)
            whole = np.where(edges < self._low, self._low * (edges - 0.5 * self._low), 0.5 * inside * inside)
            whole = np.where(edges > self._high, self._high * (edges - 0.5 * self._high), whole)
            sums[c] = counts @ np.diff(whole) / self._step
            slopes[c] = mass * (counts @ np.diff(inside)) / self._step
        return sums, slopes

    def largest(self, shift: Array) -> float:
        return max(abs(self._low), abs(self._high))

    def scores(self, shift: Array) -> tuple[None, Array, Array]:
        raise UnsupportedError("histograms have no scores")

    def gradient_sums(self, v: Tensor, *, weighted: bool = True) -> Array:
        raise UnsupportedError("histograms have no gradient")

    def spread(self, v: Tensor, shift: Array, *, weighted: bool = False) -> Tensor:
        raise UnsupportedError("histograms have no gradient")

    def exact_sums(self, y: None) -> list[Fraction]:
        raise UnsupportedError("histograms have no scores")
