"""What an evaluator of the dual is: row values, slopes and scores at given prices.

y(p) = clip(z - A'p / w, lb, ub),   f(p) = A y(p) + offset,   M(p) = A W^-1 D_F A'   (F the samples off their bounds)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.sparse import Diagonal, Matrix
from fairopt.contract.problem import Array, ProjectionProblem
from fairopt.solve.dual.bordered import Model, Sandwich
from fairopt.solve.dual.structure import split_of, structure

if TYPE_CHECKING:
    from fairopt.solve.dual.vector import VectorDual


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


def round_inward(exact: Tensor, dtype: torch.dtype, *, up: bool) -> Tensor:
    """Nearest numbers of ``dtype`` that are >= (up) or <= (not up) the float64 ``exact``."""
    near = exact.to(dtype)
    toward = torch.full_like(near, float("inf") if up else -float("inf"))
    wrong = near.to(torch.float64) < exact if up else near.to(torch.float64) > exact
    return torch.where(wrong, torch.nextafter(near, toward), near) if bool(wrong.any()) else near
