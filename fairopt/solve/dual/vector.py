"""The dual on whole float64 numpy vectors in cell order: any structure; best for few samples, dense rows, or many small cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.evaluator import Dual, Evaluation, Transition


@dataclass(frozen=True, eq=False)
class VectorPlan:
    """What a problem's box, weights and cells are in cell order; kept with the problem.

    starts, counts (C,); lb, ub, inverse_weight (n,) or floats / None; dense (d, n) or None; open_slope (C,) sum of 1 / w
    """

    starts: IntArray
    counts: IntArray
    lb: Array | float
    ub: Array | float
    inverse_weight: Array | None
    dense: Array | None
    open_slope: Array


def vector_plan(problem: ProjectionProblem) -> VectorPlan:
    plan = problem.__dict__.get("_vector_plan")
    if plan is None:
        rows = problem.rows
        inverse = None if problem.weights is None else 1.0 / problem.weights[rows.order].numpy()
        starts = rows.starts[:-1]
        plan = VectorPlan(
            starts,
            rows.counts,
            _bound(problem.lb, rows.order),
            _bound(problem.ub, rows.order),
            inverse,
            None if rows.dense is None else rows.dense[:, rows.order].numpy(),
            rows.counts.astype(np.float64) if inverse is None else np.add.reduceat(inverse, starts),
        )
        problem.__dict__["_vector_plan"] = plan
    assert isinstance(plan, VectorPlan)
    return plan


class VectorDual(Dual):
    """``z`` (n,) float64 in cell order. ``scale`` (C,): what one sample of each cell stands for, where z is a part of the scores."""

    def __init__(self, problem: ProjectionProblem, z: Array, plan: VectorPlan | None = None, scale: Array | None = None) -> None:
        super().__init__(problem)
        self.z = z
        self.plan = vector_plan(problem) if plan is None else plan
        self.scale = scale
        self.starts, self.counts = self.plan.starts, self.plan.counts
        self.lb, self.ub = self.plan.lb, self.plan.ub
        self.inverse_weight, self.dense = self.plan.inverse_weight, self.plan.dense
        self.dense_rows = problem.rows.dense_rows
        self.has_box = problem.has_box
        self._open_model: Array | None = None
        self._base: Array | None = None  # (C,) sums of z

    def vector(self) -> VectorDual:
        return self

    def combine(self, p: Array) -> Array:
        """(n,) A'p."""
        shift = np.repeat(p @ self.coefficients, self.counts)
        if self.dense is not None:
            shift += p[self.dense_rows] @ self.dense
        return np.asarray(shift)

    def row_values(self, y: Array) -> Array:
        """(m,) A y + offset."""
        f = self.coefficients @ np.add.reduceat(y, self.starts) + self.offset
        if self.dense is not None:
            f[self.dense_rows] += self.dense @ y
        return np.asarray(f)

    def model_of(self, mass: Array) -> Array:
        """(m, m) A diag(mass) A'."""
        return self._model(np.add.reduceat(mass, self.starts), mass)

    def open_model(self) -> Array:
        if self._open_model is None:
            self._open_model = self.model_of(np.ones_like(self.z) if self.inverse_weight is None else self.inverse_weight)
        return self._open_model

    def _model(self, slope: Array, mass: Array) -> Array:
        M = (self.coefficients * slope) @ self.coefficients.T
        if self.dense is None:
            return np.asarray(M)
        rows = self.dense_rows
        weighted = self.dense * mass  # (d, n)
        cross = np.add.reduceat(weighted, self.starts, axis=1) @ self.coefficients.T  # (d, m)
        M[rows] += cross
        M[:, rows] += cross.T
        M[np.ix_(rows, rows)] += weighted @ self.dense.T
        return np.asarray(M)

    def _clipped(self, shift: Array) -> tuple[Array, BoolArray]:
        """(n,) scores after ``shift`` (n,), which is overwritten, and which samples are off their bounds."""
        if self.inverse_weight is not None:
            np.multiply(shift, self.inverse_weight, out=shift)
        x = np.subtract(self.z, shift, out=shift)
        free = (x > self.lb) & (x < self.ub)
        return np.minimum(np.maximum(x, self.lb, out=x), self.ub, out=x), free

    def cells(self, shift: Array) -> tuple[Array, Array]:
        if not self.has_box:
            if self._base is None:
                self._base = np.add.reduceat(self.z, self.starts)
            return self._base - shift * self.plan.open_slope, self.plan.open_slope
        y, free = self._clipped(np.repeat(shift, self.counts))
        sums = np.add.reduceat(y, self.starts)
        mass = free.astype(np.float64) if self.inverse_weight is None else free * self.inverse_weight
        slope = np.add.reduceat(mass, self.starts)
        return (sums, slope) if self.scale is None else (sums * self.scale, slope * self.scale)

    def evaluate(self, p: Array) -> Evaluation:
        if self.dense is None:
            sums, slope = self.cells(p @ self.coefficients)
            return Evaluation(self.coefficients @ sums + self.offset, slope)
        y, free = self._clipped(self.combine(p))
        mass = free.astype(np.float64) if self.inverse_weight is None else free * self.inverse_weight
        slope = np.asarray(np.add.reduceat(mass, self.starts))
        return Evaluation(self.row_values(y), slope, self._model(slope, mass))

    def scores(self, p: Array) -> Tensor:
        return torch.from_numpy(self._clipped(self.combine(p))[0])

    def magnitude(self) -> float:
        if not self.has_box:
            return float(max(self.z.max(), -self.z.min()))
        y = np.minimum(np.maximum(self.z, self.lb), self.ub)
        return float(max(y.max(), -y.min()))

    def transition(self) -> Transition:
        w = 1.0 if self.inverse_weight is None else 1.0 / self.inverse_weight
        shape = self.z.shape
        high = np.maximum.reduceat(np.broadcast_to(w * (self.z - self.lb), shape), self.starts)
        low = np.minimum.reduceat(np.broadcast_to(w * (self.z - self.ub), shape), self.starts)
        span = np.add.reduceat(np.broadcast_to(np.asarray(self.ub - self.lb, dtype=np.float64), shape), self.starts)
        full = self.plan.open_slope
        return (low, high, span, full) if self.scale is None else (low, high, span * self.scale, full * self.scale)


def _bound(bound: float | Tensor, order: Tensor) -> Array | float:
    return bound[order].numpy() if isinstance(bound, Tensor) else bound
