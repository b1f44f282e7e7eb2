"""Numbers that stand in proofs: each computed here."""

from __future__ import annotations

from itertools import combinations, pairwise, product
from math import sqrt

import numpy as np
import pytest
import torch

import fairopt as fo
from fairopt.contract.problem import Softness
from fairopt.streaming import PooledParity, parity
from fairopt.testing.claims.prices import softened
from fairopt.testing.claims.subject import Layer, row_values
from proofs_checks.claims.b1_composition import composition, range_of_present
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


@pytest.mark.parametrize(("k", "largest"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16)])
def test_the_largest_solutions_of_zero_one_systems(k: int, largest: int) -> None:
    """N6: D_k = max ||A^-1 s||_1 over invertible 0/1 matrices A and 0/1 vectors s, by exhaustion; the order of the rows changes nothing."""
    rows = np.array(list(product((0.0, 1.0), repeat=k)))[1:]
    matrices = rows[np.array(list(combinations(range(len(rows)), k)))]
    matrices = matrices[np.abs(np.linalg.det(matrices)) > 0.5]
    vectors = np.array(list(product((0.0, 1.0), repeat=k))).T  # (k, 2^k)
    assert np.abs(np.linalg.inv(matrices) @ vectors).sum(axis=1).max() == pytest.approx(largest, abs=1e-9)


@pytest.mark.parametrize("k", sorted(SHARP))
def test_the_thresholds_are_sharp(k: int) -> None:
    """N6: at C_k the gaps are closed, just below the instance's price one is open; the price tends to C_k."""
    top = sum(SHARP[k]) / 2
    z, codes, price = corner(k, 2000)
    assert 0.995 * top < price <= top
    assert gap(reply(z, codes, 0.999 * price), codes) > 1e-9
    assert gap(reply(z, codes, top), codes) < 1e-10


def test_weights_expand_in_the_euclidean_norm() -> None:
    """L3: weights (1, 100), one member a group: a factor of 1.400."""

    def fair(z: torch.Tensor) -> torch.Tensor:
        weights = torch.tensor([1.0, 100.0], dtype=torch.float64)
        sent: torch.Tensor = fo.project(z, fo.DemographicParity("g", tolerance=0.0), sensitive_features={"g": [0, 1]}, weights=weights)
        return sent

    jacobian = torch.autograd.functional.jacobian(fair, torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert float(torch.linalg.matrix_norm(jacobian, 2)) == pytest.approx(1.4003, abs=5e-5)


def test_the_least_one_norm_is_the_sensitivity() -> None:
    """L8: z = (-1, 0, 1), one member each, eps = 0: the cost falls at rate 1 in the tolerance, not 4/3."""

    def cost(eps: float) -> float:
        z = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
        y = fo.project(z, fo.DemographicParity("g", tolerance=eps), sensitive_features={"g": [0, 1, 2]})
        return 0.5 * float(((y - z) ** 2).sum())

    assert (cost(0.0) - cost(1e-5)) / 1e-5 == pytest.approx(1.0, abs=1e-4)


def test_the_bound_row_by_row_is_false() -> None:
    """L9: means (0, .3, 1), eps .25, gamma .1: the row (0, 1) is violated by .0192 although its price is 0."""

    @fo.notion
    def pairs(batch, attribute, tolerance):
        means = [batch.mean(g) for g in batch.groups(attribute)]
        for k, (a, b) in enumerate(combinations(means, 2)):
            yield abs(a - b) <= tolerance + k * 1e-9  # equal ones would be one range

    problem = fo.compile(pairs("g", tolerance=0.25), sensitive_features={"g": [0, 1, 2]}).problem
    z = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    _, prices = Layer().project(z, problem)
    soft, _ = Layer().project(z, softened(problem, Softness("quadratic", 0.1)))
    (idle,) = np.flatnonzero(np.abs(prices) < 1e-9)
    assert float(np.abs(row_values(problem, soft)[idle])) - 0.25 == pytest.approx(0.0192, abs=5e-5)


def test_the_range_of_the_present_means_is_no_bound() -> None:
    """B2: batch 1 holds only group 0 at 1, batch 2 one of each at 0: D = 1/2 against 0."""
    sent, codes = [np.array([1.0]), np.array([0.0, 0.0])], [np.array([0]), np.array([0, 1])]
    assert range_of_present(sent, codes, 1.0) == 0.0
    assert composition(sent, codes, 1.0) == pytest.approx(0.5)
