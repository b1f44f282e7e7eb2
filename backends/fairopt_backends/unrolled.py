"""``unrolled``: projected gradient or FISTA on the dual, a fixed number of steps, autograd through the steps.

    p <- prox(p + tau f(y(p))),   y(p) = clip(z - A^T p / w, lb, ub),   tau_k = 1 / (||D^-1/2 G D^-1/2|| G_kk)

Under the Kullback-Leibler divergence the same steps are mirror descent: y(p) is the divergence's own map, which moves log-odds (of class
probabilities the exponents), and G counts by how fast that moves at most.

G = A W^-1 A^T, D its diagonal: rows of large and small groups, or of heavy and light samples, take steps of their own.

Source: the dual is claim L8, its rate claim L10, the error of the unrolled gradient claim L11. Without a box f(y(p)) is affine in
p, so a step costs m^2 whatever n is; with a box a step is one pass over the samples. FISTA restarts its momentum whenever it
points uphill. Constraints are scaled by the norms of their rows, one scale a constraint (one a budget block): the prices are then of
one size.

Prices can stand still before their derivative does: on tied scores they reach the optimum in a few steps, exactly. A differentiated
run therefore carries a shadow, the same steps at scores moved a little, and stops when prices and shadow both stand still.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.range_projection import range_flow
from fairopt.contract.backend import ALL_SOFTNESS, Backend, Capabilities, RawSolution, Status
from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt.solve.passes.kl_map import mapped
from fairopt.solve.simplex.maps import nearest, softmax
from fairopt_backends.adapter import SOLVED, clip, one_of, positive, positive_integer, require_supported
from fairopt_backends.prox import DualProx

STALLED = 4e-16  # a step that moves no price by more than this, relative to the largest, or by more than rounding, moves nothing
SHADOW = 1e-5  # how far the shadow's scores are moved, over the size of the clipped scores
SETTLED = 1e-9  # relative change of the shadow's distance from the prices in a step that counts as none


@dataclass(frozen=True, eq=False)
class Dual:
    """The dual of one problem in scaled rows: f(p) (m,), y(p) (n,), the proximal step and its length for each row."""

    values: Callable[[Tensor], Tensor]
    scores: Callable[[Tensor], Tensor]
    prox: DualProx
    tau: Tensor  # (m,), the same for all linear rows
    scale: Tensor  # (m,): price = scale * p
    noise: Tensor  # (m,): what the rounding of f(p) moves each p by in a step


class Unrolled(Backend):
    """``steps`` of ``method`` ("fista" or "pgd"). Stops early only when nothing moves any more (or within ``solver_tol``)."""

    name: ClassVar[str] = "unrolled"
    capabilities: ClassVar[Capabilities] = Capabilities(
        softness=ALL_SOFTNESS,
        ranges=True,
        ratio_ranges=True,
        gradients=("implicit", "native"),
        accuracy_native_y=1e-5,
        accuracy_native_gradient=1e-3,
        distances=frozenset({"squared", "kl"}),
        outputs=frozenset({"one", "simplex"}),
    )

    def __init__(self, *, steps: int = 2000, method: str = "fista", solver_tol: float | None = None) -> None:
        positive_integer("steps", steps)
        one_of("method", method, ("fista", "pgd"))
        positive("solver_tol", solver_tol)
        self.steps = steps
        self.method = method
        self.solver_tol = solver_tol

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        require_supported(self, problem)
        z = scores.detach().to("cpu", torch.float64)
        if problem.m == 0:
            return RawSolution(clip(z, problem), np.zeros(0))
        with torch.no_grad():
            dual = make_dual(z, problem, problem.limits())
            p, previous, steps = self._iterate(dual)
            y, prices = dual.scores(p), (p * dual.scale).numpy()
            residual = self._residual(dual, p, z, problem)
        threshold = SOLVED if self.solver_tol is None else max(SOLVED, 100 * self.solver_tol)
        if residual <= threshold:
            return RawSolution(y, prices, None, steps)
        direction = ((p - previous) * dual.scale).numpy()
        status = Status.INFEASIBLE if proves_infeasible(problem, direction) else Status.ITERATION_LIMIT
        return RawSolution(y, prices, status, steps, f"residual {residual:.1e} after {steps} steps")

    def solve_native(self, scores: Tensor, problem: ProjectionProblem, limits: Limits) -> Tensor:
        z = scores.to("cpu", torch.float64)
        if problem.m == 0:
            return clip(z, problem)
        dual = make_dual(z, problem, limits)
        with torch.no_grad():
            shadow = make_dual(_beside(z, problem), problem, limits)
        return dual.scores(self._iterate(dual, shadow)[0])

    def _iterate(self, dual: Dual, shadow: Dual | None = None) -> tuple[Tensor, Tensor, int]:
        """The last two iterates and the number of steps. Derivatives converge with the iterates (claim L11): with a ``shadow`` the
        steps end no sooner than its distance from them is settled."""
        p = previous = torch.zeros(dual.scale.shape[0], dtype=torch.float64, device="cpu")
        ahead, momentum, still = p, 1.0, 0
        beside = None if shadow is None else Shadow(shadow, p, p)
        tolerance = STALLED if self.solver_tol is None else self.solver_tol
        for step in range(1, self.steps + 1):
            new = _step(dual, ahead)
            moved, turned = _moved(new, p, ahead, dual.noise)
            previous, p = p, new
            share = 0.0
            if self.method == "fista":
                momentum = 1.0 if turned else momentum
                following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
                share = 0.0 if turned else (momentum - 1) / following
                momentum = following
            ahead = new + share * (new - previous) if share else new
            settled = beside is None or beside.settles(p.detach(), previous.detach(), share)
            still = still + 1 if moved <= tolerance and settled else 0
            if still == 3:
                return p, previous, step
        return p, previous, self.steps

    @staticmethod
    def _residual(dual: Dual, p: Tensor, z: Tensor, problem: ProjectionProblem) -> float:
        """How far p is from a fixed point, in scaled rows, over the size of the clipped scores."""
        moved = ((_step(dual, p) - p) / dual.tau).abs().max()
        return float(moved) / max(float(clip(z, problem).abs().max()), 1e-300)


@dataclass(eq=False)
class Shadow:
    """The iteration at scores a little beside: q - p is the derivative of the prices in that direction, as the steps have it so far.

    It takes the steps' own momentum, which autograd takes for constant too."""

    dual: Dual
    q: Tensor  # (m,)
    ahead: Tensor  # (m,)

    @torch.no_grad()
    def settles(self, p: Tensor, previous: Tensor, share: float) -> bool:
        """One step; whether it left q - p as it was. ``p``, ``previous`` (m,): the prices after and before the same step."""
        new = _step(self.dual, self.ahead)
        apart, before = new - p, self.q - previous
        self.ahead = new + share * (new - self.q) if share else new
        self.q = new
        return float((apart - before).abs().max()) <= SETTLED * float(apart.abs().max()) + SHADOW * SETTLED * float(p.abs().max())


