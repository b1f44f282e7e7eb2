"""The last gate: what leaves ``solve`` with a status that grants anything has earned it, and nothing else leaves it."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import fairopt as fo
from fairopt.contract.backend import Backend, Capabilities, RawSolution, Status
from fairopt.contract.problem import ProjectionProblem, Softness
from fairopt.solve import Solution, solve
from fairopt.solve.dual.make import make_dual
from fairopt.solve.finish.gate import Stated, judge, outside
from fairopt.solve.finish.rounding import Finisher
from fairopt.solve.road import closed
from fairopt.solve.units import find_units
from fairopt.testing.draws import Draw, draw, wild
from fairopt.testing.exact import violation_exact

GRANTED = (Status.CERTIFIED, Status.WITHIN_ROUNDING)
DP = fo.DemographicParity
INF, NAN = float("inf"), float("nan")


def f64(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def project(z: Tensor, notion: fo.Notion, groups: str, **how: Any) -> Solution:
    return fo.project(z, notion, sensitive_features={"g": list(groups)}, return_solution=True, **how)


def check_honest(solution: Solution, problem: ProjectionProblem) -> None:
    """Finite and in the box, by comparison alone; certified rows in rationals that share no code with the front door."""
    y, certificate = solution.scores.detach().double(), solution.certificate
    assert bool(torch.isfinite(y).all())
    inside = bool(((y >= problem.lb) & (y <= problem.ub)).all())
    assert inside == (certificate.bounds_violation == 0.0)
    if solution.status is Status.CERTIFIED:
        assert inside
        with np.errstate(all="ignore"):
            exact = violation_exact(problem, solution.scores.detach())
        assert all(v is None or v <= 0 for v, s in zip(exact.constraints, problem.softness, strict=True) if s.kind == "hard")
    if solution.status in GRANTED:
        assert certificate.kkt_residual <= certificate.kkt_bound < INF
    assert bool(torch.isfinite(solution.prices).all())


def in_units(d: Draw, exponent: int) -> tuple[ProjectionProblem, Tensor]:
    """The draw with its scores, bounds, limits, constants and prices times 2^exponent."""

    def times(v: Any) -> Any:
        with np.errstate(over="ignore", under="ignore"):
            scaled = np.ldexp(np.asarray(v, dtype=np.float64), exponent)
        return torch.from_numpy(scaled) if isinstance(v, Tensor) else float(scaled) if isinstance(v, float) else scaled

    p = d.problem
    soft = tuple(replace(s, weight=times(s.weight)) if s.kind in ("priced", "budget") else s for s in p.softness)
    rows = replace(p.rows, offset=times(p.rows.offset), offset_terms=())
    scaled = replace(
        p, rows=rows, lower=times(p.lower), upper=times(p.upper), width=times(p.width), lb=times(p.lb), ub=times(p.ub), softness=soft
    )
    return scaled, times(d.scores)


def worsened(d: Draw, rng: np.random.Generator) -> ProjectionProblem:
    """The draw's problem with weights over 24 to 600 decades, samples that are pinned, far limits and bounds, weights of softness of any
    size, or all of that."""
    p, n = d.problem, d.problem.n
    if rng.random() < 0.5:
        decades = float(rng.choice([12, 12, 30, 300]))
        p = replace(p, weights=torch.from_numpy(10.0 ** rng.uniform(-decades, decades, n)))
    if rng.random() < 0.3:
        pin = rng.random(n) < rng.choice([0.1, 0.5, 0.9])
        lb, ub = (np.broadcast_to(b.numpy() if isinstance(b, Tensor) else b, (n,)).copy() for b in (p.lb, p.ub))
        lb[pin] = ub[pin] = np.clip(d.scores.numpy(), lb, ub)[pin]
        p = replace(p, lb=torch.from_numpy(lb), ub=torch.from_numpy(ub))
    if rng.random() < 0.3:
        far = float(rng.choice([1e20, 1e300, 1.7e308, np.inf]))
        p = replace(p, upper=np.where(rng.random(p.linear) < 0.5, far, p.upper), lower=np.where(rng.random(p.linear) < 0.5, -far, p.lower))
        p = replace(p, width=np.where(rng.random(p.ranges) < 0.5, min(far, 1.7e308), p.width))
    if rng.random() < 0.3 and not isinstance(p.lb, Tensor) and not isinstance(p.ub, Tensor):
        p = replace(p, lb=min(p.lb, -1.7e308), ub=max(p.ub, 1.7e308))
    if rng.random() < 0.4:
        budget = float(rng.choice([0.0, 1e-300, 1.0, 1e300]))
        p = replace(p, softness=tuple(_softened(s, rng, budget) for s in p.softness))
    return p


def _softened(now: Softness, rng: np.random.Generator, budget: float) -> Softness:
    kind = str(rng.choice(["as it is", "priced", "budget", "quadratic"]))
    if kind == "budget" or (kind == "as it is" and now.kind == "budget"):
        return Softness("budget", budget, 0)
    weight = float(rng.choice([1e-300, 1e-20, 1.0, 1e20, 1e300]))
    return now if kind == "as it is" else Softness("priced" if kind == "priced" else "quadratic", weight)


@pytest.mark.parametrize("seed", range(6))
def test_wild_problems_are_judged_right_and_have_finite_gradients(seed: int) -> None:
    granted = 0
    for number, d in enumerate(wild(40, seed, max_n=40)):
        rng = np.random.default_rng([seed, number])
        problem = worsened(d, rng)
        dtype = [torch.float64, torch.float64, torch.float32, torch.float16, torch.bfloat16][int(rng.integers(5))]
        z = d.scores.to(dtype).requires_grad_(True)
        if not bool(torch.isfinite(z.detach()).all()):
            continue  # beyond the dtype
        limits = problem.limits()
        for t in limits.tensors():
            t.requires_grad_(True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            solution = solve(z, problem, limits=limits)
            check_honest(solution, problem)
            assert solution.status is not Status.FAILED
            if solution.status not in GRANTED:
                continue
            granted += 1
            v = torch.from_numpy(rng.normal(size=problem.n)).to(dtype).requires_grad_(True)
            inputs = [z, *limits.tensors()]
            plain = torch.autograd.grad(solution.scores, inputs, v.detach(), retain_graph=True, allow_unused=True)
            again = torch.autograd.grad(solution.scores, inputs, v, create_graph=True, allow_unused=True)
            assert all(g is None or bool(torch.isfinite(g).all()) for g in (*plain, *again))
            if dtype is not torch.float16:  # whose second derivatives can be larger than it holds
                second = torch.autograd.grad(
                    torch.stack([g.double().sum() for g in again if g is not None]).sum(), [v, *inputs], allow_unused=True
                )
                assert all(g is None or bool(torch.isfinite(g).all()) for g in second)
    assert granted > 20


@pytest.mark.parametrize("exponent", [-1040, -940, -700, -333, -40, 40, 333, 700, 1000])
def test_the_answer_in_other_units_is_the_answer(exponent: int) -> None:
    compared = 0
    for d in wild(40, 9, max_n=40, avoid=("infeasible", "tiny", "huge", "far")):
        problem, z = in_units(d, exponent)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            scaled, plain = solve(z, problem), solve(d.scores, d.problem)
        check_honest(scaled, problem)
        if plain.status is not Status.CERTIFIED:
            continue
        compared += 1
        size = max(float(d.scores.abs().max()), float(plain.scores.abs().max()))
        lost = 256.0 * 2.0 ** max(-1074 - exponent, -1074)  # what subnormal numbers cannot tell
        error = float((torch.from_numpy(np.ldexp(scaled.scores.numpy(), -exponent)) - plain.scores).abs().max())
        assert error <= 1e-9 * size + lost
        if exponent > -900:
            assert scaled.status is Status.CERTIFIED
    assert compared > 25


@pytest.mark.parametrize("exponent", [-900, -100, 100, 900])
def test_gradients_in_other_units(exponent: int) -> None:
    """To the scores and the limits they are the same numbers; to rho and gamma they grow with the scores."""
    checked = 0
    for d in wild(
        40, 4, max_n=30, avoid=("infeasible", "ties", "duplicate", "redundant", "constant_scores", "zero_tolerance", "singleton")
    ):
        found = []
        for problem, z in ((d.problem, d.scores), in_units(d, exponent)):
            limits, x = problem.limits(), z.clone().requires_grad_(True)
            inputs = [x, *(t.requires_grad_(True) for t in limits.tensors())]
            solution = solve(x, problem, limits=limits)
            v = torch.linspace(-1.0, 1.0, problem.n, dtype=torch.float64).requires_grad_(True)
            first = torch.autograd.grad(solution.scores, inputs, v, create_graph=True, allow_unused=True)
            plain = torch.autograd.grad(solution.scores, inputs, v.detach(), retain_graph=True, allow_unused=True)
            found.append((solution.status, first, plain, torch.autograd.grad(first[0].sum(), v)[0]))
        (status, first, plain, second), (other_status, other_first, other_plain, other_second) = found
        if status is not Status.CERTIFIED or other_status is not Status.CERTIFIED:
            continue
        checked += 1
        grows = np.array([exponent if s.kind == "quadratic" else 0 for s in d.problem.softness])
        torch.testing.assert_close(other_second, second, rtol=1e-6, atol=1e-9)
        for ours, theirs in ((first, other_first), (plain, other_plain)):
            for g, h in zip(ours[:5], theirs[:5], strict=True):
                torch.testing.assert_close(h, g, rtol=1e-6, atol=1e-9)
            torch.testing.assert_close(
                torch.from_numpy(np.ldexp(theirs[5].detach().numpy(), -grows)), ours[5].detach(), rtol=1e-6, atol=1e-9
            )
    assert checked > 20


CASES: dict[str, dict[str, Any]] = {
    "unproved": {"proved": False},
    "nan residual": {"residual": NAN},
    "infinite residual": {"residual": INF},
    "residual over its bound": {"residual": 2e-9},
    "nan bound": {"kkt_bound": NAN},
    "infinite bound": {"kkt_bound": INF, "residual": 0.0},
    "no bound": {"kkt_bound": -1.0},
}


@pytest.fixture
def judged() -> tuple[ProjectionProblem, Tensor, Tensor]:
    """A problem with a box, an input, and scores that meet it: a in [0, 1], means within 0.5."""
    problem = fo.compile(DP("g", tolerance=0.5), sensitive_features={"g": list("aabb")}, bounds=(0.0, 1.0)).problem
    return problem, f64([0.0, 0.0, 1.0, 1.0]), f64([0.25, 0.25, 0.75, 0.75])


def claim(**changes: Any) -> Stated:
    return Stated(**{"status": Status.CERTIFIED, "proved": True, "finite": True, "residual": 1e-12, "kkt_bound": 1e-9, **changes})


def test_the_gate_lets_through_what_has_earned_it(judged: tuple[ProjectionProblem, Tensor, Tensor]) -> None:
    problem, z, y = judged
    violation = np.array([0.0])
    verdict = judge(y, z, problem, violation, claim())
    assert verdict.status is Status.CERTIFIED
    assert verdict.y is y
    assert verdict.violation is violation
    assert verdict.outside == 0.0


@pytest.mark.parametrize("name", CASES)
def test_a_claim_with_a_hole_is_denied(name: str, judged: tuple[ProjectionProblem, Tensor, Tensor]) -> None:
    problem, z, y = judged
    broken = f64([0.2, 0.2, 0.8, 0.8]) if name == "unproved" else y
    verdict = judge(broken, z, problem, np.array([-1.0]), claim(**CASES[name]))
    assert verdict.status is Status.INACCURATE
    if name != "unproved":
        assert judge(broken, z, problem, np.array([-1.0]), claim(status=Status.WITHIN_ROUNDING, **CASES[name])).status is Status.INACCURATE
    assert verdict.violation[0] == pytest.approx(0.1 if name == "unproved" else 0.0, abs=1e-12)  # recomputed, not believed


@pytest.mark.parametrize("status", [s for s in Status if s.name != "CLOSEST"])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("said", [True, False])
def test_scores_that_are_not_finite_never_leave(
    status: Status, bad: float, said: bool, judged: tuple[ProjectionProblem, Tensor, Tensor]
) -> None:
    problem, _, y = judged
    y[1] = bad
    boxless = replace(problem, lb=-INF, ub=INF)
    per_sample = replace(problem, lb=f64([0.0, 0.0, 0.0, -INF]), ub=f64([1.0, INF, 1.0, INF]))
    for p in (problem, boxless, per_sample):
        z = f64([-7.0, 0.0, 1.0, 1.0])
        verdict = judge(y, z, p, np.array([-1.0]), claim(status=status, finite=said and p is problem))
        assert verdict.status not in GRANTED
        assert verdict.y.tolist() == [-7.0 if p is boxless else 0.0, 0.0, 1.0, 1.0]  # the input, clipped


def test_an_ulp_outside_the_box_is_outside(judged: tuple[ProjectionProblem, Tensor, Tensor]) -> None:
    problem, z, _ = judged
    y = f64([0.5, 0.5, 0.75, math.nextafter(1.0, 2.0)])
    assert outside(y, problem) == math.nextafter(1.0, 2.0) - 1.0
    for p in (problem, replace(problem, ub=f64([1.0, 1.0, 1.0, 1.0]))):
        verdict = judge(y, z, p, np.array([-1.0]), claim())
        assert verdict.status is Status.WITHIN_ROUNDING
        assert verdict.y.tolist() == [0.5, 0.5, 0.75, 1.0]
    y[3] = 1.25
    assert judge(y, z, problem, np.array([-1.0]), claim()).status is Status.INACCURATE


def test_bounds_between_which_the_dtype_has_no_number_are_not_certified() -> None:
    box = (0.1 - 1e-12, 0.1 + 1e-12)
    solution = project(torch.tensor([0.2, 0.3], dtype=torch.float16), DP("g", tolerance=1.0), "ab", bounds=box)
    assert solution.status is Status.WITHIN_ROUNDING
    assert 0.0 < solution.certificate.bounds_violation <= 1e-4


class Raising(Backend):
    """Raises what it is told to."""

    name: ClassVar[str] = "raising"
    capabilities: ClassVar[Capabilities] = Capabilities()
    error: ClassVar[BaseException] = RuntimeError("nothing")

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        raise self.error


FOREIGN = (
    np.linalg.LinAlgError("Eigenvalues did not converge"), MemoryError("Unable to allocate 11.8 GiB"), OverflowError("too large"),
    ZeroDivisionError("float division by zero"), FloatingPointError("underflow"), RecursionError("maximum recursion depth"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"), ValueError("shapes"), IndexError("7"), KeyError("x"), AssertionError(),
)  # fmt: skip


@pytest.mark.parametrize("error", FOREIGN, ids=lambda e: type(e).__name__)
def test_a_foreign_exception_becomes_a_status_with_the_problems_hash(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Raising, "error", error)
    prepared = fo.compile(DP("g", tolerance=0.1), sensitive_features={"g": list("aabb")}, bounds=(0.0, 4.0))
    z = f64([-1.0, 0.5, 2.0, 5.0]).requires_grad_(True)
    solution = solve(z, prepared.problem, backend=Raising)
    assert solution.status is Status.FAILED
    assert solution.certificate.problem_hash in solution.message
    assert type(error).__name__ in solution.message
    assert solution.scores.tolist() == [0.0, 0.5, 2.0, 4.0]
    assert solution.certificate.max_violation == pytest.approx(2.65)
    with pytest.raises(fo.BackendError, match=f"{type(error).__name__}.*'raising'.*{solution.certificate.problem_hash}"):
        prepared.project(z, backend=Raising)
    with pytest.raises(fo.BackendError, match="'raising'"):
        prepared.project_batch(torch.stack([z, z]), backend=Raising)
    with pytest.raises(fo.BackendError, match="'raising'"):
        fo.FairnessLayer(DP("g", tolerance=0.1), backend=Raising)(z, sensitive_features={"g": list("aabb")})


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TimeoutError(), fo.BackendError("mine"), fo.InputError("mine")])
def test_what_is_no_failure_of_the_solver_passes(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Raising, "error", error)
    with pytest.raises(type(error)):
        project(f64([0.0, 0.5, 2.0, 5.0]), DP("g", tolerance=0.1), "aabb", backend=Raising)


def test_an_exception_in_the_gradient_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    z = f64([0.0, 1.0, 2.0, 5.0, 7.0, 8.0]).requires_grad_(True)
    with closed():
        solution = project(z, DP("g", tolerance=0.1), "aabbcc")

    def failing(*_: object) -> None:
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr("fairopt.solve.gradient.implicit.vector_jacobian", failing)
    with pytest.raises(fo.BackendError, match=f"gradient.*LinAlgError.*{solution.certificate.problem_hash}"):
        solution.scores.sum().backward()


def test_a_budget_of_nothing_beside_a_hard_row() -> None:
    """Faults a1 and h1: 0 / 0 in the scale of an empty cap."""
    hard = DP("g", tolerance=0.5)
    for groups, soft, z in (
        ("aabb", DP("g", tolerance=0.1), [0.0, 1, 2, 5]),
        ("aabbcc", DP("g", tolerance=0.1, to="overall"), [0.0, 1, 2, 5, 7, 8]),
    ):
        solution = project(f64(z), soft.budgeted(0.0) & hard, groups)
        alone = project(f64(z), hard, groups)
        assert solution.status is Status.CERTIFIED
        torch.testing.assert_close(solution.scores, alone.scores, rtol=0.0, atol=1e-9)


def test_half_precision_ends_at_its_largest_number() -> None:
    """Fault a2: what float16 cannot hold is not certified; where some float16 scores do, the nearest of them are."""
    z = torch.tensor([6e4, 6e4, 100.0, 5e4], dtype=torch.float16)
    with pytest.warns(fo.FairoptWarning, match="INACCURATE"):
        solution = project(z, fo.MeanResidual("g", tolerance=1.0), "aabb", targets=[7e4] * 4)
    assert solution.scores.tolist() == [65504.0] * 4
    assert solution.certificate.max_violation == pytest.approx(7e4 - 65504 - 1)
    near = torch.tensor([65504.0, 65000.0], dtype=torch.float16).requires_grad_(True)  # without an end: 65752, 65248
    solution = project(near, fo.GroupMeanBound("g", lower=65400.0), "aa")
    assert solution.status is Status.CERTIFIED
    assert solution.scores.tolist() in ([65504.0, 65312.0], [65504.0, 65344.0])  # an ulp is 32
    solution.scores.sum().backward()
    assert near.grad is not None
    assert bool(torch.isfinite(near.grad).all())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_largest_numbers_of_a_dtype(dtype: torch.dtype) -> None:
    top = 0.94 * torch.finfo(dtype).max
    z = torch.tensor([top, top, -top, -top, top / 2, -top], dtype=dtype).requires_grad_(True)
    for notion in (DP("g", tolerance=0.1 * top), DP("g", tolerance=0.0), DP("g", tolerance=1.0)):
        solution = project(z, notion, "aabbcc")
        assert solution.status in GRANTED
        assert bool(torch.isfinite(solution.scores).all())
        means = solution.scores.detach().double().reshape(3, 2).mul(0.5).sum(1)
        assert float(means.max() / top - means.min() / top) <= 0.1 + 4 * torch.finfo(dtype).eps
        (gradient,) = torch.autograd.grad(solution.scores.double().sum(), z)
        assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("size", [2.0**-700, 2.0**700])
def test_a_distance_whose_square_is_no_float(size: float) -> None:
    plain = project(f64([0.0, 1, 2, 5]), DP("g", tolerance=0.1), "aabb")
    far = project(size * f64([0.0, 1, 2, 5]), DP("g", tolerance=0.1 * size), "aabb")
    assert far.certificate.distance / size == pytest.approx(plain.certificate.distance, rel=1e-9)


def test_a_covariance_row_of_any_size() -> None:
    """Fault a3: features times 1e-155 ask the same of the scores, whose squares underflow."""
    s, z = np.linspace(-1, 1, 20), torch.linspace(-1, 1, 20, dtype=torch.float64)
    plain = fo.project(z, fo.ScoreCovariance("s", tolerance=0.01), sensitive_features={"s": s}, return_solution=True)
    for size in (2.0**-515, 2.0**-1000, 2.0**515, 2.0**900):
        notion = fo.ScoreCovariance("s", tolerance=0.01 * size)
        solution = fo.project(z, notion, sensitive_features={"s": s * size}, return_solution=True)
        assert solution.status is Status.CERTIFIED
        torch.testing.assert_close(solution.scores, plain.scores, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("size", [2.0**-400, 2.0**400])
def test_soft_rows_of_any_size(size: float) -> None:
    """A row times s costs the same with rho / s and gamma / s^2."""
    s, z = np.linspace(-1, 1, 20), torch.linspace(-1, 1, 20, dtype=torch.float64)

    def answer(size: float, soften: Any) -> tuple[Tensor, Tensor]:
        notion = soften(fo.ScoreCovariance("s", tolerance=0.01 * size), size)
        solution = fo.project(z, notion, sensitive_features={"s": s * size}, return_solution=True)
        assert solution.status is Status.CERTIFIED
        return solution.scores, solution.prices * size

    for soften in (lambda n, f: n.priced(2.0 / f), lambda n, f: n.penalised(3.0 / f / f), lambda n, f: n.budgeted(2.0 / f)):
        scores, prices = answer(1.0, soften)
        assert float((scores - z).abs().max()) > 0.05
        torch.testing.assert_close(answer(size, soften), (scores, prices), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("size", [1e-154, 1e-250])
def test_a_row_of_a_budget_that_is_too_small_to_count_leaves_the_others_alone(size: float) -> None:
    """The largest excess of the two decides the cost: a row of size 1e-154 has none, but its square is no float64."""
    z = f64([-100000000.30661817, -100000000.94703935, -100000000.5])
    features: dict[str, Any] = {"g": list("bab"), "s": np.array([4.11, 4.15, -3.0]) * size}
    parity = DP("g", tolerance=0.05)
    both = (parity & fo.ScoreCovariance("s", tolerance=0.0)).budgeted(0.1)
    solution = fo.project(z, both, sensitive_features=features, return_solution=True)
    alone = fo.project(z, parity.budgeted(0.1), sensitive_features=features, return_solution=True)
    assert solution.status is Status.CERTIFIED
    assert float((alone.scores - z).abs().max()) > 0.01
    torch.testing.assert_close(solution.scores, alone.scores, rtol=0.0, atol=1e-6)


def test_rows_of_a_budget_154_decades_apart_give_a_status_and_numbers() -> None:
    z = f64([-0.4648668638063249, 0.9523226835470302, -0.8150633267636096]).requires_grad_(True)
    notion = (DP("g", tolerance=0.0) & fo.ScoreCovariance("s", tolerance=0.01)).budgeted(0.1)
    features: dict[str, Any] = {"g": [0, 2, 1], "s": [-8.579016571778978e154, -8.494438083119798e154, 1.9757401851531725e154]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fo.FairoptWarning)
        solution = fo.project(z, notion, sensitive_features=features, return_solution=True)
    assert all(np.isfinite(v) for v in (solution.certificate.kkt_residual, solution.certificate.moved_by_repair))
    solution.scores.sum().backward()
    assert z.grad is not None
    assert bool(torch.isfinite(z.grad).all())


@pytest.mark.parametrize("seed", range(30))
def test_a_light_sample_loosens_no_margin_of_other_groups(seed: int) -> None:
    """Margins are a few ulps of the scores that there are, not of how far one group's price would move the lightest sample of another."""
    rng = np.random.default_rng(seed)
    groups = np.arange(8) % 2
    z = f64(rng.normal(size=8) + 5.0)
    weights = f64(10.0 ** rng.uniform(-1, 1, 8) * 10.0 ** (-6.0 * groups))
    notion = fo.GroupMeanBound("g", upper=0.5)
    solution = fo.project(z, notion, sensitive_features={"g": groups}, weights=weights, return_solution=True)
    assert solution.status is Status.CERTIFIED
    means = np.array([float(solution.scores[groups == g].mean()) for g in range(2)])
    assert float(np.abs(means - 0.5).max()) <= 1e-13 * float(solution.scores.abs().max())


