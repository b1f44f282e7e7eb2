"""The shortest road, with and without bounds: it answers what the general road answers, and leaves to it what touches a bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fairopt as fo
from fairopt.solve import Solution
from fairopt.solve import short_road as road
from fairopt.solve.road import closed

Bounds = tuple[Any, Any]


@pytest.fixture(autouse=True)
def _general_road() -> Iterator[None]:
    with closed():
        yield


def prepared(n: int, bounds: Bounds | None, tolerance: float = 0.05, kind: str = "hard") -> fo.Prepared:
    notion: fo.Notion = fo.DemographicParity("a", tolerance=tolerance)
    notion = {"hard": lambda: notion, "priced": lambda: notion.priced(0.3 * n), "quadratic": lambda: notion.penalised(2.0 * n)}[kind]()
    return fo.compile(notion, sensitive_features={"a": (np.arange(n) % 3 == 0).tolist()}, bounds=bounds)


def scores(n: int, seed: int, dtype: torch.dtype) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.tensor(0.4 + 0.15 * (np.arange(n) % 3 == 0) + rng.uniform(-0.2, 0.2, n), dtype=dtype)


def both(z: Tensor, batch: fo.Prepared, backend: str = "auto") -> tuple[Solution, Tensor, Solution, Tensor]:
    """(solution, gradient) of the short road and of dual_newton."""
    out: list[Any] = []
    v = torch.randn(z.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(z.dtype)
    for name in (backend, "dual_newton"):
        x = z.clone().requires_grad_(True)
        found = batch.project(x, backend=name, return_solution=True)
        found.scores.backward(v)
        out += [found, x.grad]
    return out[0], out[1], out[2], out[3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [7, 300, 5_000, 70_000])
@pytest.mark.parametrize("kind", ["hard", "priced", "quadratic"])
def test_inside_the_bounds_it_is_the_general_answer(n: int, kind: str, dtype: torch.dtype) -> None:
    low, high = np.linspace(-0.5, -0.4, n), np.full(n, 1.5)
    for bounds in (None, (0.0, 1.0), (None, 1.0), (torch.from_numpy(low), torch.from_numpy(high))):
        found, gradient, general, expected = both(scores(n, n, dtype), prepared(n, bounds, kind=kind))
        assert found.certificate.backend == "closed_form"
        assert found.status is fo.Status.CERTIFIED
        eps = float(torch.finfo(dtype).eps)
        assert float((found.scores - general.scores).detach().abs().max()) <= 4 * n * eps
        assert float((gradient - expected).abs().max()) <= 50 * eps * float(expected.abs().max())
        assert found.prices.tolist() == pytest.approx(general.prices.tolist(), rel=1e-3, abs=1e-6 * n)
        assert found.certificate.bounds_violation == 0.0


def test_a_box_leaves_the_bits_as_they_are() -> None:
    z = scores(300, 1, torch.float32)
    assert torch.equal(prepared(300, (0.0, 1.0)).project(z), prepared(300, None).project(z))


@pytest.mark.parametrize("where", ["input at the bound", "input outside", "answer outside"])
@pytest.mark.parametrize("sample_bounds", [False, True])
def test_what_touches_a_bound_goes_the_general_road(where: str, sample_bounds: bool) -> None:
    n = 60
    z = scores(n, 2, torch.float64)
    high = {"input at the bound": float(z.max()), "input outside": float(z.max()) - 1e-3, "answer outside": float(z.max()) + 1e-9}[where]
    if where == "answer outside":  # the lower group is pushed up
        k = int(torch.argmax(torch.where(torch.arange(n) % 3 == 0, -1.0, z)))
        z[k] = high - 1e-6
    highs = torch.where(z < 0.3, torch.full_like(z, 5.0), torch.full_like(z, high))  # not one number for all
    bounds: Bounds = (torch.full((n,), -1.0, dtype=torch.float64), highs) if sample_bounds else (-1.0, high)
    found, gradient, general, expected = both(z, prepared(n, bounds))
    assert found.certificate.backend == "dual_newton"
    assert torch.equal(found.scores, general.scores)
    assert torch.equal(gradient, expected)
    assert float(found.scores.detach().max()) <= high


def test_an_answer_exactly_at_its_bound_goes_the_general_road() -> None:
    """The bound set to the very number that the short road would return: a tie, which the general road decides."""
    n = 40
    z = scores(n, 3, torch.float64)
    z[1] = 0.9  # in the lower group, which is pushed up
    highest = float(prepared(n, None).project(z).max())
    assert float(z.max()) < highest
    found, gradient, general, expected = both(z, prepared(n, (None, highest)))
    assert found.certificate.backend == "dual_newton"
    assert torch.equal(gradient, expected)
    assert torch.equal(found.scores, general.scores)


def test_closed_form_itself_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    itself = road.project_one_row

    def watched(z: Tensor, plan: road.OneRow) -> road.OneRowOutcome | None:
        called.append(z.shape[0])
        return itself(z, plan)

    monkeypatch.setattr("fairopt.solve.short_road.project_one_row", watched)
    both(scores(50, 4, torch.float32), prepared(50, (0.0, 1.0)), backend="closed_form")
    assert called == [50]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_score_is_named(bad: float) -> None:
    z = scores(20, 5, torch.float64)
    z[3] = bad
    for bounds in (None, (0.0, 1.0), (None, 1.0)):
        with pytest.raises(fo.InputError, match="position 3"):
            prepared(20, bounds).project(z)
