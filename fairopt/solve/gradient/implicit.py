"""The gradient of the projection, from its optimality conditions: one small linear system whatever the solver was.

With F the samples off their bounds and (theta, nu) = K^+ [A W^-1 D_F v; 0], K the saddle matrix of the active piece
(``fairopt.solve.dual.active_piece``):

    J'v            = D_F (v - A' theta)                    to the scores (claim L4)
    d / d limit    = theta on the rows where it binds;  d / d offset = -theta
    d / d rho      = -nu of the cap;                       d / d gamma = -(q_v q) / gamma^2,  q the price or flow

At ties, where the active set is not unique, this is the derivative of one of the adjoining pieces; it is always finite.
Second and higher derivatives go through ``local_solution``: the same piece as a differentiable function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError
from fairopt.basics.sparse import Diagonal, row_of_columns
from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt.solve.dual.active_piece import Piece, gamma_pattern
from fairopt.solve.dual.bordered import Model
from fairopt.solve.dual.chunked import SlicedDual
from fairopt.solve.dual.evaluator import VectorDual
from fairopt.solve.dual.separable import Quadratic, SeparableInverse
from fairopt.solve.dual.structure import structure
from fairopt.solve.finish.finish import Outcome
from fairopt.solve.finish.rounding import to_cell_order, to_sample_order
from fairopt.solve.guard import guarded
from fairopt.solve.transforms import batched, refuse_transforms, row_by_row
from fairopt.solve.units import Units

LimitGradients = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None]


class Prices(Protocol):
    """What the system of a piece is made of: an ``Outcome`` of any map from prices to scores."""

    @property
    def piece(self) -> Piece: ...
    @property
    def model(self) -> Model: ...
    @property
    def p(self) -> Array: ...


@dataclass(eq=False)
class _Solved:
    """What the gradient needs of one solve. The outcome is one of ``units.problem`` where there are units."""

    outcome: Outcome
    problem: ProjectionProblem
    units: Units | None
    backend: str

    @property
    def own(self) -> ProjectionProblem:
        """The problem that the outcome is of."""
        return self.problem if self.units is None else self.units.problem


def attach(
    scores: Tensor, limits: Limits | None, outcome: Outcome, problem: ProjectionProblem, y: Tensor, units: Units | None, backend: str
) -> Tensor:
    """The returned scores y (n,), connected to ``scores`` (n,) and to the limits."""
    tensors = limits.tensors() if limits is not None else (None,) * 5
    attached: Tensor = _Implicit.apply(scores, *tensors, y, _Solved(outcome, problem, units, backend))  # type: ignore[no-untyped-call]
    return attached


class _Implicit(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, lower: Any, upper: Any, width: Any, offset: Any, weight: Any, y: Tensor, solved: _Solved
    ) -> Tensor:
        ctx.save_for_backward(scores, lower, upper, width, offset, weight)
        ctx.solved = solved
        return y.detach()  # another tensor: the node must not hold its own output, a cycle that only the collector frees

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (grad,) = gradients
        scores, *limits = ctx.saved_tensors
        if batched(grad):
            if any(ctx.needs_input_grad[1:6]):
                refuse_transforms(grad, "the gradient of the scores, beside tolerances that are tensors")
            return (row_by_row(grad, lambda row: _Implicit.backward(ctx, row)[0]), *(None,) * 7)
        solved: _Solved = ctx.solved
        with guarded(solved.backend, solved.problem) as guard:
            if torch.is_grad_enabled():
                return (*_differentiable(ctx, grad, scores, limits), None, None)
            needs = ctx.needs_input_grad
            to_scores, theta, nu = vector_jacobian(solved.outcome, solved.own, grad)
            to_limits: tuple[Tensor | None, ...] = (None,) * 5
            if any(needs[1:6]):
                to_limits = limit_gradients(solved.outcome, solved.own, theta, nu)
                if solved.units is not None:
                    to_limits = solved.units.gradients(to_limits)
            wanted = (g if need else None for g, need in zip(to_limits, needs[1:6], strict=True))
            return (to_scores if needs[0] else None, *wanted, None, None)
        raise BackendError(f"in the gradient: {guard.message}") from guard.error


def _differentiable(ctx: Any, grad: Tensor, scores: Tensor, limits: list[Tensor | None]) -> tuple[Tensor | None, ...]:
    """First derivatives that can be differentiated again."""
    inputs = [scores, *limits]
    solved: _Solved = ctx.solved
    at = inputs if solved.units is None else _in_units(solved, scores, limits)
    y = local_solution(solved.outcome, solved.own, at[0], at[1:])  # type: ignore[arg-type]
    wanted = {k: t for k, t in enumerate(at) if ctx.needs_input_grad[k] and t is not None}
    found = torch.autograd.grad(y, list(wanted.values()), grad.to(y.dtype), create_graph=True, allow_unused=True)
    out: list[Tensor | None] = [None] * len(inputs)
    for (k, source), g in zip(wanted.items(), found, strict=True):
        out[k] = torch.zeros_like(source) if g is None else g
    if solved.units is not None:
        out[1:] = solved.units.gradients(out[1:])
        out[0] = None if out[0] is None else out[0].to(scores.dtype)
    return tuple(out)


def _in_units(solved: _Solved, scores: Tensor, limits: list[Tensor | None]) -> list[Tensor | None]:
    """The scores and limits in the units of the solve, connected. A derivative of y to the scores is the same in all units."""
    assert solved.units is not None
    default = solved.problem.limits().tensors()
    full = Limits(*(d if t is None else t.to("cpu", torch.float64) for t, d in zip(limits, default, strict=True)))
    scaled = solved.units.limits(full).tensors()
    return [solved.units.into(scores.to(torch.float64)), *(None if t is None else s for t, s in zip(limits, scaled, strict=True))]


def vector_jacobian(outcome: Outcome, problem: ProjectionProblem, grad: Tensor) -> tuple[Tensor, Array, Array]:
    """J'v for v = ``grad`` (n,), with theta (m,) and nu (q,) of the saddle system."""
    dual, piece = outcome.dual, outcome.piece
    if isinstance(dual, SlicedDual):
        return _sliced(outcome, problem, dual, grad)
    assert isinstance(dual, VectorDual)
    order = problem.rows.order.numpy()
    plain = grad.device.type == "cpu" and grad.dtype in (torch.float32, torch.float64)
    v = (grad.detach().numpy() if plain else grad.detach().to("cpu", torch.float64).numpy())[order].astype(np.float64, copy=False)
    free = free_samples(outcome, problem)
    masked = v if free is None else v * free
    if piece.index.size == 0:
        theta, nu = np.zeros(problem.m), np.zeros(0)
        out = masked
    else:
        mass = masked if dual.inverse_weight is None else masked * dual.inverse_weight
        r = dual.coefficients @ np.add.reduceat(mass, dual.starts)  # (m,)
        if dual.dense is not None:
            r[problem.rows.dense_rows] += dual.dense @ mass
        theta, nu = saddle(outcome, r)
        shift = np.repeat(theta @ dual.coefficients, dual.counts)
        if dual.dense is not None:
            shift += theta[problem.rows.dense_rows] @ dual.dense
        out = masked - (shift if free is None else shift * free)
    if grad.dtype == torch.float32:
        out = out.astype(np.float32)
    result = torch.from_numpy(out[problem.rows.inverse_order.numpy()])
    return result if plain else result.to(grad.device, grad.dtype), theta, nu


