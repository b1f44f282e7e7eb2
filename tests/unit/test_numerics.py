"""The small dense numerics and the proximal map, each against an independent solution of the same problem."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairopt.arrays import Array
from fairopt.dual.prox import prox, residual
from fairopt.dual.structure import Numbers, Structure, numbers, structure
from fairopt.numerics.interior_point import minimise
from fairopt.numerics.range_projection import range_prices
from fairopt.problem import Softness
from fairopt.testing.assembly import Assembly, Linear, Range

daqp: Any = pytest.importorskip("daqp")
INF = float("inf")
SEEDS = st.integers(0, 2**31 - 1)


def reference(H: Array, h: Array, G: Array, low: Array, high: Array) -> Array:
    """argmin 1/2 x'Hx + h'x, low <= G x <= high by daqp. H positive definite."""
    sense = np.zeros(low.shape[0], dtype=np.int32)
    sense[low == high] = 5
    low, high = np.maximum(low, -1e30), np.minimum(high, 1e30)
    x, _, flag, _ = daqp.solve(H, h, np.ascontiguousarray(G), high, low, sense, primal_tol=1e-12, dual_tol=1e-12)
    assert flag in (1, 2)
    return np.asarray(x)


def members(rng: np.random.Generator) -> tuple[Array, Array, float]:
    """Values a (K,), slopes s (K,) and a width; with ties, at times equal to the spread, 0 or larger than it."""
    K = int(rng.integers(2, 12))
    a = rng.normal(size=K)
    if rng.uniform() < 0.3:
        a = np.round(a, 1)
    s = np.exp(rng.uniform(-3, 3, K))
    return a, s, float(np.ptp(a) * rng.choice([0.0, 0.1, 0.5, 1.0, 2.0]))


@given(SEEDS)
def test_range_prices_are_the_prices_of_the_nearest_values_of_that_range(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, s, width = members(rng)
    K = a.shape[0]
    gamma = INF if rng.uniform() < 0.5 else float(np.exp(rng.uniform(-3, 3)))
    pairs = np.array([[i, j] for i in range(K) for j in range(i)])
    G = np.zeros((len(pairs), K + 1))
    G[np.arange(len(pairs)), pairs[:, 0]], G[np.arange(len(pairs)), pairs[:, 1]] = 1.0, -1.0
    # the last variable is the distance d of the quadratic softness; hard: it may not move
    weight = np.append(1.0 / s, 1.0 if gamma == INF else gamma)
    up, down = G.copy(), -G
    if gamma != INF:
        up[:, K] = down[:, K] = -1.0
    rows, high = np.concatenate([up, down]), np.full(2 * len(pairs), width)
    free = G[: K - 1, :].copy()
    if width == 0.0 and gamma == INF:  # equalities, which daqp takes only where they are independent
        free[:] = 0.0
        free[:, 0], free[np.arange(K - 1), np.arange(1, K)] = 1.0, -1.0
        v = reference(np.diag(weight), np.append(-a / s, 0.0), free, np.zeros(K - 1), np.zeros(K - 1))[:K]
    else:
        v = reference(np.diag(weight), np.append(-a / s, 0.0), rows, np.full(len(high), -INF), high)[:K]
    theta = range_prices(a, s, width, gamma=gamma)
    np.testing.assert_allclose(a - s * theta, v, atol=1e-9)
    assert abs(theta.sum()) <= 1e-13 * max(1.0, np.abs(theta).max())


@given(SEEDS)
def test_a_capped_range_passes_the_whole_cap_and_keeps_its_levels(seed: int) -> None:
    """The optimality conditions at the cap rho: the levels of the pushed members are equal, and the distance is what is left."""
    rng = np.random.default_rng(seed)
    a, s, width = members(rng)
    open_flow = float(np.maximum(range_prices(a, s, width), 0.0).sum())
    rho = open_flow * float(rng.uniform(0.1, 0.9))
    theta = range_prices(a, s, width, rho=rho)
    v = a - s * theta
    np.testing.assert_allclose([np.maximum(theta, 0).sum(), np.maximum(-theta, 0).sum()], [rho, rho], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(v[theta > 0], v.max(), atol=1e-12)
    np.testing.assert_allclose(v[theta < 0], v.min(), atol=1e-12)
    assert np.ptp(v) >= min(width, np.ptp(a)) - 1e-12


def test_a_tiny_slope_does_not_unbalance_the_flows() -> None:
    """A cell without a free sample has slope 1e-14 next to others: prices must still sum to 0 to rounding of the large ones."""
    theta = range_prices(np.array([1.0, 0.3, 0.1, 0.7]), np.array([1e-14, 1.0, 1.0, 1e-13]), 0.05)
    assert abs(theta.sum()) <= 1e-15 * np.abs(theta).max()


@given(SEEDS)
def test_range_prices_of_slopes_many_decades_apart_are_exact(seed: int) -> None:
    """Samples of weight 1e-12 beside 1e12, far from 0: the level of the members is an ulp wide, the prices are not."""
    rng = np.random.default_rng(seed)
    K = int(rng.integers(2, 7))
    a = 64.0 * (1.0 + rng.uniform(-1, 1, K) * 10.0 ** -rng.uniform(0, 9))
    s = 10.0 ** rng.uniform(-12, 12, K)
    theta = range_prices(a, s, 0.0)
    inverse = [1 / Fraction(v) for v in s.tolist()]
    level = sum((Fraction(v) * w for v, w in zip(a.tolist(), inverse, strict=True)), Fraction(0)) / sum(inverse, Fraction(0))
    exact = [(Fraction(v) - level) * w for v, w in zip(a.tolist(), inverse, strict=True)]  # their mean, in the slopes' metric
    flow = sum((abs(v) for v in exact), Fraction(0)) / 2
    assert max(abs(Fraction(t) - e) for t, e in zip(theta.tolist(), exact, strict=True)) <= flow / 10**12


@pytest.mark.parametrize(("slope", "other"), [(1e-320, 1.0), (np.inf, 1.0), (1e-320, np.inf), (np.inf, np.inf)])
def test_range_prices_of_slopes_beyond_float64_are_numbers(slope: float, other: float) -> None:
    with np.errstate(all="ignore"):
        theta = range_prices(np.array([1.0, 0.0, 0.5]), np.array([slope, other, slope]), 0.1)
    assert np.isfinite(theta).all()


def soft_problem(rng: np.random.Generator) -> tuple[Structure, Numbers]:
    """Rows of every softness on four masks: three linear ones and a range, with budgets over some of them."""
    n = 12
    assembly = Assembly(n)
    codes = rng.permutation(np.arange(n) % 4)
    means = [assembly.mean(assembly.mask(codes == g)) for g in range(4)]
    weight = float(np.exp(rng.uniform(-1, 2)))
    kinds = [Softness(), Softness("priced", weight), Softness("budget", weight, 0), Softness("quadratic", weight)]
    for f in (means[0], means[1], means[2].plus(means[0], -1.0)):
        low, high = np.sort(rng.normal(size=2))
        low, high = (-INF if rng.uniform() < 0.2 else low), (INF if rng.uniform() < 0.2 else high)
        assembly.linear.append(Linear(f, float(low), float(high if rng.uniform() < 0.8 else max(low, -1e3)), kinds[int(rng.integers(4))]))
    assembly.ranges.append(Range(tuple(means), float(rng.uniform(0, 1)), kinds[int(rng.integers(4))]))
    problem = assembly.problem()
    return structure(problem), numbers(problem)


def sigma(st_: Structure, nums: Numbers, p: Array) -> float:
    """The dual cost of prices, written down from DESIGN 1; inf outside the price domain."""
    L = st_.linear
    flow, cost = [], 0.0
    for k in range(L):
        limit = nums.upper[k] if p[k] > 0 else nums.lower[k]
        cost += 0.0 if p[k] == 0 else limit * p[k]
        flow.append(abs(p[k]))
    for r, part in enumerate(st_.slices):
        if abs(p[part].sum()) > 1e-9:
            return INF
        flow.append(np.maximum(p[part], 0).sum())
        cost += nums.width[r] * flow[-1]
    for k, q in enumerate(flow):
        cost += q * q / (2 * nums.gamma[k])
        if q > nums.rho[k] * (1 + 1e-9) and not st_.in_block[k]:
            return INF
    for linear, ranges, k in st_.blocks:
        if sum(flow[c] for c in [*linear.tolist(), *(L + ranges).tolist()]) > nums.rho[k] * (1 + 1e-9):
            return INF
    return float(cost)


@given(SEEDS)
def test_prox_is_the_minimiser_against_any_other_prices(seed: int) -> None:
    """prox(v; s) minimises sum s/2 (p - v/s)^2 + sigma(p): no other point of the domain is better, and it is strictly convex."""
    rng = np.random.default_rng(seed)
    structure_, nums = soft_problem(rng)
    m = structure_.metric.shape[0]
    v = np.asarray(rng.normal(0, 2, m))
    s = np.exp(np.asarray(rng.uniform(-2, 2, m)))

    def objective(p: Array) -> float:
        return float((0.5 * s * (p - v / s) ** 2).sum()) + sigma(structure_, nums, p)

    best = prox(structure_, nums, v, s)
    value = objective(best)
    assert value < INF
    assert value <= objective(np.zeros(m)) + 1e-12
    others = 0
    for _ in range(60):
        d = rng.normal(size=m) * (rng.uniform(size=m) < 0.5) * 10.0 ** rng.uniform(-6, 0)
        for part in structure_.slices:
            d[part] -= d[part].mean()
        other = objective(best + d)
        others += other < INF
        # strictly convex: the gap is at least s/2 |d|^2
        assert other >= value + 0.5 * float((s * d * d).sum()) - 1e-12 * (1 + abs(value))
    assert others > 0


@given(SEEDS)
def test_residual_is_zero_at_the_prox_and_nowhere_near_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    structure_, nums = soft_problem(rng)
    s = structure_.metric
    v = np.asarray(rng.normal(0, 2, s.shape[0]))
    p = prox(structure_, nums, v, s)
    f = v - s * p
    assert np.abs(residual(structure_, nums, f, p)).max() <= 1e-13 * (1 + np.abs(v).max() + np.abs(s * p).max())
    moved = p + rng.normal(size=p.shape[0]) / s
    assert np.abs(residual(structure_, nums, f, moved)).max() > 1e-3


@pytest.mark.parametrize("price", [1e3, 1e12, 1e25])
def test_residual_of_a_broken_row_is_its_violation_however_large_the_price(price: float) -> None:
    """f + s p forgets f when p is huge: the residual of contradicting rows must not become 0 by that."""
    assembly = Assembly(4)
    mean = assembly.mean(assembly.mask(np.ones(4, dtype=np.bool_)))
    assembly.linear += [Linear(mean, 0.9, INF), Linear(mean.scaled(2.0), -INF, 1.0)]
    problem = assembly.problem()
    r = residual(structure(problem), numbers(problem), np.array([0.7, 1.4]), np.array([-2.0, 1.0]) * price)
    np.testing.assert_allclose(np.abs(r), [0.2, 0.2])


@settings(max_examples=60)
@given(SEEDS)
def test_interior_point_solves_random_quadratic_programs(seed: int) -> None:
    """Positive semidefinite H, redundant rows, equalities: the KKT conditions hold, and where H is definite daqp agrees."""
    rng = np.random.default_rng(seed)
    N, k, q = int(rng.integers(1, 8)), int(rng.integers(0, 12)), int(rng.integers(0, 3))
    q = min(q, N - 1)
    B = rng.normal(size=(N, N if rng.uniform() < 0.5 else max(1, N - 2)))
    definite = B.shape[1] == N
    H = B @ B.T + (0.1 * np.eye(N) if definite else 0.0)
    h = B @ rng.normal(size=B.shape[1])  # bounded below where H is singular
    witness = rng.normal(size=N)
    G = rng.normal(size=(k, N)) * 10.0 ** rng.uniform(-2, 2, size=(k, 1))
    if k > 2:
        G[-1] = 2.0 * G[0]
    g = G @ witness + np.abs(rng.normal(size=k)) * (rng.uniform(size=k) < 0.7) * np.abs(G).sum(1)
    E = rng.normal(size=(q, N))
    result = minimise(H, h, G, g, E, E @ witness)
    x, lam = result.x, result.multipliers
    size = 1 + np.abs(x).max() + np.abs(h).max()
    assert (G @ x - g <= 1e-7 * size * np.abs(G).sum(1)).all()
    assert (lam >= 0).all()
    gradient = H @ x + h + G.T @ lam
    if q:
        gradient -= E.T @ np.linalg.lstsq(E.T, gradient, rcond=None)[0]
    assert np.abs(gradient).max(initial=0) <= 1e-6 * size
    assert abs(lam @ (G @ x - g)) <= 1e-6 * size**2
    if definite:
        rows, low, high = np.concatenate([G, E]), np.concatenate([np.full(k, -INF), E @ witness]), np.concatenate([g, E @ witness])
        if len(rows) and not (k > 2):
            np.testing.assert_allclose(x, reference(H, h, rows, low, high), atol=1e-6 * size)
