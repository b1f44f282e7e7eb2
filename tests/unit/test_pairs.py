"""A backend without ranges gets them as pairs, and its prices come back as one per group."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

import fairopt as fo
from fairopt.contract import Backend, Capabilities, RawSolution
from fairopt.contract.problem import ProjectionProblem
from fairopt.contract.ranges_as_pairs import as_pairs
from fairopt.solve import solve
from fairopt_backends.dual_newton import DualNewton


class LinearOnly(Backend):
    """Solves linear rows alone."""

    name: ClassVar[str] = "linear_only"
    capabilities: ClassVar[Capabilities] = replace(DualNewton.capabilities, ranges=False, exact=False, softness=frozenset({"hard"}))

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        assert problem.ranges == 0
        raw = DualNewton().solve(scores, problem)
        return RawSolution(None, raw.prices, raw.status, raw.iterations)


def batch(seed: int, groups: int) -> tuple[Tensor, fo.Prepared]:
    rng = np.random.default_rng(seed)
    race = rng.integers(0, groups, 60)
    z = torch.tensor(rng.normal(0.5, 0.3, 60) + 0.1 * race)
    notion = fo.DemographicParity("race", tolerance=0.05) & fo.MeanResidual("race", tolerance=0.4)
    return z, fo.compile(notion, sensitive_features={"race": race}, targets=torch.full((60,), 0.5), bounds=(0.0, 1.0))


def test_the_pairs_have_the_same_solution() -> None:
    for seed in range(8):
        z, prepared = batch(seed, groups=3 + seed % 3)
        problem = prepared.problem
        assert problem.ranges == 1
        own, by_pairs = solve(z, problem, backend="dual_newton"), solve(z, problem, backend=LinearOnly())
        assert by_pairs.status is fo.Status.CERTIFIED
        assert torch.allclose(own.scores, by_pairs.scores, atol=1e-10, rtol=0)
        part = problem.range_slices[0]
        assert abs(float(by_pairs.prices[part].sum())) <= 1e-9
        assert torch.allclose(own.prices, by_pairs.prices, atol=1e-6, rtol=1e-6)


def test_rows_of_pairs_are_differences() -> None:
    z, prepared = batch(1, groups=4)
    problem = prepared.problem
    pairs = as_pairs(problem)
    f = problem.rows.matrix() @ z + torch.from_numpy(problem.rows.offset)
    g = pairs.problem.rows.matrix() @ z + torch.from_numpy(pairs.problem.rows.offset)
    assert torch.allclose(torch.from_numpy(pairs.lift.T) @ f, g, atol=1e-14)
    assert pairs.problem.m == problem.linear + 6
    assert len(pairs.problem.labels) == pairs.problem.m
