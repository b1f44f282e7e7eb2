"""The compiled road of the divergences: certified scores and their gradient, each one compiled call (as ``fairopt.solve.fast``).

What it does not certify it leaves to the general road: ``attempt`` returns None, and nothing has happened. It takes hard, priced and
quadratic rows and ranges on cell means, with one box for all and any weights. Second derivatives are those of the general road.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError
from fairopt.contract.backend import Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.certificate import Certificate, Solution, problem_hash
from fairopt.solve.certified import certificate_of, prices_of
from fairopt.solve.dual.newton import sizes_of_limits
from fairopt.solve.dual.structure import numbers as numbers_of
from fairopt.solve.dual.structure import structure
from fairopt.solve.entropy.ends import ends_of
from fairopt.solve.entropy.finish import FAR_UNDER
from fairopt.solve.entropy.gradient import second
from fairopt.solve.kin import plan_of
from fairopt.solve.passes import kl_project, stages
from fairopt.solve.passes.jit import misses
from fairopt.solve.passes.search import NUMBERS
from fairopt.solve.plan import Plan
from fairopt.solve.transforms import refuse_transforms

BACKEND = "dual_newton"
_float64, _float32 = torch.float64, torch.float32
_project: Callable[..., int] = kl_project.kl_project
_differentiate: Callable[..., int] = kl_project.kl_differentiate


class Answer:
    """What one compiled solve found: scores z and y (n,) detached, the numbers of ``passes.stages``, and the shifts (C,) of y."""

    __slots__ = ("final", "numbers", "plan", "problem", "real", "y", "z")

    def __init__(self, z: Tensor, y: Tensor, problem: ProjectionProblem, plan: Plan, real: Array, numbers: Array, final: Array) -> None:
        self.z, self.y, self.problem, self.plan, self.real, self.numbers, self.final = z, y, problem, plan, real, numbers, final

    @property
    def prices(self) -> Array:
        """(m,)"""
        return prices_of(self.plan, self.numbers)

    def certificate(self) -> Certificate:
        far = _farthest(self.problem, self.numbers)
        return certificate_of(self.problem, self.plan, self.numbers, (self.z, self.y), BACKEND, far)

    def solution(self, scores: Tensor) -> Solution:
        """The solution with these ``scores``: y, connected and in the shape of the input."""
        prices = torch.from_numpy(self.prices.copy())
        return Solution(scores, prices, Status.CERTIFIED, self.certificate(), BACKEND, int(self.numbers[stages.ITERATIONS]))

    def times(self, v: Tensor, forward: bool) -> Tensor:
        """J'v (n,), or J v where ``forward``; v on the CPU, float32 or float64, detached."""
        if not v.is_contiguous():
            v = v.contiguous()
        plan, values = self.plan, v.numpy()
        out = np.empty_like(values)
        k = 0.0 if self.problem.distance == "kl_positive" else 1.0
        if not _differentiate(
            stages.ADDRESS, k, values, self.z.numpy(), plan.cell, plan.whole, self.real, plan.inverse, self.numbers, self.final,
            out, forward,
        ):  # fmt: skip
            raise BackendError(f"in the gradient: the rows of the piece contradict each other, problem {problem_hash(self.problem)}")
        return torch.from_numpy(out)


