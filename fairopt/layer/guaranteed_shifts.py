"""Shifts of a frozen layer that hold for people: targets from a few calibration rows, levels from the others.

``levels`` has the theorem. A group's rule is y = clip(z - s, lb, ub), whose mean falls as s grows. Two ways to set s to a target t, of
which the few rows choose the one that promises the smaller margin (give or take a twentieth, in favour of means):

    means   the level rows' mean of y is t. The variance of y is at most that of z, for a clipped shift draws scores together; that of z is
            bounded from the level rows (for scores that lie in the box before they are shifted, as probabilities do)
    ranks   s is the k-th largest z - v, with v drawn evenly over the box: a score y in the box exceeds v with a chance that is y itself, so
            that P(z - v > s) is the mean of y, exactly of law Beta(k, n + 1 - k)

All margins are tried, and one risk pays for them. By ranks no level row has a say in the margin. By means the bounds of the variances have,
and they come of the rows that set levels; so the targets lie on one path, from the strictest rule to the loosest, and what is judged at a
margin is the *hull* of the path up to there: each group's largest target where a row wants it small, its smallest where a row wants it
large. A mean rises with its target, so that the hull's failures only grow along the path. Whatever margin is taken, its failure lies inside
that of the loosest margin whose true chance of failure is within the risk, and that margin is no matter of the level rows.
The path begins at the strictest rule whatever the tolerance, and the way is chosen there: a rule that is granted at one tolerance is
granted at every wider one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, isfinite, log, sqrt
from typing import Literal

import numpy as np
import torch

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.basics.errors import BackendError, UnsupportedError
from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt.layer.levels import (
    Law,
    MeanLaw,
    RankLaw,
    Wanted,
    design_rows,
    design_size,
    failure,
    least_excess,
    rows_at_least,
    rows_needed,
    tightest,
    too_few,
    variance_bound,
    wanted,
)

OnFew = Literal["error", "tighten as far as possible"]
OF_VARIANCE = 0.05  # of the risk is spent on the variances
ERRORS = 1.5  # so many of their errors more than those of the design rows are the variances taken to be where the way is chosen
NODES = 16  # of the path, from the strictest rule to no margin; targets between two of them are on the straight line
RESERVE = 1.1  # times the rows that the law asks for are named where they are too few: the next sample's spread is not this one's
WORTH = 1.05  # times the margin by ranks is paid for one by means: its levels err less, for scores vary less than what is drawn from them


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


def guaranteed_shifts(
    data: Calibration, guarantee: float, on_few: OnFew, generator: np.random.Generator
) -> tuple[dict[int, float], float, float]:
    """Group -> shift, for the groups that the notion reads; the margin taken off the limits; the excess over them that is promised (or 0).

    InputError where the rows are too few, UnsupportedError for open boxes and notions that ``levels.wanted`` refuses.
    """
    if not isfinite(data.ub - data.lb):
        raise UnsupportedError("freeze: a guarantee needs scores with two bounds; give bounds= to the layer")
    cell = np.asarray(data.problem.rows.cell.numpy())
    rows = wanted(data.problem, data.key, "freeze")
    if not len(rows.cells):
        return {}, 0.0, 0.0
    design = design_rows(cell, generator)
    groups = [int(data.key[cell == c][0]) for c in rows.cells]
    for c, g in zip(rows.cells, groups, strict=True):
        if not design[cell == c].any():
            width = data.ub - data.lb
            need = rows_at_least(1.0 - guarantee, _most(data.problem, width) / width)
            raise too_few("freeze", guarantee, data.names[g], int((cell == c).sum()), need)
    found = _Targets(data, rows, design, guarantee)
    best = found.best()
    if not best.kept and on_few == "error":
        raise found.few(groups, best)
    excess = 0.0 if best.kept else found.excess(best)
    shifts = {}
    for c, g, law in zip(rows.cells, groups, best.laws, strict=True):
        z = data.z[~design & (cell == c)]
        shifts[g] = at_rank(z, law, data, generator) if isinstance(law, RankLaw) else at_mean(z, law.centre, data)
    return shifts, best.margin, excess


@dataclass(frozen=True, eq=False)
class _Found:
    """margin: taken off every limit where targets are chosen; laws of the units at them; whether the limits are kept at the risk."""

    margin: float
    laws: tuple[Law, ...]
    kept: bool
    risk: float


class _Targets:
    """The search for the least margin, by ranks and by means."""

    def __init__(self, data: Calibration, rows: Wanted, design: BoolArray, guarantee: float) -> None:
        self.data, self.rows, self.guarantee, self.alpha = data, rows, guarantee, 1.0 - guarantee
        self.low_alpha = self.alpha * (1.0 - OF_VARIANCE)
        cell = np.asarray(data.problem.rows.cell.numpy())
        self.chosen = np.flatnonzero(design)
        self.members = [np.flatnonzero(cell[design] == c) for c in rows.cells]  # positions among the design rows
        levels = [data.z[~design & (cell == c)] for c in rows.cells]
        self.counts = np.array([len(z) for z in levels], dtype=np.int64)
        self.each = OF_VARIANCE * self.alpha / len(rows.cells)
        few = [data.z[self.chosen[m]] for m in self.members]
        self.seen = [float(z.var()) for z in few]
        self.bounded = [self._variance(z, float(f.mean()), self.each) for z, f in zip(levels, few, strict=True)]
        self.most = _most(data.problem, data.ub - data.lb)
        self.known: dict[float, Array] = {}

    @property
    def _largest(self) -> float:
        return (self.data.ub - self.data.lb) ** 2 / 4

    def _variance(self, z: Array, centre: float, delta: float) -> float:
        low, high = self.data.natural
        inside = bool(((z >= low) & (z <= high)).all()) and low <= centre <= high
        return min(variance_bound(z, centre, low, high, delta), self._largest) if inside else self._largest

    def at(self, margin: float) -> Array:
        """The targets at a margin: the means of the design rows, projected."""
        if margin not in self.known:
            y = self.data.project(self.chosen, margin)
            self.known[margin] = np.array([y[m].mean() for m in self.members])
            if not np.isfinite(self.known[margin]).all():
                raise BackendError("freeze: the projection that chooses targets gave no finite scores")
        return self.known[margin]

    def means(self, targets: Array, variances: Sequence[float], counts: IntArray | None = None) -> list[Law]:
        sizes = (self.counts if counts is None else counts).tolist()
        return [MeanLaw(t, n, v, self.data.lb, self.data.ub) for t, n, v in zip(targets.tolist(), sizes, variances, strict=True)]

    def ranks(self, targets: Array, counts: IntArray | None = None) -> list[Law]:
        sizes, width = (self.counts if counts is None else counts).tolist(), self.data.ub - self.data.lb
        shares = ((targets - self.data.lb) / width).tolist()
        return [RankLaw(int(np.clip(np.rint(t * (n + 1)), 1, n)), n, self.data.lb, width) for t, n in zip(shares, sizes, strict=True)]

    def _guessed(self) -> list[float]:
        """The variances that the level rows' bounds are expected not to exceed, for variances ERRORS above those of the design rows.

        A variance of n numbers errs by about itself / sqrt(n), and its bound of confidence 1 - delta adds sqrt(2 log(1 / delta) / n) of it.
        """
        sizes = [len(m) for m in self.members]
        over = [1.0 / sqrt(few) + sqrt(2.0 * log(1.0 / self.each) / n) for few, n in zip(sizes, self.counts.tolist(), strict=True)]
        return [min(v * (1.0 + ERRORS * o), self._largest) if v > 0 else 0.0 for v, o in zip(self.seen, over, strict=True)]

    def hull(self, margin: float) -> Array:
        """(2 U,) the largest targets on the path from the strictest rule to ``margin``, then the smallest."""
        before = [self.at(m) for m in self._nodes() if m > margin]
        passed = np.array([*before, self.path(margin)])
        return np.concatenate([passed.max(0), passed.min(0)])

    def path(self, margin: float) -> Array:
        """The targets at a margin, on straight lines between the nodes."""
        nodes = self._nodes()
        k = next(j for j, m in enumerate(nodes) if m <= margin)
        if nodes[k] == margin:
            return self.at(margin)
        part = (margin - nodes[k]) / (nodes[k - 1] - nodes[k])
        return (1.0 - part) * self.at(nodes[k]) + part * self.at(nodes[k - 1])

    def _nodes(self) -> list[float]:
        return [self.most * (NODES - j) / NODES for j in range(NODES)] + [0.0] if self.most > 0 else [0.0]

    def _of_hull(self, both: Array) -> list[Law]:
        units = len(both) // 2
        return [*self.means(both[:units], self.bounded), *self.means(both[units:], self.bounded)]

    def best(self) -> _Found:
        """The way that the design rows favour at the strictest rule, and the least margin at which it keeps the limits, if one does."""
        strict = self.at(self.most)
        expected = self._reached(self.means(strict, self._guessed()), self.low_alpha)
        if expected < WORTH * self._reached(self.ranks(strict), self.alpha):
            doubled = _doubled(self.rows)
            kept = tightest(self.hull, self._of_hull, doubled, self.low_alpha, self.most)
            margin = self.most if kept is None else kept.margin
            return _Found(margin, tuple(self.means(self.path(margin), self.bounded)), kept is not None, self.low_alpha)
        by_rank = tightest(self.at, self.ranks, self.rows, self.alpha, self.most)
        if by_rank is None:
            return _Found(self.most, tuple(self.ranks(strict)), False, self.alpha)
        return _Found(by_rank.margin, by_rank.laws, True, self.alpha)

    def _reached(self, laws: Sequence[Law], risk: float) -> float:
        """How wide a tolerance the strictest rule's laws keep at the risk: the same number whatever tolerance was asked for."""
        width = self.data.ub - self.data.lb
        return least_excess(lambda x: failure(laws, replace(self.rows, right=self.rows.right - self.most + x)) <= risk, 2.0 * width, 16)

    def few(self, groups: Sequence[int], best: _Found) -> Exception:
        """The error: the laws that refused, solved for the rows at the spread that is bounded now."""
        strict = self.at(self.most)
        by_rank = isinstance(best.laws[0], RankLaw)

        def holds(counts: IntArray) -> bool:
            laws = self.ranks(strict, counts) if by_rank else self.means(strict, self.bounded, counts)
            return failure(laws, self.rows) <= best.risk

        needed = rows_needed(self.counts, holds)
        unit = int(np.argmin(self.counts)) if needed is None else needed[0]
        have = int(self.counts[unit] + len(self.members[unit]))
        return too_few("freeze", self.guarantee, self.data.names[groups[unit]], have, None if needed is None else _with_design(needed[1]))

    def excess(self, best: _Found) -> float:
        """What the strictest targets give beyond the limits, at the risk."""
        return max(self._reached(best.laws, best.risk) - self.most, 0.0)


