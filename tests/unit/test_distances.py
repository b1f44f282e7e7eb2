"""The Kullback-Leibler projection: optimal by its own conditions, exact in its rows, differentiable twice, finite everywhere."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from torch import Tensor

import fairopt as fo
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve import road
from fairopt.solve.drive import drive, respond
from fairopt.solve.dual.structure import structure
from fairopt.solve.finish.check import exact_violations
from fairopt.solve.front import solve
from fairopt.solve.passes.interface import Samples
from fairopt.solve.passes.kl_map import following, mapped
from fairopt.solve.passes.kl_passes import CompiledKlPasses, TorchKlPasses
from fairopt.solve.plan import cell_plan
from tests.unit.kl_draws import KlDraw, gap_of_prices, kl_draws

Distances = ("kl", "kl_positive")
every = pytest.mark.parametrize("distance", Distances)


def moved(problem: ProjectionProblem, z: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(n,) the scores that prices p stand for, by formulae other than the library's."""
    s = (problem.rows.matrix().numpy().T @ p) / (1.0 if problem.weights is None else problem.weights.numpy())
    with np.errstate(divide="ignore"):
        return np.where((z == 0) | (z == 1), z, expit(logit(z) - s)) if problem.distance == "kl" else z * np.exp(-s)


def judged(draw: KlDraw, solution: fo.Solution) -> None:
    """The conditions that make scores the nearest, checked with formulae of their own."""
    problem, z = draw.problem, draw.scores.numpy()
    p = solution.prices.numpy()
    p = np.where(np.abs(p) > 1e-15 * np.abs(p).max(initial=0.0), p, 0.0)  # where rows depend on each other
    y = moved(problem, z, p)
    size = float(y.max())
    returned = solution.scores.detach().numpy()
    assert np.abs(returned - y).max() <= 1e-8 * size + solution.certificate.moved_by_repair, draw.words
    assert gap_of_prices(problem, problem.rows.matrix().numpy() @ y, p, size) <= 1e-8 * size, draw.words
    hard = np.flatnonzero(structure(problem).hard).tolist()
    if solution.status is fo.Status.CERTIFIED:
        assert all(v <= 0 for v in exact_violations(structure(problem), problem, returned, hard).values()), draw.words
        assert solution.certificate.kkt_residual <= solution.certificate.kkt_bound


def gradient(y: Tensor, x: Tensor, v: Tensor | None = None) -> Tensor:
    """(n,) J'v; the gradient of the sum of y where v is None."""
    return torch.autograd.grad(y, x, torch.ones_like(y) if v is None else v)[0]


def ran(count: int, seed: int, distance: Any, max_n: int = 200) -> tuple[int, int]:
    """How many of the drawn problems were granted, each judged, and the most iterations of one."""
    granted, most = 0, 0
    for draw in kl_draws(count, seed, distance=distance, max_n=max_n):
        z = draw.scores.clone().requires_grad_(True)
        solution = solve(z, draw.problem)
        if solution.status in (fo.Status.CERTIFIED, fo.Status.WITHIN_ROUNDING):
            judged(draw, solution)
            granted += 1
            most = max(most, solution.iterations)
        assert torch.isfinite(solution.scores).all(), draw.words
        assert torch.isfinite(gradient(solution.scores, z)).all(), draw.words
    return granted, most


@every
def test_scores_are_nearest_by_conditions_of_their_own(distance: Any) -> None:
    granted, most = ran(120, 5, distance)
    assert granted >= (120 if distance == "kl" else 118)  # positive values over 40 orders of magnitude are not all found
    assert most <= 15


@pytest.mark.slow
@every
def test_thousands_of_drawn_problems(distance: Any) -> None:
    granted, most = ran(2000, 11, distance, max_n=2000)
    assert granted >= 1990
    assert most <= 30


def test_the_judge_sees_a_price_that_is_off() -> None:
    seen = 0
    for draw in kl_draws(30, 3):
        solution = solve(draw.scores, draw.problem)
        p = solution.prices.numpy()
        if np.abs(p).max(initial=0.0) > 1e-3:
            off = replace(solution, prices=0.999 * solution.prices)
            with suppress(AssertionError):
                judged(draw, off)
                continue
            seen += 1
    assert seen >= 10


