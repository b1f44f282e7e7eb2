"""``moreau``: its own torch solver, active-set or interior point, with its own gradient.

The active-set method is exact where the Hessian is the identity (hard constraints; small ranges are written as pairs for that) and no
equality is redundant. It fails on many others, and its gradient is wrong where an entry of the Hessian is 1e4. "auto" takes it there,
checks the residual, and takes the interior point elsewhere. The interior point's gradient is wrong where a multiplier is below 1e-5 of
the scores, the active set's is not; with far scores it is off by 2e-3 unless they too are of order 1 (the unit of a cone).

Guarded: the default primal tolerance of the active-set method leaves errors of 3e-4 (set to 1e-11 here); option names that its
settings do not know are dropped in silence (the settings are built field by field here); an infeasible problem comes back as 0
with gradient 0 (the residual is recomputed); a Solver is not safe across threads (one is built a call, one at a time).
"""

from __future__ import annotations

from threading import Lock
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError
from fairopt.contract.backend import ALL_SOFTNESS, Capabilities
from fairopt.contract.problem import ProjectionProblem
from fairopt_backends.adapter import Adapter, Answer, one_of, positive, positive_integer
from fairopt_backends.lowering import Lowered, Numbers, lower
from fairopt_backends.modules import INSTALL, load
from fairopt_backends.programme import Programme, sides, unit_of_cone

SMALL_RANGE = 8  # up to 28 pairs
EXACT = 1e-9  # a residual that the active-set method stays below when it works

# moreau hands out handles from one unguarded counter when a Solver is built: two threads could get the same, and each other's gradient.
_building = Lock()


class Moreau(Adapter):
    """``method``: "auto", "active_set" or "ipm"."""

    name: ClassVar[str] = "moreau"
    requires: ClassVar[tuple[str, ...]] = ("moreau", "scipy")
    install: ClassVar[str] = INSTALL["moreau"]
    capabilities: ClassVar[Capabilities] = Capabilities(
        softness=ALL_SOFTNESS,
        ranges=True,
        ratio_ranges=True,
        gradients=("implicit", "native"),
        accuracy_native_y=1e-5,
        accuracy_native_gradient=1e-3,
    )

    def __init__(self, *, method: str = "auto", solver_tol: float | None = None, max_iter: int = 10_000) -> None:
        one_of("method", method, ("auto", "active_set", "ipm"))
        positive("solver_tol", solver_tol)
        positive_integer("max_iter", max_iter)
        self.method = method
        self.solver_tol = solver_tol
        self.max_iter = max_iter

    def _lower(self, problem: ProjectionProblem) -> Lowered:
        sizes = [rows.stop - rows.start for rows in problem.range_slices]
        return lower(problem, pairs=self.method != "ipm" and max(sizes, default=0) <= SMALL_RANGE)

    def _unit(self, centre: Array, numbers: Numbers) -> float:
        return unit_of_cone(centre, numbers)

    def _settings(self, method: str) -> Any:
        """The settings, with every name checked: the package drops those that it does not know."""
        moreau = load("moreau")
        tol = 1e-11 if self.solver_tol is None else self.solver_tol
        if method == "active_set":
            inner = _strict(moreau.ActiveSetSettings, primal_tol=tol, iter_limit=self.max_iter)
            return _strict(moreau.Settings, device="cpu", solver="active_set", enable_grad=True, active_set_settings=inner)
        inner = _strict(moreau.IPMSettings, tol_gap_abs=tol, tol_gap_rel=tol, tol_feas=tol)
        return _strict(moreau.Settings, device="cpu", solver="ipm", enable_grad=True, max_iter=self.max_iter, ipm_settings=inner)

    def _run(self, lowered: Lowered, numbers: Numbers, centre: Tensor) -> tuple[Tensor, Array, str, int]:
        """x, multipliers, the solver's status, iterations."""
        if self.method != "auto":
            return self._run_method(self.method, lowered, numbers, centre)
        if not lowered.extras:
            found = self._run_method("active_set", lowered, numbers, centre)
            if Programme(lowered, numbers, centre.detach().numpy()).residual(found[0].detach().numpy(), found[1]) <= EXACT:
                return found
        return self._run_method("ipm", lowered, numbers, centre)

    def _run_method(self, method: str, lowered: Lowered, numbers: Numbers, centre: Tensor) -> tuple[Tensor, Array, str, int]:
        moreau, torch_module = load("moreau"), load("moreau.torch", extra="moreau")
        s = sides(lowered)
        g, a = s.sparse
        matrix = load("scipy.sparse").vstack([a, g], format="csr")
        hessian = torch.cat([torch.ones(lowered.size, dtype=torch.float64, device="cpu"), numbers.hess])
        variables = lowered.variables
        try:
            with _building:
                solver = torch_module.Solver(
                    n=variables,
                    m=matrix.shape[0],
                    P_row_offsets=torch.arange(variables + 1, device="cpu"),
                    P_col_indices=torch.arange(variables, device="cpu"),
                    A_row_offsets=torch.from_numpy(matrix.indptr.astype(np.int64)),
                    A_col_indices=torch.from_numpy(matrix.indices.astype(np.int64)),
                    cones=moreau.Cones(num_zero_cones=s.equalities, num_nonneg_cones=s.inequalities),
                    settings=self._settings(method),
                )
            values = torch.from_numpy(matrix.data.copy())
            solution = solver.solve(hessian, values, torch.cat([-centre, numbers.cost]), torch.cat([s.b(numbers), s.h(numbers)]))
        except (RuntimeError, ValueError) as error:
            raise BackendError(f"moreau: {type(error).__name__}: {error}") from error
        dual = solution.z.detach().numpy()
        lam = s.multipliers(dual[s.equalities :], dual[: s.equalities])
        return solution.x, lam, str(solver.info.status), int(solver.info.iterations)

    def _solve(self, programme: Programme) -> Answer:
        try:
            x, lam, status, iterations = self._run(programme.lowered, programme.numbers, torch.from_numpy(programme.centre))
        except BackendError as error:
            return Answer(None, None, message=str(error))
        return Answer(x.detach().numpy(), lam, iterations, "MaxIter" in status or iterations >= self.max_iter, status)

    def _native(self, lowered: Lowered, numbers: Numbers, centre: Tensor) -> tuple[Tensor, Array | None]:
        x, lam, _, _ = self._run(lowered, numbers, centre)
        return x, lam


def _strict(settings: Any, **options: Any) -> Any:
    """settings(**options), refusing names that it would drop."""
    unknown = sorted(set(options) - set(settings.model_fields))
    if unknown:
        raise BackendError(f"moreau.{settings.__name__} has no option {', '.join(unknown)}: this version of moreau is not supported")
    return settings(**options)
