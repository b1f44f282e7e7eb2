"""Theorems B, C, D and claims S1-S4 on adversarial streams: every t, every batch size, from the first moment that both groups exist."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairopt.streaming import AllTime, Forget, PooledParity, PrimalDual, anchored, parity
from fairopt.testing.adversary import ARRIVALS, SCORES, SIZES, Structure, batches

SLACK = 1e-9


def structures(*attributes: int, largest: int = 2):
    groups = st.just(attributes) if attributes else st.integers(2, largest).map(lambda k: (k,))
    return st.builds(Structure, groups, st.integers(2, 400), st.sampled_from(ARRIVALS), st.sampled_from(SCORES), st.sampled_from(SIZES))


seeds = st.integers(0, 2**32 - 1)
kappas = st.sampled_from([0.05, 0.25, 1.0, 20.0])
tolerances = st.sampled_from([0.0, 0.05, 0.3])


def check_theorem_b(structure: Structure, seed: int, kappa: float, eps: float, half_life: float | None) -> float:
    window = AllTime() if half_life is None else Forget(half_life)
    controller = PooledParity(parity("g", tolerance=eps), bounds=(0, 1), kappa=kappa, window=window)
    counts = np.zeros(2)
    fading = window.fading
    worst = 0.0
    for z, (codes,) in batches(structure, seed):
        one = len(z) == 1 and seed % 2 == 0
        step = controller.step(float(z[0]) if one else z, sensitive_features=int(codes[0]) if one else codes)
        counts = counts * fading ** len(z) + np.bincount(codes, minlength=2)
        gap = step.pooled_gaps["DemographicParity(g)"]
        if gap is None:
            assert (counts == 0).any()
            continue
        total = counts.sum()
        bound = eps + counts.max() / total / (kappa * sqrt(total))
        assert gap <= bound + SLACK
        assert controller.report().bound == pytest.approx(bound, rel=1e-9)
        worst = max(worst, (gap - eps) / (bound - eps))
    return worst


@settings(max_examples=150, deadline=None)
@given(structures(2), seeds, kappas, tolerances, st.sampled_from([None, None, 5.0, 50.0]))
def test_theorem_b(structure, seed, kappa, eps, half_life):
    check_theorem_b(structure, seed, kappa, eps, half_life)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(structures(2), seeds, kappas, tolerances, st.sampled_from([None, None, 5.0, 50.0]))
def test_theorem_b_on_5000_streams(structure, seed, kappa, eps, half_life):
    check_theorem_b(structure, seed, kappa, eps, half_life)


def check_theorem_c(structure: Structure, seed: int, kappa: float, eps: float) -> None:
    controller = PooledParity(parity("g", tolerance=eps), bounds=(0, 1), kappa=kappa)
    groups = structure.attributes[0]
    counts, sums = np.zeros(groups), np.zeros(groups)
    previous = 0.0
    for z, (codes,) in batches(structure, seed):
        y = controller.step(z, sensitive_features=codes).scores
        counts += np.bincount(codes, minlength=groups)
        sums += np.bincount(codes, weights=y, minlength=groups)
        present = counts > 0
        k, total = int(present.sum()), counts.sum()
        if k < 2:
            continue
        means = sums[present] / counts[present]
        gap = means.max() - means.min()
        rule = eps + k / (2 * kappa * sqrt(total))
        assert gap <= max(rule, previous) + SLACK
        bound = controller.report().bound
        assert bound is not None
        assert gap <= bound + SLACK
        previous = gap


@settings(max_examples=100, deadline=None)
@given(structures(largest=6), seeds, kappas, tolerances)
def test_theorem_c(structure, seed, kappa, eps):
    check_theorem_c(structure, seed, kappa, eps)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(structures(largest=6), seeds, kappas, tolerances)
def test_theorem_c_on_5000_streams(structure, seed, kappa, eps):
    check_theorem_c(structure, seed, kappa, eps)


def check_theorem_d(structure: Structure, seed: int, kappa: float, eps: float) -> float:
    names = [f"a{k}" for k in range(len(structure.attributes))]
    controller = PooledParity([parity(name, tolerance=eps) for name in names], bounds=(0, 1), kappa=kappa)
    counts = [np.zeros(k) for k in structure.attributes]
    sums = [np.zeros(k) for k in structure.attributes]
    running = 0.0
    total = 0
    worst = 0.0
    for z, codes in batches(structure, seed):
        y = controller.step(z, sensitive_features=dict(zip(names, codes, strict=True))).scores
        total += len(z)
        running += len(z) / (2 * 4 * kappa * sqrt(total))
        bounds = controller.report().bounds
        for name, c, n, s in zip(names, codes, counts, sums, strict=True):
            n += np.bincount(c, minlength=len(n))
            s += np.bincount(c, weights=y, minlength=len(n))
            present = n > 0
            if present.sum() < 2:
                continue
            means, sizes = s[present] / n[present], n[present]
            spread = np.abs(means[:, None] - means[None, :])
            limit = eps + np.sqrt((1 / sizes[:, None] + 1 / sizes[None, :]) * running)
            assert (spread <= limit + SLACK).all()
            smallest = np.sort(sizes)[:2]
            proved = eps + sqrt((1 / smallest).sum() * running)
            assert bounds[f"DemographicParity({name})"] == pytest.approx(proved, rel=1e-9)
            assert spread.max() <= proved + SLACK
            worst = max(worst, float(((spread - eps) / (limit - eps)).max()))
    return worst


several = st.lists(st.integers(2, 4), min_size=2, max_size=3).map(tuple)


@settings(max_examples=60, deadline=None)
@given(several.flatmap(lambda a: structures(*a)), seeds, kappas, tolerances)
def test_theorem_d(structure, seed, kappa, eps):
    check_theorem_d(structure, seed, kappa, eps)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(several.flatmap(lambda a: structures(*a)), seeds, kappas, tolerances)
def test_theorem_d_on_5000_streams(structure, seed, kappa, eps):
    check_theorem_d(structure, seed, kappa, eps)


@settings(max_examples=60, deadline=None)
@given(structures(largest=4), seeds, kappas, st.sampled_from([0.0, 0.02, 0.2]))
def test_mean_residuals_obey_the_group_wise_bound(structure, seed, kappa, eps):
    """abs(M_g) <= max(eps + R / (2 kappa sqrt N_g), before): the third row of PooledParity's table."""
    family = anchored("g", lower=-eps, upper=eps, name="MeanResidual", residual=True)
    controller = PooledParity(family, bounds=(0, 1), kappa=kappa)
    groups = structure.attributes[0]
    counts, sums = np.zeros(groups), np.zeros(groups)
    rng = np.random.default_rng(seed)
    for z, (codes,) in batches(structure, seed):
        targets = rng.choice([0.0, 0.5, 1.0], len(z))
        y = controller.step(z, sensitive_features=codes, targets=targets).scores
        counts += np.bincount(codes, minlength=groups)
        sums += np.bincount(codes, weights=y - targets, minlength=groups)
        present = counts > 0
        means = np.abs(sums[present] / counts[present])
        assert (means <= eps + 1 / (2 * kappa * np.sqrt(counts[present])) + SLACK).all()
        bound = controller.report().bound
        assert bound is not None
        assert means.max() <= bound + SLACK


