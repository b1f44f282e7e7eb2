"""``qpth``: OptNet's batched interior point (PDIPM) in float64, with its own adjoint.

What is guarded here, because qpth says nothing about it:

- the gradient of a parameter that is shared by the batch is the MEAN over the batch: every parameter gets its own batch dimension;
- its adjoint clamps slacks and multipliers at 1e-8 and mixes active and inactive rows nearer than about 1e-6 to a kink: they are
  made strictly complementary before the backward;
- the forward can stall at 1e-2 without a word (without a strict interior it often does), and returns some y for an infeasible
  problem: the residual is recomputed, and where it is large qpth's other forward (through cvxpy, in float32) has its turn;
- equalities that others imply make it divide by zero: they are left out;
- forward and backward share a module global, which two threads overwrite: one runs at a time.

It needs a positive definite Hessian, hence ranges as pairs, and hard and quadratic constraints only.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError
from fairopt.contract.backend import Capabilities
from fairopt_backends.adapter import Adapter, Answer, positive, positive_integer
from fairopt_backends.lowering import Lowered, Numbers
from fairopt_backends.modules import INSTALL, load
from fairopt_backends.programme import Programme, sides

STALLED = 1e-7  # a residual that PDIPM stays below when it works
FORWARDS = ("PDIPM_BATCHED", "CVXPY")
LINEAR = 1  # the position of q among qpth's arguments
INACTIVE, ACTIVE = 1e-30, 1e2  # clamped at 1e-8 by the backward: active rows count 1e10, inactive ones 1e-10

# qpth's forward and backward pass an identity matrix through a module global: two threads get each other's.
_running = Lock()


@dataclass(frozen=True, eq=False)
class Found:
    """One forward's answer: residual, x (U + E,), multipliers (M,)."""

    residual: float
    x: Tensor
    multipliers: Array


