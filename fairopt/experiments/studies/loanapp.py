"""Mortgage decisions with the approval gap between races under a tolerance: plain, projected afterwards, and with the layer in training.

The networks have the same shape, the same initial weights and the same batches. All figures are of held-out applications; no target of
theirs is seen by any method. Beside them stand references that need no network. The table is what ``fairopt demo`` shows; the race of
all methods is ``fairopt reproduce dev``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import fairopt as fo
from fairopt.experiments.data import loanapp as data
from fairopt.experiments.data.tabular import Parts, split
from fairopt.experiments.measure import measure
from fairopt.experiments.methods.base import Goal, Method, Predictor, Recipe
from fairopt.experiments.methods.layer import Layer
from fairopt.experiments.methods.plain import Plain
from fairopt.experiments.methods.projection import Projection
from fairopt.experiments.methods.references import Constant, Linear, LinearProjected
from fairopt.experiments.report import Figure, Run, compared, remarks, summary
from fairopt.experiments.reproduce import OnProgress, Progress, Result, Section, Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies.pictures import loanapp_picture
from fairopt.experiments.threads import one_thread

# All rows in one batch, because parity is asked of each batch, and a batch of 256 has some 14 hispanic applicants.
RECIPE = Recipe(hidden=(32,), dropout=0.5, epochs=200, batch_size=None, learning_rate=3e-3, weight_decay=1e-3)
METHODS: tuple[Callable[[], Method], ...] = (Constant, Linear, LinearProjected, Plain, Projection, Layer)
REFERENCES = (Constant().name, Linear().name, LinearProjected().name)
SEEDS = 5
TITLES = {
    "accuracy": "accuracy", "auc": "AUC", "log_loss": "log loss", "score_gap": "gap of mean probability",
    "decision_gap": "gap of decisions", "violation": "violation",
}  # fmt: skip
QUALITY = (Figure("accuracy", "accuracy", True), Figure("auc", "AUC", True))
FIGURES = (Figure("log_loss", "log loss", False), *QUALITY, Figure("decision_gap", "decision gap", False))


@dataclass(frozen=True)
class Setting:
    """What the table is of. bounds of the probabilities keep the loss finite (DESIGN 7); each seed is a split and a network."""

    tolerance: float = 0.05
    bounds: tuple[float, float] = (1e-4, 1 - 1e-4)
    seeds: tuple[int, ...] = tuple(range(SEEDS))
    recipe: Recipe = RECIPE

    def quick(self) -> Setting:
        """One seed and few epochs: to see that everything runs."""
        return replace(self, seeds=self.seeds[:1], recipe=replace(self.recipe, epochs=50))

    @property
    def goal(self) -> Goal:
        return Goal(lambda t: fo.DemographicParity("race", tolerance=t), self.tolerance, self.bounds, "probability")


def run(settings: Settings, store: Store, on_progress: OnProgress) -> Result:
    """The table."""
    setting = Setting(seeds=settings.seeds_or(range(SEEDS)))
    setting = setting.quick() if settings.quick else setting
    return Result(settings.name, TITLE, text(setting), (table(setting, store, on_progress),))


TITLE = "loanapp: mortgage decisions, parity of approvals between three races"


def text(setting: Setting) -> str:
    """What was run, in words."""
    many = f"mean over {len(setting.seeds)} seeds, each a split and a network" if len(setting.seeds) > 1 else "one seed"
    return (
        "1,989 applications (Hunter and Walker 1996), split 60/20/20; demographic parity of the probabilities within "
        f"{setting.tolerance:g} between white, black and hispan applicants; {many}; "
        "± is the standard error. Figures are of the held-out part."
    )


@one_thread()
def table(setting: Setting, store: Store, on_progress: OnProgress = lambda _: None) -> Section:
    """Train and measure everything at one tolerance."""
    runs = _runs(setting, store, on_progress)
    rivals = (Projection().name, LinearProjected().name)
    said = (*remarks(runs, REFERENCES, QUALITY), *compared(runs, Layer().name, rivals, FIGURES))
    rows = summary(runs, TITLES, met="met")
    return Section(f"Tolerance {setting.tolerance:g}", rows, None, said, partial(_picture, runs, setting.tolerance))


def _picture(runs: Sequence[Run], tolerance: float, path: Path) -> None:
    loanapp_picture(runs, tolerance, path)


def _runs(setting: Setting, store: Store, on_progress: OnProgress) -> list[Run]:
    """One run a method and seed, the methods one after the other."""
    store.hold({"recipe": asdict(setting.recipe), "tolerance": setting.tolerance, "bounds": setting.bounds, "data": data.SHA256})
    whole = data.load()
    parts = {seed: split(whole, seed) for seed in setting.seeds}
    plain = cache(lambda seed: Plain().fit(parts[seed], setting.goal, setting.recipe, seed))  # trained once, also for the projection
    runs: list[Run] = []
    for make in METHODS:
        method = make()
        for done, seed in enumerate(setting.seeds, 1):
            key = {"method": method.name, "seed": seed}
            found = store.cell(key, partial(_figures, method, parts[seed], setting, seed, plain))
            runs.append({**key, "reference": method.reference, **found})
            on_progress(Progress(method.name, done, len(setting.seeds)))
    return runs


def _figures(method: Method, parts: Parts, setting: Setting, seed: int, plain: Callable[[int], Predictor]) -> dict[str, Any]:
    """Fit, predict the held-out part from features and groups alone, and only then look at its targets."""
    if isinstance(method, Plain):
        predict = plain(seed)
    elif isinstance(method, Projection):
        predict = method.adjust(plain(seed), parts, setting.goal, seed)
    else:
        predict = method.fit(parts, setting.goal, setting.recipe, seed)
    held_out = parts.held_out
    said = predict(held_out.x, held_out.sensitive)
    return measure(said, held_out.y, held_out.sensitive, setting.goal.notion).to_dict()


def counts(setting: Setting) -> dict[str, int]:
    """Held-out applications by race: the same in every split, up to rounding."""
    race = split(data.load(), setting.seeds[0]).held_out.sensitive["race"]
    return {name: int((race == name).sum()) for name in np.unique(race).tolist()}
