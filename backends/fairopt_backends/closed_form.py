"""``closed_form``: no search at all where constraints share no sample and no bound is active.

Each constraint then has its own prices: a row's gap over its slope, a range's by sorting (claims L6, L7), O(n + K log K).
With a box it tries the same formula and answers only if no bound turns out to be active.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor

from fairopt.basics.errors import UnsupportedError
from fairopt.contract.backend import Backend, Capabilities, RawSolution
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.bordered import diagonal
from fairopt.solve.dual.evaluator import Evaluation
from fairopt.solve.dual.make import make_dual
from fairopt.solve.dual.newton import ACCEPTED, DualSolution, SolvedDual, goals
from fairopt.solve.dual.prox import prox, residual
from fairopt.solve.dual.structure import numbers, structure
from fairopt_backends.adapter import positive


class ClosedForm(Backend):
    """No options but ``solver_tol``, which it has no use for."""

    name: ClassVar[str] = "closed_form"
    capabilities: ClassVar[Capabilities] = Capabilities(
        softness=frozenset({"hard", "priced", "quadratic"}),
        ranges=True,
        ratio_ranges=True,
        dense=True,
        devices=("cpu", "cuda"),
        dtypes=("float64", "float32"),
        accuracy_y=1e-10,
        accuracy_gradient=1e-8,
        exact=True,
    )

    def __init__(self, solver_tol: float | None = None) -> None:
        positive("solver_tol", solver_tol)
        self.solver_tol = solver_tol

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        st, nums = structure(problem), numbers(problem)
        if st.shape not in ("empty", "separable") and problem.m != 1:
            raise UnsupportedError(
                "backend 'closed_form' takes constraints that share no sample; backend='dual_newton' takes every problem"
            )
        dual = make_dual(scores, problem)
        start = dual.evaluate(np.zeros(problem.m))
        M = dual.model(start)
        free = diagonal(M)
        slopes = np.where(free > 0, free, st.metric)  # a row whose samples are all at a bound: any finite price, the check below refuses it
        p = prox(st, nums, start.f, slopes) if problem.m else np.zeros(0)
        # without a box nothing is clamped: row values are linear in the prices
        end = dual.evaluate(p) if problem.has_box else Evaluation(start.f - M @ p, start.slope, start.dense_model)
        gap = float(np.abs(residual(st, nums, end.f, p)).max(initial=0.0))
        if problem.has_box and not gap <= 1e-12 * max(dual.magnitude(), 1e-300):
            raise UnsupportedError("backend 'closed_form' has no answer where bounds are active; backend='dual_newton' takes every problem")
        bound = ACCEPTED * float(np.abs(start.f / st.unit).max(initial=0.0))  # the rows' values are no larger than the scores
        if not gap <= bound:
            bound = goals(dual, st, nums).bound(st, p)
        return SolvedDual(None, p, None, 0, dual=dual, solution=DualSolution(p, end, gap, 0, bool(gap <= bound), bound))
