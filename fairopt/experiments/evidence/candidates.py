"""Who runs in a task: every method behind every base, six settings each, and what one fit of each gives."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

import fairopt as fo
from fairopt.experiments.data.tabular import Part, Parts
from fairopt.experiments.evidence.bases import BASES, BOOSTING, LINEAR, NETWORK, Base, fit_base
from fairopt.experiments.evidence.parts import GROUP, Cut
from fairopt.experiments.evidence.protocol import STRENGTHS, TOLERANCES, Serving, Task
from fairopt.experiments.methods.base import Goal, Method, Output, Predictor, Recipe
from fairopt.experiments.methods.layer import Layer
from fairopt.experiments.methods.postprocessing import PostProcessing
from fairopt.experiments.methods.projection import Nearest
from fairopt.experiments.methods.references import Constant
from fairopt.experiments.methods.table import method

BOUNDS = (1e-4, 1 - 1e-4)
PLAIN = "plain"
SQUARED, KL = "layer (squared)", "layer (KL)"
LAYERS: tuple[tuple[str, Nearest], ...] = ((SQUARED, "squared"), (KL, "kl"))


@dataclass(frozen=True)
class Candidate:
    """One fit: a method, the base it is behind ("-": none), and which of its settings. ``word`` is the setting in words."""

    method: str
    base: str
    setting: int
    word: str
    fit: Callable[[Ground], list[Made]] = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        return f"{self.method}, {self.base}, {self.setting}"


@dataclass(frozen=True)
class Made:
    """A predictor that a fit gave. row: the line of a table that its figures are candidates of."""

    row: str
    serving: Serving
    output: Output
    predict: Predictor
    scored: str | None = None  # the base whose scores it reads in place of features


@dataclass
class Ground:
    """A task's rows of one seed, and the bases, each of which is fitted once."""

    task: Task
    seed: int
    cut: Cut
    bases: dict[str, Base] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # processor time of each base, its six recipes together

    def goal(self, tolerance: float) -> Goal:
        notion = fo.EqualizedOdds if self.task.notion == "odds" else fo.DemographicParity
        make: Callable[[float], fo.Notion] = lambda t: notion(GROUP, tolerance=t)  # noqa: E731
        return Goal(make, tolerance, None, "value") if self.task.values else Goal(make, tolerance, BOUNDS, "probability")

    def base(self, name: str) -> Base:
        if name not in self.bases:
            start = time.process_time()
            self.bases[name] = fit_base(name, self.cut.fit, self.goal(0.0), self.seed)
            self.seconds[name] = time.process_time() - start
        return self.bases[name]

    @property
    def recipe(self) -> Recipe:
        found = self.base(NETWORK).recipe
        assert found is not None
        return found

    def scores(self, base: str, part: Part) -> Part:
        """The rows with the base's scores (n, 1) in place of features: all that a rule behind it sees."""
        said = self.base(base).predict(part.x, part.sensitive).double()
        return Part(said[:, None], part.y, part.sensitive)

    def scored(self, base: str) -> Parts:
        fit = self.cut.fit
        train, calibration, test = (self.scores(base, part) for part in (fit.train, fit.validation, fit.held_out))
        return Parts(train, calibration, test, fit.encoder, fit.name, fit.task)

    @cached_property
    def alone(self) -> Serving:
        """How a row by itself is served in this task."""
        return "known" if self.task.known else "unknown"


def as_they_are(x: torch.Tensor, sensitive: Any) -> torch.Tensor:
    """The scores that stand in place of features."""
    return x[:, 0]


def candidates(task: Task) -> tuple[Candidate, ...]:
    """All fits of a task."""
    found = [Candidate("constant", "-", 0, "the commoner class, the mean", _constant)]
    found += [Candidate(PLAIN, base, 0, "best of six recipes", _plain(base)) for base in BASES]
    if task.known:
        for base in BASES:
            for name, serving, makes in _rules(task):
                found += [Candidate(name, base, k, word, _behind(name, base, serving, make, t)) for k, (word, t, make) in enumerate(makes)]
    if not task.values:
        for base in (BOOSTING, LINEAR):
            make = _method("exponentiated_gradient", iterations=12, oracle=base)
            found += [
                Candidate("ExponentiatedGradient", base, k, f"tolerance {t:g}", _inside("ExponentiatedGradient", base, make, t))
                for k, t in enumerate(TOLERANCES)
            ]
    return (*found, *_networks(task))


