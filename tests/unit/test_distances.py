"""The Kullback-Leibler projection: optimal by its own conditions, exact in its rows, differentiable twice, finite everywhere."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.unit.kl_draws import KlDraw, kl_draws
from scipy.special import expit, logit
from torch import Tensor

import fairopt as fo
from fairopt.basics.range_projection import range_flow
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.structure import structure
from fairopt.solve.finish.check import exact_violations
from fairopt.solve.front import solve

Distances = ("kl", "kl_positive")
every = pytest.mark.parametrize("distance", Distances)


def moved(problem: ProjectionProblem, z: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(n,) the scores that prices p stand for, by formulae other than the library's."""
    s = (problem.rows.matrix().numpy().T @ p) / (1.0 if problem.weights is None else problem.weights.numpy())
    with np.errstate(divide="ignore"):
        return np.where((z == 0) | (z == 1), z, expit(logit(z) - s)) if problem.distance == "kl" else z * np.exp(-s)


def gap_of_prices(problem: ProjectionProblem, f: np.ndarray, p: np.ndarray, size: float) -> float:
    """How far prices p are from the subgradients of the cost of row values f: 0 says that the scores are nearest, in score units."""
    st, L = structure(problem), problem.linear
    worst = 0.0
    blocks: dict[int, list[tuple[float, float, float, float]]] = {}
    for c, soft in enumerate(problem.softness):
        rows = slice(c, c + 1) if c < L else problem.range_slices[c - L]
        unit = float(st.unit[rows].max())
        moves = float(st.metric[rows].max()) * size  # how far a price moves the row, at most about
        if c < L:
            price, over = abs(float(p[c])), float(f[c] - problem.upper[c]) if p[c] > 0 else float(problem.lower[c] - f[c])
            over = max(float(f[c] - problem.upper[c]), float(problem.lower[c] - f[c])) if p[c] == 0 else over
        else:
            ratio = float(problem.ratio[c - L])
            price = range_flow(p[rows], ratio)
            whole = ratio * f[rows].max() - f[rows].min() - problem.width[c - L]
            lost = float(price * (ratio * f[rows].max() - f[rows].min()) - p[rows] @ f[rows])  # 0 where prices lie on the extremes
            scale = float(np.abs(p[rows]).sum())
            worst = max(worst, lost / (scale * unit) if scale else 0.0)
            over = float(whole)
        if soft.kind == "hard":
            miss = max(over, 0.0) if price == 0 else abs(over)
        elif soft.kind == "quadratic":
            miss = abs(over - price / soft.weight) if price > 0 else min(max(over, 0.0), max(over, 0.0) * soft.weight * moves)
        elif soft.kind == "priced":
            miss = max(-over, 0.0) if price > 0 else 0.0
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


def judged(draw: KlDraw, solution: fo.Solution) -> None:
    """The conditions that make scores the nearest, checked with formulae of their own."""
    problem, z = draw.problem, draw.scores.numpy()
    p = solution.prices.numpy()
    p = np.where(np.abs(p) > 1e-12 * np.abs(p).max(initial=0.0), p, 0.0)  # where rows depend on each other
    y = moved(problem, z, p)
    size = float(y.max())
    returned = solution.scores.detach().numpy()
    assert np.abs(returned - y).max() <= 1e-8 * size + solution.certificate.moved_by_repair, draw.words
    assert gap_of_prices(problem, problem.rows.matrix().numpy() @ y, p, size) <= 1e-8 * size, draw.words
    hard = np.flatnonzero(structure(problem).hard).tolist()
    if solution.status is fo.Status.CERTIFIED:
        assert all(v <= 0 for v in exact_violations(structure(problem), problem, returned, hard).values()), draw.words
        assert solution.certificate.kkt_residual <= solution.certificate.kkt_bound


@every
def test_scores_are_nearest_by_conditions_of_their_own(distance: Any) -> None:
    granted, most = 0, 0
    for draw in kl_draws(120, 5, distance=distance):
        z = draw.scores.clone().requires_grad_(True)
        solution = solve(z, draw.problem)
        assert solution.status in (fo.Status.CERTIFIED, fo.Status.WITHIN_ROUNDING), (draw.words, solution.status, solution.message)
        judged(draw, solution)
        granted += solution.status is fo.Status.CERTIFIED
        most = max(most, solution.iterations)
        solution.scores.sum().backward()
        assert torch.isfinite(z.grad).all(), draw.words
    assert granted >= 118
    assert most <= 15
