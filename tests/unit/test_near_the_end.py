"""Numbers near the end of float64: no warning of numpy's leaves the library, and constants beyond it are still exact."""

from __future__ import annotations

import itertools
import math
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

import fairopt as fo
from fairopt.notions.batch import Batch

GRANTING = (fo.Status.CERTIFIED, fo.Status.WITHIN_ROUNDING)


@fo.notion
def with_constant(batch: Batch, attribute: str, scale: float, times: float, limit: float, upper: bool) -> Any:
    """scale * mean(y) + times * mean(targets), one-sided."""
    f = scale * batch.mean() + times * batch.mean(of=batch.targets)
    yield f <= limit if upper else f >= limit


def solved(z: list[float], notion: Any, **options: Any) -> fo.Solution:
    """The solution, with numpy's warnings as errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("ignore", fo.FairoptWarning)
        scores = torch.tensor(z, dtype=torch.float64)
        solution = fo.project(scores, notion, return_solution=True, **options)
    assert isinstance(solution, fo.Solution)
    return solution


@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize("times", [2.0, -2.0])
def test_a_constant_beyond_float64_counts_as_it_is(times: float, upper: bool) -> None:
    """times * mean(targets) is 3.4e308. Where the nearest scores are float64s, they are found."""
    z, targets = [math.copysign(v, times) for v in (1e308, 0.9e308, 1.1e308)], [1.7e308, 1.75e308, 1.6e308]
    constant = Fraction(times) * sum(map(Fraction, targets), Fraction(0)) / 3
    assert abs(constant) > Fraction(np.finfo(np.float64).max)
    granted = 0
    for scale, limit in itertools.product((4.0, 1.0, 0.5), (0.0, 1e308, -1e308)):
        notion = with_constant("g", scale, times, limit, upper)
        solution = solved(z, notion, sensitive_features={"g": [0, 1, 0]}, targets=targets)
        goal = (Fraction(limit) - constant) / Fraction(scale)  # of the mean
        off = goal - sum(map(Fraction, z), Fraction(0)) / 3
        shift = off if (off < 0) == upper else Fraction(0)
        inside = all(abs(Fraction(v) + shift) <= Fraction(np.finfo(np.float64).max) for v in z)
        if inside:
            assert solution.status in GRANTING
            granted += 1
            moved = [Fraction(v) - Fraction(a) - shift for v, a in zip(solution.scores.tolist(), z, strict=True)]
            assert max(map(abs, moved)) <= Fraction(1e296)
    assert granted >= 3


def test_no_numpy_warning_near_the_end() -> None:
    rng = np.random.default_rng(0)
    end = float(np.finfo(np.float64).max)
    for _ in range(12):
        n = int(rng.integers(1, 6))
        z = rng.choice([end, -end, 1.2e308, 5e307, 1e300], n).tolist()
        targets = rng.choice([1.7e308, -1.7e308, 1e307], n).tolist()
        features = {"g": rng.integers(0, 2, n).tolist()}
        notions = [
            fo.MeanResidual("g", tolerance=float(rng.choice([0.0, 1e308]))),
            fo.ResidualParity("g", tolerance=1e307),
            fo.DemographicParity("g", tolerance=float(rng.choice([0.0, 1e306]))) & fo.GroupMeanBound("g", upper=1.6e308),
        ]
        low = np.array([rng.choice([-np.inf, 5e307]) for _ in range(n)])
        for notion, bounds in itertools.product(notions, (None, (torch.tensor(low), None), (5e307, 1.4e308))):
            for how in ("closest", "passthrough"):
                solved(z, notion, sensitive_features=features, targets=targets, bounds=bounds, on_infeasible=how)


def test_bounds_whose_sums_overflow_drop_no_row() -> None:
    """The bounds of the cell add up to more than float64 holds; that is no proof that its row is met."""
    z = [1.1493097519035003e308, 1.3789852984011294e307, 1.577882443412311e308]
    pinned = torch.tensor(z, dtype=torch.float64)
    mean = sum(map(Fraction, z), Fraction(0)) / 3
    for share, feasible in ((1.05, False), (0.95, True)):
        notion = fo.GroupMeanBound("g", lower=float(mean * Fraction(share)))
        if feasible:
            solution = solved(z, notion, sensitive_features={"g": [0, 0, 0]}, bounds=(pinned, pinned))
            assert solution.status is fo.Status.CERTIFIED
        else:
            with pytest.raises(fo.InfeasibleError):
                solved(z, notion, sensitive_features={"g": [0, 0, 0]}, bounds=(pinned, pinned))


def test_the_distance_is_a_number_where_its_square_is_none() -> None:
    """Moves of 3e308 times the root of a weight of 1e-10."""
    end = float(np.finfo(np.float64).max)
    z = [end, -end]
    low = torch.tensor([-end, -end], dtype=torch.float64)
    high = torch.tensor([-1e300, end], dtype=torch.float64)
    weights = torch.tensor([1e-10, 1.0], dtype=torch.float64)
    notion = fo.GroupMeanBound("g", upper=-0.999 * end)
    solution = solved(z, notion, sensitive_features={"g": [0, 0]}, bounds=(low, high), weights=weights)
    square = sum(
        (Fraction(w) * (Fraction(v) - Fraction(a)) ** 2 for w, v, a in zip((1e-10, 1.0), solution.scores.tolist(), z, strict=True)),
        Fraction(0),
    )
    assert Fraction(solution.certificate.distance) ** 2 / square == pytest.approx(1.0, rel=1e-12)
    for word in ("kkt_residual", "moved_by_repair", "rounding_bound"):
        assert math.isfinite(solution.certificate.to_dict()[word])


def test_the_numbers_about_passed_scores_are_numbers() -> None:
    """3.5e308 outside the box, with a constant of 1.7e308."""
    end = float(np.finfo(np.float64).max)
    box = (torch.tensor([1.7e308], dtype=torch.float64), torch.tensor([1.75e308], dtype=torch.float64))
    notion = fo.MeanResidual("g", tolerance=0.0)
    solution = solved([-end], notion, sensitive_features={"g": [0]}, targets=[-1.7e308], bounds=box, on_infeasible="passthrough")
    assert solution.status is fo.Status.INFEASIBLE
    assert solution.certificate.bounds_violation == end
    assert math.isfinite(solution.certificate.rounding_bound)


def test_scores_that_are_passed_through_are_judged_by_every_row() -> None:
    """Rows that cannot be broken inside the box are left out of the solve; scores returned as they came lie outside it."""
    bounds = tuple(torch.tensor(b, dtype=torch.float64) for b in ([0.296875, 0.8046875], [0.2972559558940996, 0.8046875]))
    z = [-0.061767578125, -0.90234375]
    for learned in (False, True):
        one = torch.tensor(0.5, dtype=torch.float64, requires_grad=True) if learned else 0.5
        notion = fo.ImpactRatio("g", ratio=0.5) & fo.GroupMeanBound("g", upper=one)
        solution = solved(z, notion, sensitive_features={"g": ["a", "b"]}, bounds=bounds, on_infeasible="passthrough")
        assert solution.status is fo.Status.INFEASIBLE
        a, b = (Fraction(v) for v in z)
        worst = max(a / 2 - b, b / 2 - a, a - Fraction(1, 2), b - Fraction(1, 2))
        assert worst > Fraction(1, 2)
        assert solution.certificate.max_violation == pytest.approx(float(worst), rel=1e-14)
