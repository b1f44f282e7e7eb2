"""Hard ranges as pairs, for a backend that takes linear rows alone.

K (K - 1) / 2 rows  -width <= f_a - f_b <= width  for a range with ratio 1, and K (K - 1) rows  ratio f_a - f_b <= width  for another one
(of one member: the row (ratio - 1) f <= width).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, permutations

import numpy as np

from fairopt.arrays import Array
from fairopt.problem import HARD, ProjectionProblem


@dataclass(frozen=True, eq=False)
class Pairs:
    """The problem with pairs for ranges, and the way back for its prices: prices (m,) = lift (m, m') @ prices of the pairs."""

    problem: ProjectionProblem
    lift: Array


def as_pairs(problem: ProjectionProblem) -> Pairs:
    """The same problem without ranges; all of them must be hard. Kept with the problem."""
    kept: Pairs | None = problem.__dict__.get("_pairs")
    if kept is None:
        kept = _convert(problem)
        problem.__dict__["_pairs"] = kept
    return kept


def _couples(part: slice, ratio: float) -> list[tuple[int, int]]:
    rows = range(part.start, part.stop)
    if ratio == 1.0:
        return list(combinations(rows, 2))
    return list(permutations(rows, 2)) if len(rows) > 1 else [(part.start, part.start)]


def _convert(problem: ProjectionProblem) -> Pairs:
    rows, L = problem.rows, problem.linear
    ratios = problem.ratio.tolist()
    couples = [(a, b, r) for r, part in enumerate(problem.range_slices) for a, b in _couples(part, ratios[r])]
    lift = np.zeros((problem.m, L + len(couples)))
    lift[:L, :L] = np.eye(L)
    for k, (a, b, r) in enumerate(couples, start=L):
        lift[a, k] += ratios[r]
        lift[b, k] -= 1.0
    widths = np.array([problem.width[r] for _, _, r in couples])
    below = np.array([-problem.width[r] if ratios[r] == 1.0 else -np.inf for _, _, r in couples])
    words = ["" if q == 1.0 else f"{q:g} * " for q in ratios]
    labels = tuple(f"{words[r]}{problem.labels[a]} - {problem.labels[b]}" for a, b, r in couples) if problem.labels else ()
    linear = replace(
        rows,
        scales=lift.T @ rows.scales,
        offset=lift.T @ rows.offset,
        offset_terms=(),
    )  # dense rows are linear ones, which keep their numbers
    pairs = replace(
        problem,
        rows=linear,
        lower=np.concatenate([problem.lower, below]),
        upper=np.concatenate([problem.upper, widths]),
        width=np.zeros(0),
        ratio=np.zeros(0),
        range_starts=np.array([L + len(couples)], dtype=np.int64),
        softness=(*problem.softness[:L], *(HARD for _ in couples)),
        labels=(*problem.labels[:L], *labels),
        constraint_labels=(*problem.constraint_labels[:L], *labels),
    )
    return Pairs(pairs, lift)
