"""Limits that no class probabilities meet: said with a proof where a linear programme of another library says so, and nowhere else."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.contract.problem import ProjectionProblem

highs = pytest.importorskip("scipy.optimize")
CLEAR = 1e-6  # a least violation, or room, that no rounding explains


def drawn(seed: int) -> tuple[Any, dict[str, Any], fo.Notion]:
    """Probabilities (n, C), many of them of one class alone or 0, groups, and limits that some of these may not meet."""
    rng = np.random.default_rng(seed)
    n, C, K = int(rng.integers(2, 40)), int(rng.integers(2, 6)), int(rng.integers(2, 5))
    z = rng.dirichlet(np.ones(C) * rng.choice([0.2, 1.0]), n) + 1e-9
    z[rng.random(z.shape) < rng.choice([0.0, 0.3, 0.6])] = 0.0
    one = rng.random(n) < rng.choice([0.0, 0.5, 0.9, 1.0])
    z[one] = np.eye(C)[rng.integers(0, C, n)][one]
    z[z.sum(1) == 0.0, 0] = 1.0
    features = {"g": rng.integers(0, K, n), "h": rng.integers(0, 2, n)}
    low, high = np.sort(rng.random(2)) * rng.choice([1.0, 0.5])
    notions = [
        fo.DemographicParity("g", tolerance=float(rng.choice([0.0, 0.05, 0.3]))),
        fo.DemographicParity("g", tolerance=0.2) & fo.DemographicParity("h", tolerance=0.05),
        fo.GroupMeanBound("g", lower=float(low)),
        fo.GroupMeanBound("h", lower=float(low), upper=float(high)) & fo.DemographicParity("g", tolerance=0.1),
        fo.ImpactRatio("g", ratio=float(high)),
        fo.DemographicParity("g", tolerance=0.3) & fo.DemographicParity("h", tolerance=0.0).priced(0.1),
    ]
    return z / z.sum(1, keepdims=True), features, notions[int(rng.integers(len(notions)))]


def least_violation(problem: ProjectionProblem, z: Any, *, kl: bool) -> float:
    """The least t, at best negative, such that some probabilities break no hard limit by more than t: a linear programme over samples."""
    n, C = z.shape
    A, offset = problem.rows.matrix().numpy(), problem.rows.offset
    lines, limits = [], []
    for k in range(problem.linear):
        if problem.softness[k].kind == "hard":
            lines += [A[k], -A[k]]
            limits += [problem.upper[k] - offset[k], offset[k] - problem.lower[k]]
    for r, part in enumerate(problem.range_slices):
        if problem.softness[problem.linear + r].kind == "hard":
            for a in range(part.start, part.stop):
                for b in range(part.start, part.stop):
                    if a != b:
                        lines.append(problem.ratio[r] * A[a] - A[b])
                        limits.append(problem.width[r] - problem.ratio[r] * offset[a] + offset[b])
    finite = [i for i, limit in enumerate(limits) if np.isfinite(limit)]
    if not finite:
        return -1.0
    least = highs.linprog(
        np.append(np.zeros(n * C), 1.0),
        A_ub=np.column_stack([np.array(lines)[finite], -np.ones(len(finite))]),
        b_ub=np.array(limits)[finite],
        A_eq=np.column_stack([np.tile(np.eye(n), C), np.zeros(n)]),
        b_eq=np.ones(n),
        bounds=[(0.0, 1.0 if (v > 0.0 or not kl) else 0.0) for v in z.T.reshape(-1)] + [(-1.0, 2.0)],
        method="highs",
    )
    assert least.status == 0
    return float(least.x[-1])


def proves(problem: ProjectionProblem, z: Any, proof: Any, *, kl: bool) -> bool:
    """Whether the multipliers of the notion's rows leave class probabilities nowhere to be: each sample at its best class."""
    n, C = z.shape
    of = {label: k for k, label in enumerate(problem.labels)}
    assert len(of) == problem.m
    q = np.zeros(problem.m)
    for label, value in zip(proof.labels, proof.multipliers, strict=True):
        if label in of:
            q[of[label]] = float(value)
    w = (q @ problem.rows.matrix().numpy()).reshape(C, n).T
    least = float(q @ problem.rows.offset) + float(np.where((z > 0.0) | (not kl), w, np.inf).min(1).sum())
    most = 0.0
    for k in np.flatnonzero(q[: problem.linear]):
        most += float(q[k] * (problem.upper[k] if q[k] > 0 else problem.lower[k]))
    for r, part in enumerate(problem.range_slices):
        up, down = np.maximum(q[part], 0).sum(), np.maximum(-q[part], 0).sum()
        ratio = float(problem.ratio[r])
        assert up <= ratio * down + 1e-12
        if down > 0:
            most += float(problem.width[r]) * (up if ratio == 1.0 else (down - up) / (1.0 - ratio))
    return least > most + 1e-12


