"""Shifts of a frozen layer that hold for people: targets from a few calibration rows, levels from the others.

``levels`` has the theorem. A group's rule is y = clip(z - s, lb, ub), whose mean falls as s grows. Two ways to set s to a target t, of
which the few rows choose the one that promises the smaller margin (give or take a twentieth, in favour of means):

    means   the level rows' mean of y is t. The variance of y is at most that of z, for a clipped shift draws scores together; that of z is
            bounded from the level rows (for scores that lie in the box before they are shifted, as probabilities do), and says which of
            four listed margins is taken: each has targets of its own, chosen by the few rows, and a share of the risk of its own, of which
            the first, whose variances are those that the few rows lead to expect, has most
    ranks   s is the k-th largest z - v, with v drawn evenly over the box: a score y in the box exceeds v with a chance that is y itself, so
            that P(z - v > s) is the mean of y, exactly of law Beta(k, n + 1 - k)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from math import isfinite, log, sqrt
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
    Tight,
    Wanted,
    design_rows,
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
# Margins are listed for variances that are those of the design rows and so many of their errors more, each with a share of the risk; the
# strictest rule of all, which promises what it can, has what is left.
LISTED = ((1.5, 0.85), (2.5, 0.05), (4.0, 0.03), (float("inf"), 0.03))
LEFT = 0.04
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
    best, risk = found.best()
    kept = best.failure <= risk
    if not kept and on_few == "error":
        raise found.few(groups)
    excess = 0.0 if kept else found.excess(best, risk)
    shifts = {}
    for c, g, law in zip(rows.cells, groups, best.laws, strict=True):
        z = data.z[~design & (cell == c)]
        shifts[g] = at_rank(z, law, data, generator) if isinstance(law, RankLaw) else at_mean(z, law.centre, data)
    return shifts, best.margin, excess


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

    def _guessed(self, errors: float) -> list[float]:
        """The variances that the level rows' bounds are expected not to exceed, for variances ``errors`` above those of the design rows.

        A variance of n numbers errs by about itself / sqrt(n), and its bound of confidence 1 - delta adds sqrt(2 log(1 / delta) / n) of it.
        """
        sizes = [len(m) for m in self.members]
        over = [1.0 / sqrt(few) + sqrt(2.0 * log(1.0 / self.each) / n) for few, n in zip(sizes, self.counts.tolist(), strict=True)]
        return [min(v * (1.0 + errors * o), self._largest) if v > 0 else 0.0 for v, o in zip(self.seen, over, strict=True)]

    def _listed(self) -> Iterator[tuple[Tight | None, float]]:
        """For each of the listed variances the least margin at its share of the risk, and this. By the design rows alone."""
        for errors, share in LISTED:
            risk, guessed = share * self.low_alpha, self._guessed(errors)
            yield tightest(self.at, partial(self.means, variances=guessed), self.rows, risk, self.most), risk

    def _by_mean(self, listed: Iterable[tuple[Tight | None, float]]) -> tuple[Tight, float]:
        """The first of the listed margins that the level rows' variances allow, else the strictest rule; and its share of the risk."""
        for one, risk in listed:
            if one is not None:
                laws = tuple(self.means(one.targets, self.bounded))
                failing = failure(laws, self.rows)
                if failing <= risk:
                    return Tight(one.margin, one.targets, laws, failing), risk
        strict = self.at(self.most)
        return Tight(self.most, strict, tuple(self.means(strict, self.bounded)), 1.0), LEFT * self.low_alpha

    def best(self) -> tuple[Tight, float]:
        """The way that the design rows favour, and the risk that its laws may take: its failure is above it where the rows are too few."""
        by_rank, listed = tightest(self.at, self.ranks, self.rows, self.alpha, self.most), self._listed()
        expected, risk = next(listed)
        if expected is not None and (by_rank is None or expected.margin < WORTH * by_rank.margin):
            return self._by_mean(chain([(expected, risk)], listed))
        if by_rank is not None:
            return by_rank, self.alpha
        strict = self.at(self.most)
        guessed = self.means(strict, self._guessed(LISTED[0][0]))
        if failure(guessed, self.rows) < failure(self.ranks(strict), self.rows):
            return Tight(self.most, strict, tuple(self.means(strict, self.bounded)), 1.0), self.low_alpha
        return Tight(self.most, strict, tuple(self.ranks(strict)), 1.0), self.alpha

    def few(self, groups: Sequence[int]) -> Exception:
        strict, guessed = self.at(self.most), self._guessed(LISTED[0][0])

        def holds(counts: IntArray) -> bool:
            by_mean = failure(self.means(strict, guessed, counts), self.rows) / (self.low_alpha * LISTED[0][1])
            return min(by_mean, failure(self.ranks(strict, counts), self.rows) / self.alpha) <= 1.0

        needed = rows_needed(self.counts, holds)
        unit = int(np.argmin(self.counts)) if needed is None else needed[0]
        have = int(self.counts[unit] + len(self.members[unit]))
        need = None if needed is None else int(np.ceil(needed[1] * have / max(int(self.counts[unit]), 1)))
        return too_few("freeze", self.guarantee, self.data.names[groups[unit]], have, need)

    def excess(self, best: Tight, risk: float) -> float:
        """What the strictest targets give beyond the limits, at the risk."""
        most = 2.0 * (self.data.ub - self.data.lb)
        return least_excess(lambda x: failure(best.laws, replace(self.rows, right=self.rows.right + x)) <= risk, most)


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
