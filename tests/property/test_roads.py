"""The compiled road and the general one: the same answers, statuses and gradients on wild problems; bits, threads, copies."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fairopt as fo
from fairopt.contract.backend import Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve import road
from fairopt.solve.front import solve
from fairopt.testing.draws import Draw, wild
from fairopt.testing.exact import violation_exact

DRAWS = int(os.environ.get("FAIROPT_DRAWS", "1500"))
fast: Any = road.fast(torch.float64)
pytestmark = pytest.mark.skipif(fast is None, reason="numba is not installed, or FAIROPT_FAST=0")


def taken(count: int, seed: int) -> Iterator[tuple[Draw, Tensor, Any]]:
    """Draws that the compiled road answers, with its scores and answer."""
    for drawn in wild(count, seed):
        found = fast.attempt(drawn.scores, drawn.problem)
        if found is not None:
            yield drawn, found[0], found[1]


def gradient(scores: Tensor, problem: ProjectionProblem, v: Tensor) -> Tensor:
    z = scores.clone().requires_grad_(True)
    solve(z, problem).scores.backward(v)
    assert z.grad is not None
    return z.grad


def hard_rows_hold(problem: ProjectionProblem, y: Tensor) -> bool:
    found = violation_exact(problem, y).constraints
    return all(v is None or v <= 0 for v, s in zip(found, problem.softness, strict=True) if s.kind == "hard")


def agree(count: int, seed: int) -> int:
    """The number of draws that were compared."""
    compared = 0
    for drawn, y, answer in taken(count, seed):
        problem = drawn.problem
        with road.closed():
            general = solve(drawn.scores, problem)
        assert general.status is Status.CERTIFIED, drawn
        size = max(float(drawn.scores.abs().max()), float(general.scores.abs().max()))
        # both are the nearest scores at limits that are tighter by what rounding can do: two margins, not quite the same
        margins = answer.certificate().moved_by_repair + general.certificate.moved_by_repair
        far = float((y - general.scores).abs().max())
        assert far <= 1e-12 * size or far <= margins <= 1e-8 * size, drawn
        compared += 1
    return compared


def test_the_roads_agree() -> None:
    assert agree(DRAWS, 1) > 0.4 * DRAWS


@pytest.mark.slow
def test_the_roads_agree_on_twenty_thousand_draws() -> None:
    assert agree(20_000, 2) > 8_000


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_hundreds_of_rows_that_share_cells_are_one_call_too(bounds: tuple[float, float] | None) -> None:
    """Two attributes of 140 groups each: 280 rows."""
    rng = np.random.default_rng(6)
    a, b = (rng.permutation(np.arange(2800) % 140) for _ in range(2))
    z = torch.from_numpy(rng.normal(0.5, 0.25, 2800) + 0.2 * a / 140)
    notion = fo.DemographicParity("a", tolerance=0.05) & fo.DemographicParity("b", tolerance=0.05)
    problem = fo.compile(notion, sensitive_features={"a": a, "b": b}, bounds=bounds).problem
    assert problem.m == 280
    found = fast.attempt(z, problem)
    assert found is not None
    assert hard_rows_hold(problem, found[0])
    with road.closed():
        general = solve(z, problem)
    assert float((general.scores - z.clamp(*(bounds or (-9.0, 9.0)))).abs().max()) > 1e-2
    assert float((found[0] - general.scores).abs().max()) <= 1e-11


def test_the_rows_hold_in_fractions() -> None:
    for drawn, y, answer in taken(300, 3):
        assert hard_rows_hold(drawn.problem, y), drawn
        assert bool(((y >= drawn.problem.lb) & (y <= drawn.problem.ub)).all()), drawn
        certificate = answer.certificate()
        assert certificate.kkt_residual <= certificate.kkt_bound


def test_single_precision_holds_too() -> None:
    compared = 0
    for drawn in wild(300, 4):
        scores = drawn.scores.float()
        assert road.fast(torch.float32) is not None
        found = fast.attempt(scores, drawn.problem)
        if found is None:
            continue
        y = found[0]
        assert y.dtype == torch.float32
        assert hard_rows_hold(drawn.problem, y), drawn
        assert bool(((y >= drawn.problem.lb) & (y <= drawn.problem.ub)).all()), drawn
        compared += 1
    assert compared > 100


def test_gradients_agree() -> None:
    rng = np.random.default_rng(0)
    for drawn, y, _ in taken(300, 5):
        problem = drawn.problem
        free = y if not problem.has_box else y[(y > problem.lb + 1e-9) & (y < problem.ub - 1e-9)]
        if {"ties", "constant_scores"} & drawn.mutations or free.shape[0] == 0:
            continue  # at a tie any adjoining piece will do
        v = torch.from_numpy(rng.normal(size=problem.n))
        with road.closed():
            expected = gradient(drawn.scores, problem, v)
        assert torch.allclose(gradient(drawn.scores, problem, v), expected, atol=1e-8), drawn


def test_the_same_bits_twice_and_in_threads() -> None:
    drawn = [d for d, _, _ in taken(200, 6)]

    def bits(d: Draw) -> bytes:
        found = fast.attempt(d.scores, d.problem)
        return bytes(found[0].numpy().tobytes() + found[1].certificate().violation.tobytes())

    first = [bits(d) for d in drawn]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(bits, drawn)) == first


def test_copies_and_pickles_answer_the_same() -> None:
    rng = np.random.default_rng(0)
    groups = {"g": rng.integers(0, 3, 50), "h": rng.integers(0, 2, 50)}
    prepared = fo.compile(
        fo.DemographicParity("g", tolerance=0.01) & fo.DemographicParity("h", tolerance=0.01), sensitive_features=groups, bounds=(0, 1)
    )
    z = torch.rand(50, dtype=torch.float64)
    expected = prepared.project(z)
    assert prepared.problem.workspace.get("compiled") is not None
    for other in (copy.deepcopy(prepared), pickle.loads(pickle.dumps(prepared))):
        assert torch.equal(other.project(z), expected)
    found = prepared.project(z, return_solution=True)
    assert torch.equal(pickle.loads(pickle.dumps(found)).prices, found.prices)


@pytest.mark.parametrize("bounds", [None, (0, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_is_its_rows(bounds: Any, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    prepared = fo.compile(fo.DemographicParity("g", tolerance=0.01), sensitive_features={"g": rng.integers(0, 3, 50)}, bounds=bounds)
    z = torch.rand(7, 50, dtype=dtype).requires_grad_(True)
    v = torch.rand(7, 50, dtype=dtype)
    found = prepared.project_batch(z)
    expected = torch.stack([prepared.project(row) for row in z])
    assert torch.equal(found, expected)
    (one,) = torch.autograd.grad((found * v).pow(2).sum(), z, create_graph=True)
    (other,) = torch.autograd.grad((expected * v).pow(2).sum(), z, create_graph=True)
    assert torch.equal(one, other)
    assert torch.equal(*(torch.autograd.grad((g * v).sum(), z)[0] for g in (one, other)))
    with pytest.raises(fo.InputError, match="at position 3"):
        prepared.project_batch(z.detach().index_fill(1, torch.tensor([3]), torch.nan))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_that_are_not_finite_are_named(bad: float, dtype: torch.dtype) -> None:
    prepared = fo.compile(fo.DemographicParity("g", tolerance=0.1), sensitive_features={"g": [0, 1] * 20}, bounds=(0, 1))
    for position in (0, 17, 39):
        z = torch.linspace(0, 1, 40, dtype=dtype)
        z[position] = bad
        with pytest.raises(fo.InputError, match=f"at position {position}"):
            prepared.project(z)


def test_shapes_and_strides() -> None:
    prepared = fo.compile(fo.DemographicParity("g", tolerance=0.1), sensitive_features={"g": [0, 1] * 20}, bounds=(0, 1))
    z = torch.rand(40, 3, dtype=torch.float64)
    expected = prepared.project(z[:, 1].clone())
    x = z.clone().requires_grad_(True)
    y = prepared.project(x[:, 1])
    assert torch.equal(y, expected)
    assert torch.equal(prepared.project(x[:, 1:2]), expected.unsqueeze(1))
    y.sum().backward()  # the gradient of a sum is an expanded number
    assert x.grad is not None
    assert not x.grad[:, 0].any()
    assert float(x.grad[:, 1].sum()) > 0
    second = torch.autograd.functional.hessian(lambda s: prepared.project(s).pow(3).sum(), expected)
    assert torch.allclose(second, second.T, atol=1e-12)


def test_a_closed_road_is_not_taken() -> None:
    with road.closed():
        assert road.fast(torch.float64) is None
    assert road.fast(torch.float64) is fast
    assert road.fast(torch.float16) is None
