"""Relative arithmetic: a stream scaled by a power of two is answered by the same bits, scaled; every sent score lies in its box."""

from __future__ import annotations

from collections.abc import Callable
from math import ldexp

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairopt.streaming import AllTime, Controller, Cumulative, Forget, PooledParity, PrimalDual, Sliding, anchored, parity

seeds = st.integers(0, 2**32 - 1)
Floats = npt.NDArray[np.float64]
BOXES = [(0.0, 0.3), (0.0, 1e-9), (-1e6, 1e6), (1e15, 1e15 + 4), (-(1e15) - 4, -1e15), (0.0, 1e-300), (-1e300, 1e300), (-0.1, 7.3),
         (0.7, 1.1), (5e-324, 1e-320), (0.0, 1.7e308), (1.0, 1.0 + 2.0**-50)]  # fmt: skip


def pooled(lb: float, ub: float, t: float) -> Controller:
    return PooledParity(parity("g", tolerance=t), bounds=(lb, ub))


MAKERS: dict[str, Callable[[float, float, float], Controller]] = {
    "pooled": pooled,
    "two": lambda lb, ub, t: PooledParity([parity("g", tolerance=t), parity("h", tolerance=t)], bounds=(lb, ub)),
    "sliding": lambda lb, ub, t: PooledParity(parity("g", tolerance=t), bounds=(lb, ub), window=Sliding(9)),
    "forget": lambda lb, ub, t: PooledParity([parity("g", tolerance=t), parity("h", tolerance=t)], bounds=(lb, ub), window=Forget(7)),
    "limits": lambda lb, ub, t: PooledParity(anchored("g", lower=lb + (ub - lb) / 4, upper=lb + (ub - lb) / 4 + t), bounds=(lb, ub)),
    "residual": lambda lb, ub, t: PooledParity(anchored("g", lower=-t, upper=t, residual=True), bounds=(lb, ub)),
    "cumulative": lambda lb, ub, t: Cumulative(parity("g", tolerance=t), bounds=(lb, ub)),
    "cumulative, two": lambda lb, ub, t: Cumulative([parity("g", tolerance=t), parity("h", tolerance=t)], bounds=(lb, ub)),
    "paper": lambda lb, ub, t: PrimalDual(parity("g", tolerance=t), bounds=(lb, ub), b_tau=5),
}


def stream(controller: Controller, z: Floats, targets: Floats, seed: int) -> list[float]:
    """Everything that is told: scores, gaps, prices, bounds; batches of 1, 1, 2, 3, ..."""
    rng = np.random.default_rng(seed)
    told: list[float] = []
    at = 0
    while at < len(z):
        n = int(rng.choice([1, 1, 2, 6]))
        part = slice(at, at + n)
        k = len(z[part])
        features = {name: rng.integers(0, 2 + (at > 20), k) for name in controller.columns}
        extra = {"targets": targets[part]} if controller.plan.needs_targets else {}
        scores = z[part] if k > 1 or at % 2 else float(z[at])
        step = controller.step(scores, sensitive_features=features, **extra)
        sent = np.atleast_1d(np.asarray(step.scores, dtype=np.float64))
        assert ((sent >= controller.lb) & (sent <= controller.ub)).all()
        told += sent.tolist() + [x for x in (*step.pooled_gaps.values(), *step.prices.values()) if x is not None]
        told += [b for b in controller.report().bounds.values() if b is not None]
        at += n
    return told


