"""``solve``: one projection by any backend, with everything that a backend does not do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError, UnsupportedError
from fairopt.contract.backend import Backend, GradientKind, RawSolution, Status
from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt.contract.registry import BackendLike
from fairopt.solve.certificate import Certificate, Certified, Solution
from fairopt.solve.choosing import check_gradient, choose
from fairopt.solve.dual.structure import with_numbers
from fairopt.solve.entropy.front import solve_divergence
from fairopt.solve.finish.finish import Outcome, as_working, finish, solved
from fairopt.solve.finish.gate import GRANTING, WIDEST, Stated, Verdict, judge, rows_hold
from fairopt.solve.gradient.implicit import attach
from fairopt.solve.gradient.native import native_scores, replaced
from fairopt.solve.guard import guarded
from fairopt.solve.road import fast
from fairopt.solve.ruling import ruled
from fairopt.solve.scores import check_finite, check_shape
from fairopt.solve.short_road import short_road
from fairopt.solve.transforms import transformed
from fairopt.solve.units import Units, find_units

if TYPE_CHECKING:
    from fairopt.solve.entropy.fast import Answer as EntropyAnswer
    from fairopt.solve.fast import Answer


def solve(
    scores: Tensor,
    problem: ProjectionProblem,
    *,
    limits: Limits | None = None,
    backend: BackendLike = "auto",
    gradient: GradientKind = "implicit",
    certify: bool = True,
    solver_tol: float | None = None,
) -> Solution:
    """Project ``scores`` (n,) or (n, 1) onto the problem's rows and box.

    limits      the problem's numbers as tensors with gradients (tolerances, targets, rho, gamma); None: those in the problem
    backend     "auto" (the cheapest exact one), a name, a Backend class or an instance
    gradient    "implicit" (the optimality conditions; any backend) or "native" (the solver's own)
    certify     repair and prove the rows in exact arithmetic; False leaves the solver's rounding
    solver_tol  tolerance of the solver, in units of the scores; None: its tight default

    Returns a Solution; inputs are not modified. Raises InputError, UnsupportedError, BackendError. Source: DESIGN 5 and 6.
    """
    if problem.classes > 1:
        raise UnsupportedError(
            f"problem: got {problem.classes} class probabilities a sample, expected one score; compile(...).project is for these"
        )
    flat = check_shape(scores, problem.n)
    check_gradient(gradient)
    if problem.distance != "squared":
        plain = limits is None and certify and solver_tol is None and gradient == "implicit" and backend in ("auto", "dual_newton")
        answered = _compiled_divergence(scores, problem) if plain else None
        if answered is not None:
            return answered[1].solution(answered[0])
        check_finite(flat)
        return _divergence(scores, flat, problem, limits, _How(backend, gradient, certify, solver_tol))
    plain = limits is None and certify and solver_tol is None and gradient == "implicit" and isinstance(backend, str)
    if plain:
        found = _compiled(scores, problem, backend)  # type: ignore[arg-type]
        if found is not None:
            return found[1].solution(found[0])
    if plain and backend in ("auto", "closed_form"):
        short = short_road(scores, flat, problem)
        if short is not None:
            return short
    extent = check_finite(flat)
    if limits is not None:
        problem = with_numbers(problem, limits)
    return _solve(scores, problem, limits, _How(backend, gradient, certify, solver_tol), extent)


def quick(scores: Tensor, problem: ProjectionProblem) -> tuple[Tensor, Certified] | None:
    """Certified scores by the compiled road, and the answer that makes their certificate; None where ``solve`` has to decide.

    ``scores`` under no transform.
    """
    if problem.distance != "squared":
        return _compiled_divergence(scores, problem)
    return _compiled(scores, problem, "auto")


def quick_batch(scores: Tensor, problem: ProjectionProblem) -> Tensor | None:
    """As ``quick`` for each row of ``scores`` (B, n)."""
    if scores.shape[1] != problem.n or not scores.is_cpu or transformed(scores):
        return None
    road = fast(scores.dtype)
    found: Tensor | None = None if road is None else road.attempt_batch(scores, problem)
    return found


def _compiled_divergence(scores: Tensor, problem: ProjectionProblem) -> tuple[Tensor, EntropyAnswer] | None:
    if not scores.is_cpu or scores.dim() == 0:
        return None
    road = fast(scores.dtype, "entropy.fast")
    found: tuple[Tensor, EntropyAnswer] | None = None if road is None else road.attempt(scores, problem)
    return found


def _divergence(scores: Tensor, flat: Tensor, problem: ProjectionProblem, limits: Limits | None, how: _How) -> Solution:
    chosen = choose(how.backend, problem, how.solver_tol)
    if how.gradient == "native":
        raise UnsupportedError(f"gradient='native': not there for distance={problem.distance!r}; use gradient='implicit'")
    if limits is not None:
        problem = with_numbers(problem, limits)
    tol = how.solver_tol if how.solver_tol is not None else getattr(chosen, "solver_tol", None)
    return solve_divergence(scores, flat, problem, limits, chosen, certify=how.certify, tol=tol)


def _compiled(scores: Tensor, problem: ProjectionProblem, backend: str) -> tuple[Tensor, Answer] | None:
    if not scores.is_cpu or scores.dim() == 0:
        return None
    road = fast(scores.dtype)
    found: tuple[Tensor, Answer] | None = None if road is None else road.attempt(scores, problem, backend)
    return found


def solve_batch(
    scores: Tensor,
    problem: ProjectionProblem,
    *,
    limits: Limits | None = None,
    backend: BackendLike = "auto",
    gradient: GradientKind = "implicit",
    certify: bool = True,
    solver_tol: float | None = None,
) -> list[Solution]:
    """``solve`` of each row of ``scores`` (B, n); a backend that solves many problems at once gets them at once."""
    check_gradient(gradient)
    chosen = choose(backend, problem, solver_tol)
    if chosen.capabilities.exact or gradient == "native" or problem.distance != "squared":
        options: dict[str, Any] = {"limits": limits, "backend": backend, "gradient": gradient, "certify": certify, "solver_tol": solver_tol}
        return [solve(row, problem, **options) for row in scores]
    extents = [check_finite(check_shape(row, problem.n)) for row in scores]
    if limits is not None:
        problem = with_numbers(problem, limits)
    raws: list[RawSolution | None] = [None] * len(extents)
    if all(find_units(problem, extent, scores.dtype) is None for extent in extents):
        with guarded(chosen.name, problem) as guard:
            raws = [*solved(as_working(scores.detach()), problem, chosen)]
        if guard.error is not None:
            raws = [RawSolution(None, None, Status.FAILED, message=guard.message) for _ in extents]
    how = _How(backend, gradient, certify, solver_tol)
    return [_solve(row, problem, limits, how, extent, raw) for row, extent, raw in zip(scores, extents, raws, strict=True)]


@dataclass(eq=False)
class _How:
    """The arguments of ``solve`` that say how."""

    backend: BackendLike
    gradient: GradientKind
    certify: bool
    solver_tol: float | None


def _solve(
    scores: Tensor, problem: ProjectionProblem, limits: Limits | None, how: _How, extent: float, raw: RawSolution | None = None
) -> Solution:
    """The backend's answer, finished and judged, with its gradient. ``raw``: the answer, where it is there already."""
    flat = scores.reshape(-1)
    z = flat.detach()
    chosen = choose(how.backend, problem, how.solver_tol)
    takes_bounds = chosen.capabilities.bounds
    units = find_units(problem, extent, z.dtype, bounded=None if takes_bounds else False)
    answer = _answer(z, problem, units, chosen, extent, how, raw)
    if answer.outcome is not None and not answer.finite and takes_bounds and (units is None or not units.bounded):
        # rounded to infinity: the nearest scores that the dtype holds
        units = find_units(problem, extent, z.dtype, bounded=True)
        answer = _answer(z, problem, units, chosen, extent, how)
    gradient = how.gradient
    outcome = answer.outcome
    if answer.verdict.status not in GRANTING or problem.stated is not None:
        residual = np.inf if outcome is None else answer.size(outcome.residual)
        with guarded(chosen.name, problem) as guard:
            answer.verdict = ruled(answer.verdict, problem, residual)
        if guard.error is not None:  # nothing is known of what the problem allows
            answer.verdict = replace(answer.verdict, status=Status.FAILED, message=guard.message)
    verdict = answer.verdict
    connected = torch.is_grad_enabled() and (scores.requires_grad or (limits is not None and limits.requires_grad))
    connected = connected and verdict.status is not Status.INFEASIBLE  # there are no scores to differentiate
    y = verdict.y
    if connected:
        if outcome is None:
            y = replaced(flat, y)
        elif gradient == "native":
            with guarded(chosen.name, problem) as guard:
                y = native_scores(flat, problem, limits, chosen, y, units)
            if guard.error is not None:
                raise BackendError(guard.message) from guard.error
        else:
            y = attach(flat, limits, outcome, problem, y, units, chosen.name)
    return _solution(scores, y.view(scores.shape) if scores.dim() == 2 else y, answer, problem, chosen)


@dataclass(eq=False)
class _Answer:
    """The verdict, and what it was passed on: None where nothing came. ``finite``: whether the road's own scores were."""

    verdict: Verdict
    outcome: Outcome | None
    prices: Array
    finite: bool = True
    units: Units | None = None

    def size(self, value: float) -> float:
        return value if self.units is None else self.units.size(value)


def _answer(
    z: Tensor,
    problem: ProjectionProblem,
    units: Units | None,
    chosen: Backend,
    extent: float,
    how: _How,
    raw: RawSolution | None = None,
) -> _Answer:
    """One attempt at the projection of z (n,), in units of its own where it needs them. Foreign exceptions end here."""
    with guarded(chosen.name, problem) as guard:
        if units is None:
            outcome = _bounded(finish(z, problem, chosen, extent, certify=how.certify, raw=raw), extent)
            finite = outcome.finite or bool(torch.isfinite(outcome.y).all())
            return _Answer(judge(outcome.y, z, problem, outcome.violation, outcome), outcome, outcome.p, finite)
        into = units.into(z)
        suited = choose(how.backend, units.problem, how.solver_tol) if how.backend == "auto" else chosen  # its bounds are others
        own = units.extent(extent)
        outcome = _bounded(finish(into, units.problem, suited, own, certify=how.certify), own)
        y = units.back(outcome.y, z, into)
        finite = bool(torch.isfinite(y).all())
        violation = np.full(outcome.violation.shape, np.inf)
        proved = finite and rows_hold(y, problem, violation)
        status = outcome.status
        if units.bounded and status is Status.INFEASIBLE:
            status = Status.INACCURATE  # of this dtype: nothing is said of real numbers
        near = outcome.residual if units.sure(outcome.y, into) else np.inf
        claim = Stated(status, proved, finite, near, outcome.kkt_bound, outcome.message)
        return _Answer(judge(y, z, problem, violation, claim), outcome, units.prices(outcome.p), finite, units)
    claim = Stated(Status.FAILED, False, False, np.inf, 0.0, guard.message)
    with guarded(chosen.name, problem) as second:
        nothing = np.full(problem.linear + problem.ranges, np.inf)
        return _Answer(judge(torch.full_like(z, np.nan), z, problem, nothing, claim), None, np.zeros(problem.m))
    raise BackendError(second.message) from second.error  # not even that: memory is gone


def _bounded(outcome: Outcome, extent: float) -> Outcome:
    """``outcome`` with a bound of its residual that is a share of the scores in and out: a limit that no scores come near is large too,
    and "nearest within 1e290" says nothing. ``extent``: the largest absolute score that came in.
    """
    widest = WIDEST * extent
    if outcome.kkt_bound > widest:
        size = float(outcome.y.to(torch.float64).abs().max())
        if size < np.inf:
            return replace(outcome, kkt_bound=min(outcome.kkt_bound, max(widest, WIDEST * size)))
    return outcome


def _solution(scores: Tensor, y: Tensor, answer: _Answer, problem: ProjectionProblem, backend: Backend) -> Solution:
    verdict, outcome = answer.verdict, answer.outcome
    certificate = Certificate(
        violation=verdict.violation,
        bounds_violation=verdict.outside,
        kkt_residual=np.inf if outcome is None else answer.size(outcome.residual),
        rounding_bound=0.0 if outcome is None or answer.units is not None else outcome.bound,
        moved_by_repair=0.0 if outcome is None else answer.size(outcome.moved),
        status=verdict.status,
        backend=backend.name,
        dtype=str(scores.dtype).removeprefix("torch."),
        problem=problem,
        _scores=(scores.detach().reshape(-1), verdict.y),
        kkt_bound=0.0 if outcome is None else answer.size(outcome.kkt_bound),
    )
    prices = torch.from_numpy(np.array(answer.prices))
    iterations = 0 if outcome is None else outcome.iterations
    return Solution(y, prices, verdict.status, certificate, backend.name, iterations, verdict.message)
