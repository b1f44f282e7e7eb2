"""Hard ranges as pairs, for a backend that takes linear rows alone: K (K - 1) / 2 rows  -width <= f_a - f_b <= width  for each range."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

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


def _convert(problem: ProjectionProblem) -> Pairs:
    rows, L = problem.rows, problem.linear
    couples = [(a, b, r) for r, part in enumerate(problem.range_slices) for a, b in combinations(range(part.start, part.stop), 2)]
    lift = np.zeros((problem.m, L + len(couples)))
    lift[:L, :L] = np.eye(L)
    for k, (a, b, _) in enumerate(couples, start=L):
        lift[a, k], lift[b, k] = 1.0, -1.0
    widths = np.array([problem.width[r] for _, _, r in couples])
    labels = tuple(f"{problem.labels[a]} - {problem.labels[b]}" for a, b, _ in couples) if problem.labels else ()
    linear = replace(
        rows,
        scales=lift.T @ rows.scales,
        offset=lift.T @ rows.offset,
        offset_terms=(),
    )  # dense rows are linear ones, which keep their numbers
    pairs = replace(
        problem,
        rows=linear,
        lower=np.concatenate([problem.lower, -widths]),
        upper=np.concatenate([problem.upper, widths]),
        width=np.zeros(0),
        range_starts=np.array([L + len(couples)], dtype=np.int64),
        softness=(*problem.softness[:L], *(HARD for _ in couples)),
        labels=(*problem.labels[:L], *labels),
        constraint_labels=(*problem.constraint_labels[:L], *labels),
    )
    return Pairs(pairs, lift)
