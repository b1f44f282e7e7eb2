"""The operations that see n numbers. Everything else about a solve works on cells, and does not know where samples live.

Implementations: ``torch_passes`` (any device, any float dtype) and ``compiled_passes`` (numba, on the CPU). Both are of one call's scores
and one problem's cells, box and weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, TypeVar

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


Y = TypeVar("Y")


class Passes(Protocol[Y]):
    """Passes over scores z: all that ``fairopt.solve.drive`` asks of the samples, wherever they lie. Y: what it hands on as the scores
    returned, a tensor (n,) or whatever stands for one; it never looks inside.

    The map from prices to scores is the implementation's. Here it is y = clip(z - shift / w, lb, ub) with the shift of the sample's cell.
    Another may stand in its place where each y falls, or stays, as the shift of its cell rises, by at most 1 / w times that, and the
    plan's box holds every y. "Slopes" are how fast a cell's sum falls: the sums of 1 / w over the free scores here, a score being free
    where it lies strictly between its bounds before rounding. Gradients count with the slope of each sample.
    """

    @property
    def eps(self) -> float:
        """The distance from 1 to the next number of the dtype that scores are rounded to."""

    def extent(self) -> tuple[float, float]:
        """The least and the largest score; NaN or infinite where one is."""

    def sums(self, shift: Array) -> tuple[Array, Array]:
        """(C,) sums of y, in float64 before rounding, and (C,) slopes there; ``shift`` (C,)."""

    def largest(self, shift: Array) -> float:
        """The largest absolute y at these shifts, or a bound of it that is not much larger."""

    def scores(self, shift: Array) -> tuple[Y, Array, Array]:
        """y (n,) rounded to the dtype, inside the box; (C,) the sums of these numbers; (C,) slopes. The slopes of this call are those of
        the two methods below."""

    def gradient_sums(self, v: Tensor, *, weighted: bool = True) -> Array:
        """(C,) sums over the free scores of v (n,), times 1 / w where ``weighted``."""

    def spread(self, v: Tensor, shift: Array, *, weighted: bool = False) -> Tensor:
        """(n,) v - shift on the free scores (``shift`` times 1 / w where ``weighted``), 0 on the others."""

    def exact_sums(self, y: Y) -> list[Fraction]:
        """(C,) the exact sums of scores y, finite."""


def boxed(samples: Samples) -> bool:
    """Whether any bound is finite."""
    return any(isinstance(b, Tensor) or abs(b) != float("inf") for b in (samples.lb, samples.ub))


def as_column(bound: float | Tensor, like: Tensor) -> Tensor:
    """A bound as float64, (n,) or (), where ``like`` is."""
    return torch.as_tensor(bound, dtype=torch.float64, device=like.device)
