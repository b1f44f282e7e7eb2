"""The parts of the dual Newton method one by one: the model's minimiser, the short road, the line search, the interior point method."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairopt.basics.arrays import Array
from fairopt.basics.sparse import dense
from fairopt.contract.problem import Softness
from fairopt.solve.dual.active_set import ModelSolver, factor
from fairopt.solve.dual.evaluator import VectorDual
from fairopt.solve.dual.interior import InteriorPoint
from fairopt.solve.dual.newton import Search, solve_dual
from fairopt.solve.dual.prox import prox, residual
from fairopt.solve.dual.structure import Numbers, Structure, numbers, structure
from fairopt.solve.dual.two_rows import _minimise, few_rows, read_rows
from fairopt.testing.assembly import Assembly, Linear, Range
from fairopt.testing.draws import Draw, draw, wild

INF = float("inf")
SEEDS = st.integers(0, 2**31 - 1)


def vector(drawn: Draw) -> VectorDual:
    return VectorDual(drawn.problem, drawn.scores[drawn.problem.rows.order].numpy())


def scores(drawn: Draw, p: Array) -> Array:
    """(n,) in cell order."""
    return np.asarray(vector(drawn).scores(p).numpy())


def some(count: int, seed: int) -> list[Draw]:
    return list(wild(count, seed))


@pytest.mark.parametrize("drawn", [d for d in some(120, 12) if d.problem.rows.dense is None][:80], ids=repr)
def test_model_minimiser_meets_the_optimality_conditions_of_the_model(drawn: Draw) -> None:
    """At the minimiser the model's own row values f - M (q - p) have residual 0: degenerate, redundant and scaled rows, all softness."""
    problem = drawn.problem
    st_, nums = structure(problem), numbers(problem)
    rng = np.random.default_rng(1)
    share = np.where(rng.uniform(size=problem.rows.counts.shape) < 0.3, 1e-3, rng.uniform(0.2, 1.0))
    slope = np.asarray(problem.rows.counts * share, dtype=np.float64)
    f0 = vector(drawn).evaluate(np.zeros(problem.m)).f  # values that a witness can mend: the model is feasible
    solver = ModelSolver(st_, nums)
    p0 = solver.feasible(rng.normal(size=problem.m) / st_.metric * st_.unit * 0.1 * drawn.scale)
    M = (problem.rows.coefficients * slope) @ problem.rows.coefficients.T
    f0 = f0 - M @ p0
    q = solver.minimise(p0, f0, factor(dense(problem.rows.coefficients), slope, st_.metric), 1e-15 * drawn.scale)
    r = np.abs(residual(st_, nums, f0 - M @ (q - p0), q)).max(initial=0.0)
    assert r <= 1e-10 * drawn.scale * (1 + np.abs(f0 / st_.unit).max(initial=0.0) / drawn.scale)


@given(SEEDS)
def test_model_minimiser_is_the_prox_where_rows_share_no_cell(seed: int) -> None:
    drawn = draw("strata", seed, ["mixed_softness"], max_n=40)
    problem = drawn.problem
    st_, nums = structure(problem), numbers(problem)
    f = vector(drawn).evaluate(np.zeros(problem.m)).f
    coefficients = dense(problem.rows.coefficients)
    slope = np.asarray(problem.rows.counts, dtype=np.float64)
    if ((coefficients != 0).sum(0) > 1).any():
        return
    q = ModelSolver(st_, nums).minimise(np.zeros(problem.m), f, factor(coefficients, slope, st_.metric), 1e-15)
    expected = prox(st_, nums, f, (coefficients**2) @ slope)
    np.testing.assert_allclose(q * st_.metric / st_.unit, expected * st_.metric / st_.unit, atol=1e-9)


