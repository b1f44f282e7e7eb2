"""``fairopt reproduce classes``: more than two classes, KL and squares side by side. See docs/experiments/PROTOCOL.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from fairopt.basics.errors import MissingExtraError
from fairopt.basics.table import Table
from fairopt.experiments.evidence.bootstrap import Drawn, Seed, bootstrap, difference, error_of, holm
from fairopt.experiments.evidence.comparisons import Comparison
from fairopt.experiments.evidence.protocol import DRAWS, LEAST_SEEDS, SEEDS, TARGETS
from fairopt.experiments.evidence.verdicts import Named, interval, losses_and_wins
from fairopt.experiments.evidence.written import protocol_words
from fairopt.experiments.marks import FITTING, LIBRARY
from fairopt.experiments.reproduce import OnProgress, Progress, Result, Section, Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies.class_figures import FIGURES, ClassPredictions
from fairopt.experiments.studies.class_fits import ASKED, BATCH, PARTS, ROWS, Asked, Fit, Ground, fits, outputs, table_of
from fairopt.experiments.threads import one_thread

MADE_BY = (*LIBRARY, *FITTING, "experiments/evidence/protocol.py", "experiments/evidence/parts.py", "experiments/studies/class_fits.py")
OURS = "layer (KL)"
SERVINGS = {ROWS: "row by row, shifts frozen on calibration rows", BATCH: "the batch at once, without labels"}
STORED = tuple(f"{part} {figure}" for part in PARTS for figure in FIGURES)
Record = Mapping[str, Any]
Cells = dict[tuple[str, int], Record]  # (method, setting)


@one_thread()
def run(settings: Settings, store: Store, on_progress: OnProgress) -> Result:
    """quick: the first two settings of each method, one seed."""
    seeds = settings.seeds_or(range(SEEDS))
    asked = tuple(f for f in fits() if not settings.quick or f.setting < 2)
    store.hold({"quick": settings.quick}, MADE_BY)
    found: dict[str, list[tuple[Ground, Cells]]] = {}
    sets = ASKED[settings.name]
    total, done = len(sets) * len(seeds) * len(asked), 0
    for one in sets:
        for seed in seeds:
            ground, cells = Ground(one, seed, settings.data), Cells()
            for fit in asked:
                key = {"data": one.data, "seed": seed, "method": fit.method, "setting": fit.setting}
                cells[fit.method, fit.setting] = store.cell(key, partial(cell, ground, fit))
                done += 1
                on_progress(Progress("fits", done, total))
            found.setdefault(one.data, []).append((ground, cells))
    return result(settings, sets, found, asked)


def cell(ground: Ground, fit: Fit) -> dict[str, Any]:
    """serving -> part -> probabilities, or why there are none."""
    try:
        made = outputs(ground, fit)
    except MissingExtraError as error:
        return {"absent": str(error)}
    return {serving: {part: values.tolist() for part, values in parts.items()} for serving, parts in made.items()}


# The page --------------------------------------------------------------------------------------------------------------------------


def result(
    settings: Settings, sets: Sequence[Asked], found: Mapping[str, Sequence[tuple[Ground, Cells]]], asked: Sequence[Fit], draws: int = DRAWS
) -> Result:
    """The page of finished cells."""
    named: list[Named] = []
    sections = []
    for one in sets:
        for serving, words in SERVINGS.items():
            seeds, rows = _collected(found[one.data], asked, serving)
            drawn = {t: bootstrap(seeds, rows, t, rows_too=serving != BATCH, draws=draws, read=FIGURES) for t in TARGETS}
            compared = {t: _compared(drawn[t]) for t in TARGETS}
            named += [((one.data, words, t), c) for t in TARGETS for c in compared[t]]
            said = _reference(one, [ground for ground, _ in found[one.data]])
            sections += [_section(one, words, t, drawn[t], compared[t], said) for t in TARGETS]
    every = [(f, cells[f.method, f.setting]) for of_set in found.values() for _, cells in of_set for f in asked]
    absent = {f.method: record["absent"] for f, record in every if "absent" in record}
    count = len(next(iter(found.values())))
    about = "; ".join(f"{a.data}, {a.classes} by {_words(a)}, groups by {' x '.join(a.attributes)}" for a in sets)
    text = (
        f"{protocol_words()}; {count} seed(s), each a split and networks. Classes: {about}. The setting is chosen on validation rows; "
        "the gap is the largest difference, over classes and pairs of groups, of the mean probability. Brackets: 95 % intervals of the "
        "whole procedure. The two servings may not be compared with each other. No published figures of FairProjection or LinearPost are "
        "of these sets and classes."
    )
    text += "".join(f" {method}: no figures: {why}." for method, why in absent.items())
    if count < LEAST_SEEDS:
        text += f" With fewer than {LEAST_SEEDS} seeds there are no intervals and no verdicts."
    first = losses_and_wins(("set", "serving", "gap asked"), named, "minus the log loss")
    title = f"More than two classes: {', '.join(one.data for one in sets)}"
    return Result(settings.name, title, text, (first, *sections), _stored(found, asked))


def _words(asked: Asked) -> str:
    return {"quintiles": "the training rows' quintiles", "as it stands": "level"}.get(str(asked.edges), f"edges {asked.edges}")


def _collected(found: Sequence[tuple[Ground, Cells]], asked: Sequence[Fit], serving: str) -> tuple[list[Seed], dict[str, list[int]]]:
    here = [f for f in asked if all("absent" not in cells[f.method, f.setting] for _, cells in found)]
    rows: dict[str, list[int]] = {}
    for place, fit in enumerate(here):
        rows.setdefault(fit.method, []).append(place)
    seeds = []
    for ground, cells in found:
        said = [
            ClassPredictions(ground.rows(part), np.stack([table_of(cells[f.method, f.setting], serving, part) for f in here], axis=1))
            for part in PARTS
        ]
        seeds.append(Seed(said[0], said[1], np.ones(len(here), dtype=np.bool_)))
    return seeds, rows


def _compared(drawn: Drawn) -> tuple[Comparison, ...]:
    rivals = [row for row in drawn.estimate["quality"] if row != OURS]
    found = [(OURS, row, difference(drawn, "quality", OURS, row), difference(drawn, "gap", OURS, row)) for row in rivals]
    corrected = holm([quality.p for _, _, quality, _ in found])
    return tuple(Comparison(*one, p) for one, p in zip(found, corrected, strict=True))


def _reference(asked: Asked, grounds: Sequence[Ground]) -> str:
    """What the class shares of the training rows alone would have, said to everyone."""
    figures: dict[str, list[float]] = {name: [] for name in FIGURES}
    for ground in grounds:
        train, test = ground.rows("train"), ground.rows("test")
        shares = np.bincount(train.y.astype(np.int64), minlength=asked.classes) / len(train.y)
        said = ClassPredictions(test, np.tile(shares, (len(test.y), 1, 1)))
        for name, read in FIGURES.items():
            figures[name].append(float(read(said, np.ones((1, len(test.y))))[0, 0]))
    loss, right = -float(np.mean(figures["quality"])), float(np.mean(figures["accuracy"]))
    return f"For reference, the class shares of the training rows, the same for everyone: log loss {loss:.4f}, accuracy {right:.4f}, gap 0."


def _section(asked: Asked, words: str, target: float, drawn: Drawn, compared: Sequence[Comparison], said: str) -> Section:
    columns = (
        "row", "log loss", "95 % of it", "gap", "95 % of the gap", "accuracy", "95 % of the accuracy", "gap of the likeliest class",
        "95 % of that", f"log loss, {OURS} minus it", "95 % of the difference", "p, corrected", OURS,
    )  # fmt: skip
    beside = {c.second: c for c in compared}
    rows: list[tuple[Any, ...]] = []
    for row in drawn.estimate["quality"]:
        errors = {name: error_of(drawn.estimate[name][row], drawn.draws[name][row], drawn.seeds) for name in FIGURES}
        line: list[Any] = [row, -errors["quality"].estimate, _turned(errors["quality"].low, errors["quality"].high)]
        for name in ("gap", "accuracy", "decision gap"):
            line += [errors[name].estimate, interval(errors[name])]
        one = beside.get(row)
        line += [None] * 4 if one is None else [
            -one.quality.estimate, _turned(one.quality.low, one.quality.high), one.p, one.outcome_or_none
        ]  # fmt: skip
        rows.append(tuple(line))
    return Section(f"{asked.data}, gap of at most {target:g} asked: {words}", Table(columns, tuple(rows)), verdicts=(said,))


def _turned(low: float | None, high: float | None) -> str | None:
    """The interval of a loss, which is minus that of the quality."""
    return None if low is None or high is None else f"[{-high:.4f}, {-low:.4f}]"


def _stored(found: Mapping[str, Sequence[tuple[Ground, Cells]]], asked: Sequence[Fit]) -> Table:
    lines = [
        (name, ground.seed, fit.method, fit.setting, fit.word, serving, *_figures(ground, cells[fit.method, fit.setting], serving).values())
        for name, seeds in found.items()
        for ground, cells in seeds
        for fit in asked
        for serving in SERVINGS
        if "absent" not in cells[fit.method, fit.setting]
    ]
    return Table(("data", "seed", "method", "setting", "word", "serving", *STORED), tuple(lines))


def _figures(ground: Ground, record: Record, serving: str) -> dict[str, float]:
    found = {}
    for part in PARTS:
        said = ClassPredictions(ground.rows(part), table_of(record, serving, part)[:, None, :])
        ones = np.ones((1, len(said.rows.y)))
        found.update({f"{part} {name}": round(float(read(said, ones)[0, 0]), 7) for name, read in FIGURES.items()})
    return found


@cache
def _ground(name: str, seed: int, data: Path | None) -> Ground:
    (asked,) = (a for sets in ASKED.values() for a in sets if a.data == name)
    return Ground(asked, seed, data)


def remade(line: Mapping[str, str], data: Path | None) -> dict[str, float]:
    """The figures of one line of the stored cells, made again."""
    ground = _ground(line["data"], int(line["seed"]), data)
    (fit,) = (f for f in fits() if (f.method, str(f.setting)) == (line["method"], line["setting"]))
    made = cell(ground, fit)
    if "absent" in made:
        raise MissingExtraError(made["absent"])
    return _figures(ground, made, line["serving"])
