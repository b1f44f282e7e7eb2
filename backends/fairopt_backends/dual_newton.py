"""``dual_newton``: semismooth Newton on the dual. Takes every problem, to machine precision. See fairopt.solve.dual.newton."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fairopt.contract.backend import ALL_SOFTNESS, Backend, Capabilities, RawSolution, Status
from fairopt.contract.problem import DISTANCES, ProjectionProblem
from fairopt.solve.dual.make import make_dual
from fairopt.solve.dual.newton import MAX_ITER, SolvedDual, solve_dual
from fairopt.solve.dual.structure import numbers, structure
from fairopt.solve.simplex.raw import searched
from fairopt_backends.adapter import positive, positive_integer


class DualNewton(Backend):
    """Options: ``max_iter`` Newton iterations; ``solver_tol`` KKT residual in score units, None for what float64 resolves."""

    name: ClassVar[str] = "dual_newton"
    capabilities: ClassVar[Capabilities] = Capabilities(
        softness=ALL_SOFTNESS,
        ranges=True,
        ratio_ranges=True,
        devices=("cpu", "cuda"),
        dtypes=("float64", "float32"),
        accuracy_y=1e-8,
        accuracy_gradient=1e-8,
        exact=True,
        distances=frozenset(DISTANCES),
        outputs=frozenset({"one", "simplex"}),
    )

    def __init__(self, max_iter: int = MAX_ITER, solver_tol: float | None = None) -> None:
        positive_integer("max_iter", max_iter)
        self.max_iter = max_iter
        positive("solver_tol", solver_tol)
        self.solver_tol = solver_tol

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        if problem.distance != "squared" or problem.classes > 1:
            return searched(scores, problem, tol=self.solver_tol, max_iter=self.max_iter)
        dual = make_dual(scores, problem)
        solution = solve_dual(dual, structure(problem), numbers(problem), tol=self.solver_tol, max_iter=self.max_iter)
        status = None
        if not solution.converged:
            status = Status.ITERATION_LIMIT if solution.iterations >= self.max_iter else Status.INACCURATE
        return SolvedDual(None, solution.p, status, solution.iterations, dual=dual, solution=solution)
