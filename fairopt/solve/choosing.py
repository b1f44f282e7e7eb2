"""Which backend solves a problem: what "auto" means, options beside a name, and what a backend does not take."""

from __future__ import annotations

from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.contract.backend import Backend, Capabilities
from fairopt.contract.problem import ProjectionProblem
from fairopt.contract.ranges_as_pairs import untaken
from fairopt.contract.registry import BackendLike, instance, resolve
from fairopt.contract.registry import backend as named
from fairopt.solve.dual.structure import structure


def choose(backend: BackendLike, problem: ProjectionProblem, solver_tol: float | None) -> Backend:
    """The backend instance. "auto": closed_form where it is exact, else dual_newton."""
    if isinstance(backend, str) and backend == "auto":
        simple = structure(problem).shape in ("separable", "empty") or _one_row(problem)
        budget = any(s.kind == "budget" for s in problem.softness)
        simple = simple and problem.distance == "squared" and problem.classes == 1
        backend = "closed_form" if simple and not problem.has_box and not budget else "dual_newton"
    chosen = resolve(backend)
    if solver_tol is not None:
        check_solver_tol(solver_tol)
        if isinstance(backend, Backend):  # another instance would lose its options
            came = f"{solver_tol!r} beside an instance of {chosen.name!r}"
            raise InputError(f"solver_tol: got {came}, expected it among the instance's options")
        options = {"solver_tol": float(solver_tol)}
        chosen = named(backend, **options) if isinstance(backend, str) else instance(type(chosen), options)
    check_capable(chosen.capabilities, problem, chosen.name)
    return chosen


def _one_row(problem: ProjectionProblem) -> bool:
    return problem.m == 1 and problem.rows.dense is None and problem.softness[0].kind != "budget"


def check_capable(can: Capabilities, problem: ProjectionProblem, name: str) -> None:
    """UnsupportedError naming the first thing in the problem that the backend does not declare."""
    missing = [f"{s.kind} softness" for s in problem.softness if s.kind not in can.softness]
    if problem.nearest_in not in can.distances:
        missing.append(f"distance={problem.nearest_in!r}")
    if problem.classes > 1 and "simplex" not in can.outputs:
        missing.append("outputs='simplex'")
    if problem.has_box and not can.bounds:
        missing.append("bounds")
    if problem.weights is not None and not can.weights:
        missing.append("distance weights")
    if problem.rows.dense is not None and not can.dense:
        missing.append("rows with weights of their own (ScoreCovariance)")
    if any(problem.softness[problem.linear + r].kind != "hard" for r in untaken(problem, can)):
        missing.append("soft ranges")
    if missing:
        raise UnsupportedError(f"backend {name!r} does not take {missing[0]}; backend='dual_newton' takes every problem")


def check_gradient(gradient: object) -> None:
    if gradient not in ("implicit", "native"):
        raise InputError(f"gradient: got {gradient!r}, expected 'implicit' or 'native'")


def check_solver_tol(solver_tol: float | None) -> None:
    """InputError unless None or a number in (0, 1)."""
    if solver_tol is not None and not (isinstance(solver_tol, (int, float)) and 0 < solver_tol < 1):
        raise InputError(f"solver_tol: got {solver_tol!r}, expected a number between 0 and 1")
