"""The solver's own gradient: its differentiable answer carries the derivative, the certified scores carry the numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fairopt.contract.base import Backend
from fairopt.errors import UnsupportedError
from fairopt.problem import Limits, ProjectionProblem
from fairopt.solve.outcome import Outcome
from fairopt.solve.pairs import untaken


class _Replace(torch.autograd.Function):
    """Forward: the certified scores. Backward: straight to the solver's."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, certified: Tensor) -> Tensor:
        ctx.own = (own.dtype, own.device)
        return certified.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        dtype, device = ctx.own
        return gradients[0].to(device, dtype), None


def native_scores(scores: Tensor, problem: ProjectionProblem, limits: Limits | None, backend: Backend, outcome: Outcome) -> Tensor:
    """The outcome's scores (n,), differentiated by the solver itself. UnsupportedError where it brings no gradient."""
    if "native" not in backend.capabilities.gradients:
        raise UnsupportedError(f"backend {backend.name!r} brings no gradient of its own; use gradient='implicit'")
    if untaken(problem, backend.capabilities):
        raise UnsupportedError(f"backend {backend.name!r} takes no ranges with its own gradient; use gradient='implicit'")
    own = backend.solve_native(scores.to("cpu", torch.float64), problem, problem.limits() if limits is None else limits)
    y: Tensor = _Replace.apply(own, outcome.y)  # type: ignore[no-untyped-call]
    return y