def _doubled(rows: Wanted) -> Wanted:
    """The rows with each unit twice: what they want small of it, then what they want large."""
    return replace(rows, left=np.concatenate([np.maximum(rows.left, 0.0), np.minimum(rows.left, 0.0)], axis=1))


def _with_design(level: int) -> int:
    """How many rows of a group leave ``level`` of them to set levels, with a reserve."""
    n = 2 * level  # at most half choose targets
    while n > level and n - 1 - design_size(n - 1) >= level:
        n -= max(1, (n - 1 - design_size(n - 1) - level) // 2)
    return ceil(RESERVE * n)


def tightened(problem: ProjectionProblem, margin: float) -> ProjectionProblem:
    """The problem with every limit ``margin`` stricter; two limits meet half way at most."""
    both = np.isfinite(problem.lower) & np.isfinite(problem.upper)
    middle = (np.where(both, problem.lower, 0.0) + np.where(both, problem.upper, 0.0)) / 2
    lower = np.where(both, np.minimum(problem.lower + margin, middle), problem.lower + margin)
    upper = np.where(both, np.maximum(problem.upper - margin, middle), problem.upper - margin)
    width = np.maximum(problem.width - margin, 0.0)
    now = problem.limits()
    return problem.with_limits(
        Limits(torch.from_numpy(lower), torch.from_numpy(upper), torch.from_numpy(width), now.offset, now.softness_weight)
    )


def _most(problem: ProjectionProblem, width: float) -> float:
    """The largest margin that can still change something."""
    both = np.isfinite(problem.lower) & np.isfinite(problem.upper)
    halves = ((problem.upper[both] - problem.lower[both]) / 2).tolist()
    return max([*halves, *problem.width.tolist(), *([width / 4] if not both.all() else [])], default=0.0)


def at_mean(z: Array, target: float, data: Calibration) -> float:
    """The s for which the mean of clip(z - s, lb, ub) is the target: bisection, to the last float."""
    low, high = float(z.min()) - data.ub, float(z.max()) - data.lb  # every score at ub, every score at lb
    while True:
        middle = low / 2 + high / 2
        if not low < middle < high:
            return middle
        low, high = (middle, high) if float(np.clip(z - middle, data.lb, data.ub).mean()) > target else (low, middle)


def at_rank(z: Array, law: RankLaw, data: Calibration, generator: np.random.Generator) -> float:
    """The s at the law's rank among z - v, v drawn evenly over the box."""
    drawn = z - (data.ub - data.lb) * generator.random(len(z)) - data.lb
    return float(np.sort(drawn)[len(z) - law.k])
