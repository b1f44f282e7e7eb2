"""Tolerance 0, and tolerances finer than rounding: equal means exactly, for the groups of one attribute and of two overlapping ones.

The judge is exact arithmetic on the returned numbers. Statuses are counted: where nothing is pinned every draw must be CERTIFIED.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.notions import Notion
from fairopt.solve import solve
from fairopt.solve.finish.equal_means import Group, common_mean
from fairopt.solve.finish.lattice import DIGITS

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def exact_means(y: torch.Tensor, codes: np.ndarray) -> set[Fraction]:
    sums: dict[int, Fraction] = defaultdict(Fraction)
    for v, c in zip(y.to(torch.float64).tolist(), codes.tolist(), strict=True):
        sums[c] += Fraction(v)
    return {total / int((codes == c).sum()) for c, total in sums.items()}


def project(z: torch.Tensor, notion: Notion, features: dict[str, np.ndarray], **options: Any) -> fo.Solution:
    solution = fo.project(z, notion, sensitive_features=features, return_solution=True, **options)
    assert isinstance(solution, fo.Solution)
    return solution


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(8, 300), groups=st.tuples(st.integers(2, 4), st.integers(2, 4)))
def test_means_of_two_attributes_are_exactly_equal(
    dtype: torch.dtype, bounds: tuple[float, float] | None, seed: int, n: int, groups: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, groups[0], n), rng.integers(0, groups[1], n)
    z = torch.tensor(rng.uniform(0.1, 0.9, n) + 0.1 * a - 0.05 * b, dtype=dtype)
    notion = fo.DemographicParity("a", tolerance=0.0) & fo.DemographicParity("b", tolerance=0.0)
    solution = project(z, notion, {"a": a, "b": b}, bounds=bounds)
    assert solution.status is fo.Status.CERTIFIED
    assert len(exact_means(solution.scores, a)) == 1
    assert len(exact_means(solution.scores, b)) == 1
    assert solution.certificate.moved_by_repair <= 64 * float(torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("box", [None, (0.2, 0.7)], ids=str)
def test_twenty_of_twenty_at_ten_thousand(dtype: torch.dtype, box: tuple[float, float] | None) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        g = rng.integers(0, 2, 10_000)
        solution = project(torch.tensor(rng.random(10_000)).to(dtype), fo.DemographicParity("g", tolerance=0.0), {"g": g}, bounds=box)
        assert solution.status is fo.Status.CERTIFIED, seed
        assert len(exact_means(solution.scores, g)) == 1
        assert solution.certificate.moved_by_repair <= 4 * torch.finfo(dtype).eps  # that of the prices included


def drawn_scores(rng: np.random.Generator, n: int, dtype: torch.dtype) -> tuple[torch.Tensor, float]:
    """(n,) scores of many shapes: mixed magnitudes, one far away, any scale."""
    shape = int(rng.integers(5))
    z = rng.random(n) if shape == 0 else rng.normal(size=n)
    if shape == 2:
        z = z * 10.0 ** rng.integers(-6, 3, n)
    if shape == 3:
        z = z + 100.0
    if shape == 4:
        z[0] *= 1e4
    powers = {torch.float64: (-280, 280), torch.float32: (-30, 30), torch.bfloat16: (-30, 30), torch.float16: (-1, 1)}[dtype]
    scale = 10.0 ** int(rng.integers(*powers))
    return torch.tensor(np.clip(z, -3e4, 3e4) * scale).to(dtype), scale


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", ["pairs", "overall", "reference", "ratio", "intersection", "odds", "two", "two overall"])
def test_every_drawn_case_is_certified_and_moves_a_few_ulps(dtype: torch.dtype, form: str) -> None:
    statuses: Counter[str] = Counter()
    for seed in range(25):
        rng = np.random.default_rng(seed)
        n = int(10 ** rng.uniform(0.9, 3.0))
        g = rng.choice(4, n, p=rng.dirichlet(np.ones(4)))  # groups of 1 sample beside groups of most
        h = rng.integers(0, 3, n)
        z, scale = drawn_scores(rng, n, dtype)
        tolerance = float(rng.choice([0.0, 1e-3 * torch.finfo(dtype).tiny]))
        wanted = [g]
        y: np.ndarray | None = None
        if form in ("pairs", "odds"):
            notion: Notion = fo.DemographicParity("g", tolerance=tolerance)
        if form == "overall":
            notion = fo.DemographicParity("g", tolerance=tolerance, to="overall")
        if form == "reference":
            notion = fo.DemographicParity("g", tolerance=tolerance, to=fo.Reference(int(g[0])))
        if form == "ratio":
            notion = fo.ImpactRatio("g", ratio=1.0)
        if form == "intersection":
            notion, wanted = fo.DemographicParity(("g", "h"), tolerance=tolerance), [g * 3 + h]
        if form == "odds":
            notion, y = fo.EqualizedOdds("g", tolerance=tolerance), rng.integers(0, 2, n)
        if form.startswith("two"):
            to: Literal["overall", "pairs"] = "overall" if form == "two overall" else "pairs"
            notion = fo.DemographicParity("g", tolerance=tolerance, to=to) & fo.DemographicParity("h", tolerance=tolerance, to=to)
            wanted = [g, h]
        solution = project(z, notion, {"g": g, "h": h}, targets=None if y is None else torch.tensor(y))
        statuses[solution.status.name] += 1
        for codes in wanted:
            for part in [slice(None)] if y is None else [y == 0, y == 1]:
                means = exact_means(solution.scores[torch.from_numpy(np.arange(n)[part])], codes[part])
                assert not means or max(means) - min(means) <= Fraction(tolerance) * (1 if form in ("pairs", "odds", "two") else 2)
        largest = float(solution.scores.abs().double().max())
        # n_g / G ulps at most: a group's mean moves by a step of the coarsest group's finest ulp, and that step is one ulp of the largest
        assert (
            solution.certificate.moved_by_repair
            <= 64 * float(torch.finfo(dtype).eps) * max(largest, float(z.abs().double().max())) + 1e-320
        )
        assert scale > 0
    assert statuses == {"CERTIFIED": 25}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_tolerance_is_never_harder_than_none(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(3)
    z, g = torch.tensor(rng.random(1000)).to(dtype), rng.integers(0, 3, 1000)
    for tolerance in (0.0, 1e-300, 1e-30, 1e-18, 1e-16, 1e-15, 1e-12, 1e-9, 1e-7, 1e-5, 1e-3):
        solution = project(z, fo.DemographicParity("g", tolerance=tolerance), {"g": g})
        assert solution.status is fo.Status.CERTIFIED, tolerance
        means = exact_means(solution.scores, g)
        assert max(means) - min(means) <= Fraction(tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_score_leaves_its_box_and_pinned_ones_stay(dtype: torch.dtype) -> None:
    statuses: Counter[str] = Counter()
    for seed in range(100):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(3, 60))
        z = torch.tensor(rng.normal(size=n)).to(dtype)
        g = rng.integers(0, 2, n)
        lb, ub = z.double() - torch.tensor(rng.random(n)), z.double() + torch.tensor(rng.random(n))
        pinned = torch.tensor(rng.random(n) < 0.2)
        lb, ub = torch.where(pinned, z.double(), lb), torch.where(pinned, z.double(), ub)
        notion = fo.DemographicParity("g", tolerance=0.0)
        compiled = fo.compile(notion, sensitive_features={"g": g}, bounds=(lb, ub), on_infeasible="passthrough").problem
        try:
            solution = solve(z, replace(compiled, feasible=True))  # the grid alone is asked here, not the compiler's word
        except fo.FairoptError:
            continue
        y = solution.scores.double()
        assert bool(((y >= lb) & (y <= ub)).all())
        assert bool((y == z.double())[pinned].all())
        statuses[solution.status.name] += 1
        if solution.status is fo.Status.CERTIFIED:
            assert len(exact_means(solution.scores, g)) == 1
        elif solution.status is fo.Status.WITHIN_ROUNDING:
            assert finer_pins(solution.scores, lb, ub, g), seed
        else:
            ends = [(float(lb[g == k].mean()), float(ub[g == k].mean())) for k in (0, 1)]
            assert max(low for low, _ in ends) > min(high for _, high in ends) or len(set(g)) == 1, seed
    assert statuses["CERTIFIED"] >= 70


def finer_pins(y: torch.Tensor, lb: torch.Tensor, ub: torch.Tensor, g: np.ndarray) -> bool:
    """Whether some group has a pinned score with a bit below every ulp that its other scores could move by: no sum fits both groups."""
    digits, least = DIGITS[y.dtype]
    values, pinned = y.double().numpy(), (lb == ub).numpy()
    for k in np.unique(g):
        ulps = [max(math.frexp(v)[1] - digits, least) for v in values[(g == k) & ~pinned].tolist()]
        bits = [Fraction(v).denominator.bit_length() - 1 for v in values[(g == k) & pinned].tolist()]
        if max(bits, default=-9999) > -min(ulps, default=9999):
            return True
    return False


def test_bounds_that_bind_everywhere_still_leave_equal_means() -> None:
    """A group of clamped samples alone has a mean that no sum of the other reaches: the clamped ones give way inward."""
    z = torch.tensor([0.1, 0.2, 0.3, 0.9, 0.8], dtype=torch.float64)
    ub = torch.tensor([1.0, 1.0, 1.0, 0.1, 0.15], dtype=torch.float64)
    lb = torch.tensor([0.1, 0.1, 0.3, -1.0, -1.0], dtype=torch.float64)
    g = np.array([0, 0, 0, 1, 1])
    solution = project(z, fo.DemographicParity("g", tolerance=0.08), {"g": g}, bounds=(lb, ub))
    assert solution.status is fo.Status.CERTIFIED
    assert bool(((solution.scores >= lb) & (solution.scores <= ub)).all())


def test_a_score_far_away_moves_the_others_by_its_own_group_only() -> None:
    """The rounding of 1e9 is 1e-7: the group that holds it makes up for that, and the other group does not move by it."""
    rng = np.random.default_rng(0)
    n = 2000
    g = np.arange(n) % 2
    z = torch.tensor(rng.random(n))
    z[0] = 1e9
    solution = project(z, fo.DemographicParity("g", tolerance=0.0), {"g": g})
    assert solution.status is fo.Status.CERTIFIED
    assert len(exact_means(solution.scores, g)) == 1
    other = (solution.scores - z)[g == 1]
    assert float(other.max() - other.min()) <= 4 * 2.0**-33  # one shift, up to a few ulps of the shifted scores (5e5)


def test_the_mean_is_that_of_the_group_which_rounding_left_most_certain() -> None:
    """In float32 the rounding of +-1e9 moves its group's mean by hundredths: the other group keeps the mean that the projection gave it."""
    rng = np.random.default_rng(0)
    n = 2000
    g = np.arange(n) % 2
    z = torch.tensor(rng.random(n), dtype=torch.float32)
    z[0], z[2] = 1e9, -1e9
    z[4] = 900.0
    solution = project(z, fo.DemographicParity("g", tolerance=0.0), {"g": g})
    assert solution.status is fo.Status.CERTIFIED
    (mean,) = exact_means(solution.scores, g)
    assert abs(float(mean) - float(z.double().mean())) <= 1e-6


