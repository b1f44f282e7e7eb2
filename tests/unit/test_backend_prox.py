"""The dual proximal step is itself a projection problem: its value is compared with the reference, its derivative with differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairopt.basics.arrays import Array
from fairopt.contract.problem import HARD, Limits, ProjectionProblem, Softness
from fairopt.contract.rows import Rows
from fairopt.testing.oracle import solve_reference
from fairopt_backends.unrolled import Unrolled, make_dual

pytest.importorskip("daqp")
KINDS = ("hard", "priced", "quadratic", "budget")


def identity(seed: int, kinds: tuple[str, ...], weight: float) -> tuple[ProjectionProblem, Array]:
    """min sum w_k/2 (f_k - a_k)^2 + softness(f): rows are the samples. One linear row a kind, then one range of 2 to 5 rows a kind."""
    rng = np.random.default_rng(seed)
    sizes = [int(k) for k in rng.integers(2, 6, len(kinds))]
    m = len(kinds) + sum(sizes)
    eye = np.eye(m)
    rows = Rows(torch.arange(m), eye.astype(np.bool_), eye, rng.normal(0, 0.1, m))
    lower, upper = -rng.uniform(0, 0.5, len(kinds)), rng.uniform(0, 0.5, len(kinds))
    lower[rng.uniform(size=len(kinds)) < 0.2] = -np.inf
    width = rng.uniform(0, 1, len(kinds)) * (rng.uniform(size=len(kinds)) < 0.8)

    def softness(kind: str) -> Softness:
        if kind == "hard":
            return HARD
        return Softness(kind, weight, 0 if kind == "budget" else -1)  # type: ignore[arg-type]

    both = tuple(softness(kind) for kind in kinds) * 2
    starts = (len(kinds) + np.concatenate([[0], np.cumsum(sizes)])).astype(np.int64)
    labels = tuple(map(str, range(m)))
    weights = torch.from_numpy(np.exp(rng.uniform(-1.5, 1.5, m))) if seed % 2 else None
    problem = ProjectionProblem(
        rows, lower, upper, width, starts, weights=weights, softness=both, labels=labels, constraint_labels=labels[: 2 * len(kinds)]
    )
    return problem, np.round(rng.normal(0, 1.5, m), 1 if seed % 3 == 0 else 12)  # ties in every third


@settings(max_examples=80)
@given(st.integers(0, 10**6), st.lists(st.sampled_from(KINDS), min_size=1, max_size=3), st.sampled_from([0.05, 0.4, 3.0]))
def test_one_step_from_zero_solves_an_identity_problem(seed: int, kinds: list[str], weight: float) -> None:
    """For A = I a row's step is its sample's weight, and the first step p = prox(w f(0)) is the solution: y = a - p / w."""
    problem, a = identity(seed, tuple(kinds), weight)
    reference = solve_reference(a, problem)
    if not reference.accepted:
        return
    dual = make_dual(torch.from_numpy(a), problem, problem.limits())
    w = torch.ones(problem.m, dtype=torch.float64) if problem.weights is None else problem.weights
    assert (dual.tau * dual.scale**2).tolist() == pytest.approx(w.tolist())
    p = dual.prox(dual.tau * dual.values(torch.zeros(problem.m, dtype=torch.float64)), dual.tau)
    assert np.abs(a - (p * dual.scale / w).numpy() - reference.y).max() <= 1e-11 * max(1.0, float(np.abs(a).max()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_step_is_differentiable_to_the_scores_and_to_every_limit(kind: str) -> None:
    checked = 0
    for seed in range(1, 40, 3):
        problem, a = identity(seed, (kind, "hard"), 0.4)
        limits = [torch.nan_to_num(t, neginf=-50.0, posinf=50.0).requires_grad_(True) for t in problem.limits().tensors()]

        def step(z: torch.Tensor, *limits: torch.Tensor, problem: ProjectionProblem = problem) -> torch.Tensor:
            dual = make_dual(z, problem, Limits(*limits))
            return dual.prox(dual.tau * dual.values(torch.zeros(problem.m, dtype=torch.float64)), dual.tau)

        z = torch.from_numpy(a).requires_grad_(True)
        if not bool((step(z, *limits) != 0).any()):
            continue
        budget = [k for k, s in enumerate(problem.softness) if s.kind == "budget"]
        if len(budget) > 1:  # a budget has one rho: the mean of its constraints' weights
            limits[4].requires_grad_(False)
        assert torch.autograd.gradcheck(step, (z, *limits), eps=1e-6, atol=1e-7)
        checked += 1
    assert checked >= 8


def test_more_steps_come_nearer_and_the_last_ones_do_not_move() -> None:
    """pgd obeys the rate of claim L10; fista with 2,000 steps ends at machine precision and says how many it took."""
    problem, a = identity(4, ("hard", "budget"), 0.4)
    rng = np.random.default_rng(0)
    box = ProjectionProblem(
        problem.rows, problem.lower, problem.upper, problem.width, problem.range_starts, lb=-0.6, ub=0.6, softness=problem.softness,
        weights=torch.from_numpy(rng.uniform(0.3, 3.0, problem.n)), labels=problem.labels, constraint_labels=problem.constraint_labels,
    )  # fmt: skip
    reference = solve_reference(a, box)
    assert reference.accepted
    errors = []
    for steps in (1, 10, 100, 2000):
        y = Unrolled(steps=steps, method="pgd").solve(torch.from_numpy(a), box).y
        assert y is not None
        errors.append(float(np.abs(y.numpy() - reference.y).max()))
    assert errors == sorted(errors, reverse=True)
    done = Unrolled(steps=2000).solve(torch.from_numpy(a), box)
    assert done.y is not None
    assert done.status is None
    assert done.iterations < 2000
    assert float(np.abs(done.y.numpy() - reference.y).max()) <= 1e-13
