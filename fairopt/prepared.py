"""One-shot projection and compiled batches: ``project``, ``compile``, ``Prepared``."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack, overload

import torch
from torch import Tensor

from fairopt.compiler import Compiled, OnInfeasible, OnMissing, compile_problem
from fairopt.compiler.feasibility import as_asked
from fairopt.compiler.limits import widened_limits
from fairopt.contract.base import GradientKind, Status
from fairopt.contract.registry import BackendLike
from fairopt.errors import BackendError, FairoptWarning, InputError
from fairopt.feasibility import infeasibility
from fairopt.groups import Missing
from fairopt.notions import Notion
from fairopt.problem import Limits, ProjectionProblem
from fairopt.solve import Solution, solve, solve_batch
from fairopt.solve.front import check_scores
from fairopt.solve.passthrough import unchanged


class How(TypedDict, total=False):
    """How to solve: see ``fairopt.solve.solve``."""

    backend: BackendLike
    gradient: GradientKind
    certify: bool
    solver_tol: float | None


@dataclass(frozen=True, eq=False)
class Prepared:
    """A notion compiled for one batch composition, ready for any number of projections.

    Tolerances that are tensors are read at each call. A copy or a pickle has tensors of its own.
    """

    compiled: Compiled
    on_infeasible: OnInfeasible = "raise"

    @property
    def problem(self) -> ProjectionProblem:
        return self.compiled.problem

    @overload
    def project(self, scores: Tensor, *, return_solution: Literal[False] = ..., **how: Unpack[How]) -> Tensor: ...
    @overload
    def project(self, scores: Tensor, *, return_solution: Literal[True], **how: Unpack[How]) -> Solution: ...
    def project(
        self,
        scores: Tensor,
        *,
        backend: BackendLike = "auto",
        gradient: GradientKind = "implicit",
        certify: bool = True,
        solver_tol: float | None = None,
        return_solution: bool = False,
    ) -> Tensor | Solution:
        """The nearest fair scores to ``scores`` (n,) or (n, 1): same shape, dtype and device, differentiable.

        With ``return_solution`` a Solution with prices, status and certificate. Raises InputError for bad scores, UnsupportedError where
        the backend cannot take the problem, InfeasibleError where solving proves that there are none (on_infeasible="raise"),
        BackendError where it failed; warns where the answer is inaccurate, or the closest to a notion that no scores meet.
        """
        solution = self.solution(scores, backend=backend, gradient=gradient, certify=certify, solver_tol=solver_tol)
        return solution if return_solution else solution.scores

    def solution(
        self,
        scores: Tensor,
        *,
        backend: BackendLike = "auto",
        gradient: GradientKind = "implicit",
        certify: bool = True,
        solver_tol: float | None = None,
    ) -> Solution:
        """As ``project`` with ``return_solution``."""
        solution = self.quiet(scores, backend=backend, gradient=gradient, certify=certify, solver_tol=solver_tol)
        tell_closest([solution])
        return solution

    def quiet(self, scores: Tensor, **how: Unpack[How]) -> Solution:
        """``solution`` without the warning that scores are the closest to a notion that no scores meet."""
        problem, limits = self.compiled.now(self.on_infeasible)
        if self.on_infeasible == "passthrough" and not problem.feasible:
            return _passed(scores, problem)
        return self._ended(scores, solve(scores, problem, limits=limits, **how), limits, how)

    def _ended(self, scores: Tensor, solution: Solution, limits: Limits | None, how: How) -> Solution:
        """``solution``, or where solving proved that there is none, what ``on_infeasible`` asks for."""
        problem = solution.certificate.problem  # with the limits of this call
        proof = infeasibility(problem) if solution.status is Status.INFEASIBLE else None
        if proof is None:
            report(solution)
            return solution
        asked = as_asked(problem, proof, self.on_infeasible)
        if self.on_infeasible == "passthrough":
            return _passed(scores, asked)
        wider = None if limits is None else widened_limits(limits, asked)
        solution = solve(scores, asked, limits=wider, **how)
        report(solution)
        return solution

    def project_batch(
        self,
        scores: Tensor,
        *,
        backend: BackendLike = "auto",
        gradient: GradientKind = "implicit",
        certify: bool = True,
        solver_tol: float | None = None,
    ) -> Tensor:
        """``scores`` (B, n): B problems with the same groups, each projected as ``project`` would. Returns (B, n)."""
        if not isinstance(scores, Tensor) or scores.dim() != 2:
            shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise InputError(f"scores: got {shape}, expected (B, {self.problem.n}): one row per problem")
        if scores.shape[0] == 0:
            raise InputError("scores: got an empty batch, expected at least one row")
        problem, limits = self.compiled.now(self.on_infeasible)
        if self.on_infeasible == "passthrough" and not problem.feasible:
            return torch.stack([_passed(row, problem).scores for row in scores])
        how: How = {"backend": backend, "gradient": gradient, "certify": certify, "solver_tol": solver_tol}
        solved = solve_batch(scores, problem, limits=limits, **how)
        solutions = [self._ended(row, solution, limits, how) for row, solution in zip(scores, solved, strict=True)]
        tell_closest(solutions)
        return torch.stack([solution.scores for solution in solutions])


def _passed(scores: Tensor, problem: ProjectionProblem) -> Solution:
    """The scores as they came, for a problem that no scores meet."""
    check_scores(scores, problem.n)
    return unchanged(scores, problem)


def report(solution: Solution) -> None:
    """Raise BackendError for a failure, warn for an inaccurate answer; say nothing for one that its status vouches for."""
    status = solution.status
    if status in (Status.CERTIFIED, Status.WITHIN_ROUNDING, Status.CLOSEST):
        return
    words = f"backend {solution.backend!r}: {status.name}: {solution.message or status.advice}"
    if status in (Status.FAILED, Status.INFEASIBLE):
        raise BackendError(words)
    residual = solution.certificate.kkt_residual
    warnings.warn(
        f"{words} (KKT residual {residual:.1e}, worst violation {solution.certificate.max_violation:.1e})",
        FairoptWarning,
        stacklevel=_callers_level(),
    )


def tell_closest(solutions: list[Solution]) -> None:
    """Warn where scores are the closest to a notion that no scores meet. The words are always the same: Python shows them once a place."""
    if any(solution.status is Status.CLOSEST for solution in solutions):
        warnings.warn(f"{Status.CLOSEST.name}: {Status.CLOSEST.advice}", FairoptWarning, stacklevel=_callers_level())


_OWN = (os.path.dirname(os.path.abspath(__file__)) + os.sep, os.path.dirname(os.path.abspath(torch.__file__)) + os.sep)


def _callers_level() -> int:
    """The ``stacklevel`` at which ``warnings.warn``, called by the caller, names the first line outside fairopt and torch."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN):
        level, frame = level + 1, frame.f_back
    return level


