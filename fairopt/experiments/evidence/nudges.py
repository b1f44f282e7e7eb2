"""Trainings that rounding decides: the same cell with its features an ulp or a few off.

Networks that are trained inside the KL layer under equalized odds keep another epoch, or take another course, with the last bit of a
feature. What such a cell's figures are depends on the machine, on any version of any library, and on nothing that a reader could name.
They are made again several times, then, and the stored ones have to be among those, or no farther from them than those are from one
another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import torch

from fairopt.experiments.data.tabular import Part
from fairopt.experiments.evidence.parts import Cut

NUDGES = (1, -1, 2, -2, 3, -3)  # ulps
LEAST = 4  # runs that a spread is taken from
Figures = Mapping[tuple[str, str, str], Sequence[float]]
"""(row, serving, output) -> its figures."""


def nudged(own: Cut, ulps: int) -> Cut:
    """The cut with every feature so many units in the last place of 1 larger."""

    def moved(part: Part) -> Part:
        return replace(part, x=part.x * (1.0 + ulps * torch.finfo(part.x.dtype).eps))

    fit = replace(own.fit, train=moved(own.fit.train), validation=moved(own.fit.validation), held_out=moved(own.fit.held_out))
    return replace(own, fit=fit, validation=moved(own.validation))


def apart(one: Figures, other: Figures) -> list[float]:
    """How far each figure of the same outputs is from the other one."""
    return [abs(a - b) for output, figures in one.items() for a, b in zip(figures, other[output], strict=True)]


def scattered(runs: Sequence[Figures], stored: Figures) -> tuple[bool, float, float]:
    """Whether stored figures are no farther from the nearest of the runs than two of these are from one another; both distances, as the
    largest of any figure. Fewer than LEAST runs, and NaN, are no spread."""

    def most(one: Figures, other: Figures) -> float:
        found = apart(one, other)
        return max(found) if found and all(d == d for d in found) else float("inf")

    nearest = min((most(run, stored) for run in runs), default=float("inf"))
    spread = [most(a, b) for a, b in combinations(runs, 2)]
    widest = max((d for d in spread if d < float("inf")), default=0.0)
    return len(runs) >= LEAST and nearest <= widest, nearest, widest
