"""A compiled batch: ``Prepared``."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fairopt.basics.columns import Like, numbers, working_tensor
from fairopt.basics.errors import FairoptWarning, InputError, UnsupportedError
from fairopt.compiler import Compiled, OnInfeasible, OnMissing
from fairopt.compiler.infeasible import as_asked
from fairopt.compiler.limits import widened_limits
from fairopt.contract.backend import GradientKind, Status
from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt.contract.registry import BackendLike
from fairopt.feasibility import infeasibility
from fairopt.notions.groups import Missing
from fairopt.notions.several import Classes
from fairopt.solve import Solution, solve, solve_batch
from fairopt.solve.certificate import Certified
from fairopt.solve.front import quick, quick_batch
from fairopt.solve.operator import in_graph, token_of
from fairopt.solve.passthrough import restated, unchanged
from fairopt.solve.scores import check_scores
from fairopt.solve.told import callers_level, report, tell_closest
from fairopt.solve.transforms import project_transformed, refuse_transforms, transformed


class How(TypedDict, total=False):
    """How to solve: see ``fairopt.solve.solve``."""

    backend: BackendLike
    gradient: GradientKind
    certify: bool
    solver_tol: float | None


def is_plain(backend: BackendLike, gradient: GradientKind, certify: bool, solver_tol: float | None) -> bool:
    """Whether a projection is asked for with the default settings, for which there are shorter roads."""
    return certify and solver_tol is None and gradient == "implicit" and isinstance(backend, str) and backend == "auto"


class Reads(TypedDict, total=False):
    """Everything about a batch but its groups: see ``compile``."""

    targets: Any
    bounds: Any
    weights: Any
    groups: Mapping[str, Iterable[Any]] | None
    missing_group: Missing
    on_missing: OnMissing
    on_infeasible: OnInfeasible
    pos_label: Any
    distance: str


@dataclass(frozen=True, eq=False)
class Prepared:
    """A notion compiled for one batch composition, ready for any number of projections.

    Made by ``compile``; ``on_infeasible`` as there.
    Tolerances that are tensors are read at each call. A copy or a pickle has tensors of its own.

    Examples:
        >>> prepared = fo.compile(fo.DemographicParity("sex", tolerance=0), sensitive_features=["f", "m"])
        >>> prepared.project(torch.tensor([0.2, 0.6])), prepared.project(torch.tensor([0.1, 0.3]))
        (tensor([0.4000, 0.4000]), tensor([0.2000, 0.2000]))
    """

    compiled: Compiled
    on_infeasible: OnInfeasible = "raise"

    def __post_init__(self) -> None:
        self.__dict__["_token"] = token_of(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _token=token_of(self))

    @property
    def problem(self) -> ProjectionProblem:
        """The problem that the notion became."""
        return self.compiled.problem

    def traced(self, scores: Tensor, facts: Mapping[str, Tensor]) -> Tensor:
        """What ``fairopt.solve.operator`` calls when a graph runs."""
        projected: Tensor = self.project(scores)
        return projected

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

        backend     "auto" (the cheapest exact one), a name, a Backend class or an instance
        gradient    "implicit" (the optimality conditions; any backend) or "native" (the solver's own)
        certify     repair and prove the rows in exact arithmetic; False leaves the solver's rounding
        solver_tol  tolerance of the solver, in units of the scores; None: its tight default

        With ``return_solution`` a Solution with prices, status and certificate. Raises InputError for bad scores, UnsupportedError where
        the backend cannot take the problem, InfeasibleError where solving proves that there are none (on_infeasible="raise"),
        BackendError where it failed; warns where the answer is inaccurate, or the closest to a notion that no scores meet.
        """
        if torch.compiler.is_compiling() and not return_solution:
            return in_graph(scores, {}, self.__dict__["_token"])
        if isinstance(scores, Tensor) and not return_solution and transformed(scores):
            return self._transformed(scores, backend=backend, gradient=gradient, certify=certify, solver_tol=solver_tol)
        plain = is_plain(backend, gradient, certify, solver_tol)
        found = self.quick(scores) if plain and not return_solution else None  # certified: nothing to warn of
        if found is not None:
            return found[0]
        tensor, like = working_tensor(scores)
        solution = self.solution(tensor, backend=backend, gradient=gradient, certify=certify, solver_tol=solver_tol)
        return solution if return_solution else handed_back(solution, like)

    def _transformed(self, scores: Tensor, **how: Unpack[How]) -> Tensor:
        """``project`` of scores inside torch.func or forward mode."""
        if self.problem.distance != "squared":
            refuse_transforms(scores, f"scores beside distance={self.problem.distance!r}")
        if self.compiled.moving is not None:
            raise UnsupportedError(
                "tolerances, targets, rho or gamma that are tensors: not supported inside torch.func or forward mode; use backward()"
            )
        project = self.project
        return project_transformed(scores, self.problem.n, lambda row: project(row, **how), self.problem.weights)

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

    def quick(self, scores: Any) -> tuple[Tensor, Certified] | None:
        """Certified scores with the default settings, and what makes their certificate; None where ``solution`` has to decide."""
        return quick(scores, self.compiled.problem) if type(scores) is Tensor and self.compiled.moving is None else None

    def quiet(self, scores: Tensor, **how: Unpack[How]) -> Solution:
        """``solution`` without the warning that scores are the closest to a notion that no scores meet."""
        problem, limits = self.compiled.now(self.on_infeasible)
        if self.on_infeasible == "passthrough" and not problem.feasible:
            return _passed(scores, self.compiled.as_written())
        return self._ended(scores, solve(scores, problem, limits=limits, **how), limits, how)

    def _ended(self, scores: Tensor, solution: Solution, limits: Limits | None, how: How) -> Solution:
        """``solution``, or where solving proved that there is none, what ``on_infeasible`` asks for."""
        problem = solution.certificate.problem  # with the limits of this call
        proof = infeasibility(problem) if solution.status is Status.INFEASIBLE else None
        if proof is None:
            if solution.certificate.bounds_violation > 0.0:  # the dtype has no number between two bounds
                solution = restated(solution, replace(self.compiled.as_written(), feasible=problem.feasible))
            report(solution)
            return solution
        if self.on_infeasible == "passthrough":
            return _passed(scores, self.compiled.as_written())
        with np.errstate(all="ignore"):
            asked = as_asked(problem, proof, self.on_infeasible)
        wider = None if limits is None else widened_limits(limits, asked)
        solution = solve(scores, asked, limits=wider, **how)
        report(solution)
        return solution

    @overload
    def project_batch(self, scores: Tensor, **how: Unpack[How]) -> Tensor: ...
    @overload
    def project_batch(self, scores: npt.NDArray[Any], **how: Unpack[How]) -> npt.NDArray[Any]: ...
    def project_batch(
        self,
        scores: Any,
        *,
        backend: BackendLike = "auto",
        gradient: GradientKind = "implicit",
        certify: bool = True,
        solver_tol: float | None = None,
    ) -> Any:
        """``scores`` (B, n): B problems with the same groups, each projected as ``project`` would. Returns (B, n), numpy for numpy.

        Errors as there: InputError for another shape and for no row.
        """
        if isinstance(scores, np.ndarray) and scores.ndim == 2:
            like = scores.dtype if scores.dtype in (np.float32, np.float16) else np.dtype(np.float64)
            flat = numbers(scores.reshape(-1), None, "scores").numpy().astype(like).reshape(scores.shape)
            fair = self.project_batch(torch.from_numpy(flat), backend=backend, gradient=gradient, certify=certify, solver_tol=solver_tol)
            return fair.numpy()
        if not isinstance(scores, Tensor) or scores.dim() != 2:
            shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise InputError(f"scores: got {shape}, expected (B, {self.problem.n}): one row per problem")
        if scores.shape[0] == 0:
            raise InputError("scores: got an empty batch, expected at least one row")
        plain = is_plain(backend, gradient, certify, solver_tol) and self.compiled.moving is None
        found = quick_batch(scores, self.compiled.problem) if plain else None
        if found is not None:
            return found
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


