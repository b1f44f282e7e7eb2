"""dual_newton against the reference, over drawn problems: same scores, optimality conditions met, few iterations, always an answer."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings

from fairopt.basics.arrays import Array
from fairopt.contract.backend import Status
from fairopt.solve import Solution, solve
from fairopt.testing.draws import Draw, draw, drawn_problems, infeasible, wild
from fairopt.testing.optimality import residuals, size_of, written_out
from fairopt.testing.oracle import accepted_oracle

linprog = pytest.importorskip("scipy.optimize").linprog

ITERATIONS = 50
NO_ROOM = 1e-8  # of a row's size
inaccurate: list[Draw] = []  # draws that were answered so


def room(d: Draw) -> float:
    """The largest share of its row's size by which each hard limit can be tightened at once, with scores in their box; limits that agree
    (a tolerance of 0) stay equations. A linear program by HiGHS: what is below its tolerance is no room. No solution: 0.
    """
    dense, problem = written_out(d.problem), d.problem
    size = np.abs(dense.a).sum(axis=1) * size_of(d.scores.numpy(), d.scores.numpy()) + np.abs(dense.offset)
    above, below, equal, value = [], [], [], []  # rows (n + 1,) of the scores and the share

    def between(row: Array, low: float, high: float, unit: float) -> None:
        if high - low <= NO_ROOM * unit:
            equal.append([*row, 0.0])
            value.append(0.5 * (low + high))
            return
        for sign, limit in ((1.0, high), (-1.0, -low)):
            if np.isfinite(limit):
                above.append([*(sign * row), unit])
                below.append(limit)

    hard = [softness.kind == "hard" for softness in problem.softness]
    for k in range(problem.linear):
        if hard[k]:
            between(dense.a[k], problem.lower[k] - dense.offset[k], problem.upper[k] - dense.offset[k], size[k])
    for r, (rows, width, ratio) in enumerate(zip(problem.range_slices, problem.width, problem.ratio, strict=True)):
        for i, j in permutations(range(rows.start, rows.stop), 2) if hard[problem.linear + r] else ():
            apart = width - ratio * dense.offset[i] + dense.offset[j]
            low = -apart if ratio == 1.0 and width == 0.0 else -np.inf
            between(ratio * dense.a[i] - dense.a[j], low, apart, max(size[i], size[j]))
    bounds = [*zip(dense.lb, dense.ub, strict=True), (0.0, 1.0)]
    objective = np.array([0.0] * problem.n + [-1.0])
    parts = {"A_ub": above or None, "b_ub": below or None, "A_eq": equal or None, "b_eq": value or None}
    found = linprog(objective, bounds=bounds, **parts)
    return float(-found.fun) if found.status == 0 else 0.0


def check(d: Draw) -> tuple[int, bool]:
    """(iterations, whether there was a reference to compare with). Prices and scores are judged either way."""
    solution = solve(d.scores, d.problem, backend="dual_newton")
    y, p = as_arrays(solution)
    if solution.status is Status.INACCURATE:  # said of scores that are right to 1e-10, where limits leave no room for a float between them
        assert room(d) <= NO_ROOM, (d, solution.status, solution.certificate)
        inaccurate.append(d)
    else:
        assert solution.status in (Status.CERTIFIED, Status.WITHIN_ROUNDING), (d, solution.status, solution.message)
    assert solution.iterations <= ITERATIONS, (d, solution.iterations)
    found = residuals(d.problem, d.scores.numpy(), y, p)
    assert max(found.stationarity, found.complementarity) <= 1e-10, (d, found)
    assert found.violation <= 1e-10, (d, found)
    reference = accepted_oracle(d)
    if reference is not None:
        error = float(np.abs(y - reference.y).max())
        assert error <= 1e-8 * max(size_of(d.scores.numpy(), reference.y), d.scale), (d, error)
    return solution.iterations, reference is not None


def as_arrays(solution: Solution) -> tuple[Array, Array]:
    return solution.scores.detach().double().numpy(), solution.prices.detach().numpy()


def check_all(count: int, seed: int, max_n: int = 400) -> None:
    inaccurate.clear()
    found = [check(d) for d in wild(count, seed, max_n=max_n)]
    assert len(inaccurate) <= count / 5000, inaccurate
    assert np.mean([compared for _, compared in found]) > 0.99
    assert np.mean([iterations for iterations, _ in found]) < 10


def test_agrees_with_the_reference_on_300_draws() -> None:
    check_all(300, seed=0)


@settings(max_examples=100, deadline=None)
@given(drawn_problems(max_n=60))
def test_agrees_with_the_reference_on_what_hypothesis_finds(d: Draw) -> None:
    check(d)


def test_light_samples_far_outside_the_box_do_not_widen_the_repair() -> None:
    """Their shift is 1e5 times that of the free ones: a margin for it moved scores by 2e-9 and left a complementarity of 1.4e-10."""
    d = draw("residual_range", 187680957, ["far", "wild_weights"])
    y, p = as_arrays(solve(d.scores, d.problem, backend="dual_newton"))
    reference = accepted_oracle(d)
    assert reference is not None
    assert residuals(d.problem, d.scores.numpy(), y, p).worst <= 1e-12
    assert float(np.abs(y - reference.y).max()) <= 1e-11


def test_the_line_search_finds_the_bend_behind_a_flat_stretch() -> None:
    """Three dependent rows whose limits agree to 1e-12: the dual is flat until a clamped group comes free. A search that creeps along the
    flat stretch by a twentieth a step ended at 2.6e-13, beyond what the repair's margin covers."""
    d = draw("residual_range", 573797704, ["redundant", "sample_box", "scaled_rows"])
    solution = solve(d.scores, d.problem, backend="dual_newton")
    assert solution.status is Status.CERTIFIED
    y, p = as_arrays(solution)
    assert residuals(d.problem, d.scores.numpy(), y, p).worst <= 1e-13


