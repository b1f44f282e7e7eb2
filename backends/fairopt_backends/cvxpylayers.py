"""``cvxpylayers``: a DPP problem compiled once per batch composition, cached, and never rebuilt in a forward.

All numbers are parameters (the scores, limits, rho, gamma, bounds), so one compiled layer serves every batch and every tolerance of
one composition; in cell space (no box) a composition is the cell counts, not which sample sits where. The inner solver is DIFFCP's
SCS at eps 1e-10: Clarabel inside DIFFCP stops at 1e-4, SCS by default at 5e-4, because the square is passed as a cone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError
from fairopt.contract.backend import ALL_SOFTNESS, Capabilities
from fairopt.contract.problem import DISTANCES
from fairopt_backends.adapter import Adapter, Answer, one_of, positive, positive_integer
from fairopt_backends.cache import Cache
from fairopt_backends.cone_attempts import attempts, best_answer, exponential_attempts
from fairopt_backends.entropic import Entropic
from fairopt_backends.entropic_cones import cvxpy_problem, values
from fairopt_backends.lowering import Lowered, Numbers
from fairopt_backends.modules import INSTALL, load
from fairopt_backends.programme import Programme, Sides, sides, unit_of_cone

DENSE_UP_TO = 120  # variables + rows of the cone programme: below this the dense derivative is exact and as fast as lsqr (1e-6)

# cvxpy numbers variables from one unguarded counter and switches DPP rules by module flags: two compilations at once can mix them up.
_compiling = Lock()


@dataclass(frozen=True, eq=False)
class Compiled:
    """One compiled layer. Its ``lock`` is held in a forward, which writes the batch size into the layer."""

    layer: Any
    sides: Sides
    lock: Any = field(default_factory=Lock)


class CvxpyLayers(Adapter):
    """``solver``: DIFFCP's inner solver, "SCS" or "Clarabel". ``compilations`` counts the layers built; ``cache_size`` are kept."""

    name: ClassVar[str] = "cvxpylayers"
    requires: ClassVar[tuple[str, ...]] = ("cvxpy", "cvxpylayers", "diffcp", "scipy")
    install: ClassVar[str] = INSTALL["cvxpylayers"]
    capabilities: ClassVar[Capabilities] = Capabilities(
        softness=ALL_SOFTNESS,
        ranges=True,
        ratio_ranges=True,
        distances=frozenset(DISTANCES),
        outputs=frozenset({"one", "simplex"}),
        gradients=("implicit", "native"),
        accuracy_native_y=1e-6,
        accuracy_native_gradient=1e-5,
    )

    def __init__(self, *, solver: str = "SCS", solver_tol: float | None = None, max_iter: int = 10_000, cache_size: int = 32) -> None:
        one_of("solver", solver, ("SCS", "Clarabel"))
        positive("solver_tol", solver_tol)
        positive_integer("max_iter", max_iter)
        positive_integer("cache_size", cache_size)
        self.solver = solver
        self.solver_tol = solver_tol
        self.max_iter = max_iter
        self._cache: Cache[Compiled] = Cache(cache_size)

    @property
    def compilations(self) -> int:
        """How many problems were compiled by this instance."""
        return self._cache.made

    def _attempts(self, *, gradient: bool, size: int) -> list[dict[str, Any]]:
        """Options of each attempt. ``mode`` only with a gradient: without one it reaches the solver, which does not know it."""
        how: dict[str, Any] = {"n_jobs_forward": 1}
        if gradient:
            how |= {"n_jobs_backward": 1, "mode": "dense" if size <= DENSE_UP_TO else "lsqr"}
        return [options | how for options in attempts(self.solver, self.solver_tol, self.max_iter)]

    def _compiled(self, lowered: Lowered) -> Compiled:
        return self._cache.get(lowered.key, lambda: _compile(lowered))

    def _unit(self, centre: Array, numbers: Numbers) -> float:
        return unit_of_cone(centre, numbers)

    def _call(self, lowered: Lowered, numbers: Numbers, centre: Tensor, *, gradient: bool) -> tuple[Tensor, Array]:
        """x (U + E,) and the multipliers (M,)."""
        compiled = self._compiled(lowered)
        s = compiled.sides
        parameters = [centre, s.h(numbers), s.b(numbers), numbers.cost, torch.sqrt(numbers.hess)]
        parameters = [p for p in parameters if p.numel()]
        programme = Programme(lowered, numbers, centre.detach().numpy())
        return best_answer(
            self._attempts(gradient=gradient, size=2 * lowered.variables + s.inequalities + s.equalities),
            lambda options: _attempt(compiled, parameters, options),
            lambda found: programme.residual(found[0].detach().numpy(), found[1]),
            self._solved,
        )

    def _solve(self, programme: Programme) -> Answer:
        centre = torch.from_numpy(programme.centre)
        try:
            with torch.no_grad():
                x, multipliers = self._call(programme.lowered, programme.numbers, centre, gradient=False)
        except BackendError as error:
            return Answer(None, None, message=str(error))
        return Answer(x.numpy(), multipliers)

    def _solve_entropic(self, programme: Entropic) -> Answer:
        compiled = self._cache.get(programme.key, lambda: _compile_entropic(programme))
        parameters = [torch.from_numpy(v) for v in values(programme, compiled.sides)]
        options = [one | {"n_jobs_forward": 1} for one in exponential_attempts(self.solver_tol, self.max_iter)]
        try:
            with torch.no_grad():
                x, multipliers = best_answer(
                    options,
                    lambda one: _attempt(compiled, parameters, one),
                    lambda found: programme.residual(found[0].numpy(), found[1]),
                    self._solved,
                )
        except BackendError as error:
            return Answer(None, None, message=str(error))
        return Answer(x.numpy(), multipliers)

    def _native(self, lowered: Lowered, numbers: Numbers, centre: Tensor) -> tuple[Tensor, Array | None]:
        return self._call(lowered, numbers, centre, gradient=torch.is_grad_enabled() and _wants_gradient(numbers, centre))