def refuse_ranks(distance: str, several: Classes | None) -> None:
    """UnsupportedError for what is not solved over the ranks of a process group."""
    if several is not None:
        raise UnsupportedError(f"process_group: not there beside outputs={several.outputs!r}")
    if distance != "squared":
        raise UnsupportedError(f"process_group: not there beside distance={distance!r}; expected distance='squared' over several ranks")


def warn_vacuous(problem: ProjectionProblem) -> None:
    """Warn that a batch lacks the groups that the notion is about, so that nothing is asked of its scores and nothing certified."""
    words = "; ".join(f"{label} ({reason})" for label, reason in problem.dropped[:3]) or "the notion yields no constraint"
    more = f" and {len(problem.dropped) - 3} more" if len(problem.dropped) > 3 else ""
    warnings.warn(f"vacuous: nothing is asked of these scores, for {words}{more}", FairoptWarning, stacklevel=callers_level())


def ordinary(compiled: Compiled, on_infeasible: OnInfeasible, scores: Tensor, how: Mapping[str, Any]) -> Solution:
    """The ordinary road for a batch that came from several ranks."""
    return Prepared(compiled, on_infeasible).quiet(scores, **how)


def handed_back(solution: Solution, like: Like | None) -> Any:
    """The scores of a solution, in the kind that they came in."""
    return solution.scores if like is None else like.restore(solution.scores)
