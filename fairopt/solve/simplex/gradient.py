"""The gradient of the projection onto rows that sum to 1: Newton's method from the prices found, as a differentiable function.

One step with a matrix that is kept fixed has the right first derivative; two steps whose matrices move have the right ones up to the third.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError
from fairopt.basics.sparse import dense
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.active_piece import read_piece
from fairopt.solve.dual.structure import numbers, structure
from fairopt.solve.entropy.answer import Connected, Solved
from fairopt.solve.entropy.finish import EntropyOutcome
from fairopt.solve.entropy.gradient import At
from fairopt.solve.entropy.search import metric_of
from fairopt.solve.gradient.implicit import Prices, gamma_matrix, local_ell, local_saddle, saddle
from fairopt.solve.guard import guarded
from fairopt.solve.simplex.dual import SimplexDual, kernels, structure_of
from fairopt.solve.simplex.maps import nearest_point, shifted, support
from fairopt.solve.transforms import refuse_transforms

F64 = torch.float64


class Newton(Connected):
    """Connected by steps of Newton's method."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (grad,) = gradients
        refuse_transforms(grad, "the gradient of class probabilities")
        solved: Solved = ctx.solved
        again = torch.is_grad_enabled()
        dual = solved.outcome.dual
        if not again and isinstance(dual, SimplexDual) and dual.fast and not any(ctx.needs_input_grad[1:6]):
            with guarded("dual_newton", solved.problem) as guard:
                return vector_jacobian(solved.outcome, dual, grad), *(None,) * 7
            raise BackendError(f"in the gradient: {guard.message}") from guard.error
        with guarded("dual_newton", solved.problem) as guard, torch.enable_grad():
            inputs = [t if t is None or again else t.detach().requires_grad_(True) for t in ctx.saved_tensors]
            outcome = solved.outcome
            assert isinstance(outcome.dual, SimplexDual)
            y = local_scores(outcome, outcome.dual, solved.problem, inputs[0], inputs[1:], again=again)
            wanted = {k: t for k, t in enumerate(inputs) if ctx.needs_input_grad[k] and t is not None}
            found = torch.autograd.grad(y, list(wanted.values()), grad.to(y.dtype), create_graph=again, allow_unused=True)
            out: list[Tensor | None] = [None] * 8
            for (k, source), g in zip(wanted.items(), found, strict=True):
                end = torch.finfo(source.dtype).max
                out[k] = torch.zeros_like(source) if g is None else g.clamp(-end, end)
            return tuple(out)
        raise BackendError(f"in the gradient: {guard.message}") from guard.error


def vector_jacobian(outcome: EntropyOutcome, dual: SimplexDual, grad: Tensor) -> Tensor:
    """J'v (n, C) for v = ``grad`` (n, C):  D'(v - A'K A S v), as of one score a sample (``fairopt.solve.entropy.gradient``)."""
    v = np.ascontiguousarray(grad.detach().to("cpu", F64).numpy())
    asked = dual.asked(outcome.p)
    pull = np.zeros(dual.joint.shape)
    if outcome.piece.index.size:
        passes = kernels()
        sums = np.zeros(dual.joint.shape)
        passes.simplex_pull(*asked, v, sums)
        C = np.asarray(dense(dual.coefficients))
        theta, _ = saddle(outcome, C @ dual.by_cell(sums))
        pull = (theta @ C)[dual.joint]
    out = np.empty_like(v)
    kernels().simplex_back(*asked, v, pull, out)
    end = torch.finfo(grad.dtype).max  # a probability of 1e-300 that rises to 1/2 follows by 1e299
    return torch.from_numpy(out).clamp(-end, end).to(grad.device, grad.dtype)


def second(problem: ProjectionProblem, p: Array, scores: Tensor, grad: Tensor, *, kl: bool) -> Tensor:
    """J'v (n, C) for v = ``grad`` at prices p (m,) of ``scores``, as a function that can be differentiated again."""
    dual, nums = SimplexDual(problem, scores.detach().to("cpu", F64).numpy(), kl=kl), numbers(problem)
    st = structure_of(metric_of(dual, structure_of(structure(problem)), nums))
    evaluation = dual.evaluate(p)
    at = At(read_piece(st, nums, evaluation.f, p), dual.model(evaluation), p)
    y = local_scores(at, dual, problem, scores, [None] * 5, again=True)
    (found,) = torch.autograd.grad(y, scores, grad.to(y.dtype), create_graph=True)
    return found


