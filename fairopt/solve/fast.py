"""The compiled road: certified scores and their gradient, each one compiled call, for the problems that have a ``plan``.

What it does not certify it leaves to the general road: ``attempt`` returns None, and nothing has happened. Between the caller and the
compiled call lies as little Python as can be: the plan is kept with the problem, and certificate and solution are made when asked for.
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
from fairopt.solve.certificate import Certificate, Solution, problem_hash
from fairopt.solve.certified import certificate_of, prices_of
from fairopt.solve.gradient.attached import attach_piece
from fairopt.solve.kin import plan_of
from fairopt.solve.passes import batch, refill, stages
from fairopt.solve.passes import project as passes
from fairopt.solve.passes.jit import misses
from fairopt.solve.passes.search import NUMBERS
from fairopt.solve.plan import Plan

_empty, _float64, _float32 = np.empty, torch.float64, torch.float32
_address = stages.ADDRESS


class Answer:
    """What one compiled solve found: scores z and y (n,) detached, and the numbers of ``fairopt.solve.passes.stages``."""

    __slots__ = ("asked", "numbers", "plan", "problem", "y", "z")

    def __init__(self, z: Tensor, y: Tensor, problem: ProjectionProblem, plan: Plan, numbers: Array, asked: str) -> None:
        self.z, self.y, self.problem, self.plan, self.numbers, self.asked = z, y, problem, plan, numbers, asked

    @property
    def backend(self) -> str:
        """The backend that was asked for, or the one that "auto" stands for."""
        plan = self.plan
        if self.asked != "auto":
            return self.asked
        if plan.boxed and plan.m == 1 and self.numbers[-2 * plan.cells : -plan.cells].sum() == self.z.shape[0]:
            return "closed_form"  # one row, and no score touches its bounds
        return plan.name

    def certificate(self) -> Certificate:
        return certificate_of(self.problem, self.plan, self.numbers, (self.z, self.y), self.backend)

    def solution(self, scores: Tensor) -> Solution:
        """The solution with these ``scores``: y, connected and in the shape of the input."""
        prices = torch.from_numpy(prices_of(self.plan, self.numbers).copy())
        return Solution(scores, prices, Status.CERTIFIED, self.certificate(), self.backend, int(self.numbers[stages.ITERATIONS]))


def attempt(scores: Tensor, problem: ProjectionProblem, backend: str = "auto") -> tuple[Tensor, Answer] | None:
    """The certified projection of ``scores`` (n,) or (n, 1) under no transform, on the CPU: float32 or float64.

    Returns the scores in the shape of the input, connected to it, and the answer; None where the general road has to decide.
    """
    plan = plan_of(problem) if problem.distance == "squared" else None
    if plan is None or (backend != "auto" and backend != plan.name and backend != "dual_newton"):
        return None
    dtype = scores.dtype
    if dtype is _float32 and not plan.single:
        return None
    shape, n = scores.shape, plan.cell.shape[0]
    if shape[0] != n or len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
        return None
    z = scores.detach()
    if len(shape) == 2:
        z = z.reshape(-1)
    if not z.is_contiguous():
        z = z.contiguous()
    values = z.numpy()
    written = _empty(n, values.dtype)
    code = _empty(n, np.uint16) if plan.coded else plan.cell
    numbers = _empty(plan.size)
    if not _solved(values, written, code, numbers, plan):
        return None
    y = torch.from_numpy(written)
    answer = Answer(z, y, problem, plan, numbers, backend)
    if scores.requires_grad and torch.is_grad_enabled():
        flat = scores if scores.dim() == 1 else scores.reshape(-1)
        out = attach_piece(flat, y, Piece(problem, plan, code, numbers))
    else:
        out = y
    return (out if scores.dim() == 1 else out.view(scores.shape)), answer


def _solved(z: Any, y: Any, code: Any, numbers: Array, plan: Plan, project: Callable[..., int] = passes.project) -> int:
    """The compiled call for scores z (n,), or for the rows of a batch: see ``fairopt.solve.passes.project`` and ``batch``."""
    bits, ends = (np.int32, np.zeros(2, np.float32)) if z.itemsize == 4 else (np.int64, np.zeros(2))
    return project(_address, z, z.view(bits), ends, ends.view(bits), *plan.arguments, y, code, numbers)


def attempt_batch(scores: Tensor, problem: ProjectionProblem) -> Tensor | None:
    """The certified projection of each row of ``scores`` (B, n), connected to them; None where one has to go down the general road."""
    plan = plan_of(problem) if problem.distance == "squared" else None
    if plan is None or (scores.dtype is _float32 and not plan.single):
        return None
    z = scores.detach().contiguous()
    y = torch.empty_like(z)
    rows, n = z.shape
    codes = _empty((rows, n), np.uint16) if plan.coded else plan.cell[None]  # (B, n) or (1, n)
    numbers = _empty((rows, plan.size))
    if _solved(z.numpy(), y.numpy(), codes, numbers, plan, batch.project_rows) < rows:
        return None
    if not (scores.requires_grad and torch.is_grad_enabled()):
        return y
    return attach_piece(scores, y, Pieces(problem, plan, codes, numbers))


class Piece:
    """The linear piece of one answer: what its derivative needs."""

    __slots__ = ("code", "numbers", "plan", "problem")
    _compiled: Callable[..., int] = staticmethod(passes.differentiate)

    def __init__(self, problem: ProjectionProblem, plan: Plan, code: Any, numbers: Array) -> None:
        self.problem, self.plan, self.code, self.numbers = problem, plan, code, numbers

    def times(self, v: Tensor, forward: bool) -> Tensor:
        """J'v, or J v where ``forward``, in the shape of v: on the CPU, float32 or float64, detached."""
        if not v.is_contiguous():
            v = v.contiguous()
        plan, values = self.plan, v.numpy()
        out = np.empty_like(values)
        if self._compiled(_address, values, self.code, plan.whole, plan.real, plan.inverse, self.numbers, out, forward) < self._wanted(
            values
        ):
            raise BackendError(f"in the gradient: the rows of the piece contradict each other, problem {problem_hash(self.problem)}")
        return torch.from_numpy(out)

    def _wanted(self, v: Any) -> int:
        """What the compiled call says where all is done."""
        return 1


