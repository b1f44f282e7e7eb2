"""The dual on slices of a torch tensor: cells one after the other, float64 sums, no temporaries of size n, any device.

clip(z - t, lb, ub) = clip(z, lb + t, ub + t) - t, so that a pass over a cell reads its scores and writes nothing but one chunk that
stays in the cache. lb + t is rounded to the dtype of the scores; what that moves the clamped ones by is known and taken back.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.basics.sparse import absolute
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.evaluator import Dual, Evaluation, Transition, VectorDual, VectorPlan, round_inward

SAMPLE = 12_000  # scores from which the prices are first guessed
INF = float("inf")
WIDE = 64.0  # bounds so many times as large as typical scores say nothing about their size


@dataclass(frozen=True, eq=False)
class SlicedPlan:
    """Box and weights in cell order, in the dtype and on the device of the scores; kept with the problem. Wide weights are float64.

    bounds: (cell, start, stop) of each chunk; active (C,): cells that some row counts; open_slope (C,) sum of 1 / w
    """

    bounds: tuple[tuple[int, int, int], ...]
    lb: float | Tensor
    ub: float | Tensor
    weights: Tensor | None
    active: BoolArray
    open_slope: Array
    sample: IntArray | None


def cell_sums(y: Tensor, starts: IntArray) -> Array:
    """(C,) float64 sums of the cells of ``y`` (n,) in cell order, float32 or float64; ``starts`` (C + 1,)."""
    if y.device.type == "cpu" and y.dtype in (torch.float32, torch.float64):
        return np.asarray(np.add.reduceat(y.detach().numpy(), starts[:-1], dtype=np.float64))
    bounds = starts.tolist()
    return np.array([float(y[a:b].sum(dtype=torch.float64)) for a, b in pairwise(bounds)])


def sliced_plan(problem: ProjectionProblem, like: Tensor) -> SlicedPlan:
    return problem.workspace.keep(("sliced plan", like.dtype, like.device), lambda: _sliced_plan(problem, like))


def _sliced_plan(problem: ProjectionProblem, like: Tensor) -> SlicedPlan:
    rows = problem.rows
    order, starts = rows.order, rows.starts.tolist()
    weights = None if problem.weights is None else problem.weights[order]
    size = SlicedDual.CHUNK if like.device.type == "cpu" else problem.n
    return SlicedPlan(
        tuple((c, k, min(k + size, b)) for c, (a, b) in enumerate(pairwise(starts)) for k in range(a, b, size)),
        _bound(problem.lb, order, like, up=True),
        _bound(problem.ub, order, like, up=False),
        None if weights is None else weights.to(like) if _fits(weights) else weights.to(like.device),
        np.asarray(absolute(rows.coefficients).sum(0) != 0),
        rows.counts.astype(np.float64) if weights is None else np.add.reduceat(1.0 / weights.numpy(), rows.starts[:-1]),
        _strided(rows.counts, rows.starts) if problem.has_box and problem.n > 3 * SAMPLE else None,
    )


class SlicedDual(Dual):
    """``z`` (n,) in cell order, any float dtype and device; no dense rows."""

    CHUNK = 1 << 16
    large = True

    def __init__(self, problem: ProjectionProblem, z: Tensor) -> None:
        super().__init__(problem)
        self.z = z
        plan = self.plan = sliced_plan(problem, z)
        self.bounds, self.active = plan.bounds, plan.active
        self.lb, self.ub, self.weights = plan.lb, plan.ub, plan.weights
        self.precision = z.dtype
        self.has_box = problem.has_box
        self._vector: VectorDual | None = None
        self._base: Array | None = None  # (C,) sums of z
        if z.dtype != torch.float64:
            self.resolution = 1e-3 * torch.finfo(z.dtype).eps  # scores are rounded to a thousand times this

    def _limits(self, a: int, b: int) -> tuple[float | Tensor, float | Tensor]:
        lb = self.lb[a:b] if isinstance(self.lb, Tensor) else self.lb
        ub = self.ub[a:b] if isinstance(self.ub, Tensor) else self.ub
        return lb, ub

    def values_of(self, y: Tensor) -> Array:
        rows = self.problem.rows
        return np.asarray(rows.coefficients @ cell_sums(y, rows.starts) + rows.offset)

    # -- sums and slopes -----------------------------------------------------------------------------------------------------

    def cells(self, shift: Array) -> tuple[Array, Array]:
        if not self.has_box:
            if self._base is None:
                self._base = self._sums()
            return self._base - shift * self.plan.open_slope, self.plan.open_slope
        if self.weights is None and isinstance(self.lb, float) and isinstance(self.ub, float) and self.z.device.type == "cpu":
            return self._uniform(shift.tolist(), self.lb, self.ub)
        return self._general(shift.tolist())

    def _sums(self) -> Array:
        return cell_sums(self.z, self.problem.rows.starts)

    def _uniform(self, shift: list[float], lb: float, ub: float) -> tuple[Array, Array]:
        """One box for all, weights 1: a clamp, a sum and two counts for each chunk."""
        z, zn, single = self.z, self.z.numpy(), self.z.dtype == torch.float32
        sums = [0.0] * len(shift)
        slope = np.where(self.active, 0.0, self.plan.open_slope).tolist()  # cells that no row counts are not looked at
        active = self.active.tolist()
        for c, a, b in self.bounds:
            if not active[c]:
                continue
            t = shift[c]
            low, high = lb + t, ub + t
            if single:
                low, high = float(np.float32(low)), float(np.float32(high))
            total = float(torch.clamp(z[a:b], low, high).sum(dtype=torch.float64)) - t * (b - a)
            clamped = 0
            if low != -INF:
                below = int(np.count_nonzero(zn[a:b] <= low))
                total += below * (lb + t - low)
                clamped += below
            if high != INF:
                above = int(np.count_nonzero(zn[a:b] >= high))
                total += above * (ub + t - high)
                clamped += above
            sums[c] += total
            slope[c] += max(0, b - a - clamped)
        return np.array(sums), np.array(slope)

    def _general(self, shift: list[float]) -> tuple[Array, Array]:
        C = len(shift)
        active = self.active.tolist()
        used = [(c, a, b) for c, a, b in self.bounds if active[c]]
        parts: list[Tensor] = []
        for c, a, b in used:
            lb, ub = self._limits(a, b)
            x = self._moved(a, b, shift[c], torch.float64)  # float32 would leave noise that Newton chases
            free = (x > lb) & (x < ub)
            mass = free.sum(dtype=torch.float64) if self.weights is None else (free / self.weights[a:b]).sum(dtype=torch.float64)
            parts += [_clip(x, lb, ub).sum(dtype=torch.float64), mass]
        sums, slope = np.zeros(C), np.where(self.active, 0.0, self.plan.open_slope)
        if used:
            both = torch.stack(parts).cpu().numpy().reshape(-1, 2)
            cell = np.array([c for c, _, _ in used])
            np.add.at(sums, cell, both[:, 0])
            np.add.at(slope, cell, both[:, 1])
        return sums, slope

    def evaluate(self, p: Array) -> Evaluation:
        sums, slope = self.cells(p @ self.coefficients)
        return Evaluation(self.coefficients @ sums + self.offset, slope)

    # -- scores --------------------------------------------------------------------------------------------------------------

    def _moved(self, a: int, b: int, t: float, dtype: torch.dtype) -> Tensor:
        """(b - a,) z - t / w, before clamping."""
        z = self.z[a:b].to(dtype)
        if t == 0.0:
            return z
        if self.weights is None:
            return z - t
        return torch.addcdiv(z, torch.full((), -t, dtype=dtype, device=z.device), self.weights[a:b].to(dtype))

    def scores(self, p: Array) -> Tensor:
        shift = (p @ self.coefficients).tolist()
        out = torch.empty_like(self.z)
        for c, a, b in self.bounds:
            lb, ub = self._limits(a, b)
            x = torch.sub(self.z[a:b], shift[c], out=out[a:b]) if self.weights is None else self._moved(a, b, shift[c], self.weights.dtype)
            if not self.has_box:
                if self.weights is not None:
                    out[a:b].copy_(x)
            elif isinstance(lb, float) and isinstance(ub, float):
                torch.clamp(x, lb, ub, out=out[a:b])
            else:
                out[a:b].copy_(_clip(x, lb, ub))
        return out

    # -- the rest ------------------------------------------------------------------------------------------------------------

    def sampled(self) -> VectorDual | None:
        """Every so manyeth score of each cell, standing for the others: about SAMPLE of them. None where that saves nothing."""
        if self.plan.sample is None:
            return None
        index = self.plan.sample
        problem = self.problem
        plan, scale, positions = problem.workspace.keep("sampled plan", lambda: _sampled_plan(problem, index))
        z = self.z[positions.to(self.z.device)].to("cpu", torch.float64).numpy()
        return VectorDual(problem, z, plan, scale)

    def vector(self) -> VectorDual:
        if self._vector is None:
            self._vector = VectorDual(self.problem, self.z.to("cpu", torch.float64).numpy())
        return self._vector

    def magnitude(self) -> float:
        if isinstance(self.lb, float) and isinstance(self.ub, float) and self.lb > -INF and self.ub < INF:
            bound = max(abs(self.lb), abs(self.ub))
            some = self.z[:: max(1, self.z.shape[0] // 64)].abs().max()
            if bound <= WIDE * float(some):  # a wide box says nothing
                return bound
        low, high = torch.aminmax(_clip(self.z, self.lb, self.ub) if self.has_box else self.z)
        return max(abs(float(low)), abs(float(high)))

    def transition(self) -> Transition:
        C = len(self.active)
        low, high, span = np.full(C, np.inf), np.full(C, -np.inf), np.zeros(C)
        for c, a, b in self.bounds:
            z, (lb, ub) = self.z[a:b], self._limits(a, b)
            w = 1.0 if self.weights is None else self.weights[a:b]
            low[c] = min(low[c], float((w * (z - ub)).min()))
            high[c] = max(high[c], float((w * (z - lb)).max()))
            span[c] += float(torch.as_tensor(ub - lb, dtype=torch.float64, device=z.device).expand(b - a).sum())
        return low, high, span, self.plan.open_slope


def _fits(weights: Tensor) -> bool:
    """Whether weights, and their shares of a price, are far from where float32 ends."""
    low, high = (float(v) for v in torch.aminmax(weights))
    return low > 2.0**-60 and high < 2.0**60


def _strided(counts: IntArray, starts: IntArray) -> IntArray:
    """Positions of about SAMPLE scores, each cell's share spread over it, at least 32 of a cell where it has them."""
    share = np.minimum(counts, np.maximum(32, np.ceil(SAMPLE * counts / counts.sum()))).astype(np.int64)
    parts = zip(starts[:-1].tolist(), counts.tolist(), share.tolist(), strict=True)
    return np.concatenate([a + (np.arange(k) * n) // k for a, n, k in parts])


def _clip(x: Tensor, lb: float | Tensor, ub: float | Tensor) -> Tensor:
    if isinstance(lb, float) and isinstance(ub, float):
        return x if lb == -INF and ub == INF else torch.clamp(x, lb, ub)
    lb_t = lb if isinstance(lb, Tensor) else torch.full((), lb, dtype=x.dtype, device=x.device)
    ub_t = ub if isinstance(ub, Tensor) else torch.full((), ub, dtype=x.dtype, device=x.device)
    return torch.minimum(torch.maximum(x, lb_t), ub_t)


def _bound(bound: float | Tensor, order: Tensor, like: Tensor, *, up: bool) -> float | Tensor:
    """The bound in the dtype of the scores, rounded into the box: float32(0.3) > 0.3 would be outside."""
    exact = bound[order] if isinstance(bound, Tensor) else torch.tensor(bound, dtype=torch.float64, device="cpu")
    rounded = round_inward(exact, like.dtype, up=up)
    return rounded.to(like.device) if isinstance(bound, Tensor) else float(rounded)


def _sampled_plan(problem: ProjectionProblem, index: IntArray) -> tuple[VectorPlan, Array, Tensor]:
    """The plan of the samples ``index`` (k,) of the cell order, how many each of them stands for by cell (C,), and ``index`` again."""
    order = problem.rows.order
    cell = np.repeat(np.arange(problem.rows.counts.shape[0]), problem.rows.counts)[index]
    counts = np.bincount(cell, minlength=problem.rows.counts.shape[0])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    inverse = None if problem.weights is None else 1.0 / problem.weights[order].numpy()[index]
    lb, ub = (b[order].numpy()[index] if isinstance(b, Tensor) else b for b in (problem.lb, problem.ub))
    open_slope = counts.astype(np.float64) if inverse is None else np.add.reduceat(inverse, starts)
    return VectorPlan(starts, counts, lb, ub, inverse, None, open_slope), problem.rows.counts / counts, torch.from_numpy(index)
