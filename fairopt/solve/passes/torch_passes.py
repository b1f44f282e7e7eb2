"""Passes in torch: any device and any float dtype, float64 sums."""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.exact_sums import exact_cell_sums
from fairopt.solve.dual.evaluator import round_inward
from fairopt.solve.passes.interface import Samples, as_column, boxed


class TorchPasses:
    """``Passes`` of scores z (n,). Sums are taken cell by cell in the order of the samples on the CPU: the same bits on every call."""

    def __init__(self, z: Tensor, samples: Samples) -> None:
        self.z, self.samples = z, samples
        self._cell = samples.cell.to(z.device)
        self._lb, self._ub = as_column(samples.lb, z), as_column(samples.ub, z)
        self._inverse = None if samples.weights is None else 1.0 / samples.weights.to(z.device)
        self._free = torch.ones_like(z, dtype=torch.bool)

    @property
    def eps(self) -> float:
        return torch.finfo(self.z.dtype).eps

    def extent(self) -> tuple[float, float]:
        low, high = torch.aminmax(self.z)
        return float(low), float(high)

    def sums(self, shift: Array) -> tuple[Array, Array]:
        if not boxed(self.samples):  # a sum falls along a line: one pass finds it
            base, opened = self._line
            return base - shift * opened, opened
        return self._evaluated(shift)

    def largest(self, shift: Array) -> float:
        low, high = torch.aminmax(self._moved(shift)[0])
        return max(abs(float(low)), abs(float(high)))

    def scores(self, shift: Array) -> tuple[Tensor, Array, Array]:
        y, free = self._rounded(shift)
        return y, self._summed(y.to(torch.float64)), self._mass(free)

    def gradient_sums(self, v: Tensor, *, weighted: bool = True) -> Array:
        masked = torch.where(self._free, v.to(torch.float64), 0.0)
        return self._summed(masked * self._inverse if weighted and self._inverse is not None else masked)

    def spread(self, v: Tensor, shift: Array, *, weighted: bool = False) -> Tensor:
        far = torch.from_numpy(shift).to(self.z.device)[self._cell]
        if weighted and self._inverse is not None:
            far = far * self._inverse
        return torch.where(self._free, v.to(torch.float64) - far, 0.0).to(v.dtype)

    def exact_sums(self, y: Tensor) -> list[Fraction]:
        return exact_cell_sums(y.detach().to("cpu", torch.float64).numpy(), self.samples.cell.numpy(), self.samples.cells)

    @cached_property
    def _line(self) -> tuple[Array, Array]:
        """(C,) sums at no shift and (C,) slopes, without a box."""
        return self._evaluated(np.zeros(self.samples.cells))

    def _evaluated(self, shift: Array) -> tuple[Array, Array]:
        x, free = self._moved(shift)
        return self._summed(x), self._mass(free)

    def _rounded(self, shift: Array) -> tuple[Tensor, Tensor]:
        """(n,) the scores that are returned, and which are free, before rounding and from now on."""
        x, self._free = self._moved(shift)
        dtype = self.z.dtype
        low, high = round_inward(self._lb, dtype, up=True), round_inward(self._ub, dtype, up=False)
        return torch.minimum(torch.maximum(x.to(dtype), low), high), self._free

    def _moved(self, shift: Array) -> tuple[Tensor, Tensor]:
        """(n,) float64 scores at these shifts, and which are free."""
        far = torch.from_numpy(shift).to(self.z.device)[self._cell]
        x = self.z.to(torch.float64) - (far if self._inverse is None else far * self._inverse)
        return torch.minimum(torch.maximum(x, self._lb), self._ub), (x > self._lb) & (x < self._ub)

    def _mass(self, free: Tensor) -> Array:
        return self._summed(free.to(torch.float64) if self._inverse is None else free * self._inverse)

    def _summed(self, x: Tensor) -> Array:
        total = torch.zeros(self.samples.cells, dtype=torch.float64, device=x.device).index_add_(0, self._cell, x)
        return np.asarray(total.cpu().numpy())
