"""Passes over shards: each streams what was kept of them, a few threads at a time, and adds whole numbers, so that no order matters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.errors import UnsupportedError
from fairopt.datasets.crew import Crew, Heard, counted
from fairopt.datasets.guess import Histograms
from fairopt.datasets.kept import Rows
from fairopt.datasets.survey import Survey
from fairopt.solve.passes import kernels
from fairopt.solve.passes.whole_sums import UNIT, count_at_least, exact_sums, joined, scale_of, squared_distance, whole_clipped_sums

T = TypeVar("T")


@dataclass(frozen=True)
class Box:
    """One box for all rows, and its ends in the dtype of the scores."""

    low: float
    high: float
    inside: tuple[float, float]

    @property
    def open(self) -> bool:
        return self.low == -np.inf and self.high == np.inf


def fair_scores(rows: Rows, shift: Array, box: Box) -> tuple[Any, Array]:
    """y (n,) in the dtype of the scores, inside the box, and (K,) the slopes; ``shift`` (K,) of each code.

    The one function that makes scores: the pass that proves them and the pass that writes them call it.
    """
    code, z, inverse, _ = rows
    K = shift.shape[0]
    y, sums, slopes = np.empty_like(z), np.zeros(K), np.zeros(K)
    free: Any = np.empty_like(code)
    if inverse.shape[0]:
        bounds = np.array([box.low]), np.array([box.high])
        kernels.weighted(z, code, shift, *bounds, inverse, y, free, sums, slopes)
    elif box.open:
        kernels.shifted(z, code, shift, y, sums)
        slopes = np.bincount(code, minlength=K).astype(np.float64)
    else:
        kernels.clipped(z, code, shift, np.array([box.low, box.high]), np.array(box.inside, dtype=z.dtype), y, free, sums, slopes)
    return y, slopes


@dataclass(frozen=True, eq=False)
class Proved:
    """The scores at one shift, as sums: exact ones (K,) of each composition in units of 2^-UNIT, and of each shard; decisions (K,);
    the square of the distance."""

    shift: Array
    sums: list[int]
    by_shard: list[int]
    chosen: IntArray
    squared: float


class ShardPasses:
    """``Passes`` over what a survey kept. ``cell`` (K,): the cell of each composition; their number ``cells``."""

    def __init__(
        self, survey: Survey, cell: IntArray, cells: int, box: Box, crew: Crew, threshold: float, told: Callable[[str, int], None]
    ) -> None:  # fmt: skip
        self._survey, self._cell, self._cells, self._box = survey, cell, cells, box
        self._crew, self._told = crew, told
        self._cell_of = [cell[survey.places(one.tally)] for one in survey.seen]
        self.eps = 2.0**-23 if survey.single else 2.0**-52
        self._threshold = threshold
        self.taken = 1  # the survey was one

    def extent(self) -> tuple[float, float]:
        return self._survey.least, self._survey.largest

    def largest(self, shift: Array) -> float:
        survey, box = self._survey, self._box
        pull = float(np.abs(shift).max(initial=0.0)) / (survey.lightest if survey.weighted else 1.0)
        forced = max(box.low, -box.high, 0.0)
        return min(max(abs(box.low), abs(box.high)), max(max(abs(survey.least), abs(survey.largest)) + pull, forced))

    def _begin(self, words: str) -> None:
        self.taken += 1
        self._told(words, self.taken)

    def _run(self, words: str, function: Callable[..., T], common: tuple[Any, ...]) -> list[T]:
        """A pass: ``function`` of every shard's rows, ``common`` and the cells of its compositions."""
        self._begin(words)
        return self._crew.each(function, common, [(cell,) for cell in self._cell_of])

    @cached_property
    def _line(self) -> tuple[Array, Array]:
        """(C,) sums at no shift and (C,) slopes, which without a box say all."""
        survey = self._survey
        masses = survey.masses if survey.weighted else [int(c) << UNIT for c in survey.counts]
        return floats(survey.scores, self._cell, self._cells), floats(masses, self._cell, self._cells)

    def sums(self, shift: Array) -> tuple[Array, Array]:
        if self._box.open:
            base, opened = self._line
            return base - shift * opened, opened
        survey, C = self._survey, self._cells
        scale = scale_of(self.largest(shift))
        mass_scale = scale_of(1.0 / survey.lightest) if survey.weighted else 1.0

        common = (shift, C, self._box, scale, mass_scale)
        totals, slopes = [0] * C, [0] * C
        for high, low, high_free, low_free in self._run("looking for prices", sums_of, common):
            totals = [a + b for a, b in zip(totals, joined(high, low), strict=True)]
            slopes = [a + b for a, b in zip(slopes, joined(high_free, low_free), strict=True)]
        return _scaled(totals, scale), _scaled(slopes, mass_scale)

    def count(self, histograms: Histograms) -> None:
        """A pass that counts scores in bins, where the survey could not know from where to where."""

        self._begin("counting scores")
        own = [(list(one.tally.keys),) for one in self._survey.seen]
        for found in self._crew.each(counted, (histograms.low, histograms.high), own):
            histograms.join(found)

    def scores(self, shift: Array) -> tuple[Proved, Array, Array]:
        survey, cells = self._survey, self._cells

        found = self._run("proving the scores", proof_of, (shift, self._box, self._threshold))
        K = len(survey.keys)
        total, chosen = [0] * K, np.zeros(K, dtype=np.int64)
        slopes, squared = np.zeros(cells), 0.0
        for one, (sums, free, ones, part) in zip(survey.seen, found, strict=True):
            for k, j in enumerate(survey.places(one.tally).tolist()):
                total[j] += sums[k]
                chosen[j] += ones[k]
                slopes[self._cell[j]] += free[k]
            squared += part
        proved = Proved(shift.copy(), total, [sum(sums) for sums, *_ in found], chosen, squared)
        return proved, floats(total, self._cell, cells), slopes

    def exact_sums(self, y: Proved) -> list[Fraction]:
        totals = [0] * self._cells
        for c, part in zip(self._cell.tolist(), y.sums, strict=True):
            totals[c] += part
        return [Fraction(t, 1 << UNIT) for t in totals]

    def gradient_sums(self, v: Tensor, *, weighted: bool = True) -> Array:
        raise UnsupportedError("scores of a data set on disk carry no gradient")

    def spread(self, v: Tensor, shift: Array, *, weighted: bool = False) -> Tensor:
        raise UnsupportedError("scores of a data set on disk carry no gradient")


