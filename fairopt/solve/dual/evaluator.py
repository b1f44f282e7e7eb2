"""What an evaluator of the dual is: row values, slopes and scores at given prices.

y(p) = clip(z - A'p / w, lb, ub),   f(p) = A y(p) + offset,   M(p) = A W^-1 D_F A'   (F the samples off their bounds)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.basics.sparse import Diagonal, Matrix
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.bordered import Model, Sandwich
from fairopt.solve.dual.structure import split_of, structure


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Row values f (m,) with offsets, and slope (C,) = sum over the free samples of each cell of 1 / w."""

    f: Array
    slope: Array
    dense_model: Array | None = None  # (m, m) M where rows are dense

    def model(self, coefficients: Matrix, slope: Array | None = None) -> Array:
        """(m, m) M."""
        if self.dense_model is not None:
            return self.dense_model
        return np.asarray(np.asarray(coefficients * (self.slope if slope is None else slope)) @ coefficients.T)


# (C,) each: the shifts at which a cell's first sample leaves ub and its last one reaches lb, sum of ub - lb, and sum of 1 / w
Transition = tuple[Array, Array, Array, Array]


class Dual(ABC):
    """Scores in cell order, evaluated at prices. ``offset`` is the rows' offset: evaluators outlive no change of it."""

    resolution = float(np.finfo(np.float64).eps)  # relative, of the row values
    large = False  # whether a pass over the samples costs more than all the rest
    precision = torch.float64  # in which scores are passed over

    def __init__(self, problem: ProjectionProblem) -> None:
        self.problem = problem
        self.coefficients = problem.rows.coefficients
        self.offset = problem.rows.offset
        self._transition: Transition | None = None

    def model(self, evaluation: Evaluation) -> Model:
        """(m, m) M, as its diagonal or by its parts where the structure says so."""
        st = structure(self.problem)
        if st.diagonal:
            return Diagonal((self.coefficients**2) @ evaluation.slope)
        if st.bordered:
            return self.sandwich(evaluation.slope)
        return evaluation.model(self.coefficients)

    def sandwich(self, slope: Array) -> Sandwich:
        """M for slopes (C,) of the cells, by its parts."""
        return Sandwich(self.coefficients, slope, split_of(self.problem))

    @abstractmethod
    def evaluate(self, p: Array) -> Evaluation:
        """Row values and slopes at prices p (m,)."""

    @abstractmethod
    def cells(self, shift: Array) -> tuple[Array, Array]:
        """(C,) sums of the scores and (C,) slopes where every sample of cell c moves by -shift_c / w. Not for dense rows."""

    @abstractmethod
    def values_of(self, y: Tensor) -> Array:
        """(m,) float64 row values of scores (n,) in cell order, of any dtype."""

    def sampled(self) -> VectorDual | None:
        """Some scores of each cell, standing for the others; None where that saves nothing."""
        return None

    @abstractmethod
    def scores(self, p: Array) -> Tensor:
        """(n,) y(p), in cell order, in the dtype and on the device of the scores."""

    @abstractmethod
    def vector(self) -> VectorDual:
        """The same samples as whole float64 numpy vectors."""

    @abstractmethod
    def magnitude(self) -> float:
        """The largest absolute score that enters the sums at price 0, or a bound of it."""

    @abstractmethod
    def transition(self) -> Transition:
        """Where each cell leaves its upper bounds and reaches its lower ones."""

    def open_model(self) -> Array:
        """(m, m) M with every sample free."""
        return self.vector().open_model()

    def flat_slope(self, p: Array) -> Array:
        """(C,) a positive slope for cells without a free sample: the secant from the shift at p to the middle of the transition."""
        if self._transition is None:
            self._transition = self.transition()
        low, high, span, full = self._transition
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            distance = np.abs(0.5 * (low + high) - p @ self.coefficients)
            secant = 0.5 * span / np.maximum(distance, 0.5 * (high - low))
        return np.where(np.isfinite(secant) & (secant > 0), np.minimum(secant, full), full)


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
    return problem.workspace.keep("vector plan", lambda: _vector_plan(problem))


def _vector_plan(problem: ProjectionProblem) -> VectorPlan:
    rows = problem.rows
    inverse = None if problem.weights is None else 1.0 / problem.weights[rows.order].numpy()
    starts = rows.starts[:-1]
    return VectorPlan(
        starts,
        rows.counts,
        _bound(problem.lb, rows.order),
        _bound(problem.ub, rows.order),
        inverse,
        None if rows.dense is None else rows.dense[:, rows.order].numpy(),
        rows.counts.astype(np.float64) if inverse is None else np.add.reduceat(inverse, starts),
    )


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

    def values_of(self, y: Tensor) -> Array:
        return self.row_values((y if y.dtype == torch.float64 else y.to(torch.float64)).numpy())

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


def round_inward(exact: Tensor, dtype: torch.dtype, *, up: bool) -> Tensor:
    """Nearest numbers of ``dtype`` that are >= (up) or <= (not up) the float64 ``exact``."""
    near = exact.to(dtype)
    toward = torch.full_like(near, float("inf") if up else -float("inf"))
    wrong = near.to(torch.float64) < exact if up else near.to(torch.float64) > exact
    return torch.where(wrong, torch.nextafter(near, toward), near) if bool(wrong.any()) else near
