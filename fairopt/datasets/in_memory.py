"""The road for what passes cannot certify (tolerance 0, rows that weigh each sample, ratios of three groups ...): all rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from fairopt.basics.arrays import IntArray
from fairopt.basics.errors import UnsupportedError
from fairopt.basics.files import Dialect
from fairopt.datasets.find import Shard
from fairopt.datasets.question import Question
from fairopt.datasets.survey import Asked, Survey, Tally, blocks_of, compositions
from fairopt.layer.one_shot import project
from fairopt.solve import Solution
from fairopt.solve.passes.whole_sums import count_at_least, exact_sums

MOST_ROWS = 10**7


@dataclass(frozen=True, eq=False)
class Whole:
    """The solution of all rows; exact sums (K,) of the compositions and of each shard, decisions (K,), where each shard begins."""

    solution: Solution
    sums: list[int]
    by_shard: list[int]
    chosen: IntArray
    starts: list[int]


def project_whole(question: Question, asked: Asked, survey: Survey) -> Whole:
    """``fo.project`` of all rows together. UnsupportedError above MOST_ROWS; else its own errors."""
    notion = question.notion
    if survey.n > MOST_ROWS:
        raise UnsupportedError(
            f"{notion!r}: passes over shards cannot certify this (tolerance 0, a covariance, a ratio of three groups or more, a budget, "
            f"or limits without room for rounding), and {survey.n:,} rows are more than the {MOST_ROWS:,} that are loaded at once"
        )
    scores, codes, features, targets, weights = _loaded(question.shards, question.dialect, asked, survey)
    solution = project(
        torch.from_numpy(scores), notion, sensitive_features=features, targets=targets, weights=weights, bounds=question.bounds,
        missing_group=question.missing, return_solution=True,
    )  # fmt: skip
    y, K = solution.scores.detach().numpy(), len(survey.keys)
    chosen = np.zeros(K, dtype=np.int64)
    count_at_least(y, codes, asked.threshold, chosen)
    starts = np.concatenate([[0], np.cumsum([one.rows for one in survey.seen])]).tolist()
    by_shard = [sum(exact_sums(y[a:b], np.zeros(b - a, dtype=np.uint16), 1)) for a, b in pairwise(starts)]
    return Whole(solution, exact_sums(y, codes, K), by_shard, chosen, starts)


def _loaded(shards: Sequence[Shard], dialect: Dialect, asked: Asked, survey: Survey) -> tuple[Any, Any, dict[str, Any], Any, Any]:
    """scores (n,), composition (n,), features, targets and weights of all rows that can be used."""
    numbers: dict[str, list[Any]] = {name: [] for name in asked.wanted.numeric}
    targets: list[Any] = []
    weights: list[Any] = []
    scores: list[Any] = []
    codes: list[Any] = []
    tally = Tally()
    for key in survey.keys:
        tally.place(key)
    for shard in shards:
        for block in blocks_of(shard, dialect, asked.wanted):
            if block.n == 0:
                continue
            codes.append(compositions(block, asked, tally))
            scores.append(block.scores)
            for name, column in numbers.items():
                column.append(block.numbers[name])
            targets.append(block.targets)
            weights.append(block.weights)
    code = np.concatenate(codes)
    features: dict[str, Any] = {name: [survey.keys[k][j] for k in code.tolist()] for j, name in enumerate(asked.wanted.groups)}
    features |= {name: np.concatenate(column) for name, column in numbers.items()}
    told, heavy = (None if part[0] is None else np.concatenate(part) for part in (targets, weights))
    return np.concatenate(scores), code, features, told, heavy
