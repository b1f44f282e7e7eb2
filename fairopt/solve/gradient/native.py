"""The solver's own gradient: its differentiable answer carries the derivative, the certified scores carry the numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fairopt.basics.errors import BackendError, InfeasibleError, UnsupportedError
from fairopt.contract.backend import Backend
from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt.contract.ranges_as_pairs import untaken
from fairopt.solve.units import Units


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


def replaced(own: Tensor, certified: Tensor) -> Tensor:
    """``certified`` (n,) in the forward pass, straight to ``own`` (n,) in the backward one."""
    y: Tensor = _Replace.apply(own, certified)  # type: ignore[no-untyped-call]
    return y


def native_scores(
    scores: Tensor, problem: ProjectionProblem, limits: Limits | None, backend: Backend, certified: Tensor, units: Units | None
) -> Tensor:
    """``certified`` scores (n,), differentiated by the solver itself. UnsupportedError where it brings no gradient."""
    if "native" not in backend.capabilities.gradients:
        raise UnsupportedError(f"backend {backend.name!r} brings no gradient of its own; use gradient='implicit'")
    if untaken(problem, backend.capabilities):
        raise UnsupportedError(f"backend {backend.name!r} takes no ranges with its own gradient; use gradient='implicit'")
    z, limits = scores.to("cpu", torch.float64), problem.limits() if limits is None else limits
    try:
        if units is None:
            return replaced(backend.solve_native(z, problem, limits), certified)
        return replaced(units.size_of(backend.solve_native(units.into(z), units.problem, units.limits(limits))), certified)
    except InfeasibleError as error:  # a solver's word: the answer that was found before says otherwise
        raise BackendError(f"backend {backend.name!r}, gradient='native': {error}; use gradient='implicit'") from error
