"""``diffcp``: the cone programme handed over directly, without cvxpy in between.

diffcp differentiates linear objectives only, so the square is a second-order cone:

    minimise   tau + cost . extra      subject to   A x = b,  G x <= h,  |(sqrt(2) r, 1 - tau)| <= 1 + tau

with r = (u - centre, sqrt(hess) extra), which says 1/2 |r|^2 <= tau. The variables are (x, tau).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.errors import BackendError
from fairopt.contract.backend import ALL_SOFTNESS, Capabilities
from fairopt.contract.problem import DISTANCES
from fairopt_backends.adapter import Adapter, Answer, one_of, positive, positive_integer
from fairopt_backends.cone_attempts import attempts, best_answer, exponential_attempts
from fairopt_backends.entropic import Entropic
from fairopt_backends.entropic_cones import cone_programme
from fairopt_backends.lowering import Lowered, Numbers
from fairopt_backends.modules import INSTALL, load
from fairopt_backends.programme import Programme, Sides, sides, unit_of_cone

DENSE_UP_TO = 120  # variables + rows: below this the dense derivative is exact and as fast as lsqr (1e-6)


@dataclass(frozen=True, eq=False)
class Cone:
    """A v + s = b, s in (zero, nonnegative, second-order) cones, minimise c v; v = (x, tau).

    curved: the extras with hess > 0, whose rows of A hold -sqrt(2 hess);  at: the positions of those entries in A's data
    """

    sides: Sides
    matrix: Any
    cones: dict[str, Any]
    curved: IntArray
    at: IntArray

    @property
    def size(self) -> int:
        return int(sum(self.matrix.shape))


def cone(lowered: Lowered, numbers: Numbers) -> Cone:
    scipy = load("scipy.sparse")
    s = sides(lowered)
    g, a = s.sparse
    hess = numbers.hess.detach().numpy()
    curved = np.flatnonzero(hess > 0)
    r = lowered.size + curved.size
    columns = np.concatenate([np.arange(lowered.size), lowered.size + curved])
    values = -np.sqrt(2.0) * np.concatenate([np.ones(lowered.size), np.sqrt(hess[curved])])
    square = scipy.csr_matrix((values, (np.arange(r), columns)), shape=(r, lowered.variables))
    # the cone (1 + tau, sqrt(2) r, 1 - tau): s = b - A v
    head, tail = scipy.csr_matrix(([-1.0], ([0], [0])), shape=(1, 1)), scipy.csr_matrix(([1.0], ([0], [0])), shape=(1, 1))
    nothing = scipy.csr_matrix((1, lowered.variables))
    rows = [scipy.hstack([m, scipy.csr_matrix((m.shape[0], 1))]) for m in (a, g)]
    rows += [scipy.hstack([nothing, head]), scipy.hstack([square, scipy.csr_matrix((r, 1))]), scipy.hstack([nothing, tail])]
    matrix = scipy.vstack(rows, format="csc")
    matrix.sort_indices()
    matrix.eliminate_zeros()
    first = s.equalities + s.inequalities + 1 + lowered.size
    coo = matrix.tocoo()
    found = [np.flatnonzero((coo.row == first + i) & (coo.col == lowered.size + e))[0] for i, e in enumerate(curved)]
    at = np.array(found, dtype=np.int64)
    return Cone(s, matrix, {"z": s.equalities, "l": s.inequalities, "q": [r + 2]}, curved, at)


class Diffcp(Adapter):
    """``solver``: "SCS" or "Clarabel" (stops at 1e-4 on second-order cones). ``mode``: diffcp's derivative; "auto" is dense when small."""

    name: ClassVar[str] = "diffcp"
    requires: ClassVar[tuple[str, ...]] = ("diffcp", "scipy")
    install: ClassVar[str] = INSTALL["diffcp"]
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

    def __init__(self, *, solver: str = "SCS", mode: str = "auto", solver_tol: float | None = None, max_iter: int = 10_000) -> None:
        one_of("solver", solver, ("SCS", "Clarabel"))
        one_of("mode", mode, ("auto", "dense", "lsqr", "lsmr"))
        positive("solver_tol", solver_tol)
        positive_integer("max_iter", max_iter)
        self.solver = solver
        self.mode = mode
        self.solver_tol = solver_tol
        self.max_iter = max_iter

    def _unit(self, centre: Array, numbers: Numbers) -> float:
        return unit_of_cone(centre, numbers)

    @property
    def _attempts(self) -> list[dict[str, Any]]:
        return attempts(self.solver, self.solver_tol, self.max_iter)

    def _solve(self, programme: Programme) -> Answer:
        c = cone(programme.lowered, programme.numbers)
        b, cost = _right_hand_side(c, programme.numbers, torch.from_numpy(programme.centre)), _cost(programme.numbers, programme.lowered)
        solve = load("diffcp.cone_program", extra="diffcp").solve_internal

        def attempt(options: dict[str, Any]) -> tuple[Array, Array, dict[str, Any]]:
            try:
                result = solve(c.matrix.copy(), b.numpy(), cost.numpy(), c.cones, raise_on_error=False, **options)
            except ValueError as error:
                raise BackendError(f"{self.solver}: {error}") from error
            return np.asarray(result["x"])[:-1], _multipliers(c, result["y"]), result["info"]

        try:
            x, lam, info = best_answer(self._attempts, attempt, lambda found: programme.residual(found[0], found[1]), self._solved)
        except BackendError as error:
            return Answer(None, None, message=str(error))
        status = str(info["status"])
        return Answer(x, lam, int(info["iter"]), "max_iters" in status, status)

    def _solve_entropic(self, programme: Entropic) -> Answer:
        c = cone_programme(programme)
        solve = load("diffcp.cone_program", extra="diffcp").solve_internal
        V, equal = programme.lowered.variables, c.sides.equalities

        def attempt(options: dict[str, Any]) -> tuple[Array, Array, dict[str, Any]]:
            try:
                result = solve(c.matrix.copy(), c.b, c.c, c.cones, raise_on_error=False, **options)
            except ValueError as error:
                raise BackendError(f"{options['solve_method']}: {error}") from error
            dual = result["y"]
            return (
                np.asarray(result["x"])[:V],
                c.sides.multipliers(dual[equal : equal + c.sides.inequalities], dual[:equal]),
                result["info"],
            )

        options = exponential_attempts(self.solver_tol, self.max_iter)
        try:
            x, lam, info = best_answer(options, attempt, lambda found: programme.residual(found[0], found[1]), self._solved)
        except BackendError as error:
            return Answer(None, None, message=str(error))
        status = str(info["status"])
        return Answer(x, lam, int(info["iter"]), "max_iters" in status, status)

    def _native(self, lowered: Lowered, numbers: Numbers, centre: Tensor) -> tuple[Tensor, Array | None]:
        c = cone(lowered, numbers)
        b, cost = _right_hand_side(c, numbers, centre), _cost(numbers, lowered)
        curved = -torch.sqrt(2.0 * numbers.hess[torch.from_numpy(c.curved)])
        mode = ("dense" if c.size <= DENSE_UP_TO else "lsqr") if self.mode == "auto" else self.mode
        programme = Programme(lowered, numbers, centre.detach().numpy())

        def attempt(options: dict[str, Any]) -> tuple[Tensor, Array]:
            v, dual = _ConeProgramme.apply(b, cost, curved, c, mode, options)  # type: ignore[no-untyped-call]
            return v[:-1], _multipliers(c, dual.numpy())

        return best_answer(self._attempts, attempt, lambda found: programme.residual(found[0].detach().numpy(), found[1]), self._solved)