class Pieces(Piece):
    """The pieces of a batch of answers: code (B, n) or (1, n), numbers (B, size)."""

    __slots__ = ()
    _compiled = staticmethod(batch.differentiate_rows)

    def _wanted(self, v: Any) -> int:
        return int(v.shape[0])


def compile_for(dtype: torch.dtype) -> bool:
    """Compiles both functions for scores of ``dtype``, or reads them from disk. Returns whether any was compiled."""
    name = "float32" if dtype is _float32 else "float64"
    bits = np.int32 if dtype is _float32 else np.int64
    z, ends, cell = np.full(1, np.nan, dtype=name), np.zeros(2, dtype=name), np.zeros(1, dtype=np.uint16)
    whole, real = np.zeros(stages.INTS + 2, dtype=np.int64), np.zeros(stages.FLOATS)
    sizes = {stages.WHOLE_SIZE: whole.size, stages.REAL_SIZE: real.size, stages.WORK_SIZE: NUMBERS, stages.ANSWER_SIZE: stages.HEAD}
    whole[list(sizes)] = list(sizes.values())
    none, numbers = np.zeros(0), np.zeros(stages.HEAD)
    before = misses(passes.project, passes.differentiate)
    part = np.zeros(0, dtype=np.int64)  # a score that is NaN is left at once
    passes.project(
        _address, z, z.view(bits), ends, ends.view(bits), cell, whole, real, none, none, none, part, z.copy(), cell.copy(), numbers
    )
    passes.differentiate(_address, z[:0], cell[:0], whole, real, none, numbers, z[:0], False)
    return misses(passes.project, passes.differentiate) > before


def compile_rows_for(dtype: torch.dtype) -> None:
    """Compiles the functions of batches and of plans, which otherwise their first call does, in a second."""
    z = np.full((1, 1), np.nan, dtype="float32" if dtype is _float32 else "float64")
    whole, real = np.zeros(stages.INTS + 2, dtype=np.int64), np.zeros(stages.FLOATS)
    none, code, numbers = np.zeros(0), np.zeros((1, 1), dtype=np.uint16), np.zeros((0, stages.HEAD))
    bits, ends = (np.int32, np.zeros(2, np.float32)) if z.itemsize == 4 else (np.int64, np.zeros(2))
    part, nothing = np.zeros(0, dtype=np.int64), z[:0]
    batch.project_rows(
        _address, nothing, nothing.view(bits), ends, ends.view(bits), code[0], whole, real, none, none, none, part, nothing, code, numbers
    )
    batch.differentiate_rows(_address, nothing, code, whole, real, none, numbers, nothing, False)
    refill.compile_now()