def _attempt(compiled: Compiled, parameters: list[Tensor], options: dict[str, Any]) -> tuple[Tensor, Array]:
    """x (U + E,) and the multipliers (M,)."""
    try:
        with compiled.lock:
            outputs = compiled.layer(*parameters, solver_args=options)
    except (RuntimeError, ArithmeticError, ValueError) as error:
        raise BackendError(f"cvxpylayers: {type(error).__name__}: {error}") from error
    except Exception as error:
        if type(error).__name__ != "SolverError":  # diffcp's and cvxpy's own, which derive from Exception alone
            raise
        raise BackendError(f"cvxpylayers: {error}") from error
    s = compiled.sides
    duals = [o.detach().numpy() for o in outputs[1:]]
    of_h = duals.pop(0) if s.inequalities else np.zeros(0)
    of_b = duals.pop(0) if s.equalities else np.zeros(0)
    return outputs[0], s.multipliers(of_h, of_b)


def _wants_gradient(numbers: Numbers, centre: Tensor) -> bool:
    return centre.requires_grad or any(t.requires_grad for t in (numbers.lower, numbers.upper, numbers.cost, numbers.hess))


def _compile(lowered: Lowered) -> Compiled:
    """1/2 |u - centre|^2 + cost . extra + 1/2 |root_hess * extra|^2  subject to  G x <= h, A x = b; x, h, b: see ``programme``."""
    with _compiling:
        return _compile_alone(lowered)


def _compile_entropic(programme: Entropic) -> Compiled:
    with _compiling:
        made = cvxpy_problem(programme)
        layer = load("cvxpylayers.torch").CvxpyLayer(made.problem, parameters=made.parameters, variables=made.variables)
        return Compiled(layer, made.sides)


def _compile_alone(lowered: Lowered) -> Compiled:
    cp, layers = load("cvxpy", extra="cvxpylayers"), load("cvxpylayers.torch")
    s = sides(lowered)
    x = cp.Variable(lowered.variables)
    centre = cp.Parameter(lowered.size)
    parameters, constraints = [centre], []
    g, a = s.sparse
    if s.inequalities:
        h = cp.Parameter(s.inequalities)
        parameters.append(h)
        constraints.append(g @ x <= h)
    if s.equalities:
        b = cp.Parameter(s.equalities)
        parameters.append(b)
        constraints.append(a @ x == b)
    objective = 0.5 * cp.sum_squares(x[: lowered.size] - centre)
    if lowered.extras:
        cost, root = cp.Parameter(lowered.extras), cp.Parameter(lowered.extras, nonneg=True)
        parameters += [cost, root]
        extra = x[lowered.size :]
        objective = objective + cost @ extra + 0.5 * cp.sum_squares(cp.multiply(root, extra))
    layer = layers.CvxpyLayer(
        cp.Problem(cp.Minimize(objective), constraints), parameters=parameters, variables=[x, *(c.dual_variables[0] for c in constraints)]
    )
    return Compiled(layer, s)