def two_rows(rng: np.random.Generator) -> tuple[Structure, Numbers, Array]:
    """Two overlapping rows with limits, open sides, caps and quadratic weights; their coefficients (2, C)."""
    assembly = Assembly(8)
    for k in range(2):
        f = assembly.mean(assembly.mask(np.arange(8) // (k + 1) % 2 == 0), float(np.exp(rng.uniform(-2, 2))))
        low, high = np.sort(rng.normal(0, 0.5, 2))
        side = int(rng.integers(4))
        kind = int(rng.integers(3))
        weight = float(np.exp(rng.uniform(-2, 2)))
        soft = [Softness(), Softness("priced", weight), Softness("quadratic", weight)][kind]
        assembly.linear.append(Linear(f, -INF if side == 0 else float(low), INF if side == 1 else float(high), soft))
    problem = assembly.problem()
    return structure(problem), numbers(problem), dense(problem.rows.coefficients)


@settings(max_examples=600)
@given(SEEDS)
def test_two_rows_by_trying_states_are_two_rows_by_the_active_set(seed: int) -> None:
    rng = np.random.default_rng(seed)
    st_, nums, coefficients = two_rows(rng)
    slope = np.exp(np.asarray(rng.uniform(-3.0, 3.0, coefficients.shape[1])))  # from nearly parallel rows to nearly orthogonal ones
    M = (coefficients * slope) @ coefficients.T
    p0, f = np.zeros(2), rng.normal(0, 2, 2) * st_.unit
    found = _minimise(read_rows(st_, nums), p0.tolist(), f.tolist(), [M[0, 0], M[0, 1], M[1, 1]])
    assert found is not None
    expected = ModelSolver(st_, nums).minimise(p0, f, factor(coefficients, slope, st_.metric), 1e-15)
    np.testing.assert_allclose(np.array(found) * st_.metric / st_.unit, expected * st_.metric / st_.unit, atol=1e-10)


@pytest.mark.parametrize("M", [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 2.0, 4.0]])
def test_two_rows_without_a_unique_minimiser_are_left_to_the_general_method(M: list[float]) -> None:
    st_, nums, _ = two_rows(np.random.default_rng(0))
    assert _minimise(read_rows(st_, nums), [0.0, 0.0], [5.0, 5.0], M) is None


def test_one_and_two_rows_in_plain_floats_are_the_general_method() -> None:
    """The short road alone solves most such draws, and its answer has the general residual."""
    tried = solved = 0
    for drawn in wild(1500, 15, max_n=60, avoid=("infeasible", "far")):
        problem = drawn.problem
        st_, nums = structure(problem), numbers(problem)
        if st_.shape != "few_rows" or problem.rows.dense is not None or tried == 60:
            continue
        tried += 1
        state = few_rows(vector(drawn), st_, nums, None, 1e-13 * drawn.scale, 20)
        expected = residual(st_, nums, vector(drawn).evaluate(state.p).f, state.p)
        np.testing.assert_allclose(np.abs(expected).max(), state.residual, atol=1e-13 * drawn.scale)
        solved += state.residual <= 1e-12 * drawn.scale
    assert tried == 60
    assert solved >= 30


def dual_value(drawn: Draw, p: Array) -> float:
    """Phi(p) from its definition: minus the least Lagrangian over the box, plus the dual cost of the limits."""
    problem = drawn.problem
    nums = numbers(problem)
    z, t = drawn.scores.numpy(), p @ problem.rows.matrix().numpy()
    w = np.ones_like(z) if problem.weights is None else problem.weights.numpy()
    y = scores(drawn, p)[problem.rows.inverse_order.numpy()]
    total = -float((0.5 * w * (y - z) ** 2 + t * y).sum()) - float(p @ problem.rows.offset)
    L = problem.linear
    total += sum((nums.upper[k] if p[k] > 0 else nums.lower[k]) * p[k] for k in range(L) if p[k] != 0)
    total += float((p[:L] ** 2 / (2 * nums.gamma[:L])).sum())
    for r, part in enumerate(problem.range_slices):
        flow = float(np.maximum(p[part], 0).sum())
        total += nums.width[r] * flow + flow**2 / (2 * nums.gamma[L + r])
    return total


FAR = [d for d in wild(250, 17, max_n=40, avoid=("infeasible", "wild_weights")) if "far" in d.mutations]


@pytest.mark.parametrize("drawn", FAR, ids=repr)
def test_a_step_never_raises_the_dual_function(drawn: Draw) -> None:
    """What makes Newton settle: along a step Phi falls, or the residual does (at the end rounding decides)."""
    st_, nums = structure(drawn.problem), numbers(drawn.problem)
    search = Search(vector(drawn), st_, nums, 1e-15 * drawn.scale, 1e-11 * drawn.scale)
    state = search.at(np.zeros(drawn.problem.m))
    search.spread = max(state.res, 1e-300)
    for _ in range(6):
        if state.res <= 1e-9 * drawn.scale:
            break
        new = search.step(state)
        before, after = dual_value(drawn, state.p), dual_value(drawn, new.p)
        assert new.res <= 0.9 * state.res or after <= before + 1e-9 * (abs(before) + abs(after))
        state = new


@given(SEEDS)
def test_the_directional_derivative_is_that_of_the_dual_function(seed: int) -> None:
    drawn = draw("overlap", seed, ["box", "mixed_softness"], max_n=30)
    st_, nums = structure(drawn.problem), numbers(drawn.problem)
    search = Search(vector(drawn), st_, nums, 1e-15, 1e-11)
    rng = np.random.default_rng(seed)
    solver = ModelSolver(st_, nums)
    p, q = (solver.feasible(rng.normal(size=drawn.problem.m) * st_.unit / st_.metric * 0.3) for _ in range(2))
    d = q - p
    step = 1e-6
    slope = (dual_value(drawn, p + step * d) - dual_value(drawn, p)) / step
    expected = search.derivative(search.at(p), d)
    bend = float(d @ (drawn.problem.rows.matrix().numpy() @ drawn.problem.rows.matrix().numpy().T) @ d)  # bounds Phi'' without weights
    soft = float((d**2).sum()) / float(np.min(nums.gamma, initial=INF)) * drawn.problem.m
    assert abs(slope - expected) <= step * (bend + soft) + 1e-8 * (1 + abs(dual_value(drawn, p))) / step * 1e-6 + 1e-6 * abs(expected)


MOVING = [d for d in some(60, 16) if solve_dual(vector(d), structure(d.problem), numbers(d.problem)).iterations > 0][:40]


@pytest.mark.parametrize("drawn", MOVING, ids=repr)
def test_interior_point_alone_comes_close(drawn: Draw) -> None:
    """The way out works by itself from a cold start: 1e-5 within 40 iterations, whatever the structure."""
    st_, nums = structure(drawn.problem), numbers(drawn.problem)
    method = InteriorPoint(vector(drawn), st_, nums)
    method.run(40)
    p = ModelSolver(st_, nums).feasible(method.prices())
    gap = np.abs(scores(drawn, p) - scores(drawn, solve_dual(vector(drawn), st_, numbers(drawn.problem)).p)).max()
    assert gap <= 1e-5 * drawn.scale


def test_the_interior_point_method_takes_few_iterations() -> None:
    """The corrector and the start pay: 13 on average when this was written."""
    taken = []
    for drawn in wild(120, 18):
        if solve_dual(vector(drawn), structure(drawn.problem), numbers(drawn.problem)).iterations > 0:
            method = InteriorPoint(vector(drawn), structure(drawn.problem), numbers(drawn.problem))
            method.run(60)
            taken.append(method.iterations)
    assert len(taken) > 60
    assert np.mean(taken) < 15


def test_tightened_limits_move_inward_and_meet_in_the_middle() -> None:
    nums = Numbers(
        np.array([0.0, 0.0, -INF]), np.array([1.0, 0.1, 1.0]), np.array([0.5, 0.1]), np.zeros(5), np.full(5, INF), np.full(5, INF)
    )
    hard = np.array([True, True, False, True, True])
    tight = nums.tightened(np.full(5, 0.2), hard)
    np.testing.assert_allclose(tight.lower, [0.2, 0.05, -INF])
    np.testing.assert_allclose(tight.upper, [0.8, 0.05, 1.0])
    np.testing.assert_allclose(tight.width, [0.3, 0.0])


@pytest.mark.parametrize("price", [1e3, 1e20])
def test_residual_of_a_range_does_not_vanish_with_huge_prices(price: float) -> None:
    drawn = draw("range", 0, ["zero_tolerance"])
    st_, nums = structure(drawn.problem), numbers(drawn.problem)
    p = np.zeros(drawn.problem.m)
    p[0], p[1] = price, -price
    assert np.abs(residual(st_, nums, np.linspace(0.2, 0.9, drawn.problem.m), p)).max() > 0.1


def test_residual_of_a_range_counts_the_rounding_that_hides_its_rows() -> None:
    """Two groups of the same size, prices +-2^60: f + s p is +-s p exactly, and the proximal map returns these very prices."""
    assembly = Assembly(4)
    assembly.ranges.append(Range(tuple(assembly.mean(assembly.mask(np.arange(4) // 2 == g)) for g in range(2)), 0.0))
    problem = assembly.problem()
    p = np.array([2.0**60, -(2.0**60)])
    np.testing.assert_array_equal(prox(structure(problem), numbers(problem), np.array([0.9, 0.2]) + 0.5 * p, np.full(2, 0.5)), p)
    assert np.abs(residual(structure(problem), numbers(problem), np.array([0.9, 0.2]), p)).max() > 0.3
