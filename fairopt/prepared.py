"""One-shot projection and compiled batches: ``project``, ``compile``, ``Prepared``."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack, overload

import torch
from torch import Tensor

from fairopt.basics.columns import Like, length, read_features, working_tensor
from fairopt.compiler import Compiled, OnInfeasible, OnMissing, compile_problem
from fairopt.contract.base import GradientKind, Status
from fairopt.contract.registry import BackendLike
from fairopt.errors import BackendError, FairoptWarning, InputError
from fairopt.groups import Missing
from fairopt.notions import Notion
from fairopt.problem import ProjectionProblem
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
    def project(self, scores: Any, *, return_solution: Literal[True], **how: Unpack[How]) -> Solution: ...
    @overload
    def project(self, scores: Any, *, return_solution: Literal[False] = ..., **how: Unpack[How]) -> Any: ...
    def project(
        self,
        scores: Any,
        *,
        backend: BackendLike = "auto",
        gradient: GradientKind = "implicit",
        certify: bool = True,
        solver_tol: float | None = None,
        return_solution: bool = False,
    ) -> Any:
        """The nearest fair scores to ``scores`` (n,) or (n, 1): same shape, dtype and device, differentiable.

        Scores in another container (a list, numpy, pandas, polars or pyarrow column) come back in the same; only tensors carry gradients.

        With ``return_solution`` a Solution with prices, status and certificate. Raises InputError for bad scores, UnsupportedError where
        the backend cannot take the problem, BackendError where it failed; warns where the answer is inaccurate.
        """
        tensor, like = working_tensor(scores)
        solution = self.solution(tensor, backend=backend, gradient=gradient, certify=certify, solver_tol=solver_tol)
        return solution if return_solution else _handed_back(solution, like)

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
        if self.on_infeasible == "passthrough" and not self.problem.feasible:
            check_scores(scores, self.problem.n)
            return unchanged(scores, self.problem)
        limits = self.compiled.limits() if self.compiled.has_parameters else None
        solution = solve(scores, self.problem, limits=limits, backend=backend, gradient=gradient, certify=certify, solver_tol=solver_tol)
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
        if self.on_infeasible == "passthrough" and not self.problem.feasible:
            return torch.stack([self.solution(row).scores for row in scores])
        limits = self.compiled.limits() if self.compiled.has_parameters else None
        solutions = solve_batch(
            scores, self.problem, limits=limits, backend=backend, gradient=gradient, certify=certify, solver_tol=solver_tol
        )
        for solution in solutions:
            report(solution)
        return torch.stack([solution.scores for solution in solutions])


def warn_vacuous(problem: ProjectionProblem, *, stacklevel: int) -> None:
    """Warn that a batch lacks the groups that the notion is about, so that nothing is asked of its scores and nothing certified."""
    words = "; ".join(f"{label} ({reason})" for label, reason in problem.dropped[:3]) or "the notion yields no constraint"
    more = f" and {len(problem.dropped) - 3} more" if len(problem.dropped) > 3 else ""
    warnings.warn(f"vacuous: nothing is asked of these scores, for {words}{more}", FairoptWarning, stacklevel=stacklevel)


def report(solution: Solution) -> None:
    """Raise BackendError for a failure, warn for an inaccurate answer; say nothing for a certified one."""
    status = solution.status
    if status in (Status.CERTIFIED, Status.WITHIN_ROUNDING):
        return
    words = f"backend {solution.backend!r}: {status.name}: {solution.message or status.advice}"
    if status in (Status.FAILED, Status.INFEASIBLE):
        raise BackendError(words)
    residual = solution.certificate.kkt_residual
    warnings.warn(
        f"{words} (KKT residual {residual:.1e}, worst violation {solution.certificate.max_violation:.1e})", FairoptWarning, stacklevel=4
    )


def compile(
    notion: Notion,
    *,
    sensitive_features: Any,
    targets: Any = None,
    bounds: Any = None,
    weights: Any = None,
    groups: Mapping[str, Iterable[Any]] | None = None,
    missing_group: Missing = "error",
    on_missing: OnMissing = "drop",
    on_infeasible: OnInfeasible = "raise",
    pos_label: Any = None,
) -> Prepared:
    """Compile a notion for one batch: groups are read, rows built and checked for feasibility once.

    sensitive_features  attribute name -> n values (ints, strings, bools), a frame, or the values of the notion's only attribute
    pos_label           the target that counts as 1, every other one as 0; None: targets are numbers, labels 0 and 1
    targets (n,) where the notion needs them;  bounds  None or (lo, hi), numbers or (n,);  weights (n,) > 0 of the distance
    groups              declared values of attributes: then an unknown value is an error and an absent group is known to be absent

    Raises InputError, InfeasibleError (with a minimal conflicting set in ``.rows``). Source: DESIGN 4 and 5.
    """
    return _compiled(
        notion, sensitive_features=sensitive_features, targets=targets, bounds=bounds, weights=weights, groups=groups,
        missing_group=missing_group, on_missing=on_missing, on_infeasible=on_infeasible, pos_label=pos_label,
    )  # fmt: skip


def _compiled(notion: Notion, *, sensitive_features: Any, on_missing: OnMissing, on_infeasible: OnInfeasible, **facts: Any) -> Prepared:
    """As ``compile``; a warning names the line two calls up."""
    if not isinstance(notion, Notion):
        raise InputError(f"notion must be a notion such as DemographicParity('sex', tolerance=0.05), came {notion!r}")
    features = read_features(sensitive_features, notion.attributes)
    name = next((a for a in notion.attributes if a in features), next(iter(features)))
    n = length(features[name], f"sensitive_features[{name!r}]")
    compiled = compile_problem(notion, n=n, sensitive_features=features, on_missing=on_missing, on_infeasible=on_infeasible, **facts)
    if compiled.problem.vacuous and on_missing != "warn":  # that has warned already
        warn_vacuous(compiled.problem, stacklevel=4)
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
    pos_label: Any


@overload
def project(
    scores: Tensor, notion: Notion, *, sensitive_features: Any, return_solution: Literal[False] = ..., **facts: Unpack[Facts]
) -> Tensor: ...
@overload
def project(
    scores: Any, notion: Notion, *, sensitive_features: Any, return_solution: Literal[True], **facts: Unpack[Facts]
) -> Solution: ...
@overload
def project(
    scores: Any, notion: Notion, *, sensitive_features: Any, return_solution: Literal[False] = ..., **facts: Unpack[Facts]
) -> Any: ...
def project(
    scores: Any,
    notion: Notion,
    *,
    sensitive_features: Any,
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
    pos_label: Any = None,
    return_solution: bool = False,
) -> Any:
    """The scores nearest to ``scores`` (n,) or (n, 1) that meet ``notion`` inside ``bounds``; differentiable.

    Same shape, dtype and device as ``scores`` (or the same container, see
    ``Prepared.project``); with ``return_solution`` a Solution with prices, status and certificate.
    Arguments and errors: see ``compile`` and ``Prepared.project``.
    """
    prepared = _compiled(
        notion, sensitive_features=sensitive_features, targets=targets, bounds=bounds, weights=weights, groups=groups,
        missing_group=missing_group, on_missing=on_missing, on_infeasible=on_infeasible, pos_label=pos_label,
    )  # fmt: skip
    tensor, like = working_tensor(scores)
    solution = prepared.solution(tensor, backend=backend, gradient=gradient, certify=certify, solver_tol=solver_tol)
    return solution if return_solution else _handed_back(solution, like)


def _handed_back(solution: Solution, like: Like | None) -> Any:
    return solution.scores if like is None else like.restore(solution.scores)
