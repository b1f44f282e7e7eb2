"""From files to prices: what a notion reads of rows, the survey, and passes until scores are proved."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fairopt.datasets.crew import Crew
from fairopt.datasets.guess import Histograms
from fairopt.datasets.job import Progress
from fairopt.datasets.question import Question
from fairopt.datasets.shard_passes import ShardPasses
from fairopt.datasets.solving import (
    Found,
    Positions,
    Uses,
    box_of,
    compares_targets,
    find_prices,
    positions_of,
    problem_of,
    sorted_keys,
    uses_of,
)
from fairopt.datasets.survey import Asked, Survey, blocks_of, join


def asked_of(question: Question, uses: Uses) -> Asked:
    """What the first pass reads."""
    low, high = question.bounds
    room = 0.25 * (high - low)
    bins = Histograms(low - room, high + room) if np.isfinite(room) and room > 0.0 and not uses.dense else None
    return Asked(question.wanted, uses.by_target, question.threshold, bins)


@dataclass(frozen=True, eq=False)
class Solved:
    """What passes found. cells: the proved prices, None where this road cannot certify any; passes: those taken."""

    uses: Uses
    asked: Asked
    survey: Survey
    positions: Positions
    cells: Found | None
    passes: int


def solve_shards(question: Question, crew: Crew, folder: Path, progress: Progress) -> Solved:
    """``folder``: for scratch files. InputError, InfeasibleError."""
    uses = _probed(question)

    def survey(asked: Asked) -> tuple[Survey, Positions]:
        for left in folder.glob("*.rows"):
            left.unlink()
        progress.begin("reading", 1, None)
        found = join(crew.survey(question.shards, question.dialect, asked, folder, strict=question.strict), asked, sorted_keys)
        return found, positions_of(found, asked)

    asked = asked_of(question, uses)
    found, positions = survey(asked)
    progress.begin("solving", 1, None)
    if not (uses.by_target or uses.dense) and compares_targets(question.notion, positions, question.missing):
        uses = replace(uses, by_target=True)  # for a group that the first rows lacked
        asked = asked_of(question, uses)
        found, positions = survey(asked)
    cells, passes = (None, 1) if uses.dense else _by_passes(question, found, asked, positions, crew, progress)
    return Solved(uses, asked, found, positions, cells, passes)


def _probed(question: Question) -> Uses:
    """What the notion reads, from the first rows that can be used."""
    for shard in question.shards:
        with closing(blocks_of(shard, question.dialect, question.wanted)) as blocks:
            for block in blocks:
                if block.n:
                    return uses_of(question.notion, block, question.missing)
    return Uses(False, False)


def _by_passes(
    question: Question, found: Survey, asked: Asked, positions: Positions, crew: Crew, progress: Progress
) -> tuple[Found | None, int]:
    box = box_of(question.bounds, found.single)
    made: list[ShardPasses] = []

    def told(what: str, count: int) -> None:
        progress.begin(what, count, found.n)

    def passes_of(cell: Any, cells: int) -> ShardPasses:
        made.append(ShardPasses(found, cell, cells, box, crew, question.threshold, told))
        return made[0]

    problem = problem_of(question.notion, positions, question.bounds, question.missing)
    cells = find_prices(problem, found, positions, passes_of, box, asked.histograms)
    return cells, made[0].taken if made else 1
