"""The step's optimisation problems: optimality by definition, agreement with the general solver, and the curves they are made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.streaming import Cumulative, PooledParity, PrimalDual, anchored, parity
from fairopt.streaming.exact import ZERO, add_many, add_one
from fairopt.streaming.residuals import increasing_root, range_residuals
from fairopt.streaming.shift_curve import Response

seeds = st.integers(0, 2**32 - 1)


def nearest_in_range(means: np.ndarray, metric: np.ndarray, eps: float) -> np.ndarray:
    """M minus its projection onto {max - min <= eps} in the metric, by 200 bisections: independent of the code under test."""
    low, high = means.min() - eps, means.max()
    for _ in range(200):
        t = 0.5 * (low + high)
        slope = (metric * (means - np.clip(means, t, t + eps))).sum()
        low, high = (t, high) if slope > 0 else (low, t)
    return means - np.clip(means, low, low + eps)


@given(seeds, st.integers(2, 8), st.sampled_from([0.0, 0.05, 0.5]))
def test_range_residuals_are_the_projection(seed, k, eps):
    rng = np.random.default_rng(seed)
    means = rng.choice([rng.random(k), np.round(rng.random(k), 1)])
    metric = rng.exponential(1.0, k) + 1e-3
    assert np.allclose(range_residuals(means.tolist(), metric.tolist(), eps), nearest_in_range(means, metric, eps), atol=1e-12)


@given(seeds, st.integers(1, 30), st.floats(-3, 3), st.floats(0, 1))
def test_a_response_curve_is_the_mean_of_clipped_scores_and_inverts(seed, n, shift, share):
    rng = np.random.default_rng(seed)
    z = rng.normal(0.5, 1.0, n)
    curve = Response(z, 0.0, 1.0, base=2.0, count=n + 5.0)

    def mean(s: float) -> float:
        return (2.0 + np.clip(z - s, 0, 1).sum()) / (n + 5.0)

    assert curve.mean(shift) == pytest.approx(mean(shift), abs=1e-12)
    aim = curve.span[0] + share * (curve.span[1] - curve.span[0])
    s = curve.shift_to(aim)
    assert mean(s) == pytest.approx(aim, abs=1e-12)
    assert s * (mean(0.0) - aim) >= -1e-12  # down for a lower mean
    assert (
        mean(s * (1 - 1e-6)) != pytest.approx(aim, abs=1e-15) or abs(s) < 1e-9 or aim == pytest.approx(mean(0.0))
    )  # no longer than needed
    stiffness = 10.0 ** rng.uniform(-3, 4)
    spring = curve.spring(stiffness, aim - 0.05, aim + 0.05)
    m = mean(spring)
    assert spring == pytest.approx(stiffness * (m - np.clip(m, aim - 0.05, aim + 0.05)), abs=1e-9 * max(1.0, stiffness))


@given(seeds)
def test_increasing_root_finds_kinks_and_jumps_of_slope(seed):
    rng = np.random.default_rng(seed)
    at, slopes = np.sort(rng.normal(0, 1, 6)), 10.0 ** rng.uniform(-6, 6, 7)

    def f(x: float) -> float:
        return float(np.interp(x, at, heights, left=heights[0] + slopes[0] * (x - at[0]), right=heights[-1] + slopes[-1] * (x - at[-1])))

    heights = np.r_[0.0, np.cumsum(slopes[1:-1] * np.diff(at))]
    heights -= heights[0] + rng.random() * (heights[-1] - heights[0])
    low, high = at[0] - 1, at[-1] + 1
    x = increasing_root(f, low, high, f(low), f(high))
    assert f(np.nextafter(x, -np.inf) - 1e-15) <= 0 <= f(np.nextafter(x, np.inf) + 1e-15)


@given(st.lists(st.floats(-1e6, 1e6), max_size=30), seeds)
def test_exact_sums_do_not_depend_on_the_order(values, seed):
    from fractions import Fraction

    one = ZERO
    for v in values:
        one = add_one(one, v)
    shuffled = np.random.default_rng(seed).permutation(values).tolist()
    cut = len(values) // 2
    many = add_many(add_many(ZERO, shuffled[:cut]), shuffled[cut:])
    assert one == many
    assert sum(map(Fraction, one), Fraction(0)) == sum(map(Fraction, values), Fraction(0))


def history(controller, rng, names, sizes):
    """A few batches before the one that is checked."""
    for _ in range(3):
        n = int(rng.integers(1, 30))
        controller.step(rng.random(n), sensitive_features={a: rng.integers(0, k, n) for a, k in zip(names, sizes, strict=True)})


@settings(max_examples=150)
@given(
    seeds,
    st.lists(st.integers(2, 5), min_size=1, max_size=3),
    st.sampled_from([0.0, 0.05, 0.2]),
    st.sampled_from([0.02, 0.25, 5.0]),
    st.one_of(st.just(1), st.integers(1, 40)),
)
def test_a_pooled_step_is_the_optimum_of_its_potential(seed, sizes, eps, kappa, n):
    """y = clip(z - slope of the potential at y): the optimality condition, evaluated by an independent projection."""
    rng = np.random.default_rng(seed)
    names = [f"a{k}" for k in range(len(sizes))]
    controller = PooledParity([parity(a, tolerance=eps) for a in names], bounds=(0, 1), kappa=kappa, predict=False)
    history(controller, rng, names, sizes)
    before = [(list(c.counts), list(c.heads), dict(c.index)) for c in controller._components.values()]
    z = rng.random(n)
    codes = [rng.integers(0, k, n) for k in sizes]
    y = controller.step(z, sensitive_features=dict(zip(names, codes, strict=True))).scores
    pull = np.zeros(n)
    for (counts, heads, index), code, size in zip(before, codes, sizes, strict=True):
        count, total = np.zeros(size), np.zeros(size)
        for g, k in index.items():
            assert isinstance(g, int)
            count[g], total[g] = counts[k], heads[k]
        count += np.bincount(code, minlength=size)
        total += np.bincount(code, weights=y, minlength=size)
        N = count.sum()
        gain = kappa * np.sqrt(N)
        metric = 4 * gain * count if len(sizes) > 1 else np.full(size, 2 * N * gain)
        present = count > 0
        r = np.zeros(size)
        r[present] = nearest_in_range(total[present] / count[present], metric[present], eps)
        pull += (metric * r / np.maximum(count, 1))[code]
    assert np.abs(y - np.clip(z - pull, 0, 1)).max() <= 1e-8


@given(seeds, st.sampled_from([0.0, 0.05]), st.sampled_from([0.02, 0.25, 5.0]))
def test_one_score_of_two_groups_is_the_optimum_and_its_price_the_slope(seed, eps, kappa):
    """y = clip(z - p / N_g) with p = kappa N^1.5 (abs(D) - eps)_+ after the step: Theorem B's rule written out."""
    rng = np.random.default_rng(seed)
    controller = PooledParity(parity("g", tolerance=eps), bounds=(0, 1), kappa=kappa)
    counts, sums = np.zeros(2), np.zeros(2)
    for _ in range(60):
        g, z = int(rng.integers(0, 2)), float(np.clip(rng.normal(0.3, 0.3), 0, 1))
        step = controller.step(z, sensitive_features=g)
        counts[g] += 1
        sums[g] += step.scores
        if (counts == 0).any():
            assert step.scores == z
            continue
        d = sums[0] / counts[0] - sums[1] / counts[1]
        price = kappa * counts.sum() ** 1.5 * max(abs(d) - eps, 0.0)
        sign = np.sign(d) * (1 if g == 0 else -1)
        assert step.scores == pytest.approx(np.clip(z - sign * price / counts[g], 0, 1), abs=1e-8)
        assert step.prices["DemographicParity(g)"] == pytest.approx(price, rel=1e-7, abs=1e-7)


