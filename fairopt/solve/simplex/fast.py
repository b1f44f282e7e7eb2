"""The compiled road of class probabilities: certified, with their gradient, each one compiled call (as ``fairopt.solve.fast``).

What it does not certify it leaves to the general road: ``attempt`` returns None, and nothing has happened. Second derivatives are those of
the general road.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError
from fairopt.contract.backend import Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.certificate import Certificate, problem_hash
from fairopt.solve.certified import certificate_of, prices_of
from fairopt.solve.entropy.ends import ends_of
from fairopt.solve.passes import simplex_project, stages
from fairopt.solve.passes.jit import misses
from fairopt.solve.passes.search import NUMBERS
from fairopt.solve.simplex.gradient import second
from fairopt.solve.simplex.plan import SimplexPlan, simplex_plan
from fairopt.solve.simplex.solution import ClassSolution
from fairopt.solve.transforms import refuse_transforms

BACKEND = "dual_newton"
FARTHEST = {True: 0.5, False: 2.0}  # how far a probability moves at most for a unit of the shifts: KL, squared
_float64, _float32 = torch.float64, torch.float32
_project: Callable[..., int] = simplex_project.simplex_project
_differentiate: Callable[..., int] = simplex_project.simplex_differentiate


class Answer:
    """What one compiled solve found: scores z and y (n, C) detached, table (n, C) z in float64, the numbers of ``passes.stages``, and
    final: the shifts (K,) of the cells, then how far a sum is from 1."""

    __slots__ = ("final", "kl", "numbers", "plan", "problem", "table", "y", "z")

    def __init__(
        self, z: Tensor, table: Array, y: Tensor, problem: ProjectionProblem, plan: SimplexPlan, kl: bool, numbers: Array, final: Array
    ) -> None:
        self.z, self.table, self.y, self.problem, self.plan, self.kl = z, table, y, problem, plan, kl
        self.numbers, self.final = numbers, final

    @property
    def prices(self) -> Array:
        """(m,)"""
        return prices_of(self.plan, self.numbers)

    def certificate(self) -> Certificate:
        scores = self.z.T.reshape(-1), self.y.T.reshape(-1)
        return certificate_of(self.problem, self.plan, self.numbers, scores, BACKEND, FARTHEST[self.kl])

    def solution(self, scores: Tensor) -> ClassSolution:
        """The solution with these ``scores`` (n, C): y, connected."""
        prices = torch.from_numpy(self.prices.copy())
        iterations, error = int(self.numbers[stages.ITERATIONS]), float(self.final[-1])
        return ClassSolution(scores, prices, Status.CERTIFIED, self.certificate(), BACKEND, iterations, "", error)

    def pulled(self, v: Tensor) -> Tensor:
        """J'v (n, C) for v (n, C), in its dtype."""
        wide = v.detach().to("cpu", _float64).contiguous().numpy()
        out = np.empty_like(wide)
        made = self.plan.order, self.plan.bounds, self.plan.joint, self.plan.whole, self.plan.real, self.plan.inverse
        if not _differentiate(stages.ADDRESS, self.kl, wide, self.table, *made, self.numbers, self.final, out):
            raise BackendError(f"in the gradient: the rows of the piece contradict each other, problem {problem_hash(self.problem)}")
        end = torch.finfo(v.dtype).max  # a probability of 1e-300 that rises to 1/2 follows by 1e299
        return torch.from_numpy(out).clamp_(-end, end).to(v.device, v.dtype)


def attempt(scores: Tensor, problem: ProjectionProblem, *, kl: bool) -> tuple[Tensor, Answer] | None:
    """The certified projection of probabilities ``scores`` (n, C) under no transform, on the CPU: float32 or float64, by the
    Kullback-Leibler divergence or the squared distance.

    Returns them connected to the input, and the answer; None where the general road has to decide.
    """
    plan = simplex_plan(problem)
    if plan is None or tuple(scores.shape) != (plan.order.shape[0], plan.joint.shape[1]):
        return None
    z = scores.detach()
    table = z.to(_float64).contiguous().numpy()
    y = torch.empty(z.shape, dtype=z.dtype, device="cpu")
    numbers, final = np.empty(plan.size), np.empty(plan.cells + 1)
    done = _project(
        stages.ADDRESS, kl, table, plan.order, plan.bounds, plan.joint, plan.whole, plan.real, plan.inverse, y.numpy(), numbers,
        final,
    )  # fmt: skip
    if not done or (kl and done == stages.ENDED and ends_of(problem, table.T.reshape(-1)) is not None):
        return None
    answer = Answer(z, table, y, problem, plan, kl, numbers, final)
    out = y
    if scores.requires_grad and torch.is_grad_enabled():
        out = _Attached.apply(scores, y, answer)  # type: ignore[no-untyped-call]
    return out, answer


class _Attached(torch.autograd.Function):
    """The certified probabilities, connected to the input."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, y: Tensor, answer: Answer) -> Tensor:
        ctx.save_for_backward(scores)
        ctx.answer = answer
        return y.detach()  # another tensor: who keeps the answer does not keep the graph

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        v, answer = gradients[0], ctx.answer
        refuse_transforms(v, "the gradient of class probabilities")
        (scores,) = ctx.saved_tensors  # which says so where they were changed meanwhile
        if torch.is_grad_enabled():
            return second(answer.problem, answer.prices, scores, v, kl=answer.kl), None, None
        return answer.pulled(v), None, None


def compile_for(dtype: torch.dtype) -> bool:
    """Compiles both functions for scores of ``dtype``, or reads them from disk. Returns whether any was compiled."""
    table, joint = np.full((1, 2), np.nan), np.zeros((1, 2), dtype=np.int64)
    order, bounds = np.zeros(1, dtype=np.int64), np.zeros(2, dtype=np.int64)
    whole, real = np.zeros(stages.INTS + 2, dtype=np.int64), np.zeros(stages.FLOATS)
    sizes = {stages.WHOLE_SIZE: whole.size, stages.REAL_SIZE: real.size, stages.WORK_SIZE: NUMBERS, stages.ANSWER_SIZE: stages.HEAD}
    whole[list(sizes)] = list(sizes.values())
    none, found, before = np.zeros(0), np.zeros(stages.HEAD), misses(simplex_project.simplex_project, simplex_project.simplex_differentiate)
    y = torch.zeros(1, 2, dtype=dtype, device="cpu").numpy()
    # scores that are NaN are left at once
    _project(stages.ADDRESS, True, table, order, bounds, joint, whole, real, none, y, found, np.zeros(1))
    empty = np.zeros((0, 2))
    _differentiate(
        stages.ADDRESS, True, empty, empty, order[:0], bounds[:1], np.zeros((0, 2), dtype=np.int64), whole, real, none, found, none, empty
    )
    return misses(simplex_project.simplex_project, simplex_project.simplex_differentiate) > before
