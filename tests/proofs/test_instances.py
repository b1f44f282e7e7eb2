"""Numbers that stand in proofs: each computed here."""

from __future__ import annotations

from itertools import pairwise, product
from math import sqrt

import numpy as np
import pytest

from fairopt.streaming import PooledParity, parity
from proofs_checks.claims.n6_attributes import SHARP, corner, gap, reply


def test_n_theta_need_not_rise() -> None:
    """P2: counts (10, 2) -> (10, 3), eps = 0, kappa = R = 1."""

    def theta(a: int, b: int) -> float:
        return max(a, b) / (a + b) / sqrt(a + b)

    assert theta(10, 3) == pytest.approx(0.2133, abs=5e-5)
    assert 12 / 13 * theta(10, 2) == pytest.approx(0.2221, abs=5e-5)
    assert theta(10, 3) < 12 / 13 * theta(10, 2)
    for a, b, n, m in product(range(1, 12), range(1, 12), range(4), range(4)):  # what the proof uses instead
        assert theta(a + n, b + m) >= theta(a, b) * a / (a + n) * b / (b + m) - 1e-15


@pytest.mark.parametrize("lam", [256, 1000])
def test_shares_bounded_below_do_not_give_the_rate(lam: int) -> None:
    """P4: blocks of one group at a time with the mean of the others as scores; D kappa sqrt(N) grows from pass to pass."""
    groups = 3
    controller = PooledParity(parity("g", tolerance=0.0), bounds=(0, 1), kappa=1.0, predict=False)
    codes = np.arange(groups)
    y = np.asarray(controller.step(np.r_[0.0, 1.0, np.full(groups - 2, 0.5)], sensitive_features=codes).scores)
    counts, sums, rates = np.ones(groups), y.copy(), []
    for block in range(3 * groups):
        g = block % groups
        many = int((lam - 1) * counts[g])
        if counts.sum() + many > 4e6:
            break
        others = [k for k in range(groups) if k != g]
        middle = (np.max(sums[others] / counts[others]) + np.min(sums[others] / counts[others])) / 2
        sent = np.asarray(controller.step(np.full(many, middle), sensitive_features=np.full(many, g)).scores)
        counts[g] += many
        sums[g] += sent.sum()
        if g == groups - 1:
            rates.append(float(np.ptp(sums / counts)) * sqrt(counts.sum()))
    assert len(rates) >= 2
    assert all(b > 1.5 * a for a, b in pairwise(rates))


@pytest.mark.parametrize(("k", "largest"), [(1, 1), (2, 2), (3, 4), (4, 8)])
def test_the_largest_solutions_of_zero_one_systems(k: int, largest: int) -> None:
    """N6: D_k = max ||A^-1 s||_1 over invertible 0/1 matrices A and 0/1 vectors s, by exhaustion."""
    matrices = np.array(list(product((0.0, 1.0), repeat=k * k))).reshape(-1, k, k)
    matrices = matrices[np.abs(np.linalg.det(matrices)) > 0.5]
    inverses = np.linalg.inv(matrices)
    vectors = np.array(list(product((0.0, 1.0), repeat=k))).T  # (k, 2^k)
    assert np.abs(inverses @ vectors).sum(axis=1).max() == pytest.approx(largest, abs=1e-9)


@pytest.mark.parametrize("k", sorted(SHARP))
def test_the_thresholds_are_sharp(k: int) -> None:
    """N6: at C_k the gaps are closed, just below the instance's price one is open; the price tends to C_k."""
    top = sum(SHARP[k]) / 2
    z, codes, price = corner(k, 2000)
    assert 0.995 * top < price <= top
    assert gap(reply(z, codes, 0.999 * price), codes) > 1e-9
    assert gap(reply(z, codes, top), codes) < 1e-10
