"""Instances that once broke claim L12, or were not certified: tolerances far below the scores' ulp, boxes of any place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fairopt as fo
from fairopt.contract.backend import Status
from fairopt.solve import solve
from fairopt.testing.claims.subject import Layer
from proofs_checks.claims.l12_rounding import BOXES, distance, exact_projection

THREE = [1.829168438911438, 2.035052537918091, 2.220810651779175]
ONE_FREE = [0.47603321075439453, -5.3, -5.3, -5.3, -5.3, 4.7, 4.7, -5.3]


@pytest.mark.parametrize("box", [(0.0, 1.9), (0.0, 3.0), (5.0, 6.0)])
def test_three_scores_in_boxes_that_broke_the_constant(box: tuple[float, float]) -> None:
    assert distance(Layer(), THREE, [0, 0, 1], 1e-3, box, torch.float32).holds


@pytest.mark.parametrize("eps", [1e-12, 1e-10, 1e-9])
def test_float64_reaches_tiny_tolerances(eps: float) -> None:
    """(.5, 5) against six -4 in [0, 1]: 9,007 ulps away once, since no sample is free at the price that the search ends at."""
    assert distance(Layer(), [0.5, 5.0, *[-4.0] * 6], [0, 0, *[1] * 6], eps, (0.0, 1.0), torch.float64).holds


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [5e-324, 1e-20, 1e-12, 1e-10, 1e-9, 3e-8, 1e-6])
@pytest.mark.parametrize("box", BOXES)
def test_one_row_is_certified_at_any_tolerance(box: tuple[float, float], eps: float, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    lb, width = box[0], box[1] - box[0]
    for _ in range(4):
        codes = [0, 1, *rng.integers(0, 2, 10).tolist()]
        z = [lb + 5 * width if c == 0 else lb - 5 * width for c in codes]
        z[0] = lb + width * float(rng.uniform(0.3, 0.9))
        assert distance(Layer(), z, codes, eps, box, dtype).holds


def test_the_piece_without_a_free_sample_is_left() -> None:
    """Every sample at a bound at a price of 15.74, one free below 15.0: the row meets 1e-9 only there."""
    codes = [0, 1, 1, 1, 1, 0, 0, 1]
    prepared = fo.compile(fo.DemographicParity("a", tolerance=1e-9), sensitive_features={"a": codes}, bounds=(-0.3, 0.7))
    found = solve(torch.tensor(ONE_FREE, dtype=torch.float64), prepared.problem)
    assert found.status is Status.CERTIFIED
    assert float(found.prices[0]) == pytest.approx(15.0, abs=1e-6)
    exact = exact_projection(ONE_FREE, codes, 1e-9, -0.3, 0.7)
    assert max(abs(float(y) - float(x)) for y, x in zip(found.scores.tolist(), exact, strict=True)) < 1e-13
