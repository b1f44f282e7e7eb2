"""``proxqp``: proxsuite's dense ProxQP, forward and its own backward, called directly.

proxsuite's torch function allocates gradients in torch's default dtype (float32 loses eight digits) and its backward is biased by
rho = mu = 1e-6; called directly, everything is float64 and both are 1e-10. Its eps has no test of the duality gap: 1e-9 leaves
errors of 2e-6, so the default here is 1e-12.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fairopt.basics.arrays import Array
from fairopt.contract.backend import ALL_SOFTNESS, Capabilities
from fairopt_backends.adapter import Adapter, Answer, positive, positive_integer
from fairopt_backends.lowering import Lowered, Numbers
from fairopt_backends.modules import INSTALL, load
from fairopt_backends.programme import Programme, sides

OPEN = 1e20  # proxsuite's own infinity
DIGITS, GRADIENT_DIGITS = 10, 9  # the digits that do not depend on where proxsuite's memory lies, in units of the scores / the loss


class ProxQP(Adapter):
    """``rho_backward`` regularises the backward's KKT system (and so does mu)."""

    name: ClassVar[str] = "proxqp"
    requires: ClassVar[tuple[str, ...]] = ("proxsuite", "scipy")
    install: ClassVar[str] = INSTALL["proxsuite"]
    capabilities: ClassVar[Capabilities] = Capabilities(
        softness=ALL_SOFTNESS,
        ranges=True,
        ratio_ranges=True,
        outputs=frozenset({"one", "simplex"}),
        gradients=("implicit", "native"),
        accuracy_native_y=1e-6,
        accuracy_native_gradient=1e-4,
    )

    def __init__(self, *, solver_tol: float | None = None, max_iter: int = 1000, rho_backward: float = 1e-10) -> None:
        positive("solver_tol", solver_tol)
        positive_integer("max_iter", max_iter)
        positive("rho_backward", rho_backward)
        self.solver_tol = solver_tol
        self.max_iter = max_iter
        self.rho_backward = rho_backward

    def _qp(self, lowered: Lowered, hessian: Array, q: Array, limits: tuple[Array, Array, Array]) -> Any:
        """A solved proxsuite QP: rows with equal limits as equalities, the other rows and the box as two-sided inequalities.

        Always the dense solver: the sparse one never returns from some programmes with a singular Hessian. And of its factorisations
        PrimalDualLDLT: the automatic choice, PrimalLDLT, gave gradients off by 1e-2 there.
        """
        proxqp = load("proxsuite").proxqp
        equal, lower, upper = limits
        a, c = _matrices(lowered)
        shape = (lowered.variables, a.shape[0], c.shape[0])
        qp = proxqp.dense.QP(*shape, False, dense_backend=proxqp.dense.DenseBackend.PrimalDualLDLT)
        self._set(qp.settings)
        qp.settings.initial_guess = proxqp.InitialGuess.NO_INITIAL_GUESS
        qp.init(H=np.diag(hessian), g=q, A=a, b=equal, C=c, l=np.maximum(lower, -OPEN), u=np.minimum(upper, OPEN))
        qp.solve()
        return qp

    def _set(self, settings: Any) -> None:
        """Without the gap test a feasible point off by 1e-2 counts as solved; its guess of infeasibility is wrong on duplicate rows."""
        settings.eps_abs = 1e-12 if self.solver_tol is None else self.solver_tol
        settings.eps_rel = 0.0
        settings.check_duality_gap = True
        settings.eps_duality_gap_abs = settings.eps_abs
        settings.eps_duality_gap_rel = 0.0
        settings.eps_primal_inf = settings.eps_dual_inf = 1e-14
        settings.max_iter = self.max_iter
        settings.verbose = False

    def _solve(self, programme: Programme) -> Answer:
        lowered, numbers = programme.lowered, programme.numbers
        equal, lower, upper = (t.numpy() for t in _limits(lowered, numbers))
        qp = self._qp(lowered, programme.diagonal, programme.q, (equal, lower, upper))
        status = str(qp.results.info.status).rsplit(".", 1)[-1]
        limit = "MAX_ITER" in status
        # its last digits (1e-12) change from call to call: rounded away, so that the same input gives the same bits
        x, lam = np.round(qp.results.x, DIGITS), np.round(_multipliers(lowered, qp), DIGITS)
        return Answer(x, lam, int(qp.results.info.iter), limit, status)

    def _native(self, lowered: Lowered, numbers: Numbers, centre: Tensor) -> tuple[Tensor, Array | None]:
        hessian = torch.cat([torch.ones(lowered.size, dtype=torch.float64, device="cpu"), numbers.hess])
        q = torch.cat([-centre, numbers.cost])
        x, lam = _Solve.apply(hessian, q, *_limits(lowered, numbers), lowered, self)  # type: ignore[no-untyped-call]
        return x, lam.numpy()


