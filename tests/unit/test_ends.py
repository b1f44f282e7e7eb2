"""Scores that rows leave no place but 0 or 1: a linear program agrees who they are, and what is left is solved as ever."""

from __future__ import annotations

import warnings
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import fairopt as fo
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.entropy.ends import Ends, ends_of
from tests.unit.class_draws import class_draws
from tests.unit.test_classes import table_of

g = torch.tensor([0, 0, 1, 1, 1, 2, 2])
one_score = torch.tensor([0.0, 0.0, 0.3, 0.5, 0.9, 0.01, 0.999], dtype=torch.float64)
together = [
    fo.DemographicParity("g", tolerance=0.0),
    fo.DemographicParity("g", tolerance=0.0, to="overall"),
    fo.ImpactRatio("g", ratio=0.9),
]
kinds = st.sampled_from(["kl", "kl_positive", "simplex"])


def rows_of(problem: ProjectionProblem) -> tuple[np.ndarray, np.ndarray]:
    """G y <= h: every hard row, and the sums of class probabilities as equations beside it (``least_and_most``)."""
    A, offset = problem.rows.matrix().numpy(), problem.rows.offset
    G, h = [], []
    for k in range(problem.linear):
        for sign, limit in ((1.0, problem.upper[k]), (-1.0, -problem.lower[k])):
            if np.isfinite(limit):
                G.append(sign * A[k])
                h.append(limit - sign * offset[k])
    for r, run in enumerate(problem.range_slices):
        for b in range(run.start, run.stop):
            for a in range(run.start, run.stop):
                G.append(problem.ratio[r] * A[b] - A[a])
                h.append(problem.width[r] - problem.ratio[r] * offset[b] + offset[a])
    return np.array(G), np.array(h)


