"""Fair regression on real data: a network plain, projected, penalised, with the layer inside; beside a constant and least squares.

One study asks several questions (notions). Each gets a table at one tolerance and a picture of error against gap over a sweep. Every
seed is a split of the data and a network. Targets of the held-out part enter when a figure is measured, and nowhere else: where a
notion is about targets (residuals), predictions are moved by shifts that were fitted on the validation part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import fairopt as fo
from fairopt.experiments.data.tabular import Dataset, Parts, split
from fairopt.experiments.measure import measure_values
from fairopt.experiments.methods.base import Goal, Method, Predictor, Recipe
from fairopt.experiments.methods.layer import Layer
from fairopt.experiments.methods.penalty import Penalty
from fairopt.experiments.methods.plain import Plain
from fairopt.experiments.methods.projection import Projection
from fairopt.experiments.methods.references import Constant, Linear, LinearProjected
from fairopt.experiments.pareto import Panel, curves, pareto_picture
from fairopt.experiments.report import Figure, Run, compared, of, remarks, summary
from fairopt.experiments.reproduce import OnProgress, Progress, Result, Section, Settings
from fairopt.experiments.store import Store

SEEDS = 10
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
FREE: tuple[Callable[[], Method], ...] = (Constant, Linear, Plain)  # the tolerance changes nothing
BOUND: tuple[Callable[[], Method], ...] = (LinearProjected, Projection, Layer)
PENALTY = "penalty"
REFERENCES = (Constant().name, Linear().name, LinearProjected().name)
ERROR = Figure("mse", "mean squared error", False)
TITLES = {"mse": "mean squared error", "gap": "gap", "violation": "outside the limit by"}


@dataclass(frozen=True)
class Question:
    """make: tolerance -> notion; at: the table's tolerance; sweep: of the picture; gap: what its horizontal axis says."""

    title: str
    make: Callable[[float], fo.Notion]
    at: float
    sweep: tuple[float, ...]
    gap: str


@dataclass(frozen=True)
class Study:
    """bounds: the box of the predictions; sha256: of the data, so that finished cells belong to it."""

    title: str
    text: str
    load: Callable[[Path | None], Dataset]
    stratify: tuple[str, ...]
    questions: tuple[Question, ...]
    recipe: Recipe
    bounds: tuple[float, float] | None
    sha256: str


def study(asked: Study, settings: Settings, store: Store, on_progress: OnProgress) -> Result:
    """Run all questions; quick: one seed, few epochs, no sweep."""
    seeds = settings.seeds_or(range(SEEDS))
    recipe = replace(asked.recipe, epochs=5) if settings.quick else asked.recipe
    store.hold({"recipe": asdict(recipe), "bounds": asked.bounds, "data": asked.sha256})
    whole = asked.load(settings.data)
    work = _Work(asked, whole, recipe, seeds, settings.quick, store, on_progress)
    sections = tuple(work.section(question) for question in asked.questions)
    many = "one seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
    text = (
        f"{asked.text} Split 60/20/20, {many}, each a split and a network ({_recipe(recipe)}); ± is the standard error. "
        "All figures are of the held-out part; no method sees its targets."
    )
    return Result(settings.name, asked.title, text, sections)


def _recipe(recipe: Recipe) -> str:
    batch = "all rows in one batch" if recipe.batch_size is None else f"batches of {recipe.batch_size}"
    return f"hidden {'-'.join(map(str, recipe.hidden))}, {recipe.epochs} epochs at most, {batch}"


