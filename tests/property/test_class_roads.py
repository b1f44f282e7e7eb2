"""The two roads of class probabilities are one: the compiled solve against the general one, on drawn and on wild problems."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fairopt as fo
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve import road
from fairopt.solve.dual.structure import structure
from fairopt.solve.finish.check import exact_violations
from tests.unit.class_draws import ClassDraw, class_draws, wild

DRAWS = int(os.environ.get("FAIROPT_DRAWS", "200"))
fast: Any = road.fast(torch.float64, "simplex.fast")
pytestmark = pytest.mark.skipif(fast is None, reason="numba is not installed, or FAIROPT_FAST=0")
distances = pytest.mark.parametrize("distance", ["squared", "kl"])


def taken(draw: ClassDraw, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Any] | None:
    problem = draw.prepared.problem_for(draw.z.shape[1])
    found: tuple[Tensor, Any] | None = fast.attempt(draw.z.to(dtype), problem, kl=draw.distance == "kl")
    return found


def of_road(count: int, seed: int, distance: str) -> Iterator[tuple[ClassDraw, Tensor, Any]]:
    """Draws that the compiled road answers, with its scores and answer."""
    for draw in class_draws(count, seed, distance):
        found = taken(draw)
        if found is not None:
            yield draw, *found


def rows_hold(problem: ProjectionProblem, y: Tensor) -> bool:
    st = structure(problem)
    exact = exact_violations(st, problem, y.double().numpy().T.reshape(-1), np.flatnonzero(st.hard).tolist())
    return all(v <= 0 for v in exact.values())


def gradient(draw: ClassDraw, v: Tensor) -> Tensor:
    z = draw.z.clone().requires_grad_(True)
    draw.prepared.project(z).backward(v)
    assert z.grad is not None
    return z.grad


@distances
def test_the_roads_agree(distance: str) -> None:
    compared = 0
    for draw, y, answer in of_road(DRAWS, 1, distance):
        with road.closed():
            general = draw.prepared.project(draw.z, return_solution=True)
        assert general.status in (fo.Status.CERTIFIED, fo.Status.WITHIN_ROUNDING), draw.words
        margins = answer.certificate().moved_by_repair + general.certificate.moved_by_repair
        far = float((y - general.scores).abs().max())
        assert far <= 1e-12 or far <= margins <= 1e-8, draw.words
        compared += 1
    assert compared > 0.55 * DRAWS


@distances
def test_hundreds_of_rows_are_one_call_too(distance: str) -> None:
    """Equalized odds of nine classes over four groups: 324 rows."""
    rng = np.random.default_rng(5)
    g, labels = rng.integers(0, 4, 300), rng.integers(0, 9, 300)
    z = torch.softmax(torch.from_numpy(rng.normal(size=(300, 9)) + 0.4 * (np.arange(9) == g[:, None])), 1)
    notion = fo.EqualizedOdds("g", tolerance=0.05)
    prepared = fo.compile(notion, sensitive_features=g, targets=labels, outputs="simplex", distance=distance)
    assert prepared.problem_for(9).m == 324
    found = fast.attempt(z, prepared.problem_for(9), kl=distance == "kl")
    assert found is not None
    assert rows_hold(prepared.problem_for(9), found[0])
    with road.closed():
        general = prepared.project(z, return_solution=True)
    assert float((general.scores - z).abs().max()) > 1e-2
    assert float((found[0] - general.scores).abs().max()) <= 1e-11


@distances
def test_the_rows_hold_in_fractions_and_the_certificate_is_of_these_scores(distance: str) -> None:
    for draw, y, answer in of_road(80, 2, distance):
        problem = draw.prepared.problem_for(draw.z.shape[1])
        assert rows_hold(problem, y), draw.words
        assert float(y.min()) >= 0.0, draw.words
        solution = answer.solution(y)
        assert solution.status is fo.Status.CERTIFIED
        assert solution.certificate.kkt_residual <= solution.certificate.kkt_bound
        exact = [abs(float(1 - sum(map(Fraction, row)))) for row in y.tolist()]
        assert max(exact) == pytest.approx(solution.simplex_error, rel=1e-14, abs=1e-30), draw.words
        assert solution.simplex_error <= y.shape[1] * 2.0**-52, draw.words


@distances
def test_single_precision_holds_too(distance: str) -> None:
    compared = 0
    for draw in class_draws(80, 3, distance):
        found = taken(draw, torch.float32)
        if found is None:
            continue
        y = found[0]
        assert y.dtype == torch.float32
        assert rows_hold(draw.prepared.problem_for(draw.z.shape[1]), y), draw.words
        assert found[1].solution(y).simplex_error <= y.shape[1] * 2.0**-23, draw.words
        compared += 1
    assert compared > 30


@distances
def test_gradients_agree_to_the_second_order(distance: str) -> None:
    rng = np.random.default_rng(0)
    compared = 0
    for draw, _, _ in of_road(60, 4, distance):
        if float(draw.z.min()) == 0.0 or draw.sharp:
            continue  # at a tie any adjoining piece will do
        v = torch.from_numpy(rng.normal(size=tuple(draw.z.shape)))
        with road.closed():
            expected = gradient(draw, v)
        assert torch.allclose(gradient(draw, v), expected, atol=1e-8, rtol=1e-7), draw.words
        compared += 1
    assert compared >= 15
    draw = next(d for d, _, _ in of_road(60, 5, distance) if d.z.numel() < 60 and not d.sharp)
    v = torch.from_numpy(rng.normal(size=tuple(draw.z.shape)))

    def curved() -> Tensor:
        z = draw.z.clone().requires_grad_(True)
        (first,) = torch.autograd.grad((draw.prepared.project(z) ** 3 * v).sum(), z, create_graph=True)
        (second,) = torch.autograd.grad((first * v).sum(), z)
        return second

    with road.closed():
        expected = curved()
    assert torch.allclose(curved(), expected, atol=1e-7, rtol=1e-6)


@distances
def test_wild_problems_end_alike(distance: str) -> None:
    compared = 0
    for seed in range(DRAWS):
        z, features, notion, weights = wild(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fo.FairoptWarning)
            prepared: Any = fo.compile(notion, sensitive_features=features, weights=weights, outputs="simplex", distance=distance)
        table = torch.from_numpy(z)
        found = fast.attempt(table, prepared.problem_for(z.shape[1]), kl=distance == "kl")
        if found is None:
            continue
        assert rows_hold(found[1].problem, found[0]), seed
        with warnings.catch_warnings(), road.closed():
            warnings.simplefilter("ignore", fo.FairoptWarning)
            general = prepared.project(table, return_solution=True)  # which is feasible, then
        assert float((found[0] - general.scores).abs().max()) <= 1e-7 + general.certificate.moved_by_repair, seed
        compared += 1
    assert compared > 0.2 * DRAWS


def test_scores_that_are_fair_come_back_as_they_are() -> None:
    z = torch.softmax(torch.randn(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), 1)
    prepared: Any = fo.compile(fo.DemographicParity("g", tolerance=0.9), sensitive_features={"g": torch.arange(30) % 3}, outputs="simplex")
    found = fast.attempt(z, prepared.problem_for(4), kl=False)
    assert found is not None
    assert torch.equal(found[0], z)


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.2])
def test_no_probabilities_are_left_to_the_general_road(value: float) -> None:
    z = torch.full((6, 3), 1 / 3, dtype=torch.float64)
    z[4, 1] = value
    prepared: Any = fo.compile(fo.DemographicParity("g", tolerance=0.1), sensitive_features={"g": torch.arange(6) % 2}, outputs="simplex")
    assert fast.attempt(z, prepared.problem_for(3), kl=False) is None
    with pytest.raises(fo.InputError, match="row 4|position"):
        prepared.project(z)
