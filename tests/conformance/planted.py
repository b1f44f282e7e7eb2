"""A right backend made of the reference solver, and wrong ones made of it by one change each."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError
from fairopt.contract.backend import ALL_SOFTNESS, Backend, Capabilities, RawSolution, Status
from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt.testing.active import piece_at
from fairopt.testing.draws import Draw
from fairopt.testing.optimality import written_out
from fairopt.testing.oracle import OracleSolution, solve_reference
from fairopt.testing.sensitivity import exact_jacobian


class Honest(Backend):
    """The reference solver as a backend; its native gradient is the exact Jacobian, and differences for the limits."""

    name: ClassVar[str] = "honest"
    capabilities: ClassVar[Capabilities] = Capabilities(
        softness=ALL_SOFTNESS,
        ranges=True,
        dtypes=("float64", "float32"),
        gradients=("implicit", "native"),
        accuracy_y=1e-8,
        accuracy_gradient=1e-7,
        accuracy_native_y=1e-8,
        accuracy_native_gradient=1e-6,
        exact=True,
    )

    def __init__(self, *, max_iter: int = 1000) -> None:
        self.max_iter = max_iter

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        if self.max_iter < 2:
            return RawSolution(scores.clone(), np.zeros(problem.m), Status.ITERATION_LIMIT)
        try:
            found = self.reference(scores.double().numpy(), problem)
        except BackendError as error:
            return RawSolution(None, None, Status.INFEASIBLE, message=str(error))
        return RawSolution(torch.from_numpy(found.y.copy()).to(scores.dtype), found.prices.copy())

    def reference(self, scores: Array, problem: ProjectionProblem) -> OracleSolution:
        return solve_reference(scores, problem)

    def solve_native(self, scores: Tensor, problem: ProjectionProblem, limits: Limits) -> Tensor:
        y: Tensor = _Native.apply(self, problem, scores.double(), *limits.tensors())
        return y

    def jacobian(self, draw: Draw, found: OracleSolution) -> Array:
        return exact_jacobian(draw, found)

    def limits_factor(self, n: int) -> float:
        return 1.0


class WithoutPrices(Honest):
    """Right as well: it returns scores alone, as the contract allows, and says so."""

    name: ClassVar[str] = "without_prices"
    capabilities: ClassVar[Capabilities] = replace(Honest.capabilities, prices=False, exact=False)

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        raw = super().solve(scores, problem)
        return RawSolution(raw.y, None, raw.status, message=raw.message)


class _Native(torch.autograd.Function):
    """Scores (n,) float64 and the five tensors of Limits -> y (n,)."""

    @staticmethod
    def forward(ctx: Any, backend: Honest, problem: ProjectionProblem, scores: Tensor, *limits: Tensor) -> Tensor:
        there = problem.with_limits(Limits(*limits))
        raw = backend.solve(scores.detach(), there)
        if raw.y is None:
            raise BackendError("no solution")
        ctx.backend, ctx.problem, ctx.found = backend, there, solve_reference(scores.detach().numpy(), there)
        ctx.save_for_backward(scores, *limits)
        out: Tensor = raw.y.double()
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scores, *limits = ctx.saved_tensors
        draw = Draw(ctx.problem, scores.detach(), "native", 0, frozenset(), 1.0, None)
        g = torch.from_numpy(ctx.backend.jacobian(draw, ctx.found)).T @ grads[0]
        found: list[Tensor | None] = []
        for k, values in enumerate(limits):
            needed = ctx.needs_input_grad[3 + k]
            found.append(_differences(ctx, scores, limits, k, values, grads[0]) if needed else None)
        return None, None, g, *found


def _differences(ctx: Any, scores: Tensor, limits: list[Tensor], k: int, values: Tensor, u: Tensor) -> Tensor:
    """u . d y / d limits[k], entry by entry. An equality's limits move together; a weight moves with its budget's others."""
    out, step = torch.zeros_like(values), 1e-6
    for i in range(values.shape[0]):
        if not bool(torch.isfinite(values[i])) or (k == 2 and float(values[i]) == 0.0):
            continue
        ends = []
        for sign in (1.0, -1.0):
            moved = [t.detach().clone() for t in limits]
            moved[k][i] += sign * step * (abs(float(values[i])) if k == 4 else 1.0)
            both = k < 2 and float(limits[0][i]) == float(limits[1][i])
            if both:
                moved[1 - k][i] += sign * step
            if k == 4 and ctx.problem.softness[i].kind == "budget":
                same = [s.kind == "budget" and s.block == ctx.problem.softness[i].block for s in ctx.problem.softness]
                moved[4][torch.tensor(same)] = moved[4][i]
            ends.append(solve_reference(scores.detach().numpy(), ctx.problem.with_limits(Limits(*moved))).y)
            share = (sum(same) if k == 4 and ctx.problem.softness[i].kind == "budget" else 1) * (2 if both else 1)
        width = 2.0 * step * (abs(float(values[i])) if k == 4 else 1.0)
        out[i] = float(u.numpy() @ (ends[0] - ends[1])) / width / share
    factor: float = ctx.backend.limits_factor(scores.shape[0])
    return out * factor


class WrongPriceSign(Honest):
    expected: ClassVar[str] = "raw_prices"

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        raw = super().solve(scores, problem)
        return raw if raw.prices is None else RawSolution(raw.y, -raw.prices, raw.status)


class GradientOnePercentOff(Honest):
    expected: ClassVar[str] = "native_gradient"

    def jacobian(self, draw: Draw, found: OracleSolution) -> Array:
        return 1.01 * exact_jacobian(draw, found)


class ClampedSamplesIgnored(Honest):
    """Differentiates as if no sample were at a bound."""

    expected: ClassVar[str] = "native_gradient"

    def jacobian(self, draw: Draw, found: OracleSolution) -> Array:
        problem = draw.problem
        piece, d = piece_at(problem, draw.scores.numpy(), found.y, found.prices), written_out(problem)
        c = piece.columns.T @ d.a
        return np.asarray(np.eye(problem.n) - (c / d.w).T @ np.linalg.pinv((c / d.w) @ c.T + np.diag(piece.compliance)) @ c)


class StaleCache(Honest):
    """Keeps what it built for some rows, and forgets that their limits may change."""

    expected: ClassVar[str] = "stale_cache"

    def __init__(self) -> None:
        super().__init__()
        self._built: dict[int, ProjectionProblem] = {}

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        return super().solve(scores, self._built.setdefault(hash(problem.rows.cell.data_ptr()), problem))


class BatchMeanGradient(Honest):
    """Runs two copies as a batch and hands limits, which the copies share, the mean of their gradients instead of the sum."""

    expected: ClassVar[str] = "native_limits"

    def limits_factor(self, n: int) -> float:
        return 0.5


class SmallViolation(Honest):
    expected: ClassVar[str] = "raw_answer"

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        raw = super().solve(scores, problem)
        return raw if raw.y is None else RawSolution(raw.y + 1e-6, raw.prices, raw.status)


class SilentlyInfeasible(Honest):
    expected: ClassVar[str] = "infeasible_status"

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        raw = super().solve(scores, problem)
        return RawSolution(torch.zeros_like(scores), np.zeros(problem.m)) if raw.y is None else raw


class AlwaysFloat64(Honest):
    expected: ClassVar[str] = "dtype_round_trip"

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        return super().solve(scores.double(), problem)


class ChangesItsInput(Honest):
    expected: ClassVar[str] = "inputs_untouched"

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        raw = super().solve(scores, problem)
        if raw.y is not None:
            scores.copy_(raw.y)
        return raw


class ChangesTheProblem(Honest):
    expected: ClassVar[str] = "inputs_untouched"

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        raw = super().solve(scores, problem)
        problem.rows.offset[:] += 1e-9
        return raw


class GlobalRandomState(Honest):
    expected: ClassVar[str] = "global_state"

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        torch.manual_seed(int(time.perf_counter() * 1e9) % 2**31)
        return super().solve(scores, problem)


class SilentIterationLimit(Honest):
    expected: ClassVar[str] = "iteration_limit"

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        raw = super().solve(scores, problem)
        return RawSolution(raw.y, raw.prices) if raw.status is Status.ITERATION_LIMIT else raw


class SwallowsOptions(Honest):
    expected: ClassVar[str] = "unknown_options"

    def __init__(self, **options: object) -> None:
        super().__init__()


class FirstOfTheBatch(Honest):
    expected: ClassVar[str] = "batch_is_loop"

    def solve_batch(self, scores: Tensor, problem: ProjectionProblem) -> list[RawSolution]:
        return [self.solve(scores[0], problem) for _ in scores]


class IgnoresWeights(Honest):
    expected: ClassVar[str] = "raw_answer"

    def reference(self, scores: Array, problem: ProjectionProblem) -> OracleSolution:
        return solve_reference(scores, replace(problem, weights=None))


class BraggingNative(Honest):
    """Declares a native accuracy that it does not have."""

    expected: ClassVar[str] = "native_scores"

    def solve_native(self, scores: Tensor, problem: ProjectionProblem, limits: Limits) -> Tensor:
        return super().solve_native(scores, problem, limits) + 1e-6


class SharedBuffer(Honest):
    """Writes its answer into a buffer of its own, which the next thread overwrites."""

    expected: ClassVar[str] = "threads"

    def __init__(self) -> None:
        super().__init__()
        self._buffer: OracleSolution | None = None

    def reference(self, scores: Array, problem: ProjectionProblem) -> OracleSolution:
        mine = self._buffer = solve_reference(scores, problem)
        if threading.current_thread() is not threading.main_thread():
            end = time.monotonic() + 0.2  # the other threads are at work too: one of them will have written by then
            while self._buffer is mine and time.monotonic() < end:
                time.sleep(0.001)
        found = self._buffer
        assert found is not None
        return replace(found, y=np.resize(found.y, scores.shape), prices=np.resize(found.prices, problem.m))


class WarmStart(Honest):
    """Starts from its last answer, so that the last bits depend on what was asked before."""

    expected: ClassVar[str] = "same_bits"

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        raw = super().solve(scores, problem)
        self._calls += 1
        return raw if raw.y is None else RawSolution(raw.y + 1e-12 * self._calls, raw.prices, raw.status)


class NoPriceAfterAll(Honest):
    expected: ClassVar[str] = "raw_answer"

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        raw = super().solve(scores, problem)
        return RawSolution(raw.y, None, raw.status)


class RefusesWhatItDeclares(Honest):
    expected: ClassVar[str] = "capabilities"

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        from fairopt.basics.errors import UnsupportedError

        if any(s.kind == "budget" for s in problem.softness):
            raise UnsupportedError("no budgets")
        return super().solve(scores, problem)


class TakesNoOtherDistance(Honest):
    """Declares the divergence, and answers with the squared distance."""

    expected: ClassVar[str] = "other_distances"
    capabilities: ClassVar[Capabilities] = replace(Honest.capabilities, distances=frozenset({"squared", "kl"}))


WRONG: tuple[type[Honest], ...] = (
    WrongPriceSign, GradientOnePercentOff, ClampedSamplesIgnored, StaleCache, BatchMeanGradient, SmallViolation, SilentlyInfeasible,
    AlwaysFloat64, ChangesItsInput, ChangesTheProblem, GlobalRandomState, SilentIterationLimit, SwallowsOptions, FirstOfTheBatch,
    IgnoresWeights, BraggingNative, SharedBuffer, WarmStart, NoPriceAfterAll, RefusesWhatItDeclares, TakesNoOtherDistance,
)  # fmt: skip
