"""What the solvers get wrong in silence, and the guard against each. Every test here was seen to fail with its guard taken out."""

from __future__ import annotations

import importlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fairopt as fo
from fairopt.basics.errors import BackendError, InfeasibleError, UnsupportedError
from fairopt.contract.backend import Capabilities, Status
from fairopt.contract.problem import Limits, ProjectionProblem, Softness
from fairopt.solve import solve
from fairopt.testing.assembly import Assembly, Linear
from fairopt.testing.claims.prices import check_softness
from fairopt.testing.claims.subject import Layer
from fairopt.testing.claims.verify import instance_rng
from fairopt.testing.draws import draw, infeasible, wild
from fairopt.testing.oracle import accepted_oracle, solve_reference
from fairopt.testing.sensitivity import exact_jacobian, generic
from fairopt_backends.adapter import Adapter, Answer
from fairopt_backends.cone_attempts import attempts, best_answer
from fairopt_backends.cvxpylayers import CvxpyLayers
from fairopt_backends.diffcp import Diffcp
from fairopt_backends.moreau import Moreau, _strict
from fairopt_backends.multipliers import non_negative_least_squares
from fairopt_backends.programme import Programme
from fairopt_backends.proxqp import ProxQP
from fairopt_backends.qpsolvers import QPSolvers
from fairopt_backends.qpth import FORWARDS, Qpth
from fairopt_backends.theseus import Theseus
from fairopt_backends.unrolled import Unrolled

NEEDS: dict[Any, str] = {
    CvxpyLayers: "cvxpylayers", Diffcp: "diffcp", Moreau: "moreau", ProxQP: "proxsuite", QPSolvers: "qpsolvers", Qpth: "qpth",
    Theseus: "theseus", Unrolled: "torch",
}  # fmt: skip
Z = torch.tensor([0.5, 0.3, -0.1, 0.2], dtype=torch.float64)


def need(*kinds: type) -> None:
    for kind in kinds:
        pytest.importorskip(NEEDS[kind])


def difference(tolerance: float, copies: int = 1, softness: Softness | None = None) -> ProjectionProblem:
    """abs(mean of the first two - mean of the last two) <= tolerance in the box [-1, 1], ``copies`` times in other units."""
    assembly = Assembly(4)
    a, b = assembly.mask(np.arange(4) < 2), assembly.mask(np.arange(4) >= 2)
    gap = assembly.mean(a).plus(assembly.mean(b), -1.0)
    for k in range(1, copies + 1):
        row = gap.scaled(float(k))
        assembly.linear.append(Linear(row, -k * tolerance, k * tolerance, *([] if softness is None else [softness])))
    return assembly.problem(-1.0, 1.0)


def gradient(backend: Adapter | Unrolled, problem: ProjectionProblem, v: Tensor, z: Tensor = Z) -> Tensor:
    z = z.clone().requires_grad_(True)
    (g,) = torch.autograd.grad(backend.solve_native(z, problem, problem.limits()) @ v, z)
    return g


def worst(backend: Adapter, count: int, seed: int) -> float:
    """The largest raw error over drawn problems of order 1; no status may say that something is wrong."""
    errors = []
    for d in wild(count, seed, max_n=20, avoid=("infeasible", "huge", "tiny", "far")):
        o = accepted_oracle(d)
        if o is None or not {s.kind for s in d.problem.softness} <= backend.capabilities.softness:
            continue
        raw = backend.solve(d.scores, d.problem)
        assert raw.status is None, (d, raw.message)
        assert raw.y is not None
        errors.append(float(np.abs(raw.y.numpy() - o.y).max()))
    assert len(errors) >= count // 3
    return max(errors)


# a solver's word ------------------------------------------------------------------------------------------------------------------


class Liar(Adapter):
    """Says "solved" and returns zeros, as several solvers do for an infeasible problem."""

    name = "liar"
    capabilities = Capabilities(gradients=("implicit", "native"), ranges=True)

    def _solve(self, programme: Programme) -> Answer:
        return Answer(np.zeros(programme.lowered.variables), np.zeros(programme.lowered.rows))

    def _native(self, lowered: object, numbers: object, centre: Tensor) -> tuple[Tensor, np.typing.NDArray[np.float64]]:
        return 0.0 * centre, np.zeros(lowered.rows)  # type: ignore[attr-defined]


