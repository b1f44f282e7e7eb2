"""Frozen shifts of a data set: of the rows themselves where they are few, else of the prices that passes over files found."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.datasets.crew import Threads
from fairopt.datasets.job import Progress
from fairopt.datasets.load import load
from fairopt.datasets.question import Question
from fairopt.datasets.shard_passes import floats
from fairopt.datasets.shard_solver import Solved, solve_shards
from fairopt.datasets.tables import few_rows
from fairopt.layer.fairness_layer import FairnessLayer
from fairopt.layer.freezing import group_shifts, weighs_samples
from fairopt.layer.frozen import FrozenLayer, OnUnknown
from fairopt.layer.guaranteed_shifts import OnFew
from fairopt.layer.population_bound import population_bounds, rows_at


@dataclass(frozen=True)
class FreezeJob:
    """What was asked for; see ``freeze_dataset``."""

    question: Question
    bounds: Any
    confidence: float
    guarantee: float | None
    on_few: OnFew
    seed: int
    on_unknown: OnUnknown
    rows_at_once: int


def frozen(job: FreezeJob, threads: int, progress: Progress) -> FrozenLayer:
    """The frozen layer. Raises what ``freeze_dataset`` says."""
    question = job.question
    if few_rows(question.shards, job.rows_at_once):
        return _loaded(job)
    if not 0.0 < job.confidence < 1.0:
        raise InputError(f"confidence: expected a number in (0, 1), got {job.confidence!r}")
    if job.guarantee is not None:
        raise _unknown(f"guarantee: got {job.guarantee!r}: it draws rows", job)
    if question.wanted.numeric:
        raise weighs_samples(question.notion)
    with TemporaryDirectory(prefix="fairopt-freeze-") as folder:
        solved = solve_shards(question, Threads(threads, progress.more), Path(folder), progress)
    if solved.cells is None:
        raise _unknown(f"{question.notion!r}: passes over files cannot certify this (tolerance 0, a ratio, a budget)", job)
    return _of_prices(solved, job)


def _unknown(what: str, job: FreezeJob) -> UnsupportedError:
    return UnsupportedError(f"{what}, and there are more than {job.rows_at_once:,} rows; pass a larger rows_at_once= to load them all")


def _loaded(job: FreezeJob) -> FrozenLayer:
    question = job.question
    rows = load(question.shards, question.dialect, question.wanted)
    layer = FairnessLayer(question.notion, bounds=job.bounds, missing_group=question.missing)
    return layer.freeze(
        rows.scores.astype(np.float64), sensitive_features=rows.features, targets=rows.targets, confidence=job.confidence,
        guarantee=job.guarantee, on_few=job.on_few, seed=job.seed, on_unknown=job.on_unknown,
    )  # fmt: skip


def _of_prices(solved: Solved, job: FreezeJob) -> FrozenLayer:
    """One shift a group, from the shift of each composition."""
    found, notion = solved.cells, job.question.notion
    assert found is not None
    problem, names = found.problem, notion.attributes
    cell = problem.rows.cell.numpy()[solved.positions.first]
    cells = int(problem.rows.masks.shape[1])
    cell_shifts = np.zeros(cells)
    cell_shifts[cell] = found.shift
    places = [solved.asked.wanted.groups.index(name) for name in names]
    keys = [tuple(key[j] for j in places) for key in solved.survey.keys]
    index = {key: k for k, key in enumerate(dict.fromkeys(keys))}
    code = np.array([index[key] for key in keys], dtype=np.int64)[solved.positions.owner]
    shifts = group_shifts(problem, cell_shifts, code, len(index), repr(notion))
    values = rows_at(problem, floats(found.proved.sums, cell, cells))
    low, high = job.question.bounds
    guarantees = population_bounds(problem, values, cell_shifts, low, high, job.confidence)
    inside = low <= solved.survey.least and solved.survey.largest <= high and isfinite(high - low)
    return FrozenLayer(
        names, list(index), shifts, lb=low, ub=high, space="value", guarantees=guarantees, notion=repr(notion), on_unknown=job.on_unknown,
        outside="warn" if inside else "pass",
    )  # fmt: skip