class Qpth(Adapter):
    """``max_iter`` interior-point iterations; ``solver_tol`` the sum of residuals at which it stops."""

    name: ClassVar[str] = "qpth"
    requires: ClassVar[tuple[str, ...]] = ("qpth", "cvxpy", "scipy")
    install: ClassVar[str] = INSTALL["qpth"]
    pairs: ClassVar[bool] = True
    capabilities: ClassVar[Capabilities] = Capabilities(
        softness=frozenset({"hard", "quadratic"}),
        ranges=True,
        ratio_ranges=True,
        outputs=frozenset({"one", "simplex"}),
        gradients=("implicit", "native"),
        accuracy_native_y=1e-6,
        accuracy_native_gradient=1e-4,
    )

    def __init__(self, *, max_iter: int = 100, not_improved_limit: int = 10, solver_tol: float | None = None) -> None:
        positive_integer("max_iter", max_iter)
        positive_integer("not_improved_limit", not_improved_limit)
        positive("solver_tol", solver_tol)
        self.max_iter = max_iter
        self.not_improved_limit = not_improved_limit
        self.solver_tol = solver_tol

    def _best(self, programme: Programme, centre: Tensor) -> tuple[Tensor, Array]:
        """x (U + E,) and the multipliers (M,): PDIPM, and the forward through cvxpy where that stalled."""
        found: list[Found] = []
        problem = ""
        for forward in FORWARDS:
            try:
                x, lam = self._run([programme.numbers], centre[None], programme.lowered, forward)
            except BackendError as error:
                problem = str(error)
                continue
            found.append(Found(programme.residual(x[0].detach().numpy(), lam[0]), x[0], lam[0]))
            if found[-1].residual <= STALLED:
                break
        if not found:
            raise BackendError(problem)
        best = min(found, key=lambda one: one.residual)
        return best.x, best.multipliers

    def _run(self, numbers: list[Numbers], centres: Tensor, lowered: Lowered, forward: str) -> tuple[Tensor, Array]:
        """centres (B, U), B numbers -> x (B, U + E) and the multipliers (B, M)."""
        batch, s = centres.shape[0], sides(lowered, independent=True)
        g, a = (torch.from_numpy(m).expand(batch, *m.shape) for m in s.dense)
        h, b = torch.stack([s.h(one) for one in numbers]), torch.stack([s.b(one) for one in numbers])
        if not s.inequalities:  # qpth cannot do without one: 0 x <= 1
            g = torch.zeros(batch, 1, lowered.variables, dtype=torch.float64, device="cpu")
            h = torch.ones(batch, 1, dtype=torch.float64, device="cpu")
        if not s.equalities:
            a = b = torch.zeros(0, dtype=torch.float64, device="cpu")
        ones = torch.ones(batch, lowered.size, dtype=torch.float64, device="cpu")
        hessian = torch.cat([ones, torch.stack([one.hess for one in numbers])], dim=1)
        q = torch.cat([-centres, torch.stack([one.cost for one in numbers])], dim=1)
        module = load("qpth.qp", extra="qpth")
        function = module.QPFunction(
            eps=1e-12 if self.solver_tol is None else self.solver_tol,
            verbose=-1,
            notImprovedLim=self.not_improved_limit,
            maxIter=self.max_iter,
            solver=module.QPSolvers[forward],
        )
        data = (torch.diag_embed(hessian), q, g, h, a, b)
        try:
            x, of_h, of_b = _OneAtATime.apply(function, *data)  # type: ignore[no-untyped-call]
        except (RuntimeError, AssertionError, TypeError, ValueError, load("cvxpy", extra="cvxpylayers").error.SolverError) as error:
            raise BackendError(f"qpth: {type(error).__name__}: {error}") from error
        inequality = of_h.numpy()[:, : s.inequalities]
        equality = of_b.numpy() if s.equalities else np.zeros((batch, 0))
        return x, np.stack([s.multipliers(up, eq) for up, eq in zip(inequality, equality, strict=True)])

    def _solve(self, programme: Programme) -> Answer:
        try:
            x, lam = self._best(programme, torch.from_numpy(programme.centre))
        except BackendError as error:
            return Answer(None, None, message=str(error))
        return Answer(x.detach().numpy(), lam, limit_hit=True)

    def _solve_all(self, programmes: list[Programme]) -> list[Answer]:
        """One batched interior point; a programme on which it stalled is solved again alone, a batch that breaks one by one."""
        if len(programmes) == 1:
            return [self._solve(programmes[0])]
        centres = torch.from_numpy(np.stack([programme.centre for programme in programmes]))
        try:
            xs, lams = self._run([programme.numbers for programme in programmes], centres, programmes[0].lowered, FORWARDS[0])
        except BackendError:
            return super()._solve_all(programmes)
        jobs = zip(programmes, xs.detach().numpy(), lams, strict=True)
        return [
            Answer(x, lam, limit_hit=True) if programme.residual(x, lam) <= STALLED else self._solve(programme)
            for programme, x, lam in jobs
        ]

    def _native(self, lowered: Lowered, numbers: Numbers, centre: Tensor) -> tuple[Tensor, Array | None]:
        return self._best(Programme(lowered, numbers, centre.detach().numpy()), centre)


class _OneAtATime(torch.autograd.Function):
    """qpth's function under a lock, forward and backward: -> x, multipliers of the inequalities and of the equalities."""

    @staticmethod
    def forward(ctx: Any, function: Any, *data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        leaves = [t.detach().requires_grad_(i == LINEAR or t.requires_grad) for i, t in enumerate(data)]
        with _running, torch.enable_grad():
            x = function(*leaves)
        if x is None:  # its factorisation failed in the first iteration
            raise RuntimeError("no iterate")
        node = x.grad_fn  # the multipliers are kept there alone
        of_h = node.lams.detach().clone()
        of_b = node.nus.detach().clone() if data[-1].numel() else torch.zeros(0, dtype=torch.float64, device="cpu")
        _separate(node)
        ctx.inner = (x, leaves)
        ctx.mark_non_differentiable(of_h, of_b)
        return x.detach().clone(), of_h, of_b

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_x: Tensor, *_others: Tensor) -> tuple[Tensor | None, ...]:
        x, leaves = ctx.inner
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        with _running:
            found = iter(torch.autograd.grad(x, wanted, of_x, retain_graph=True, allow_unused=True))
        return (None, *(next(found) if leaf.requires_grad else None for leaf in leaves))


def _separate(node: Any) -> None:
    """Make slacks and multipliers of the forward strictly complementary, in place on the graph node that the backward reads.

    The backward uses multiplier / slack, both clamped at 1e-8. An active row becomes (1e2, 1e-30) and an inactive one (1e-30, 1e2).
    """
    active = node.lams > node.slacks
    on, off = torch.full_like(node.lams, ACTIVE), torch.full_like(node.lams, INACTIVE)
    node.slacks = torch.where(active, off, on)
    node.lams = torch.where(active, on, off)
