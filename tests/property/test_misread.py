"""Prices that rounding left on rows that do not bind: whichever road finishes the answer, none of them may move a row to its limit."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fairopt.contract.backend import RawSolution, Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve import solve
from fairopt.solve.dual.newton import SolvedDual
from fairopt.solve.dual.structure import structure
from fairopt.testing.draws import Draw, draw, drawn_problems
from fairopt.testing.optimality import residuals, size_of
from fairopt_backends.dual_newton import DualNewton


class Noisy(DualNewton):
    """The right prices, and on linear rows without one a price that moves the row by ``noise`` of the scores, of either sign."""

    name: ClassVar[str] = "noisy"

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.noise = noise

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        found = super().solve(scores, problem)
        if not isinstance(found, SolvedDual):
            return found
        shape = structure(problem)
        size = self.noise * float(scores.abs().max()) * shape.unit / shape.metric
        signs = np.where(np.arange(problem.m) % 2 == 0, -1.0, 1.0)
        idle = (found.solution.p == 0.0) & (np.arange(problem.m) < problem.linear)
        p = np.where(idle, signs * size, found.solution.p)
        return replace(found, prices=p, solution=replace(found.solution, p=p))


def check(d: Draw, noise: float) -> bool:
    """Whether the noise was there to be misread. Scores and prices of a granting status are the projection's."""
    scores = d.scores.to(torch.float64)
    right = solve(scores, d.problem, backend="dual_newton")
    found = solve(scores, d.problem, backend=Noisy(noise))
    size = size_of(scores.numpy(), right.scores.numpy())
    if right.status is not Status.CERTIFIED or found.status not in (Status.CERTIFIED, Status.WITHIN_ROUNDING):
        return False
    judged = residuals(d.problem, scores.numpy(), found.scores.numpy(), found.prices.numpy())
    assert judged.worst <= 1e-7, (d, found, judged)
    assert float((found.scores - right.scores).abs().max()) <= 1e-7 * size, (d, found, right)
    return bool((right.prices == 0.0).any())


@settings(max_examples=150)
@given(drawn_problems(max_n=40), st.sampled_from([1e-18, 1e-16, 1e-15]))
def test_noise_on_rows_that_do_not_bind_moves_no_score(d: Draw, noise: float) -> None:
    check(d, noise)


@pytest.mark.parametrize("structure_of", ["overall", "reference", "ratio", "bound", "residual"])
def test_two_rows_in_plain_floats_read_the_active_set_from_the_proximal_map(structure_of: str) -> None:
    drawn = [draw(structure_of, seed, {"box"}, max_n=8) for seed in range(120)]
    few = [d for d in drawn if structure(d.problem).shape == "few_rows"]
    read = sum(check(d, noise) for d in few for noise in (1e-18, 1e-15))
    assert len(few) >= 30
    assert read >= 5  # a row without a price, whose noise was there to be misread
