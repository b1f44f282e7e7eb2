"""Intervals of an audit: Clopper-Pearson by its definition, square-and-add, bootstrap-t; their coverage, counted or simulated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb, isfinite
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairopt.auditing import intervals
from fairopt.auditing.intervals import ADDED, BOOTSTRAP, EXACT, Estimator, Interval, clopper_pearson, gap_interval
from fairopt.basics.arrays import Array
from fairopt.basics.errors import InputError
from fairopt.notions import Batch

CONFIDENCE = 0.95


def estimator(values: Any, features: dict[str, Any], targets: Any = None, draws: int = 2000, seed: int = 0) -> tuple[Estimator, Batch]:
    array = np.asarray(values, dtype=np.float64)
    batch = Batch(array.size, features, targets)
    return Estimator(array, batch, confidence=CONFIDENCE, draws=draws, seed=seed), batch


def late(values: Any, batch: Batch, **options: Any) -> Estimator:
    """Another estimator on the same batch."""
    return Estimator(np.asarray(values, dtype=np.float64), batch, **{"confidence": CONFIDENCE, "draws": 2000, "seed": 0, **options})


def tail_above(k: int, n: int, p: float) -> float:
    """P(at least k of n)."""
    return sum(comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(k, n + 1))


# rates ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_the_exact_interval_leaves_its_tails(n: int) -> None:
    for k in range(n + 1):
        low, high = clopper_pearson(k, n, CONFIDENCE)
        assert 0.0 <= low <= k / n <= high <= 1.0
        if k:
            assert tail_above(k, n, low) == pytest.approx(0.025, rel=1e-9)
        else:
            assert low == 0.0
        if k < n:
            assert 1 - tail_above(k + 1, n, high) == pytest.approx(0.025, rel=1e-9)
        else:
            assert high == 1.0


def test_one_rate_is_exact_and_two_are_added_in_squares() -> None:
    decisions, sex = [1, 0, 0, 1, 1, 1, 0, 1, 1], list("ffffmmmmm")
    made, batch = estimator(decisions, {"sex": sex})
    f, m = (batch.mean(g) for g in batch.groups("sex"))
    one = made.functional(f)
    assert (one.low, one.high) == pytest.approx(clopper_pearson(2, 4, CONFIDENCE), abs=1e-15)
    assert one.how == EXACT
    (a, b), (c, d) = clopper_pearson(2, 4, CONFIDENCE), clopper_pearson(4, 5, CONFIDENCE)
    (two,) = made.pairs([f, m])
    assert two.how == ADDED
    assert two.low == pytest.approx(0.5 - 0.8 - np.hypot(0.5 - a, d - 0.8), abs=1e-12)
    assert two.high == pytest.approx(0.5 - 0.8 + np.hypot(b - 0.5, 0.8 - c), abs=1e-12)


def test_a_group_against_everybody_is_the_group_against_the_rest() -> None:
    decisions, race = [1, 0, 0, 1, 1, 1, 0, 1, 1, 0], list("aaabbbbccc")
    made, batch = estimator(decisions, {"race": race})
    a = batch.groups("race")[0]
    against_all = made.functional(batch.mean(a) - batch.mean())
    against_rest = made.functional(0.7 * (batch.mean(a) - batch.mean(~a)))
    assert (against_all.low, against_all.high) == pytest.approx((against_rest.low, against_rest.high), abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n1", "n2", "least", "average"), [(1, 1, 0.90, 0.98), (5, 5, 0.92, 0.97), (20, 20, 0.93, 0.965), (100, 10, 0.95, 0.97)]
)
def test_square_and_add_covers(n1: int, n2: int, least: float, average: float) -> None:
    """Counted, not simulated: every outcome of two groups, at a grid of true rates."""
    first, second = ([clopper_pearson(k, n, CONFIDENCE) for k in range(n + 1)] for n in (n1, n2))
    covered = []
    grid = [0.005, 0.02, *np.linspace(0.05, 0.95, 19), 0.98, 0.995]
    ends = {}
    for j, (a, b) in enumerate(first):
        for k, (c, d) in enumerate(second):
            made, batch = None, None
            p, q = j / n1, k / n2
            ends[j, k] = (p - q - np.hypot(p - a, d - q), p - q + np.hypot(b - p, q - c))
            if (j + k) % 7 == 0:  # the estimator says the same
                made, batch = estimator([1] * j + [0] * (n1 - j) + [1] * k + [0] * (n2 - k), {"g": [0] * n1 + [1] * n2})
                (said,) = made.pairs([batch.mean(g) for g in batch.groups("g")])
                assert (said.low, said.high) == pytest.approx(ends[j, k], abs=1e-12)
    low, high = (np.array([[ends[j, k][side] for k in range(n2 + 1)] for j in range(n1 + 1)]) for side in (0, 1))
    for x in grid:
        px = np.array([comb(n1, j) * x**j * (1 - x) ** (n1 - j) for j in range(n1 + 1)])
        for y in grid:
            py = np.array([comb(n2, k) * y**k * (1 - y) ** (n2 - k) for k in range(n2 + 1)])
            covered.append(px @ ((low <= x - y + 1e-12) & (x - y - 1e-12 <= high)) @ py)
    assert min(covered) >= least
    assert np.mean(covered) >= average


# means ----------------------------------------------------------------------------------------------------------------------


def test_the_bootstrap_is_studentised_and_resamples_within_groups() -> None:
    """Against a plain implementation: other resamples, the same quantiles up to their noise."""
    rng = np.random.default_rng(3)
    scores, sex = rng.exponential(1.0, 60), np.array(["f"] * 25 + ["m"] * 35)
    made, batch = estimator(scores, {"sex": sex}, draws=20_000)
    (said,) = made.pairs([batch.mean(g) for g in batch.groups("sex")])
    assert said.how == BOOTSTRAP
    f, m = scores[:25], scores[25:]
    t = np.empty(20_000)
    for k in range(t.size):
        a, b = rng.choice(f, f.size), rng.choice(m, m.size)
        t[k] = (a.mean() - b.mean() - f.mean() + m.mean()) / np.sqrt(a.var() / a.size + b.var() / b.size)
    error = np.sqrt(f.var() / f.size + m.var() / m.size)
    low, high = np.quantile(t, [0.025, 0.975])
    assert said.low == pytest.approx(f.mean() - m.mean() - high * error, abs=0.02 * error + 0.02)
    assert said.high == pytest.approx(f.mean() - m.mean() - low * error, abs=0.02 * error + 0.02)


def test_the_same_seed_gives_the_same_interval_whatever_else_is_asked() -> None:
    rng = np.random.default_rng(0)
    scores, race = rng.random(90), rng.choice(list("abc"), 90)
    first, batch = estimator(scores, {"race": race})
    means = [batch.mean(g) for g in batch.groups("race")]
    all_pairs = first.pairs(means)
    alone = late(scores, batch).functional(means[1] - means[2])
    assert (alone.low, alone.high) == pytest.approx((all_pairs[2].low, all_pairs[2].high), abs=1e-12)
    other = late(scores, batch, seed=1).pairs(means)
    assert other != all_pairs
    assert other[0].low == pytest.approx(all_pairs[0].low, abs=0.02)


def test_pairs_of_overlapping_events_are_resampled_together() -> None:
    """mean(a) - mean(a or b) moves with b's samples alone times b's share: an interval of two independent means would be wider."""
    rng = np.random.default_rng(1)
    scores, race = rng.random(200), np.array(list("ab") * 100)
    made, batch = estimator(scores, {"race": race})
    a, b = batch.groups("race")
    (said,) = made.pairs([batch.mean(a), batch.mean(a | b)])
    half = made.functional(0.5 * (batch.mean(a) - batch.mean(b)))
    assert (said.low, said.high) == pytest.approx((half.low, half.high), abs=1e-9)


def test_residuals_are_resampled_with_their_targets() -> None:
    """score - target: where both move together the interval is narrow."""
    rng = np.random.default_rng(2)
    targets = rng.normal(0, 10, 300)
    scores = targets + rng.normal(0, 0.1, 300)
    batch = Batch(300, {"g": [0, 1] * 150}, targets)
    g = batch.groups("g")[0]
    residual = batch.mean(g) - batch.mean(g, of=batch.targets)
    said = late(scores, batch).functional(residual)
    assert said.low is not None
    assert said.high is not None
    assert said.high - said.low < 0.1
    assert said.low < float((scores - targets)[::2].mean()) < said.high


def test_the_interval_of_a_covariance_does_not_see_a_shift_of_the_scores() -> None:
    rng = np.random.default_rng(4)
    s = rng.normal(0, 1, 120)
    scores = 0.3 * s + rng.normal(0, 1, 120)
    ends = []
    for shift in (0.0, 50.0):
        batch = Batch(120, {"s": s})
        covariance = batch.weighted(s - s.mean())
        said = late(scores + shift, batch).functional(covariance)
        ends.append((said.low, said.high))
    assert ends[0] == pytest.approx(ends[1], abs=1e-9)
    own = float(np.mean((s - s.mean()) * scores))
    spread = np.std((s - s.mean()) * (scores - scores.mean())) / np.sqrt(120)
    assert ends[0][0] == pytest.approx(own - 1.98 * spread, abs=0.25 * spread)
    assert ends[0][1] == pytest.approx(own + 1.98 * spread, abs=0.25 * spread)


def test_large_cells_take_the_normal_limit_of_the_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    scores, g = rng.beta(2, 5, 4000), [0, 1] * 2000
    ends = []
    for large in (10_000, 1000):
        monkeypatch.setattr(intervals, "LARGE", large)
        made, batch = estimator(scores, {"g": g}, draws=4000)
        (said,) = made.pairs([batch.mean(x) for x in batch.groups("g")])
        assert said.low is not None
        assert said.high is not None
        ends.append((said.low, said.high))
    width = ends[0][1] - ends[0][0]
    assert ends[0] != ends[1]
    assert ends[0] == pytest.approx(ends[1], abs=0.06 * width)


def test_a_large_cell_that_is_skew_is_still_resampled() -> None:
    """Its bootstrap-t interval reaches further up than down; the normal limit's does not."""
    rng = np.random.default_rng(0)
    reach = {}
    for name, values in (("skew", rng.lognormal(0, 1.7, 4000)), ("even", rng.beta(2, 2, 4000))):
        made, batch = estimator(values, {"g": [0] * 4000})
        said = made.functional(batch.mean(batch.groups("g")[0]))
        assert said.low is not None
        assert said.high is not None
        reach[name] = (said.high - values.mean()) / (values.mean() - said.low)
    assert reach["skew"] > 1.15
    assert reach["even"] == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9], "1 sample: too few"),
        ([0.5] * 6 + [0.9] * 6, "no spread in a group"),
        ([0.2, 0.3, 0.4, 0.5, 0.2, 0.7] + [0.9] * 6, "no spread in a group"),
    ],
)
def test_no_interval_is_a_reason(scores: list[float], said: str) -> None:
    n = len(scores)
    made, batch = estimator(scores, {"g": [0] * 6 + [1] * (n - 6)})
    (interval,) = made.pairs([batch.mean(g) for g in batch.groups("g")])
    assert interval == Interval(None, None, said)


