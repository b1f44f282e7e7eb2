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
from fairopt.solve.passes import binned_kernels
from fairopt.solve.passes.interface import Samples
from fairopt.solve.passes.jit import module
from fairopt.solve.passes.torch_passes import TorchPasses

NOTHING: Array = np.zeros(0)
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
        self._compiled = module() is not None and z.device.type == "cpu" and z.dtype in (torch.float32, torch.float64)
        self._light = Bins((0.0,)) if samples.weights is None else bins_for(1.0 / lightest, total)

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
        if not size < math.inf:
            return y, np.full(self.samples.cells, np.nan), np.full(self.samples.cells, np.nan)
        bins, more = bins_for(size, self.total), bins_for(self.heaviest * (2.0 * max(size, *map(abs, self.ends))) ** 2, self.total)
        rest = self._binned(moves, more, torch.zeros_like(self._cell), 1).reshape(-1)
        sums, slopes, rest = self._joined(bins, self._binned(wide, bins), self._masses(free), b"scores" + shift.tobytes(), rest)
        self.distance = math.sqrt(float(more.total(rest)))
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
        size = self._size(shift)
        if not size < math.inf:  # all ranks have the same shifts, and none sends anything
            return np.full(self.samples.cells, np.nan), np.full(self.samples.cells, np.nan)
        bins, light = bins_for(size, self.total), self._light
        if self._compiled:
            sums, free = np.zeros((len(bins), self.samples.cells)), np.zeros((len(light), self.samples.cells))
            low, high = float(self._lb), float(self._ub)
            inverse = np.zeros(0) if self._inverse is None else self._inverse.numpy()
            anchors = np.array(bins.anchors), np.array(light.anchors)
            binned_kernels.binned_clipped_sums(self.z.numpy(), self._cell.numpy(), shift, low, high, inverse, *anchors, sums, free)
        else:
            x, inside = self._moved(shift)
            sums, free = self._binned(x, bins), self._masses(inside)
        return self._joined(bins, sums, free, b"sums" + shift.tobytes())[:2]

    def _size(self, shift: Array) -> float:
        """A bound of the absolute scores at these shifts: from the box, where it is closed, and from how far prices move the lightest."""
        far = max(map(abs, self.ends)) + float(np.abs(shift).max(initial=0.0)) / self.lightest
        lb, ub = float(self._lb), float(self._ub)
        return min(max(abs(lb), abs(ub)), max(far, lb, -ub)) * _ROUNDED

    def _joined(self, bins: Bins, sums: Array, free: Array, about: bytes, rest: Array = NOTHING) -> tuple[Array, Array, Array]:
        """One message: the cells' sums, their slopes, both from their parts (parts, C), and the numbers ``rest``, over all ranks."""
        found = self.ranks.add(np.concatenate([sums.reshape(-1), free.reshape(-1), rest]), about)
        a, b = sums.size, sums.size + free.size
        return bins.total(found[:a].reshape(sums.shape)), bins.total(found[a:b].reshape(free.shape)), found[b:]

    def _masses(self, free: Tensor) -> Array:
        """(parts, C) of the free scores (n,) bool: their number, or the sum of 1 / w."""
        if self._inverse is None:
            return self._summed(free.to(torch.float64))[None]
        return self._binned(free * self._inverse, self._light)

    def _binned(self, x: Tensor, bins: Bins, cell: Tensor | None = None, cells: int = 0) -> Array:
        """(parts, C) exact sums of the parts of x (n,) float64 over this rank's cells, or over others."""
        cell, cells = (self._cell, self.samples.cells) if cell is None else (cell, cells)
        if self._compiled:
            sums = np.zeros((len(bins), cells))
            binned_kernels.binned_sums(x.numpy(), cell.numpy(), np.array(bins.anchors), sums)
            return sums
        zero = torch.zeros(cells, dtype=torch.float64, device=x.device)
        return np.stack([zero.index_add(0, cell, part).cpu().numpy() for part in bins.cut(x)])