def oracle(problem: ProjectionProblem, z: np.ndarray) -> np.ndarray | None:
    """(n,) the projection by an exponential cone solver, made exact by Newton's method on the conditions of its active rows; None where
    these end with a residual above 1e-10. Hard rows and ranges with ratio 1, none of them dense, scores inside (0, 1)."""
    cp = pytest.importorskip("cvxpy")
    A, off = problem.rows.matrix().numpy(), problem.rows.offset
    w = np.ones(problem.n) if problem.weights is None else problem.weights.numpy()
    rows, limits = [], []
    for k in range(problem.linear):
        if np.isfinite(problem.upper[k]):
            rows.append(A[k])
            limits.append(problem.upper[k] - off[k])
        if np.isfinite(problem.lower[k]):
            rows.append(-A[k])
            limits.append(off[k] - problem.lower[k])
    for part, width in zip(problem.range_slices, problem.width, strict=True):
        for i in range(part.start, part.stop):
            for j in range(part.start, part.stop):
                if i != j:
                    rows.append(A[i] - A[j])
                    limits.append(width - off[i] + off[j])
    G, h = np.array(rows), np.array(limits)
    y = cp.Variable(problem.n)
    cost = cp.sum(cp.multiply(w, cp.rel_entr(y, z) + cp.rel_entr(1 - y, 1 - z)))
    held = G @ y <= h
    cp.Problem(cp.Minimize(cost), [held]).solve(solver="CLARABEL")
    p = np.maximum(np.asarray(held.dual_value), 0.0)
    active = (p > 1e-6) & (np.abs(G @ y.value - h) < 1e-5)
    B, price, u = G[active], p[active], logit(np.clip(y.value, 1e-12, 1 - 1e-12))
    for _ in range(30):
        x = expit(u)
        first, second = w * (u - logit(z)) + B.T @ price, B @ x - h[active]
        slope = x * (1 - x)
        K = np.block([[np.diag(w), B.T], [B * slope, np.zeros((len(B), len(B)))]])
        step = np.linalg.lstsq(K, -np.concatenate([first, second]), rcond=1e-13)[0]
        u, price = u + step[: len(u)], price + step[len(u) :]
    x = expit(u)
    inside = bool((G @ x <= h + 1e-10).all()) and bool((price >= -1e-9).all())
    left = max(np.abs(w * (u - logit(z)) + B.T @ price).max(), np.abs(B @ x - h[active]).max(initial=0.0))
    return x if inside and left <= 1e-10 else None


def against_the_oracle(count: int, seed: int, max_n: int) -> int:
    compared = 0
    for draw in kl_draws(count, seed, max_n=max_n):
        problem = draw.problem
        z = np.clip(draw.scores.numpy(), 1e-4, 1 - 1e-4)
        if not problem.all_hard or problem.rows.dense is not None or (problem.ratio != 1.0).any() or problem.m == 0:
            continue
        problem = replace(problem, lower=problem.lower - 1e-3, upper=problem.upper + 1e-3, width=problem.width + 1e-3)
        try:
            expected = oracle(problem, z)
        except Exception as error:  # the cone solver gave up: no oracle
            if type(error).__module__.split(".")[0] != "cvxpy":
                raise
            continue
        if expected is None:
            continue
        solution = solve(torch.from_numpy(z), problem)
        assert solution.status is fo.Status.CERTIFIED
        assert np.abs(solution.scores.numpy() - expected).max() <= 1e-8, draw.words
        compared += 1
    return compared


def test_an_exponential_cone_solver_agrees() -> None:
    assert against_the_oracle(60, 21, 40) >= 12


@pytest.mark.slow
def test_an_exponential_cone_solver_agrees_on_many() -> None:
    assert against_the_oracle(1500, 22, 200) >= 300


def batch(n: int, seed: int = 0, groups: int = 3) -> tuple[Tensor, dict[str, Tensor]]:
    rng = np.random.default_rng(seed)
    z = torch.from_numpy(rng.uniform(0.1, 0.9, n))
    return z, {"g": torch.arange(n) % groups, "h": torch.from_numpy(rng.integers(0, 2, n))}


NOTIONS = {
    "parity": fo.DemographicParity("g", tolerance=0.02),
    "equal": fo.DemographicParity("g", tolerance=0.0),
    "two": fo.DemographicParity("g", tolerance=0.02) & fo.DemographicParity("h", tolerance=0.01),
    "ratio": fo.ImpactRatio("g", ratio=0.9),
    "priced": fo.DemographicParity("g", tolerance=0.0).priced(0.02),
    "quadratic": fo.DemographicParity("g", tolerance=0.0).penalised(3.0),
    "budget": (fo.DemographicParity("g", tolerance=0.0) & fo.DemographicParity("h", tolerance=0.0)).budgeted(0.03),
    "bound": fo.GroupMeanBound("g", lower=0.45, upper=0.5),
}