def test_a_wrong_answer_is_inaccurate_whatever_the_solver_says() -> None:
    raw = Liar().solve(Z, difference(0.01))
    assert raw.status is Status.INACCURATE
    with pytest.raises(BackendError, match="residual"):
        Liar().solve_native(Z, difference(0.01), difference(0.01).limits())


def test_a_silent_infeasible_problem_is_infeasible() -> None:
    pytest.importorskip("scipy")
    d = next(infeasible(1, 5, max_n=8))
    assert Liar().solve(d.scores, d.problem).status is Status.INFEASIBLE
    with pytest.raises(InfeasibleError):
        Liar().solve_native(d.scores, d.problem, d.problem.limits())


@pytest.mark.parametrize("kind", [Diffcp, CvxpyLayers])
def test_clarabel_on_a_second_order_cone_is_watched(kind: type[Adapter]) -> None:
    """It says "solved" at errors of 1e-4; whatever comes without a status is within 1e-4."""
    need(kind)
    backend = kind(solver="Clarabel")  # type: ignore[call-arg]
    for d in wild(12, 4, max_n=12):
        o = accepted_oracle(d)
        raw = backend.solve(d.scores, d.problem)
        if o is not None and raw.status is None:
            assert raw.y is not None
            assert np.abs(raw.y.numpy() - o.y).max() <= 1e-4 * max(1.0, float(d.scores.abs().max()))


# tolerances and settings -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("solver", "bound"), [("highs", 1e-9), ("piqp", 2e-6), ("clarabel", 2e-6), ("osqp", 1e-6), ("scs", 1e-6)])
def test_default_tolerances_are_tight(solver: str, bound: float) -> None:
    """Without the options set here: highs 6e-1 (its regularisation), piqp and clarabel 6e-5 (no gap tolerance), osqp 2e-1."""
    need(QPSolvers)
    assert worst(QPSolvers(solver), 40, 1) <= bound
    for seed in (112, 164):
        d = draw("overlap", seed, ["box", "wild_weights"], n=5)
        o, raw = accepted_oracle(d), QPSolvers(solver).solve(d.scores, d.problem)
        assert o is not None
        assert raw.y is not None
        assert np.abs(raw.y.numpy() - o.y).max() <= bound


