"""Sizes far apart in one problem: a capped limit that nothing reaches, rows beyond float64, heavy samples that move alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import fairopt as fo
from fairopt.notions import Batch, Constraint


@fo.notion
def scaled_mean(batch: Batch, attribute: str, *, times: float, least: float) -> Iterator[Constraint]:
    yield times * batch.mean() >= least


def solved(scores: torch.Tensor, notion: Any, **facts: Any) -> fo.Solution:
    solution = fo.project(scores, notion, return_solution=True, **facts)
    assert isinstance(solution, fo.Solution)
    return solution


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("limit", [1e3, 1e30, 1e300])
def test_a_capped_limit_out_of_reach_asks_for_what_its_price_can_do(dtype: torch.dtype, limit: float) -> None:
    """A price of at most 10 moves one score by 10: how far away its limit is changes nothing, and drowns no other row."""
    capped, z = scaled_mean("g", times=1.0, least=limit).priced(10.0), torch.tensor([100.0], dtype=dtype)
    alone = solved(z, capped, sensitive_features={"g": [0]})
    assert alone.status is fo.Status.CERTIFIED
    assert float(alone.scores) == pytest.approx(110.0, abs=0.1)
    beside = solved(z, capped & fo.GroupMeanBound("g", upper=3.0), sensitive_features={"g": [0]})
    assert beside.status is fo.Status.CERTIFIED
    assert float(beside.scores) == pytest.approx(3.0, abs=0.01)


def test_a_violation_beyond_float64_is_the_largest_number() -> None:
    z = torch.full((2,), sys.float_info.max, dtype=torch.float64)
    features = {"s": [2.353152573433527e29, 6.417684098462527e29]}
    certificate = solved(z, fo.ScoreCovariance("s", tolerance=1.7e308), sensitive_features=features).certificate
    assert all(np.isfinite(v) for v in certificate.to_dict().values() if isinstance(v, float))


@pytest.mark.parametrize("heavy", [1e3, 1e9, 1e15])
def test_a_heavy_sample_that_moves_alone_meets_its_row(heavy: float) -> None:
    """The light sample is at its bound: what is left of the row's metric is next to nothing, and decides its price none the less."""
    scores = torch.tensor([0.2, 0.9], dtype=torch.float64)
    notion = fo.GroupMeanBound("g", lower=0.7) & fo.DemographicParity("g", tolerance=0.5)
    bounds = (None, torch.tensor([1.0, 0.95], dtype=torch.float64))
    solution = solved(scores, notion, sensitive_features={"g": [0, 0]}, bounds=bounds, weights=[heavy, 1.0 / heavy])
    assert solution.status is fo.Status.CERTIFIED
    assert solution.scores.tolist() == pytest.approx([0.45, 0.95], rel=1e-14)
    assert solution.certificate.kkt_residual <= 1e-13


@pytest.mark.parametrize("limit", [1e3, 1e100, 1e300])
def test_the_bound_of_a_residual_is_a_share_of_the_scores(limit: float) -> None:
    """Nearest within 1e290 would say nothing."""
    capped = (scaled_mean("g", times=1.0, least=-limit) & fo.DemographicParity("g", tolerance=0.05)).budgeted(1e12)
    z = torch.tensor([0.2, 0.9, 0.5], dtype=torch.float64)
    notion = capped & fo.DemographicParity("h", tolerance=0.1)
    solution = solved(z, notion, sensitive_features={"g": [0, 1, 1], "h": [0, 0, 1]})
    assert solution.status is fo.Status.CERTIFIED
    assert 0.0 <= solution.certificate.kkt_residual <= solution.certificate.kkt_bound <= 1e-7


@pytest.mark.parametrize("size", [1e-25, 1e-31, 1e-60])
@pytest.mark.parametrize("ranges", [False, True])
def test_a_budget_pays_the_rows_that_move_scores(size: float, ranges: bool) -> None:
    """One cap over rows of size 1 and of size 1e-31: the widening that splits it lies closer to a limit than floats do."""
    z, targets = torch.tensor([-0.18, 1.31, 0.4], dtype=torch.float64), [0.0, 2.4, 0.4]
    first = fo.DemographicParity("h", tolerance=1e-6) if ranges else fo.MeanResidual("h", tolerance=1e-6)
    small = fo.ScoreCovariance("s", tolerance=1e-9 * size)
    facts: dict[str, Any] = {"sensitive_features": {"h": [2, 0, 0], "s": [0.1 * size, 1.4 * size, -size]}, "targets": targets}
    alone = solved(z, first.budgeted(100.0), **facts)
    both = solved(z, (first & small).budgeted(100.0), **facts)
    assert both.status is fo.Status.CERTIFIED
    assert float((alone.scores - z).abs().max()) > 0.1
    assert float((both.scores - alone.scores).abs().max()) <= 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-19, 1e-3, 1e4])
def test_the_bound_of_a_residual_is_a_share_of_the_scores_on_the_shortest_road(dtype: torch.dtype, size: float) -> None:
    """A price of 1 pulls tiny scores to 1: their sums are unsure by far more than what counts as nearest."""
    z = torch.tensor([size, -size], dtype=dtype)
    solution = solved(z, fo.MeanResidual("g", tolerance=0.0).priced(1.0), sensitive_features={"g": [0, 0]}, targets=[1.0, 1.0])
    assert solution.status is fo.Status.CERTIFIED
    assert 0.0 <= solution.certificate.kkt_residual <= solution.certificate.kkt_bound <= 1e-5 * max(size, 1.0)