@settings(max_examples=60)
@given(seeds, st.integers(2, 5), st.integers(1, 40), st.floats(0.0, 1.5))
def test_the_papers_step_agrees_with_the_general_solver(seed, k, n, price):
    rng = np.random.default_rng(seed)
    z, codes = rng.random(n), rng.integers(0, k, n)
    controller = PrimalDual(parity("g", tolerance=0.05), bounds=(0, 1))
    controller.price = price
    y = controller.step(z, sensitive_features=codes).scores
    notion = fo.DemographicParity("g", tolerance=0.0).budgeted(price * n / 2)
    expected = fo.project(torch.from_numpy(z), notion, sensitive_features={"g": codes}, bounds=(0, 1)).numpy()
    assert np.abs(y - expected).max() <= 1e-8


@settings(max_examples=40)
@given(seeds, st.integers(2, 5), st.integers(64, 90))
def test_a_large_batch_goes_through_the_hard_layer(seed, k, n):
    rng = np.random.default_rng(seed)
    z, codes = rng.random(n) ** 2, rng.integers(0, k, n)
    controller = PrimalDual(parity("g", tolerance=0.02), bounds=(0, 1), b_tau=64)
    y = controller.step(z, sensitive_features=codes).scores
    assert controller.price == 0.0
    assert controller.soft_steps == 0
    expected = fo.project(
        torch.from_numpy(z), fo.DemographicParity("g", tolerance=0.02), sensitive_features={"g": codes}, bounds=(0, 1)
    ).numpy()
    assert np.abs(y - expected).max() <= 1e-8


