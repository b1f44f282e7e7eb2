"""Methods at equal gap: the frontier of a sweep, what it says at a target, and differences between methods with their errors.

A setting of a method gives each seed an accuracy and a gap, both expected over the method's own draws. Two predictors mixed by a coin
are a predictor again, whose accuracy is the mean of both and whose gap is at most the mean of both. Every method may so be mixed with
its other settings, with the constant and with the plain network, which all of them could send as well: all stand at the same gap then.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairopt.experiments.pareto import error
from fairopt.experiments.report import shown

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """The settings of one method: accuracy and gap (settings, seeds)."""

    accuracy: Floats
    gap: Floats

    def with_others(self, *others: Points) -> Points:
        return Points(np.concatenate([self.accuracy, *(o.accuracy for o in others)]), np.concatenate([self.gap, *(o.gap for o in others)]))

    def seed(self, place: int) -> Points:
        """The points of one seed alone."""
        return Points(self.accuracy[:, [place]], self.gap[:, [place]])


@dataclass(frozen=True)
class Mix:
    """(1 - weight) of setting ``first`` and ``weight`` of setting ``second``."""

    first: int
    second: int
    weight: float

    def of(self, values: Floats) -> Floats:
        """(settings, seeds) -> (seeds,)."""
        mixed: Floats = (1 - self.weight) * values[self.first] + self.weight * values[self.second]
        return mixed


def frontier(points: Points, target: float) -> Mix:
    """The mix of two settings with the largest mean accuracy among those whose mean gap is ``target`` or less.

    Some setting must have a gap <= target: the constant always has.
    """
    accuracy, gap = points.accuracy.mean(1), points.gap.mean(1)
    inside = np.flatnonzero(gap <= target)
    best = max(inside.tolist(), key=lambda k: accuracy[k])
    mix = Mix(best, best, 0.0)
    value = accuracy[best]
    for i in inside.tolist():
        for j in np.flatnonzero(gap > target).tolist():
            weight = float((target - gap[i]) / (gap[j] - gap[i]))
            mixed = (1 - weight) * accuracy[i] + weight * accuracy[j]
            if mixed > value:
                mix, value = Mix(i, j, weight), mixed
    return mix


@dataclass(frozen=True)
class At:
    """One method at one target, by seed.

    accuracy        at equal gap: the frontier of the held-out figures (mean over the seeds), whose mean gap is the target or less
    tuned_accuracy  with the mix that the validation part of each seed asks for, and
    tuned_gap       the held-out gap that it then has
    on_validation   mean accuracy of the frontier of the validation figures: what a configuration is chosen by
    """

    accuracy: Floats
    tuned_accuracy: Floats
    tuned_gap: Floats
    on_validation: float


def at(target: float, validation: Points, held_out: Points) -> At:
    """Both readings of a method (see ``At``); the points include those that it may be mixed with."""
    equal = frontier(held_out, target)
    seeds = held_out.gap.shape[1]
    mixes = [frontier(validation.seed(k), target) for k in range(seeds)]
    tuned = [(mix.of(held_out.accuracy)[k], mix.of(held_out.gap)[k]) for k, mix in enumerate(mixes)]
    chosen = frontier(validation, target)
    return At(
        equal.of(held_out.accuracy),
        np.array([a for a, _ in tuned]),
        np.array([g for _, g in tuned]),
        float(chosen.of(validation.accuracy).mean()),
    )


def difference(first: Floats, second: Floats) -> tuple[float, float]:
    """Mean over the seeds of first - second, and its standard error, which takes the mixing weights as fixed: no verdict rests on it."""
    values = (first - second).tolist()
    return statistics.fmean(values), error(values)


def best_of(found: Mapping[str, At], names: Sequence[str]) -> str:
    """The configuration with the best accuracy on validation."""
    return max(names, key=lambda name: found[name].on_validation)


def verdicts(found: Mapping[str, At], ours: Sequence[str], rivals: Sequence[str], references: Sequence[str], target: float) -> list[str]:
    """What the figures say at one target: our best beside the rivals with a higher mean, and whose mean is below a trivial reference's.

    One seed says nothing.
    """
    if min(len(one.accuracy) for one in found.values()) < 2:
        return [f"Gap {target:g}: one seed gives no verdict."]
    best = best_of(found, ours)
    said = [_equal(found, best, rivals, target), _tuned(found, best, rivals, target)]
    strongest = max(references, key=lambda name: float(found[name].accuracy.mean()))
    level = float(found[strongest].accuracy.mean())
    beaten = [name for name in (*ours, *rivals) if float(found[name].accuracy.mean()) < level]
    if beaten:
        said.append(f"Gap {target:g}: worse than the trivial reference {strongest} ({level:.4f}): {'; '.join(beaten)}.")
    return said


def _equal(found: Mapping[str, At], best: str, rivals: Sequence[str], target: float) -> str:
    """At the same held-out gap: the best configuration of ours against every rival."""
    strongest = max(rivals, key=lambda name: float(found[name].accuracy.mean()))
    mean, margin = difference(found[best].accuracy, found[strongest].accuracy)
    words = f"Gap {target:g}, at equal gap: {best} (chosen on validation) minus the best rival, {strongest}: {shown(mean, margin)}. "
    ahead = []
    for rival in rivals:
        mean, margin = difference(found[rival].accuracy, found[best].accuracy)
        if mean > 0:
            ahead.append(f"{rival} ({shown(mean, margin)})")
    return words + (f"With a higher mean: {', '.join(ahead)}." if ahead else "No rival has a higher mean.")


def _tuned(found: Mapping[str, At], best: str, rivals: Sequence[str], target: float) -> str:
    """As tuned on validation, where the held-out gaps differ: who is ahead, and at what gap."""
    own = float(found[best].tuned_gap.mean())
    ahead = []
    for rival in rivals:
        mean, margin = difference(found[rival].tuned_accuracy, found[best].tuned_accuracy)
        if mean > 0:
            ahead.append(f"{rival} ({shown(mean, margin)}, gap {float(found[rival].tuned_gap.mean()):.3f})")
    words = (
        f"Gap {target:g}, tuned on validation: {best} has {float(found[best].tuned_accuracy.mean()):.4f} at a held-out gap of {own:.3f}. "
    )
    return words + (f"With a higher mean: {', '.join(ahead)}." if ahead else "No rival has a higher mean.")