def _sliced(outcome: Outcome, problem: ProjectionProblem, dual: SlicedDual, grad: Tensor) -> tuple[Tensor, Array, Array]:
    v = to_cell_order(grad.detach(), problem)
    y, boxed, searched = outcome.plain, problem.has_box, outcome.piece.index.size > 0
    theta, nu = np.zeros(problem.m), np.zeros(0)
    if searched:
        sums = np.zeros(len(dual.active))
        for c, a, b in dual.bounds:
            if dual.active[c]:
                part = _masked(v[a:b], y[a:b], *dual._limits(a, b)) if boxed else v[a:b]
                part = part if dual.weights is None else part / dual.weights[a:b]
                sums[c] += float(part.sum(dtype=torch.float64))
        theta, nu = saddle(outcome, dual.coefficients @ sums)
    shifts = (theta @ dual.coefficients).tolist()
    for c, a, b in dual.bounds:
        part = v[a:b] if shifts[c] == 0.0 else v[a:b].sub_(shifts[c])
        if boxed:
            part.copy_(_masked(part, y[a:b], *dual._limits(a, b)))
    return to_sample_order(v, problem), theta, nu


def _masked(v: Tensor, y: Tensor, lb: float | Tensor, ub: float | Tensor) -> Tensor:
    """v on the samples off their bounds, 0 elsewhere."""
    if isinstance(lb, float) and isinstance(ub, float):
        masked: Tensor = torch.ops.aten.hardtanh_backward(v.contiguous(), y, lb, ub)  # one pass, no branches
        return masked
    return v * ((y > lb) & (y < ub))