def test_osqp_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Where nothing binds, its polishing prints so to stdout, verbose or not."""
    need(QPSolvers)
    assert QPSolvers("osqp").solve(Z, difference(5.0)).status is None
    assert capfd.readouterr().out == ""


def test_scs_gets_a_fixed_scale_where_its_own_runs_away() -> None:
    """Two attributes of 8 groups, active bounds: its adaptive scale ends at a residual of 7e7, a fixed one takes 250 steps."""
    need(Diffcp)
    n, rng = 300, np.random.default_rng(2)
    features = {"a": rng.integers(0, 8, n), "b": rng.integers(0, 8, n)}
    z = torch.from_numpy(rng.normal(0.5, 0.3, n) + 0.02 * features["a"])
    notion = fo.DemographicParity("a", tolerance=0.02) & fo.DemographicParity("b", tolerance=0.02)
    problem = fo.compile(notion, sensitive_features=features, bounds=(0.0, 1.0)).problem
    raw = Diffcp().solve(z, problem)
    assert raw.status is None
    assert raw.y is not None
    assert float((raw.y - solve(z, problem).scores).abs().max()) <= 1e-8


def test_the_first_good_attempt_is_taken_or_else_the_best() -> None:
    asked: list[int] = []

    def call(options: dict[str, Any]) -> float:
        asked.append(options["k"])
        if options["k"] == 0:
            raise BackendError("no")
        return float(options["residual"])

    def best(*residuals: float) -> float:
        asked.clear()
        return best_answer([{"k": k, "residual": r} for k, r in enumerate(residuals)], call, float, 1e-5)

    assert best(9.0, 1e-3, 1e-6, 1e-9) == 1e-6
    assert asked == [0, 1, 2]
    assert best(9.0, 1e-3, 1e-2) == 1e-3
    with pytest.raises(BackendError, match="no"):
        best(9.0)
    limits = [sum(one["max_iters"] for one in attempts("SCS", None, k)) for k in (1, 2, 10_000)]
    assert limits == [1, 2, 10_000]


def test_pinned_samples_leave_qpth_an_interior() -> None:
    """Three samples whose bounds are equal: as two inequalities each, its interior point stopped 2e-6 from the answer."""
    need(Qpth)
    d = draw("overall", 83083081, ["one_sided_box", "sample_box", "singleton"], max_n=24)
    o = accepted_oracle(d)
    assert o is not None
    y = Qpth().solve_native(d.scores.clone().requires_grad_(True), d.problem, d.problem.limits())
    assert np.abs(y.detach().numpy() - o.y).max() <= 1e-9


def test_moreau_differentiates_far_scores() -> None:
    """Divided by the size of the clipped scores alone, its gradient is off by 2e-3 here: the scores lie far outside the box."""
    need(Moreau)
    d = draw("overall", 2118111890, ["budget", "far", "redundant", "sample_box", "wide_box", "wild_weights"], max_n=24)
    o = accepted_oracle(d)
    assert o is not None
    v = torch.linspace(-1.0, 1.0, d.problem.n, dtype=torch.float64)
    assert np.abs(gradient(Moreau(), d.problem, v, d.scores).numpy() - exact_jacobian(d, o).T @ v.numpy()).max() <= 1e-4


def test_unrolled_goes_on_until_the_derivative_settles() -> None:
    """On these tied scores the prices stand still after four steps; their derivative was off by 4e-3 (pgd: 2e-2) then."""
    d = draw("pairs", 1029879057, ["ties"], max_n=8)
    v = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    moved = [solve(d.scores + 1e-6 * e, d.problem).scores - solve(d.scores - 1e-6 * e, d.problem).scores for e in torch.eye(4).double()]
    expected = torch.stack(moved) @ v / 2e-6
    for method in ("fista", "pgd"):
        assert float((gradient(Unrolled(method=method), d.problem, v, d.scores) - expected).abs().max()) <= 1e-8


def test_unrolled_takes_a_step_for_each_group() -> None:
    """With one step for all rows of a range, groups of 2 to 554 samples took 400 steps; they take 4 without a box."""
    groups = np.repeat([0, 1, 2, 3], [219, 2, 554, 225])
    z = torch.from_numpy(np.random.default_rng(0).uniform(0.0, 1.0, 1000) + 0.2 * (groups % 3))
    for bounds in (None, (0.0, 1.0)):
        prepared = fo.compile(fo.DemographicParity("a", tolerance=0.02), sensitive_features={"a": groups.tolist()}, bounds=bounds)
        raw = Unrolled().solve(z, prepared.problem)
        assert raw.status is None
        assert raw.iterations <= 60


def test_highs_does_not_return_nan_for_one_sided_bounds() -> None:
    """It returned NaN for two of these samples, and answered once they stood in another order."""
    need(QPSolvers)
    inf = np.inf
    z = [-0.66, -0.82, -0.82, -0.23, 0.03, -0.35, -0.74, -0.36, 0.77, -1.23, 0.06, 0.35]
    lb = [0.87, 0.85, 0.31, 0.82, -inf, 0.53, -inf, -inf, -0.32, 0.78, 0.52, 0.19]
    ub = [1.35, 1.64, 1.12, 1.3, 1.41, inf, 1.18, 0.54, inf, inf, 1.1, 0.58]
    assembly = Assembly(12)
    a, b = assembly.mask(np.arange(12) < 10), assembly.mask(np.arange(12) >= 10)
    assembly.linear.append(Linear(assembly.mean(a).plus(assembly.mean(b), -1.0), -0.00161738, 0.09529606))
    problem = assembly.problem(np.array(lb), np.array(ub))
    raw = QPSolvers("highs").solve(torch.tensor(z, dtype=torch.float64), problem)
    assert raw.status is None
    assert raw.y is not None
    assert np.abs(raw.y.numpy() - solve_reference(np.array(z), problem).y).max() <= 1e-9


def test_proxqp_tests_the_duality_gap() -> None:
    """Without the test it called a feasible point "solved" that is off by 7e-3."""
    need(ProxQP)
    assembly = Assembly(3)
    one, two = assembly.mask(np.array([False, True, False])), assembly.mask(np.array([True, False, True]))
    assembly.linear += [Linear(assembly.mean(one), 0.7689, 0.7911), Linear(assembly.mean(two), 0.7689, 0.8143)]
    problem = assembly.problem(np.array([-0.9419, 0.4115, 0.8714]), np.array([0.7573, 0.7827, 1.2456]))
    z = torch.tensor([0.70809, -0.1047, 0.70809], dtype=torch.float64)
    raw = ProxQP().solve(z, problem)
    assert raw.status is None
    assert raw.y is not None
    assert np.abs(raw.y.numpy() - solve_reference(z.numpy(), problem).y).max() <= 1e-9


def test_proxqp_differentiates_in_float64_without_bias() -> None:
    """Its torch function: 3e-8 from float32 gradients, 2e-6 from rho = mu = 1e-6."""
    need(ProxQP)
    assert torch.get_default_dtype() == torch.float32
    v = torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=torch.float64)
    a = torch.tensor([0.5, 0.5, -0.5, -0.5], dtype=torch.float64)
    g = gradient(ProxQP(), difference(0.1), v)
    assert float((g - (v - a * (a @ v) / (a @ a))).abs().max()) <= 2e-9


def test_proxqp_has_a_gradient_on_dependent_rows() -> None:
    """With its regularisation at 1e-10 alone the gradient is NaN in some of these draws."""
    need(ProxQP)
    for seed in range(25):
        d = draw("covariance", seed, ["one_sided_box", "priced", "scaled_rows", "singleton", "weights", "zero_tolerance"], n=4)
        assert bool(torch.isfinite(gradient(ProxQP(), d.problem, torch.ones(4, dtype=torch.float64), d.scores)).all())


def test_moreau_is_exact_where_its_active_set_method_works_and_right_where_it_fails() -> None:
    """By default the active-set method has errors of 3e-4, and fails on redundant equalities."""
    need(Moreau)
    for problem in (difference(0.1), difference(0.0, copies=3)):
        raw = Moreau().solve(Z, problem)
        assert raw.status is None
        assert raw.y is not None
        assert np.abs(raw.y.numpy() - solve_reference(Z.numpy(), problem).y).max() <= 1e-9
    assert Moreau(method="active_set").solve(Z, difference(0.0, copies=3)).status is not None


def test_moreau_knows_every_option_that_it_is_given() -> None:
    """Settings drop names that they do not know; here that is an error."""
    need(Moreau)
    known = SimpleNamespace(model_fields={"tol": 1}, __name__="Settings")
    with pytest.raises(BackendError, match="tol_gap"):
        _strict(known, tol=1e-9, tol_gap=1e-9)
    assert Moreau(solver_tol=1e-7)._settings("ipm").ipm_settings.tol_gap_abs == 1e-7
    assert Moreau(solver_tol=1e-7)._settings("active_set").active_set_settings.primal_tol == 1e-7


@pytest.mark.parametrize("gamma", [1.0, 1e2, 1e4])
def test_moreau_differentiates_stiff_quadratic_rows(gamma: float) -> None:
    """Its active-set adjoint is off by 0.17 at gamma = 1e4: quadratic rows go to the interior point."""
    need(Moreau)
    assembly = Assembly(3)
    one, two = assembly.mask(np.array([True, False, False])), assembly.mask(np.array([False, True, True]))
    assembly.linear.append(Linear(assembly.mean(one).plus(assembly.mean(two), -1.0), -0.05, 0.05, Softness("quadratic", gamma)))
    v, a = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64), torch.tensor([1.0, -0.5, -0.5], dtype=torch.float64)
    exact = v - a * (a @ v) / (a @ a + 1 / gamma)
    g = gradient(Moreau(), assembly.problem(-5.0, 5.0), v, torch.tensor([0.4, 0.1, -0.3], dtype=torch.float64))
    assert float((g - exact).abs().max()) <= 1e-4


@pytest.mark.parametrize(
    ("structure", "seed", "mutations"),
    [
        ("mixture", 34, ["one_sided_box"]),
        ("mixture", 52, ["one_sided_box"]),
        ("overlap", 94, ["box", "wild_weights"]),
        ("pairs", 121, ["sample_box"]),
    ],
)
def test_theseus_does_not_cycle(structure: str, seed: int, mutations: list[str]) -> None:
    """Undamped, its Gauss-Newton steps cycled in these four and left residuals of 1e4."""
    need(Theseus)
    d = draw(structure, seed, mutations, n=5)
    o = accepted_oracle(d)
    raw = Theseus().solve(d.scores, d.problem)
    assert raw.status is None
    assert raw.y is not None
    assert o is not None
    assert np.abs(raw.y.numpy() - o.y).max() <= 1e-5


def test_proxqp_takes_the_factorisation_that_a_singular_hessian_needs() -> None:
    """With the automatic choice the gradients of a share of these draws are off by 1e-4 to 1e-1."""
    need(ProxQP)
    checked = 0
    for seed in (1, 12, 100, 109, 139, 156, 157, 171):
        d = draw("mixture", seed, ["one_sided_box"], n=5)
        o = generic(d)
        if o is not None:
            checked += 1
            v = torch.arange(1.0, 6.0, dtype=torch.float64)
            assert np.abs(gradient(ProxQP(), d.problem, v, d.scores).numpy() - exact_jacobian(d, o).T @ v.numpy()).max() <= 1e-5
    assert checked >= 4


@pytest.mark.parametrize("kind", [Qpth, ProxQP, Moreau, Diffcp, CvxpyLayers, Theseus, Unrolled])
def test_native_gradients_to_tolerance_rho_and_gamma(kind: type[Adapter]) -> None:
    """y = z - a * min(rho, (gap - tolerance) / (a.a + 1 / gamma)) for one row, differentiated by hand."""
    need(kind)
    backend, a, gap = kind(), torch.tensor([0.5, 0.5, -0.5, -0.5], dtype=torch.float64), float(Z[:2].mean() - Z[2:].mean())
    gamma, rho, tolerance = 2.0, 0.1, 0.05
    cases = [(None, "upper", a / (a @ a))]
    stiff = float(a @ a) + 1 / gamma
    cases.append((Softness("quadratic", gamma), "softness_weight", -a * (gap - tolerance) / (gamma * stiff) ** 2))  # type: ignore[arg-type]
    if "priced" in backend.capabilities.softness:
        cases.append((Softness("priced", rho), "softness_weight", -a))  # type: ignore[arg-type]
        cases.append((Softness("budget", rho, 0), "softness_weight", -a))  # type: ignore[arg-type]
    for softness, name, exact in cases:
        problem = difference(tolerance, softness=softness)
        limits = Limits(*(t.requires_grad_(True) for t in problem.limits().tensors()))
        y = backend.solve_native(Z, problem, limits)
        for i in range(4):
            (g,) = torch.autograd.grad(y[i], getattr(limits, name), retain_graph=True)
            assert float(g[0]) == pytest.approx(float(exact[i]), abs=1e-5), (softness, i)


# gradients ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Qpth, ProxQP, Moreau, Diffcp, CvxpyLayers, Theseus, Unrolled])
@pytest.mark.parametrize("margin", [1e-3, 1e-6, 1e-9, -1e-3, -1e-6, -1e-9])
def test_the_adjoint_is_right_near_a_kink(kind: type[Adapter], margin: float) -> None:
    """qpth clamps slacks and multipliers at 1e-8 and was off by 0.13 at 1e-7 from the kink. margin > 0: the row does not bind."""
    need(kind)
    gap = float(Z[:2].mean() - Z[2:].mean())
    v = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    a = torch.tensor([0.5, 0.5, -0.5, -0.5], dtype=torch.float64)
    exact = v if margin > 0 else v - a * (a @ v) / (a @ a)
    assert float((gradient(kind(), difference(gap + margin), v) - exact).abs().max()) <= 1e-6


def test_qpth_sums_the_gradient_of_a_shared_limit_over_the_batch() -> None:
    """An un-batched parameter's gradient would come back as the mean over the batch."""
    need(Qpth)
    problem = difference(0.05)
    backend = Qpth()
    scores = torch.stack([Z, 2 * Z, Z + 0.1])
    lowered = backend._lower(problem)

    def total(batched: bool) -> Tensor:
        limits = Limits(*(t.requires_grad_(True) for t in problem.limits().tensors()))
        numbers = lowered.numbers(limits)
        centres = torch.stack([lowered.functionals.centre(row) for row in scores])
        if batched:
            x, _ = backend._run([numbers] * 3, centres, lowered, FORWARDS[0])
        else:
            x = torch.cat([backend._run([numbers], row[None], lowered, FORWARDS[0])[0] for row in centres])
        (g,) = torch.autograd.grad(x[:, 0].sum(), limits.upper)
        return g

    assert torch.allclose(total(True), total(False), rtol=1e-8, atol=1e-10)
    assert float(total(True).abs().max()) > 0.1


