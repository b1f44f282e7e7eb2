"""The shortest road: one linear row, no active bound, unit weights (two groups, say). One multiplier, a few passes, no gather.

    y = z - p r,   p = (f(z) - limit) / (r.r + 1 / gamma) clipped to +-rho,   r (n,) the row's weight of each sample

Sums are float64 dots; the bound of their error is n 2^-53 |r| |y| (Cauchy-Schwarz). Whatever cannot be decided by floats here (a gap
within rounding of its limit, tolerance 0) is left to the general road, and so is a score at a bound or outside it, before or after:
strictly inside its box the answer without a box is the answer. Source: claim L6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.contract.backend import Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.certificate import Certificate, Solution
from fairopt.solve.finish.gate import WIDEST
from fairopt.solve.transforms import row_by_row
from fairopt.solve.units import span

SMALL = 4096
LEAST, MOST = 1e-60, 1e60  # sums of squares that this road takes
CHUNK = 1 << 16  # stays in the cache when widened to float64


@dataclass(frozen=True, eq=False)
class OneRow:
    """The row as vectors, and its limits as floats; kept with the problem."""

    row: Array  # (n,) float64
    row64: Tensor
    row32: Tensor
    norm: float
    unit: float
    metric: float
    offset: float
    lower: float
    upper: float
    rho: float
    gamma: float
    hard: bool
    chunks: tuple[tuple[int, int], ...]
    box: tuple[float | Tensor, float | Tensor] | None  # None without finite bounds; tensors (n,) float64


@dataclass(frozen=True, eq=False)
class OneRowOutcome:
    """y (n,) certified scores; price; value of the row at y with the bound of its error; the gradient's multiplier; the residual of the
    optimality condition with its bound, in units of the scores."""

    y: Tensor
    price: float
    value: float
    bound: float
    row: OneRow
    slope: float  # J'v = v - r (r.v) * slope
    residual: float
    residual_bound: float


def one_row(problem: ProjectionProblem) -> OneRow | None:
    """The plan of a problem that this road takes, or None."""
    return problem.workspace.keep("one row", lambda: _plan(problem))


def _plan(problem: ProjectionProblem) -> OneRow | None:
    rows = problem.rows
    if problem.m != 1 or problem.linear != 1 or problem.weights is not None or rows.dense is not None or not span(problem).plain:
        return None
    soft = problem.softness[0]
    row = rows.coefficients[0][rows.cell.numpy()]
    row64 = torch.from_numpy(row)
    return OneRow(
        row=row,
        row64=row64,
        row32=row64.to(torch.float32),
        norm=math.sqrt(float(row @ row)) * (1 + 1e-12),
        unit=float(rows.absolute_sum[0]),
        metric=float(row @ row),
        offset=float(rows.offset[0]),
        lower=float(problem.lower[0]),
        upper=float(problem.upper[0]),
        rho=soft.weight if soft.kind in ("priced", "budget") else math.inf,
        gamma=soft.weight if soft.kind == "quadratic" else math.inf,
        hard=soft.kind == "hard",
        chunks=tuple((a, min(a + CHUNK, problem.n)) for a in range(0, problem.n, CHUNK)),
        box=(problem.lb, problem.ub) if problem.has_box else None,
    )


def strictly_inside(y: Tensor, box: tuple[float | Tensor, float | Tensor]) -> bool:
    """Whether every score lies strictly between its bounds (floats, or (n,) float64 tensors). False for NaN."""
    lb, ub = box
    if isinstance(lb, Tensor) or isinstance(ub, Tensor):
        return bool(((y > lb) & (y < ub)).all())
    low, high = torch.aminmax(y)
    return float(low) > lb and float(high) < ub


def project_one_row(z: Tensor, plan: OneRow) -> OneRowOutcome | None:
    """The certified projection of z (n,) float32 or float64 on the CPU, strictly inside its box, or None where this road cannot decide."""
    if not z.is_contiguous():
        z = z.contiguous()
    n = z.shape[0]
    vector = _Small(z) if n <= SMALL else _Large(z)
    total, squares = vector.estimate(plan)
    f = total + plan.offset
    if not (math.isfinite(f) and LEAST < squares < MOST):
        return None  # the general road names the bad score, or finds units in which sums neither overflow nor vanish
    rms = math.sqrt(squares)
    unsure = 2.0**-53 * ((n + 8) * plan.norm * rms + 8 * abs(plan.offset))
    near = max(unsure, vector.error * plan.norm * rms)
    if plan.lower - near < f < plan.upper + near:
        f = vector.exact(plan) + plan.offset
    if f <= plan.upper - unsure and f >= plan.lower + unsure:
        return OneRowOutcome(z.clone(), 0.0, f, unsure, plan, 0.0, 0.0, 0.0)
    if plan.lower - unsure < f < plan.upper + unsure:
        return None
    sign = 1.0 if f > plan.upper else -1.0
    gap = f - plan.upper if sign > 0 else f - plan.lower
    ulp = 2.0**-24 if z.dtype == torch.float32 else 2.0**-53
    margin = 0.0
    if plan.hard:
        # rounding of y and of p r moves the row by at most this; the largest score is not known, 4 rms is a guess that the check settles
        margin = plan.unit * ulp * min(4.0 * rms / math.sqrt(n) + abs(gap), rms) + 2.0 * unsure
        if plan.upper - plan.lower < 2.0 * margin:
            return None
    if not plan.metric > 0.0 < plan.gamma:
        return None
    slope = 1.0 / (plan.metric + 1.0 / plan.gamma)
    price = (gap + sign * margin) * slope
    if abs(price) >= plan.rho:
        price, slope = sign * plan.rho, 0.0
    unsure *= 1.0 + abs(price) * plan.norm / rms  # |y| <= |z| + |p| |r|
    allowed = 4.0 * (margin + unsure + plan.unit * ulp * (rms / math.sqrt(n) + abs(gap)))
    for _ in range(2):
        y, total = vector.shifted(price, plan)
        f = total + plan.offset
        beyond = sign * (f - (plan.upper if sign > 0 else plan.lower))
        soft = sign * price / plan.gamma
        off = beyond + margin - soft if slope else 0.0
        if off <= margin - unsure and abs(off) <= allowed:
            break
        price += sign * off * slope  # the estimate was short by a few ulps
    if plan.hard and not (plan.lower + unsure <= f <= plan.upper - unsure):
        return None
    # a price at its cap needs the row beyond its limit, any other one at it
    residual = abs(beyond - soft) if slope else max(-beyond, 0.0)
    # of scores that are at least so large, in or out: prices that pull tiny scores far leave sums, not scores, unsure
    size = max(rms / math.sqrt(n), 0.5 * abs(gap) / plan.unit)
    bound = min((allowed + margin) / plan.unit, (WIDEST + 32.0 * ulp) * size)
    if not (residual <= bound * plan.unit and math.isfinite(f)):
        return None
    if plan.box is not None and not strictly_inside(y, plan.box):
        return None
    return OneRowOutcome(y, price, f, unsure, plan, slope, residual / plan.unit, bound)


class _Small:
    """Few scores: float64 numpy vectors throughout. ``error``: relative error of ``estimate``, none beyond the summation bound."""

    error = 0.0

    def __init__(self, z: Tensor) -> None:
        self.single = z.dtype == torch.float32
        self.z = z.numpy().astype(np.float64) if self.single else z.numpy()

    def estimate(self, plan: OneRow) -> tuple[float, float]:
        return float(self.z.dot(plan.row)), float(self.z.dot(self.z))

    def exact(self, plan: OneRow) -> float:
        return float(self.z.dot(plan.row))

    def shifted(self, price: float, plan: OneRow) -> tuple[Tensor, float]:
        y = self.z - price * plan.row
        if not self.single:
            return torch.from_numpy(y), float(y.dot(plan.row))
        y32 = y.astype(np.float32)
        return torch.from_numpy(y32), float(y32.astype(np.float64).dot(plan.row))


class _Large:
    """Many scores: torch, in chunks that stay in the cache. The estimate sums float32 products; ``exact`` widens them first."""

    def __init__(self, z: Tensor) -> None:
        self.z = z
        self.error = 0.0 if z.dtype == torch.float64 else 1e-4

    def estimate(self, plan: OneRow) -> tuple[float, float]:
        if self.z.dtype == torch.float64:
            return float(torch.dot(self.z, plan.row64)), float(torch.dot(self.z, self.z))
        total = squares = 0.0
        for a, b in plan.chunks:
            part = self.z[a:b]
            total += float(torch.dot(part, plan.row32[a:b]))
            squares += float(torch.dot(part, part))
        return total, squares / (1.0 - CHUNK * 2.0**-24)  # float32 sums of squares err by at most CHUNK 2^-24 of themselves

    def exact(self, plan: OneRow) -> float:
        return _dot(self.z, plan)

    def shifted(self, price: float, plan: OneRow) -> tuple[Tensor, float]:
        y = torch.add(self.z, plan.row32 if self.z.dtype == torch.float32 else plan.row64, alpha=-price)
        return y, _dot(y, plan)


def _dot(y: Tensor, plan: OneRow) -> float:
    """r.y with float64 products and sums."""
    if y.dtype == torch.float64:
        return float(torch.dot(y, plan.row64))
    return sum(float(torch.dot(y[a:b].double(), plan.row64[a:b])) for a, b in plan.chunks)


def gradient(outcome: OneRowOutcome, v: Tensor) -> tuple[Tensor, float]:
    """J'v (n,) and theta = slope * r.v."""
    plan = outcome.row
    if outcome.slope == 0.0:
        return v.clone(), 0.0
    if not v.is_contiguous():
        v = v.contiguous()  # the gradient of a sum is an expanded scalar
    if v.shape[0] <= SMALL:
        v64 = v.numpy().astype(np.float64) if v.dtype == torch.float32 else v.numpy()
        theta = float(v64.dot(plan.row)) * outcome.slope
        out = v64 - theta * plan.row
        return torch.from_numpy(out.astype(np.float32) if v.dtype == torch.float32 else out), theta
    row = plan.row32 if v.dtype == torch.float32 else plan.row64
    theta = float(torch.dot(v, row)) * outcome.slope
    return torch.add(v, row, alpha=-theta), theta