def run_paper_rule(structure: Structure, seed: int, eta_0: float, eps: float):
    """(controller, per soft batch: n, gap, price before, y, z, codes)."""
    controller = PrimalDual(parity("g", tolerance=eps), bounds=(0, 1), eta_0=eta_0, b_tau=64)
    log = []
    for z, (codes,) in batches(structure, seed):
        price = controller.price
        y = controller.step(z, sensitive_features=codes).scores
        if len(z) >= 64:
            assert controller.price == price
            continue
        means = [y[codes == g].mean() for g in np.unique(codes)]
        log.append((len(z), max(means) - min(means), price, y, np.clip(z, 0, 1), codes))
    return controller, log


def check_paper_claims(structure: Structure, seed: int, eta_0: float, eps: float) -> None:
    controller, log = run_paper_rule(structure, seed, eta_0, eps)
    if not log:
        return
    n_max = max(n for n, *_ in log)
    top = (1 - eps) * max(0.5, eta_0 * n_max)
    surplus = 0.0
    squares = regret = 0.0
    for t, (n, gap, price, y, z, _codes) in enumerate(log, start=1):
        following = log[t][2] if t < len(log) else controller.price
        surplus += n * (gap - eps)
        assert surplus <= following * sqrt(t) / eta_0 + 1e-8 * t  # S1
        assert gap <= max(0.0, 1 - 2 * price) + SLACK  # S2, batch form
        assert following <= top + SLACK  # S2
        squares += eta_0 / sqrt(t) * (n * (gap - eps)) ** 2
        neutral = np.full(n, z.mean())  # feasible in every batch
        regret += ((y - z) ** 2).sum() - ((neutral - z) ** 2).sum()
        assert regret <= top**2 * sqrt(t) / (2 * eta_0) + squares / 2 + 1e-8 * t  # S4 against one comparator
    T, N = len(log), sum(n for n, *_ in log)
    mean_gap = sum(n * gap for n, gap, *_ in log) / N
    assert mean_gap <= eps + (1 - eps) * max(1 / (2 * eta_0), n_max) * sqrt(T) / N + SLACK  # S3
    extra = controller.report().extra
    assert extra["batch_gap"] == pytest.approx(mean_gap, abs=1e-9)
    assert mean_gap <= extra["batch_gap_bound"] + SLACK


etas = st.sampled_from([0.01, 0.1, 0.5, 3.0])


@settings(max_examples=100, deadline=None)
@given(structures(largest=4), seeds, etas, st.sampled_from([0.01, 0.05, 0.3]))
def test_paper_claims_s1_to_s4(structure, seed, eta_0, eps):
    check_paper_claims(structure, seed, eta_0, eps)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(structures(largest=4), seeds, etas, st.sampled_from([0.01, 0.05, 0.3]))
def test_paper_claims_s1_to_s4_on_5000_streams(structure, seed, eta_0, eps):
    check_paper_claims(structure, seed, eta_0, eps)
