"""The check of rows at the edges of float64: sums, products and bounds among subnormal numbers and near overflow."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.basics.exact_sums import exact_dot
from fairopt.notions import Notion
from fairopt.solve.finish.check import exact_row_values, summation_bound

finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=30))
def test_a_dot_product_is_exact_for_all_finite_numbers(pairs: list[tuple[float, float]]) -> None:
    a, b = (np.array(v) for v in zip(*pairs, strict=True))
    assert exact_dot(a, b) == sum((Fraction(x) * Fraction(y) for x, y in pairs), Fraction(0))


@pytest.mark.parametrize(("a", "b"), [(1.7e308, 1.7e308), (5e-324, 5e-324), (1.7e308, 5e-324), (2.0**1000, 0.1), (1e-200, 1e-200)])
def test_a_dot_product_at_the_ends(a: float, b: float) -> None:
    x, y = np.array([a, -a, a]), np.array([b, b, b / 3])
    assert exact_dot(x, y) == sum((Fraction(u) * Fraction(v) for u, v in zip(x.tolist(), y.tolist(), strict=True)), Fraction(0))


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6), power=st.sampled_from([-324, -322, -318, -312, -308, -300, -160, 0, 150]), dense=st.booleans())
def test_float_rows_lie_within_the_stated_bound(seed: int, power: int, dense: bool) -> None:
    """Scores, and weights of the rows, down to the least subnormal numbers: float sums differ from the exact rows by at most the bound."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    y = np.asarray(rng.normal(size=n) * 10.0**power if power > -324 else rng.integers(-3, 4, n) * 5e-324, dtype=np.float64)
    g = np.arange(n) % 2
    notion: Notion = fo.DemographicParity("g", tolerance=0.1)
    features: dict[str, object] = {"g": g}
    if dense:
        notion = fo.ScoreCovariance("s", tolerance=0.1)
        features = {"s": rng.normal(size=n) * 10.0 ** float(rng.choice([-150, -100, 0]))}
    problem = fo.compile(notion, sensitive_features=features).problem
    if problem.m == 0:
        return
    values = problem.rows.matrix().numpy() @ y + problem.rows.offset
    exact = exact_row_values(problem, y, list(range(problem.m)))
    bound = summation_bound(problem, float(np.abs(y).max()))
    for k, value in exact.items():
        assert abs(Fraction(float(values[k])) - value) <= Fraction(float(bound[k]))


@pytest.mark.parametrize("power", [-323, -320, -315, -310, -308, -300])
def test_nothing_is_certified_among_subnormal_scores_that_does_not_hold(power: int) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        g = rng.integers(0, 2, 11)
        z = torch.tensor(rng.integers(-9, 10, 11) * 10.0**power)
        solution = fo.project(z, fo.DemographicParity("g", tolerance=0.0), sensitive_features={"g": g}, return_solution=True)
        assert isinstance(solution, fo.Solution)
        if solution.status is fo.Status.CERTIFIED:
            sums = [sum((Fraction(v) for v in solution.scores[torch.from_numpy(g == k)].tolist()), Fraction(0)) for k in (0, 1)]
            assert sums[0] * int((g == 1).sum()) == sums[1] * int((g == 0).sum())
