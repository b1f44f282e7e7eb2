"""Passes over the ranks of a process group: each goes over its own samples, and one message of a few numbers a cell joins the sums.

The sums are ``basics.binned_sums``: exact in their parts, so that neither the number of ranks nor who holds which sample changes a bit.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.binned_sums import Bins, bins_for
from fairopt.basics.ranks import Ranks
from fairopt.solve.passes.interface import Samples
from fairopt.solve.passes.torch_passes import TorchPasses

_ROUNDED = 1.0 + 2.0**-6  # what rounding to bfloat16 may add
TERMS = 8  # half ulps of the largest score, a sample, by which a binned sum may be off


class RankPasses(TorchPasses):
    """``Passes`` of the scores z (n,) of all ranks, n being this one's share, 0 among them. Scores stay where they are.

    The box is one for all (``samples.lb``, ``samples.ub`` numbers).

    ends: the least and the largest score of all; total: samples of all; lightest, heaviest: the least and the largest weight of all
    (``samples.weights`` on every rank or on none). The scores' sum of squared moves comes with them: ``distance``.
    """

    def __init__(
        self, z: Tensor, samples: Samples, ranks: Ranks, ends: tuple[float, float], total: int, lightest: float = 1.0, heaviest: float = 1.0
    ) -> None:
        super().__init__(z, samples)
        self.ranks, self.ends, self.total = ranks, ends, total
        self.lightest, self.heaviest = lightest, heaviest
        self.distance = math.nan

    def extent(self) -> tuple[float, float]:
        return self.ends

    def largest(self, shift: Array) -> float:
        x = self._moved(shift)[0]
        own = float(x.abs().max()) if x.shape[0] else 0.0
        return float(self.ranks.most(np.array([own if own == own else math.inf]), b"largest")[0])

    def scores(self, shift: Array) -> tuple[Tensor, Array, Array]:
        y, free = self._rounded(shift)
        wide = y.to(torch.float64)
        moves = (wide - self.z.to(torch.float64)).square()
        if self.samples.weights is not None:
            moves = moves * self.samples.weights.to(moves.device)
        size = self._size(shift)
        most = self.heaviest * (2.0 * max(size, *map(abs, self.ends))) ** 2
        sums, slopes, rest = self._reduced(wide, free, size, b"scores" + shift.tobytes(), (moves, most))
        self.distance = math.sqrt(rest)
        return y, sums, slopes

    def gradient_sums(self, v: Tensor, *, weighted: bool = True) -> Array:
        masked = torch.where(self._free, v.to(torch.float64), 0.0)
        if weighted and self._inverse is not None:
            masked = masked * self._inverse
        own = float(masked.abs().max()) if masked.shape[0] else 0.0
        size = float(self.ranks.most(np.array([own if own == own else math.inf]), b"gradient")[0])
        if not size < math.inf:  # what is no number anywhere is none for all
            return np.full(self.samples.cells, np.nan)
        bins = bins_for(size, self.total)
        return bins.total(self.ranks.add(self._binned(masked, bins).reshape(-1), b"gradient sums").reshape(len(bins), -1))

    def exact_sums(self, y: Tensor) -> list[Fraction]:
        """Whole numbers travel, so that the sums are exact for all."""
        own = super().exact_sums(y)
        parts = self.ranks.objects([(s.numerator, s.denominator) for s in own])
        return [sum((Fraction(*part[c]) for part in parts), Fraction(0)) for c in range(self.samples.cells)]

    def _evaluated(self, shift: Array) -> tuple[Array, Array]:
        x, free = self._moved(shift)
        return self._reduced(x, free, self._size(shift), b"sums" + shift.tobytes())[:2]

    def _size(self, shift: Array) -> float:
        """A bound of the absolute scores at these shifts: from the box, where it is closed, and from how far prices move the lightest."""
        far = max(map(abs, self.ends)) + float(np.abs(shift).max(initial=0.0)) / self.lightest
        lb, ub = float(self._lb), float(self._ub)
        return min(max(abs(lb), abs(ub)), max(far, lb, -ub)) * _ROUNDED

    def _reduced(
        self, x: Tensor, free: Tensor, size: float, about: bytes, extra: tuple[Tensor, float] | None = None
    ) -> tuple[Array, Array, float]:
        """One message: the cells' sums of x (n,), their slopes, and the sum of ``extra`` (n,), which is at most its second number each."""
        cells, bins = self.samples.cells, bins_for(size, self.total)
        if not size < math.inf:  # all ranks have the same shifts, and none sends anything
            return np.full(cells, np.nan), np.full(cells, np.nan), math.nan
        parts = [self._binned(x, bins)]
        light = bins_for(1.0 / self.lightest, self.total)
        if self._inverse is None:
            parts.append(self._summed(free.to(torch.float64))[None])
        else:
            parts.append(self._binned(free * self._inverse, light))
        message = [p.reshape(-1) for p in parts]
        more = Bins(())
        if extra is not None:
            more = bins_for(extra[1], self.total)
            message.append(np.asarray(more.cut(extra[0]).sum(1).cpu().numpy()))
        found = self.ranks.add(np.concatenate(message), about)
        a, b = len(bins) * cells, len(found) - len(more)
        slopes = found[a:b].reshape(-1, cells)
        rest = float(more.total(found[b:])) if len(more) else 0.0
        return bins.total(found[:a].reshape(-1, cells)), light.total(slopes), rest

    def _binned(self, x: Tensor, bins: Bins) -> Array:
        """(parts, C) exact sums of the parts of x (n,) over this rank's cells."""
        return np.stack([self._summed(part) for part in bins.cut(x)])