@every
@pytest.mark.parametrize(("name", "weighted"), [*((name, False) for name in NOTIONS), ("parity", True), ("two", True)])
def test_gradients_of_first_and_second_order(name: str, weighted: bool, distance: Any) -> None:
    z, groups = batch(12)
    z.requires_grad_(True)
    weights = torch.linspace(0.5, 2.0, 12) if weighted else None
    prepared = fo.compile(NOTIONS[name], sensitive_features=groups, distance=distance, weights=weights)
    assert prepared.project(z.detach(), return_solution=True).certificate.distance > 1e-5  # the rows bind
    assert torch.autograd.gradcheck(lambda x: prepared.project(x), z, eps=1e-5, atol=1e-6, rtol=1e-5)
    assert torch.autograd.gradgradcheck(lambda x: prepared.project(x), z, eps=1e-5, atol=1e-5, rtol=1e-4)


@every
def test_gradients_to_tolerance_and_softness(distance: Any) -> None:
    z, groups = batch(12)

    def parity(x: Tensor, tolerance: Tensor) -> Tensor:
        return fo.project(x, fo.DemographicParity("g", tolerance=tolerance), sensitive_features=groups, distance=distance)

    def soft(x: Tensor, gamma: Tensor) -> Tensor:
        notion = fo.DemographicParity("g", tolerance=0.01).penalised(gamma)
        return fo.project(x, notion, sensitive_features=groups, distance=distance)

    for function, value in ((parity, 0.02), (soft, 3.0)):
        number = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        x = z.clone().requires_grad_(True)
        assert torch.autograd.gradcheck(function, (x, number), eps=1e-5, atol=1e-6, rtol=1e-5)
        assert torch.autograd.gradgradcheck(function, (x, number), eps=1e-5, atol=1e-5, rtol=1e-4)


@every
@pytest.mark.parametrize("name", ["parity", "two", "priced", "quadratic", "bound"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_compiled_road_is_the_general_one(name: str, dtype: torch.dtype, distance: Any) -> None:
    if road.fast(dtype, "entropy.fast") is None:
        pytest.skip(road.reason())
    z, groups = batch(40, 3)
    prepared = fo.compile(NOTIONS[name], sensitive_features=groups, distance=distance)
    found = []
    for way in (nullcontext(), road.closed()):
        x = z.to(dtype).requires_grad_(True)
        with way:
            y = prepared.project(x)
        assert prepared.project(x, return_solution=True).status is fo.Status.CERTIFIED
        found.append((y.detach(), gradient(y.square().sum(), x)))
    near = 1e-13 if dtype == torch.float64 else 1e-6
    (y, g), (general, expected) = found
    assert torch.allclose(y, general, rtol=0, atol=near)
    assert torch.allclose(g, expected, rtol=0, atol=1e3 * near if dtype == torch.float64 else 1e-5)


@every
@pytest.mark.parametrize("make", [TorchKlPasses, CompiledKlPasses])
def test_driven_by_passes(make: Any, distance: Any) -> None:
    compared = 0
    for draw in kl_draws(60, 11, distance=distance):
        problem, plan = draw.problem, cell_plan(draw.problem)
        if plan is None:
            continue
        passes = make(draw.scores, Samples(problem.rows.cell, plan.cells, problem.lb, problem.ub, problem.weights), distance)
        driven = drive(problem, plan, passes)
        if not driven.certified:
            continue
        z, v, u = draw.scores.clone().requires_grad_(True), *torch.randn(2, problem.n, dtype=torch.float64)
        with road.closed():
            general = solve(z, problem).scores
        expected = gradient(general, z, v)
        size = float(general.detach().max())
        assert driven.scores is not None
        assert torch.allclose(driven.scores, general.detach(), rtol=0, atol=1e-9 * size), draw.words
        back, forth = respond(driven, passes, v), respond(driven, passes, u, forward=True)
        assert torch.allclose(back, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max())), draw.words
        assert abs(float(back @ u - v @ forth)) <= 1e-8 * float(back.norm() * u.norm() + v.norm() * forth.norm())
        compared += 1
    assert compared >= 20


@given(st.floats(0, 1), st.floats(-1500, 1500))
def test_the_map_is_a_shift_of_the_logit(z: float, s: float) -> None:
    a, b = np.array([z]), np.array([s])
    y = float(mapped("kl", a, b)[0])
    expected = z if z in (0.0, 1.0) else float(expit(logit(z) - s))
    assert 0.0 <= y <= 1.0
    assert y == pytest.approx(expected, rel=1e-12, abs=1e-300)
    assert np.isfinite(following("kl", a, b)).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=600), st.lists(st.floats(-690, 690), min_size=5, max_size=5), st.integers(1, 5))
