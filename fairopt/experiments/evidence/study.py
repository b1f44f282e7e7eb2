"""``fairopt reproduce dev`` and ``fairopt reproduce final``: the run, the bootstrap, and the tables of the page."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairopt.basics.errors import InputError
from fairopt.basics.table import Table
from fairopt.experiments.evidence import figures
from fairopt.experiments.evidence.bootstrap import Drawn, bootstrap, error_of
from fairopt.experiments.evidence.collected import Collected, TaskCells, collect, read_task, table_of
from fairopt.experiments.evidence.comparisons import compare
from fairopt.experiments.evidence.protocol import (
    DRAWS,
    LEAST_SEEDS,
    LIMIT_S,
    SEEDS,
    SERVINGS,
    TARGETS,
    VERSION,
    Task,
    tasks,
)
from fairopt.experiments.evidence.selection import chosen, taken
from fairopt.experiments.evidence.verdicts import Named, interval, losses_and_wins
from fairopt.experiments.evidence.work import Job
from fairopt.experiments.evidence.work import run as work
from fairopt.experiments.evidence.written import protocol_words
from fairopt.experiments.report import ERROR
from fairopt.experiments.reproduce import OnProgress, Progress, Result, Section, Settings
from fairopt.experiments.store import Store

QUICK_SETTINGS = 2
HEADS = ("task", "serving", "gap asked")


def run(settings: Settings, store: Store, on_progress: OnProgress) -> Result:
    """All cells, two processes; then everything that is said of them. ``quick``: one data set, two settings a method, one seed."""
    seeds = settings.seeds_or(range(SEEDS))
    asked = tasks(settings.name)
    few = QUICK_SETTINGS if settings.quick else None
    if settings.quick:
        asked = tuple(task for task in asked if task.data == asked[0].data)
    store.hold({"protocol": VERSION, "limit": LIMIT_S, "quick": settings.quick})
    with tempfile.TemporaryDirectory() as nowhere:
        root = Path(nowhere) if store.path is None else store.path.with_suffix("")
        if store.fresh and root.is_dir():
            _forget(root)
        # seeds outermost: a run that is stopped has whole seeds of everything
        jobs = [Job(task, seed, root, settings.data, few) for seed in seeds for task in asked]
        work(jobs, on_progress, 1 if settings.quick else settings.jobs)
        found = [read_task(root, task, seeds, few) for task in asked]
    return result(settings.name, found, seeds, on_progress)


def _forget(root: Path) -> None:
    for path in root.glob("*/seed-*/*.npz"):
        path.unlink()


def result(name: str, found: Sequence[TaskCells], seeds: Sequence[int], on_progress: OnProgress, draws: int = DRAWS) -> Result:
    """The page of finished cells."""
    sections: list[Section] = []
    compared: list[Named] = []
    tables = [(cells, serving) for cells in found for serving in cells.task.servings]
    for done, (cells, serving) in enumerate(tables, 1):
        got = collect(cells, serving)
        drawn = {t: bootstrap(got.seeds, got.rows, t, rows_too=serving != "batch", draws=draws) for t in TARGETS}
        for t in TARGETS:
            compared += [((cells.task.name, SERVINGS[serving], t), c) for c in compare(drawn[t], serving, cells.task.values)]
        sections.append(_section(got, drawn))
        on_progress(Progress("bootstrap", done, len(tables)))
    return Result(
        name,
        f"The evidence: {name} sets",
        _text(found, seeds),
        (losses_and_wins(HEADS, compared, "accuracy or minus squared error"), *sections),
        table_of(found),
    )


def _text(found: Sequence[TaskCells], seeds: Sequence[int]) -> str:
    cells = sum(len(of_seed) for task in found for of_seed in task.cells.values())
    stale, late, failed = sum(t.stale for t in found), sum(t.count("time") for t in found), sum(t.count("failed") for t in found)
    words = (
        f"{protocol_words()}; {len(seeds)} seed(s), {len(found)} tasks, {cells} cells: "
        f"{late} ran out of time, {failed} failed, {stale} were made by other code than this page's. Figures are of held-out rows, "
        "the setting chosen on validation rows alone, nothing mixed in; squared errors are in variances of the training targets. Brackets: "
        "95 % intervals of the whole procedure. Tables of different servings may not be compared. A gap and a calibration error of few "
        "rows are larger than those of the population: a fair rule has some too. Seconds are processor time of all settings of a row; a "
        "rule's are without its base's, which stand in the row of the plain base, and rows served from one network each count its training."
    )
    if len(seeds) < LEAST_SEEDS:
        words += f" With fewer than {LEAST_SEEDS} seeds there are no intervals and no verdicts."
    return words


def _section(got: Collected, drawn: dict[float, Drawn]) -> Section:
    """Values have their squared error, which is less where it is better, and no scores beside it."""
    values = got.task.values
    quality = "squared error" if values else "accuracy"
    columns: list[str] = ["row"]
    for t in TARGETS:
        columns += [f"{quality} at {t:g}", f"95 % at {t:g}", f"gap at {t:g}", f"95 % of the gap at {t:g}"]
    t = TARGETS[-1]
    if not values:
        for name in ("gap of scores", "log loss"):
            columns += [f"{name} at {t:g}", f"95 % of the {name}"]
        for name in ("AUC", "calibration error"):
            columns += [f"{name} at {t:g}", f"{name} at {t:g}{ERROR}"]
    columns += ["settings with figures", "seconds"]
    beside = _beside(got, t)
    rows: list[tuple[Any, ...]] = []
    for row in got.rows:
        line: list[Any] = [row]
        for target in TARGETS:
            for figure in ("quality", "gap"):
                line += _with_interval(drawn[target], figure, row, -1 if values and figure == "quality" else 1)
        if not values:
            line += [*_with_interval(drawn[t], "score gap", row), *_with_interval(drawn[t], "log loss", row), *beside[row]]
        asked, done = got.settings[row]
        rows.append((*line, f"{done:.3g} of {asked}", round(got.seconds[row], 2)))
    said = [_parts(got), *(f"{name}: no figures: {why}" for name, why in got.absent.items())]
    title = f"{got.task.name}: {SERVINGS[got.serving].lower()}"
    return Section(title, Table(tuple(columns), tuple(rows)), verdicts=tuple(said))


def _parts(got: Collected) -> str:
    """How many test rows a seed has, by group."""
    test = got.seeds[0].test.rows
    kinds, counts = np.unique(test.groups, return_counts=True)
    by_group = ", ".join(f"{kind}: {count}" for kind, count in zip(kinds, counts, strict=True))
    return f"Test rows of the first seed: {len(test.y)}; {by_group}."


def _with_interval(drawn: Drawn, figure: str, row: str, sign: int = 1) -> tuple[float | None, str | None]:
    """sign: -1 turns a quality into an error."""
    found = error_of(sign * drawn.estimate[figure][row], sign * drawn.draws[figure][row], drawn.seeds)
    return (found.estimate, interval(found)) if np.isfinite(found.estimate) else (None, None)


def _beside(got: Collected, target: float) -> dict[str, tuple[float | None, ...]]:
    """row -> AUC and calibration error of the chosen candidates, each with its standard error over the seeds."""
    found: dict[str, list[tuple[float, float]]] = {row: [] for row in got.rows}
    for one in got.seeds:
        ones = np.ones((1, len(one.validation.rows.y)))
        quality, gap = figures.quality(one.validation, ones)[0], figures.gap(one.validation, ones)[0]
        auc, off = figures.auc(one.test), figures.calibration_error(one.test)
        for row, all_places in got.rows.items():
            places = [k for k in all_places if one.there[k]]
            if places:
                picked = chosen(quality[places], gap[places], target)
                found[row].append((float(taken(auc[places], picked)), float(taken(off[places], picked))))
    return {row: tuple(v for column in range(2) for v in _mean_of([pair[column] for pair in pairs])) for row, pairs in found.items()}


def _mean_of(values: Sequence[float]) -> tuple[float | None, float | None]:
    if not values or not np.isfinite(values).all():
        return None, None
    return float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None


def task_named(data: str, attributes: str, notion: str, known: bool) -> Task:
    """The task of a line of the stored table."""
    for use in ("dev", "final"):
        for task in tasks(use):
            if (task.data, "|".join(task.attributes), task.notion, task.known) == (data, attributes, notion, known):
                return task
    raise InputError(f"task: no task {data} {attributes} {notion} in this protocol")