def _step(dual: Dual, ahead: Tensor) -> Tensor:
    return dual.prox(ahead + dual.tau * dual.values(ahead), dual.tau)


def _beside(z: Tensor, problem: ProjectionProblem) -> Tensor:
    """(n,) scores moved by SHADOW times their clipped size, in one fixed direction that no group or row is blind to."""
    z = z.detach()
    direction = torch.from_numpy(np.random.default_rng(0).standard_normal(z.shape[0]))
    return z + SHADOW * float(clip(z, problem).abs().max()) * direction


def _moved(new: Tensor, p: Tensor, ahead: Tensor, noise: Tensor) -> tuple[float, bool]:
    """How far the step went beyond ``noise``, relative to the prices, and whether it turned against the momentum (gradient restart)."""
    a, b, c = new.detach(), p.detach(), ahead.detach()
    size = float(a.abs().max())
    moved = float(torch.relu((a - b).abs() - noise).max())
    return (moved / size if size > 0 else moved), bool(torch.dot(c - a, a - b) > 0)


def make_dual(z: Tensor, problem: ProjectionProblem, limits: Limits) -> Dual:
    """The scaled dual of the projection of ``z`` (n,) float64; differentiable to z and limits."""
    values, scores, gram = _maps(z, problem, limits.offset)
    norm = np.sqrt(np.maximum(np.diag(gram), 0.0))
    groups = _groups(problem)
    unit = np.ones(problem.m)
    for rows, _ in groups:
        largest = float(norm[rows].max())
        unit[rows] = 1.0 / largest if largest > 0 else 1.0
    u = torch.from_numpy(unit)
    tau = torch.from_numpy(_steps(unit[:, None] * gram * unit))
    size = float(clip(z.detach(), problem).abs().max()) * problem.rows.absolute_sum + np.abs(problem.rows.offset)  # (m,) of the row values
    noise = STALLED * tau * u * torch.from_numpy(size)
    return Dual(lambda p: u * values(u * p), lambda p: scores(u * p), _prox(problem, limits, unit, groups), tau, u, noise)