@settings(max_examples=60)
def test_compiled_sums_are_those_of_the_map(scores: list[float], shifts: list[float], cells: int) -> None:
    z, shift = torch.tensor(scores, dtype=torch.float64), np.array(shifts[:cells])
    cell = torch.arange(len(scores)) % cells
    samples = Samples(cell, cells, 0.0, 1.0, None)
    y = mapped("kl", z.numpy(), shift[cell.numpy()])
    for passes in (CompiledKlPasses(z, samples, "kl"), TorchKlPasses(z, samples, "kl")):
        sums, slopes = passes.sums(shift)
        assert np.allclose(sums, np.bincount(cell.numpy(), y, cells), rtol=1e-12, atol=1e-290)
        assert np.allclose(slopes, np.bincount(cell.numpy(), y * (1 - y), cells), rtol=1e-12, atol=1e-13)
        assert passes.largest(shift) == pytest.approx(y.max(), rel=1e-13, abs=1e-290)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@every
def test_equal_means_are_exact_in_every_dtype(dtype: torch.dtype, distance: Any) -> None:
    for seed in range(8):
        z, groups = batch(7 + 5 * seed, seed)
        y = z.to(dtype)
        solution = fo.project(y, NOTIONS["equal"], sensitive_features=groups, distance=distance, return_solution=True)
        assert solution.status is fo.Status.CERTIFIED, (seed, dtype)
        means = [exact_mean(solution.scores[groups["g"] == k]) for k in range(3)]
        assert means[0] == means[1] == means[2]
        assert solution.scores.dtype == dtype


def exact_mean(scores: Tensor) -> Fraction:
    return sum((Fraction(float(v)) for v in scores), Fraction(0)) / len(scores)


def test_scores_at_the_ends_stay_and_are_counted() -> None:
    z = torch.tensor([0.0, 1.0, 1e-300, 0.3, 0.9, 1.0 - 2.0**-53, 0.2, 0.8], dtype=torch.float64, requires_grad=True)
    solution = fo.project(z, fo.DemographicParity("g", tolerance=0.01), sensitive_features=[0, 1, 0, 1, 0, 1, 0, 1], distance="kl",
                          return_solution=True)  # fmt: skip
    y = solution.scores.detach()
    assert solution.status is fo.Status.CERTIFIED
    assert y[0] == 0.0
    assert y[1] == 1.0
    assert 0.0 < float(y[2]) < 1e-297
    assert solution.certificate.unmoved == 2
    assert solution.certificate.to_dict()["unmoved"] == 2
    assert torch.isfinite(gradient(solution.scores.square().sum(), z)).all()
    squared = fo.project(z, fo.DemographicParity("g", tolerance=0.01), sensitive_features=[0, 1] * 4, bounds=(0, 1), return_solution=True)
    assert squared.certificate.unmoved == 0
    assert "unmoved" not in squared.certificate.to_dict()


def test_order_inside_a_group_is_kept_and_no_score_reaches_an_end() -> None:
    rng = np.random.default_rng(0)
    for seed in range(10):
        z, groups = batch(200, seed, 2)
        z = torch.from_numpy(rng.beta(0.2, 0.4, 200)).clamp(1e-12, 1 - 1e-12)
        y = fo.project(z, fo.DemographicParity("g", tolerance=0.001), sensitive_features=groups, distance="kl")
        assert bool(((y > 0) & (y < 1)).all())
        for k in range(2):
            inside = groups["g"] == k
            order = torch.argsort(z[inside])
            assert bool((y[inside][order].diff() >= 0).all())


def test_the_divergence_in_the_certificate() -> None:
    z, groups = batch(30)
    for distance in Distances:
        solution = fo.project(z, NOTIONS["parity"], sensitive_features=groups, distance=distance, return_solution=True)
        y = solution.scores
        each = y * (y / z).log() + ((1 - y) * ((1 - y) / (1 - z)).log() if distance == "kl" else z - y)
        assert solution.certificate.distance == pytest.approx(float(each.sum()), rel=1e-9)
        assert (
            solution.certificate.problem_hash
            != fo.project(z, NOTIONS["parity"], sensitive_features=groups, bounds=(0, 1), return_solution=True).certificate.problem_hash
        )


