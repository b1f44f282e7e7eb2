"""What a guarantee promises of people: coverage over simulated populations, room that is left, and what is said where rows are too few."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.auditing.intervals import clopper_pearson
from fairopt.layer import guaranteed_shifts, levels
from fairopt.layer.levels import MeanLaw, RankLaw, Wanted, failure, rows_needed, tightest, variance_bound
from fairopt.layer.population_bound import PopulationBound
from fairopt.layer.tails import squares_above, tail_of_mean
from fairopt.training.decisions import fit as decision_fit
from tests.guarantee_populations import ALPHA, covered

pytest.importorskip("scipy")


def pairs(units, tolerance):
    left = [np.eye(units)[a] - np.eye(units)[b] for a in range(units) for b in range(units) if a != b]
    return Wanted(np.arange(units), np.array(left), np.full(len(left), tolerance), ("pairs",) * len(left))


def test_coverage_on_a_few_populations():
    held, kinds = covered(range(60))
    assert len(held) > 50
    assert len(set(kinds)) == 4
    assert held.mean() >= 1 - ALPHA - 3 * sqrt(ALPHA * (1 - ALPHA) / len(held))


@pytest.mark.slow
def test_coverage_on_two_thousand_populations():
    held, kinds = covered(range(1000, 3000))
    assert len(held) > 1800
    assert held.mean() >= 1 - ALPHA - 2 * sqrt(ALPHA * (1 - ALPHA) / len(held))
    for kind in set(kinds):
        own = held[np.array(kinds) == kind]
        assert own.mean() >= 1 - ALPHA - 3 * sqrt(ALPHA * (1 - ALPHA) / len(own)), kind


def two_groups(rng, small, n, kind):
    g = np.repeat(["a", "b"], [small, n - small])
    z = {"even": rng.beta(1, 1, n), "two points": (rng.random(n) < 0.5) * 1.0, "skew": rng.beta(0.4, 3, n), "bell": rng.beta(5, 5, n)}[kind]
    return np.clip(z + 0.1 * (g == "a"), 0, 1), g


def left(promise: PopulationBound) -> float:
    """Of the tolerance, to work with."""
    assert promise.margin is not None
    return promise.limit - promise.margin


@pytest.mark.parametrize("kind", ["even", "two points", "skew", "bell"])
def test_eight_thousand_rows_leave_two_hundredths_of_a_tolerance_of_five(kind):
    """Two groups, the smaller of 1,000: scores of any law, and decisions at any rate."""
    rng = np.random.default_rng(0)
    z, g = two_groups(rng, 1000, 8000, kind)
    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.05), bounds=(0, 1))
    (promise,) = layer.freeze(z, sensitive_features={"g": g}, guarantee=0.95).guarantees
    assert promise.bound == promise.limit == 0.05
    assert left(promise) >= 0.02
    y = (rng.random(len(z)) < z).astype(int)
    for cost in ((1.0, 1.0), (1.0, 4.0)):
        model = fo.FairDecisions(fo.DemographicParity("g", tolerance=0.05), guarantee=0.95, cost=cost, random_state=0)
        (promise,) = model.fit(z, y, {"g": g}).guarantees_
        assert left(promise) >= 0.02
        assert not promise.vacuous


def test_several_groups_of_a_thousand_scores():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(8), 1000)
    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.05), bounds=(0, 1))
    (promise,) = layer.freeze(rng.beta(8, 60, 8000), sensitive_features={"g": g}, guarantee=0.95).guarantees
    assert left(promise) >= 0.02


def test_too_few_rows_name_the_group_and_how_many_it_takes():
    rng = np.random.default_rng(2)
    z, g = two_groups(rng, 100, 4000, "even")
    y = (rng.random(len(z)) < z).astype(int)
    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.05), bounds=(0, 1))
    with pytest.raises(fo.InputError, match=r"the group g='a' has 100 calibration rows") as error:
        layer.freeze(z, sensitive_features={"g": g}, guarantee=0.95)
    need = int(str(error.value).split("about ")[1].split(" ")[0].replace(",", ""))
    assert 400 < need < 2500
    enough, of = two_groups(np.random.default_rng(3), round(1.2 * need), 3900 + round(1.2 * need), "even")
    layer.freeze(enough, sensitive_features={"g": of}, guarantee=0.95)
    model = fo.FairDecisions(fo.DemographicParity("g", tolerance=0.05), guarantee=0.95, random_state=0)
    with pytest.raises(fo.InputError, match=r"the group g='a' has 100 calibration rows"):
        model.fit(z, y, {"g": g})
    (promise,) = model.set_params(on_few="tighten as far as possible").fit(z, y, {"g": g}).guarantees_
    assert promise.bound is not None
    assert 0.05 < promise.bound < 0.3
    (promise,) = layer.freeze(z, sensitive_features={"g": g}, guarantee=0.95, on_few="tighten as far as possible").guarantees
    assert promise.bound is not None
    assert 0.05 < promise.bound < 0.3
    tiny = np.concatenate([["c"], g[1:]])
    with pytest.raises(fo.InputError, match="the group g='c' has 1 calibration rows that count, and about 738 calibration rows"):
        layer.freeze(z, sensitive_features={"g": tiny}, guarantee=0.95)
    with pytest.raises(fo.InputError, match="the group g='c' has 1 calibration rows that count, and about 738 calibration rows"):
        model.fit(z, y, {"g": tiny})


def four_groups(seed, n=7000, last=0.028):
    rng = np.random.default_rng(seed)
    g = rng.choice(list("abcd"), n, p=[0.6, 0.25, 0.15 - last, last])
    return np.clip(rng.beta(4, 4, n) + 0.05 * (g == "b") - 0.08 * (g == "c") - 0.1 * (g == "d"), 0, 1), g


@pytest.mark.parametrize("seed", [0, 2])
def test_what_is_granted_at_one_tolerance_is_granted_at_every_wider_one(seed):
    """And where it is refused, the strictest rule promises the same whatever was asked: no margin costs another its risk."""
    z, g = four_groups(seed)
    promised = []
    for tolerance in (0.0, 0.02, 0.05, 0.06, 0.075, 0.08, 0.1, 0.15):
        layer = fo.FairnessLayer(fo.DemographicParity("race", tolerance=tolerance), bounds=(0, 1))
        (promise,) = layer.freeze(z, sensitive_features={"race": g}, guarantee=0.95, on_few="tighten as far as possible").guarantees
        assert promise.bound is not None
        promised.append((tolerance, promise.bound, left(promise)))
    strictest = promised[0][1]
    assert 0.06 < strictest < 0.08
    assert [bound for _, bound, _ in promised] == pytest.approx([max(t, strictest) for t, _, _ in promised], abs=1e-4)
    room = [one for _, _, one in promised]
    assert room == sorted(room)
    assert room[-1] > 0.08


def test_the_hull_of_the_path_never_forgets_a_target():
    """What was passed at a stricter margin counts at a looser one: else margins that were tried would cost risk."""
    at = {1.0: np.array([0.5, 0.5]), 0.5: np.array([0.45, 0.6]), 0.0: np.array([0.48, 0.55])}
    targets: Any = object.__new__(guaranteed_shifts._Targets)
    targets.most, targets.at = 1.0, lambda m: np.array([np.interp(m, sorted(at), [at[k][u] for k in sorted(at)]) for u in range(2)])
    assert targets.hull(1.0).tolist() == [0.5, 0.5, 0.5, 0.5]
    assert targets.hull(0.0).tolist() == pytest.approx([0.5, 0.6, 0.45, 0.5])
    assert targets.path(0.03125).tolist() == pytest.approx(targets.at(0.03125).tolist())


@pytest.mark.parametrize(("tolerance", "last"), [(0.05, 0.028), (0.07, 0.025)])
def test_so_many_rows_as_the_error_says_are_enough_more_often_than_not(tolerance, last):
    z, g = four_groups(0, last=last)
    layer = fo.FairnessLayer(fo.DemographicParity("race", tolerance=tolerance), bounds=(0, 1))
    with pytest.raises(fo.InputError, match="calibration rows that count, and about") as error:
        layer.freeze(z, sensitive_features={"race": g}, guarantee=0.95)
    need = int(str(error.value).split("about ")[1].split(" ")[0].replace(",", ""))
    assert need > 1.05 * (g == "d").sum()
    kept = 0
    for seed in range(1, 10):
        more, of = four_groups(seed, 60_000, last=0.05)
        taken = np.concatenate([np.flatnonzero(of == k)[: max(need, (g == k).sum())] for k in "abcd"])
        try:
            layer.freeze(more[taken], sensitive_features={"race": of[taken]}, guarantee=0.95)
        except fo.InputError:
            continue
        kept += 1
    assert kept >= 6


def test_what_has_no_guarantee_says_so():
    rng = np.random.default_rng(4)
    z, g = two_groups(rng, 1000, 3000, "even")
    h = rng.choice(["u", "v"], 3000)
    both = fo.DemographicParity("g", tolerance=0.1) & fo.DemographicParity("h", tolerance=0.1)
    with pytest.raises(fo.UnsupportedError, match="do not overlap"):
        fo.FairnessLayer(both, bounds=(0, 1)).freeze(z, sensitive_features={"g": g, "h": h}, guarantee=0.9)
    with pytest.raises(fo.UnsupportedError, match="two bounds"):
        fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.1)).freeze(z, sensitive_features={"g": g}, guarantee=0.9)
    with pytest.raises(fo.UnsupportedError, match="residuals"):
        fo.FairnessLayer(fo.MeanResidual("g", tolerance=0.1), bounds=(0, 1)).freeze(
            z, sensitive_features={"g": g}, targets=z, guarantee=0.9
        )
    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.1), bounds=(0, 1))
    wrong: Any
    for wrong in (95, 0.0, float("nan"), "0.95"):
        with pytest.raises(fo.InputError, match="guarantee: got"):
            layer.freeze(z, sensitive_features={"g": g}, guarantee=wrong)
    wrong = {"on_few": "hope"}
    with pytest.raises(fo.InputError, match="on_few: got"):
        layer.freeze(z, sensitive_features={"g": g}, guarantee=0.9, **wrong)


def test_rates_of_mixed_thresholds_are_all_bounded_at_once(monkeypatch):
    """Two rates a group: the intervals of all units and thresholds together miss at most the risk."""
    asked: list[tuple[int, int, float]] = []
    exact = clopper_pearson

    def noted(ones: int, n: int, confidence: float) -> tuple[float, float]:
        asked.append((ones, n, confidence))
        return exact(ones, n, confidence)

    monkeypatch.setattr(decision_fit, "clopper_pearson", noted)
    rng = np.random.default_rng(9)
    z, g = two_groups(rng, 4000, 9000, "even")
    y = (rng.random(len(z)) < z).astype(int)
    model = fo.FairDecisions(fo.EqualizedOdds("g", tolerance=0.08), guarantee=0.95, random_state=0).fit(z, y, {"g": g})
    once = len(asked) // 2  # asked for once to see whether it can be kept, and once to keep it
    assert asked[:once] == asked[once:]
    assert once >= 8
    assert sum(1.0 - confidence for _, _, confidence in asked[:once]) <= 0.05 + 1e-12
    used = {t for rule in model.rules_ for t in rule.thresholds.tolist() if np.isfinite(t)}
    assert 0 < len(used) <= once / 2


def test_the_postprocessor_passes_it_on():  # 8,040 rows of calibration
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(8)
    g = rng.choice(["a", "b"], 13_400, p=[0.4, 0.6])
    X = rng.normal(size=(13_400, 1)) + 0.5 * (g == "b")[:, None]
    y = (X[:, 0] + rng.normal(size=13_400) > 0.5).astype(int)
    usual: dict[str, Any] = {"tolerance": 0.05, "guarantee": 0.95, "calibration_fraction": 0.6, "random_state": 0}
    model = fo.FairPostprocessor(linear_model.LogisticRegression(), fo.DemographicParity, **usual).fit(X, y, sensitive_features=g)
    (promise,) = model.guarantees_
    assert promise.bound == promise.limit == 0.05
    assert left(promise) > 0.02
    with pytest.raises(fo.InputError, match="leave cv out"):
        model.set_params(cv=3).fit(X, y, sensitive_features=g)
    model.set_params(cv=None, calibration_fraction=0.005)
    with pytest.raises(fo.InputError, match="guarantee=0.95 cannot be kept"):
        model.fit(X, y, sensitive_features=g)
    (promise,) = model.set_params(on_few="tighten as far as possible").fit(X, y, sensitive_features=g).guarantees_
    assert promise.bound is not None
    assert promise.bound > 0.05


def test_bounds_are_clipped_to_what_is_possible_and_called_vacuous():
    z, g = two_groups(np.random.default_rng(5), 4, 12, "even")
    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.0), bounds=(0.2, 0.8))
    (promise,) = layer.freeze(z, sensitive_features={"g": g}).guarantees
    assert promise.bound == pytest.approx(0.6)
    assert promise.vacuous
    z, g = two_groups(np.random.default_rng(5), 3000, 8000, "even")
    (promise,) = layer.freeze(z, sensitive_features={"g": g}).guarantees
    assert promise.margin is not None
    assert promise.bound == pytest.approx(promise.gap + promise.margin)
    assert not promise.vacuous
    residual = fo.FairnessLayer(fo.MeanResidual("g", tolerance=0.0), bounds=(0, 1))
    few = np.repeat(["a", "b"], 3)
    for promise in residual.freeze(z[:6], sensitive_features={"g": few}, targets=z[:6] / 2).guarantees:
        assert promise.bound == 1.0
        assert promise.vacuous


def test_laws_are_those_of_simulated_ranks_and_joint_failure_is_a_union():
    rng = np.random.default_rng(6)
    law = RankLaw(30, 99)
    drawn = np.sort(rng.random((20_000, 99)), axis=1)[:, 29]
    for x in (0.25, 0.3, 0.37):
        assert law.below(np.array([x]))[0] == pytest.approx((drawn < x).mean(), abs=0.015)
        assert law.above(np.array([x]))[0] == pytest.approx((drawn > x).mean(), abs=0.015)
    for nobody in (RankLaw(0, 5), RankLaw(6, 5)):
        assert nobody.above(np.array([-0.1, nobody.centre, 1.1])).tolist() == [1.0, 0.0, 0.0]
        assert nobody.below(np.array([-0.1, nobody.centre, 1.1])).tolist() == [0.0, 0.0, 1.0]
    laws = [RankLaw(300, 999), RankLaw(290, 999), RankLaw(2000, 6999)]
    seen = np.ptp(np.stack([rng.beta(r.k, r.n + 1 - r.k, 200_000) for r in laws]), axis=0)
    for limit in (0.03, 0.04, 0.05):
        told = failure(laws, pairs(3, limit))
        assert (seen > limit).mean() <= told + 0.002
        assert told <= 1.5 * (seen > limit).mean() + 0.003


def test_tails_of_means_are_at_most_hoeffdings_and_feel_the_variance():
    loose, tight = MeanLaw(0.5, 100, 0.25, 0.0, 1.0), MeanLaw(0.5, 100, 0.01, 0.0, 1.0)
    at = np.array([0.5, 0.55, 0.6, 0.7, 1.0])
    assert loose.above(at)[0] == 1.0
    assert loose.above(at)[-1] == 0.0
    hoeffding = np.exp(-2 * 100 * (at - 0.5) ** 2)
    assert (loose.above(at)[:-1] <= hoeffding[:-1] + 1e-12).all()
    assert (tight.above(at)[1:-1] < 0.1 * loose.above(at)[1:-1]).all()
    assert tight.above(at) == pytest.approx(tight.below(1 - at))


@settings(max_examples=200)
@given(st.integers(1, 400), st.floats(0.001, 0.999), st.data())
def test_a_tail_of_a_mean_is_above_that_of_the_binomial_which_is_worst(n, p, data):
    """Of n numbers that are b or -v / b; and it is never far above it."""
    from scipy.stats import binom

    k = data.draw(st.integers(0, n))
    b, v = 1.0, p / (1.0 - p)
    error = (k * (b + v / b) - n * v / b) / n
    if error > 1e-9:
        told = float(tail_of_mean(n, np.array([error]), np.array([b]), np.array([v]))[0])
        exact = float(binom.sf(k - 1, n, p))
        assert told >= exact * (1 - 1e-9)
        hull = max(exact, float(binom.sf(k, n, p)) if k < n else exact)
        assert told <= 30 * hull + 1e-12


def test_second_moments_above_a_point_are_those_of_the_binomial():
    from scipy.stats import binom

    for n in (1, 2, 3, 50, 3000):
        for p in (0.003, 0.4, 0.97):
            values = np.arange(n + 1)
            for t in (-2.5, 0.0, n * p - 0.3, n * p, 0.9 * n, n + 1.0):
                exact = float((np.maximum(values - t, 0.0) ** 2 * binom.pmf(values, n, p)).sum())
                told = float(squares_above(n, np.array([p]), np.array([t]))[0])
                assert exact * (1 - 1e-12) - 1e-15 <= told <= exact * (1 + 1e-9) + 1e-9 * ((n * p) ** 2 + t * t)


def test_a_tail_that_is_no_number_is_one():
    nan = float("nan")
    for error, most, variance in ((nan, 1.0, 0.2), (0.1, nan, 0.2), (0.1, 1.0, nan), (0.1, float("inf"), 0.2)):
        assert tail_of_mean(10, np.array([error]), np.array([most]), np.array([variance]))[0] == 1.0
    assert tail_of_mean(10, np.array([0.1]), np.array([1.0]), np.array([0.0]))[0] == 0.0


def test_the_variance_bound_is_above_the_variance_and_near_it():
    rng = np.random.default_rng(7)
    values = rng.beta(5, 5, 4000)
    bound = variance_bound(values, 0.5, 0.0, 1.0, 0.01)
    assert values.var() < bound < 1.3 * values.var()
    assert variance_bound(values[:3], 0.5, 0.0, 1.0, 0.01) <= 0.25
    assert variance_bound(values[:0], 0.5, 0.0, 1.0, 0.01) == 0.25
    assert variance_bound(np.array([0.0, 1.0] * 500), 0.5, 0.0, 1.0, 0.01) == 0.25


def test_the_search_takes_the_least_margin_and_knows_when_there_is_none():
    rows = pairs(2, 0.1)

    def targets_at(margin):
        return np.array([0.5 - (0.1 - margin) / 2, 0.5 + (0.1 - margin) / 2])

    def laws_of(targets, sizes=(2000, 2000)):
        return [RankLaw(round(t * (n + 1)), n) for t, n in zip(targets.tolist(), sizes, strict=True)]

    found = tightest(targets_at, laws_of, rows, 0.05, 0.1)
    assert found is not None
    assert found.failure <= 0.05 < failure(laws_of(targets_at(found.margin - 0.002)), rows)
    assert tightest(targets_at, lambda t: laws_of(t, (40, 40)), rows, 0.05, 0.1) is None
    strict = targets_at(0.1)
    needed = rows_needed(np.array([40, 5000]), lambda n: failure(laws_of(strict, n.tolist()), rows) <= 0.05)
    assert needed is not None
    assert needed[0] == 0
    assert failure(laws_of(strict, (needed[1], 5000)), rows) <= 0.05 < failure(laws_of(strict, (needed[1] * 9 // 10, 5000)), rows)
    assert rows_needed(np.array([40, 50]), lambda n: False) is None


def test_design_rows_are_few_of_each_stratum():
    strata = np.repeat([0, 1, 2, 3], [5000, 300, 20, 1])
    chosen = levels.design_rows(strata, np.random.default_rng(0))
    assert [int(chosen[strata == k].sum()) for k in range(4)] == [levels.design_size(n) for n in (5000, 300, 20, 1)] == [350, 50, 10, 0]
