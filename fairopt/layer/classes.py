"""Solving for several numbers a sample: class probabilities that sum to 1, and labels that do not exclude each other
(``fairopt.notions.several`` says what a notion asks of these)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.compiler import Compiled
from fairopt.compiler.infeasible import closest_not_offered, infeasible, infeasible_classes
from fairopt.contract.backend import Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.feasibility import infeasibility
from fairopt.notions import Notion
from fairopt.notions.several import Classes, MakeOne, parts_of
from fairopt.solve import Solution, solve
from fairopt.solve.choosing import choose
from fairopt.solve.simplex.front import solve_simplex
from fairopt.solve.simplex.joined import joined
from fairopt.solve.simplex.solution import ClassSolution
from fairopt.solve.told import report
from fairopt.solve.transforms import refuse_transforms

CompileOne = MakeOne[Compiled]


def refuse_unless_raised(on_infeasible: str) -> None:
    """UnsupportedError for ways to go on without fair scores, which there are for one number a sample."""
    if on_infeasible != "raise":
        raise UnsupportedError(f"on_infeasible: got {on_infeasible!r}, only 'raise' is supported for several numbers a sample")


def problem_of(notion: Notion, how: Classes, targets: Any, count: int, n: int, compile_one: CompileOne) -> ProjectionProblem:
    """The one problem of all classes: n samples of ``count`` numbers."""
    with closest_not_offered():
        parts = parts_of(notion, how, targets, count, n, compile_one)
    if any(compiled.moving is not None for _, compiled in parts):
        raise UnsupportedError(f"tolerances, rho or gamma that are tensors: not supported beside outputs={how.outputs!r}")
    problems = [(c, compiled.problem) for c, compiled in parts]
    first = problems[0][1]
    if any(p.stated is not None or not p.feasible for _, p in problems):
        raise UnsupportedError(f"on_infeasible: only 'raise' is supported beside outputs={how.outputs!r}")
    if how.outputs == "simplex":
        return joined(problems, count, "kl_positive" if how.distance == "kl" else "squared")
    box = (first.lb, first.ub)
    if parts[0][0].index is None:  # a problem of all classes, whose bounds are the same for each
        box = tuple(b[: b.shape[0] // count] if isinstance(b, Tensor) else b for b in box)  # type: ignore[assignment]
    return joined(problems, count, first.distance, box)


def solve_classes(scores: Tensor, problem: ProjectionProblem, how: Classes, **options: Any) -> Solution:
    """The projection of ``scores`` (n, C) onto ``problem_of``: a Solution whose scores are (n, C). Raises and warns as ``Prepared.project``
    does."""
    backend = options.pop("backend", "auto")
    gradient = options.pop("gradient", "implicit")
    n, count = scores.shape
    if how.outputs == "simplex":
        if gradient != "implicit":
            raise UnsupportedError(f"gradient={gradient!r}: not there for outputs='simplex'; use gradient='implicit'")
        chosen, tol = choose(backend, problem, options["solver_tol"]), options["solver_tol"]
        solution: Solution = solve_simplex(scores, problem, chosen, kl=how.distance == "kl", certify=options["certify"], tol=tol)
    else:
        found = solve(scores.T.reshape(-1), problem, backend=backend, gradient=gradient, **options)
        fields = {name: getattr(found, name) for name in ("prices", "status", "certificate", "backend", "iterations", "message")}
        solution = ClassSolution(scores=found.scores.reshape(count, n).T, simplex_error=float("nan"), **fields)
    if solution.status is Status.INFEASIBLE:
        raise_infeasible(solution, stay=" whose zeros stay" if how.distance == "kl" else "")
    report(solution)
    return solution


def raise_infeasible(solution: Solution, stay: str) -> None:
    """InfeasibleError with the proof of an INFEASIBLE solution."""
    of = solution.summed if isinstance(solution, ClassSolution) else None
    if of is not None and of.proof is not None:
        raise infeasible_classes(of.problem, of.proof, of.facts, stay)
    proof = infeasibility(solution.certificate.problem)
    if proof is not None:
        with closest_not_offered():
            raise infeasible(solution.certificate.problem, proof)


def check_table(scores: Any) -> None:
    """InputError unless ``scores`` are finite floats (n, C), under no transform."""
    if not isinstance(scores, Tensor):
        raise InputError(f"scores: got {type(scores).__name__}, expected a torch tensor of shape (n, C)")
    refuse_transforms(scores)
    if scores.dim() != 2 or not scores.is_floating_point():
        raise InputError(f"scores: got shape {tuple(scores.shape)}, {scores.dtype}, expected floats of shape (n, C)")
    if not bool(torch.isfinite(scores.detach()).all()):
        k = int(torch.nonzero(~torch.isfinite(scores.detach()))[0, 0])
        raise InputError(f"scores: got {scores.detach()[k].tolist()[:6]} in row {k}, expected finite numbers")


class PreparedClasses:
    """A notion compiled for one batch composition and several numbers a sample. The problem of so many columns is made when scores
    with these come, and kept."""

    def __init__(self, notion: Notion, how: Classes, compile_one: CompileOne, targets: Any, n: int) -> None:
        self.notion, self.how, self.targets, self.n = notion, how, targets, n
        self._compile_one = compile_one
        self._problems: dict[int, ProjectionProblem] = {}

    def problem_for(self, count: int) -> ProjectionProblem:
        """The problem of ``count`` numbers a sample."""
        if count not in self._problems:
            self._problems[count] = problem_of(self.notion, self.how, self.targets, count, self.n, self._compile_one)
        return self._problems[count]

    def project(self, scores: Tensor, *, return_solution: bool = False, **how: Any) -> Any:
        """The nearest fair scores to ``scores`` (n, C), differentiable; with ``return_solution`` a ``ClassSolution``."""
        check_table(scores)
        if scores.shape[0] != self.n:
            raise InputError(f"scores: got {scores.shape[0]} rows, expected {self.n}, one per sample of the batch")
        options = {"certify": True, "solver_tol": None, **how}
        solution = solve_classes(scores, self.problem_for(scores.shape[1]), self.how, **options)
        return solution if return_solution else solution.scores