def test_what_no_scores_can_meet() -> None:
    z, notion = torch.tensor([0.0, 0.0, 0.7, 0.2]), fo.DemographicParity("g", tolerance=0.0) & fo.GroupMeanBound("g", lower=0.2)
    facts: dict[str, Any] = {"sensitive_features": [0, 0, 1, 1], "distance": "kl", "return_solution": True}
    with pytest.raises(fo.InfeasibleError) as error:
        fo.project(z, notion, **facts)
    assert error.value.proof is not None
    assert error.value.proof.check()
    assert torch.equal(fo.project(z, notion, on_infeasible="passthrough", **facts).scores, z)
    with pytest.warns(fo.FairoptWarning, match="CLOSEST"):
        solution = fo.project(z, notion, on_infeasible="closest", **facts)
    assert solution.status is fo.Status.CLOSEST
    assert float(solution.scores.sum()) == pytest.approx(0.2, abs=1e-6)  # halfway between mean 0 and the bound, in squares


def test_layers_and_frozen_layers() -> None:
    logits = torch.randn(300, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + torch.arange(300) % 3
    g = torch.arange(300) % 3
    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.01), space="probability", distance="kl")
    fair = layer(logits, sensitive_features=g)
    assert layer.certificate is not None
    assert layer.certificate.status is fo.Status.CERTIFIED
    frozen = layer.freeze(logits, sensitive_features=g)
    assert torch.allclose(frozen(logits, frozen.index(g)), fair, rtol=0, atol=1e-12)
    program = frozen.export(torch.float64).module()
    assert torch.allclose(program(logits, frozen.index(g)), fair, rtol=0, atol=1e-12)
    values = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.01), distance="kl_positive")
    amounts = logits.exp()
    fair = values(amounts, sensitive_features=g)
    kept = values.freeze(amounts, sensitive_features=g)
    assert torch.allclose(kept(amounts, kept.index(g)), fair, rtol=1e-12)
    for a, b in ((layer, fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.01), space="probability")), (frozen, kept)):
        with pytest.raises(fo.InputError, match="state"):
            b.load_state_dict(a.state_dict())
    assert "distance='kl'" in repr(layer)
    with pytest.raises(fo.UnsupportedError, match="stream"):
        layer.controller()


def test_what_is_refused() -> None:
    z, groups = batch(6)
    notion = fo.DemographicParity("g", tolerance=0.0)
    cases: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        (z + 1.0, {}, fo.InputError, "position 0.*probabilities"),
        (-z, {"distance": "kl_positive"}, fo.InputError, "0 or more"),
        (z, {"distance": "l1"}, fo.InputError, "distance: got 'l1'"),
        (z, {"bounds": (-1.0, 0.9)}, fo.InputError, "lower bound"),
        (torch.zeros_like(z), {"bounds": (0.1, 0.9)}, fo.InputError, "never moves"),
        (z, {"backend": "proxqp"}, fo.UnsupportedError, "distance='kl'"),
        (z, {"backend": "closed_form"}, fo.UnsupportedError, "distance='kl'"),
        (z, {"gradient": "native"}, fo.UnsupportedError, "native"),
        (torch.full_like(z, float("nan")), {}, fo.InputError, "finite"),
    ]
    for scores, facts, kind, words in cases:
        with pytest.raises(kind, match=words):
            fo.project(scores, notion, sensitive_features=groups, **{"distance": "kl", **facts})
    prepared = fo.compile(notion, sensitive_features=groups, distance="kl")
    with pytest.raises(fo.UnsupportedError, match="vmap"):
        torch.func.vmap(prepared.project)(torch.stack([z, z]))
    with pytest.raises(fo.InputError, match="logit"):
        fo.FairnessLayer(notion, space="logit", distance="kl")
    with pytest.raises(fo.UnsupportedError, match="process_group"):
        fo.FairnessLayer(notion, process_group="world", distance="kl")
    assert fo.compile(notion, sensitive_features=groups, distance="kl", bounds=(0, 5)).problem.distance == "kl_positive"
    assert fo.compile(notion, sensitive_features=groups, distance="kl", bounds=(0.1, 0.9)).problem.distance == "kl"
    both = prepared.project_batch(torch.stack([z, z.flip(0)]))
    assert torch.equal(both[0], prepared.project(z))


def test_clipping_bounds_inside_the_unit_interval() -> None:
    z, groups = batch(60, 5)
    x = z.clone().requires_grad_(True)
    solution = fo.project(x, NOTIONS["parity"], sensitive_features=groups, distance="kl", bounds=(0.3, 0.6), return_solution=True)
    y = solution.scores
    assert solution.status is fo.Status.CERTIFIED
    assert float(y.detach().min()) == 0.3
    assert float(y.detach().max()) == 0.6
    assert bool((gradient(y, x)[(y == 0.3) | (y == 0.6)] == 0).all())