class _Work:
    """What all questions share: the parts of each seed, and the plain networks, each trained once."""

    def __init__(
        self, asked: Study, whole: Dataset, recipe: Recipe, seeds: Sequence[int], quick: bool, store: Store, on_progress: OnProgress
    ) -> None:
        self.asked, self.recipe, self.seeds, self.quick, self.store, self.on_progress = asked, recipe, seeds, quick, store, on_progress
        self.parts = {seed: split(whole, seed, stratify=asked.stratify) for seed in seeds}
        self.plain = cache(self._plain)

    def _plain(self, seed: int) -> Predictor:
        return Plain().fit(self.parts[seed], self._goal(self.asked.questions[0], 0.0), self.recipe, seed)

    def _goal(self, question: Question, tolerance: float) -> Goal:
        return Goal(question.make, tolerance, self.asked.bounds)

    def section(self, question: Question) -> Section:
        """Table, verdicts and picture of one question."""
        swept = self._runs(question)
        runs = [*of(swept, tolerance=question.at), *self._chosen(question, swept)]
        runs = [run for name in self._order() for run in of(runs, method=name)]
        rivals = (Projection().name, LinearProjected().name)
        said = (*remarks(runs, REFERENCES, (ERROR,)), *compared(runs, Layer().name, rivals, (ERROR,)))
        rows = summary(runs, TITLES, met="met")
        panel = Panel(
            question.title, question.gap, "mean squared error, held out",
            curves(swept, gap="gap", quality="mse", along="place", references=REFERENCES), (question.at,),
        )  # fmt: skip
        title = f"{question.title}, tolerance {question.at:g}"
        return Section(title, rows, None, said, partial(pareto_picture, (panel,)))

    def _order(self) -> tuple[str, ...]:
        return (*REFERENCES, Plain().name, Projection().name, PENALTY, Layer().name)

    def _runs(self, question: Question) -> list[Run]:
        """One run a method, setting and seed. What no tolerance changes stands at the table's; a penalty has a strength for a tolerance."""
        tolerances = (question.at,) if self.quick else tuple(sorted({question.at, *question.sweep}))
        strengths = STRENGTHS[2:3] if self.quick else STRENGTHS
        work: list[tuple[Method, dict[str, float | None]]] = [(make(), {"tolerance": question.at}) for make in FREE]
        work += [(make(), {"tolerance": t}) for make in BOUND for t in tolerances]
        work += [(Penalty(s), {"tolerance": None, "strength": s}) for s in strengths]
        runs: list[Run] = []
        total = len(work) * len(self.seeds)
        for seed in self.seeds:
            for method, setting in work:
                key = {"question": question.title, "method": method.name, "seed": seed, **setting}
                goal = self._goal(question, _at(setting["tolerance"], question))
                place = setting.get("strength", setting["tolerance"])  # in the sweep
                runs.append({**key, "place": place, **self.store.cell(key, partial(self._figures, method, goal, seed))})
                self.on_progress(Progress(question.title, len(runs), total))
        return [run for name in self._order() for run in of(runs, method=name)]

    def _figures(self, method: Method, goal: Goal, seed: int) -> dict[str, Any]:
        """Fit, predict the held-out part from features and groups alone, and only then look at its targets."""
        parts = self.parts[seed]
        predict = self._fitted(method, parts, goal, seed)
        found = {}
        for name, part in (("held_out", parts.held_out), ("validation", parts.validation)):
            found[name] = measure_values(predict(part.x, part.sensitive), part.y, part.sensitive, goal.notion).to_dict()
        return {**found["held_out"], "validation": found["validation"]}

    def _fitted(self, method: Method, parts: Parts, goal: Goal, seed: int) -> Predictor:
        if isinstance(method, Plain):
            return self.plain(seed)
        if isinstance(method, Projection):
            return method.adjust(self.plain(seed), parts, goal, seed)
        if isinstance(method, Penalty):
            return _clamped(method.fit(parts, replace(goal, bounds=None), self.recipe, seed), goal.bounds)
        return method.fit(parts, goal, self.recipe, seed)

    def _chosen(self, question: Question, runs: Sequence[Run]) -> list[Run]:
        """The penalty of each seed: the least strength that keeps the tolerance on the validation part, else the one nearest to it."""
        chosen = []
        for seed in self.seeds:
            found = sorted(of(runs, method=PENALTY, seed=seed), key=lambda run: run["strength"])
            nearest = min(found, key=lambda run: run["validation"]["violation"])
            chosen.append(next((run for run in found if run["validation"]["met"]), nearest))
        return chosen


def _clamped(predict: Predictor, bounds: tuple[float, float] | None) -> Predictor:
    """A penalised network in its box. The paper's scaled sigmoid would be another network than the others', which weight decay ruins."""
    if bounds is None:
        return predict
    return lambda x, sensitive: predict(x, sensitive).clamp(*bounds)


def _at(tolerance: float | None, question: Question) -> float:
    """A penalty has no tolerance: its figures are taken at the table's."""
    return question.at if tolerance is None else tolerance