@settings(max_examples=20)
@given(seeds, st.integers(2, 30))
def test_the_papers_rule_with_two_attributes_takes_the_largest_gap(seed, n):
    rng = np.random.default_rng(seed)
    z = rng.random(n)
    features = {"sex": rng.integers(0, 2, n), "race": rng.integers(0, 3, n)}
    notion = fo.DemographicParity("sex", tolerance=0.05) & fo.DemographicParity("race", tolerance=0.05)
    controller = PrimalDual(notion, bounds=(0, 1))
    controller.price = 0.3
    y = controller.step(z, sensitive_features=features).scores

    def objective(v: np.ndarray) -> float:
        gaps = [0.0]
        for code in features.values():
            means = [v[code == g].mean() for g in np.unique(code)]
            gaps.append(max(means) - min(means))
        return ((v - z) ** 2).sum() + 0.3 * n * max(gaps)

    best = objective(y)
    for _ in range(200):  # no point near by, nor the raw or the constant scores, is better
        step = rng.normal(0, 10.0 ** rng.uniform(-6, -1), n)
        assert objective(np.clip(y + step, 0, 1)) >= best - 1e-10
    assert objective(z) >= best - 1e-10
    assert objective(np.full(n, z.mean())) >= best - 1e-10


@settings(max_examples=80)
@given(seeds, st.lists(st.integers(2, 4), min_size=1, max_size=3), st.sampled_from([0.0, 0.05]), st.sampled_from([1, 7]))
def test_cumulative_never_leaves_the_tolerance(seed, sizes, eps, batch):
    rng = np.random.default_rng(seed)
    names = [f"a{k}" for k in range(len(sizes))]
    controller = Cumulative([parity(a, tolerance=eps) for a in names], bounds=(0, 1))
    n = 200
    codes = [rng.choice(k, n, p=rng.dirichlet(np.full(k, 0.5))) for k in sizes]
    z = np.where(rng.random(n) < 0.7, codes[0] / max(1, sizes[0] - 1), rng.random(n))
    for start in range(0, n, batch):
        part = slice(start, start + batch)
        step = controller.step(z[part], sensitive_features={a: c[part] for a, c in zip(names, codes, strict=True)})
        for gap in step.pooled_gaps.values():
            assert gap is None or gap <= eps + 1e-12


def test_cumulative_sends_what_is_fair_already_unchanged():
    controller = Cumulative(parity("g", tolerance=0.05), bounds=(0, 1))
    for z, g in [(0.5, "a"), (0.52, "b"), (0.47, "b")]:
        assert controller.step(z, sensitive_features=g).scores == z


def test_group_mean_bounds_hold_by_the_hard_rule():
    controller = Cumulative(anchored("g", lower=0.4, upper=0.6), bounds=(0, 1))
    rng = np.random.default_rng(0)
    for _ in range(50):
        controller.step(rng.random(5) ** 3, sensitive_features=rng.integers(0, 3, 5))
        c = next(iter(controller._components.values()))
        assert all(0.4 - 1e-12 <= m <= 0.6 + 1e-12 for m in c.means())