def _matrices(lowered: Lowered) -> tuple[Array, Array]:
    """(equalities without those that others imply, rows and box)."""
    c, eye = lowered.dense(), np.eye(lowered.variables)
    return c[sides(lowered, box=False, independent=True).equal], np.concatenate([c[~lowered.equal], eye[_boxed(lowered)]])


def _boxed(lowered: Lowered) -> Array:
    return np.asarray(np.flatnonzero(np.isfinite(lowered.lbx) | np.isfinite(lowered.ubx)))


def _limits(lowered: Lowered, numbers: Numbers) -> tuple[Tensor, Tensor, Tensor]:
    """(b, l, u), differentiable."""
    s = sides(lowered, box=False, independent=True)
    free, boxed = torch.from_numpy(~lowered.equal), torch.from_numpy(_boxed(lowered))
    return s.b(numbers), torch.cat([numbers.lower[free], numbers.lbx[boxed]]), torch.cat([numbers.upper[free], numbers.ubx[boxed]])


def _multipliers(lowered: Lowered, qp: Any) -> Array:
    lam = np.zeros(lowered.rows)
    lam[sides(lowered, box=False, independent=True).equal] = qp.results.y
    lam[~lowered.equal] = qp.results.z[: int((~lowered.equal).sum())]
    return lam


class _Solve(torch.autograd.Function):
    """(hessian, q, b, l, u) -> (x, multipliers), differentiated by proxsuite's own backward."""

    @staticmethod
    def forward(
        ctx: Any, hessian: Tensor, q: Tensor, equal: Tensor, lower: Tensor, upper: Tensor, lowered: Lowered, backend: ProxQP
    ) -> tuple[Tensor, Tensor]:
        h, linear, b, low, up = (t.detach().numpy() for t in (hessian, q, equal, lower, upper))
        qp = backend._qp(lowered, h, linear, (b, low, up))
        ctx.qp, ctx.rho = qp, backend.rho_backward
        lam = torch.from_numpy(_multipliers(lowered, qp))
        ctx.mark_non_differentiable(lam)
        return torch.from_numpy(np.array(qp.results.x)), lam

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_x: Tensor, _of_lam: Tensor) -> tuple[Tensor | None, ...]:
        qp, model = ctx.qp, ctx.qp.model
        loss = np.concatenate([of_x.numpy(), np.zeros(model.n_eq + model.n_in)])
        backward = load("proxsuite").proxqp.dense.compute_backward
        for rho in (ctx.rho, 1e2 * ctx.rho, 1e4 * ctx.rho):  # dependent active rows: too little regularisation gives NaN
            backward(qp, loss, 1e-12, rho, rho)
            data = model.backward_data
            parts = [np.array(part, dtype=np.float64) for part in (np.diag(data.dL_dH), data.dL_dg, data.dL_db, data.dL_dl, data.dL_du)]
            if all(np.isfinite(part).all() for part in parts):
                break
        unit = float(np.abs(loss).max(initial=0.0)) or 1.0
        return (*(torch.from_numpy(np.round(part / unit, GRADIENT_DIGITS) * unit) for part in parts), None, None)