def told(prepared: Any, z: Any) -> tuple[Any, Any]:
    """The solution, or the error that came instead."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fo.FairoptWarning)
            return prepared.project(torch.tensor(z), return_solution=True), None
    except fo.InfeasibleError as error:
        return None, error


def judged(seed: int, distance: str) -> str:
    z, features, notion = drawn(seed)
    kl = distance == "kl"
    try:
        prepared: Any = fo.compile(notion, sensitive_features=features, outputs="simplex", distance=distance)
        problem = prepared.problem_for(z.shape[1])
    except fo.InfeasibleError:  # without the sum, and whatever the scores
        return "compiled"
    least = least_violation(problem, z, kl=kl)
    solution, error = told(prepared, z)
    if error is not None:
        assert least > -1e-9, (seed, least)
        assert error.proof.check()
        assert error.proof.margin < 1e-12 or proves(problem, z, error.proof, kl=kl), seed  # which is in floats
        assert error.rows
        return "infeasible"
    assert not least > CLEAR, (seed, least, solution.status)
    if least < -CLEAR:
        assert solution.status in (fo.Status.CERTIFIED, fo.Status.WITHIN_ROUNDING), (seed, least, solution.status)
    return "feasible"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(["squared", "kl"]))
def test_a_linear_programme_agrees(seed: int, distance: str) -> None:
    judged(seed, distance)


def test_both_answers_are_drawn() -> None:
    for distance, fewest in (("squared", 3), ("kl", 12)):
        found = [judged(seed, distance) for seed in range(45)]
        assert found.count("infeasible") >= fewest, found
        assert found.count("feasible") >= 15, found


@pytest.mark.slow
@pytest.mark.parametrize("distance", ["squared", "kl"])
def test_thousands_of_linear_programmes_agree(distance: str) -> None:
    for seed in range(10_000, 12_000):
        judged(seed, distance)


def test_the_error_names_what_was_asked_alone() -> None:
    z = np.eye(3)[np.arange(40) % 2]
    g = np.arange(40) % 2
    with pytest.raises(fo.InfeasibleError, match=r"whose zeros stay .*class 0") as raised:
        fo.project(torch.tensor(z), fo.DemographicParity("g", tolerance=0.1), sensitive_features={"g": g}, outputs="simplex", distance="kl")
    assert len(raised.value.rows) == 1
    assert "sum to 1" not in str(raised.value)
    assert "closest" not in str(raised.value)
    third = torch.full((40, 3), 1 / 3, dtype=torch.float64)
    with pytest.raises(fo.InfeasibleError) as raised:
        fo.project(third, fo.GroupMeanBound("g", lower=0.5), sensitive_features={"g": g}, outputs="simplex")
    assert sorted(row[-8:] for row in raised.value.rows) == ["class 0)", "class 1)", "class 2)"]
    assert raised.value.proof is not None
    assert raised.value.proof.check()
