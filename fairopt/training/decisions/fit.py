"""Fitting the rules of ``FairDecisions``: on all calibration rows as they are, or so that the notion holds for people, with confidence.

Guaranteed, one rate a group (demographic parity, equal opportunity, predictive equality): a few rows choose the rates by the linear program
with a tightened tolerance; the other rows, ranked, choose each group's threshold. ``fairopt.layer.levels`` has the theorem.

Guaranteed, two rates a group (equalized odds, joins): the few rows choose thresholds, a handful a group; the others tell the rates of these
in exact binomial intervals (Clopper, Pearson 1934), all at once, and the linear program mixes them at the worst ends of the intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from fairopt.auditing.intervals import clopper_pearson
from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.basics.errors import InfeasibleError
from fairopt.contract.problem import ProjectionProblem
from fairopt.layer.levels import RankLaw, Wanted, design_rows, failure, least_excess, rows_at_least, rows_needed, tightest, too_few, wanted
from fairopt.layer.population_bound import PopulationBound, furthest, promised_bounds
from fairopt.training.decisions.curves import Curve, curve
from fairopt.training.decisions.program import WHAT, Asked, asked_of_rates, best_weights, cheapest
from fairopt.training.decisions.rule import Rule, probabilities

OnFew = Literal["error", "tighten as far as possible"]
Cost = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Calibrated:
    """What rules are fitted on: scores (n,), positive (n,) 0 or 1, key (n,) of the G groups with their names, the compiled notion."""

    scores: Array
    positive: Array
    key: IntArray
    names: tuple[str, ...]
    problem: ProjectionProblem
    cost: Cost

    @property
    def cell(self) -> IntArray:
        return np.asarray(self.problem.rows.cell.numpy())

    def curves(self, inside: BoolArray | None = None) -> list[Curve]:
        """Of each group, from the rows ``inside``."""
        chosen = np.ones(len(self.key), dtype=bool) if inside is None else inside
        return [curve(self.scores[rows], self.positive[rows]) for rows in (chosen & (self.key == g) for g in range(len(self.names)))]

    def rates(self, rules: Sequence[Rule]) -> Array:
        """(2 G,) the rate of yes in each unit, 0 where nobody is in it."""
        yes = probabilities(rules, self.key, self.scores)
        unit = self.key * 2 + (self.positive > 0.5)
        size = np.bincount(unit, minlength=2 * len(self.names))
        return np.asarray(np.bincount(unit, weights=yes, minlength=2 * len(self.names)) / np.maximum(size, 1))


def fitted(data: Calibrated) -> list[Rule]:
    """The cheapest rules for which the notion holds on the calibration rows."""
    curves = data.curves()
    asked = asked_of_rates(data.problem, data.key, data.positive, len(data.names))
    return [Rule.of(c.thresholds, w) for c, w in zip(curves, best_weights(curves, asked, data.cost), strict=True)]


def guaranteed(
    data: Calibrated, guarantee: float, on_few: OnFew, generator: np.random.Generator
) -> tuple[list[Rule], tuple[PopulationBound, ...]]:
    """Rules for which the notion holds in the population with probability ``guarantee``, and what is promised of each constraint."""
    rows = wanted(data.problem, data.key, WHAT)
    design = design_rows(data.cell, generator)
    units = [_Unit(int(c), int(data.key[data.cell == c][0]), np.flatnonzero(~design & (data.cell == c))) for c in rows.cells]
    single = len({u.group for u in units}) == len(units)
    made = (_ranked if single else _mixed)(data, rows, units, design, guarantee, on_few, generator)
    return made.rules, _promises(data, made, guarantee)


@dataclass(frozen=True, eq=False)
class _Unit:
    """One cell of the notion: the group that it belongs to, and its level rows (positions)."""

    cell: int
    group: int
    rows: IntArray


@dataclass(frozen=True, eq=False)
class _Made:
    """excess: what is beyond the limits in the promise, 0 where the guarantee is kept as asked; margin: what was taken off the limits."""

    rules: list[Rule]
    excess: float
    margin: float | None = None


def _promises(data: Calibrated, made: _Made, guarantee: float) -> tuple[PopulationBound, ...]:
    asked = asked_of_rates(data.problem, data.key, data.positive, len(data.names))
    values = asked.values @ data.rates(made.rules) + asked.offset
    return promised_bounds(
        data.problem, values, furthest(data.problem, 0.0, 1.0), margin=made.margin, excess=made.excess, guarantee=guarantee
    )


# one rate a group ---------------------------------------------------------------------------------------------------------------


def _ranked(
    data: Calibrated, rows: Wanted, units: Sequence[_Unit], design: BoolArray, guarantee: float, on_few: OnFew,
    generator: np.random.Generator,
) -> _Made:  # fmt: skip
    counts = np.array([len(u.rows) for u in units], dtype=np.int64)
    rules = fitted(data)
    if not len(units):
        return _Made(rules, 0.0, 0.0)
    asked = asked_of_rates(data.problem, data.key, data.positive, len(data.names), shares=design)
    _some_rows(data, units, design, guarantee, asked.most)
    curves = data.curves(design)

    def targets_at(margin: float) -> Array:
        weights = best_weights(curves, asked.tightened(margin), data.cost)
        each = [float(_rate(data, u, curves[u.group], weights[u.group], design)) for u in units]
        return np.array(each)

    def laws_of(targets: Array, counts: IntArray = counts) -> list[RankLaw]:
        return [RankLaw(int(np.rint(t * (n + 1))), int(n)) for t, n in zip(targets.tolist(), counts.tolist(), strict=True)]

    alpha, most = 1.0 - guarantee, _most(asked, targets_at)
    found = tightest(targets_at, laws_of, rows, alpha, most)
    excess, margin = 0.0, most
    if found is None:
        targets = targets_at(most)
        if on_few == "error":
            needed = rows_needed(counts, lambda c: failure(laws_of(targets, c), rows) <= alpha)
            raise _few(data, units, counts, needed, guarantee)
        laws, ranks = laws_of(targets), [law.k for law in laws_of(targets)]
        excess = least_excess(lambda x: failure(laws, replace(rows, right=rows.right + x)) <= alpha, 1.0)
    else:
        margin, ranks = found.margin, [law.k for law in found.laws if isinstance(law, RankLaw)]
    for u, k in zip(units, ranks, strict=True):
        rules[u.group] = at_rank(data.scores[u.rows], k, generator)
    return _Made(rules, excess, margin)


def _rate(data: Calibrated, u: _Unit, c: Curve, weights: Array, design: BoolArray) -> float:
    """The share of the unit's design rows that are decided yes."""
    inside = design & (data.cell == u.cell)
    ones = float(data.positive[inside].mean())
    return float(((1 - ones) * c.yes[0] + ones * c.yes[1]) @ weights)