@settings(max_examples=80, deadline=None)
@given(seeds, st.sampled_from(sorted(MAKERS)), st.one_of(st.integers(-60, 60), st.integers(-900, 900)), st.sampled_from([0.0, 0.0625, 0.5]))
def test_a_scaled_stream_gives_the_scaled_answers_bit_by_bit(seed: int, name: str, k: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    lb, ub = [(0.0, 1.0), (-0.75, 2.5), (3.0, 3.0 + 2.0**-20)][seed % 3]
    z = lb + (ub - lb) * (rng.random(40) * 1.4 - 0.2)
    targets = lb + (ub - lb) * rng.random(40)
    plain = stream(MAKERS[name](lb, ub, share * (ub - lb)), z, targets, seed)
    scaled = stream(MAKERS[name](ldexp(lb, k), ldexp(ub, k), ldexp(share * (ub - lb), k)), np.ldexp(z, k), np.ldexp(targets, k), seed)
    assert scaled == [ldexp(x, k) for x in plain]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_every_box_is_kept_exactly_and_the_bound_holds(name: str, box: tuple[float, float]) -> None:
    lb, ub = box
    for t in (0.0, 0.1 * (ub - lb)):
        controller = MAKERS[name](lb, ub, t)
        rng = np.random.default_rng(7)
        z = np.clip(lb + (ub - lb) * rng.random(300), lb, ub)
        z[rng.random(300) < 0.3] = ub
        stream(controller, z, z[::-1].copy(), 5)
        report = controller.report()
        assert all(b is None or (report.pooled_gaps[k] or 0.0) <= b for k, b in report.bounds.items())


@pytest.mark.parametrize("make", [pooled, MAKERS["cumulative"], MAKERS["cumulative, two"], MAKERS["paper"]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, np.float32, np.float16])
def test_coarse_dtypes_stay_inside_and_below_the_bound(make: Callable[[float, float, float], Controller], dtype: object) -> None:
    controller = make(0.1, 0.7, 0.01)
    rng = np.random.default_rng(1)
    for _ in range(400):
        n = int(rng.choice([1, 3, 8]))
        z = rng.random(n)
        scores = torch.from_numpy(z).to(dtype) if isinstance(dtype, torch.dtype) else z.astype(dtype)  # type: ignore[call-overload]
        step = controller.step(scores, sensitive_features={c: rng.integers(0, 2, n) for c in controller.columns})
        sent = np.asarray(step.scores.double() if isinstance(step.scores, torch.Tensor) else step.scores, dtype=np.float64)
        assert ((sent >= 0.1) & (sent <= 0.7)).all()
        report = controller.report()
        assert all(b is None or (report.pooled_gaps[k] or 0.0) <= b for k, b in report.bounds.items())


@settings(max_examples=15, deadline=None)
@given(seeds, st.sampled_from([(0.0, 0.3), (-1e6, 1e6), (0.0, 1e-9), (1e15, 1e15 + 4)]), st.integers(2, 4), st.sampled_from([0.0, 0.1]))
def test_cumulative_is_feasible_and_inside_in_every_box(seed: int, box: tuple[float, float], k: int, share: float) -> None:
    """Two attributes of k groups with very different sizes, scores at the ends: the hard limit at every moment, and never infeasible."""
    lb, ub = box
    rng = np.random.default_rng(seed)
    controller = Cumulative(
        [parity(c, tolerance=share * (ub - lb)) for c in "gh"], bounds=box, window=Forget(30) if seed % 2 else AllTime()
    )
    weights = rng.dirichlet(np.full(k, 0.3))
    for _ in range(400):
        z = float(rng.choice([lb, ub, lb + (ub - lb) * rng.random()]))
        step = controller.step(min(max(z, lb), ub), sensitive_features={c: int(rng.choice(k, p=weights)) for c in "gh"})
        assert lb <= step.scores <= ub
        bounds = controller.report().bounds
        grain = np.spacing(max(abs(lb), abs(ub)))
        assert all(b is None or b <= share * (ub - lb) + 200 * grain for b in bounds.values())
        assert all(gap is None or gap <= (bounds[label] or 0.0) for label, gap in step.pooled_gaps.items())


# -- fading -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half_life", [0.5, 10.0, 1000.0])
@pytest.mark.parametrize("kappa", [0.25, 20.0])
def test_a_mean_does_not_move_while_its_group_is_absent(half_life: float, kappa: float) -> None:
    """200 half-lives past the end of the floats: the gap is that of the means as they stood, and the proved bound holds."""
    controller = PooledParity(parity("g", tolerance=0.05), bounds=(0, 1), window=Forget(half_life), kappa=kappa)
    controller.step([0.3] * 5 + [0.34] * 5, sensitive_features=["a"] * 5 + ["b"] * 5)
    mean = controller._components[0, ()].mean(0)
    size = max(1, int(half_life))
    for _ in range(1300 * max(1, int(half_life)) // size):
        step = controller.step([0.32] * size, sensitive_features=["b"] * size)
        report = controller.report()
        assert report.bound is not None
        assert report.pooled_gap is not None
        assert report.pooled_gap <= report.bound
    assert controller._components[0, ()].mean(0) == mean
    assert step.scores == pytest.approx([0.32] * size, abs=1e-12)
    assert report.pooled_gap == pytest.approx(0.02, abs=1e-9)


def test_weights_that_fade_together_keep_their_ratio() -> None:
    controller = PooledParity(parity("g", tolerance=0.5), bounds=(0, 1), window=Forget(3))
    controller.step([0.5] * 8, sensitive_features=["a"] * 6 + ["b"] * 2)
    for _ in range(5000):
        controller.step(0.5, sensitive_features="c")
    row = controller.state_dict()["components"][0]
    assert row["weights"][:2] == [6.0, 2.0]
    assert row["times"][0] == row["times"][1]
    step = controller.step([0.25, 0.75], sensitive_features=["a", "b"])  # what comes now is all that counts
    assert controller._components[0, ()].means()[:2] == [0.25, 0.75]
    assert step.pooled_gaps["DemographicParity(g)"] == 0.5


@settings(max_examples=12, deadline=None)
@given(seeds, st.sampled_from([1.0, 20.0, 1000.0]), st.sampled_from([0.0, 0.05]), st.sampled_from([0.25, 5.0]), st.sampled_from([2, 3]))
def test_the_bound_under_forgetting_is_never_exceeded(seed: int, half_life: float, eps: float, kappa: float, groups: int) -> None:
    """Runs of one group, up to thousands of samples long, scores against the other's mean: no slack beyond what the bound states."""
    rng = np.random.default_rng(seed)
    controller = PooledParity(parity("g", tolerance=eps), bounds=(0, 1), window=Forget(half_life), kappa=kappa)
    for _ in range(120):
        g, n = int(rng.integers(0, groups)), int(rng.choice([1, 3, 40, 400, 3000]))
        z = np.full(n, float(rng.choice([0.0, 1.0, g % 2, rng.random()])))
        step = controller.step(z if n > 1 else float(z[0]), sensitive_features=np.full(n, g) if n > 1 else g)
        report = controller.report()
        (gap,) = step.pooled_gaps.values()
        assert gap is None or (report.bound is not None and gap <= report.bound)


def test_a_late_target_weighs_what_its_sample_weighs_by_then() -> None:
    controller = PooledParity(anchored("g", lower=-1.0, upper=1.0, residual=True), bounds=(0, 1), window=Forget(4))
    weights: list[float] = []
    values: list[float] = []
    for k in range(60):
        y = controller.step(0.5, sensitive_features="a", key=k).scores
        weights = [w * 0.5**0.25 for w in weights] + [1.0]
        values.append(y - 0.5)
        if k >= 20:
            controller.observe(k - 20, 1.0)
            values[k - 20] -= 0.5
    mean = controller._components[0, ()].means()[0]
    assert mean == pytest.approx(float(np.dot(weights, values) / np.sum(weights)), rel=1e-9)
