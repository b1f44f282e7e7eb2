"""The last gate: nothing leaves ``solve`` with a status that grants anything unless the returned numbers earn it.

CERTIFIED says: every score is finite and inside its box, compared exactly; every hard row is proved to hold for these very numbers, by
float sums with a stated error bound or in rationals; and the scores are nearest, their optimality residual at most ``kkt_bound``.
WITHIN_ROUNDING says the same with rows, or bounds between which the dtype has no number, broken by rounding alone. Each condition is
written so that NaN, infinity and absence deny it. What is denied is INACCURATE, or FAILED where nothing finite came; scores are finite
and inside their box whatever the status, the input clipped to it where nothing better is at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.contract.backend import Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.evaluator import round_inward
from fairopt.solve.dual.structure import structure
from fairopt.solve.finish.rounding import exactly

GRANTING = (Status.CERTIFIED, Status.WITHIN_ROUNDING)
INF = float("inf")
LARGEST = float(np.finfo(np.float64).max)
WIDEST = 1e-7  # of the scores: the residual that an answer may have at most to count as nearest
ROUNDINGS = 32.0  # ulps of the largest score that count as rounding


class Claim(Protocol):
    """What a road says of its scores: its status, whether every hard row was proved for them, whether they are known to be finite,
    the residual of the optimality conditions with its bound, and a message. ``finish.Outcome`` is one."""

    @property
    def status(self) -> Status: ...
    @property
    def proved(self) -> bool: ...
    @property
    def finite(self) -> bool: ...
    @property
    def residual(self) -> float: ...
    @property
    def kkt_bound(self) -> float: ...
    @property
    def message(self) -> str: ...


@dataclass(frozen=True)
class Stated:
    """A claim in so many words."""

    status: Status
    proved: bool
    finite: bool
    residual: float
    kkt_bound: float
    message: str = ""


@dataclass(eq=False)
class Verdict:
    """What leaves: scores (n,), status, violations (L + R,), how far scores lie outside the box, and a message."""

    y: Tensor
    status: Status
    violation: Array
    outside: float
    message: str


def earned(y: Tensor, problem: ProjectionProblem, claim: Claim) -> bool:
    """Whether scores y (n,), and what is said of them, earn CERTIFIED as they are."""
    near = claim.residual <= claim.kkt_bound < INF
    return claim.status is Status.CERTIFIED and claim.proved and near and inside(y, problem, claim.finite)


def judge(y: Tensor, z: Tensor, problem: ProjectionProblem, violation: Array, claim: Claim) -> Verdict:
    """The verdict on scores y (n,), detached, in the order of the samples, for the input z (n,) and ``violation`` (L + R,)."""
    if earned(y, problem, claim):
        return Verdict(y, claim.status, violation, 0.0, claim.message)
    if claim.status is not Status.CERTIFIED and inside(y, problem, claim.finite):
        near = claim.residual <= claim.kkt_bound < INF
        if near or claim.status is not Status.WITHIN_ROUNDING:
            return Verdict(y, claim.status, violation, 0.0, claim.message)
    return _denied(y, z, problem, claim)


def inside(y: Tensor, problem: ProjectionProblem, finite: bool) -> bool:
    """Whether every score is finite and inside its box, exactly. ``finite``: they are known to be."""
    lb, ub = problem.lb, problem.ub
    if isinstance(lb, Tensor) or isinstance(ub, Tensor):
        lb, ub = (b.to(y.device) if isinstance(b, Tensor) and y.device.type != "cpu" else b for b in (lb, ub))
        return bool(((y >= lb) & (y <= ub)).all()) and (finite or bool(torch.isfinite(y).all()))
    if finite and not problem.has_box:
        return True
    low, high = (float(v) for v in torch.aminmax(y))
    return lb <= low and high <= ub and low > -INF and high < INF


def outside(y: Tensor, problem: ProjectionProblem) -> float:
    """How far scores lie outside the box, at most; 0.0 inside. Infinite for scores that are not finite, the largest float64 for finite
    ones that are farther out than it holds.
    """
    wide = y.detach().to("cpu", torch.float64)
    with np.errstate(all="ignore"):
        gap = float(torch.maximum(problem.lb - wide, wide - problem.ub).max())
    if not bool(torch.isfinite(wide).all()):
        return INF
    return min(max(gap, 0.0), LARGEST)


def clipped(y: Tensor, problem: ProjectionProblem) -> Tensor:
    """(n,) finite ``y`` moved into the box, and to numbers of its dtype; beside it where the dtype has none there."""
    end = torch.finfo(y.dtype).max
    low, high = (
        round_inward(torch.as_tensor(b, dtype=torch.float64, device="cpu"), y.dtype, up=up).clamp(-end, end).to(y.device)
        for b, up in ((problem.lb, True), (problem.ub, False))
    )
    return torch.minimum(torch.maximum(y.detach(), low), high)


def rows_hold(y: Tensor, problem: ProjectionProblem, violation: Array) -> bool:
    """Whether finite scores y (n,) meet every hard row, in rationals; writes ``violation`` (L + R,), soft rows included."""
    every = range(problem.linear + problem.ranges)
    exactly(problem, y, list(every), violation)
    return bool((violation[structure(problem).hard] <= 0).all())


def _denied(y: Tensor, z: Tensor, problem: ProjectionProblem, claim: Claim) -> Verdict:
    """Finite scores inside the box, with a status that they deserve, from the numbers alone."""
    finite = bool(torch.isfinite(y).all())
    kept = clipped(y if finite else z, problem)
    violation = np.full(problem.linear + problem.ranges, INF)
    holds = rows_hold(kept, problem, violation)
    beyond = outside(kept, problem)
    if claim.status not in GRANTING:
        return Verdict(kept, claim.status, violation, beyond, claim.message)
    if not finite:
        return Verdict(kept, Status.FAILED, violation, beyond, "the answer was not finite; the scores are the input, clipped to the box")
    if not claim.residual <= claim.kkt_bound < INF:
        words = f"optimality residual {claim.residual:.1e}, at most {claim.kkt_bound:.1e} is allowed"
        return Verdict(kept, Status.INACCURATE, violation, beyond, words)
    moved = float((kept.to(torch.float64) - y.to(torch.float64)).abs().max())
    info = torch.finfo(y.dtype)
    rounding = ROUNDINGS * info.eps * (float(kept.to(torch.float64).abs().max()) + info.tiny)
    st = structure(problem)
    reach = np.concatenate([st.unit[: st.linear], [2.0 * st.unit[part].max() for part in st.slices]]) * rounding
    if holds and beyond <= 0.0 and moved <= 0.0:
        return Verdict(kept, claim.status, violation, beyond, claim.message)
    if moved <= rounding and beyond <= rounding and bool((violation <= reach)[st.hard].all()):
        return Verdict(kept, Status.WITHIN_ROUNDING, violation, beyond, claim.message)
    words = f"scores {moved:.1e} outside the bounds were moved into them" if moved > 0.0 else "rows are broken by more than rounding"
    return Verdict(kept, Status.INACCURATE, violation, beyond, words)