def test_a_row_that_lets_go_at_the_tighter_limits_leaves_the_piece() -> None:
    """Tightened by 2e-14, one of six ratio rows no longer binds: held on the piece it got a price of 4e-10 on its open side."""
    d = draw("ratio", 706169048, ["singleton"])
    solution = solve(d.scores, d.problem, backend="dual_newton")
    assert solution.status is Status.CERTIFIED
    y, p = as_arrays(solution)
    assert (p <= 0.0).all()  # lower limits alone
    assert residuals(d.problem, d.scores.numpy(), y, p).worst <= 1e-13


def test_limits_that_touch_are_answered_honestly() -> None:
    """Rows that meet in one point of float64 width: the scores are right, and nothing is certified of them."""
    d = draw("mixture", 1346949836, ["narrow_box", "zero_tolerance"])
    assert room(d) <= NO_ROOM
    check(d)


def test_the_repair_ends_on_the_piece_that_its_search_found() -> None:
    """Beside a light sample at its bound the residual resolves 3e-13, a margin is 1e-15: the search alone left a row broken by 9e-12."""
    d = draw("mixture", 1668696937, ["narrow_box", "sample_box", "scaled_rows", "ties", "wild_weights"])
    assert room(d) > 0.01
    solution = solve(d.scores, d.problem, backend="dual_newton")
    assert solution.status is Status.CERTIFIED


def test_there_is_room_in_an_ordinary_draw() -> None:
    assert np.mean([room(d) > 1e-3 for d in wild(30, seed=3, max_n=40)]) > 0.3


@pytest.mark.slow
def test_agrees_with_the_reference_on_2000_draws() -> None:
    check_all(2000, seed=10)


@pytest.mark.slow
def test_agrees_with_the_reference_on_20000_wild_draws() -> None:
    check_all(20000, seed=20)


def test_says_so_when_there_is_no_solution() -> None:
    for d in infeasible(12, seed=1):
        solution = solve(d.scores, d.problem, backend="dual_newton")
        assert solution.status not in (Status.CERTIFIED, Status.WITHIN_ROUNDING), d