def _right_hand_side(c: Cone, numbers: Numbers, centre: Tensor) -> Tensor:
    """b = (equalities, inequalities, 1, -sqrt(2) centre, 0, 1)."""
    one, curved = torch.ones(1, dtype=torch.float64, device="cpu"), torch.zeros(c.curved.size, dtype=torch.float64, device="cpu")
    return torch.cat([c.sides.b(numbers), c.sides.h(numbers), one, -(2.0**0.5) * centre, curved, one])


def _cost(numbers: Numbers, lowered: Lowered) -> Tensor:
    free, one = torch.zeros(lowered.size, dtype=torch.float64, device="cpu"), torch.ones(1, dtype=torch.float64, device="cpu")
    return torch.cat([free, numbers.cost, one])


def _multipliers(c: Cone, dual: Array) -> Array:
    equal, inequalities = c.sides.equalities, c.sides.inequalities
    return c.sides.multipliers(dual[equal : equal + inequalities], dual[:equal])


class _ConeProgramme(torch.autograd.Function):
    """(b, c, curved entries of A) -> (v, dual), differentiated by diffcp's own adjoint."""

    @staticmethod
    def forward(ctx: Any, b: Tensor, cost: Tensor, curved: Tensor, c: Cone, mode: str, arguments: dict[str, Any]) -> tuple[Tensor, Tensor]:
        diffcp = load("diffcp")
        try:
            v, dual, slack, _, adjoint = diffcp.solve_and_derivative(
                c.matrix.copy(), b.detach().numpy(), cost.detach().numpy(), c.cones, mode=mode, **arguments
            )
        except (diffcp.SolverError, ValueError) as error:
            raise BackendError(f"diffcp: {error}") from error
        ctx.adjoint, ctx.cone, ctx.zeros = adjoint, c, np.zeros_like(slack)
        out, out_dual = torch.from_numpy(np.array(v)), torch.from_numpy(np.array(dual))
        ctx.mark_non_differentiable(out_dual)
        return out, out_dual

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_v: Tensor, _of_dual: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        da, db, dc = ctx.adjoint(of_v.numpy(), ctx.zeros, ctx.zeros)
        data = da.tocsc()
        data.sort_indices()
        curved = torch.from_numpy(np.array(data.data[ctx.cone.at] if ctx.cone.at.size else [], dtype=np.float64))
        return torch.from_numpy(db), torch.from_numpy(dc), curved, None, None, None
