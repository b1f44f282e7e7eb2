"""The judge of optimality grants nothing to numbers that are none."""

from __future__ import annotations

import numpy as np
import pytest

import fairopt as fo
from fairopt.testing.optimality import residuals

groups = ["a", "a", "a", "b"]


@pytest.mark.parametrize("notion", [fo.DemographicParity("g", tolerance=0.1), fo.DemographicParity("g", tolerance=0.1).priced(1.0)])
@pytest.mark.parametrize("place", ["scores", "y", "prices", "rows"])
def test_what_is_no_number_is_far_from_optimal(notion: fo.Notion, place: str) -> None:
    problem = fo.compile(notion, sensitive_features={"g": groups}).problem
    given = {"scores": np.full(4, 0.5), "y": np.full(4, 0.5), "prices": np.zeros(problem.m)}
    assert max(vars(residuals(problem, **given)).values()) == 0.0
    if place == "rows":  # finite scores whose sums are not: inf - inf
        given["y"] = given["scores"] = np.array([1.7e308, 1.7e308, 1.7e308, -1.7e308])
    else:
        given[place][0] = np.nan
    assert residuals(problem, **given).violation == np.inf
