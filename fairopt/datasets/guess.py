"""Prices from histograms: the first pass counts the scores of each composition in bins, and a search on them is nearly there.

Where in its bin a score lies matters to a clipped mean only in the two bins that a bound cuts, so that the prices found are off by about
the square of a bin's width, and one or two steps of Newton's method on the data are left.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import sqrt
from typing import Any

import numpy as np
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.errors import UnsupportedError
from fairopt.solve.drive import guess
from fairopt.solve.passes import stages
from fairopt.solve.passes.interface import Passes
from fairopt.solve.passes.whole_sums import add_to_histogram
from fairopt.solve.plan import CellPlan

Key = tuple[Any, ...]
BINS = 1 << 12
MOST = 1 << 10  # compositions and classes of weights that are counted in bins: 32 MiB
CLASSES, FIRST = 32, -16  # of 1 / w: two an octave, from 2^(FIRST / 2)
STEPS = 60  # from limits that are wide to those that are asked
NEAR = 1e-6  # of the scores' range: limits so near are those that are asked


class Histograms:
    """Counts of scores in BINS bins from ``low`` to ``high`` by composition, and by how far a price moves them: by class of 1 / w.

    What is added comes out the same in any order.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high, self.step = low, high, (high - low) / BINS
        self._bins: dict[tuple[Key, int], IntArray] = {}
        self._lock = threading.Lock()
        self._full = False

    def add(self, keys: Sequence[Key], scores: Any, code: Any, inverse: Any) -> None:
        """Scores (n,) of the compositions ``keys[code]``, code (n,); inverse (n,) 1 / w, or (0,): all of one class."""
        if self._full:
            return
        place, present = code, [(k, -FIRST) for k in range(len(keys))]
        if inverse.shape[0]:
            classes = np.clip(np.floor(2.0 * np.log2(inverse)).astype(np.int64) - FIRST, 0, CLASSES - 1)
            joint, place = np.unique(code.astype(np.int64) * CLASSES + classes, return_inverse=True)
            present, place = [divmod(j, CLASSES) for j in joint.tolist()], place.reshape(-1)
        if len(present) > MOST:
            self._full = True
            return
        found = np.zeros((len(present), BINS), dtype=np.int64)
        add_to_histogram(scores, place, self.low, self.step, found)
        with self._lock:
            for (k, one), counts in zip(present, found, strict=True):
                if (keys[k], one) in self._bins:
                    self._bins[keys[k], one] += counts
                elif counts.any():
                    self._bins[keys[k], one] = counts.copy()
            self._full = self._full or len(self._bins) > MOST

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def join(self, other: Histograms) -> None:
        """The counts of ``other``, of the same bins, come to these."""
        with self._lock:
            for place, counts in other._bins.items():
                self._bins[place] = self._bins[place] + counts if place in self._bins else counts.copy()
            self._full = self._full or other._full or len(self._bins) > MOST

    def by_cell(self, keys: Sequence[Key], cell: IntArray, *, weighted: bool) -> tuple[IntArray, Array, Array] | None:
        """(h,) the cell of each histogram, (h,) 1 / w in it, about, and (h, BINS) counts, with the cell of each of ``keys``.

        None where there are too many.
        """
        if self._full:
            return None
        found: dict[tuple[int, int], Array] = {}
        of = dict(zip(keys, cell.tolist(), strict=True))
        for key, one in sorted(self._bins, key=lambda place: (of[place[0]], place[1])):
            total = found.setdefault((of[key], one), np.zeros(BINS))
            total += self._bins[key, one]
        owner = np.array([c for c, _ in found], dtype=np.int64)
        mass = np.array([2.0 ** (0.5 * (one + FIRST) + 0.25) if weighted else 1.0 for _, one in found])
        return owner, mass, np.array(list(found.values()))


class BinnedPasses:
    """``Passes`` over histograms as ``Histograms.by_cell`` gives them: scores are spread evenly over their bins."""

    def __init__(
        self, histograms: Histograms, binned: tuple[IntArray, Array, Array], low: float, high: float, extent: tuple[float, float]
    ) -> None:  # fmt: skip
        self._edges = histograms.low + histograms.step * np.arange(BINS + 1)
        self._owner, self._mass, self._counts = binned
        self._step = histograms.step
        self._low, self._high, self._extent = low, high, extent
        self.eps = 2.0**-52

    def extent(self) -> tuple[float, float]:
        return self._extent

    def sums(self, shift: Array) -> tuple[Array, Array]:
        sums, slopes = np.zeros(len(shift)), np.zeros(len(shift))
        for c, mass, counts in zip(self._owner.tolist(), self._mass.tolist(), self._counts, strict=True):
            edges = self._edges - shift[c] * mass
            # of an antiderivative of clip, whose mean over a bin is a difference of it over the width
            inside = np.minimum(np.maximum(edges, self._low), self._high)
            whole = np.where(edges < self._low, self._low * (edges - 0.5 * self._low), 0.5 * inside * inside)
            whole = np.where(edges > self._high, self._high * (edges - 0.5 * self._high), whole)
            sums[c] += counts @ np.diff(whole) / self._step
            slopes[c] += mass * (counts @ np.diff(inside)) / self._step
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


def first_prices(plan: CellPlan, part: Passes[Any]) -> Array | None:
    """Prices (m,) of ``part``, which costs nothing to evaluate; None where none are found.

    Where a search from no prices does not settle, it goes from wide limits to those that are asked, each time from the prices before: to
    half as far, or less far where that does not settle. What it came to is handed on, whether or not it arrived.
    """
    ones = np.ones(plan.cells)
    found = guess(plan, part, ones)
    if found is not None:
        return found
    low, high = part.extent()
    width, factor, start = high - low, 0.5, None
    for _ in range(STEPS):
        trial = width * factor if width * factor > NEAR * (high - low) else 0.0
        found = guess(replace(plan, real=_widened(plan, trial)), part, ones, start)
        if found is None:
            factor = sqrt(factor)
            continue
        width, start = trial, found
        if trial == 0.0:
            break
    return start


def _widened(plan: CellPlan, by: float) -> Array:
    """The numbers of a plan with its limits moved outward."""
    real = plan.real.copy()
    L, R = int(plan.whole[stages.L_]), int(plan.whole[stages.R_])
    first = stages.FLOATS + int(plan.whole[stages.ENTRIES])
    real[first : first + L] -= by
    real[first + L : first + 2 * L + R] += by
    return real
