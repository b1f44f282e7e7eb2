"""Batches with two groups, sent one by one through fairopt's hard layer: what the claims on batches and the whole look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

import fairopt as fo

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PerBatch:
    """The layer applied to each batch alone. Mutants: ``tolerance_factor`` widens the tolerance, ``pooled`` sends all batches as one, the
    part ``whole`` of each answer is that of all batches sent as one, ``uneven`` moves group 0 farther by that part and group 1 less."""

    tolerance_factor: float = 1.0
    pooled: bool = False
    whole: float = 0.0
    uneven: float = 0.0

    def send(
        self, batches: Sequence[tuple[FloatArray, IntArray]], eps: float, bounds: tuple[float, float] = (0.0, 1.0)
    ) -> list[FloatArray]:
        if self.pooled:
            z, codes = (np.concatenate(part) for part in zip(*batches, strict=True))
            return [self._one(z, codes, eps, bounds)]
        alone = [self._one(z, codes, eps, bounds) for z, codes in batches]
        if not self.whole:
            return alone
        (together,) = replace(self, pooled=True).send(batches, eps, bounds)
        ends = np.cumsum([len(z) for z, _ in batches])[:-1]
        return [(1 - self.whole) * y + self.whole * o for y, o in zip(alone, np.split(together, ends), strict=True)]

    def _one(self, z: FloatArray, codes: IntArray, eps: float, bounds: tuple[float, float]) -> FloatArray:
        notion = fo.DemographicParity("g", tolerance=eps * self.tolerance_factor)
        y = fo.project(torch.from_numpy(z), notion, sensitive_features={"g": codes.tolist()}, groups={"g": [0, 1]}, bounds=bounds)
        return np.asarray(y.numpy() + self.uneven * np.where(codes == 0, 1.0, -1.0) * (y.numpy() - z))


def gap(y: FloatArray, codes: IntArray) -> float | None:
    """The gap of mean scores as ``fo.gaps`` tells it; None where a group is absent."""
    notion = fo.DemographicParity("g", tolerance=0.0)
    table = fo.gaps(torch.from_numpy(y), notion, sensitive_features={"g": codes.tolist()}, groups={"g": [0, 1]})
    return next(iter(table))["gap"]  # type: ignore[no-any-return]


def pooled_gap(sent: Sequence[FloatArray], codes: Sequence[IntArray]) -> float | None:
    return gap(np.concatenate(sent), np.concatenate(codes))


def shares(codes: Sequence[IntArray]) -> list[tuple[float, float]]:
    """w_{t,g}: the share of group g's samples that falls in batch t."""
    counts = np.array([np.bincount(c, minlength=2) for c in codes], dtype=np.float64)  # (T, 2)
    return [(float(a), float(b)) for a, b in counts / counts.sum(axis=0)]
