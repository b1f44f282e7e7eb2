"""The compiled passes of class probabilities, against the maps in numpy and derivatives by differences."""

from __future__ import annotations

from contextlib import nullcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.solve.passes import simplex_kernels as kernels
from fairopt.solve.road import closed
from fairopt.solve.simplex import dual as duals
from fairopt.solve.simplex.maps import nearest, softmax, support

NONE = np.zeros(0)
drawn = given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans(), st.sampled_from([0.1, 3.0, 500.0, 2000.0]))


def problem(seed: int, weighted: bool, size: float) -> tuple[Any, ...]:
    """z (n, C) with zeros and 1e-300, codes (n,), the samples in their order and where each begins in it, shifts (J, C), 1 / w, and the
    shift of each sample."""
    rng = np.random.default_rng(seed)
    n, C, J = int(rng.choice([rng.integers(1, 12), rng.integers(100, 400)])), int(rng.integers(1, 7)), 3
    z = rng.dirichlet(np.ones(C) * 0.3, n) + 1e-300
    z[rng.random(z.shape) < 0.2] = 0.0
    z[z.sum(1) == 0.0, 0] = 1.0
    z = z / z.sum(1, keepdims=True)
    code, shift = rng.integers(0, J, n), rng.normal(size=(J, C)) * size
    inverse = rng.uniform(0.3, 3.0, n) if weighted else NONE
    order, bounds = np.argsort(code, kind="stable"), np.searchsorted(np.sort(code), np.arange(J + 1))
    return z, code, order, bounds, shift, inverse, shift[code] * (inverse[:, None] if weighted else 1.0)


def mapped(kl: bool, z: Any, s: Any) -> Any:
    return softmax(z, s) if kl else nearest(z - s)


@drawn
@settings(max_examples=60, deadline=None)
def test_map_sums_and_blocks_are_those_of_the_samples(seed: int, kl: bool, weighted: bool, size: float) -> None:
    z, code, order, bounds, shift, inverse, s = problem(seed, weighted, size)
    y, whole = np.empty_like(z), mapped(kl, z, s)
    kernels.simplex_map(kl, z, order, bounds, shift, inverse, y)
    assert np.abs(y - whole).max() <= 1e-14 * max(1.0, size)
    C, within = z.shape[1], support(z - s)
    sums, blocks = np.zeros((3, C)), np.zeros((3, C, C))
    kernels.simplex_sums(kl, z, order, bounds, shift, inverse, sums, blocks)
    for j in range(3):
        assert np.abs(sums[j] - y[code == j].sum(0)).max() <= 1e-13
        H = np.zeros((C, C))
        for i in np.flatnonzero(code == j):
            F = within[i]
            own = np.diag(y[i]) - np.outer(y[i], y[i]) if kl else np.diag(F) - np.outer(F, F) / F.sum()
            H += own * (inverse[i] if weighted else 1.0)
        assert np.abs(blocks[j] - H).max() <= 1e-13


@drawn
@settings(max_examples=60, deadline=None)
def test_products_are_derivatives(seed: int, kl: bool, weighted: bool, size: float) -> None:
    z, code, order, bounds, shift, inverse, _ = problem(seed, weighted, min(size, 3.0))
    z = (z + 1e-3) / (z + 1e-3).sum(1, keepdims=True)
    rng = np.random.default_rng([seed, 1])
    v, dz, ds, h = (rng.normal(size=z.shape), rng.normal(size=z.shape), rng.normal(size=shift.shape), 1e-7)

    def y(z: Any, shift: Any) -> Any:
        out = np.empty_like(z)
        kernels.simplex_map(kl, z, order, bounds, shift, inverse, out)
        return out

    by_shift = (y(z, shift + h * ds) - y(z, shift - h * ds)) / (2 * h)
    by_scores = (y(z + h * dz, shift) - y(z - h * dz, shift)) / (2 * h)
    sums, out = np.zeros(shift.shape), np.empty_like(z)
    kernels.simplex_pull(kl, z, order, bounds, shift, inverse, v, sums)
    kernels.simplex_back(kl, z, order, bounds, shift, inverse, v, np.zeros(shift.shape), out)
    kinks = not kl and (np.abs((y(z, shift + 1e-5 * ds) > 0.0) ^ (y(z, shift - 1e-5 * ds) > 0.0)).any() or (y(z, shift) < 1e-5).any())
    if not kinks:
        assert abs(float((v * by_shift).sum() + (sums * ds).sum())) <= 1e-4 * z.size
        assert abs(float((v * by_scores).sum() - (out * dz).sum())) <= 1e-4 * np.abs(out).max() * z.size + 1e-5
    pulled = np.empty_like(z)
    kernels.simplex_back(kl, z, order, bounds, shift, inverse, v, ds, pulled)
    kernels.simplex_back(kl, z, order, bounds, shift, inverse, v - ds[code], np.zeros(shift.shape), out)
    assert np.abs(pulled - out).max() <= 1e-12 * max(1.0, np.abs(out).max())


@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
@settings(max_examples=50)
def test_what_rows_lack_is_exact(seed: int, C: int) -> None:
    y = np.random.default_rng(seed).dirichlet(np.ones(C) * 0.2, 4)
    out = np.empty(4)
    kernels.lacks(y, out)
    for row, left in zip(y, out, strict=True):
        exact = Fraction(1) - sum((Fraction(float(x)) for x in row), Fraction(0))
        assert abs(Fraction(float(left)) - exact) <= abs(exact) / 2**52 + Fraction(1, 2**100)


@pytest.mark.parametrize("distance", ["squared", "kl"])
def test_numpy_and_compiled_agree_to_rounding(distance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    z = torch.softmax(torch.randn(200, 4, dtype=torch.float64, generator=draw) * 2, 1)
    g, w = torch.arange(200) % 3, torch.rand(200, dtype=torch.float64, generator=draw) + 0.5
    v = torch.randn(200, 4, dtype=torch.float64, generator=draw)
    for weights in (None, w):
        prepared: Any = fo.compile(
            fo.DemographicParity("g", tolerance=0.01), sensitive_features=g, outputs="simplex", distance=distance, weights=weights
        )
        found = []
        for passes, way in ((True, nullcontext()), (True, closed()), (False, closed())):  # the compiled road; passes alone; neither
            if not passes:
                monkeypatch.setattr(duals, "compiled", lambda: False)
            x = z.clone().requires_grad_(True)
            with way:
                solution = prepared.project(x, return_solution=True)
            assert solution.status is fo.Status.CERTIFIED
            (gradient,) = torch.autograd.grad(solution.scores, x, v)
            found.append((solution.scores.detach(), gradient))
        monkeypatch.undo()
        for other in found[:2]:
            assert torch.allclose(other[0], found[2][0], rtol=0, atol=1e-12)
            assert torch.allclose(other[1], found[2][1], rtol=1e-8, atol=1e-9)