def at_rank(scores: Array, k: int, generator: np.random.Generator) -> Rule:
    """Yes from the k-th largest of scores (n,) on; drawn where a score is that one, as if ties had been broken by drawn numbers."""
    n = len(scores)
    if k <= 0 or k > n:
        return Rule(np.array([np.inf if k <= 0 else -np.inf]), np.ones(1))
    drawn = generator.random(n)
    at = np.lexsort((drawn, scores))[n - k]  # ascending by score, then by the drawn number
    threshold = float(scores[at])
    return Rule.of(np.array([np.nextafter(threshold, np.inf), threshold]), np.array([drawn[at], 1.0 - drawn[at]]))


# two rates a group --------------------------------------------------------------------------------------------------------------


def _mixed(
    data: Calibrated, rows: Wanted, units: Sequence[_Unit], design: BoolArray, guarantee: float, on_few: OnFew,
    generator: np.random.Generator,
) -> _Made:  # fmt: skip
    asked = asked_of_rates(data.problem, data.key, data.positive, len(data.names), shares=design)
    _some_rows(data, units, design, guarantee, asked.most)
    curves = data.curves(design)
    chosen = [_thresholds(curves, asked, data.cost, g) for g in range(len(data.names))]
    plain = [_at(data, g, t) for g, t in enumerate(chosen)]
    statements = sum(len(chosen[u.group]) for u in units)
    counts = np.array([len(u.rows) for u in units], dtype=np.int64)
    ones = [np.array([(data.scores[u.rows] >= t).sum() for t in chosen[u.group]]) for u in units]

    def weights(counts: IntArray, excess: float) -> list[Array]:
        level = 1.0 - (1.0 - guarantee) / max(statements, 1)
        left = [np.zeros((len(rows.right), len(c.thresholds))) for c in plain]
        for j, (u, n) in enumerate(zip(units, counts.tolist(), strict=True)):
            share = np.rint(ones[j] * (n / max(len(u.rows), 1))).astype(int)
            ends = np.array([clopper_pearson(int(k), n, level) for k in share]).reshape(-1, 2)
            low, high = np.concatenate([[0.0], ends[:, 0], [1.0]]), np.concatenate([[0.0], ends[:, 1], [1.0]])
            c = rows.left[:, j, None]
            left[u.group] += np.maximum(c, 0.0) * high - np.maximum(-c, 0.0) * low
        return cheapest(plain, left, rows.right + excess, data.cost, rows.names)

    def holds(counts: IntArray, excess: float = 0.0) -> bool:
        try:
            weights(counts, excess)
        except InfeasibleError:
            return False
        return True

    excess = 0.0
    if not holds(counts):
        if on_few == "error":
            raise _few(data, units, counts, rows_needed(counts, holds), guarantee)
        excess = least_excess(lambda x: holds(counts, x), 1.0)
    return _Made([Rule.of(c.thresholds, w) for c, w in zip(plain, weights(counts, excess), strict=True)], excess)