@pytest.mark.parametrize("size", [1e308, 1e200, 1e-200, 1e-308])
def test_values_of_any_size_have_an_interval_or_a_reason(size: float) -> None:
    """Squares of 1e308 are no floats: a reason, no OverflowError; at 1e-200 there is nothing to compare but sizes."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.5, 1.0, 60) * size
    with np.errstate(over="raise", invalid="raise"):
        made, batch = estimator(scores, {"g": (np.arange(60) % 2).tolist()}, draws=200)
        (found,) = made.pairs([batch.mean(g) for g in batch.groups("g")])
    assert found.low is None or (found.high is not None and isfinite(found.high - found.low))
    assert found.how


def test_too_few_distinct_values_is_a_reason() -> None:
    made, batch = estimator([0.2] * 5 + [0.7], {"g": [0] * 6})
    assert made.functional(batch.mean(batch.groups("g")[0])) == Interval(None, None, "too few distinct values")


def test_an_absent_group_and_an_empty_functional_have_no_interval() -> None:
    made, batch = estimator([0.1] * 4, {"g": [0, 0, 1, 1]})
    a, b = batch.groups("g")
    assert made.functional(batch.mean(a & b)).how == "nobody"
    assert [i.how for i in made.pairs([batch.mean(a & b), batch.mean(a)])] == ["nobody"]
    assert made.functional(batch.mean(a) - batch.mean(a)).how == "no score enters"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"confidence": 1.0}, "confidence"),
        ({"draws": 99}, "draws"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"seed": 0.5}, "seed"),
    ],
)
def test_bad_settings(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Estimator(np.zeros(3), Batch(3, {}), **{"confidence": 0.95, "draws": 200, "seed": 0, **options})


DRAWN: dict[str, tuple[Callable[[np.random.Generator, int], Array], float]] = {
    "beta(2, 2)": (lambda r, n: r.beta(2, 2, n), 0.5),
    "beta(0.5, 2)": (lambda r, n: r.beta(0.5, 2, n), 0.2),
    "normal": (lambda r, n: r.normal(0, 1, n), 0.0),
    "exponential": (lambda r, n: r.exponential(1, n), 1.0),
}


def coverage(draw: Callable[[np.random.Generator, int], Array], true: float, sizes: Sequence[int], runs: int, seed: int) -> float:
    """How often the interval of a mean (one size) or of a difference (two) holds the truth; no interval is counted as a miss."""
    rng, hits = np.random.default_rng(seed), 0
    n = sum(sizes)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    for k in range(runs):
        made, batch = estimator(draw(rng, n), {"g": groups}, draws=500, seed=k)
        means = [batch.mean(g) for g in batch.groups("g")]
        said = made.functional(means[0]) if len(means) == 1 else made.pairs(means)[0]
        truth = true if len(means) == 1 else 0.0
        hits += said.low is not None and said.high is not None and said.low <= truth <= said.high
    return hits / runs


def test_bootstrap_t_covers_a_small_group() -> None:
    """Percentile and BCa intervals cover about 0.86 here."""
    assert 0.92 <= coverage(*DRAWN["beta(2, 2)"], [8], 500, 0) <= 0.995


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(5,), (8,), (20,), (100,), (8, 8), (8, 100), (50, 50)], ids=str)
@pytest.mark.parametrize("name", DRAWN)
def test_bootstrap_t_covers(name: str, sizes: tuple[int, ...]) -> None:
    """2,000 runs: the standard error is half a per cent. A skewed mean of a few values beside a sure one is the hard case."""
    least = {"exponential": 0.895, "beta(0.5, 2)": 0.905}.get(name, 0.925)
    assert least <= coverage(*DRAWN[name], sizes, 2000, 1) <= 0.99


# gaps -----------------------------------------------------------------------------------------------------------------------


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(-1, 1), st.floats(0, 1), st.sampled_from(["both", "same", "lower", "upper"]))
@settings(max_examples=200)
def test_the_interval_of_a_gap_is_the_image(low: float, width: float, limit: float, wide: float, kind: str) -> None:
    high, inf = low + width, float("inf")
    lower, upper = {"both": (limit, limit + wide), "same": (-wide, wide), "lower": (limit, inf), "upper": (-inf, limit)}[kind]
    said = gap_interval(Interval(low, high, "x"), lower, upper)
    points = np.unique([*np.linspace(low, high, 201), *(p for p in (0.0, (lower + upper) / 2) if low <= p <= high)])
    if lower == -upper:
        image = np.abs(points)
    elif kind == "lower":
        image = -points
    else:
        image = points if kind == "upper" else np.maximum(lower - points, points - upper)
    assert said.low == pytest.approx(image.min(), abs=1e-12)
    assert said.high == pytest.approx(image.max(), abs=1e-12)


def test_no_interval_stays_none() -> None:
    none = Interval(None, None, "why")
    assert gap_interval(none, 0.0, 0.0) is none


def test_pairs_come_in_the_order_of_combinations() -> None:
    rng = np.random.default_rng(6)
    scores, g = rng.random(80) + np.repeat([0, 1, 3, 7], 20), np.repeat([0, 1, 2, 3], 20)
    made, batch = estimator(scores, {"g": g})
    means = [batch.mean(x) for x in batch.groups("g")]
    for (a, b), said in zip(combinations(range(4), 2), made.pairs(means), strict=True):
        difference = scores[g == a].mean() - scores[g == b].mean()
        assert said.low is not None
        assert said.high is not None
        assert said.low < difference < said.high
