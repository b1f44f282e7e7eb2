"""CERTIFIED means that hard rows hold in rational arithmetic, for the very numbers returned; feasible inputs come back as they are."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fairopt.contract.backend import Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve import Solution, solve
from fairopt.testing.draws import SOFT, Draw, draw, drawn_problems, stream
from fairopt.testing.exact import ExactViolation, violation_exact
from fairopt.testing.structures import STRUCTURES

DTYPES = (torch.float64, torch.float32)
TOLERANCES = (0.05, 1e-3, 1e-4)
HARD = tuple(sorted(SOFT | {"infeasible", "zero_tolerance"}))


def hard_violations(problem: ProjectionProblem, found: ExactViolation) -> list[Fraction]:
    return [v for v, s in zip(found.constraints, problem.softness, strict=True) if v is not None and s.kind == "hard"]


def proved(problem: ProjectionProblem, solution: Solution) -> None:
    """The claims of the status and of the certificate, checked exactly."""
    found = violation_exact(problem, solution.scores)
    hard = hard_violations(problem, found)
    if solution.status is Status.CERTIFIED:
        assert found.bounds is None or found.bounds <= 0, float(found.bounds)
        assert max(hard, default=Fraction(0)) <= 0, float(max(hard))
    else:
        assert solution.status is Status.WITHIN_ROUNDING
        ulp = torch.finfo(solution.scores.dtype).eps * max(1.0, float(solution.scores.abs().max()))  # a box without a number of the dtype
        assert found.bounds is None or found.bounds <= ulp
    certificate = solution.certificate
    for told, exact in zip(certificate.violation.tolist(), found.constraints, strict=True):
        if exact is not None and np.isfinite(told):
            assert abs(told - float(exact)) <= certificate.rounding_bound + 1e-18, (told, float(exact))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tolerance", TOLERANCES)
@pytest.mark.parametrize("structure", ["range", "pairs", "overlap", "residual", "covariance", "ratio"])
def test_usual_tolerances_are_certified(structure: str, tolerance: float, dtype: torch.dtype) -> None:
    certified = 0
    for seed in range(6):
        d = draw(structure, seed, ["box", "weights"][: seed % 3], max_n=300)
        problem = with_tolerance(d.problem, tolerance)
        solution = solve(d.scores.to(dtype), problem)
        proved(problem, solution)
        certified += solution.status is Status.CERTIFIED
    assert certified == 6


def with_tolerance(problem: ProjectionProblem, tolerance: float) -> ProjectionProblem:
    """Another number in the symmetric limits and the widths of a drawn problem with a box that admits a constant or the targets."""
    symmetric = np.isfinite(problem.upper) & (problem.lower == -problem.upper)
    lower, upper = np.where(symmetric, -tolerance, problem.lower), np.where(symmetric, tolerance, problem.upper)
    return replace(problem, lower=lower, upper=upper, width=np.full_like(problem.width, tolerance))


@settings(max_examples=250, deadline=None)
@given(drawn_problems(max_n=120), st.sampled_from(DTYPES))
def test_certified_is_never_wrong(d: Draw, dtype: torch.dtype) -> None:
    proved(d.problem, solve(d.scores.to(dtype), d.problem))


@settings(max_examples=80, deadline=None)
@given(drawn_problems(max_n=120, avoid=HARD), st.sampled_from(DTYPES))
def test_hard_rows_with_room_are_certified(d: Draw, dtype: torch.dtype) -> None:
    """Where every row has room for the rounding of the dtype, nothing less than CERTIFIED comes back."""
    problem = d.problem
    reach = problem.rows.absolute_sum * (max(float(d.scores.abs().max()), 1.0) * 64 * torch.finfo(dtype).eps)
    room = np.concatenate([problem.upper - problem.lower, problem.width])
    needed = np.concatenate([reach[: problem.linear], [reach[block].max() for block in problem.range_slices]])
    assume(bool((room > needed).all()))
    assume("sample_box" not in d.mutations)  # a box may leave a single point
    assume("narrow_box" not in d.mutations)
    solution = solve(d.scores.to(dtype), problem)
    assert solution.status is Status.CERTIFIED, (d, solution.certificate.max_violation)
    proved(problem, solution)


@settings(max_examples=80, deadline=None)
@given(drawn_problems(max_n=120), st.sampled_from(DTYPES))
def test_a_certified_answer_comes_back_as_the_same_bits(d: Draw, dtype: torch.dtype) -> None:
    assume(d.problem.all_hard)
    once = solve(d.scores.to(dtype), d.problem)
    assume(once.status is Status.CERTIFIED)
    twice = solve(once.scores, d.problem)
    assert twice.status is Status.CERTIFIED
    assert torch.equal(twice.scores, once.scores)
    assert not twice.prices.any()


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(STRUCTURES), st.integers(0, 2**31), st.sampled_from(DTYPES))
def test_a_feasible_input_comes_back_as_the_same_bits(structure: str, seed: int, dtype: torch.dtype) -> None:
    """Scores are drawn near the witness, so that many are feasible; whether they are is decided exactly."""
    d = draw(structure, seed, ["loose"] + ["box"] * (seed % 2), max_n=120)
    assert d.witness is not None
    noise = stream(seed, "noise").normal(size=d.problem.n) * 10.0 ** stream(seed, "size").uniform(-6.0, -1.0)
    scores = torch.from_numpy(d.witness + noise).to(dtype)
    found = violation_exact(d.problem, scores)
    assume(found.worst <= 0)
    solution = solve(scores, d.problem)
    assert torch.equal(solution.scores, scores)
    assert solution.status is Status.CERTIFIED


@settings(max_examples=60, deadline=None)
@given(drawn_problems(max_n=60, structures=("range", "pairs", "overlap")), st.sampled_from(DTYPES))
def test_equal_means_on_the_grid(d: Draw, dtype: torch.dtype) -> None:
    """Tolerance 0: certified where equal means exist on the grid, else WITHIN_ROUNDING with a bound that holds; never outside it."""
    problem = with_tolerance(d.problem, 0.0)
    solution = solve(d.scores.to(dtype), problem)
    found = hard_violations(problem, violation_exact(problem, solution.scores))
    if problem.all_hard and solution.status is Status.WITHIN_ROUNDING:
        reach = float(problem.rows.absolute_sum.max()) * float(solution.scores.abs().max())
        assert float(max(found)) <= 4.0 * torch.finfo(dtype).eps * reach + 1e-300
    proved(problem, solution)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_proved_too(dtype: torch.dtype) -> None:
    certified = 0
    for seed in range(20):
        d = draw(("range", "overlap", "residual", "pairs")[seed % 4], seed, ["box"], max_n=200)
        problem = with_tolerance(d.problem, 0.05)
        solution = solve(d.scores.to(dtype), problem)
        assert solution.scores.dtype == dtype
        proved(problem, solution)
        certified += solution.status is Status.CERTIFIED
    assert certified >= 15


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_million_samples(dtype: torch.dtype) -> None:
    d = draw("overlap", 5, ["box"], n=1_000_000)
    for tolerance in TOLERANCES:
        problem = with_tolerance(d.problem, tolerance)
        solution = solve(d.scores.to(dtype), problem)
        assert solution.status is Status.CERTIFIED
        proved(problem, solution)
