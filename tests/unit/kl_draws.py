"""Problems of the Kullback-Leibler divergences drawn from the structures of ``fairopt.testing``: their rows and softness, with limits
around scores inside the domain, so that hard rows can be met."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.range_projection import range_flow
from fairopt.contract.problem import Distance, ProjectionProblem
from fairopt.solve.dual.structure import structure
from fairopt.testing.draws import stream, wild

INF = float("inf")
AVOID = (
    "infeasible",
    "box",
    "narrow_box",
    "wide_box",
    "one_sided_box",
    "sample_box",
    "far",
    "tiny",
    "huge",
    "scaled_rows",
    "zero_tolerance",
)


@dataclass(frozen=True, eq=False)
class KlDraw:
    problem: ProjectionProblem
    scores: Tensor
    words: str


def scores_of(rng: np.random.Generator, n: int, distance: Distance) -> np.ndarray:
    """(n,) scores: some of them tiny, or 0 and 1."""
    kind = rng.integers(4)
    z = rng.beta(*((1.0, 1.0), (0.1, 0.3), (3.0, 0.2), (0.02, 1.0))[kind], n)
    z = np.where(rng.random(n) < 0.03, 1e-300, z)
    if distance == "kl_positive":
        return z * np.exp(rng.normal(scale=2.0))
    return np.where((rng.random(n) < 0.05) & (z > 0.5), 1.0, z)


def kl_draws(count: int, seed: int = 0, *, distance: Distance = "kl", max_n: int = 200) -> Iterator[KlDraw]:
    """``count`` problems, all with scores that meet their hard rows strictly inside the domain."""
    for k, draw in enumerate(wild(count, seed, max_n=max_n, avoid=AVOID)):
        rng = stream(seed, f"kl {k}")
        p = draw.problem
        z = scores_of(rng, p.n, distance)
        fixed = (z <= 0.0) | (z >= 1.0) if distance == "kl" else z <= 0.0
        witness = np.where(fixed, z, rng.uniform(0.05, 0.95, p.n) * (1.0 if distance == "kl" else 3.0))
        rows = replace(p.rows, offset=np.zeros(p.m), offset_terms=())
        f = rows.matrix().numpy() @ witness
        L = p.linear
        unit = np.maximum(rows.absolute_sum, 1e-300)
        room = np.array([0.0, 1e-3, 0.05])[rng.integers(3)] * unit
        side = rng.integers(3, size=L)
        lower, upper = f[:L] - (room[:L] + 1e-9 * unit[:L]), f[:L] + (room[:L] + 1e-9 * unit[:L])
        lower, upper = np.where(side == 1, -INF, lower), np.where(side == 2, INF, upper)
        gaps = [ratio * f[part].max() - f[part].min() for part, ratio in zip(p.range_slices, p.ratio, strict=True)]
        width = np.array([max(g, 0.0) + 1e-9 + float(room[part].max()) for g, part in zip(gaps, p.range_slices, strict=True)])
        problem = replace(
            p, rows=rows, lower=lower, upper=upper, width=width, lb=0.0, ub=1.0 if distance == "kl" else INF, distance=distance
        )
        yield KlDraw(problem, torch.from_numpy(z), f"kl_draws({count}, {seed}, distance={distance!r}, max_n={max_n}): {k}, {draw}")


def gap_of_prices(problem: ProjectionProblem, f: np.ndarray, p: np.ndarray, size: float) -> float:
    """How far prices p are from the subgradients of the cost of row values f: 0 says that the scores are nearest, in score units. A price
    that should not be there counts for no more than it moves its row by.
    """
    shape, L = structure(problem), problem.linear
    worst = 0.0
    blocks: dict[int, list[tuple[float, float, float, float]]] = {}
    for c, soft in enumerate(problem.softness):
        rows = slice(c, c + 1) if c < L else problem.range_slices[c - L]
        unit = float(shape.unit[rows].max())
        moves = float(shape.metric[rows].max()) * size  # how far a price moves the row, at most about
        if c < L:
            price, over = abs(float(p[c])), float(f[c] - problem.upper[c]) if p[c] > 0 else float(problem.lower[c] - f[c])
            over = max(float(f[c] - problem.upper[c]), float(problem.lower[c] - f[c])) if p[c] == 0 else over
        else:
            ratio = float(problem.ratio[c - L])
            price = range_flow(p[rows], ratio)
            whole = ratio * f[rows].max() - f[rows].min() - problem.width[c - L]
            lost = float(price * (ratio * f[rows].max() - f[rows].min()) - p[rows] @ f[rows])  # 0 where prices lie on the extremes
            scale = float(np.abs(p[rows]).sum())
            worst = max(worst, min(lost / scale, scale * moves) / unit if scale else 0.0)
            over = float(whole)
        if soft.kind == "hard":
            miss = over if over > 0.0 else min(-over, price * moves) if price else 0.0
        elif soft.kind == "quadratic":
            wanted = max(over, 0.0)
            miss = min(abs(over - price / soft.weight) if price else wanted, abs(price - wanted * soft.weight) * moves)
        elif soft.kind == "priced":
            miss = min(max(-over, 0.0), price * moves)
            miss = max(miss, min(over, (soft.weight - price) * moves))
            assert price <= soft.weight * (1 + 1e-9)
        else:
            blocks.setdefault(soft.block, []).append((price, over, unit, moves))
            continue
        worst = max(worst, miss / unit)
    for block, parts in blocks.items():
        rho = next(s.weight for s in problem.softness if s.block == block and s.kind == "budget")
        most = max([over for _, over, _, _ in parts] + [0.0])
        total = sum(price for price, _, _, _ in parts)
        assert total <= rho * (1 + 1e-9)
        for price, over, unit, moves in parts:
            worst = max(worst, min(most - over, price * moves) / unit)
            worst = max(worst, min(most, (rho - total) * moves) / unit)
    return worst