def _thresholds(curves: Sequence[Curve], asked: Asked, cost: Cost, group: int) -> Array:
    """The thresholds, descending, that the program uses in one group at the tolerance, at half of it and at none."""
    used: set[float] = set()
    for margin in (0.0, asked.most / 2, asked.most):
        try:
            weights = best_weights(curves, asked.tightened(margin), cost)[group]
        except InfeasibleError:
            continue
        used |= set(curves[group].thresholds[weights > 0].tolist())
    return np.array(sorted((t for t in used if np.isfinite(t)), reverse=True))


def _at(data: Calibrated, group: int, thresholds: Array) -> Curve:
    """The curve of a group at given thresholds, between nobody and everybody, from all its rows."""
    inside = data.key == group
    scores, positive = data.scores[inside], data.positive[inside]
    every = np.concatenate([[np.inf], thresholds, [-np.inf]])
    yes = scores >= every[:, None]  # (V, n)
    weight = np.array([(1 - positive).sum(), positive.sum()])
    return Curve(every, np.stack([yes @ (1 - positive), yes @ positive]) / np.maximum(weight, 1.0)[:, None], weight)


# both ---------------------------------------------------------------------------------------------------------------------------


def _some_rows(data: Calibrated, units: Sequence[_Unit], design: BoolArray, guarantee: float, room: float) -> None:
    """InputError where a unit is so small that it has no row for each purpose."""
    for u in units:
        if not design[data.cell == u.cell].any():
            raise too_few(WHAT, guarantee, data.names[u.group], int((data.cell == u.cell).sum()), rows_at_least(1.0 - guarantee, room))


def _few(data: Calibrated, units: Sequence[_Unit], counts: IntArray, needed: tuple[int, int] | None, guarantee: float) -> Exception:
    unit = units[int(np.argmin(counts)) if needed is None else needed[0]]
    have = int((data.cell == unit.cell).sum())
    need = None if needed is None else int(np.ceil(needed[1] * have / max(len(unit.rows), 1)))
    return too_few(WHAT, guarantee, data.names[unit.group], have, need)


def _most(asked: Asked, targets_at: Any) -> float:
    """The largest margin that thresholds can still meet."""
    most = asked.most
    for _ in range(12):
        try:
            targets_at(most)
        except InfeasibleError:
            most /= 2
        else:
            return most
    return 0.0
