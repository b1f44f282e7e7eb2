"""The prices of one range, in numpy and as the compiled solve has them, against its two levels pushed in fractions.

Beside a huge weight a level is known to an ulp while the flow hangs on far less: members that both levels seem to push, flows at a cap, and
values far from 0 are where that shows.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fairopt as fo
from fairopt.basics.arrays import Array
from fairopt.basics.range_projection import range_prices
from fairopt.solve.passes import jit
from fairopt.solve.road import closed

SEEDS = st.integers(0, 2**31 - 1)


@pytest.fixture(scope="module")
def compiled() -> Any:
    """The compiled solve's own function, run by Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit, "module", lambda: None)
        parent = importlib.import_module("fairopt.solve.passes")
        names = [file.removesuffix(".py") for file in jit.FILES]
        for name in names:
            patch.delitem(sys.modules, f"fairopt.solve.passes.{name}", raising=False)
        for name in names:
            patch.setattr(parent, name, importlib.import_module(f"fairopt.solve.passes.{name}"), raising=False)
        yield sys.modules["fairopt.solve.passes.rows"].range_prices


def in_fractions(a: Array, s: Array, width: float, rho: float) -> list[Fraction]:
    """Prices (K,): the flow at which the levels are ``width`` apart, or the cap, found on the exact breakpoints."""
    values, mass = [Fraction(v) for v in a.tolist()], [1 / Fraction(v) for v in s.tolist()]

    def level(q: Fraction, sign: int) -> Fraction:
        """The level that a flow q pushes to, from the top (1) or the bottom (-1), counted with ``sign``."""
        ordered = sorted(zip([sign * v for v in values], mass, strict=True), reverse=True)
        total, at = ordered[0][1], ordered[0][0]
        for v, w in ordered[1:]:
            if (at - v) * total >= q:
                break
            q -= (at - v) * total
            at, total = v, total + w
        return sign * (at - q / total)

    def excess(q: Fraction) -> Fraction:
        return level(q, 1) - level(q, -1) - Fraction(width)

    if excess(Fraction(0)) <= 0:
        return [Fraction(0)] * len(values)
    breaks = {Fraction(0)}
    for sign in (1, -1):
        ordered = sorted(zip([sign * v for v in values], mass, strict=True), reverse=True)
        q, total = Fraction(0), Fraction(0)
        for (v, w), (following, _) in itertools.pairwise(ordered):
            total += w
            q += (v - following) * total
            breaks.add(q)
    low = max(b for b in breaks if excess(b) >= 0)
    rest = [b for b in breaks if b > low]
    high = min(rest) if rest else low + 1
    fall = (excess(low) - excess(high)) / (high - low)
    flow = min(low + excess(low) / fall, Fraction(rho) if rho < np.inf else low + excess(low) / fall)
    up, down = level(flow, 1), level(flow, -1)
    return [max(v - up, Fraction(0)) * w - max(down - v, Fraction(0)) * w for v, w in zip(values, mass, strict=True)]


def draw(seed: int) -> tuple[Array, Array, float, float]:
    rng = np.random.default_rng(seed)
    K = int(rng.integers(2, 7))
    a = rng.choice([0.0, 1.0, 64.0, 1e8]) + rng.normal(size=K) * 10.0 ** -float(rng.integers(0, 4))
    if rng.uniform() < 0.5:
        a = a[rng.integers(0, K, K)]  # ties
    s = 10.0 ** rng.uniform(-10, 10, K)
    return a, s, float(rng.choice([0.0, 1e-29, 1e-9, 0.05])), float(rng.choice([np.inf, 0.1, 10.0]))


def worst(theta: Any, exact: list[Fraction]) -> float:
    """The largest difference over the flow."""
    flow = sum((abs(v) for v in exact), Fraction(0))
    off = max(abs(Fraction(float(t)) - e) for t, e in zip(theta, exact, strict=True))
    return float(off / flow) if flow else float(off)


def spread(a: Array) -> float:
    """The rounding of the differences between values, over the least of them that counts."""
    gap = float(np.ptp(a))
    return 1e-11 + 64.0 * float(np.spacing(np.abs(a).max())) / gap if gap > 0.0 else 1e-11


@given(SEEDS)
def test_prices_of_a_range_in_numpy(seed: int) -> None:
    a, s, width, rho = draw(seed)
    theta = range_prices(a, s, width, rho=rho)
    assert worst(theta, in_fractions(a, s, width, rho)) <= spread(a)


