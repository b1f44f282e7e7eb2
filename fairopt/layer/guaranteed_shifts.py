"""Shifts of a frozen layer that hold for people: targets from a few calibration rows, levels from the others.

``levels`` has the theorem. A group's rule is y = clip(z - s, lb, ub), whose mean falls as s grows. Two ways to set s to a target t, of
which the few rows choose the one with the smaller margin:

    means   the level rows' mean of y is t. The variance of y is at most that of z, for a clipped shift draws scores together; that of z is
            bounded from the few rows, for scores that lie in the box before they are shifted, as probabilities do
    ranks   s is the k-th largest z - v, with v drawn evenly over the box: a score y in the box exceeds v with a chance that is y itself, so
            that P(z - v > s) is the mean of y, exactly of law Beta(k, n + 1 - k)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Literal

import numpy as np
import torch

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.basics.errors import UnsupportedError
from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt.layer.levels import (
    Law,
    MeanLaw,
    RankLaw,
    Tight,
    Wanted,
    design_rows,
    failure,
    least_excess,
    rows_needed,
    tightest,
    too_few,
    variance_bound,
    wanted,
)

OnFew = Literal["error", "tighten as far as possible"]
OF_VARIANCE = 0.05  # of the risk is spent on the variances


@dataclass(frozen=True, eq=False)
class Calibration:
    """z (n,) scores; key (n,) their group, with names; box [lb, ub]; problem: the notion, compiled.

    project: (rows, margin) -> (rows,) projected scores of these rows alone, with limits that are ``margin`` stricter
    """

    z: Array
    key: IntArray
    names: Sequence[str]
    lb: float
    ub: float
    natural: tuple[float, float]
    problem: ProjectionProblem
    project: Callable[[IntArray, float], Array]


def guaranteed_shifts(data: Calibration, guarantee: float, on_few: OnFew, generator: np.random.Generator) -> tuple[dict[int, float], float]:
    """Group -> shift, for the groups that the notion reads, and the excess over the limits that is promised (0: none).

    InputError where the rows are too few, UnsupportedError for open boxes and notions that ``levels.wanted`` refuses.
    """
    if not isfinite(data.ub - data.lb):
        raise UnsupportedError("freeze: a guarantee needs scores with two bounds; give bounds= to the layer")
    cell = np.asarray(data.problem.rows.cell.numpy())
    rows = wanted(data.problem, data.key, "freeze")
    if not len(rows.cells):
        return {}, 0.0
    design = design_rows(cell, generator)
    groups = [int(data.key[cell == c][0]) for c in rows.cells]
    for c, g in zip(rows.cells, groups, strict=True):
        if not design[cell == c].any():
            raise too_few("freeze", guarantee, data.names[g], int((cell == c).sum()), None)
    found = _Targets(data, rows, design, guarantee)
    best = found.best()
    if best.failure > 1.0 - guarantee and on_few == "error":
        raise found.few(groups)
    excess = 0.0 if best.failure <= 1.0 - guarantee else found.excess(best)
    shifts = {}
    for c, g, law in zip(rows.cells, groups, best.laws, strict=True):
        z = data.z[~design & (cell == c)]
        shifts[g] = _at_mean(z, law.target, data) if isinstance(law, MeanLaw) else _at_rank(z, law, data, generator)
    return shifts, excess


class _Targets:
    """The search for the least margin, by means and by ranks."""

    def __init__(self, data: Calibration, rows: Wanted, design: BoolArray, guarantee: float) -> None:
        self.data, self.rows, self.guarantee, self.alpha = data, rows, guarantee, 1.0 - guarantee
        cell = np.asarray(data.problem.rows.cell.numpy())
        self.chosen = np.flatnonzero(design)
        self.members = [np.flatnonzero(cell[design] == c) for c in rows.cells]  # positions among the design rows
        self.counts = np.array([(~design & (cell == c)).sum() for c in rows.cells], dtype=np.int64)
        each = OF_VARIANCE * self.alpha / len(rows.cells)
        self.variances = [self._variance(data.z[self.chosen[m]], each) for m in self.members]
        self.known: dict[float, Array] = {}

    def _variance(self, z: Array, delta: float) -> float:
        low, high = self.data.natural
        if len(z) < 2 or not ((z >= low) & (z <= high)).all():
            return (self.data.ub - self.data.lb) ** 2 / 4
        first = max(len(z) // 4, 1)
        return min(variance_bound(z[first:], float(z[:first].mean()), low, high, delta), (self.data.ub - self.data.lb) ** 2 / 4)

    def at(self, margin: float) -> Array:
        if margin not in self.known:
            y = self.data.project(self.chosen, margin)
            self.known[margin] = np.array([y[m].mean() for m in self.members])
        return self.known[margin]

    def means(self, targets: Array, counts: IntArray | None = None) -> list[Law]:
        sizes = (self.counts if counts is None else counts).tolist()
        return [MeanLaw(t, n, v, self.data.lb, self.data.ub) for t, n, v in zip(targets.tolist(), sizes, self.variances, strict=True)]

    def ranks(self, targets: Array, counts: IntArray | None = None) -> list[Law]:
        sizes, width = (self.counts if counts is None else counts).tolist(), self.data.ub - self.data.lb
        shares = ((targets - self.data.lb) / width).tolist()
        return [RankLaw(int(np.clip(np.rint(t * (n + 1)), 1, n)), n, self.data.lb, width) for t, n in zip(shares, sizes, strict=True)]

    def best(self) -> Tight:
        """The way with the smaller margin; where neither keeps the guarantee, the one that fails less at the strictest targets."""
        most = _most(self.data.problem, self.data.ub - self.data.lb)
        ways = ((self.means, self.alpha * (1.0 - OF_VARIANCE)), (self.ranks, self.alpha))
        found = [tightest(self.at, laws, self.rows, alpha, most) for laws, alpha in ways]
        kept = [f for f in found if f is not None]
        if kept:
            return min(kept, key=lambda f: f.margin)
        strict = self.at(most)
        tried = [Tight(most, strict, tuple(laws(strict)), 1.0) for laws, _ in ways]
        return min(tried, key=lambda f: failure(f.laws, self.rows))

    def few(self, groups: Sequence[int]) -> Exception:
        strict = self.at(_most(self.data.problem, self.data.ub - self.data.lb))
        needed = rows_needed(self.counts, lambda n: min(failure(self.means(strict, n), self.rows) / (1.0 - OF_VARIANCE),
                                                        failure(self.ranks(strict, n), self.rows)) <= self.alpha)  # fmt: skip
        unit = int(np.argmin(self.counts)) if needed is None else needed[0]
        have = int(self.counts[unit] + len(self.members[unit]))
        need = None if needed is None else int(np.ceil(needed[1] * have / max(int(self.counts[unit]), 1)))
        return too_few("freeze", self.guarantee, self.data.names[groups[unit]], have, need)

    def excess(self, best: Tight) -> float:
        alpha = self.alpha * (1.0 - OF_VARIANCE)
        most = 2.0 * (self.data.ub - self.data.lb)
        return least_excess(lambda x: failure(best.laws, replace(self.rows, right=self.rows.right + x)) <= alpha, most)


def tightened(problem: ProjectionProblem, margin: float) -> ProjectionProblem:
    """The problem with every limit ``margin`` stricter; two limits meet half way at most."""
    both = np.isfinite(problem.lower) & np.isfinite(problem.upper)
    middle = (np.where(both, problem.lower, 0.0) + np.where(both, problem.upper, 0.0)) / 2
    lower = np.where(both, np.minimum(problem.lower + margin, middle), problem.lower + margin)
    upper = np.where(both, np.maximum(problem.upper - margin, middle), problem.upper - margin)
    width = np.maximum(problem.width - margin, 0.0)
    now = problem.limits()
    numbers = (torch.from_numpy(a) for a in (lower, upper, width))
    return problem.with_limits(Limits(*numbers, now.offset, now.softness_weight))


def _most(problem: ProjectionProblem, width: float) -> float:
    """The largest margin that can still change something."""
    both = np.isfinite(problem.lower) & np.isfinite(problem.upper)
    halves = ((problem.upper[both] - problem.lower[both]) / 2).tolist()
    return max([*halves, *problem.width.tolist(), *([width / 4] if not both.all() else [])], default=0.0)


def _at_mean(z: Array, target: float, data: Calibration) -> float:
    """The s for which the mean of clip(z - s, lb, ub) is the target: bisection, to the last float."""
    low, high = float(z.min()) - data.ub, float(z.max()) - data.lb  # every score at ub, every score at lb
    while True:
        middle = low / 2 + high / 2
        if not low < middle < high:
            return middle
        low, high = (middle, high) if float(np.clip(z - middle, data.lb, data.ub).mean()) > target else (low, middle)


def _at_rank(z: Array, law: Any, data: Calibration, generator: np.random.Generator) -> float:
    drawn = z - (data.ub - data.lb) * generator.random(len(z)) - data.lb
    return float(np.sort(drawn)[len(z) - law.k])
