"""Passes by compiled loops (``kernels``): float32 and float64 on the CPU."""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.solve.dual.evaluator import round_inward
from fairopt.solve.passes import kernels
from fairopt.solve.passes.interface import Samples, boxed


class CompiledPasses:
    """``Passes`` of scores z (n,), contiguous, float32 or float64, on the CPU; at most 2^16 - 1 cells."""

    def __init__(self, z: Tensor, samples: Samples) -> None:
        self.z, self.samples = z, samples
        self._z: Any = z.numpy()
        self._cell = samples.cell.numpy().astype(np.uint16)
        self._inverse: Array = np.zeros(0) if samples.weights is None else 1.0 / samples.weights.numpy()
        self._uniform = samples.weights is None and not isinstance(samples.lb, Tensor) and not isinstance(samples.ub, Tensor)
        self._open = self._uniform and not boxed(samples)
        self._lb, self._ub = _bound(samples.lb), _bound(samples.ub)
        self._code = self._cell

    @property
    def eps(self) -> float:
        return torch.finfo(self.z.dtype).eps

    def extent(self) -> tuple[float, float]:
        bits = np.int32 if self._z.itemsize == 4 else np.int64
        ends: Any = np.zeros(2, dtype=self._z.dtype)
        kernels.extremes(self._z.view(bits), ends.view(bits))
        return float(ends[0]), float(ends[1])

    def sums(self, shift: Array) -> tuple[Array, Array]:
        sums, free = np.empty(self.samples.cells), np.empty(self.samples.cells)
        if self._open:  # a sum falls along a line: one pass finds it
            base, opened = self._line
            return base - shift * opened, opened
        if self._uniform:
            kernels.clipped_sums(self._z, self._cell, shift, float(self._lb[0]), float(self._ub[0]), sums, free)
        else:
            kernels.weighted_sums(self._z, self._cell, shift, self._lb, self._ub, self._inverse if self._inverse.size else _ONE, sums, free)
        return sums, free

    def largest(self, shift: Array) -> float:
        low, high = float(self._lb[0]), float(self._ub[0])
        lb, ub = (_NONE, _NONE) if self._uniform else (self._lb, self._ub)
        return float(kernels.largest(self._z, self._cell, shift, low, high, lb, ub, self._inverse))

    def scores(self, shift: Array) -> tuple[Tensor, Array, Array]:
        sums, free = np.empty(self.samples.cells), np.empty(self.samples.cells)
        y: Any = np.empty_like(self._z)
        self._code = np.empty_like(self._cell)
        if self._open:
            kernels.shifted(self._z, self._cell, shift, y, sums)
            self._code = self._cell
            free = self._line[1]
        elif self._uniform:
            box = np.array([self._lb[0], self._ub[0]])
            low, high = (round_inward(torch.tensor(b, device="cpu"), self.z.dtype, up=up) for b, up in ((box[0], True), (box[1], False)))
            kernels.clipped(self._z, self._cell, shift, box, torch.stack([low, high]).numpy(), y, self._code, sums, free)
        else:
            inverse = self._inverse if self._inverse.size else _ONE
            kernels.weighted(self._z, self._cell, shift, self._lb, self._ub, inverse, y, self._code, sums, free)
        return torch.from_numpy(y), sums, free

    @cached_property
    def _line(self) -> tuple[Array, Array]:
        """(C,) sums at no shift and (C,) slopes, without box and weights."""
        base = np.empty(self.samples.cells)
        kernels.cell_sums(self._z, self._cell, base)
        return base, np.bincount(self._cell, minlength=self.samples.cells).astype(np.float64)

    def gradient_sums(self, v: Tensor, *, weighted: bool = True) -> Array:
        sums = np.zeros(self.samples.cells + 1)
        kernels.gradient_sums(v.numpy(), self._code, self._inverse if weighted and self._inverse.size else _ONE, sums)
        return sums[:-1]

    def spread(self, v: Tensor, shift: Array, *, weighted: bool = False) -> Tensor:
        out = torch.empty_like(v)
        kernels.spread(v.numpy(), self._code, shift, self._inverse if weighted and self._inverse.size else _ONE, out.numpy(), self._open)
        return out

    def exact_sums(self, y: Tensor) -> list[Fraction]:
        values: Any = y.numpy()
        exponent = np.frexp(values)[1].astype(np.int64)
        least = int(exponent.min(initial=0))
        span = int(exponent.max(initial=0)) - least + 1
        high, low = (np.zeros((span, self.samples.cells), dtype=np.int64) for _ in range(2))
        kernels.exact_bins(values, self._cell, exponent, least, high, low)
        totals = [0] * self.samples.cells
        for k, c in zip(*np.nonzero(high | low), strict=True):
            totals[c] += ((int(high[k, c]) << 27) + int(low[k, c])) << int(k)
        shift = least - 53
        return [Fraction(t << shift) if shift >= 0 else Fraction(t, 1 << -shift) for t in totals]


_ONE, _NONE = np.ones(1), np.zeros(0)


def _bound(bound: float | Tensor) -> Array:
    return np.ascontiguousarray(np.atleast_1d(bound.numpy() if isinstance(bound, Tensor) else np.float64(bound)))