def local_scores(
    outcome: Prices, dual: SimplexDual, problem: ProjectionProblem, scores: Tensor, limits: list[Tensor | None], *, again: bool
) -> Tensor:
    """(n, C) the projection near its present prices, as a function of scores (n, C) and limits."""
    piece = outcome.piece
    z = scores.to("cpu", F64)
    n, C = z.shape
    A = torch.from_numpy(np.asarray(dense(dual.coefficients)))[torch.from_numpy(piece.index)]  # (k, K)
    cell = problem.rows.cell.reshape(C, n).T  # (n, C)
    mass = None if dual.mass is None else torch.from_numpy(dual.mass)[:, None]
    shift = torch.from_numpy(outcome.p @ np.asarray(dense(dual.coefficients)))  # (K,)
    if piece.index.size:
        default = problem.limits().tensors()
        lower, upper, width, offset, weight = (d if t is None else t.to("cpu", F64) for t, d in zip(limits, default, strict=True))
        none = torch.zeros(1, dtype=F64, device="cpu")
        e = torch.stack([weight[c] if c >= 0 else none[0] for c in piece.caps]) if piece.caps else none[:0]
        ell = local_ell(outcome, problem, lower, upper, width)
        E, gamma = torch.from_numpy(np.asarray(piece.E)), gamma_matrix(outcome, problem, weight)
        theta = torch.from_numpy(outcome.p[piece.index])
        p = theta
        for _ in range(2 if again else 1):
            y, own = _moved(dual, z, (shift + (p - theta) @ A)[cell], mass)
            sums = torch.zeros(A.shape[1], dtype=F64, device="cpu").index_add(0, cell.reshape(-1), y.reshape(-1))
            M = _matrix(dual, own if again else own.detach(), mass, A)
            K, scale = local_saddle(outcome, problem, M, weight if again else weight.detach())
            gap = A @ sums + offset[torch.from_numpy(piece.index)] - ell
            gap = gap if gamma is None else gap - gamma @ p
            step = scale * torch.linalg.solve(K, scale * torch.cat([gap, e - E @ p]))
            p = p + step[: p.shape[0]]
        shift = shift + (p - theta) @ A
    return _moved(dual, z, shift[cell], mass)[0].to(scores.device, scores.dtype)


def _moved(dual: SimplexDual, z: Tensor, s: Tensor, mass: Tensor | None) -> tuple[Tensor, Tensor]:
    """(n, C) y at shifts s (n, C) of the prices, and own (n, C) as in ``SimplexDual.blocks``."""
    s = s if mass is None else s * mass
    if dual.kl:
        y = shifted(z, s)
        return y, y
    return nearest_point(z - s), torch.from_numpy(support((z - s).detach().numpy()).astype(np.float64))


def _matrix(dual: SimplexDual, own: Tensor, mass: Tensor | None, A: Tensor) -> Tensor:
    """(k, k) M of the rows A (k, K)."""
    J, C = dual.joint.shape
    n, code = own.shape[0], torch.from_numpy(dual.code)
    w = torch.ones(n, 1, dtype=F64, device="cpu") if mass is None else mass
    half = own if dual.kl else own / own.sum(1, keepdim=True).sqrt()
    pairs = (w[:, :, None] * half[:, :, None] * half[:, None, :]).reshape(n, C * C)
    diagonal = torch.zeros(J, C, dtype=F64, device="cpu").index_add(0, code, w * own)
    blocks = torch.diag_embed(diagonal) - torch.zeros(J, C * C, dtype=F64, device="cpu").index_add(0, code, pairs).reshape(J, C, C)
    columns = A[:, torch.from_numpy(dual.joint)]  # (k, J, C)
    return torch.einsum("kjc,jcd,ljd->kl", columns, blocks, columns)