def least_and_most(problem: ProjectionProblem, z: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(n,) between which numbers each score of z (n,) can be, by linear programs; None where none meet the rows."""
    G, h = rows_of(problem)
    n, C = z.shape[0], problem.classes
    top = 1.0 if problem.distance == "kl" or C > 1 else None
    bounds = [(v, v) if v == 0.0 or (v == top and C == 1) else (0.0, top) for v in z]
    equal = None if C == 1 else np.tile(np.eye(n // C), C)
    ones = None if C == 1 else np.ones(n // C)
    ends = np.zeros((2, n))
    for i in range(n):
        for side, sign in enumerate((1.0, -1.0)):
            c = np.zeros(n)
            c[i] = sign
            found = linprog(c, G, h, equal, ones, bounds)
            if found.status == 2:
                return None
            ends[side, i] = sign * found.fun if found.status == 0 else np.inf
    return ends[0], ends[1]


def drawn(seed: int, kind: str) -> tuple[Any, torch.Tensor, ProjectionProblem, bool]:
    """A compiled notion, scores with zeros and ones by group, the problem, and whether its rows are of one attribute."""
    rng = np.random.default_rng([seed, 5])
    n, C, K = int(rng.integers(3, 9)), int(rng.integers(2, 4)), int(rng.integers(2, 4))
    features = {"g": rng.permutation(np.arange(n) % K), "h": rng.permutation(np.arange(n) % 2)}
    z = rng.uniform(0.05, 0.95, n) if kind != "simplex" else rng.dirichlet(np.ones(C), n)
    for group in range(K):
        if rng.random() < 0.5:
            inside = features["g"] == group
            if kind == "simplex":
                z[inside, int(rng.integers(C))] = 0.0 if rng.random() < 0.7 else 1e-300
                z[inside, int(rng.integers(C))] += rng.choice([0.0, 1e17])  # 1 beside probabilities that are none but for rounding
            else:
                z[inside] = float(rng.integers(2)) if kind == "kl" else 0.0
    z = z / z.sum(1, keepdims=True) if kind == "simplex" else z
    notions = [
        *together,
        fo.GroupMeanBound("g", upper=0.0) if kind != "simplex" else fo.DemographicParity("h", tolerance=0.0),
        fo.DemographicParity("g", tolerance=0.0) & fo.DemographicParity("h", tolerance=0.1),
    ]
    which = int(rng.integers(len(notions)))
    how: dict[str, Any] = {"outputs": "simplex", "distance": "kl"} if kind == "simplex" else {"distance": kind}
    weights = rng.uniform(0.3, 3.0, n) if rng.random() < 0.4 else None
    prepared: Any = fo.compile(notions[which], sensitive_features=features, weights=weights, **how)
    problem = prepared.problem_for(C) if kind == "simplex" else prepared.problem
    return prepared, torch.from_numpy(z), problem, which < 4


@given(st.integers(0, 10**6), kinds)
@settings(max_examples=150, deadline=None)
def test_a_linear_program_finds_the_same_ends(seed: int, kind: str) -> None:
    _, z, problem, one = drawn(seed, kind)
    flat = (z if z.dim() == 1 else z.T).reshape(-1).numpy()
    found, reach = ends_of(problem, flat), least_and_most(problem, flat)
    if reach is None:
        assert found is None or not one  # nothing meets the rows: then nothing is forced
        return
    least, most = reach
    free = (flat > 0.0) & ((flat < 1.0) | (problem.distance == "kl_positive"))
    zero = np.zeros(flat.shape, dtype=bool) if found is None else found.zero
    raised = np.zeros(flat.shape, dtype=bool) if found is None else found.one
    assert (most[zero] <= 1e-9).all()
    assert (least[raised] >= 1.0 - 1e-9).all()
    if one and kind != "simplex":  # all of them: rows of one attribute hold nothing that their reach does not say
        assert (zero == (free & (most <= 1e-9))).all()
        if problem.distance == "kl":
            assert (raised == (free & (least >= 1.0 - 1e-9))).all()


@given(st.integers(0, 10**6), kinds)
@settings(max_examples=100, deadline=None)
def test_the_prices_told_take_scores_where_they_are(seed: int, kind: str) -> None:
    prepared, z, problem, _ = drawn(seed, kind)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fo.FairoptWarning)
            solution = prepared.project(z, return_solution=True)
    except fo.InfeasibleError:
        return
    if solution.status not in (fo.Status.CERTIFIED, fo.Status.WITHIN_ROUNDING):
        assert bool(((z > 0.0) & (z < 1e-200)).any())  # a tail that bends over hundreds of orders is not always found, and said
        return
    p, y = solution.prices.numpy(), solution.scores.numpy()
    if kind == "simplex":
        assert np.abs(table_of(problem, z.numpy(), p, "kl") - y).max() <= 1e-8
        return
    s = problem.rows.matrix().numpy().T @ p
    s = s if problem.weights is None else s / problem.weights.numpy()
    with np.errstate(all="ignore"):
        if kind == "kl":
            logit = np.log(z.numpy()) - np.log1p(-z.numpy())
            made = np.where((z > 0) & (z < 1), 1.0 / (1.0 + np.exp(s - logit)), z)
        else:
            made = np.where(z > 0, z.numpy() * np.exp(-s), 0.0)
    assert np.abs(made - y).max() <= 1e-8


@pytest.mark.parametrize("notion", together)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("distance", ["kl", "kl_positive"])
def test_a_group_of_zeros_takes_all_there(notion: fo.Notion, distance: Any, dtype: torch.dtype) -> None:
    """Ended at the limit of iterations, or with a gradient of 1e193."""
    z = one_score.to(dtype, copy=True).requires_grad_(True)
    solution = fo.project(z, notion, sensitive_features={"g": g}, distance=distance, return_solution=True)
    assert solution.status is fo.Status.CERTIFIED
    assert (solution.scores == 0.0).all()
    assert solution.iterations <= 1
    (gradient,) = torch.autograd.grad(solution.scores.sum(), z)
    assert (gradient == torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=dtype)).all()
    assert float(solution.prices.abs().max()) >= 700.0  # none that is finite would do, and these say so


def test_a_group_of_ones_takes_all_there() -> None:
    solution = fo.project(1.0 - one_score, together[0], sensitive_features={"g": g}, distance="kl", return_solution=True)
    assert solution.status is fo.Status.CERTIFIED
    assert (solution.scores == 1.0).all()


@pytest.mark.parametrize("notion", together)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_class_that_a_group_does_not_have(notion: fo.Notion, dtype: torch.dtype) -> None:
    """33 steps were taken, to WITHIN_ROUNDING and gradients of 1e37."""
    table = np.random.default_rng(0).dirichlet(np.full(3, 0.5), 7)
    table[:2, 2] = 0.0
    z = torch.from_numpy(table / table.sum(1, keepdims=True)).to(dtype).requires_grad_(True)
    prepared: Any = fo.compile(notion, sensitive_features={"g": g}, outputs="simplex", distance="kl")
    solution = prepared.project(z, return_solution=True)
    assert solution.status is fo.Status.CERTIFIED
    assert solution.iterations <= 6
    assert (solution.scores[:, 2] == 0.0).all()
    v = torch.arange(21, dtype=dtype).reshape(7, 3)
    (gradient,) = torch.autograd.grad((v * solution.scores).sum(), z)
    assert float(gradient.abs().max()) <= 100.0
    if dtype is torch.float64:
        step = torch.zeros_like(z)
        step[3] = torch.tensor([1e-6, -1e-6, 0.0], dtype=dtype)
        after, before = (float((v * prepared.project(z.detach() + sign * step)).sum()) for sign in (1.0, -1.0))
        assert abs((after - before) / 2e-6 - float(gradient[3, 0] - gradient[3, 1])) <= 1e-5


@pytest.mark.parametrize("draw", [806, 1139])
def test_drawn_batches_that_were_inaccurate(draw: int) -> None:
    made = next(islice(class_draws(2000, 32, "kl", max_n=600, most=20), draw, None))
    solution = made.prepared.project(made.z, return_solution=True)
    assert solution.status is fo.Status.CERTIFIED
    assert solution.iterations <= 20


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_a_ratio_holds_at_the_lower_end_alone(end: float) -> None:
    """Means of at least 0.9 are no ones; means of at most 0 are zeros."""
    prepared: Any = fo.compile(fo.ImpactRatio("g", ratio=0.9), sensitive_features={"g": g}, distance="kl")
    problem, z = prepared.problem, one_score.numpy().copy()
    z[:2] = end
    found = ends_of(problem, z)
    if end == 1.0:
        assert found is None
        return
    assert found is not None
    assert found.zero.tolist() == [False, False] + [True] * 5
    up, down = float(np.maximum(found.prices, 0.0).sum()), float(np.maximum(-found.prices, 0.0).sum())
    assert up <= 0.9 * down * (1.0 + 1e-12)  # prices of a range's domain


def test_a_class_that_a_group_has_alone() -> None:
    """Rows of one class say it of the others."""
    table = np.random.default_rng(1).dirichlet(np.full(3, 0.5), 7)
    table[:2] = [1.0, 0.0, 0.0]
    prepared: Any = fo.compile(
        fo.DemographicParity("g", tolerance=0.0), sensitive_features={"g": g}, outputs="simplex", classes=[0], distance="kl"
    )
    solution = prepared.project(torch.from_numpy(table), return_solution=True)
    assert solution.status is fo.Status.CERTIFIED
    assert (solution.scores == torch.tensor([1.0, 0.0, 0.0])).all()
    assert solution.iterations <= 3


def test_nothing_is_forced_where_a_limit_leaves_room() -> None:
    roomy: Any = fo.compile(fo.DemographicParity("g", tolerance=1e-6), sensitive_features={"g": g}, distance="kl")
    assert ends_of(roomy.problem, one_score.numpy()) is None
    soft: Any = fo.compile(fo.DemographicParity("g", tolerance=0.0).penalised(9.0), sensitive_features={"g": g}, distance="kl")
    assert ends_of(soft.problem, one_score.numpy()) is None


def test_scores_are_put_to_their_ends_in_their_own_dtype() -> None:
    ends = Ends(np.array([True, False, False, False]), np.zeros(4, dtype=bool), np.zeros(1))
    z = torch.tensor([[0.25, 0.75], [0.5, 0.5]], dtype=torch.float32)
    assert ends.put(z, 2).tolist() == [[0.0, 1.0], [0.5, 0.5]]
    assert ends.put(z, 2).dtype == torch.float32