class _Attached(torch.autograd.Function):
    """The certified scores, connected to the input."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, outcome: OneRowOutcome) -> Tensor:
        ctx.outcome = outcome
        return outcome.y.detach()  # another tensor: the node must not hold its own output, a cycle that only the collector frees

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (v,), outcome = gradients, ctx.outcome
        if torch.is_grad_enabled():
            return row_by_row(v, lambda row: _Linear.apply(row, outcome)), None  # type: ignore[no-untyped-call]
        return row_by_row(v, lambda row: gradient(outcome, row)[0]), None


class _Linear(torch.autograd.Function):
    """v -> J'v = J v (J is symmetric and constant on the piece), differentiable again."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, outcome: OneRowOutcome) -> Tensor:
        ctx.outcome = outcome
        return row_by_row(v, lambda row: gradient(outcome, row.detach())[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Linear.apply(gradients[0], ctx.outcome), None  # type: ignore[no-untyped-call]


def attach_one_row(scores: Tensor, outcome: OneRowOutcome) -> Tensor:
    """The outcome's scores (n,), differentiable."""
    y: Tensor = _Attached.apply(scores, outcome)  # type: ignore[no-untyped-call]
    return y


def short_road(scores: Tensor, flat: Tensor, problem: ProjectionProblem) -> Solution | None:
    """One row and no active bound, in a few passes; None where the general road has to decide."""
    if problem.m != 1 or problem.stated is not None or (problem.has_box and not strictly_inside(flat.detach(), (problem.lb, problem.ub))):
        return None
    plan = one_row(problem)
    if plan is None or scores.device.type != "cpu" or scores.dtype not in (torch.float32, torch.float64):
        return None
    with np.errstate(all="ignore"):  # what overflows is left to the general road
        outcome = project_one_row(flat.detach(), plan)
    if outcome is None:
        return None
    y = attach_one_row(flat, outcome) if scores.requires_grad and torch.is_grad_enabled() else outcome.y
    f = outcome.value
    certificate = Certificate(
        violation=np.array([max(f - plan.upper, plan.lower - f)]),
        bounds_violation=0.0,
        kkt_residual=outcome.residual,
        rounding_bound=outcome.bound,
        moved_by_repair=0.0,
        status=Status.CERTIFIED,
        backend="closed_form",
        dtype=str(scores.dtype).removeprefix("torch."),
        problem=problem,
        _scores=(flat.detach(), outcome.y),
        kkt_bound=outcome.residual_bound,
    )
    price = torch.tensor([outcome.price], dtype=torch.float64, device="cpu")
    return Solution(y.view(scores.shape) if scores.dim() == 2 else y, price, Status.CERTIFIED, certificate, "closed_form", 0)
