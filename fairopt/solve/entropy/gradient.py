"""The gradient of the divergence's projection, from its optimality conditions.

With D = dy/dz and S = -dy/d(A'p) at fixed prices (diagonal), K the inverse of the saddle matrix of the piece for M = A S A':

    J'v = D (v - A'K A S v),    theta = K A S v to the limits (as ``fairopt.solve.gradient.implicit``)

Second and third derivatives: ``local_scores`` takes two steps of Newton's method from the prices found, as a differentiable function. The
first step's error is of second order in what changed, the second's of fourth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.active_piece import Piece, read_piece
from fairopt.solve.dual.bordered import Model
from fairopt.solve.dual.structure import numbers, structure
from fairopt.solve.entropy.answer import Connected, Solved
from fairopt.solve.entropy.dual import EntropyDual
from fairopt.solve.entropy.finish import EntropyOutcome
from fairopt.solve.entropy.search import metric_of
from fairopt.solve.gradient.implicit import Prices, gamma_matrix, limit_gradients, local_ell, local_saddle, saddle
from fairopt.solve.guard import guarded
from fairopt.solve.passes.interface import as_column
from fairopt.solve.passes.kl_map import MOST, TOP
from fairopt.solve.transforms import refuse_transforms

STEPS = 2


class Implicit(Connected):
    """Connected by the conditions of optimality."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (grad,) = gradients
        refuse_transforms(grad, "the gradient of scores under distance='kl'")
        scores, *limits = ctx.saved_tensors
        solved: Solved = ctx.solved
        needs = ctx.needs_input_grad
        with guarded("dual_newton", solved.problem) as guard:
            if torch.is_grad_enabled():
                return (*_differentiable(solved, grad, [scores, *limits], needs), None, None)
            to_scores, theta, nu = vector_jacobian(solved.outcome, solved.problem, grad)
            to_limits: tuple[Tensor | None, ...] = (None,) * 5
            if any(needs[1:6]):
                to_limits = limit_gradients(solved.outcome, solved.problem, theta, nu)
            wanted = (g if need else None for g, need in zip(to_limits, needs[1:6], strict=True))
            return (to_scores if needs[0] else None, *wanted, None, None)
        raise BackendError(f"in the gradient: {guard.message}") from guard.error


def vector_jacobian(outcome: EntropyOutcome, problem: ProjectionProblem, grad: Tensor) -> tuple[Tensor, Array, Array]:
    """J'v for v = ``grad`` (n,), with theta (m,) and nu (q,) of the saddle system."""
    dual, rows = outcome.dual, problem.rows
    v = grad.detach().to("cpu", torch.float64).numpy()[rows.order.numpy()]
    following, falling = dual.rates(outcome.p)
    theta, nu = np.zeros(problem.m), np.zeros(0)
    shift: Array | float = 0.0
    if outcome.piece.index.size:
        mass = falling * v
        r = dual.coefficients @ np.add.reduceat(mass, dual.starts)
        if dual.dense is not None:
            r[rows.dense_rows] += dual.dense @ mass
        theta, nu = saddle(outcome, r)
        shift = dual.combine(theta)
    out = torch.from_numpy(following * (v - shift))[rows.inverse_order]
    end = torch.finfo(grad.dtype).max  # a probability of 1e-300 that rises to 1/2 follows by 1e299
    return out.clamp(-end, end).to(grad.device, grad.dtype), theta, nu


@dataclass(eq=False)
class At:
    """A piece with its prices, where no outcome is at hand: see ``implicit.Prices``."""

    piece: Piece
    model: Model
    p: Array


def second(problem: ProjectionProblem, p: Array, scores: Tensor, grad: Tensor) -> Tensor:
    """J'v for v = ``grad`` (n,) at prices p (m,) of ``scores``, as a function that can be differentiated again."""
    z = scores.detach().to("cpu", torch.float64).numpy()[problem.rows.order.numpy()]
    dual, nums = EntropyDual(problem, z), numbers(problem)
    st = metric_of(dual, structure(problem), nums)
    evaluation = dual.evaluate(p)
    at = At(read_piece(st, nums, evaluation.f, p), dual.model(evaluation), p)
    y = local_scores(at, problem, scores, [None] * 5)
    (found,) = torch.autograd.grad(y, scores, grad.to(y.dtype), create_graph=True)
    return found


