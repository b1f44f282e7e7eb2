"""Claim Q2: decisions whose sums differ from the probabilities' by less than 1 in every group, each with its own probability."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.layer.decisions import decide

seeds = st.integers(0, 2**32 - 1)


def probabilities(rng, n):
    kind = rng.integers(0, 4)
    p = [rng.random(n), rng.choice([0.0, 1.0, 0.5], n), rng.random(n) * 1e-6, np.round(rng.random(n), 1)][kind]
    return np.asarray(p)


@given(seeds, st.integers(1, 200), st.integers(1, 5))
def test_every_group_and_every_prefix_is_off_by_less_than_one(seed, n, k):
    rng = np.random.default_rng(seed)
    p, g = probabilities(rng, n), rng.integers(0, k, n)
    d = decide(p, sensitive_features={"g": g}, generator=rng)
    assert set(np.unique(d)) <= {0, 1}
    assert (d[p == 0] == 0).all()
    assert (d[p == 1] == 1).all()
    for v in np.unique(g):
        off = np.cumsum(d[g == v]) - np.cumsum(p[g == v])
        assert np.abs(off).max() < 1 + 1e-9


@given(seeds, st.integers(1, 120), st.integers(1, 5), st.integers(1, 5))
def test_two_attributes_keep_every_group_of_both(seed, n, a, b):
    rng = np.random.default_rng(seed)
    p, first, second = probabilities(rng, n), rng.integers(0, a, n), rng.integers(0, b, n)
    d = decide(p, sensitive_features={"a": first, "b": second}, generator=rng)
    for codes in (first, second, first * b + second):
        for v in np.unique(codes):
            assert abs(d[codes == v].sum() - p[codes == v].sum()) < 1 + 1e-9
    assert (d[p == 0] == 0).all()
    assert (d[p == 1] == 1).all()


@given(seeds)
def test_a_whole_sum_is_met_exactly(seed):
    rng = np.random.default_rng(seed)
    p = rng.choice([0.25, 0.5, 0.75], 40)
    p[:4] = 1.0 - (p[4:].sum() % 1.0) / 4 if p[4:].sum() % 1.0 else 0.25
    if p.sum() != round(p.sum()):
        return
    assert decide(p, sensitive_features=np.zeros(40, dtype=int), generator=rng).sum() == p.sum()


@pytest.mark.parametrize("attributes", [1, 2])
def test_each_sample_keeps_its_own_probability(attributes):
    rng = np.random.default_rng(0)
    n, draws = 12, 20_000
    p = np.array([0.0, 0.05, 0.2, 0.5, 0.7, 0.95, 1.0, 0.3, 0.33, 0.6, 0.11, 0.9])
    features = {"a": np.arange(n) % 2, "b": np.arange(n) % 3 // 1}
    features = dict(list(features.items())[:attributes])
    mean = sum(decide(p, sensitive_features=features, generator=rng) for _ in range(draws)) / draws
    assert np.abs(mean - p).max() < 5 * np.sqrt(0.25 / draws)


def test_tensors_and_generators():
    p = torch.rand(50, 1, dtype=torch.float32)
    one, two = (decide(p, sensitive_features=["a", "b"] * 25, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert one.dtype == torch.int64
    assert one.shape == (50, 1)
    assert torch.equal(one, two)


def test_bad_input():
    rng = np.random.default_rng(0)
    for p, features, words in (
        ([1.5], ["a"], r"\[0, 1\]"),
        ([float("nan")], ["a"], "NaN"),
        ([0.5], ["a", "b"], "2 values for 1"),
        ([0.5], {}, "no attribute"),
        ([0.5, 0.5], ["a", None], "missing value"),
        ([0.5, 0.5], ["a", 1], "mixes"),
        ([0.5, 0.5], [float("nan"), 1.0], "missing value"),
    ):
        with pytest.raises(fo.InputError, match=words):
            decide(p, sensitive_features=features, generator=rng)
    with pytest.raises(fo.InputError, match="generator"):
        decide([0.5], sensitive_features=["a"], generator=3)  # type: ignore[arg-type]
    with pytest.raises(fo.UnsupportedError, match="3 attributes"):
        decide([0.5], sensitive_features={"a": [1], "b": [1], "c": [1]}, generator=rng)


@settings(max_examples=20)
@given(seeds)
def test_decision_gap_is_at_most_the_probability_gap_plus_one_over_n(seed):
    rng = np.random.default_rng(seed)
    g = rng.integers(0, 2, 80)
    g[:2] = [0, 1]
    y = fo.project(torch.from_numpy(rng.random(80)), fo.DemographicParity("g", tolerance=0.02), sensitive_features={"g": g}, bounds=(0, 1))
    d = decide(y, sensitive_features={"g": g}, generator=rng).numpy()
    gap = abs(d[g == 0].mean() - d[g == 1].mean())
    assert gap < 0.02 + 1 / (g == 0).sum() + 1 / (g == 1).sum() + 1e-9
