"""Centred weights sum to exactly 0: equal scores have no covariance with anything, whatever was rounded on the way."""

from fractions import Fraction

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.notions.dense import sums_to_zero

NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)


@settings(max_examples=200, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=40), st.floats(-1e12, 1e12), st.integers(-1000, 1000))
def test_centred_weights_sum_to_exactly_zero_and_stay_near(values, origin, exponent):
    numbers = np.ldexp(np.array(values) + origin, exponent)
    with np.errstate(over="ignore", invalid="ignore"):
        weights = numbers - numbers.mean()
    came = sums_to_zero(weights)
    if not np.isfinite(weights).all():
        np.testing.assert_array_equal(came, weights)
        return
    assert sum(map(Fraction, came.tolist())) == 0
    exact = [Fraction(v) for v in numbers.tolist()]
    mean = sum(exact, Fraction(0)) / len(exact)
    # within the rounding of the numbers that were given
    room: Fraction = 8 * Fraction(2.0**-51) * max(abs(v) for v in exact) + Fraction(1, 2**1070)
    assert all(abs(Fraction(c) - (v - mean)) <= room for c, v in zip(came.tolist(), exact, strict=True))


def test_the_sign_of_the_weights_does_not_matter():
    weights = np.random.default_rng(0).normal(3.0, 1.0, 101)
    weights -= weights.mean()
    np.testing.assert_array_equal(sums_to_zero(-weights), -sums_to_zero(weights))
    assert sums_to_zero(weights)[0] != weights[0] or np.abs(weights - sums_to_zero(weights)).max() < 1e-15


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 30), st.integers(0, 10_000), st.sampled_from([0.0, 40.8, 1e9, -1e15]), st.sampled_from([torch.float64, torch.float32])
)
def test_equal_scores_are_never_called_impossible(n, seed, origin, dtype):
    draw = np.random.default_rng(seed)
    s = origin + draw.normal(size=n) * max(abs(origin), 1.0) * 2.0 ** -draw.integers(0, 40)
    base = float(10.0 ** draw.integers(0, 16))
    step = float(torch.finfo(dtype).eps) * base
    scores = torch.tensor(base + step * draw.integers(-3, 4, n), dtype=dtype)
    notion = fo.ScoreCovariance("s", tolerance=0.0)
    bounds = (float(scores.min()) - step, float(scores.max()) + step)
    solution = fo.project(scores, notion, sensitive_features={"s": s}, bounds=bounds, return_solution=True)
    assert solution.status.name in ("CERTIFIED", "WITHIN_ROUNDING")
    constant = torch.full((n,), float(scores[0]), dtype=dtype)
    assert fo.project(constant, notion, sensitive_features={"s": s}, bounds=bounds, return_solution=True).status.name == "CERTIFIED"
    assert [row["gap"] for row in fo.gaps(constant, notion, sensitive_features={"s": s})] == [0.0]


def test_the_fuzzers_case():
    """Seed 302, draw 79725."""
    solution = fo.project(
        torch.tensor([1000000000000000.2, 1000000000000000.0], dtype=torch.float64),
        fo.ScoreCovariance("s", tolerance=0.0),
        sensitive_features={"s": [40.80174416778537, 40.80615373027319]},
        bounds=(999999999999999.8, 1000000000000000.5),
        return_solution=True,
    )
    assert solution.status.name in ("CERTIFIED", "WITHIN_ROUNDING")


def test_a_users_own_weights_are_taken_as_they_are():
    values = [0.1, 0.2, -0.3]

    @fo.notion
    def weighted(batch, attribute):
        yield batch.weighted(values) <= 1.0

    rows = fo.compile(weighted("g"), sensitive_features={"g": ["a", "b", "b"]}).problem.rows
    assert rows.dense is not None
    np.testing.assert_array_equal(rows.dense.numpy()[0], 1.0 / 3 * np.array(values))
