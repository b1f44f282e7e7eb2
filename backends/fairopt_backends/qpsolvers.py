"""``qpsolvers:<name>``: clarabel, osqp, piqp, daqp, highs and scs through the qpsolvers package's one interface.

They bring no gradient that we would offer (OSQP's own adjoint is wrong as soon as a slack or a multiplier is below 3e-4):
``gradient="implicit"`` differentiates at the polished solution. Each solver's default stopping test is too loose for that;
``OPTIONS`` holds what was measured to be tight enough.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fairopt.basics.arrays import IntArray
from fairopt.basics.errors import InputError
from fairopt.contract.backend import ALL_SOFTNESS, Capabilities
from fairopt_backends.adapter import Adapter, Answer, one_of, positive, positive_integer
from fairopt_backends.modules import INSTALL, load
from fairopt_backends.programme import Programme, sides

SOLVERS = ("clarabel", "daqp", "highs", "osqp", "piqp", "scs")
SPARSE = ("clarabel", "highs", "osqp", "piqp", "scs")

TOLERANCE = {"clarabel": 1e-12, "daqp": 1e-12, "highs": 1e-10, "osqp": 1e-9, "piqp": 1e-12, "scs": 1e-10}
LIMIT = {"daqp": "iter_limit", "highs": "qp_iteration_limit", "scs": "max_iters"}  # the others: max_iter
NEVER = 1e-30
ITERATIONS = {"clarabel": 200, "daqp": 10_000, "highs": 100_000, "osqp": 100_000, "piqp": 500, "scs": 100_000}


def options(solver: str, tol: float, max_iter: int) -> dict[str, Any]:
    """The options of one solve."""
    limit = {LIMIT.get(solver, "max_iter"): max_iter}
    if solver == "clarabel":
        return limit | {"tol_gap_abs": tol, "tol_gap_rel": tol, "tol_feas": tol}
    if solver == "daqp":
        return limit | {"primal_tol": tol, "dual_tol": tol}
    if solver == "highs":  # its regularisation of 1e-7 leaves errors of 1e-7
        return limit | {"primal_feasibility_tolerance": tol, "dual_feasibility_tolerance": tol, "qp_regularization_value": 1e-11}
    if solver == "osqp":
        # its polishing prints to stdout, verbose or not; no programme here is unbounded, yet it calls some "dual infeasible" at its default
        return limit | {"eps_abs": tol, "eps_rel": tol, "eps_dual_inf": NEVER}
    if solver == "piqp":  # without the gap tolerances it stops at |y - y*| = 1e-4
        gap = {"check_duality_gap": True, "eps_duality_gap_abs": tol, "eps_duality_gap_rel": 0.0}
        return limit | gap | {"eps_abs": tol, "eps_rel": 0.0}
    return limit | {"eps_abs": tol, "eps_rel": 0.0}


class QPSolvers(Adapter):
    """One solver of the qpsolvers package. ``solver_tol`` is its own stopping tolerance (None: tight)."""

    name: ClassVar[str] = "qpsolvers"
    requires: ClassVar[tuple[str, ...]] = ("qpsolvers", "scipy")
    install: ClassVar[str] = INSTALL["qpsolvers"]
    members: ClassVar[tuple[str, ...]] = SOLVERS
    capabilities: ClassVar[Capabilities] = Capabilities(
        softness=ALL_SOFTNESS, ranges=True, ratio_ranges=True, outputs=frozenset({"one", "simplex"})
    )

    def __init__(self, solver: str, *, solver_tol: float | None = None, max_iter: int | None = None) -> None:
        one_of("solver", solver, SOLVERS)
        positive("solver_tol", solver_tol)
        if max_iter is not None:
            positive_integer("max_iter", max_iter)
        if solver == "highs" and solver_tol is not None and solver_tol < 1e-10:
            raise InputError(f"solver_tol={solver_tol!r}: highs takes no tolerance below 1e-10")
        self.solver = solver
        self.solver_tol = solver_tol
        self.max_iter = ITERATIONS[solver] if max_iter is None else max_iter
        self.name = f"qpsolvers:{solver}"  # type: ignore[misc]  # one class, one name a solver

    def _solve(self, programme: Programme) -> Answer:
        order = np.arange(programme.lowered.variables)
        answer = self._attempt(programme, order)
        if self.solver == "highs" and (answer.x is None or not np.isfinite(answer.x).all()):
            return self._attempt(programme, order[::-1])  # now and then it returns NaN; with the variables in another order it does not
        return answer

    def _attempt(self, programme: Programme, order: IntArray) -> Answer:
        """One solve, with the variables in this order."""
        qp = load("qpsolvers")
        s = sides(programme.lowered, box=False)
        h, b = s.h(programme.numbers).numpy(), s.b(programme.numbers).numpy()
        g: Any
        a: Any
        if self.solver in SPARSE:
            hessian: Any = load("scipy.sparse").diags(programme.diagonal[order], format="csc")
            g, a = (m.tocsc()[:, order] for m in s.sparse)
        else:
            hessian, (g, a) = np.diag(programme.diagonal[order]), (m[:, order] for m in s.dense)
        boxed = np.isfinite(programme.lbx).any() or np.isfinite(programme.ubx).any()
        box = (programme.lbx[order], programme.ubx[order]) if boxed else (None, None)
        rows = (g, h) if h.size else (None, None)
        equalities = (a, b) if b.size else (None, None)
        problem = qp.Problem(hessian, programme.q[order], *rows, *equalities, *box)
        tol = TOLERANCE[self.solver] if self.solver_tol is None else self.solver_tol
        try:
            solution = qp.solve_problem(problem, solver=self.solver, **options(self.solver, tol, self.max_iter))
        except Warning as warning:  # a process that turns warnings into errors: the solver only said that it did not solve
            return Answer(None, None, message=str(warning))
        if solution.x is None:
            return Answer(None, None, message=f"{self.solver} found no solution")
        lam = s.multipliers(np.zeros(0) if solution.z is None else solution.z, np.zeros(0) if solution.y is None else solution.y)
        message = "" if solution.found else f"{self.solver} did not report a solution"
        x = np.empty(order.size)
        x[order] = solution.x
        return Answer(x, lam, message=message)
