"""Both implementations of the passes against sums of fractions, sample by sample."""

from __future__ import annotations

import importlib
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fairopt.basics.exact_sums import exact_cell_sums
from fairopt.contract.problem import Distance
from fairopt.solve.front import solve
from fairopt.solve.kin import plan_of
from fairopt.solve.passes import jit, kernels
from fairopt.solve.passes.compiled_passes import CompiledPasses
from fairopt.solve.passes.interface import Passes, Samples
from fairopt.solve.passes.torch_passes import TorchPasses
from fairopt.solve.road import ROADS, closed
from fairopt.testing.draws import wild
from tests.unit.class_draws import class_draws
from tests.unit.kl_draws import kl_draws

BOXES = ("none", "one", "one side", "ties", "samples")
IMPLEMENTATIONS: dict[str, Any] = {"torch": TorchPasses, "compiled": CompiledPasses}
both = pytest.mark.parametrize("make", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)


def drawn(seed: int, dtype: torch.dtype, box: str, weights: bool) -> tuple[Tensor, Samples, np.ndarray]:
    """Scores of any length, their cells (some empty), box and weights, and shifts."""
    rng = np.random.default_rng(seed)
    n, cells = int(rng.integers(1, 70)), int(rng.integers(1, 6))
    z = torch.tensor(rng.normal(0.4, 0.5, n), dtype=dtype)
    shift = rng.normal(0.0, 0.1, cells)
    lb: float | Tensor = -np.inf if box == "none" else 0.0
    ub: float | Tensor = 0.7 if box in ("one", "ties") else np.inf
    if box == "ties":
        z, shift = torch.round(4 * z) / 4, np.zeros(cells)
    if box == "samples":
        lb = torch.from_numpy(rng.normal(0.0, 0.3, n))
        ub = lb + torch.from_numpy(rng.uniform(0.0, 1.0, n))
    w = torch.from_numpy(rng.uniform(0.2, 5.0, n)) if weights else None
    return z, Samples(torch.from_numpy(rng.integers(0, cells, n)), cells, lb, ub, w), shift


def by_hand(z: Tensor, samples: Samples, shift: np.ndarray) -> tuple[list[float], list[bool], list[float]]:
    """Each score, whether it is free, and its 1 / w."""
    out: tuple[Any, Any, Any] = ([], [], [])
    for i, (score, c) in enumerate(zip(z.tolist(), samples.cell.tolist(), strict=True)):
        low, high = (float(b[i]) if isinstance(b, Tensor) else b for b in (samples.lb, samples.ub))
        mass = 1.0 if samples.weights is None else 1.0 / float(samples.weights[i])
        v = score - float(shift[c]) * mass
        for part, value in zip(out, (min(max(v, low), high), low < v < high, mass), strict=True):
            part.append(value)
    return out


def in_cells(values: Any, samples: Samples) -> np.ndarray:
    total = [Fraction(0)] * samples.cells
    for value, c in zip(values, samples.cell.tolist(), strict=True):
        total[c] += Fraction(float(value))
    return np.array([float(t) for t in total])


CASES = [(seed, box, weights) for seed in range(6) for box in BOXES for weights in (False, True)]


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed, box, weights", CASES)
def test_every_pass(make: Any, dtype: torch.dtype, seed: int, box: str, weights: bool) -> None:
    z, samples, shift = drawn(seed, dtype, box, weights)
    passes: Passes = make(z, samples)
    y, free, mass = by_hand(z, samples, shift)
    assert passes.extent() == (float(z.min()), float(z.max()))
    sums, slopes = passes.sums(shift)
    assert np.allclose(sums, in_cells(y, samples), rtol=0, atol=1e-13)
    assert np.allclose(slopes, in_cells([f * m for f, m in zip(free, mass, strict=True)], samples), rtol=1e-14, atol=1e-14)
    scores, rounded, again = passes.scores(shift)
    assert scores.dtype == dtype
    assert np.allclose(scores.double().numpy(), y, rtol=0, atol=1e-7 if dtype == torch.float32 else 1e-15)
    assert bool(((scores >= samples.lb) & (scores <= samples.ub)).all())
    assert np.allclose(rounded, in_cells(scores.double().tolist(), samples), rtol=0, atol=1e-13)
    assert np.allclose(again, slopes, rtol=1e-14)
    v = torch.from_numpy(np.random.default_rng(seed).normal(size=z.shape[0])).to(dtype)
    part = [a * f * m for a, f, m in zip(v.tolist(), free, mass, strict=True)]
    assert np.allclose(passes.gradient_sums(v), in_cells(part, samples), rtol=0, atol=1e-12)
    plain = [a * f for a, f in zip(v.tolist(), free, strict=True)]
    assert np.allclose(passes.gradient_sums(v, weighted=False), in_cells(plain, samples), rtol=0, atol=1e-13)
    for weighted in (False, True):
        far = [float(shift[c]) * (m if weighted else 1.0) for c, m in zip(samples.cell.tolist(), mass, strict=True)]
        expected = [(a - s) if f else 0.0 for a, s, f in zip(v.tolist(), far, free, strict=True)]
        found = passes.spread(v, shift, weighted=weighted).double().numpy()
        assert np.allclose(found, expected, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-14)
    assert passes.exact_sums(scores) == exact_cell_sums(scores.double().numpy(), samples.cell.numpy(), samples.cells)