@given(SEEDS)
def test_prices_of_a_range_in_the_compiled_solve(compiled: Any, seed: int) -> None:
    a, s, width, rho = draw(seed)
    theta = np.empty_like(a)
    compiled(a, s, width, rho, 0.0, theta)
    exact = in_fractions(a, s, width, rho)
    ups, downs = float(np.maximum(theta, 0.0).sum()), float(-np.minimum(theta, 0.0).sum())
    flow = float(sum((max(v, Fraction(0)) for v in exact), Fraction(0)))
    assert worst(theta, exact) <= spread(a)
    assert abs(ups - downs) <= 1e-14 * max(ups, downs)  # balance, whatever the levels round to
    if rho < np.inf and flow == rho:
        assert ups >= rho * (1.0 - 1e-14)  # at its cap, and reads as such


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_end_in_no_number(compiled: Any, bad: float) -> None:
    """Compiled code checks no index: a walk that NaN leads once ran past its array."""
    theta = np.zeros(3)
    compiled(np.array([0.1, bad, 0.7]), np.ones(3), 0.05, np.inf, 0.0, theta)
    assert np.isnan(theta).all()


@given(SEEDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
def test_slopes_that_are_no_slopes_end_in_no_number(compiled: Any, bad: float, seed: int) -> None:
    """Sums over cells may come from anyone's passes: a slope of NaN once led the walk past the last member, and the process died."""
    a, s, width, rho = draw(seed)
    s[seed % s.shape[0]] = bad
    theta = np.zeros_like(a)
    compiled(a, s, width, rho, 0.0, theta)
    assert np.isnan(theta).all()


@given(SEEDS)
def test_a_walk_stays_among_its_members(compiled: Any, seed: int) -> None:
    """Weights beyond float64 make pieces without a number, whose comparisons say nothing: Python's own lists would raise."""
    rng = np.random.default_rng(seed)
    K = int(rng.integers(2, 7))
    a = rng.choice([0.0, 1.0, -1.0, 1e300, 5e-324], K) * rng.choice([1.0, 0.5], K)
    s = rng.choice([5e-324, 1e-310, 1.0, 1e300], K)
    theta = Watched.of(np.zeros(K))
    with np.errstate(all="ignore"):
        compiled(Watched.of(a), Watched.of(s), float(rng.choice([0.0, 0.05])), float(rng.choice([np.inf, 0.1])), 0.0, theta)
    assert theta.shape == (K,)


class Watched(np.ndarray[Any, Any]):
    """A vector that refuses places outside it, -1 too, which compiled code reads as whatever lies there."""

    @classmethod
    def of(cls, values: Array) -> Watched:
        return values.view(cls)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, (int, np.integer)) and not 0 <= place < self.shape[0]:
            raise IndexError(place)
        return super().__getitem__(place)


def test_a_flow_that_two_levels_meet_at() -> None:
    """Both levels reach a member of weight 4e7 at once: its piece has no digits left, and gave half of the flow."""
    f, s = np.array([-0.12612059, -0.08790107, -0.12612059]), np.array([2.66622363e-08, 2.38389558e09, 1.85163986e10])
    theta = range_prices(f + s * np.array([-1.60323822e-11, 1.60323822e-11, -2.3e-29]), s, 5.42e-29)
    assert theta[1] == pytest.approx(3.206476e-11, rel=1e-6)


@pytest.mark.parametrize("general", [False, True])
def test_a_price_at_its_cap_far_from_zero(general: bool) -> None:
    """Scores of 1e8 + d: the answer is that of d, moved by at most the rounding of 1e8. A repair once took the cap for none."""
    d = torch.tensor([0.0856829, 0.73805363, 0.15851982], dtype=torch.float64)
    notion = fo.DemographicParity("g", tolerance=0.05).priced(0.1)
    near = fo.project(d, notion, sensitive_features={"g": ["p", "r", "d"]})
    if general:
        with closed():
            far = fo.project(d + 1e8, notion, sensitive_features={"g": ["p", "r", "d"]}, return_solution=True)
    else:
        far = fo.project(d + 1e8, notion, sensitive_features={"g": ["p", "r", "d"]}, return_solution=True)
    assert far.status is fo.Status.CERTIFIED
    assert float((far.scores - 1e8 - near).abs().max()) <= 1e-6
