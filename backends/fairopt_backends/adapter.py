"""What every adapter of a QP or cone solver shares: lowering, the recomputed residual, the status, the checks of a native call.

A solver is trusted with nothing but its numbers: some return y = 0 for an infeasible problem, some stall at 1e-2 and say so
nowhere. The status comes from the residual recomputed here, and from a feasibility check when that is large.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError, InfeasibleError, InputError, UnsupportedError
from fairopt.contract.backend import Backend, RawSolution, Status
from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt_backends.entropic import Entropic, entropic
from fairopt_backends.lowering import Lowered, Numbers, lower
from fairopt_backends.multipliers import at_a_vertex, recovered
from fairopt_backends.programme import Programme, unit_of

SOLVED = 1e-5  # a residual, in units of the clipped scores, above which no answer counts as solved
EXACT = 1e-13  # a residual that needs no better multipliers, if they are at a vertex: an active-set method's
WORSE = 1e-7  # a residual that multipliers at a vertex may have at most, unless the solver's own is larger
RECOVER_UP_TO = 100_000  # rows times variables
BROKEN = 1e-3  # and above which a native call raises: its gradient means nothing
HERE = torch.device("cpu")  # as a context: solvers written in torch make tensors on the user's default device, which may be another


@dataclass(frozen=True, eq=False)
class Answer:
    """What a solver said: x (U + E,) or None, multipliers (M,) of the rows, and whether it hit its iteration limit."""

    x: Array | None
    multipliers: Array | None
    iterations: int = 0
    limit_hit: bool = False
    message: str = ""


class Judged(Protocol):
    """What an answer is judged by."""

    def residual(self, x: Array, lam: Array) -> float: ...
    def violation(self, x: Array) -> float: ...
    def feasible(self) -> bool: ...


class Adapter(Backend):
    """A solver of lowered problems. Subclasses write ``_solve`` and, where they have a gradient, ``_native``."""

    pairs: ClassVar[bool] = False  # ranges as pairs: for solvers that need a positive definite Hessian
    native_limits: ClassVar[bool] = True  # whether ``_native`` reaches the limits
    solver_tol: float | None = None

    @abstractmethod
    def _solve(self, programme: Programme) -> Answer:
        """Solve one programme. May raise ``BackendError``; must not modify its arrays."""

    def _native(self, lowered: Lowered, numbers: Numbers, centre: Tensor) -> tuple[Tensor, Array | None]:
        """x (U + E,) connected to ``centre`` and ``numbers``, and the multipliers (M,) where the solver tells them."""
        raise UnsupportedError(f"backend {self.name!r} brings no gradient of its own; use gradient='implicit'")

    def _unit(self, centre: Array, numbers: Numbers) -> float:
        """The size that the programme is divided by."""
        return unit_of(centre, numbers)

    @property
    def _solved(self) -> float:
        return SOLVED if self.solver_tol is None else max(SOLVED, 100 * self.solver_tol)

    def _solve_all(self, programmes: list[Programme]) -> list[Answer]:
        """Solve programmes of one lowered problem, that differ in centre and unit. A loop unless the solver has a batch."""
        return [self._solve(programme) for programme in programmes]

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        return self.solve_batch(scores[None], problem)[0]

    def solve_batch(self, scores: Tensor, problem: ProjectionProblem) -> list[RawSolution]:
        """Solve for ``scores`` (B, n)."""
        require_supported(self, problem)
        rows = scores.detach().to("cpu", torch.float64)
        lowered = self._lower(problem)
        if lowered.rows == 0:
            return [RawSolution(clip(z, problem), np.zeros(problem.m)) for z in rows]
        if problem.distance != "squared":
            return [self._raw_entropic(entropic(problem, lowered, z), problem.m) for z in rows]
        numbers = lowered.numbers(problem.limits())
        centres = [lowered.functionals.centre(z).numpy() for z in rows]
        units = [self._unit(centre, numbers) for centre in centres]
        programmes = [Programme(lowered, numbers.divided(unit), centre / unit) for centre, unit in zip(centres, units, strict=True)]
        with HERE:
            answers = self._solve_all(programmes)
        jobs = zip(programmes, answers, centres, units, rows, strict=True)
        return [
            self._raw(programme, answer, unit, unit / unit_of(centre, numbers), z, problem.m) for programme, answer, centre, unit, z in jobs
        ]

    def _raw(self, programme: Programme, answer: Answer, unit: float, ratio: float, z: Tensor, m: int) -> RawSolution:
        """``answer`` to the programme in x / unit as scores and prices; ``ratio``: of the unit to the size of the clipped scores."""
        lowered = programme.lowered
        answer = _at_a_vertex(programme, answer)
        status, message = self._judge(programme, answer, ratio)
        if answer.x is None or not np.isfinite(answer.x).all():
            return RawSolution(None, None, status, answer.iterations, message)
        u = torch.from_numpy(unit * np.array(answer.x[: lowered.size], dtype=np.float64))
        prices = None if answer.multipliers is None else lowered.prices(unit * answer.multipliers, m)
        return RawSolution(lowered.functionals.scores(u, z), prices, status, answer.iterations, message)

    def _solve_entropic(self, programme: Entropic) -> Answer:
        """Solve one programme of a divergence, for adapters that declare one."""
        raise UnsupportedError(f"backend {self.name!r} takes squared distances alone; use backend='dual_newton'")

    def _raw_entropic(self, programme: Entropic, m: int) -> RawSolution:
        with HERE:
            answer = self._solve_entropic(programme)
        status, message = self._judge(programme, answer, 1.0)
        if answer.x is None or not np.isfinite(answer.x).all():
            return RawSolution(None, None, status, answer.iterations, message)
        y = torch.from_numpy(programme.unit * np.array(answer.x[: programme.lowered.size], dtype=np.float64))
        prices = None if answer.multipliers is None else programme.lowered.prices(answer.multipliers, m)
        return RawSolution(y, prices, status, answer.iterations, message)

    def _lower(self, problem: ProjectionProblem) -> Lowered:
        return lower(problem, pairs=self.pairs)

    def _judge(self, programme: Judged, answer: Answer, ratio: float) -> tuple[Status | None, str]:
        """The status, from the recomputed residual times ``ratio``: the programme's unit over the size of the clipped scores."""
        residual = float("inf")
        if answer.x is not None:
            lam = answer.multipliers
            residual = programme.violation(answer.x) if lam is None else programme.residual(answer.x, lam)
            residual *= ratio
        if residual <= self._solved:
            return None, answer.message
        message = f"residual {residual:.1e}; {answer.message}".rstrip("; ")
        if not programme.feasible():
            return Status.INFEASIBLE, message
        if answer.limit_hit:
            return Status.ITERATION_LIMIT, message
        return (Status.INACCURATE if np.isfinite(residual) else Status.FAILED), message

    def solve_native(self, scores: Tensor, problem: ProjectionProblem, limits: Limits) -> Tensor:
        if "native" not in self.capabilities.gradients:
            raise UnsupportedError(f"backend {self.name!r} brings no gradient of its own; use gradient='implicit'")
        require_supported(self, problem)
        if limits.requires_grad and not self.native_limits:
            raise UnsupportedError(
                f"backend {self.name!r} has no gradient of its own to tolerances, targets, rho or gamma; use gradient='implicit'"
            )
        z = scores.to("cpu", torch.float64)
        lowered = self._lower(problem)
        if lowered.rows == 0:
            return clip(z, problem)
        numbers, centre = lowered.numbers(limits), lowered.functionals.centre(z)
        unit = self._unit(centre.detach().numpy(), numbers)
        numbers, centre = numbers.divided(unit), centre / unit
        programme = Programme(lowered, numbers, centre.detach().numpy())
        try:
            with HERE:
                x, multipliers = self._native(lowered, numbers, centre)
        except BackendError as error:
            self._raise_if_infeasible(programme, error)
            raise
        self._check_native(programme, x.detach().numpy(), multipliers)
        return lowered.functionals.scores(unit * x[: lowered.size], z)

    def _check_native(self, programme: Programme, x: Array, multipliers: Array | None) -> None:
        residual = programme.violation(x) if multipliers is None else programme.residual(x, multipliers)
        if residual <= BROKEN:
            return
        self._raise_if_infeasible(programme, None)
        raise BackendError(f"backend {self.name!r} stopped at a residual of {residual:.1e}: its gradient means nothing there")

    def _raise_if_infeasible(self, programme: Programme, cause: BackendError | None) -> None:
        if not programme.feasible():
            raise InfeasibleError(f"backend {self.name!r}: {Status.INFEASIBLE.advice}") from cause


