"""Accuracy against the gap of decisions: all methods, swept over their settings, at equal gap on held-out rows.

    adult    sex, official test rows          acs      sex, Colorado
    compas   race, African-American and Caucasian        loanapp  race, three groups

Demographic parity, then equalized odds. Every method sees the group: it is a feature of every network and linear model, and methods
behind a network read it too. What a randomised method sends counts with its probability. No held-out figure uses a held-out target.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fairopt as fo
from fairopt.basics.errors import FairoptWarning, InputError, MissingExtraError, UnsupportedError
from fairopt.basics.finished_cells import Record
from fairopt.basics.table import Table
from fairopt.experiments.data.tabular import Dataset, Part, Parts, split
from fairopt.experiments.methods.base import Goal, Method, Predictor, Recipe
from fairopt.experiments.methods.decisions import LayerDecisions
from fairopt.experiments.methods.layer import Layer
from fairopt.experiments.methods.plain import Plain
from fairopt.experiments.methods.postprocessing import PostProcessing
from fairopt.experiments.pareto import Panel, curves, pareto_picture
from fairopt.experiments.reproduce import OnProgress, Progress, Result, Section, Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies.trade_off_entries import Entry, entries
from fairopt.experiments.studies.trade_off_figures import At, Points, at, verdicts

TARGETS = (0.02, 0.05)
SEEDS = 10
BOUNDS = (1e-4, 1 - 1e-4)
NOTIONS: dict[str, Callable[[str], Callable[[float], fo.Notion]]] = {
    "demographic parity": lambda attribute: lambda t: fo.DemographicParity(attribute, tolerance=t),
    "equalized odds": lambda attribute: lambda t: fo.EqualizedOdds(attribute, tolerance=t),
}
CONSTANT, PLAIN = "constant", "plain network"


@dataclass(frozen=True)
class Race:
    """One data set: how it is loaded, whose parity is asked, how networks are trained, and what was run, in words."""

    load: Callable[[Path | None], Dataset]
    attribute: str
    recipe: Recipe
    words: str


def _adult(path: Path | None) -> Dataset:
    from fairopt.experiments.data import adult

    return adult.load(path)


def _acs(path: Path | None) -> Dataset:
    from fairopt.experiments.data import acs

    return acs.load(path)


def _compas(path: Path | None) -> Dataset:
    from fairopt.experiments.data import compas

    return compas.load(path, two_races=True)


def _loanapp(path: Path | None) -> Dataset:
    from fairopt.experiments.data import loanapp

    return loanapp.load()


# Recipes: the best of four or five by the validation loss of the plain network, seeds 0 to 2.
RACES = {
    "adult": Race(_adult, "sex", Recipe((64, 32), 0.1, 10, 1024, 3e-3, 1e-3), "48,842 rows, the official 16,281 held out; parity of sex"),
    "acs": Race(_acs, "sex", Recipe((128, 64), 0.2, 10, 1024, 3e-3, 1e-3), "Colorado 2018, 31,306 rows, split 60/20/20; parity of sex"),
    "compas": Race(
        _compas,
        "race",
        Recipe((32,), 0.5, 40, 256, 3e-3, 1e-3),
        "5,278 rows (African-American and Caucasian of the 6,172), split 60/20/20; parity of race",
    ),
    "loanapp": Race(
        _loanapp,
        "race",
        Recipe((32,), 0.5, 40, 256, 3e-3, 1e-3),
        "1,989 rows, split 60/20/20; parity of race, three groups, the least with 22 rows held out",
    ),
}


def run(settings: Settings, store: Store, on_progress: OnProgress) -> Result:
    """Every method at every setting and seed, under both notions."""
    race = RACES[settings.name]
    seeds = settings.seeds_or(range(SEEDS))
    recipe = replace(race.recipe, epochs=min(race.recipe.epochs, 5)) if settings.quick else race.recipe
    store.hold({"recipe": asdict(recipe), "attribute": race.attribute, "bounds": list(BOUNDS)})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the networks are so small that a second thread only waits
    try:
        runs = _runs(settings, replace(race, recipe=recipe), seeds, store, on_progress)
    finally:
        torch.set_num_threads(threads)
    sections = [section(notion, runs[notion], len(seeds), settings.quick) for notion in NOTIONS]
    return Result(settings.name, f"{settings.name}: accuracy against the gap of decisions", _text(race, seeds), tuple(sections))


def _text(race: Race, seeds: Sequence[int]) -> str:
    return (
        f"{race.words}; {len(seeds)} seed(s), each a split and a network; ± is the standard error over the seeds. The gap is the largest "
        "difference between two groups of the expected decision, under equalized odds among those with the same target. "
        "Every method sees the group. *Accuracy at gap*: the best mix of two settings (the constant and the plain network are settings "
        "of everyone) whose mean held-out gap is the target. *Tuned*: the mix that each seed's validation part asks for, and the held-out "
        "gap that it then has. Fair decisions take the held-out rows as one batch, without targets; the frozen ones decide row by row. "
        "Our best is chosen on validation among the three that promise the gap of decisions; projection and fairness layer promise that of "
        "probabilities."
    )


@dataclass(frozen=True)
class Work:
    """Everything of one seed. What several methods stand on (the plain network, one with the layer inside) is trained once."""

    parts: Parts
    race: Race
    seed: int
    trained: dict[str, Predictor]

    def goal(self, notion: str, tolerance: float) -> Goal:
        return Goal(NOTIONS[notion](self.race.attribute), tolerance, BOUNDS, "probability")

    def fit(self, method: Method, notion: str, tolerance: float) -> Predictor:
        """What ``method.fit`` gives."""
        goal = self.goal(notion, tolerance)
        if isinstance(method, Plain):
            return self._once("plain", partial(method.fit, self.parts, goal, self.race.recipe, self.seed))
        if isinstance(method, (Layer, LayerDecisions)):
            inside = partial(Layer().network, self.parts, goal, self.race.recipe, self.seed)
            return method.adjust(self._once(f"{notion} {tolerance}", inside), self.parts, goal, self.seed)
        if isinstance(method, PostProcessing) and type(method).fit is PostProcessing.fit:
            return method.adjust(self.fit(Plain(), notion, tolerance), self.parts, goal, self.seed)
        return method.fit(self.parts, goal, self.race.recipe, self.seed)

    def _once(self, name: str, train: Callable[[], Predictor]) -> Predictor:
        if name not in self.trained:
            self.trained[name] = train()
        return self.trained[name]


def _runs(
    settings: Settings, race: Race, seeds: Sequence[int], store: Store, on_progress: OnProgress
) -> dict[str, dict[str, list[Record]]]:
    """notion -> method -> one record a seed."""
    found: dict[str, dict[str, list[Record]]] = {notion: {} for notion in NOTIONS}
    chosen = {notion: entries(notion == "equalized odds") for notion in NOTIONS}
    if settings.quick:
        chosen = {notion: tuple(e.quick() for e in those) for notion, those in chosen.items()}
    total = len(seeds) * sum(map(len, chosen.values()))
    done, data = 0, race.load(settings.data)
    for seed in seeds:
        work = Work(with_groups(split(data, seed), race.attribute), race, seed, {})
        for notion, those in chosen.items():
            for entry in those:
                key = {"notion": notion, "method": entry.name, "seed": seed, "settings": [s.word for s in entry.settings]}
                record = store.cell(key, partial(cell, work, notion, entry))
                found[notion].setdefault(entry.name, []).append(record)
                done += 1
                on_progress(Progress(f"{settings.name}: {len(seeds)} seed(s)", done, total))
    return found


def with_groups(parts: Parts, attribute: str) -> Parts:
    """The parts with an indicator column a group of the training rows, but for the first, behind the features."""
    names = np.unique(parts.train.sensitive[attribute])[1:]

    def added(part: Part) -> Part:
        columns = torch.from_numpy((part.sensitive[attribute][:, None] == names).astype(np.float32))  # (n, K - 1)
        return replace(part, x=torch.cat([part.x, columns], dim=1))

    return replace(parts, train=added(parts.train), validation=added(parts.validation), held_out=added(parts.held_out))


def cell(work: Work, notion: str, entry: Entry) -> Record:
    """Figures of one method at all its settings, one seed: accuracy and gap of the validation part and of the held-out part."""
    points = []
    for setting in entry.settings:
        try:
            method = setting.make()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FairoptWarning)  # a small group is absent from a batch, or an answer is not certified
                predictor = work.fit(method, notion, setting.tolerance)
                point: Record = {"setting": setting.word, "tolerance": setting.tolerance}
                for name, part in (("validation", work.parts.validation), ("held_out", work.parts.held_out)):
                    said = predictor(part.x, part.sensitive).double().numpy()
                    decided = said if method.output == "decision" else (said >= 0.5).astype(np.float64)
                    point[name] = figures(decided, part, work.race.attribute, odds=notion == "equalized odds")
        except (MissingExtraError, UnsupportedError) as error:
            return {"absent": str(error), "points": []}
        points.append(point)
    return {"absent": None, "points": points}


def figures(decided: np.ndarray[Any, np.dtype[np.float64]], part: Part, attribute: str, *, odds: bool) -> dict[str, float]:
    """Expected accuracy and gap of probabilities of the decision 1 (n,). Here targets enter, and nowhere else."""
    target, groups = part.y.double().numpy(), part.sensitive[attribute]
    events = [target == 1, target == 0] if odds else [np.ones(len(target), dtype=bool)]
    gaps = []
    for event in events:
        means = [decided[event & (groups == g)].mean() for g in np.unique(groups[event])]
        gaps.append(max(means) - min(means))
    return {"accuracy": float((decided * target + (1 - decided) * (1 - target)).mean()), "gap": float(max(gaps))}


def points(records: Sequence[Record], part: str) -> Points:
    """The settings (rows) and seeds (columns) of one method."""
    values = [[(p[part]["accuracy"], p[part]["gap"]) for p in record["points"]] for record in records]  # (seeds, settings, 2)
    array = np.asarray(values, dtype=np.float64).transpose(1, 0, 2)
    return Points(array[..., 0], array[..., 1])


def section(notion: str, runs: Mapping[str, list[Record]], seeds: int, quick: bool) -> Section:
    """The table, the verdicts and the picture of one notion."""
    rows = [e for e in entries(notion == "equalized odds") if e.name in runs]
    present = [e.name for e in rows if all(r["absent"] is None for r in runs[e.name])]
    if CONSTANT not in present or PLAIN not in present:
        raise InputError("the constant and the plain network are missing: nothing can be compared")
    found = {target: _found(target, runs, present) for target in TARGETS}
    # The race is about decisions: what promises the gap of probabilities has its row, and is no candidate.
    ours = [e.name for e in rows if e.ours and e.decides and e.name in present]
    references = [e.name for e in rows if e.reference and e.name in present]
    rivals = [e.name for e in rows if not (e.ours or e.reference) and e.name in present and e.name != PLAIN]
    said = [words for target in TARGETS for words in verdicts(found[target], ours, rivals, references, target)]
    said += [f"{e.name}: no figures: {runs[e.name][0]['absent']}" for e in rows if e.name not in present]
    return Section(notion.capitalize(), _table(found, rows, present, seeds), None, tuple(said), partial(_picture, notion, runs, present))


def _found(target: float, runs: Mapping[str, list[Record]], present: Sequence[str]) -> dict[str, At]:
    """Every method at one target; each may be mixed with the constant and the plain network."""
    sides = {part: (points(runs[CONSTANT], part), points(runs[PLAIN], part)) for part in ("validation", "held_out")}
    found = {}
    for name in present:
        validation, held_out = (points(runs[name], part).with_others(*sides[part]) for part in ("validation", "held_out"))
        found[name] = at(target, validation, held_out)
    return found


def _table(found: Mapping[float, Mapping[str, At]], rows: Sequence[Entry], present: Sequence[str], seeds: int) -> Table:
    """One row a method: at each target accuracy at equal gap, and accuracy and gap as tuned on validation."""
    from fairopt.experiments.report import ERROR

    columns = ["method", "kind"]
    for target in TARGETS:
        for word in (f"accuracy at gap {target:g}", f"tuned for {target:g}: accuracy", f"tuned for {target:g}: gap"):
            columns += [word, word + ERROR]
    lines = []
    for entry in rows:
        line: list[Any] = [entry.name, "reference" if entry.reference else "fairopt" if entry.ours else ""]
        for target in TARGETS:
            if entry.name not in present:
                line += [None] * 6
                continue
            one = found[target][entry.name]
            for values in (one.accuracy, one.tuned_accuracy, one.tuned_gap):
                line += [float(values.mean()), float(values.std(ddof=1) / seeds**0.5) if seeds > 1 else 0.0]
        lines.append(tuple(line))
    return Table(tuple(columns), tuple(lines))


def _picture(notion: str, runs: Mapping[str, list[Record]], present: Sequence[str], path: Path) -> None:
    """Held-out accuracy against the held-out gap, one line a method."""
    rows = [
        {"method": name, "place": place, **point["held_out"]}
        for name in present
        for record in runs[name]
        for place, point in enumerate(record["points"])
    ]
    references = [e.name for e in entries(notion == "equalized odds") if e.reference]
    drawn = curves(rows, gap="gap", quality="accuracy", along="place", references=references)
    panel = Panel(f"Accuracy against the gap of decisions: {notion}", "gap of decisions, held out", "accuracy, held out", drawn, TARGETS)
    pareto_picture([panel], path)