def compile(
    notion: Notion,
    *,
    sensitive_features: Mapping[str, Any],
    targets: Any = None,
    bounds: Any = None,
    weights: Any = None,
    groups: Mapping[str, Iterable[Any]] | None = None,
    missing_group: Missing = "error",
    on_missing: OnMissing = "drop",
    on_infeasible: OnInfeasible = "raise",
) -> Prepared:
    """Compile a notion for one batch: groups are read, rows built and checked for feasibility once.

    sensitive_features  attribute name -> n values (ints, strings, bools; lists, numpy, tensors, pandas)
    targets (n,) where the notion needs them;  bounds  None or (lo, hi), numbers or (n,);  weights (n,) > 0 of the distance
    groups              declared values of attributes: then an unknown value is an error and an absent group is known to be absent
    on_infeasible       "raise" InfeasibleError; "closest": the scores that break the constraints least, with status CLOSEST and a warning;
                        "passthrough": the scores as they came, with status INFEASIBLE

    Raises InputError, InfeasibleError (with a minimal conflicting set in ``.rows`` and a proof in ``.proof``). Source: DESIGN 4 and 5.
    """
    n = _samples(sensitive_features)
    compiled = compile_problem(
        notion, n=n, sensitive_features=sensitive_features, targets=targets, bounds=bounds, weights=weights, groups=groups,
        missing_group=missing_group, on_missing=on_missing, on_infeasible=on_infeasible,
    )  # fmt: skip
    return Prepared(compiled, on_infeasible)


class Facts(How, total=False):
    """Everything about a batch but its groups, and how to solve: see ``compile``."""

    targets: Any
    bounds: Any
    weights: Any
    groups: Mapping[str, Iterable[Any]] | None
    missing_group: Missing
    on_missing: OnMissing
    on_infeasible: OnInfeasible


@overload
def project(
    scores: Tensor, notion: Notion, *, sensitive_features: Mapping[str, Any], return_solution: Literal[False] = ..., **facts: Unpack[Facts]
) -> Tensor: ...
@overload
def project(
    scores: Tensor, notion: Notion, *, sensitive_features: Mapping[str, Any], return_solution: Literal[True], **facts: Unpack[Facts]
) -> Solution: ...
def project(
    scores: Tensor,
    notion: Notion,
    *,
    sensitive_features: Mapping[str, Any],
    targets: Any = None,
    bounds: Any = None,
    weights: Any = None,
    groups: Mapping[str, Iterable[Any]] | None = None,
    backend: BackendLike = "auto",
    gradient: GradientKind = "implicit",
    missing_group: Missing = "error",
    on_missing: OnMissing = "drop",
    on_infeasible: OnInfeasible = "raise",
    certify: bool = True,
    solver_tol: float | None = None,
    return_solution: bool = False,
) -> Tensor | Solution:
    """The scores nearest to ``scores`` (n,) or (n, 1) that meet ``notion`` inside ``bounds``; differentiable.

    Same shape, dtype and device as ``scores``; with ``return_solution`` a Solution with prices, status and certificate.
    Arguments and errors: see ``compile`` and ``Prepared.project``.
    """
    prepared = compile(
        notion, sensitive_features=sensitive_features, targets=targets, bounds=bounds, weights=weights, groups=groups,
        missing_group=missing_group, on_missing=on_missing, on_infeasible=on_infeasible,
    )  # fmt: skip
    solution = prepared.solution(scores, backend=backend, gradient=gradient, certify=certify, solver_tol=solver_tol)
    return solution if return_solution else solution.scores


def _samples(sensitive_features: Any) -> int:
    """n, from the first attribute; the compiler checks the others."""
    keys = getattr(sensitive_features, "keys", None)
    if keys is None or not hasattr(sensitive_features, "__getitem__"):
        kind = type(sensitive_features).__name__
        raise InputError(f"sensitive_features: got {kind}, expected a mapping from attribute names to n values, e.g. {{'sex': [...]}}")
    for key in keys():
        column = sensitive_features[key]
        if not hasattr(column, "__len__"):
            raise InputError(f"sensitive_features[{key!r}]: got {type(column).__name__}, expected n values")
        return len(column)
    raise InputError("sensitive_features: got no attribute, expected at least one")