def free_samples(outcome: Outcome, problem: ProjectionProblem) -> Array | None:
    """(n,) in cell order: 1.0 for samples off their bounds, else 0.0; None without a box."""
    if not problem.has_box:
        return None
    dual = outcome.dual
    assert isinstance(dual, VectorDual)
    y = outcome.plain.numpy()  # float64, as this evaluator makes them
    return ((y > dual.lb) & (y < dual.ub)).astype(np.float64)


def saddle(outcome: Prices, r: Array) -> tuple[Array, Array]:
    piece = outcome.piece
    k = piece.index.size
    inverse = piece.inverse(outcome.model)
    solved = inverse @ np.concatenate([r[piece.index], np.zeros(piece.E.shape[0])])
    if not np.isfinite(solved).all():  # rows beyond float64, of an answer that is not granted: the derivative in the box alone
        solved = np.zeros_like(solved)
    theta = np.zeros(piece.m)
    theta[piece.index] = solved[:k]
    return theta, solved[k:]


def limit_gradients(outcome: Prices, problem: ProjectionProblem, theta: Array, nu: Array) -> LimitGradients:
    """Gradients to lower (L,), upper (L,), width (R,), offset (m,) and softness_weight (L + R,)."""
    piece = outcome.piece
    L, R = problem.linear, problem.ranges
    signs = np.zeros(piece.m)
    signs[piece.index] = piece.signs
    upper = np.where(signs[:L] > 0, theta[:L], 0.0)
    lower = np.where(signs[:L] < 0, theta[:L], 0.0)
    shares = np.zeros(piece.m)
    shares[piece.index] = piece.shares
    width = np.array([shares[rows] @ theta[rows] for rows in problem.range_slices])
    weight = np.zeros(L + R)
    for equation, constraint in enumerate(piece.caps):
        if constraint >= 0:
            weight[constraint] -= nu[equation]
    p = outcome.p
    for k, softness in enumerate(problem.softness):
        if softness.kind == "quadratic":
            part = slice(k, k) if k < L else problem.range_slices[k - L]
            product = float(theta[k] * p[k] * (signs[k] != 0)) if k < L else float((shares[part] @ theta[part]) * (shares[part] @ p[part]))
            weight[k] -= product / softness.weight**2
    arrays = (lower, upper, width if R else np.zeros(0), -theta, weight)
    return tuple(torch.from_numpy(np.ascontiguousarray(a, dtype=np.float64)) for a in arrays)  # type: ignore[return-value]


def local_solution(outcome: Outcome, problem: ProjectionProblem, scores: Tensor, limits: list[Tensor | None]) -> Tensor:
    """(n,) the projection on its present piece, as a differentiable function of the scores and limits (any order)."""
    piece, rows = outcome.piece, problem.rows
    f64 = torch.float64
    inverse_order = rows.inverse_order
    y0 = outcome.plain.detach().to("cpu", f64)[inverse_order]
    z = scores.to("cpu", f64)
    free = ((y0 > problem.lb) & (y0 < problem.ub)).to(f64) if problem.has_box else torch.ones_like(y0)
    mass = free if problem.weights is None else free / problem.weights
    base = free * z + (1 - free) * y0
    k = piece.index.size
    if k == 0:
        return base.to(scores.dtype).to(scores.device)
    default = problem.limits().tensors()
    lower, upper, width, offset, weight = (d if t is None else t.to("cpu", f64) for t, d in zip(limits, default, strict=True))
    gap = offset[torch.from_numpy(piece.index)] - local_ell(outcome, problem, lower, upper, width)
    none = torch.zeros(1, dtype=f64, device="cpu")
    e = torch.stack([weight[c] if c >= 0 else none[0] for c in piece.caps]) if piece.caps else none[:0]
    moves = _separable_moves if isinstance(outcome.model, Diagonal) else _moves
    y: Tensor = base - mass * moves(outcome, problem, (base, mass), (gap, e), weight)
    return y.to(scores.dtype).to(scores.device)


def _moves(
    outcome: Outcome, problem: ProjectionProblem, samples: tuple[Tensor, Tensor], ends: tuple[Tensor, Tensor], weight: Tensor
) -> Tensor:
    """(n,) A' theta on the piece. ``samples``: the scores at price 0 and 1 / w of the free ones; ``ends``: (offset - ell, e)."""
    A = problem.rows.matrix()[torch.from_numpy(outcome.piece.index)]  # (k, n)
    base, mass = samples
    K, scale = local_saddle(outcome, problem, (A * mass) @ A.T, weight)
    solved = scale * torch.linalg.solve(K, scale * torch.cat([A @ base + ends[0], ends[1]]))
    moves: Tensor = A.T @ solved[: A.shape[0]]
    return moves