def sums_of(
    rows: Iterable[Rows], shift: Array, cells: int, box: Box, scale: float, mass_scale: float, cell: IntArray, heard: Heard
) -> tuple[IntArray, ...]:  # fmt: skip
    """(cells,) halves of the whole sums of a shard's clipped scores, and of their slopes; ``cell`` (K,) of its compositions."""
    own: list[IntArray] = [np.zeros(len(cell), dtype=np.int64) for _ in range(4)]
    moved = shift[cell]
    for part in rows:
        whole_clipped_sums(part.scores, part.code, moved, box.low, box.high, scale, part.inverse, mass_scale, *own)
        heard(part.code.shape[0])
    found = tuple(np.zeros(cells, dtype=np.int64) for _ in own)
    for total, more in zip(found, own, strict=True):
        np.add.at(total, cell, more)
    return found


def proof_of(
    rows: Iterable[Rows], shift: Array, box: Box, threshold: float, cell: IntArray, heard: Heard
) -> tuple[list[int], Array, IntArray, float]:  # fmt: skip
    """Of a shard's scores by composition (K,): exact sums, slopes, decisions; and the square of the distance."""
    K, moved = len(cell), shift[cell]
    sums, slopes, chosen, squared = [0] * K, np.zeros(K), np.zeros(K, dtype=np.int64), 0.0
    for part in rows:
        y, free = fair_scores(part, moved, box)
        sums = [a + b for a, b in zip(sums, exact_sums(y, part.code, K), strict=True)]
        slopes += free
        count_at_least(y, part.code, threshold, chosen)
        squared += squared_distance(part.scores, y, part.inverse)
        heard(part.code.shape[0])
    return sums, slopes, chosen, squared


def _scaled(totals: Sequence[int], scale: float) -> Array:
    return np.array([float(Fraction(t) / Fraction(scale)) for t in totals], dtype=np.float64)


def floats(sums: Sequence[int], cell: IntArray, cells: int) -> Array:
    """(cells,) sums (K,) in units of 2^-UNIT added by cell, rounded once."""
    totals = [0] * cells
    for c, part in zip(cell.tolist(), sums, strict=True):
        totals[c] += part
    return np.array([float(Fraction(t, 1 << UNIT)) for t in totals], dtype=np.float64)