@both
def test_exact_sums_of_far_apart_numbers(make: Any) -> None:
    y = torch.tensor([1e300, 5e-324, -1e300, 2.0**-1074 * 3, 0.0, -0.0, 1.0, 2.0**-60], dtype=torch.float64)
    samples = Samples(torch.tensor([0, 0, 0, 1, 1, 1, 2, 2]), 3, -np.inf, np.inf, None)
    expected = [Fraction(5e-324), 3 * Fraction(5e-324), 1 + Fraction(1, 2**60)]
    assert make(y, samples).exact_sums(y) == expected


@both
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_extent_tells_what_is_not_finite(make: Any, bad: float, dtype: torch.dtype) -> None:
    z = torch.tensor([0.5, bad, -2.0], dtype=dtype)
    low, high = make(z, Samples(torch.zeros(3, dtype=torch.int64), 1, -np.inf, np.inf, None)).extent()
    assert not (low > -np.inf and high < np.inf)


def test_what_is_kept_on_disk_is_stamped_with_every_file() -> None:
    cache = getattr(kernels.clipped, "_cache", None)
    if cache is None:
        pytest.skip("numba is not installed, or keeps nothing here")
    assert len(cache._cache_file._source_stamp) == len(jit.FILES)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``project`` and all that it calls as plain Python, as they are without numba."""
    for road in ROADS:
        importlib.import_module(f"fairopt.solve.{road}")  # what is first imported below would stay plain afterwards
    monkeypatch.setattr(jit, "module", lambda: None)
    monkeypatch.setattr(jit, "vector", lambda data, size: data)
    parent = importlib.import_module("fairopt.solve.passes")
    names = [file.removesuffix(".py") for file in jit.FILES]  # in the order in which they import each other
    for name in names:
        monkeypatch.delitem(sys.modules, f"fairopt.solve.passes.{name}", raising=False)
    for name in names:
        monkeypatch.setattr(parent, name, importlib.import_module(f"fairopt.solve.passes.{name}"), raising=False)
    return sys.modules["fairopt.solve.passes.project"]


@pytest.fixture
def plain_roads(plain: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The roads of the divergences and of class probabilities, in plain Python."""
    roads = {}
    for road in ("entropy.fast", "simplex.fast"):
        name = f"fairopt.solve.{road}"
        parent = importlib.import_module(name.rpartition(".")[0])
        monkeypatch.setattr(parent, "fast", parent.fast)  # put back afterwards, as the import below changes it
        monkeypatch.delitem(sys.modules, name)
        roads[road] = importlib.import_module(name)
    return roads


@pytest.mark.parametrize("distance", ["kl", "kl_positive"])
def test_divergences_stay_inside_their_arrays(plain_roads: dict[str, Any], distance: Distance) -> None:
    """What numba compiles asks no array whether it has an entry; Python does. The answers are those of the general road."""
    taken = 0
    for draw in kl_draws(60, 3, distance=distance, max_n=40):
        found = plain_roads["entropy.fast"].attempt(draw.scores.requires_grad_(), draw.problem)
        if found is None:
            continue
        found[0].backward(torch.ones_like(found[0]))
        with closed():  # opened for the first time here, the compiled road would find no numba and stay closed
            general = solve(draw.scores.detach(), draw.problem)
        assert torch.allclose(found[0].detach(), general.scores, rtol=1e-9, atol=1e-12), draw
        taken += 1
    assert taken > 4


@pytest.mark.parametrize("distance", ["kl", "squared"])
def test_class_probabilities_stay_inside_their_arrays(plain_roads: dict[str, Any], distance: Distance) -> None:
    taken = 0
    for draw in class_draws(12, 3, distance, max_n=30, most=4):
        z = draw.z.clone().requires_grad_()
        found = plain_roads["simplex.fast"].attempt(z, draw.prepared.problem_for(z.shape[1]), kl=distance == "kl")
        if found is None:
            continue
        found[0].square().sum().backward()
        with closed():
            general = draw.prepared.project(draw.z, return_solution=True)
        assert torch.allclose(found[0].detach(), general.scores, rtol=1e-9, atol=1e-12), draw.words
        taken += 1
    assert taken > 4


def test_one_mathematics(plain: Any) -> None:
    """What numba compiles, run by Python: the same answer, and the general road's."""
    stages: Any = sys.modules["fairopt.solve.passes.stages"]
    compared = 0
    for draw in wild(60, 8, max_n=40):
        plan, z = plan_of(draw.problem), draw.scores.numpy()
        if plan is None:
            continue
        y, ends, answer = np.empty_like(z), np.zeros(2), np.zeros(plan.size)
        code = np.empty(z.shape[0], dtype=np.uint16) if plan.coded else plan.cell
        with np.errstate(all="ignore"):
            done = plain.project(
                0, z, z.view(np.int64), ends, ends.view(np.int64), plan.cell, plan.whole, plan.real, plan.lb, plan.ub, plan.inverse,
                plan.part, y, code, answer,
            )  # fmt: skip
        if not done:
            continue
        with closed():
            general = solve(draw.scores, draw.problem)
        assert np.allclose(y, general.scores.numpy(), rtol=0, atol=1e-9 * float(draw.scores.abs().max())), draw
        v, out = np.random.default_rng(0).normal(size=z.shape[0]), np.empty_like(z)
        assert plain.differentiate(0, v, code, plan.whole, plan.real, plan.inverse, answer, out, False)
        again = np.empty_like(z)
        assert plain.differentiate(0, out, code, plan.whole, plan.real, plan.inverse, answer, again, False)
        if draw.problem.all_hard:
            assert np.allclose(out, again, atol=1e-9 * np.abs(v).max())  # a projector (claim L4)
        assert answer[stages.RESIDUE] <= answer[stages.BOUND]
        compared += 1
    assert compared > 15
