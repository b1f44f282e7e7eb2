"""``theseus``: non-linear least squares with an augmented Lagrangian, and its implicit gradient.

    residuals   u - centre,   sqrt(hess) extra,   sqrt(rho) dist(C x + lam / rho, [lower, upper])

Undamped Gauss-Newton on a stiff hinge penalty can cycle and reports nothing: one call at rho = 1e8 gave a wrong y in 4 of 300 random
problems. So ``outer`` calls from rho = 10 without gradient find the multipliers, each checked and damped where it cycled, and one
differentiated call at rho = 1e8 starts there.
The last rho must be big: the multipliers are constants in it, so y is exact at any rho but the gradient only to O(1 / rho).

Least squares know no linear cost: hard and quadratic constraints only, ranges as pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError
from fairopt.contract.backend import Capabilities
from fairopt_backends.adapter import Adapter, Answer, positive, positive_integer
from fairopt_backends.lowering import Lowered, Numbers
from fairopt_backends.modules import INSTALL, load
from fairopt_backends.programme import Programme, unit_of_cone
from fairopt_backends.theseus_cost import cost_class, distance

STIFF = 1e8
LEAST = 12  # calls before the multipliers may count as found: 8 are too few
PATIENCE, GROWTH = 15, 10.0  # nearly dependent rows: after each 15 calls rho grows
SMALL = 1e-9  # a gradient of the least squares that is none


@dataclass(frozen=True, eq=False)
class Task:
    """Rows and bounds together: matrix (R, U + E), lower, upper (R,), hess (E,), centre (U,)."""

    matrix: Tensor
    lower: Tensor
    upper: Tensor
    hess: Tensor
    centre: Tensor

    def detached(self) -> Task:
        return Task(self.matrix, self.lower.detach(), self.upper.detach(), self.hess.detach(), self.centre.detach())

    def violation(self, x: Tensor, lam: Tensor, rho: float) -> Tensor:
        """dist(C x + lam / rho, [lower, upper]) with its sign; rho times this is the next lam."""
        return distance(x @ self.matrix.T + lam / rho, self.lower, self.upper)

    def cost(self, x: Tensor, lam: Tensor, rho: float) -> float:
        """Half the sum of squared residuals."""
        size = self.centre.shape[0]
        squares = (x[:size] - self.centre).square().sum() + (self.hess * x[size:].square()).sum()
        return float(0.5 * (squares + rho * self.violation(x, lam, rho).square().sum()))

    def slope(self, x: Tensor, lam: Tensor, rho: float) -> Tensor:
        """The gradient of ``cost``."""
        size = self.centre.shape[0]
        own = torch.cat([x[:size] - self.centre, self.hess * x[size:]])
        return own + rho * self.violation(x, lam, rho) @ self.matrix


class Theseus(Adapter):
    """``outer``: most multiplier updates at ``rho``; ``max_iter``: Gauss-Newton steps a call."""

    name: ClassVar[str] = "theseus"
    requires: ClassVar[tuple[str, ...]] = ("theseus", "scipy")
    install: ClassVar[str] = INSTALL["theseus"]
    pairs: ClassVar[bool] = True
    capabilities: ClassVar[Capabilities] = Capabilities(
        softness=frozenset({"hard", "quadratic"}),
        ranges=True,
        ratio_ranges=True,
        gradients=("implicit", "native"),
        accuracy_native_y=1e-6,
        accuracy_native_gradient=1e-3,
    )

    def __init__(self, *, outer: int = 60, rho: float = 10.0, max_iter: int = 60, solver_tol: float | None = None) -> None:
        positive_integer("outer", outer)
        positive("rho", rho)
        positive_integer("max_iter", max_iter)
        positive("solver_tol", solver_tol)
        self.outer = outer
        self.rho = rho
        self.max_iter = max_iter
        self.solver_tol = solver_tol

    def _unit(self, centre: Array, numbers: Numbers) -> float:
        return unit_of_cone(centre, numbers)

    def _solve(self, programme: Programme) -> Answer:
        try:
            with torch.no_grad():
                x, lam, calls = self._run(_task(programme.lowered, programme.numbers, torch.from_numpy(programme.centre)))
        except BackendError as error:
            return Answer(None, None, message=str(error))
        return Answer(x.numpy(), lam[: programme.lowered.rows], calls, limit_hit=calls >= self.outer)

    def _native(self, lowered: Lowered, numbers: Numbers, centre: Tensor) -> tuple[Tensor, Array | None]:
        x, lam, _ = self._run(_task(lowered, numbers, centre))
        return x, lam[: lowered.rows]

    def _run(self, task: Task) -> tuple[Tensor, Array, int]:
        """x connected to the task, the multipliers (R,), the number of calls."""
        tolerance = 1e-11 if self.solver_tol is None else self.solver_tol
        detached = task.detached()
        with torch.no_grad():
            x = torch.cat([detached.centre, torch.zeros_like(detached.hess)])
            lam = torch.zeros(task.matrix.shape[0], dtype=torch.float64, device="cpu")
            calls = 0
            for calls in range(1, self.outer + 1):
                rho = self.rho * GROWTH ** min((calls - 1) // PATIENCE, 3)
                x = self._descend(detached, x, lam, rho)
                previous, lam = lam, rho * detached.violation(x, lam, rho)
                if calls >= LEAST and float((lam - previous).abs().max()) <= tolerance * max(1.0, float(lam.abs().max())):
                    break
            x = self._descend(detached, x, lam, STIFF)
        x = self._call(task, x, lam, STIFF, self.max_iter)
        if not bool(torch.isfinite(x).all()):
            raise BackendError("theseus: the Gauss-Newton steps left the finite numbers")
        return x, (STIFF * detached.violation(x.detach(), lam, STIFF)).numpy(), calls

    def _descend(self, task: Task, start: Tensor, lam: Tensor, rho: float) -> Tensor:
        """A least-squares solve whose end is checked: where undamped Gauss-Newton cycled, its steps one by one with a line search."""
        x = self._call(task, start, lam, rho, self.max_iter)
        small = SMALL + 1e-15 * rho
        if bool((task.slope(x, lam, rho).abs() <= small).all()):
            return x
        x = start if not task.cost(x, lam, rho) <= task.cost(start, lam, rho) else x
        for _ in range(self.max_iter):
            slope, cost = task.slope(x, lam, rho), task.cost(x, lam, rho)
            if bool((slope.abs() <= small).all()):
                break
            step, length = self._call(task, x, lam, rho, 1) - x, 1.0
            while length > 1e-6 and not task.cost(x + length * step, lam, rho) <= cost + 1e-4 * length * float(slope @ step):
                length /= 2
            x = x + length * step
        return x

    def _call(self, task: Task, start: Tensor, lam: Tensor, rho: float, iterations: int) -> Tensor:
        """``iterations`` of Gauss-Newton from ``start``; differentiable in the task when gradients are on."""
        th = load("theseus")
        named = {"centre": task.centre, "lower": task.lower, "upper": task.upper, "hess": task.hess, "lam": lam}
        inputs = {name: value[None] for name, value in named.items() if value.numel()}
        auxiliary = {name: th.Variable(torch.zeros_like(value), name=name) for name, value in inputs.items()}
        variable = th.Vector(dof=start.shape[0], name="x", dtype=torch.float64)
        try:
            cost = cost_class()(variable, auxiliary, task.matrix, rho)
            objective = th.Objective(dtype=torch.float64)
            objective.add(cost)
            optimizer = th.GaussNewton(
                objective,
                linear_solver_cls=th.CholeskyDenseSolver,
                max_iterations=iterations,
                abs_err_tolerance=0.0,
                rel_err_tolerance=1e-13,
            )
            inputs["x"] = start.detach()[None]
            out, _ = th.TheseusLayer(optimizer).forward(inputs, optimizer_kwargs={"backward_mode": "implicit"})
        except (RuntimeError, ValueError) as error:
            raise BackendError(f"theseus: {type(error).__name__}: {error}") from error
        found: Tensor = out["x"][0]
        return found


def _task(lowered: Lowered, numbers: Numbers, centre: Tensor) -> Task:
    """Rows above, finite bounds below."""
    boxed = np.flatnonzero(np.isfinite(lowered.lbx) | np.isfinite(lowered.ubx))
    matrix = torch.from_numpy(np.concatenate([lowered.dense(), np.eye(lowered.variables)[boxed]]))
    at = torch.from_numpy(boxed)
    return Task(matrix, torch.cat([numbers.lower, numbers.lbx[at]]), torch.cat([numbers.upper, numbers.ubx[at]]), numbers.hess, centre)