def test_qpth_takes_equalities_that_others_imply(monkeypatch: pytest.MonkeyPatch) -> None:
    """They make its interior point divide by zero. (The forward through cvxpy, which could hide that, is taken out.)"""
    need(Qpth)
    run = Qpth._run

    def pdipm_alone(self: Qpth, numbers: Any, centres: Tensor, lowered: Any, forward: str) -> Any:
        if forward != FORWARDS[0]:
            raise BackendError("taken out")
        return run(self, numbers, centres, lowered, forward)

    monkeypatch.setattr(Qpth, "_run", pdipm_alone)
    for seed in range(12):
        d = draw("range", seed, ["zero_tolerance", "duplicate"], max_n=10)
        raw = Qpth().solve(d.scores, d.problem)
        assert raw.status is None, (d, raw.message)


def test_qpth_goes_on_where_its_interior_point_stalls() -> None:
    """A group pinned at the bound leaves no strict interior: PDIPM stops at 2e-1 and says nothing."""
    need(Qpth)
    stalled = 0
    for d in wild(200, 7, max_n=12, avoid=("infeasible", "priced", "budget", "mixed_softness", "huge", "tiny", "far")):
        backend = Qpth()
        lowered = backend._lower(d.problem)
        if lowered.rows == 0 or not d.mutations & {"box", "one_sided_box"} or "zero_tolerance" not in d.mutations:
            continue
        numbers, centre = lowered.numbers(d.problem.limits()), lowered.functionals.centre(d.scores)
        programme = Programme(lowered, numbers, centre.numpy())
        try:
            x, lam = backend._run([numbers], centre[None], lowered, FORWARDS[0])
            bad = programme.residual(x[0].detach().numpy(), lam[0]) > 1e-4
        except BackendError:
            bad = True
        stalled += bad
        if bad:
            assert backend.solve(d.scores, d.problem).status is None, d
    assert stalled >= 1