def attempt(scores: Tensor, problem: ProjectionProblem) -> tuple[Tensor, Answer] | None:
    """The certified projection of ``scores`` (n,) or (n, 1) under no transform, on the CPU: float32 or float64.

    Returns the scores in the shape of the input, connected to it, and the answer; None where the general road has to decide.
    """
    plan, dtype, shape = plan_of(problem), scores.dtype, scores.shape
    if plan is None or not problem.uniform_box:
        return None
    if dtype is _float32 and not (plan.single and (plan.whole[stages.UNIFORM] or _exact(problem))):
        return None
    n = plan.cell.shape[0]
    if shape[0] != n or len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
        return None
    z = scores.detach().reshape(-1).contiguous()
    values = z.numpy()
    k = 0.0 if problem.distance == "kl_positive" else 1.0
    real = _scaled(problem, plan, float(values.max())) if k == 0.0 else plan.real
    if real is None:
        return None
    written, found, final = np.empty_like(values), np.empty(plan.size), np.empty(plan.cells)
    bits, ends = (np.int32, np.zeros(2, np.float32)) if z.itemsize == 4 else (np.int64, np.zeros(2))
    done = _project(
        stages.ADDRESS, k, values, values.view(bits), ends, ends.view(bits), plan.cell, plan.whole, real, plan.inverse, plan.part,
        written, found, final,
    )  # fmt: skip
    if done == stages.ENDED and ends_of(problem, z.to(_float64).numpy()) is not None:
        return None  # prices without end are no solution
    if not done or (k == 0.0 and not float(written.max()) >= FAR_UNDER * min(float(values.max()), float(problem.ub))):
        return None  # goals and metric are those of scores of the input's size
    y = torch.from_numpy(written)
    answer = Answer(z, y, problem, plan, real, found, final)
    out = y
    if scores.requires_grad and torch.is_grad_enabled():
        out = _Attached.apply(scores.reshape(-1), y, answer)  # type: ignore[no-untyped-call]
    return (out if len(shape) == 1 else out.view(shape)), answer


def _exact(problem: ProjectionProblem) -> bool:
    """Whether both bounds are float32 numbers."""
    return all(float(np.float32(b)) == b for b in (problem.lb, problem.ub))


def _scaled(problem: ProjectionProblem, plan: Plan, largest: float) -> Array | None:
    """The plan's numbers with the metric of positive values of this size (``search.metric_of``), a power of 2; None beyond float64."""
    asked, _, constant = sizes_of_limits(structure(problem), numbers_of(problem))
    size = max(largest, float(asked.max(initial=0.0)), constant)
    if not 0.0 < size < np.inf:
        return None
    power = math.frexp(size)[1]

    def made() -> Array:
        real = plan.real.copy()
        last = real.shape[0] - 2 * plan.cells
        real[last - plan.m : last] *= 2.0**power
        return real

    return problem.workspace.keep(("metric", power), made)


def _farthest(problem: ProjectionProblem, numbers: Array) -> float:
    """How far a score moves at most for a unit of its shift."""
    return 0.25 if problem.distance == "kl" else float(numbers[stages.MAGNITUDE])


class _Attached(torch.autograd.Function):
    """The certified scores, connected to the input."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, y: Tensor, answer: Answer) -> Tensor:
        ctx.save_for_backward(scores)
        ctx.answer = answer
        return y.detach()  # another tensor: who keeps the answer does not keep the graph

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        v, answer = gradients[0], ctx.answer
        refuse_transforms(v, "the gradient of scores under a divergence")
        if torch.is_grad_enabled():
            (scores,) = ctx.saved_tensors
            return second(answer.problem, answer.prices, scores, v), None, None
        return answer.times(v, False), None, None


def compile_for(dtype: torch.dtype) -> bool:
    """Compiles both functions for scores of ``dtype``, or reads them from disk. Returns whether any was compiled."""
    name = "float32" if dtype is _float32 else "float64"
    bits = np.int32 if dtype is _float32 else np.int64
    z, ends, cell = np.full(1, np.nan, dtype=name), np.zeros(2, dtype=name), np.zeros(1, dtype=np.uint16)
    whole, real = np.zeros(stages.INTS + 2, dtype=np.int64), np.zeros(stages.FLOATS)
    sizes = {stages.WHOLE_SIZE: whole.size, stages.REAL_SIZE: real.size, stages.WORK_SIZE: NUMBERS, stages.ANSWER_SIZE: stages.HEAD}
    whole[list(sizes)] = list(sizes.values())
    none, found, before = np.zeros(0), np.zeros(stages.HEAD), misses(kl_project.kl_project, kl_project.kl_differentiate)
    part = np.zeros(0, dtype=np.int64)  # a score that is NaN is left at once
    address = stages.ADDRESS
    _project(address, 1.0, z, z.view(bits), ends, ends.view(bits), cell, whole, real, none, part, z.copy(), found, none.copy())
    _differentiate(address, 1.0, z[:0], z[:0], cell[:0], whole, real, none, found, none.copy(), z[:0], False)
    return misses(kl_project.kl_project, kl_project.kl_differentiate) > before
