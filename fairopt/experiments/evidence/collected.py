"""Finished cells of a task put together: what the bootstrap reads, and one line a cell for the stored table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fairopt.basics.table import Table
from fairopt.experiments.evidence.bootstrap import Seed
from fairopt.experiments.evidence.candidates import Candidate, candidates
from fairopt.experiments.evidence.cells import Cell, Rows, folder_of, path_of, read_cell, read_rows
from fairopt.experiments.evidence.figures import Floats, gap, predictions, quality
from fairopt.experiments.evidence.protocol import Serving, Task

LINE = (
    "data", "attributes", "notion", "known", "seed", "method", "base", "setting", "word", "status", "seconds", "code", "row", "serving",
    "output", "validation quality", "validation gap", "test quality", "test gap",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Collected:
    """One task and serving over the seeds.

    rows        row of the table -> places of its outputs in ``seeds``
    seconds     row -> mean over the seeds of the processor seconds of all its candidates
    settings    row -> how many settings it has, and how many of them have figures, mean over the seeds
    absent      method -> why it has no figures at all; said where rows are served one by one
    """

    task: Task
    serving: Serving
    seeds: tuple[Seed, ...]
    rows: dict[str, list[int]]
    seconds: dict[str, float]
    settings: dict[str, tuple[int, float]]
    absent: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TaskCells:
    """All finished cells of a task: seed -> candidate key -> cell, and the rows of each seed."""

    task: Task
    cells: dict[int, dict[str, Cell]]
    rows: dict[int, dict[str, Rows]]
    asked: tuple[Candidate, ...]

    @property
    def stale(self) -> int:
        return sum(cell.stale for found in self.cells.values() for cell in found.values())

    def count(self, status: str) -> int:
        return sum(cell.status == status for found in self.cells.values() for cell in found.values())


def read_task(root: Path, task: Task, seeds: Sequence[int], settings: int | None = None) -> TaskCells:
    """What the run left. InputError where a cell is missing or damaged."""
    asked = tuple(c for c in candidates(task) if settings is None or c.setting < settings)
    cells = {seed: {c.key: read_cell(path_of(root, task, seed, c)) for c in asked} for seed in seeds}
    return TaskCells(task, cells, {seed: read_rows(folder_of(root, task, seed)) for seed in seeds}, asked)


def collect(found: TaskCells, serving: Serving) -> Collected:
    """The outputs of one serving, in the same places in every seed."""
    places: dict[tuple[str, str, str], int] = {}  # (candidate, row, output) -> place
    rows: dict[str, list[int]] = {}
    for cells in found.cells.values():
        for candidate in found.asked:
            for row, how, output in cells[candidate.key].outputs:
                key = (candidate.key, row, output)
                if how == serving and key not in places:
                    places[key] = len(places)
                    rows.setdefault(row, []).append(places[key])
    seeds = tuple(_seed(found, seed, serving, places) for seed in found.cells)
    seconds = dict.fromkeys(rows, 0.0)
    for name, row, _ in places:
        seconds[row] += float(np.mean([cells[name].seconds for cells in found.cells.values()]))
    asked = Counter((candidate.method, candidate.base) for candidate in found.asked)
    by_key = {candidate.key: candidate for candidate in found.asked}
    of_row = {row: by_key[name] for name, row, _ in places}
    settings = {
        row: (asked[of_row[row].method, of_row[row].base], float(np.mean([one.there[own].sum() for one in seeds])))
        for row, own in rows.items()
    }
    return Collected(found.task, serving, seeds, rows, seconds, settings, {} if serving == "batch" else _absent(found))


def _absent(found: TaskCells) -> dict[str, str]:
    """method -> why none of its cells, behind any base, has figures."""
    whole: dict[str, list[Cell]] = {}
    for candidate in found.asked:
        whole.setdefault(candidate.method, []).extend(cells[candidate.key] for cells in found.cells.values())
    return {method: cells[0].why for method, cells in whole.items() if all(cell.status != "done" for cell in cells)}


def _seed(found: TaskCells, seed: int, serving: Serving, places: dict[tuple[str, str, str], int]) -> Seed:
    parts = {}
    there = np.zeros(len(places), dtype=bool)
    for part, rows in found.rows[seed].items():
        outputs: list[tuple[str, Floats]] = []
        for (key, row, output), place in places.items():
            values = found.cells[seed][key].outputs.get((row, serving, output))
            there[place] = values is not None
            outputs.append((output, np.full(len(rows.y), np.nan) if values is None else values[part]))
        parts[part] = predictions(rows, found.task.notion, outputs)
    return Seed(parts["validation"], parts["test"], there)


def lines(found: TaskCells) -> list[tuple[Any, ...]]:
    """One line an output, or a cell without any; the figures rounded to seven digits."""
    task = found.task
    result: list[tuple[Any, ...]] = []
    for seed, cells in found.cells.items():
        for candidate in found.asked:
            cell = cells[candidate.key]
            head = (
                task.data, "|".join(task.attributes), task.notion, task.known, seed, candidate.method, candidate.base, candidate.setting,
                candidate.word, cell.status, round(cell.seconds, 3), cell.code,
            )  # fmt: skip
            for (row, serving, output), parts in cell.outputs.items():
                result.append((*head, row, serving, output, *of_output(found.rows[seed], task, output, parts)))
            if not cell.outputs:
                result.append((*head, "", "", "", None, None, None, None))
    return result


def of_output(rows: dict[str, Rows], task: Task, output: str, parts: dict[str, Floats]) -> tuple[float, float, float, float]:
    """Validation quality and gap, test quality and gap."""
    found = []
    for part in ("validation", "test"):
        said = predictions(rows[part], task.notion, [(output, parts[part])])
        ones = np.ones((1, len(rows[part].y)))
        found += [round(float(quality(said, ones)[0, 0]), 7), round(float(gap(said, ones)[0, 0]), 7)]
    return found[0], found[1], found[2], found[3]


def table_of(everything: Sequence[TaskCells]) -> Table:
    """The stored table of all cells."""
    return Table(LINE, tuple(line for found in everything for line in lines(found)))