def _networks(task: Task) -> list[Candidate]:
    """What is trained inside a network, with the recipe that the plain network was given."""
    found = []
    priced = ("penalty",) if task.values else ("penalty", "fairret")
    for name in priced:
        found += [
            Candidate(name, NETWORK, k, f"strength {s:g}", _inside(name, NETWORK, _method(name, strength=s), 0.0))
            for k, s in enumerate(STRENGTHS)
        ]
    for k, t in enumerate(TOLERANCES):
        word = f"tolerance {t:g}"
        found.append(Candidate("Lagrangian", NETWORK, k, word, _inside("Lagrangian", NETWORK, _method("lagrangian"), t)))
        for name, nearest in LAYERS[:1] if task.values else LAYERS:
            found.append(Candidate(name, NETWORK, k, word, _layer(name, nearest, t)))
    return found


Making = Callable[[], Method]


def _method(word: str, **options: Any) -> Making:
    return lambda: method(word, **options)


def _rules(task: Task) -> list[tuple[str, Serving, list[tuple[str, float, Making]]]]:
    """(name, how it serves, its settings) of every rule behind a base."""

    def swept(word: str, **options: Any) -> list[tuple[str, float, Making]]:
        return [(f"tolerance {t:g}", t, _method(word, **options)) for t in TOLERANCES]

    shifts: list[tuple[str, Serving, list[tuple[str, float, Making]]]] = [
        ("FairPostprocessor", "known", swept("postprocessor")),
        ("projection of the batch", "batch", swept("projection")),
    ]
    if task.values:
        return shifts
    thresholds = swept("threshold_optimizer")
    if task.notion == "odds":  # fairlearn relaxes nothing there
        thresholds = [
            (f"{pool}, grid {grid}", 0.0, _method("threshold_optimizer", pool=pool, grid=grid))
            for pool in ("validation", "all")
            for grid in (100, 500, 1000)
        ]
    found: list[tuple[str, Serving, list[tuple[str, float, Making]]]] = [
        ("ThresholdOptimizer", "known", thresholds),
        ("error-parity", "known", swept("error_parity")),
        ("linear rule", "known", swept("linear_post")),
        ("FairDecisions", "known", swept("decisions", inductive=True, pool="validation")),
        ("FairDecisions in the batch", "batch", swept("decisions", pool="validation")),
    ]
    return found + (shifts if task.notion == "parity" else [])


def _constant(ground: Ground) -> list[Made]:
    predict = Constant().fit(ground.cut.fit, ground.goal(0.0), Recipe(), ground.seed)
    return [Made("constant", serving, "score", predict) for serving in ground.task.servings]


def _plain(base: str) -> Callable[[Ground], list[Made]]:
    def fit(ground: Ground) -> list[Made]:
        predict = ground.base(base).predict
        return [Made(f"{PLAIN}, {base}", serving, "score", predict) for serving in ground.task.servings]

    return fit


def _behind(name: str, base: str, serving: Serving, make: Making, tolerance: float) -> Callable[[Ground], list[Made]]:
    def fit(ground: Ground) -> list[Made]:
        rule = make()
        assert isinstance(rule, PostProcessing)
        predict = rule.adjust(as_they_are, ground.scored(base), ground.goal(tolerance), ground.seed)
        return [Made(f"{name}, {base}", serving, rule.output, predict, base)]

    return fit


def _inside(name: str, base: str, make: Making, tolerance: float) -> Callable[[Ground], list[Made]]:
    def fit(ground: Ground) -> list[Made]:
        trained = make()
        predict = trained.fit(ground.cut.fit, ground.goal(tolerance), ground.recipe, ground.seed)
        return [Made(f"{name}, {base}", ground.alone, trained.output, predict)]

    return fit


def _layer(name: str, nearest: Nearest, tolerance: float) -> Callable[[Ground], list[Made]]:
    """One network, served in every way that the task allows."""

    def fit(ground: Ground) -> list[Made]:
        task, goal, parts, seed = ground.task, ground.goal(tolerance), ground.cut.fit, ground.seed
        network = Layer(nearest=nearest).network(parts, goal, ground.recipe, seed)
        found = [Made(f"{name}, alone", ground.alone, "score", network)]
        if not task.known:
            return found
        if task.notion == "parity":
            shifted = Layer(inductive=True, nearest=nearest).adjust(network, parts, goal, seed)
            found.append(Made(f"{name}, frozen shifts", "known", "score", shifted))
            found.append(Made(f"{name}, projected", "batch", "score", Layer(nearest=nearest).adjust(network, parts, goal, seed)))
        if not task.values:
            for how, serving in (("frozen FairDecisions", "known"), ("FairDecisions", "batch")):
                rule = method("decisions", inductive=serving == "known", pool="validation")
                assert isinstance(rule, PostProcessing)
                found.append(
                    Made(f"{name}, {how}", "known" if serving == "known" else "batch", "decision", rule.adjust(network, parts, goal, seed))
                )
        return found

    return fit