class _Inverse(torch.autograd.Function):
    """A symmetric inverse times a vector, of which any derivative is the same again."""

    @staticmethod
    def forward(ctx: Any, rhs: Tensor, inverse: SeparableInverse) -> Tensor:
        ctx.inverse = inverse
        return torch.from_numpy(inverse @ rhs.detach().numpy())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Inverse.apply(gradients[0], ctx.inverse), None  # type: ignore[no-untyped-call]


def _separable_moves(
    outcome: Outcome, problem: ProjectionProblem, samples: tuple[Tensor, Tensor], ends: tuple[Tensor, Tensor], weight: Tensor
) -> Tensor:
    """As ``_moves`` where no sample is in two of many rows; derivatives up to the third where gamma moves, else any."""
    piece, rows = outcome.piece, problem.rows
    inverse = piece.inverse(outcome.model)
    assert isinstance(inverse, SeparableInverse)
    row, factor = row_of_columns(rows.coefficients)
    place = np.full(piece.m + 1, -1, dtype=np.int64)
    place[piece.index] = np.arange(piece.index.size)
    of_cell = torch.from_numpy(place[row])  # (C,) the active row that counts each cell
    active = (of_cell >= 0)[rows.cell]
    at, a = of_cell.clamp(min=0)[rows.cell], torch.from_numpy(factor)[rows.cell] * active
    rhs = torch.cat([ends[0].index_add(0, at, a * samples[0]), ends[1]])

    def solve(x: Tensor) -> Tensor:
        solved: Tensor = _Inverse.apply(x, inverse)  # type: ignore[no-untyped-call]
        return solved

    solved = solve(rhs)
    quadratic = piece.gamma_inverse
    if isinstance(quadratic, Quadratic) and weight.requires_grad:
        flows = quadratic.flows
        group, entry = torch.from_numpy(flows.row_of), torch.from_numpy(flows.index)
        values = torch.from_numpy(flows.values)
        owners = torch.from_numpy(piece.owner[flows.index[flows.starts[:-1]]])
        change = 1.0 / weight[owners] - torch.from_numpy(quadratic.inverse)  # 0, with the gradient of gamma
        for _ in range(3):  # each makes one derivative more exact
            flow = torch.zeros_like(change).index_add(0, group, values * solved[entry])
            solved = solve(rhs - torch.zeros_like(rhs).index_add(0, entry, values * (change * flow)[group]))
    moves: Tensor = a * solved[at]
    return moves


def local_ell(outcome: Prices, problem: ProjectionProblem, lower: Tensor, upper: Tensor, width: Tensor) -> Tensor:
    """(k,) the limits of the active rows."""
    piece, L = outcome.piece, problem.linear
    split = int(np.searchsorted(piece.index, L))
    linear = torch.from_numpy(piece.index[:split])
    of_range = torch.from_numpy(structure(problem).owner[piece.index[split:]] - L)
    rows = torch.where(torch.from_numpy(piece.signs[:split]) > 0, upper[linear], lower[linear])
    return torch.cat([rows, torch.from_numpy(piece.shares[split:]) * width[of_range]])


def gamma_matrix(outcome: Prices, problem: ProjectionProblem, weight: Tensor) -> Tensor | None:
    """(k, k) the second derivative of the quadratic softness in the prices of the active rows, with gamma differentiable."""
    piece, st = outcome.piece, structure(problem)
    shares = np.zeros(piece.m)
    shares[piece.index] = np.where(piece.index < problem.linear, 1.0, piece.shares)
    total: Tensor | None = None
    for c, softness in enumerate(problem.softness):
        if softness.kind == "quadratic":
            pattern = gamma_pattern(st, shares, c)[np.ix_(piece.index, piece.index)]
            if pattern.any():
                part = torch.from_numpy(pattern) / weight[c]
                total = part if total is None else total + part
    return total


def local_saddle(outcome: Prices, problem: ProjectionProblem, M: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The saddle matrix with gamma differentiable, scaled by the second tensor (k + q,) from both sides, and made regular on its null
    space (redundant rows), where nothing depends on it."""
    piece, gamma = outcome.piece, gamma_matrix(outcome, problem, weight)
    q = piece.E.shape[0]
    M = M if gamma is None else M + gamma
    E = torch.from_numpy(np.asarray(piece.E))
    K = torch.cat([torch.cat([M, E.T], 1), torch.cat([E, torch.zeros(q, q, dtype=torch.float64, device="cpu")], 1)], 0)
    scale = torch.from_numpy(piece.scale(M.detach().diagonal().numpy()))
    scaled = K * scale * scale[:, None]
    values, vectors = torch.linalg.eigh(scaled.detach())
    null = vectors[:, values.abs() <= 1e-12 * values.abs().max()]
    return (scaled + null @ null.T if null.shape[1] else scaled), scale
