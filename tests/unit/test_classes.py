"""Class probabilities: nearest by conditions of their own, exact in every parity row, rows that sum to 1, differentiable twice."""

from __future__ import annotations

import warnings
from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fairopt as fo
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.structure import structure
from fairopt.solve.finish.check import exact_violations
from fairopt.solve.simplex.maps import nearest, nearest_point, softmax
from fairopt.solve.simplex.solution import ClassSolution
from tests.unit.class_draws import ClassDraw, class_draws
from tests.unit.kl_draws import gap_of_prices

distances = pytest.mark.parametrize("distance", ["squared", "kl"])
EPS = 2.0**-52


def table_of(problem: ProjectionProblem, z: np.ndarray, p: np.ndarray, distance: str) -> np.ndarray:
    """(n, C) the probabilities that prices p stand for, one sample at a time, by other means than the library's."""
    n, C = z.shape
    s = (problem.rows.matrix().numpy().T @ p).reshape(C, n).T
    s = s if problem.weights is None else s / problem.weights[:n].numpy()[:, None]
    out = np.zeros_like(z)
    for i in range(n):
        if distance == "kl":
            with np.errstate(divide="ignore"):
                e = np.log(z[i]) - s[i]
            out[i] = np.exp(e - e.max() - np.log(np.exp(e - e.max()).sum()))
            continue
        v = z[i] - s[i]
        low, high = v.min() - 1.0, v.max()
        for _ in range(200):  # the level that leaves a sum of 1
            level = 0.5 * (low + high)
            low, high = (level, high) if np.maximum(v - level, 0.0).sum() > 1.0 else (low, level)
        out[i] = np.maximum(v - 0.5 * (low + high), 0.0)
    return out


def judged(draw: ClassDraw, solution: ClassSolution) -> None:
    problem = draw.prepared.problem_for(draw.z.shape[1])
    p = solution.prices.numpy()
    y = table_of(problem, draw.z.numpy(), p, draw.distance)
    returned = solution.scores.detach().numpy()
    assert np.abs(returned - y).max() <= 1e-8 + solution.certificate.moved_by_repair, draw.words
    assert gap_of_prices(problem, problem.rows.matrix().numpy() @ y.T.reshape(-1), p, 1.0) <= 1e-8, draw.words
    assert returned.min() >= 0.0
    assert solution.simplex_error <= 64 * draw.z.shape[1] * EPS
    if solution.status is fo.Status.CERTIFIED:
        assert solution.simplex_error <= draw.z.shape[1] * EPS
        hard = np.flatnonzero(structure(problem).hard).tolist()
        assert all(v <= 0 for v in exact_violations(structure(problem), problem, returned.T.reshape(-1), hard).values()), draw.words


def ran(count: int, seed: int, distance: str, **sizes: int) -> tuple[int, int]:
    granted, most = 0, 0
    for draw in class_draws(count, seed, distance, **sizes):
        z = draw.z.clone().requires_grad_(True)
        solution = draw.prepared.project(z, return_solution=True)
        if solution.status in (fo.Status.CERTIFIED, fo.Status.WITHIN_ROUNDING):
            granted += 1
            judged(draw, solution)
        most = max(most, solution.iterations)
        (gradient,) = torch.autograd.grad(solution.scores.square().sum(), z)
        assert torch.isfinite(solution.scores).all()
        assert torch.isfinite(gradient).all(), draw.words
    return granted, most


@distances
def test_probabilities_are_nearest_by_conditions_of_their_own(distance: str) -> None:
    granted, _ = ran(40, 1, distance)
    assert granted == 40


# Newton's iterations: squares, KL, and KL where probabilities are nearly one-hot. There log z is hundreds wide, and the dual, a sum of
# maxima but for rounded corners, is crossed corner by corner
MOST = {("squared", False): 30, ("squared", True): 30, ("kl", False): 15, ("kl", True): 35}