def _steps(gram: Array) -> Array:
    """(m,) 1 / (||D^-1/2 G D^-1/2|| D), D the diagonal of G (m, m); a row without samples counts as 1."""
    diagonal = np.diag(gram)
    d = np.where(diagonal > 1e-12 * diagonal.max(initial=0.0), diagonal, 1.0)
    root = np.sqrt(d)
    largest = float(np.linalg.eigvalsh(gram / root / root[:, None])[-1])
    return np.asarray(1.0 / (d * largest) if largest > 0 else 1.0 / d)


def _groups(problem: ProjectionProblem) -> list[tuple[IntArray, tuple[int, ...]]]:
    """Rows that share one scale, and their constraints: a linear row, a range, a budget block."""
    blocks: dict[int, list[int]] = {}
    for k, softness in enumerate(problem.softness):
        blocks.setdefault(softness.block if softness.kind == "budget" else -1 - k, []).append(k)
    return [(np.concatenate([_rows_of(problem, k) for k in members]), tuple(members)) for members in blocks.values()]


def _rows_of(problem: ProjectionProblem, constraint: int) -> IntArray:
    if constraint < problem.linear:
        return np.array([constraint], dtype=np.int64)
    rows = problem.range_slices[constraint - problem.linear]
    return np.arange(rows.start, rows.stop, dtype=np.int64)


def _prox(problem: ProjectionProblem, limits: Limits, unit: Array, groups: list[tuple[IntArray, tuple[int, ...]]]) -> DualProx:
    """Limits in scaled rows: f -> unit f, hence rho -> rho / unit and gamma -> gamma / unit^2."""
    scale = np.array([unit[_rows_of(problem, k)[0]] for k in range(problem.linear + problem.ranges)])
    s = torch.from_numpy(scale)
    kinds = np.array([softness.kind for softness in problem.softness])
    infinite = torch.full((len(kinds),), float("inf"), dtype=torch.float64, device="cpu")
    cap = torch.where(torch.from_numpy(kinds == "priced"), limits.softness_weight / s, infinite)
    quadratic = torch.from_numpy(kinds == "quadratic")
    gamma = torch.where(quadratic, limits.softness_weight, torch.ones_like(infinite))
    slope = torch.where(quadratic, s**2 / gamma, torch.zeros_like(infinite))
    budget = tuple(
        (members, limits.softness_weight[members[0]] / s[members[0]])
        for _, members in groups
        if problem.softness[members[0]].kind == "budget"
    )
    linear = problem.linear
    return DualProx(problem, limits.lower * s[:linear], limits.upper * s[:linear], limits.width * s[linear:], cap, slope, budget)


