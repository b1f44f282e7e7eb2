"""Drawn problems of other distances and of class probabilities, from the structures of ``draws``: their rows and softness, with limits
around scores inside the domain, so that hard rows can be met."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.contract.problem import Distance, Kind, ProjectionProblem
from fairopt.notions.several import Part
from fairopt.solve.simplex.joined import joined
from fairopt.testing.draws import stream, wild

INF = float("inf")
AVOID = (
    "infeasible", "box", "narrow_box", "wide_box", "one_sided_box", "sample_box", "far", "tiny", "huge", "scaled_rows", "zero_tolerance",
    "wild_weights",
)  # fmt: skip
KINDS: tuple[tuple[Distance, Kind], ...] = (("kl", "one"), ("kl_positive", "one"), ("squared", "simplex"), ("kl", "simplex"))


@dataclass(frozen=True, eq=False)
class OtherDraw:
    """problem, scores (n,) in its positions, and the words that draw it again."""

    problem: ProjectionProblem
    scores: Tensor
    words: str

    @property
    def table(self) -> Tensor:
        """(n / classes, classes)"""
        return self.scores.reshape(self.problem.classes, -1).T.contiguous()


def other_draws(count: int, seed: int, distance: Distance, kind: Kind, *, max_n: int = 24, classes: int = 4) -> Iterator[OtherDraw]:
    """At most ``count`` problems of a distance and kind of output; class probabilities of 2 to ``classes`` classes, without dense rows."""
    for k, d in enumerate(wild(count, seed, max_n=max_n if kind == "one" else max(max_n // classes, 2), avoid=AVOID)):
        rng = stream(seed, f"other {k}")
        words = f"other_draws({count}, {seed}, {distance!r}, {kind!r}, max_n={max_n}, classes={classes}): {k}, {d}"
        p = d.problem
        if kind == "one":
            size = 1.0 if distance == "kl" else float(np.exp(rng.normal()))
            z, witness = size * rng.beta(1.5, 1.5, p.n), size * rng.uniform(0.2, 0.8, p.n)
            ub = 1.0 if distance == "kl" else INF
            yield OtherDraw(replace(_around(p, witness, size, rng), lb=0.0, ub=ub, distance=distance), torch.from_numpy(z), words)
        elif p.rows.dense is None:
            C = int(rng.integers(2, classes + 1))
            table, inside = rng.dirichlet(np.full(C, 1.0), p.n), rng.dirichlet(np.full(C, 5.0), p.n)
            parts = [(Part(c), _around(p, inside[:, c], 1.0, rng)) for c in range(C)]
            problem = joined(parts, C, "kl_positive" if distance == "kl" else "squared")
            yield OtherDraw(problem, torch.from_numpy(np.ascontiguousarray(table.T)).reshape(-1), words)


def _around(p: ProjectionProblem, witness: Array, size: float, rng: np.random.Generator) -> ProjectionProblem:
    """The rows of ``p`` with limits that the witness (n,) meets with some room; soft ones that it may break."""
    rows = replace(p.rows, offset=np.zeros(p.m), offset_terms=(), values=())
    f, unit, L = rows.matrix().numpy() @ witness, np.maximum(rows.absolute_sum, 1e-300) * size, p.linear
    room = unit * np.array([1e-3, 0.05])[rng.integers(2)]
    side = rng.integers(3, size=L)
    lower, upper = np.where(side == 1, -INF, f[:L] - room[:L]), np.where(side == 2, INF, f[:L] + room[:L])
    gaps = [ratio * f[part].max() - f[part].min() for part, ratio in zip(p.range_slices, p.ratio, strict=True)]
    width = np.array([max(g, 0.0) + float(room[part].max()) for g, part in zip(gaps, p.range_slices, strict=True)])
    return replace(p, rows=rows, lower=lower, upper=upper, width=width, lb=-INF, ub=INF)
