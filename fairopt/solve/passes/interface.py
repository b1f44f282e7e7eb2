"""The operations that see n numbers. Everything else about a solve works on cells, and does not know where samples live.

Implementations: ``torch_passes`` (any device, any float dtype) and ``compiled_passes`` (numba, on the CPU). Both are of one call's scores
and one problem's cells, box and weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import torch
from torch import Tensor

from fairopt.basics.arrays import Array


@dataclass(frozen=True, eq=False)
class Samples:
    """What a pass needs of a problem: cell (n,) int64 and their number C; lb, ub a float or (n,) float64; weights (n,) float64 or None."""

    cell: Tensor
    cells: int
    lb: float | Tensor
    ub: float | Tensor
    weights: Tensor | None


class Passes(Protocol):
    """Passes over scores (n,). A score is free where it lies strictly between its bounds before rounding."""

    def extent(self) -> tuple[float, float]:
        """The least and the largest score; NaN or infinite where one is."""

    def sums(self, shift: Array) -> tuple[Array, Array]:
        """(C,) sums of clip(z - shift / w, lb, ub) and (C,) sums of 1 / w over the free scores; ``shift`` (C,)."""

    def scores(self, shift: Array) -> tuple[Tensor, Array, Array]:
        """(n,) the same scores rounded to their dtype inside the box; (C,) the sums of these numbers; (C,) as ``sums``. Those that are free
        now are the free ones of the two methods below."""

    def gradient_sums(self, v: Tensor, *, weighted: bool = True) -> Array:
        """(C,) sums over the free scores of v (n,), times 1 / w where ``weighted``."""

    def spread(self, v: Tensor, shift: Array, *, weighted: bool = False) -> Tensor:
        """(n,) v - shift on the free scores (``shift`` times 1 / w where ``weighted``), 0 on the others."""

    def exact_sums(self, y: Tensor) -> list[Fraction]:
        """(C,) the exact sums of scores y (n,), finite."""


def boxed(samples: Samples) -> bool:
    """Whether any bound is finite."""
    return any(isinstance(b, Tensor) or abs(b) != float("inf") for b in (samples.lb, samples.ub))


def as_column(bound: float | Tensor, like: Tensor) -> Tensor:
    """A bound as float64, (n,) or (), where ``like`` is."""
    return torch.as_tensor(bound, dtype=torch.float64, device=like.device)