def test_qpth_in_threads_of_different_sizes() -> None:
    """A module global in qpth holds an identity matrix of the last size: two threads took each other's."""
    need(Qpth)
    problems = [difference(0.05, copies=k) for k in (1, 25, 60)] * 4
    barrier = threading.Barrier(4)

    def work(i: int) -> list[Tensor]:
        barrier.wait()
        return [gradient(Qpth(), p, torch.ones(4, dtype=torch.float64)) for p in problems[i % 3 :] + problems[: i % 3]]

    expected = gradient(Qpth(), problems[0], torch.ones(4, dtype=torch.float64))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(work, range(4)):
                for g in found:
                    assert torch.allclose(g, expected, rtol=0, atol=1e-5)
    finally:
        sys.setswitchinterval(interval)


# cvxpylayers: what is compiled, and when -----------------------------------------------------------------------------------------------


def test_cvxpylayers_compiles_once_for_a_composition() -> None:
    need(CvxpyLayers)
    backend = CvxpyLayers()
    problem = difference(0.05)
    for k in range(4):
        other = difference(0.05 + 0.01 * k)
        assert backend.solve(Z + 0.1 * k, other).status is None
        gradient(backend, other, Z)
    limits = problem.limits()
    backend.solve(
        Z, problem.with_limits(Limits(limits.lower - 1, limits.upper + 1, limits.width, limits.offset + 0.1, limits.softness_weight))
    )
    assert backend.compilations == 1
    backend.solve(Z, difference(0.05, copies=2))
    assert backend.compilations == 2
    backend.solve(Z, problem)
    assert backend.compilations == 2