@pytest.mark.parametrize("gamma", [1e-12, 1e-18, 1e-30])
def test_a_tiny_gamma_leaves_the_other_rows_alone(gamma: float) -> None:
    """1 / gamma in the saddle system of the active rows outweighs them by more than the pseudo-inverse's cut."""
    features = {"g": list("aabbaabb"), "h": list("xyxyyxxy"), "k": list("uuuvvvuv")}
    z = f64([0.0, 1.0, 2.0, 5.0, 0.3, 1.7, 3.0, 4.0]).requires_grad_(True)
    hard = DP("g", tolerance=0.5) & DP("h", tolerance=0.01)
    soft = fo.project(z, hard & DP("k", tolerance=0.1).penalised(gamma), sensitive_features=features, return_solution=True)
    alone = fo.project(z, hard, sensitive_features=features, return_solution=True)
    v = torch.linspace(-1.0, 1.0, 8, dtype=torch.float64)
    assert soft.status is Status.CERTIFIED
    torch.testing.assert_close(soft.scores, alone.scores, rtol=0.0, atol=1e-9)
    gradients = [torch.autograd.grad(s.scores, z, v)[0] for s in (soft, alone)]
    torch.testing.assert_close(*gradients, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_the_check_of_the_rows_proves_nothing_of_scores_that_are_not_finite(bad: float) -> None:
    problem = fo.compile(DP("g", tolerance=0.5), sensitive_features={"g": list("aabb")}).problem
    z = f64([0.0, 0.0, 0.25, 0.25])
    finisher = Finisher(z, problem, make_dual(z, problem), 0.25)
    assert finisher.check(z, 0.25).holds
    y = f64([0.0, 0.0, 0.25, bad])
    check = finisher.check(y, 0.25)
    assert not check.holds
    assert not check.finite


def test_rows_whose_float_sums_overflow_are_decided_exactly() -> None:
    problem = fo.compile(DP("g", tolerance=0.0), sensitive_features={"g": list("aabb")}).problem
    for y, holds in (([1.7e308] * 4, True), ([1.7e308, 1.7e308, 1.7e308, 1.6e308], False)):
        finisher = Finisher(f64(y), problem, make_dual(f64(y), problem), 1.7e308)
        with np.errstate(all="ignore"):
            assert finisher.check(f64(y), 1.7e308).holds == holds


def test_a_pinned_sample_that_moved_is_told() -> None:
    """Fault b1: the certificate's bounds violation is that of the scores, and CERTIFIED ones have none."""
    a, b, c, e = 1.1041037957134099, 0.5974741261459465, 1.211975326037798, 2.423950652075596
    lb, ub = f64([-e, b, -e]), f64([e, b, e])
    solution = project(f64([a, b, c]), DP("g", tolerance=0.0), "aab", bounds=(lb, ub))
    assert solution.status in GRANTED
    assert solution.scores[1] == b
    assert solution.certificate.bounds_violation == 0.0


def test_heavy_weights_keep_their_samples() -> None:
    """Weights over 24, 200 and 600 decades: who is heavy stays, who is light moves."""
    for decades in (12, 100, 300):
        weights = [10.0**decades, 10.0**-decades, 10.0**decades, 10.0**-decades]
        solution = project(f64([0.0, 0.0, 1.0, 1.0]), DP("g", tolerance=0.5), "aabb", weights=weights)
        assert solution.status is Status.CERTIFIED
        torch.testing.assert_close(solution.scores, f64([0.0, 0.5, 1.0, 0.5]), rtol=0.0, atol=1e-12)


def test_weights_that_are_cut_certify_nothing_about_who_moves() -> None:
    """Beside a pinned sample of weight 1e-300 those of 1e290 and 1e300 are beyond what float64 tells apart in one system."""
    problem = fo.compile(
        DP("g", tolerance=0.5), sensitive_features={"g": list("aabb")}, bounds=(f64([0.0, 0, -9, -9]), f64([0.0, 0, 9, 9])),
        weights=[1e-300, 1e-300, 1e290, 1e300],
    ).problem  # fmt: skip
    z = f64([0.0, 0.0, 1.0, 1.0])
    solution = solve(z, problem)
    moved_right = float((solution.scores - f64([0.0, 0.0, 0.0, 1.0])).abs().max()) < 1e-9
    assert moved_right or solution.status is Status.INACCURATE


def test_the_common_road_needs_no_units() -> None:
    d = draw("overlap", 3, ["box", "weights"], n=50)
    assert find_units(d.problem, float(d.scores.abs().max()), torch.float64) is None
    assert find_units(d.problem, 2.0**31, torch.float64) is not None
    zeros = fo.compile(DP("g", tolerance=0.1), sensitive_features={"g": list("ab")}).problem
    assert find_units(zeros, 0.0, torch.float64) is None


def test_the_certificate_states_nearness() -> None:
    for z, bounds in ((f64([0.0, 1, 2, 5]), None), (f64([0.0, 1, 2, 5]), (0.0, 3.0)), (torch.tensor([0.0, 1, 2, 5]), None)):
        solution = project(z, DP("g", tolerance=0.1), "aabb", bounds=bounds)
        told = solution.certificate.to_dict()
        assert solution.status is Status.CERTIFIED
        assert 0.0 <= told["kkt_residual"] <= told["kkt_bound"] <= 1e-8 if z.dtype == torch.float64 else 1e-5
    assert "nearest" in Status.CERTIFIED.advice


def test_a_budget_at_its_cap_reads_as_such_beside_large_scores() -> None:
    """Scores of 1e6 hide the last digits of the budget's widening: its flow is still the cap, and the repair leaves its piece alone."""
    weights = [-0.4477978929622047, -0.16450126423277087, -0.49564606330714495, 0.3879871341457924, -0.7626962368507467]

    @fo.notion
    def two(batch: Any, attribute: Any) -> Any:
        yield 0.5 * batch.mean(batch.group(attribute, True)) + 0.25 <= 0.05
        yield batch.weighted(weights) >= -0.01

    z = torch.tensor([1001828.1707778567, 0.062427631499111784, -4.6725061838883643e-07, -90.75734550495075, -1e-05], dtype=torch.float64)
    notion = two("g").budgeted(0.1) & fo.MeanResidual("g", tolerance=1.2)
    facts: dict[str, Any] = {"sensitive_features": [False, False, True, True, True], "targets": [1.0, 0.0, 1.0, 1.0, 0.0]}
    solution = fo.project(z, notion, return_solution=True, **facts)
    assert solution.status is fo.Status.CERTIFIED
    assert float(solution.prices[:2].abs().sum()) <= 0.1 * (1 + 1e-9)
    # one hard row asks 5e5 of each of the first group's scores; the budget can move none of them by more than 0.1 times its weight
    assert torch.allclose(solution.scores[:2], torch.tensor([500915.754, -500912.354], dtype=torch.float64), atol=0.1)


def test_rows_that_no_scores_inside_break_are_counted_where_scores_end_outside() -> None:
    """bfloat16 has no number between these bounds, and presolve leaves the row out since no scores between them break it."""
    box = (f64([1002.2208450354153, 1002.4864536957264, 996.6114616343234]), f64([1002.2208476945724, 1002.4864568119586, 996.61146336512]))
    z = torch.tensor([1000.0, 1004.0, 1000.0], dtype=torch.bfloat16)
    features = {"g": [False, False, False]}
    solution = fo.project(z, fo.GroupMeanBound("g", lower=999.999999), sensitive_features=features, bounds=box, return_solution=True)
    exact = max(0.0, 999.999999 - float(solution.scores.double().mean()))
    assert solution.status is fo.Status.WITHIN_ROUNDING
    assert solution.certificate.bounds_violation > 0.0
    assert solution.certificate.max_violation == pytest.approx(exact, abs=1e-9)
    assert exact > 0.1
    assert len(solution.prices) == len(solution.labels) == 1


@pytest.mark.parametrize("size", [1e-34, 1e-300, 1.0])
def test_a_capped_limit_that_overflows_in_the_units_of_small_scores(size: float) -> None:
    """The whole cap goes to the row that is farthest: y = z + cap / 2. The limit is infinite where scores of 1e-34 are about 1."""

    @fo.notion
    def far(batch: Any, attribute: Any) -> Any:
        mean = batch.mean(batch.groups(attribute)[0])
        yield 0.5 * mean >= 1e300
        yield -1.0 * mean <= 0.0

    scores = torch.tensor([-size], dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = fo.project(scores, far("g").budgeted(1e4 * size), sensitive_features={"g": ["a"]}, return_solution=True)
    assert solution.status is Status.CERTIFIED
    assert float(solution.scores[0]) == pytest.approx(-size + 5e3 * size, rel=1e-9)
