"""Binned sums: the same bits in any order and in any parts, and nearer than a plain sum is sure to be."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairopt.basics.binned_sums import BITS, MOST, bins_for

sizes = st.floats(1e-250, 1e250) | st.sampled_from([1.0, 2.0, 0.5, 1.0 - 2.0**-53, 2.0**30, 1e-300])


def drawn(seed: int, n: int, size: float) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.0, 1.0, n) * np.exp(rng.uniform(np.log(1e-18), 0.0, n) * rng.integers(0, 2, n))
    x[rng.random(n) < 0.2] = rng.choice([1.0, -1.0])  # as large as may be
    return torch.from_numpy(x * size)


@given(st.integers(0, 10_000), st.integers(1, 300), sizes, st.integers(0, 40))
@settings(max_examples=200, deadline=None)
def test_the_same_bits_in_any_parts(seed: int, n: int, size: float, spare: int) -> None:
    x = drawn(seed, n, size)
    bins = bins_for(size, min(n << spare, MOST))
    parts = bins.cut(x)
    exact = [sum((Fraction(v) for v in part.tolist()), Fraction(0)) for part in parts]
    rng = np.random.default_rng(seed)
    shuffled = parts[:, torch.from_numpy(rng.permutation(n))]
    k = int(rng.integers(0, n + 1))
    in_two = shuffled[:, :k].sum(1) + shuffled[:, k:].sum(1)
    assert [Fraction(v) for v in in_two.tolist()] == exact  # no addition has rounded
    total = float(bins.total(in_two.numpy()))
    truth = sum((Fraction(v) for v in x.tolist()), Fraction(0))
    lost = Fraction(n) * Fraction(size) * Fraction(2) ** (1 - BITS) + Fraction(math.ulp(0.0)) * n
    assert abs(Fraction(total) - truth) <= lost + abs(truth) * Fraction(2) ** -52 + Fraction(size) * n * Fraction(2) ** -53


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 1023, 1024, 2**20, 2**26, 2**33, MOST])
def test_no_number_of_terms_rounds(count: int) -> None:
    """The largest multiples of the steps, ``count`` of them, still fit into 53 bits."""
    for size in (1.0, 0.7, 1.0 - 2.0**-53, 1e-3):
        bins = bins_for(size, count)
        x = torch.tensor([size, -size, size / 3], dtype=torch.float64)
        for part, anchor in zip(bins.cut(x), bins.anchors, strict=True):
            step = Fraction(anchor) / 3 * 2 / 2**52
            for value in part.tolist():
                assert (Fraction(value) / step).denominator == 1
                assert abs(Fraction(value) / step) * count <= 2**53
        assert abs(x - bins.cut(x).sum(0)).max() <= size * 2.0**-53


def test_few_parts_do_for_what_fits_on_a_machine() -> None:
    assert len(bins_for(1.0, 10**6)) == 2
    assert len(bins_for(1.0, 10**9)) == 3
    assert len(bins_for(0.0, 10)) >= 1
    assert bool((bins_for(0.0, 10).cut(torch.zeros(3, dtype=torch.float64)) == 0).all())


def test_too_many_terms() -> None:
    with pytest.raises(ValueError, match="count"):
        bins_for(1.0, MOST + 1)