def test_cvxpylayers_keeps_a_bounded_number_of_layers_and_is_right_after_eviction() -> None:
    need(CvxpyLayers)
    backend = CvxpyLayers(cache_size=2)
    reference = solve_reference(Z.numpy(), difference(0.05)).y
    for copies in (1, 2, 3, 1):
        y = backend.solve(Z, difference(0.05, copies=copies)).y
        assert y is not None
        assert np.abs(y.numpy() - reference).max() <= 1e-8
    assert backend.compilations == 4
    assert len(backend._cache) == 2


def test_cvxpylayers_compiles_once_in_four_threads() -> None:
    need(CvxpyLayers)
    backend = CvxpyLayers()
    reference = solve_reference(Z.numpy(), difference(0.05)).y
    with ThreadPoolExecutor(4) as pool:
        for raw in pool.map(lambda _: backend.solve(Z, difference(0.05)), range(12)):
            assert raw.y is not None
            assert np.abs(raw.y.numpy() - reference).max() <= 1e-8
    assert backend.compilations == 1


def test_importing_a_solver_warns_of_nothing(recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    need(Theseus)
    modules = importlib.import_module("fairopt_backends.modules")
    for name in [m for m in sys.modules if m == "theseus" or m.startswith("theseus.")]:
        monkeypatch.delitem(sys.modules, name)
    modules.load("theseus")
    assert not [w for w in recwarn if "skparse" in str(w.message)]


# multipliers ----------------------------------------------------------------------------------------------------------------------


def test_non_negative_least_squares_meets_its_optimality_conditions() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        rows, columns = rng.integers(1, 9, 2)
        a = rng.normal(size=(rows, columns))
        if columns > 2:
            a[:, 1] = a[:, 0] * rng.choice([1.0, -1.0])  # duplicates
        b = rng.normal(size=rows)
        x = non_negative_least_squares(a, b)
        slope = a.T @ (b - a @ x)
        assert (x >= 0).all()
        assert slope.max(initial=0.0) <= 1e-9
        assert np.abs(slope[x > 0]).max(initial=0.0) <= 1e-9


def test_multipliers_come_from_independent_rows() -> None:
    """An interior point spreads the price over three copies of a row; one of them carries it here."""
    need(QPSolvers)
    prices = QPSolvers("clarabel").solve(Z, difference(0.05, copies=3)).prices
    assert prices is not None
    assert np.count_nonzero(np.abs(prices) > 1e-9) == 1


def test_closed_form_refuses_rows_whose_samples_are_all_at_a_bound() -> None:
    """No sample is free at price 0: the slope is 0, and a price over it would overflow (drawn by the kit)."""
    parity = fo.DemographicParity("g", tolerance=0.1)
    problem = fo.compile(parity, sensitive_features={"g": [0, 0, 1, 1]}, bounds=(0.0, 1e10)).problem
    scores = torch.tensor([3e10, 4e10, -2.0, -5.0], dtype=torch.float64)
    with np.errstate(all="raise"), pytest.raises(UnsupportedError, match="bounds are active"):
        fo.backend("closed_form").solve(scores, problem)


def test_osqp_does_not_call_a_bounded_programme_dual_infeasible() -> None:
    """At its default tolerance it did, on a quadratic softness whose answer the other solvers find (claim L9, instance 1)."""
    need(QPSolvers)
    layer = Layer("qpsolvers:osqp")
    assert check_softness(instance_rng("L9", 0, 1), layer).holds