def counted(count: int, seed: int, distance: str, **sizes: int) -> dict[int, int]:
    """iterations -> draws that took so many; each within its bar."""
    found: dict[int, int] = {}
    for draw in class_draws(count, seed, distance, **sizes):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fo.FairoptWarning)
            solution = draw.prepared.project(draw.z, return_solution=True)
        assert solution.iterations <= MOST[distance, draw.sharp], (draw.words, solution.iterations)
        found[solution.iterations] = found.get(solution.iterations, 0) + 1
    return found


@distances
def test_newtons_iterations_are_few(distance: str) -> None:
    found = counted(200, 4, distance, max_n=300, most=12)
    assert sum(times for steps, times in found.items() if steps <= 15) >= 190


@pytest.mark.slow
@distances
def test_newtons_iterations_are_few_in_thousands(distance: str) -> None:
    found = counted(2000, 2, distance, max_n=2000, most=20)
    assert sum(times for steps, times in found.items() if steps <= 15) >= 1900


@pytest.mark.slow
@distances
def test_thousands_of_drawn_batches(distance: str) -> None:
    granted, _ = ran(2000, 2, distance, max_n=2000, most=20)
    assert granted >= 1980


def batch(n: int, C: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities (n, C) that differ by group, groups (n,) and true classes (n,)."""
    draw = torch.Generator().manual_seed(seed)
    g = torch.arange(n) % 2
    tilt = torch.linspace(0.7, -0.7, C, dtype=torch.float64)
    logits = torch.randn(n, C, dtype=torch.float64, generator=draw) + g[:, None] * tilt
    return torch.softmax(logits, 1), g, torch.randint(0, C, (n,), generator=draw)


def test_one_hot_probabilities_need_no_more_steps() -> None:
    """All their zeros stand at the kink, where rounding must not decide who moves (35 steps were taken)."""
    draw = next(islice(class_draws(423, 2, "squared", max_n=2000, most=20), 422, None))
    solution = draw.prepared.project(draw.z, return_solution=True)
    assert solution.status is fo.Status.CERTIFIED
    assert solution.iterations <= 10


@pytest.mark.parametrize("how", [{}, {"solver_tol": 1e-14}], ids=["compiled", "general"])
def test_one_hot_probabilities_have_a_gradient(how: dict[str, Any]) -> None:
    """That of classes that gain, on both roads and to both orders: each sample's part sums to 0, and is that of a move into the simplex."""
    z = torch.eye(3, dtype=torch.float64).repeat(6, 1)
    g = torch.arange(18) % 2
    prepared = fo.compile(fo.DemographicParity("g", tolerance=0.5), sensitive_features=g, outputs="simplex")
    x = z.clone().requires_grad_(True)
    v = torch.randn(18, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = prepared.project(x, **how)
    (first,) = torch.autograd.grad(y, x, v, retain_graph=True)
    (again,) = torch.autograd.grad(y, x, v, create_graph=True)
    assert torch.equal(y, z)
    assert torch.allclose(first, v - v.mean(1, keepdim=True), atol=1e-14)
    assert torch.allclose(again, first, atol=1e-14)


@distances
def test_a_quadratic_or_cone_solver_agrees(distance: str) -> None:
    cp = pytest.importorskip("cvxpy")
    for seed in range(6):
        z, g, _ = batch(24, 3, seed)
        y = cp.Variable((24, 3))
        cost = cp.sum(cp.rel_entr(y, z.numpy())) if distance == "kl" else cp.sum_squares(y - z.numpy()) / 2
        ours, theirs = g.numpy() == 0, g.numpy() == 1
        apart = cp.abs(cp.sum(y[ours], axis=0) / ours.sum() - cp.sum(y[theirs], axis=0) / theirs.sum())
        exact = {"tol_gap_abs": 1e-13, "tol_gap_rel": 1e-13, "tol_feas": 1e-13}
        cp.Problem(cp.Minimize(cost), [y >= 0, cp.sum(y, axis=1) == 1, apart <= 0.02]).solve(solver="CLARABEL", **exact)
        fair = fo.project(z, fo.DemographicParity("g", tolerance=0.02), sensitive_features=g, outputs="simplex", distance=distance)
        assert np.abs(fair.numpy() - y.value).max() <= 1e-6  # as far as that solver goes
        costs = [float(x) for x in (cost_of(fair.numpy(), z.numpy(), distance), cost_of(y.value, z.numpy(), distance))]
        assert costs[0] <= costs[1] + 1e-9


def cost_of(y: np.ndarray, z: np.ndarray, distance: str) -> float:
    return float((y * np.log(np.maximum(y, 1e-300) / z)).sum() if distance == "kl" else ((y - z) ** 2).sum() / 2)


@distances
def test_two_classes_are_one_score(distance: str) -> None:
    """With squares the two classes move by the same amount, so that each counts: weights of 2."""
    for seed, tolerance in ((0, 0.02), (1, 0.1), (2, 0.001)):
        z, g, _ = batch(50, 2, seed)
        notion = fo.DemographicParity("g", tolerance=tolerance)
        two = fo.project(z, notion, sensitive_features=g, outputs="simplex", distance=distance)
        weights = torch.full((50,), 2.0) if distance == "squared" else None
        one = fo.project(z[:, 0].contiguous(), notion, sensitive_features=g, bounds=(0, 1), distance=distance, weights=weights)
        assert torch.allclose(two[:, 0], one, rtol=0, atol=1e-12)


NOTIONS = {
    "parity": fo.DemographicParity("g", tolerance=0.01),
    "opportunity": fo.EqualOpportunity("g", tolerance=0.02),
    "odds": fo.EqualizedOdds("g", tolerance=0.05),
    "quadratic": fo.DemographicParity("g", tolerance=0.0).penalised(3.0),
    "bound": fo.GroupMeanBound("g", lower=0.3, upper=0.36),
    "ratio": fo.ImpactRatio("g", ratio=0.95),
}


@distances
@pytest.mark.parametrize("name", NOTIONS)
def test_gradients_of_first_and_second_order(name: str, distance: str) -> None:
    z, g, targets = batch(18, 3, 1)
    prepared: Any = fo.compile(NOTIONS[name], sensitive_features=g, targets=targets, outputs="simplex", distance=distance)

    def through(logits: Tensor) -> Tensor:
        return prepared.project(torch.softmax(logits, 1))

    logits = z.log().requires_grad_(True)
    assert float((through(logits) - z).abs().max()) > 1e-4  # the rows bind
    assert torch.autograd.gradcheck(through, logits, eps=1e-5, atol=1e-6, rtol=1e-5)
    assert torch.autograd.gradgradcheck(through, logits, eps=1e-5, atol=1e-5, rtol=1e-4)


@distances
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equal_means_are_exact(distance: str, dtype: torch.dtype) -> None:
    z, g, targets = batch(61, 4)
    z = torch.softmax(z.log().to(dtype), 1)
    for notion in (fo.DemographicParity("g", tolerance=0.0), fo.EqualOpportunity("g", tolerance=0.0)):
        solution: Any = fo.project(
            z, notion, sensitive_features=g, targets=targets, outputs="simplex", distance=distance, return_solution=True
        )
        assert solution.status is fo.Status.CERTIFIED
        assert solution.scores.dtype == dtype
        assert solution.simplex_error <= 4 * torch.finfo(dtype).eps
        for c in range(4):
            among = torch.ones_like(g, dtype=torch.bool) if "Demographic" in repr(notion) else targets == c
            means = [exact_mean(solution.scores[among & (g == k), c]) for k in (0, 1)]
            assert means[0] == means[1]


def exact_mean(scores: Tensor) -> Fraction:
    return sum((Fraction(float(v)) for v in scores), Fraction(0)) / len(scores)


def test_named_classes_and_odds_of_each_true_class() -> None:
    z, g, targets = batch(400, 3)
    named: Any = fo.project(
        z, fo.DemographicParity("g", tolerance=0.01), sensitive_features=g, outputs="simplex", classes=[2], return_solution=True
    )
    assert len(named.labels) == 1
    gaps = (named.scores[g == 0].mean(0) - named.scores[g == 1].mean(0)).abs()
    assert float(gaps[2]) <= 0.01 < float(gaps[0])
    odds: Any = fo.project(
        z, fo.EqualizedOdds("g", tolerance=0.02), sensitive_features=g, targets=targets, outputs="simplex", return_solution=True
    )
    assert len(odds.labels) == 9
    for k in range(3):
        of = targets == k
        assert float((odds.scores[of & (g == 0)].mean(0) - odds.scores[of & (g == 1)].mean(0)).abs().max()) <= 0.02 + 1e-12


def test_zeros_stay_with_kl_and_order_of_classes_is_kept() -> None:
    z, g, _ = batch(80, 4)
    z[::7, 1] = 0.0
    z = z / z.sum(1, keepdim=True)
    solution: Any = fo.project(z, NOTIONS["parity"], sensitive_features=g, outputs="simplex", distance="kl", return_solution=True)
    assert bool((solution.scores[::7, 1] == 0).all())
    assert solution.certificate.unmoved == int((z == 0).sum())
    assert bool((solution.scores[z > 0] > 0).all())


def test_layer() -> None:
    z, g, targets = batch(120, 3)
    logits = z.log().float().requires_grad_(True)
    layer = fo.FairnessLayer(NOTIONS["odds"], space="probability", outputs="simplex", distance="kl")
    fair = layer(logits, sensitive_features=g, targets=targets)
    assert layer.certificate is not None
    assert layer.certificate.status is fo.Status.CERTIFIED
    assert fair.shape == (120, 3)
    assert torch.allclose(fair.sum(1), torch.ones(120), rtol=0, atol=1e-6)
    torch.nn.functional.nll_loss(fair.log(), targets).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    again = layer(logits, sensitive_features=g, targets=targets)
    assert torch.equal(again, fair)
    for call in (lambda: layer.freeze(z, sensitive_features=g), layer.controller):
        with pytest.raises(fo.UnsupportedError):
            call()
    with pytest.raises(fo.InputError, match="outputs"):
        fo.FairnessLayer(NOTIONS["odds"], space="probability", distance="kl").load_state_dict(layer.state_dict())


@pytest.mark.parametrize("distance", ["squared", "kl"])
def test_independent_labels_are_one_score_each(distance: str) -> None:
    z = torch.rand(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    g, targets = torch.arange(40) % 2, (z > 0.4).to(torch.int64)
    for notion in (fo.DemographicParity("g", tolerance=0.01), fo.EqualOpportunity("g", tolerance=0.02)):
        facts: dict[str, Any] = {"sensitive_features": g, "bounds": (0, 1), "distance": distance}
        solution: Any = fo.project(z, notion, targets=targets, outputs="independent", return_solution=True, **facts)
        assert solution.status is fo.Status.CERTIFIED
        for c in range(3):
            alone = fo.project(z[:, c].contiguous(), notion, targets=targets[:, c], **facts)
            assert torch.allclose(solution.scores[:, c], alone, rtol=0, atol=1e-9)


def test_what_is_refused() -> None:
    z, g, targets = batch(20, 3)
    notion = fo.DemographicParity("g", tolerance=0.01)
    refused: list[tuple[Tensor, fo.Notion, dict[str, Any], type[Exception], str]] = [
        (z + 0.1, notion, {}, fo.InputError, "sum to 1"),
        (-z, notion, {}, fo.InputError, "row 0"),
        (z[:, 0], notion, {}, fo.InputError, "shape"),
        (z[:10], notion, {}, fo.InputError, "10 rows"),
        (z, notion, {"bounds": (0.1, 0.9)}, fo.InputError, "bounds"),
        (z, notion, {"classes": [3]}, fo.InputError, "classes"),
        (z, notion, {"classes": [0, 0]}, fo.InputError, "classes"),
        (z, notion, {"outputs": "many"}, fo.InputError, "outputs"),
        (z, notion, {"outputs": "one", "classes": [0]}, fo.InputError, "classes"),
        (z, notion, {"distance": "kl_positive"}, fo.InputError, "distance"),
        (z, notion, {"on_infeasible": "closest"}, fo.UnsupportedError, "on_infeasible"),
        (z, notion, {"backend": "closed_form"}, fo.UnsupportedError, "outputs='simplex'"),
        (z, notion, {"backend": "proxqp", "distance": "kl"}, fo.UnsupportedError, "distance='kl'"),
        (z, fo.EqualizedOdds("g", tolerance=0.1), {}, fo.InputError, "targets"),
        (z, fo.EqualizedOdds("g", tolerance=0.1), {"targets": targets + 5}, fo.InputError, "true classes"),
        (z, fo.EqualizedOdds("g", tolerance=0.1).priced(0.1), {"targets": targets}, fo.UnsupportedError, "EqualizedOdds"),
        (z, fo.ScoreCovariance("g", tolerance=0.1), {}, fo.UnsupportedError, "ScoreCovariance"),
        (z, fo.DemographicParity("g", tolerance=torch.tensor(0.1, requires_grad=True)), {}, fo.UnsupportedError, "tensors"),
    ]
    for scores, asked, facts, kind, words in refused:
        with pytest.raises(kind, match=words):
            fo.project(scores, asked, sensitive_features={"g": g}, **{"outputs": "simplex", **facts})


@pytest.mark.parametrize("outputs", ["simplex", "independent"])
@pytest.mark.parametrize("lower", [1.5, 0.9])
def test_an_infeasible_problem_of_classes_advises_only_what_classes_take(outputs: str, lower: float) -> None:
    """on_infeasible='closest' is there for one number a sample alone."""
    z, g = torch.full((4, 3), 1 / 3, dtype=torch.float64), ["a", "b"] * 2
    bounds = None if outputs == "simplex" else (0.0, 0.8)
    notion = fo.GroupMeanBound("g", lower=lower)
    for call in (
        lambda: fo.project(z, notion, sensitive_features=g, outputs=outputs, bounds=bounds),
        lambda: fo.FairnessLayer(notion, outputs=outputs, bounds=bounds)(z, sensitive_features=g),
    ):
        with pytest.raises(fo.InfeasibleError, match="Widen a tolerance") as raised:
            call()
        assert "closest" not in str(raised.value)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.floats(-300, 300))
@settings(max_examples=100)
def test_maps_land_on_the_simplex(seed: int, C: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    v = rng.normal(size=(5, C)) * np.exp(size / 60)
    y = nearest(v)
    assert (y >= 0).all()
    assert np.allclose(y.sum(1), 1.0, rtol=0, atol=1e-9 * max(1.0, np.abs(v).max()))
    assert np.allclose(nearest_point(torch.from_numpy(v)).numpy(), y, rtol=0, atol=1e-12 * max(1.0, np.abs(v).max()))
    for other in rng.dirichlet(np.ones(C), 20):  # no point of the simplex is nearer
        assert (((v - y) ** 2).sum(1) <= ((v - other) ** 2).sum(1) * (1 + 1e-9) + 1e-9).all()
    z = rng.dirichlet(np.ones(C) * 0.1, 5) + 1e-300
    e = softmax(z, rng.normal(size=(5, C)) * abs(size))
    assert np.isfinite(e).all()
    assert np.allclose(e.sum(1), 1.0, rtol=0, atol=1e-12)


@distances
def test_sums_are_1_to_the_last_bit_of_the_largest_entry(distance: str) -> None:
    for seed, dtype in ((0, torch.float32), (1, torch.float32), (2, torch.float64)):
        z, g, _ = batch(300, 10, seed)
        solution: Any = fo.project(
            z.to(dtype), NOTIONS["parity"], sensitive_features=g, outputs="simplex", distance=distance, return_solution=True
        )
        assert solution.status is fo.Status.CERTIFIED
        assert solution.simplex_error <= (0.5 if dtype == torch.float32 else 1.0) * torch.finfo(dtype).eps
