"""Hard ranges as pairs, for a backend that takes linear rows alone.

K (K - 1) / 2 rows  -width <= f_a - f_b <= width  for a range with ratio 1, and K (K - 1) rows  ratio f_a - f_b <= width  for another one
(of one member: the row (ratio - 1) f <= width).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, permutations

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.contract.backend import Capabilities
from fairopt.contract.problem import HARD, ProjectionProblem


@dataclass(frozen=True, eq=False)
class Pairs:
    """The problem with pairs for ranges, and the way back for its prices: prices (m,) = lift (m, m') @ prices of the pairs."""

    problem: ProjectionProblem
    lift: Array


def untaken(problem: ProjectionProblem, can: Capabilities) -> tuple[int, ...]:
    """The ranges that a backend with these capabilities does not take as they are."""
    return tuple(r for r, ratio in enumerate(problem.ratio.tolist()) if not (can.ranges and (can.ratio_ranges or ratio == 1.0)))


def as_pairs(problem: ProjectionProblem, chosen: tuple[int, ...] | None = None) -> Pairs:
    """The same problem without the ranges ``chosen`` (None: all), which must be hard. Kept with the problem."""
    chosen = tuple(range(problem.ranges)) if chosen is None else chosen
    return problem.workspace.keep(("pairs", chosen), lambda: _convert(problem, chosen))


def _couples(part: slice, ratio: float) -> list[tuple[int, int]]:
    rows = range(part.start, part.stop)
    if ratio == 1.0:
        return list(combinations(rows, 2))
    return list(permutations(rows, 2)) if len(rows) > 1 else [(part.start, part.start)]


def _convert(problem: ProjectionProblem, chosen: tuple[int, ...]) -> Pairs:
    rows, L, slices = problem.rows, problem.linear, problem.range_slices
    ratios = problem.ratio.tolist()
    couples = [(a, b, r) for r in chosen for a, b in _couples(slices[r], ratios[r])]
    others = [r for r in range(problem.ranges) if r not in set(chosen)]
    kept = np.concatenate([np.zeros(0, dtype=np.int64), *(np.arange(slices[r].start, slices[r].stop) for r in others)])
    first = L + len(couples)  # the first row of the ranges that stay
    lift = np.zeros((problem.m, first + kept.size))
    lift[:L, :L] = np.eye(L)
    for k, (a, b, r) in enumerate(couples, start=L):
        lift[a, k] += ratios[r]
        lift[b, k] -= 1.0
    lift[kept, first + np.arange(kept.size)] = 1.0
    widths = np.array([problem.width[r] for _, _, r in couples])
    below = np.array([-problem.width[r] if ratios[r] == 1.0 else -np.inf for _, _, r in couples])
    words = ["" if q == 1.0 else f"{q:g} * " for q in ratios]
    labels = tuple(f"{words[r]}{problem.labels[a]} - {problem.labels[b]}" for a, b, r in couples) if problem.labels else ()
    whole = tuple(problem.labels[k] for k in kept) if problem.labels else ()
    names, softness = problem.constraint_labels, problem.softness
    linear = replace(
        rows,
        scales=lift.T @ np.asarray(rows.scales),
        offset=lift.T @ rows.offset,
        offset_terms=(),
    )  # dense rows are linear ones, which keep their numbers
    pairs = replace(
        problem,
        rows=linear,
        lower=np.concatenate([problem.lower, below]),
        upper=np.concatenate([problem.upper, widths]),
        width=problem.width[others],
        ratio=problem.ratio[others],
        range_starts=first + np.cumsum([0, *(slices[r].stop - slices[r].start for r in others)]).astype(np.int64),
        softness=(*softness[:L], *(HARD for _ in couples), *(softness[L + r] for r in others)),
        labels=(*problem.labels[:L], *labels, *whole),
        constraint_labels=(*names[:L], *labels, *(names[L + r] for r in others)) if names else (),
    )
    return Pairs(pairs, lift)