def _at_a_vertex(programme: Programme, answer: Answer) -> Answer:
    """The same x with multipliers of independent rows. Interior points spread them over dependent rows (duplicates, a cycle of
    pairs), where no active set can be read off; some solvers return multipliers that do not fit their x at all."""
    if answer.x is None or answer.multipliers is None or programme.lowered.rows * programme.lowered.variables > RECOVER_UP_TO:
        return answer
    own = programme.residual(answer.x, answer.multipliers)
    if own <= EXACT and at_a_vertex(programme, answer.x, answer.multipliers):
        return answer
    found = recovered(programme, answer.x)
    if found is None or programme.residual(answer.x, found) > max(own, WORSE):
        return answer
    return replace(answer, multipliers=found)


def clip(z: Tensor, problem: ProjectionProblem) -> Tensor:
    """The projection onto the box alone."""
    if not problem.has_box:
        return z.clone()
    lb, ub = (b if isinstance(b, Tensor) else torch.tensor(b, dtype=torch.float64, device="cpu") for b in (problem.lb, problem.ub))
    return torch.minimum(torch.maximum(z, lb), ub)


def require_supported(backend: Backend, problem: ProjectionProblem) -> None:
    """Refuse a softness, a distance and class probabilities that the backend does not declare."""
    can = backend.capabilities
    if problem.nearest_in not in can.distances or (problem.classes > 1 and "simplex" not in can.outputs):
        what = f"distance={problem.nearest_in!r}" if problem.nearest_in not in can.distances else "class probabilities"
        raise UnsupportedError(f"backend {backend.name!r} does not take {what}; use backend='dual_newton'")
    missing = sorted({s.kind for s in problem.softness} - can.softness)
    if missing:
        raise UnsupportedError(
            f"backend {backend.name!r} solves {sorted(backend.capabilities.softness)} constraints, not {missing}; use backend='dual_newton'"
        )


def positive(name: str, value: float | None) -> None:
    """An option that must be a positive number (or None)."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf")):
        raise InputError(f"{name}={value!r}: expected a positive number")


def positive_integer(name: str, value: int) -> None:
    """An option that must be a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name}={value!r}: expected a whole number of at least 1")


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """An option that must be one of a few words."""
    if value not in choices:
        raise InputError(f"{name}={value!r}: expected one of {list(choices)}")
