"""The dual Newton method: evaluators against the definition, the model's minimiser against a QP, and whole solves on wild draws."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.basics.arrays import Array
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.chunked import SlicedDual
from fairopt.solve.dual.evaluator import VectorDual
from fairopt.solve.dual.make import make_dual
from fairopt.solve.dual.newton import MAX_ITER, DualSolution, solve_dual
from fairopt.solve.dual.prox import residual
from fairopt.solve.dual.structure import numbers, structure, with_numbers
from fairopt.testing.assembly import Assembly, Linear, Range
from fairopt.testing.draws import Draw, draw, infeasible, wild
from fairopt.testing.oracle import accepted_oracle

INF = float("inf")
SEEDS = st.integers(0, 2**31 - 1)


def vector(drawn: Draw) -> VectorDual:
    return VectorDual(drawn.problem, drawn.scores[drawn.problem.rows.order].numpy())


def solve(drawn: Draw, start: Array | None = None) -> DualSolution:
    return solve_dual(vector(drawn), structure(drawn.problem), numbers(drawn.problem), start)


def scores(drawn: Draw, p: Array) -> Array:
    """(n,) in the order of the samples."""
    return np.asarray(vector(drawn).scores(p)[drawn.problem.rows.inverse_order].numpy())


def some(count: int, seed: int, **options: Any) -> list[Draw]:
    return list(wild(count, seed, **options))


def large(
    n: int, K: int, seed: int, *, rows: int = 0, weights: bool = False, per_sample: bool = False
) -> tuple[ProjectionProblem, torch.Tensor]:
    """K groups in one range, or ``rows`` differences of two overlapping groups; a box that clamps about a fifth."""
    rng = np.random.default_rng(seed)
    assembly = Assembly(n)
    z = rng.normal(0.5, 0.4, n)
    for _ in range(max(rows, 1)):
        codes = rng.integers(0, 2 if rows else K, n)
        means = [assembly.mean(assembly.mask(codes == g)) for g in range(2 if rows else K)]
        z += 0.2 * codes / max(1, K - 1)
        if rows:
            assembly.linear.append(Linear(means[0].plus(means[1], -1.0), -0.01, 0.01))
        else:
            assembly.ranges.append(Range(tuple(means), 0.02))
    lb: float | Array = rng.uniform(-0.1, 0.1, n) if per_sample else 0.0
    problem = assembly.problem(lb, 1.0, rng.uniform(0.5, 2.0, n) if weights else None)
    return problem, torch.from_numpy(z)


# -- evaluators ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drawn", some(60, 11), ids=repr)
def test_vector_evaluation_is_the_definition(drawn: Draw) -> None:
    """f = A clip(z - A'p / w) + offset and M = A W^-1 D_F A' with A written out."""
    problem = drawn.problem
    rng = np.random.default_rng(0)
    p = rng.normal(size=problem.m) / structure(problem).metric * structure(problem).unit * drawn.scale
    a = problem.rows.matrix().numpy()
    w = np.ones(problem.n) if problem.weights is None else problem.weights.numpy()
    lb, ub = (b.numpy() if isinstance(b, torch.Tensor) else b for b in (problem.lb, problem.ub))
    x = drawn.scores.numpy() - (a.T @ p) / w
    y = np.clip(x, lb, ub)
    free = (x > lb) & (x < ub)
    ev = vector(drawn).evaluate(p)
    size = np.abs(y).max() + drawn.scale
    np.testing.assert_allclose(ev.f, a @ y + problem.rows.offset, atol=1e-12 * size * structure(problem).unit.max())
    np.testing.assert_allclose(ev.model(problem.rows.coefficients), (a * (free / w)) @ a.T, atol=1e-12 * structure(problem).metric.max())
    np.testing.assert_allclose(scores(drawn, p), y, atol=1e-12 * size)


@pytest.mark.parametrize("options", [{}, {"weights": True}, {"per_sample": True}, {"rows": 2}], ids=str)
@pytest.mark.parametrize("box", [True, False])
def test_sliced_and_vector_evaluations_agree(options: dict[str, Any], box: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells cut in several chunks. float64: to rounding; float32: its rounding leaves no systematic error of clamped samples."""
    monkeypatch.setattr(SlicedDual, "CHUNK", 300)
    problem, z = large(5000, 3, 1, **options)
    if not box:
        problem = ProjectionProblem(**{**{f: getattr(problem, f) for f in problem.__dataclass_fields__}, "lb": -INF, "ub": INF})
    z = z[problem.rows.order]
    rng = np.random.default_rng(2)
    for _ in range(5):
        p = rng.normal(size=problem.m) * 300.0
        plain = VectorDual(problem, z.numpy())
        sliced = SlicedDual(problem, z)
        a, b = plain.evaluate(p), sliced.evaluate(p)
        np.testing.assert_allclose(a.f, b.f, rtol=0, atol=1e-12)
        np.testing.assert_allclose(a.slope, b.slope, rtol=1e-12)
        np.testing.assert_allclose(plain.scores(p), sliced.scores(p), atol=1e-13)
        single = SlicedDual(problem, z.float())
        c = single.evaluate(p)
        same = VectorDual(problem, z.float().double().numpy()).evaluate(p)
        # bounds and weights of their own a sample are rounded to float32 as well; what the clamp of 0 and 1 rounds is taken back
        np.testing.assert_allclose(same.f, c.f, rtol=0, atol=1e-7 if "weights" in options or "per_sample" in options else 1e-12)
        assert single.scores(p).dtype == torch.float32
        np.testing.assert_allclose(single.scores(p), same_scores(problem, z, p), atol=2e-6)


def same_scores(problem: ProjectionProblem, z: torch.Tensor, p: Array) -> torch.Tensor:
    return VectorDual(problem, z.float().double().numpy()).scores(p)


def test_make_dual_takes_the_samples_in_cell_order() -> None:
    problem, z = large(6000, 3, 3)
    dual = make_dual(z.float(), problem)
    assert isinstance(dual, SlicedDual)
    torch.testing.assert_close(dual.z, z.float()[problem.rows.order])
    small, z = large(200, 3, 3)
    dual = make_dual(z.float(), small)
    assert isinstance(dual, VectorDual)
    np.testing.assert_array_equal(dual.z, z.float().double().numpy()[small.rows.order.numpy()])


# -- whole solves ----------------------------------------------------------------------------------------------------------------


def slack(drawn: Draw) -> float:
    """What a residual may be: 1e-10, and what the draw's own feasibility leaves open (rows are met to 1e-12 in their own units)."""
    return drawn.scale * (1e-10 + 2e-12 / float(structure(drawn.problem).unit.min()))


def rounding(drawn: Draw, p: Array) -> float:
    """What float64 prices leave open in score units: the sums A'p / w and f + s p are rounded. Counts where prices are about 1e6."""
    st_, problem = structure(drawn.problem), drawn.problem
    w = 1.0 if problem.weights is None else problem.weights.numpy()
    sums = float((np.abs(p) @ np.abs(problem.rows.matrix().numpy()) / w).max(initial=0.0))
    return float(np.finfo(np.float64).eps) * (sums + float((st_.metric / st_.unit * np.abs(p)).max(initial=0.0)))


def check(drawn: Draw, found: DualSolution) -> None:
    allowed = slack(drawn) + rounding(drawn, found.p)
    assert found.converged or structure(drawn.problem).unit.min() < 0.1  # there the draw itself may be infeasible by 1e-11
    assert found.iterations <= MAX_ITER
    again = residual(structure(drawn.problem), numbers(drawn.problem), vector(drawn).evaluate(found.p).f, found.p)
    assert np.abs(again).max(initial=0.0) <= allowed


def test_newton_solves_wild_draws() -> None:
    """0 failures, never a warning; few iterations on average. (20,000 of each of several seeds were tried when this was written.)"""
    iterations = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for drawn in wild(400, 5):
            found = solve(drawn)
            check(drawn, found)
            iterations.append(found.iterations)
    assert np.mean(iterations) < 4


# each was a failure of an earlier version: flats, scaled budgets, rows clamped on all sides, cells that leave their bounds together
HARD = [
    ("mixture", 1919652092, ("duplicate", "far", "loose", "tiny", "zero_tolerance")),
    ("mixture", 83753522, ("far",)),
    ("residual", 1261933958, ("narrow_box", "one_sided_box", "quadratic", "tiny")),
    ("ratio", 1251377579, ("budget", "sample_box", "ties", "wild_weights")),
    ("pairs", 31502031, ("budget", "scaled_rows", "weights")),
    ("mixture", 1980168111, ("budget", "constant_scores", "quadratic", "sample_box", "scaled_rows", "singleton")),
    ("overlap", 762429820, ("huge", "quadratic", "sample_box", "scaled_rows", "wild_weights")),
    ("mixture", 1642199055, ("quadratic", "singleton", "zero_tolerance")),
    ("range", 1467670390, ("far", "huge", "quadratic", "sample_box", "wild_weights")),
]


@pytest.mark.parametrize(("name", "seed", "mutations"), HARD, ids=str)
def test_newton_solves_what_once_failed(name: str, seed: int, mutations: tuple[str, ...]) -> None:
    drawn = draw(name, seed, mutations)
    check(drawn, solve(drawn))


@pytest.mark.slow
def test_newton_solves_many_wild_draws() -> None:
    for seed in range(20, 24):
        for drawn in wild(1500, seed):
            check(drawn, solve(drawn))


def test_scores_agree_with_the_oracle() -> None:
    pytest.importorskip("daqp")
    seen = 0
    for drawn in wild(120, 6, max_n=120):
        oracle = accepted_oracle(drawn)
        if oracle is not None:
            seen += 1
            np.testing.assert_allclose(scores(drawn, solve(drawn).p), oracle.y, rtol=0, atol=1e-8 * drawn.scale)
    assert seen >= 110


def test_contradicting_rows_are_never_called_solved() -> None:
    """The residual means what it says also where prices grow without end; no exception, no NaN, no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for drawn in infeasible(60, 3):
            found = solve(drawn)
            assert not found.converged
            assert found.iterations <= MAX_ITER
            assert np.isfinite(found.p).all()
            assert found.residual > 1e-6 * drawn.scale


@pytest.mark.parametrize("drawn", some(40, 13), ids=repr)
def test_any_start_leads_to_the_same_scores(drawn: Draw) -> None:
    """Also one outside the price domain: prices of open limits, beyond caps, ranges that do not sum to 0."""
    reference = scores(drawn, solve(drawn).p)
    st_ = structure(drawn.problem)
    start = np.random.default_rng(3).normal(size=drawn.problem.m) / st_.metric * st_.unit * drawn.scale
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = solve(drawn, start)
    check(drawn, found)
    np.testing.assert_allclose(scores(drawn, found.p), reference, atol=1e-8 * drawn.scale)


@pytest.mark.parametrize("drawn", some(50, 14), ids=repr)
def test_a_warm_start_at_tighter_limits_takes_a_step_or_two(drawn: Draw) -> None:
    problem = drawn.problem
    st_, nums = structure(problem), numbers(problem)
    found = solve(drawn)
    assert solve(drawn, found.p).iterations <= 4  # at most the steps that show that float64 resolves no better
    tight = nums.tightened(np.full(len(problem.softness), 1e-9 * drawn.scale), st_.hard)
    again = solve_dual(vector(drawn), st_, tight, found.p)
    fresh = solve_dual(vector(drawn), st_, tight)
    if fresh.converged:
        assert again.residual <= slack(drawn)
        np.testing.assert_allclose(scores(drawn, again.p), scores(drawn, fresh.p), atol=1e-8 * drawn.scale)


@pytest.mark.parametrize("options", [{"rows": 1}, {"rows": 2}, {"K": 5}, {"K": 5, "weights": True}, {"K": 5, "per_sample": True}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_first_guess_from_a_sample_changes_the_road_only(options: dict[str, Any], dtype: torch.dtype) -> None:
    problem, z = large(50_000, **{"K": 2, "seed": 4, **options})
    st_, nums = structure(problem), numbers(problem)
    dual = make_dual(z.to(dtype), problem)
    assert isinstance(dual, SlicedDual)
    assert dual.sampled() is not None
    found = solve_dual(dual, st_, nums)
    plain = VectorDual(problem, z.to(dtype).double()[problem.rows.order].numpy())
    expected = solve_dual(plain, st_, nums)
    assert found.converged
    assert found.residual <= (1e-8 if dtype == torch.float32 else 1e-13)
    assert found.iterations <= 8
    np.testing.assert_allclose(dual.scores(found.p).double(), plain.scores(expected.p), atol=1e-6 if dtype == torch.float32 else 1e-11)


def test_sampled_sums_estimate_the_whole() -> None:
    problem, z = large(60_000, 4, 5, weights=True)
    dual = make_dual(z, problem)
    assert isinstance(dual, SlicedDual)
    sample = dual.sampled()
    assert sample is not None
    shift = np.linspace(-0.3, 0.3, 4) * 1.0
    whole, part = dual.cells(shift), sample.cells(shift)
    np.testing.assert_allclose(part[0], whole[0], rtol=0.05)
    np.testing.assert_allclose(part[1], whole[1], rtol=0.05)
    assert sample.z.shape[0] < 15_000


def test_other_limits_keep_the_structure_and_the_plans() -> None:
    drawn = draw("overlap", 1, ["box", "weights"])
    solve(drawn)
    limits = drawn.problem.limits()
    changed = with_numbers(drawn.problem, limits)
    assert structure(changed) is structure(drawn.problem)
    assert changed.workspace.get("vector plan") is drawn.problem.workspace.get("vector plan") is not None


@settings(max_examples=30)
@given(SEEDS)
def test_only_inactive_rows_have_no_price(seed: int) -> None:
    """Complementarity in words: scores that meet all hard rows strictly are returned as they are, with prices 0."""
    drawn = draw("pairs", seed, ["loose"], max_n=30)
    n = drawn.problem.n
    same = VectorDual(drawn.problem, np.full(n, 0.25))
    found = solve_dual(same, structure(drawn.problem), numbers(drawn.problem))
    assert found.iterations == 0
    assert not found.p.any()
    assert found.residual == 0.0


def test_the_residual_sees_a_row_beside_a_price_far_larger_than_it() -> None:
    """A price at its cap on the wrong side: s p is 1e17 times the row's value, and f + s p would forget which side it is on."""
    notion = fo.DemographicParity("g", tolerance=0.0).priced(100.0)
    problem = fo.compile(notion, sensitive_features={"g": [0, 1]}, bounds=(-1e-15, 1e-15)).problem
    shape, nums = structure(problem), numbers(problem)
    for price, value, expected in [(-100.0, 3e-17, 3e-17), (-100.0, -3e-17, 0.0), (100.0, -3e-17, 3e-17), (100.0, 3e-17, 0.0)]:
        found = float(np.abs(residual(shape, nums, np.array([value]), np.array([price])))[0]) * float(shape.unit[0])
        assert found == pytest.approx(expected, rel=1e-9, abs=0.0)