def test_limits_that_are_numbers_are_met_exactly() -> None:
    rng = np.random.default_rng(1)
    g = rng.integers(0, 2, 501)
    z = torch.tensor(rng.random(501))
    solution = project(z, fo.GroupMeanBound("g", lower=0.375, upper=0.375), {"g": g})
    assert solution.status is fo.Status.CERTIFIED
    assert exact_means(solution.scores, g) == {Fraction(3, 8)}
    joined = fo.DemographicParity("g", tolerance=0.0) & fo.GroupMeanBound("g", upper=0.3)
    solution = project(z, joined, {"g": g})  # the common mean stops at the limit, on its inner side
    assert solution.status is fo.Status.CERTIFIED
    (mean,) = exact_means(solution.scores, g)
    assert Fraction(0.3) - Fraction(1, 10**12) <= mean <= Fraction(0.3)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_common_mean_is_the_nearest_that_all_groups_can_have(seed: int) -> None:
    """Against a search over every mean that the first group can have."""
    rng = np.random.default_rng(seed)
    groups = []
    for _ in range(int(rng.integers(1, 4))):
        count, step = int(rng.integers(1, 13)), None if rng.random() < 0.15 else int(rng.integers(0, 5))
        reach = (0, 0) if step is None else (int(rng.integers(0, 200)), int(rng.integers(0, 200)))
        groups.append(Group(count, int(rng.integers(-100, 100)), int(rng.integers(-20, 20)), step, float(count), reach))
    ends = [(Fraction(x.sum - x.shift - x.reach[0], x.count), Fraction(x.sum - x.shift + x.reach[1], x.count)) for x in groups]
    low, high = max(a for a, _ in ends), min(b for _, b in ends)
    present = Fraction(sum(x.sum - x.shift for x in groups), sum(x.count for x in groups))
    first = groups[0]
    step = 1 << (first.step or 0)
    sums = [first.sum] if first.step is None else [first.sum + k * step for k in range(-200, 201)]
    possible = []
    for total in sums:
        mean = Fraction(total - first.shift, first.count)
        others = [mean * x.count + x.shift - x.sum for x in groups]
        if low <= mean <= high and all(
            o.denominator == 1 and (o == 0 if x.step is None else o % (1 << x.step) == 0) for o, x in zip(others, groups, strict=True)
        ):
            possible.append(mean)
    found = common_mean(groups, low, high)
    assert (found is None) == (not possible)
    if found is not None:
        assert found in possible
        assert abs(found - present) == min(abs(mean - present) for mean in possible)
