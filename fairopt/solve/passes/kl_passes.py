"""``Passes`` by a Kullback-Leibler divergence: what ``fairopt.solve.drive`` asks of samples whose scores are ``kl_map`` of their shifts.

The slopes are sums of y (1 - y) / w, or y / w, and change with the shift. Scores that ``drive`` certifies with these are the nearest by the
divergence. A shift beyond TOP in size counts as TOP, and a value beyond HUGE as HUGE: no score between them tells the difference.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.exact_sums import exact_cell_sums
from fairopt.contract.problem import Distance
from fairopt.solve.dual.evaluator import round_inward
from fairopt.solve.passes import kl_kernels
from fairopt.solve.passes.compiled_passes import CompiledPasses
from fairopt.solve.passes.interface import Samples, as_column
from fairopt.solve.passes.kl_kernels import HUGE, TOP

NOTHING: Array = np.zeros(0)


class TorchKlPasses:
    """Of scores z (n,), on any device and of any float dtype. Sums are float64, cell by cell in the order of the samples."""

    def __init__(self, z: Tensor, samples: Samples, distance: Distance) -> None:
        self.z, self.samples, self.kind = z, samples, distance
        self._cell = samples.cell.to(z.device)
        self._lb, self._ub = as_column(samples.lb, z), as_column(samples.ub, z)
        self._inverse = None if samples.weights is None else 1.0 / samples.weights.to(z.device)
        self._shift = np.zeros(samples.cells)

    @property
    def eps(self) -> float:
        return torch.finfo(self.z.dtype).eps

    def extent(self) -> tuple[float, float]:
        low, high = torch.aminmax(self.z)
        return float(low), float(high)

    def sums(self, shift: Array) -> tuple[Array, Array]:
        y, falls, _ = self._moved(shift)
        return self._summed(y), self._summed(falls)

    def largest(self, shift: Array) -> float:
        return float(self._moved(shift)[0].max())

    def scores(self, shift: Array) -> tuple[Tensor, Array, Array]:
        x, falls, _ = self._moved(shift)
        self._shift = shift.copy()
        dtype = self.z.dtype
        low, high = round_inward(self._lb, dtype, up=True), round_inward(self._ub, dtype, up=False)
        y = torch.minimum(torch.maximum(x.to(dtype), low), high)
        return y, self._summed(y.to(torch.float64)), self._summed(falls)

    def gradient_sums(self, v: Tensor, *, weighted: bool = True) -> Array:
        _, falls, follows = self._moved(self._shift)
        return self._summed(v.to(torch.float64) * (falls if weighted else follows))

    def spread(self, v: Tensor, shift: Array, *, weighted: bool = False) -> Tensor:
        _, falls, follows = self._moved(self._shift)
        far, wide = torch.from_numpy(shift).to(self.z.device)[self._cell], v.to(torch.float64)
        end = torch.finfo(v.dtype).max
        out = follows * wide - falls * far if weighted else follows * (wide - far)
        return out.clamp(-end, end).to(v.dtype)

    def exact_sums(self, y: Tensor) -> list[Fraction]:
        return exact_cell_sums(y.detach().to("cpu", torch.float64).numpy(), self.samples.cell.numpy(), self.samples.cells)

    def _moved(self, shift: Array) -> tuple[Tensor, Tensor, Tensor]:
        """(n,) float64 each: y at these shifts, -dy / d(A'p) and dy / dz, 0 where clamped."""
        s = torch.from_numpy(shift).to(self.z.device)[self._cell]
        s = s if self._inverse is None else s * self._inverse
        z = self.z.to(torch.float64)
        up = torch.exp(-s.clamp(-TOP, TOP))
        if self.kind == "kl":
            stays = (z <= 0.0) | (z >= 1.0)
            rest = 1.0 - z
            total = z * up + rest
            x = torch.where(stays, z, z * up / total)
            falls, follows = x * (rest / total), (up / total) / total
        else:
            stays = z <= 0.0
            x = torch.where(stays, z, z * up)
            falls, follows = x, up
        ub = self._ub.clamp(max=HUGE)
        free = (x > self._lb) & (x < ub)
        falls = torch.where(free & ~stays, falls, 0.0)
        y = torch.minimum(torch.maximum(x, self._lb), ub)
        return y, falls if self._inverse is None else falls * self._inverse, torch.where(free | stays, follows, 0.0)

    def _summed(self, x: Tensor) -> Array:
        total = torch.zeros(self.samples.cells, dtype=torch.float64, device=x.device).index_add_(0, self._cell, x)
        return np.asarray(total.cpu().numpy())


class CompiledKlPasses(CompiledPasses):
    """Of scores z (n,), contiguous, float32 or float64, on the CPU, with one box for all; at most 2^16 - 1 cells."""

    def __init__(self, z: Tensor, samples: Samples, distance: Distance) -> None:
        super().__init__(z, samples)
        self._k = 1.0 if distance == "kl" else 0.0
        self._box = float(self._lb[0]), float(self._ub[0])
        self._shift = np.zeros(samples.cells)

    def sums(self, shift: Array) -> tuple[Array, Array]:
        sums, slopes = np.empty(self.samples.cells), np.empty(self.samples.cells)
        kl_kernels.kl_sums(self._k, self._z, self._cell, shift, *self._box, self._inverse, sums, slopes)
        return sums, slopes

    def largest(self, shift: Array) -> float:
        return float(kl_kernels.kl_largest(self._k, self._z, self._cell, shift, *self._box, self._inverse))

    def scores(self, shift: Array) -> tuple[Tensor, Array, Array]:
        sums, slopes = np.empty(self.samples.cells), np.empty(self.samples.cells)
        y: Any = np.empty_like(self._z)
        self._shift = shift.copy()
        box = torch.tensor(self._box, dtype=torch.float64, device="cpu")
        ends = torch.stack([round_inward(box[0], self.z.dtype, up=True), round_inward(box[1], self.z.dtype, up=False)]).numpy()
        kl_kernels.kl_scores(self._k, self._z, self._cell, shift, box.numpy(), ends, self._inverse, y, sums, slopes)
        return torch.from_numpy(y), sums, slopes

    def gradient_sums(self, v: Tensor, *, weighted: bool = True) -> Array:
        sums = np.zeros(self.samples.cells)
        kl_kernels.kl_gradient_sums(self._k, v.numpy(), self._z, self._cell, self._shift, *self._box, self._inverse, not weighted, sums)
        return sums

    def spread(self, v: Tensor, shift: Array, *, weighted: bool = False) -> Tensor:
        out = torch.empty_like(v)
        kl_kernels.kl_spread(
            self._k, v.numpy(), self._z, self._cell, self._shift, shift, *self._box, self._inverse, weighted, torch.finfo(v.dtype).max,
            out.numpy(),
        )  # fmt: skip
        return out