def _maps(z: Tensor, problem: ProjectionProblem, offset: Tensor) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], Array]:
    """values(p) = A y(p) + offset, scores(p) = y(p), and the Gram matrix A W^-1 A^T (m, m)."""
    rows = problem.rows
    inverse = torch.ones(problem.n, dtype=torch.float64, device="cpu") if problem.weights is None else 1.0 / problem.weights
    coefficients = torch.from_numpy(np.asarray(rows.coefficients))  # (m, C)
    cells = coefficients.shape[1]
    dense_rows = torch.from_numpy(rows.dense_rows)
    plain = problem.distance == "squared" and problem.classes == 1

    def back(p: Tensor) -> Tensor:  # A^T p (n,)
        shift = (p @ coefficients).index_select(0, rows.cell)
        return shift if rows.dense is None else shift + p[dense_rows] @ rows.dense

    def forth(y: Tensor) -> Tensor:  # A y (m,)
        f = coefficients @ torch.zeros(cells, dtype=torch.float64, device="cpu").index_add(0, rows.cell, y)
        return f if rows.dense is None else f.index_add(0, dense_rows, rows.dense @ y)

    def scores(p: Tensor) -> Tensor:
        return clip(z - back(p) * inverse, problem) if plain else moved(problem, z, back(p) * inverse)

    sums = torch.zeros(cells, dtype=torch.float64, device="cpu").index_add(0, rows.cell, inverse)
    gram = (coefficients * sums) @ coefficients.T
    if rows.dense is not None:
        matrix = rows.matrix()
        gram = (matrix * inverse) @ matrix.T
    if problem.has_box or not plain:
        return lambda p: forth(scores(p)) + offset, scores, fastest(problem) * gram.numpy()
    start = forth(z) + offset
    return lambda p: start - gram @ p, scores, gram.numpy()


def fastest(problem: ProjectionProblem) -> float:
    """The most that y moves for a shift of 1: what bounds the curvature of the dual."""
    return {"kl": 0.25, "kl_positive": 0.5, "squared": 1.0}[problem.distance]  # of softmax 1/2


def moved(problem: ProjectionProblem, z: Tensor, s: Tensor) -> Tensor:
    """(n,) y at shifts s (n,) under another map than clipping, without a gradient."""
    a, b = z.detach().numpy(), s.detach().numpy()
    if problem.classes == 1:
        return clip(torch.from_numpy(mapped(problem.distance, a, b)), problem)
    a, b = a.reshape(problem.classes, -1).T, b.reshape(problem.classes, -1).T
    y = softmax(a, b) if problem.distance == "kl_positive" else nearest(a - b)
    return torch.from_numpy(np.ascontiguousarray(y.T)).reshape(-1)


def proves_infeasible(problem: ProjectionProblem, direction: Array) -> bool:
    """Whether prices v prove that no y in the box meets the hard rows:  min over the box of v (A y + offset) > support of the limits at v.

    Soft rows are met by paying, so v is 0 there. Rounding of A^T v below 1e-9 of its terms counts as 0: open bounds would turn it
    into minus infinity.
    """
    v = direction.copy()
    for k, softness in enumerate(problem.softness):
        if softness.kind != "hard":
            v[_rows_of(problem, k)] = 0.0
    size = float(np.abs(v).max(initial=0.0))
    if size == 0.0:
        return False
    v /= size
    for rows, ratio in zip(problem.range_slices, problem.ratio.tolist(), strict=True):
        v[rows] = v[rows] - v[rows].mean() if ratio == 1.0 else _in_domain(v[rows], ratio)
    a = problem.rows.matrix().numpy()
    slope, terms = v @ a, np.abs(v) @ np.abs(a)
    slope = np.where(np.abs(slope) <= 1e-9 * terms.max(initial=0.0), 0.0, slope)
    lb, ub = (np.broadcast_to(b.numpy() if isinstance(b, Tensor) else b, slope.shape) for b in (problem.lb, problem.ub))
    worst = np.where(slope > 0, lb, ub)
    least = float(np.sum(slope[slope != 0] * worst[slope != 0])) + float(v @ problem.rows.offset)
    linear = v[: problem.linear]
    limit = np.where(linear > 0, problem.upper, problem.lower)
    used = linear != 0
    support = float(np.sum(linear[used] * limit[used]))
    ranges = zip(problem.width.tolist(), problem.range_slices, problem.ratio.tolist(), strict=True)
    support += sum(width * range_flow(v[rows], ratio) for width, rows, ratio in ranges)
    return bool(least - support > 1e-9 * (1 + abs(least) + abs(support)))


def _in_domain(v: Array, ratio: float) -> Array:
    """(K,) prices of a range with a ratio below 1: positive parts shrunk to ratio times the negative ones where they are more."""
    up, down = float(np.clip(v, 0, None).sum()), float(np.clip(-v, 0, None).sum())
    return np.asarray(np.where(v > 0, v * min(1.0, ratio * down / up), v)) if up > 0 else v
