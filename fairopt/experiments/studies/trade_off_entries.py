"""Who runs in the race of accuracy against the decision gap, and over which settings each is swept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fairopt.experiments.methods.base import Method
from fairopt.experiments.methods.table import method

TOLERANCES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.08)
# Networks are trained anew at each: fewer of them. The gap of decisions is larger than that of probabilities, hence the small ones.
TRAINED = (0.0, 0.02, 0.05)
STRENGTHS = (0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Setting:
    """One point of a sweep: the goal's tolerance, and the method with its own knob."""

    word: str
    tolerance: float
    make: Callable[[], Method]


@dataclass(frozen=True)
class Entry:
    """A row of the table. ours: a configuration of fairopt; decides: it promises the gap of decisions, not that of probabilities."""

    name: str
    settings: tuple[Setting, ...]
    ours: bool = False
    reference: bool = False

    @property
    def decides(self) -> bool:
        return self.settings[0].make().output == "decision"

    def quick(self) -> Entry:
        """The first and the last setting of the sweep."""
        return Entry(self.name, self.settings[:: max(len(self.settings) - 1, 1)], self.ours, self.reference)


def entries(odds: bool) -> tuple[Entry, ...]:
    """All rows: references, the paper's four, ours, the rivals."""
    thresholds = (0.0,) if odds else TOLERANCES  # fairlearn relaxes nothing under equalized odds
    return (
        _swept("constant", "constant", (0.0,), reference=True),
        _swept("linear model", "linear", (0.0,), reference=True),
        _swept("linear + projection", "linear_projected", TOLERANCES, reference=True),
        _swept("linear + fair decisions", "linear_decisions", TOLERANCES, reference=True),
        _swept("plain network", "plain", (0.0,)),
        _swept("projection", "projection", TOLERANCES, ours=True),
        _swept("fairness layer", "layer", TRAINED, ours=True),
        _swept("fairness layer + fair decisions", "layer_decisions", TRAINED, ours=True),
        _swept("fair decisions", "decisions", TOLERANCES, ours=True),
        _swept("fair decisions, frozen", "decisions", TOLERANCES, ours=True, inductive=True),
        _priced("penalty", "penalty", STRENGTHS),
        _swept("strict penalty", "strict_penalty", (0.0,)),
        _swept("Lagrangian (cooper)", "lagrangian", TRAINED),
        _priced("fairret", "fairret", STRENGTHS),
        _swept("ExponentiatedGradient", "exponentiated_gradient", (0.0, 0.03)),
        _swept("ThresholdOptimizer", "threshold_optimizer", thresholds),
        _swept("ThresholdOptimizer, train + validation", "threshold_optimizer", thresholds, pool="all"),
        _swept("error-parity", "error_parity", TOLERANCES),
        _swept("error-parity, train + validation", "error_parity", TOLERANCES, pool="all"),
    )


def _swept(name: str, word: str, tolerances: tuple[float, ...], *, ours: bool = False, reference: bool = False, **options: object) -> Entry:
    settings = tuple(Setting(f"tolerance {t:g}", t, lambda: method(word, **options)) for t in tolerances)
    return Entry(name, settings, ours, reference)


def _priced(name: str, word: str, strengths: tuple[float, ...]) -> Entry:
    """Methods whose knob is the price of a gap: their goal has no tolerance."""
    return Entry(name, tuple(Setting(f"strength {s:g}", 0.0, _with_strength(word, s)) for s in strengths))


def _with_strength(word: str, strength: float) -> Callable[[], Method]:
    return lambda: method(word, strength=strength)
