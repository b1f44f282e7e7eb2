"""The kit passes a right backend, and each planted wrong one fails by the name of the property that it breaks."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fairopt.basics.errors import ConformanceError, InputError
from fairopt.contract.backend import RawSolution, Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve import solve
from fairopt.testing import BACKEND_PROPERTIES, check_backend
from fairopt.testing.draws import draw, wild

_spec = importlib.util.spec_from_file_location("planted_backends", Path(__file__).with_name("planted.py"))
assert _spec is not None
assert _spec.loader is not None
planted: Any = importlib.util.module_from_spec(_spec)
sys.modules["planted_backends"] = planted
_spec.loader.exec_module(planted)


@pytest.mark.parametrize("right", [planted.Honest, planted.WithoutPrices])
def test_a_right_backend_passes(right: Any) -> None:
    check_backend(right, draws=12)


REPORTED = draw("mixture", 899976844, ["constant_scores", "duplicate", "far", "singleton", "weights"], max_n=24)


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_right_scores_without_prices_are_certified(noise: float) -> None:
    """Prices are rebuilt from the scores: where samples are clamped, and rows say the same, least squares alone does not find them."""

    class Scores(planted.WithoutPrices):  # type: ignore[misc]
        """dual_newton's own scores."""

        name = "scores"
        capabilities = replace(planted.WithoutPrices.capabilities, ratio_ranges=True)

        def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
            y = solve(scores, problem, backend="dual_newton").scores
            error = noise * float(y.abs().max()) * torch.from_numpy(np.random.default_rng(0).standard_normal(len(y)))
            return RawSolution(y + error)

    outcomes, denied = [], 0
    for case in (REPORTED, *wild(300, 5, max_n=24)):
        ours, theirs = solve(case.scores, case.problem), solve(case.scores, case.problem, backend=Scores())
        if theirs.status not in (Status.CERTIFIED, Status.WITHIN_ROUNDING):  # a draw whose last digits hang on the processor
            size = float(case.scores.abs().max())
            assert theirs.certificate.kkt_residual <= 1e-12 * size, f"{case}: {theirs.status.name} {theirs.certificate}"
            denied += 1
        apart = float((ours.scores - theirs.scores).abs().max()) / float(case.scores.abs().max())
        assert apart <= 1e-8, f"{case}: {apart}"
        outcomes.append(ours.status is theirs.status)
    assert sum(outcomes) >= 0.99 * len(outcomes)
    assert denied <= 1


def test_wrong_scores_without_prices_are_not() -> None:
    """The prices that are found must stand for the backend's scores: nobody else's answer is put in the place of a wrong one."""

    class Wrong(planted.WithoutPrices):  # type: ignore[misc]
        name = "wrong"
        capabilities = replace(planted.WithoutPrices.capabilities, ratio_ranges=True)

        def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
            y = solve(scores, problem, backend="dual_newton").scores
            return RawSolution(y + 0.1 * float(scores.abs().max()) * torch.from_numpy(np.random.default_rng(1).standard_normal(len(y))))

    kept = 0
    for case in wild(60, 6, max_n=24):
        ours, theirs = solve(case.scores, case.problem), solve(case.scores, case.problem, backend=Wrong())
        apart = float((ours.scores - theirs.scores).abs().max()) / float(case.scores.abs().max())
        kept += theirs.status not in (Status.CERTIFIED, Status.WITHIN_ROUNDING)
        assert apart <= 1e-8 or theirs.status not in (Status.CERTIFIED, Status.WITHIN_ROUNDING), f"{case}: {apart}"
    assert kept >= 10  # of the others the input is feasible, or the right rows are read off all the same


@pytest.mark.parametrize("wrong", planted.WRONG, ids=lambda kind: kind.__name__)
def test_a_wrong_backend_fails_by_name(wrong: Any) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_backend(wrong(), draws=12)
    assert caught.value.property == wrong.expected, str(caught.value)
    assert wrong.expected in BACKEND_PROPERTIES
    assert "draw(" in str(caught.value) or wrong.expected in ("unknown_options", "capabilities")


def test_every_property_can_be_asked_for_alone() -> None:
    for name in BACKEND_PROPERTIES:
        check_backend(planted.Honest, draws=4, properties=[name])


def test_wrong_arguments() -> None:
    with pytest.raises(InputError, match="properties"):
        check_backend(planted.Honest, properties=["no such property"])
    with pytest.raises(InputError, match="draws"):
        check_backend(planted.Honest, draws=0)