def _differentiable(solved: Solved, grad: Tensor, inputs: list[Tensor | None], needs: Any) -> tuple[Tensor | None, ...]:
    """First derivatives that can be differentiated again."""
    scores, *limits = inputs
    assert scores is not None
    y = local_scores(solved.outcome, solved.problem, scores, limits)
    wanted = {k: t for k, t in enumerate(inputs) if needs[k] and t is not None}
    found = torch.autograd.grad(y, list(wanted.values()), grad.to(y.dtype), create_graph=True, allow_unused=True)
    out: list[Tensor | None] = [None] * len(inputs)
    for (k, source), g in zip(wanted.items(), found, strict=True):
        out[k] = torch.zeros_like(source) if g is None else g
    return tuple(out)


def local_scores(outcome: Prices, problem: ProjectionProblem, scores: Tensor, limits: list[Tensor | None]) -> Tensor:
    """(n,) the projection near its present prices, as a function of the scores and limits that can be differentiated three times."""
    piece, rows = outcome.piece, problem.rows
    f64 = torch.float64
    z = scores.to("cpu", f64)
    inverse = torch.ones((), dtype=f64, device="cpu") if problem.weights is None else 1.0 / problem.weights
    index = torch.from_numpy(piece.index)
    A = rows.matrix()
    s = (torch.from_numpy(outcome.p) @ A) * inverse  # (n,) of the prices found
    if piece.index.size:
        default = problem.limits().tensors()
        lower, upper, width, offset, weight = (d if t is None else t.to("cpu", f64) for t, d in zip(limits, default, strict=True))
        none = torch.zeros(1, dtype=f64, device="cpu")
        e = torch.stack([weight[c] if c >= 0 else none[0] for c in piece.caps]) if piece.caps else none[:0]
        ell = local_ell(outcome, problem, lower, upper, width)
        theta = torch.from_numpy(outcome.p[piece.index])
        E, A = torch.from_numpy(np.asarray(piece.E)), A[index]
        gamma = gamma_matrix(outcome, problem, weight)
        p = theta
        for _ in range(STEPS):
            y, falls = _moved(problem, z, s + ((p - theta) @ A) * inverse)
            K, scale = local_saddle(outcome, problem, (A * (falls * inverse)) @ A.T, weight)
            gap = A @ y + offset[index] - ell
            gap = gap if gamma is None else gap - gamma @ p
            step = scale * torch.linalg.solve(K, scale * torch.cat([gap, e - E @ p]))
            p = p + step[: p.shape[0]]
        s = s + ((p - theta) @ A) * inverse
    return _moved(problem, z, s)[0].to(scores.device, scores.dtype)


def _moved(problem: ProjectionProblem, z: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) scores at shifts s (n,), and how fast they fall with s: ``fairopt.solve.passes.kl_map`` in torch."""
    if problem.distance == "kl":
        s = s.clamp(-MOST, MOST)
        up, down = torch.exp((-s).clamp(max=TOP)), torch.exp((s + TOP).clamp(max=0.0))
        a, b = z * up, (1.0 - z) * down
        x = a / (a + b)
        falls = x * (b / (a + b))
        fixed = (z <= 0.0) | (z >= 1.0)
    else:
        x = z * torch.exp((-s).clamp(max=TOP))
        falls, fixed = x, z <= 0.0
    free = (x > problem.lb) & (x < problem.ub) & ~fixed
    inside = torch.minimum(torch.maximum(x.detach(), as_column(problem.lb, x)), as_column(problem.ub, x))
    return torch.where(free | fixed, x, inside), torch.where(free, falls, 0.0)
