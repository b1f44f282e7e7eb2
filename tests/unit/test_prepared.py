"""``compile``, ``Prepared`` and ``project``: compile once, project many times, one answer whatever the road."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import fairopt as fo

F64 = torch.float64
PARITY = fo.DemographicParity("g", tolerance=0.05)
BOTH = PARITY & fo.DemographicParity("h", tolerance=0.03)
NOTIONS = [PARITY, BOTH, PARITY.priced(0.4), BOTH.budgeted(0.5), PARITY.penalised(20.0), fo.MeanResidual("g", tolerance=0.1)]


def draw(n: int, seed: int, rows: int | None = None) -> tuple[Tensor, dict[str, list[int]], Tensor]:
    """Scores (n,) or (rows, n), two attributes, targets (n,) inside every box that is used here."""
    rng = np.random.default_rng(seed)
    g, h = np.arange(n) % 3, (np.arange(n) // 3) % 2
    scores = 0.4 + 0.15 * g + 0.1 * h + 0.2 * rng.standard_normal((rows, n) if rows else n)
    return torch.from_numpy(scores), {"g": g.tolist(), "h": h.tolist()}, torch.from_numpy(rng.uniform(0.3, 0.6, size=n))


def grad(t: Any) -> Tensor:
    """The gradient that backward has left."""
    assert t.grad is not None
    return t.grad


@given(st.integers(0, 2**32 - 1), st.integers(6, 40), st.sampled_from(NOTIONS), st.sampled_from([None, (0, 1), (0.3, 0.6)]))
def test_project_compile_and_the_layer_are_one_projection(seed: int, n: int, notion: fo.Notion, bounds: Any) -> None:
    z, features, t = draw(n, seed)
    facts: dict[str, Any] = {"sensitive_features": features, "targets": t}
    prepared = fo.compile(notion, bounds=bounds, **facts)
    y = prepared.project(z)
    assert torch.equal(fo.project(z, notion, bounds=bounds, **facts), y)
    assert torch.equal(fo.FairnessLayer(notion, bounds=bounds)(z, **facts), y)
    assert torch.equal(prepared.project(z), y)  # again, with caches warm


@given(st.integers(0, 2**32 - 1), st.sampled_from(NOTIONS), st.sampled_from([None, (0.3, 0.6)]), st.sampled_from([F64, torch.float32]))
def test_a_batch_of_problems_is_one_problem_a_row(seed: int, notion: fo.Notion, bounds: Any, dtype: torch.dtype) -> None:
    z, features, t = draw(12, seed, rows=4)
    z = z.to(dtype).requires_grad_()
    prepared = fo.compile(notion, sensitive_features=features, targets=t, bounds=bounds)
    y = prepared.project_batch(z)
    assert (y.shape, y.dtype) == (z.shape, dtype)
    y.square().sum().backward()
    for k in range(4):
        row = z.detach()[k].clone().requires_grad_()
        one = prepared.project(row)
        assert torch.equal(y[k], one)
        one.square().sum().backward()
        assert torch.equal(grad(z)[k], grad(row))


def test_what_a_solution_holds() -> None:
    z, features, _ = draw(12, 1)
    prepared = fo.compile(BOTH, sensitive_features=features)
    column = z.reshape(-1, 1)
    solution = prepared.project(column, return_solution=True)
    assert solution.scores.shape == (12, 1)
    assert torch.equal(solution.scores, prepared.project(column))
    assert torch.equal(prepared.solution(column).scores, solution.scores)
    assert solution.prices.shape == (len(solution.labels),) == (prepared.problem.m,)
    assert solution.prices.dtype == F64
    assert solution.status is fo.Status.CERTIFIED is solution.certificate.status
    a = prepared.problem.rows.matrix()  # y = z - A'p without a box and weights
    assert torch.allclose(z - a.T @ solution.prices, solution.scores.reshape(-1), atol=1e-12)
    assert prepared.project(z, backend="dual_newton", return_solution=True).backend == "dual_newton"


def test_a_certificate_says_its_numbers_in_plain_python() -> None:
    import json

    z, features, t = draw(12, 1)
    solution = fo.project(z, BOTH & fo.MeanResidual("g", tolerance=0.4), sensitive_features=features, targets=t, return_solution=True)
    record = json.loads(json.dumps(solution.certificate.to_dict()))
    assert record["format"] == 1
    assert record["status"] == "CERTIFIED"
    assert record["used_targets"] is True
    assert record["group_counts"]["g=0"] == 4
    assert record["max_violation"] == max(record["violation"].values()) <= 0
    assert record["distance"] == pytest.approx(float((solution.scores - z).norm()))
    assert set(record["limits"]) == set(record["violation"])
    assert len(record["problem_hash"]) == 64


def test_the_hash_tells_problems_apart() -> None:
    z, features, _ = draw(12, 1)

    def digest(notion: fo.Notion = PARITY, **facts: Any) -> str:
        facts = {"sensitive_features": features, **facts}
        return str(fo.project(z, notion, return_solution=True, **facts).certificate.problem_hash)

    assert digest() == digest()
    others = [
        digest(fo.DemographicParity("g", tolerance=0.06)),
        digest(bounds=(0, 1)),
        digest(weights=torch.linspace(1, 2, 12)),
        digest(sensitive_features={"g": [0, 0, *features["g"][2:]]}),
        digest(PARITY.priced(1.0)),
    ]
    assert len({digest(), *others}) == 6


@pytest.mark.parametrize("bounds", [None, (0, 1)])
def test_limits_that_are_tensors_are_read_at_each_call(bounds: Any) -> None:
    z, features, _ = draw(12, 1)
    tolerance = nn.Parameter(torch.tensor(0.05, dtype=F64))
    prepared = fo.compile(fo.DemographicParity("g", tolerance=tolerance), sensitive_features=features, bounds=bounds)
    for value in (0.05, 0.01, 0.2):
        with torch.no_grad():
            tolerance.fill_(value)
        fixed = fo.compile(fo.DemographicParity("g", tolerance=value), sensitive_features=features, bounds=bounds)
        assert torch.allclose(prepared.project(z), fixed.project(z), atol=1e-12, rtol=0)
    assert float(prepared.problem.width[0]) == 0.05  # the compiled numbers stay


def test_the_tolerance_s_gradient_is_its_central_difference() -> None:
    z, features, _ = draw(12, 1)
    tolerance = nn.Parameter(torch.tensor(0.04, dtype=F64))
    prepared = fo.compile(fo.DemographicParity("g", tolerance=tolerance), sensitive_features=features, bounds=(0, 1))
    direction = torch.sin(torch.arange(12, dtype=F64))
    (direction * prepared.project(z)).sum().backward()
    ends = []
    for value in (0.04 + 1e-6, 0.04 - 1e-6):
        with torch.no_grad():
            tolerance.fill_(value)
        ends.append(float((direction * prepared.project(z)).sum().detach()))
    assert float(grad(tolerance)) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)


@pytest.mark.parametrize(
    "column",
    [
        ["a", "b", "a", "b", "b", "a"],
        np.array(["a", "b", "a", "b", "b", "a"]),
        pd.Series(["a", "b", "a", "b", "b", "a"], index=[9, 8, 7, 6, 5, 4]),
        pd.Categorical(["a", "b", "a", "b", "b", "a"]),
        [0, 1, 0, 1, 1, 0],
        torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0, 0.0]),
        torch.tensor([False, True, False, True, True, False]),
    ],
    ids=lambda c: type(c).__name__,
)
def test_groups_may_come_in_any_container(column: Any) -> None:
    z = torch.tensor([0.1, 0.5, 0.2, 0.9, 0.7, 0.0], dtype=F64)
    plain = fo.project(z, PARITY, sensitive_features={"g": ["a", "b", "a", "b", "b", "a"]})
    forms: tuple[Any, ...] = ({"g": column}, pd.DataFrame({"g": column.numpy() if isinstance(column, Tensor) else column}))
    for features in forms:
        assert torch.equal(fo.project(z, PARITY, sensitive_features=features), plain)


def test_passthrough_keeps_the_scores_and_says_so() -> None:
    z, features, _ = draw(12, 1)
    z = z.reshape(-1, 1).requires_grad_()
    prepared = fo.compile(fo.GroupMeanBound("g", lower=2.0), sensitive_features=features, bounds=(0, 1), on_infeasible="passthrough")
    solution = prepared.solution(z)
    assert torch.equal(solution.scores, z)
    assert solution.status is fo.Status.INFEASIBLE
    assert solution.certificate.max_violation > 1
    assert torch.equal(prepared.project_batch(z.detach().T), z.detach().T)
    solution.scores.sum().backward()
    assert torch.equal(grad(z), torch.ones_like(z))


class Early(fo.Backend):
    """Gives up before its first step."""

    name = "early"
    capabilities = fo.Capabilities(softness=frozenset({"hard"}), ranges=True, bounds=True, dtypes=("float64",))

    def solve(self, scores: Tensor, problem: Any) -> fo.RawSolution:
        return fo.RawSolution(scores.clone(), np.zeros(problem.m), fo.Status.ITERATION_LIMIT)


def test_a_backend_that_stops_early_warns_and_says_so() -> None:
    z, features, _ = draw(60, 1)
    with pytest.warns(fo.FairoptWarning, match="backend 'early': ITERATION_LIMIT.*KKT residual"):
        solution = fo.project(z, BOTH, sensitive_features=features, bounds=(0.3, 0.6), backend=Early(), return_solution=True)
    assert solution.status is fo.Status.ITERATION_LIMIT


def test_the_polish_may_finish_what_stopped_early() -> None:
    """A status says what the returned scores are, not how their solver felt about it."""
    z, features, _ = draw(60, 1)
    facts: dict[str, Any] = {"sensitive_features": features, "bounds": (0.3, 0.6)}
    solution = fo.project(z, BOTH, **facts, backend=fo.backend("dual_newton", max_iter=1), return_solution=True)
    assert solution.status is fo.Status.CERTIFIED
    torch.testing.assert_close(solution.scores, fo.project(z, BOTH, **facts), rtol=0.0, atol=1e-12)


def test_a_prepared_batch_is_frozen() -> None:
    prepared = fo.compile(PARITY, sensitive_features={"g": [0, 1]})
    with pytest.raises(FrozenInstanceError):
        prepared.on_infeasible = "closest"  # type: ignore[misc]


def test_a_solver_with_a_batch_of_its_own_gets_all_problems_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """qpth solves (B, n) in one run, with the answers and gradients of one after the other."""
    module = pytest.importorskip("fairopt_backends.qpth")
    pytest.importorskip("qpth")
    runs: list[int] = []
    run = module.Qpth._run

    def counted(self, numbers, *rest):
        runs.append(len(numbers))
        return run(self, numbers, *rest)

    monkeypatch.setattr(module.Qpth, "_run", counted)
    torch.manual_seed(3)
    prepared = fo.compile(fo.DemographicParity("a", tolerance=0.05), sensitive_features={"a": [0, 1, 1, 0, 1, 2]}, bounds=(0, 1))
    scores = torch.rand(4, 6, dtype=torch.float64)
    together, alone = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    y = prepared.project_batch(together, backend="qpth")
    assert runs[0] == 4
    expected = torch.stack([prepared.project(row, backend="qpth") for row in alone])
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    weights = torch.rand(4, 6, dtype=torch.float64)
    (ours,) = torch.autograd.grad((y * weights).sum(), together)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), alone)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
