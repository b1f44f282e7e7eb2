"""Limits that nothing reaches change nothing: dropped where the bounds show it, and of no weight in the solver's goals elsewhere."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.notions import Notion
from fairopt.notions.batch import Batch


def project(z: torch.Tensor, notion: Notion, features: dict[str, Any], bounds: Any = None) -> fo.Solution:
    solution = fo.project(z, notion, sensitive_features=features, bounds=bounds, return_solution=True)
    assert isinstance(solution, fo.Solution)
    return solution


def draw(rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, Any], Any, Notion]:
    """Scores, features, bounds and a notion that binds."""
    n = int(10 ** rng.uniform(0.8, 2.5))
    features = {"g": rng.integers(0, 3, n), "h": rng.integers(0, 2, n), "k": rng.integers(0, 3, n), "s": rng.normal(size=n)}
    z = torch.tensor(rng.normal(size=n) + 0.5 * features["g"])
    huge = torch.where(torch.tensor(rng.random(n) < 0.1), -1e12, -3.0).to(torch.float64)
    boxes: list[Any] = [None, (-1.0, 1.0), (None, 0.8), (z - 1, z + 1), (-1e300, 1e300), (huge, None)]
    tolerance = float(rng.choice([0.0, 0.01, 0.1]))
    parity = fo.DemographicParity("g", tolerance=tolerance)
    notions: list[Notion] = [
        parity,
        fo.ImpactRatio("g", ratio=0.5) & fo.GroupMeanBound("h", upper=0.3),
        parity & fo.DemographicParity("h", tolerance=tolerance),
        parity.priced(0.05) & fo.GroupMeanBound("h", upper=0.2),
        parity.penalised(3.0),
    ]
    return z, features, boxes[rng.integers(len(boxes))], notions[rng.integers(len(notions))]


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([1e3, 1e6, 1e9, 1e15, 1e100, 1e300]), which=st.integers(0, 7))
def test_a_vacuous_row_leaves_the_answer_as_it_is(seed: int, size: float, which: int) -> None:
    z, features, bounds, notion = draw(np.random.default_rng(seed))
    vacuous: list[Notion] = [
        fo.ScoreCovariance("s", tolerance=size),
        fo.GroupMeanBound("k", upper=size),
        fo.GroupMeanBound("k", lower=-size),
        fo.DemographicParity("k", tolerance=size),
        fo.DemographicParity("h", tolerance=size),
        fo.DemographicParity("k", tolerance=size).priced(2.0),
        fo.GroupMeanBound("k", lower=-size, upper=size).penalised(2.0),
        fo.DemographicParity("k", tolerance=size, to="overall").budgeted(1.0),
    ]
    try:
        alone = project(z, notion, features, bounds)
    except fo.InfeasibleError:
        return
    joined = project(z, notion & vacuous[which], features, bounds)
    assert joined.status is alone.status
    assert float((joined.scores - alone.scores).abs().max()) <= 1e-11


@fo.notion
def scaled(batch: Batch, attribute: str, tolerance: float, factor: float) -> Any:
    for a, b in itertools.combinations(batch.groups(attribute), 2):
        yield abs(factor * batch.mean(a) - factor * batch.mean(b)) <= tolerance * factor


@fo.notion
def capped(batch: Batch, attribute: str, limit: float, factor: float) -> Any:
    for a in batch.groups(attribute):
        yield factor * batch.mean(a) <= limit * factor


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), first=st.integers(-40, 40), second=st.integers(-40, 40))
def test_rows_of_very_different_scale_are_solved_alike(seed: int, first: int, second: int) -> None:
    rng = np.random.default_rng(seed)
    z, features, _, _ = draw(rng)
    limit = float(rng.normal() * 0.2)

    def notion(p: float, q: float) -> Notion:
        return scaled("g", tolerance=0.01, factor=p) & capped("h", limit=limit, factor=q) & fo.DemographicParity("k", tolerance=0.05)

    plain, other = project(z, notion(1.0, 1.0), features), project(z, notion(2.0**first, 2.0**second), features)
    assert other.status is plain.status is fo.Status.CERTIFIED
    assert float((other.scores - plain.scores).abs().max()) <= 1e-11


@pytest.mark.parametrize(
    "bounds", [(0.0, 1.0), (torch.zeros(8, dtype=torch.float64), torch.ones(8, dtype=torch.float64))], ids=["same", "own"]
)
def test_limits_out_of_reach_are_dropped(bounds: Any) -> None:
    features = {"g": list("aabbccdd"), "s": np.arange(8.0)}
    notion = fo.DemographicParity("g", tolerance=1.5) & fo.ScoreCovariance("s", tolerance=50.0) & fo.GroupMeanBound("g", upper=2.0)
    problem = fo.compile(notion, sensitive_features=features, bounds=bounds).problem
    assert problem.m == 0
    near = fo.DemographicParity("g", tolerance=0.9) & fo.ScoreCovariance("s", tolerance=0.5) & fo.GroupMeanBound("g", upper=0.9)
    assert fo.compile(near, sensitive_features=features, bounds=bounds).problem.m == 4 + 1 + 4


def test_one_sided_bounds_drop_one_sided_limits() -> None:
    features = {"g": list("aabb")}
    notion = fo.GroupMeanBound("g", lower=-2.0)
    assert fo.compile(notion, sensitive_features=features, bounds=(-1.0, None)).problem.m == 0
    assert fo.compile(notion, sensitive_features=features, bounds=(-3.0, None)).problem.m == 2
    both = fo.compile(fo.GroupMeanBound("g", lower=-1e9, upper=0.5), sensitive_features=features, bounds=(-1.0, None)).problem
    assert both.lower.tolist() == [-np.inf, -np.inf]
    assert both.upper.tolist() == [0.5, 0.5]


def test_a_limit_at_the_edge_of_what_is_possible_stays() -> None:
    """0.1 + 0.2 is not 0.3: nothing is dropped within the rounding of the sums."""
    ub = torch.tensor([0.1, 0.2, 0.3, 1.0], dtype=torch.float64)
    notion = fo.GroupMeanBound("g", upper=0.2)
    assert fo.compile(notion, sensitive_features={"g": list("aaab")}, bounds=(torch.zeros(4, dtype=torch.float64), ub)).problem.m == 2


def test_faults_of_issue_10() -> None:
    features = {"g": list("aabbcc"), "h": list("xyxyxy"), "s": [1.0, 2, 3, 4, 5, 6]}
    z = torch.tensor([0.0, 1, 2, 5, 7, 9], dtype=torch.float64)
    notion = fo.ImpactRatio("g", ratio=0.5) & fo.GroupMeanBound("h", upper=3.0)
    alone, joined = project(z, notion, features), project(z, notion & fo.ScoreCovariance("s", tolerance=1e300), features)
    assert joined.status is alone.status is fo.Status.CERTIFIED
    assert float((alone.scores - joined.scores).abs().max()) < 1e-12
