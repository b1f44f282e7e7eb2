"""The dual of the Kullback-Leibler projection: row values and slopes at given prices, over the samples or over a model of the cells."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, BoolArray
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.evaluator import Evaluation, VectorDual
from fairopt.solve.passes.kl_map import falling, following, mapped, pinned

FLAT = 0.25  # of a cell's 1 / w: its slope where none of its scores moves


class EntropyDual(VectorDual):
    """z (n,) float64 in cell order, inside the domain of ``problem.distance``."""

    def __init__(self, problem: ProjectionProblem, z: Array) -> None:
        super().__init__(problem, z)
        self.kind = problem.distance
        self.pinned = pinned(self.kind, z)
        self.size = float(np.minimum(np.maximum(self.z, self.lb), self.ub).max())  # of the scores at the solution, as far as known

    def shifts(self, p: Array) -> Array:
        """(n,) A'p / w."""
        shift = self.combine(p)
        return shift if self.inverse_weight is None else shift * self.inverse_weight

    def moved(self, s: Array) -> tuple[Array, Array, BoolArray]:
        """(n,) scores at shifts s (n,), their slopes times w, and which are not clamped."""
        x = mapped(self.kind, self.z, s)
        free = (x > self.lb) & (x < self.ub)
        y = np.minimum(np.maximum(x, self.lb), self.ub)
        return np.where(self.pinned, self.z, y), np.where(free & ~self.pinned, falling(self.kind, y), 0.0), free & ~self.pinned

    def _mass(self, slope: Array) -> Array:
        return slope if self.inverse_weight is None else slope * self.inverse_weight

    def cells(self, shift: Array) -> tuple[Array, Array]:
        s = np.repeat(shift, self.counts)
        y, slope, _ = self.moved(s if self.inverse_weight is None else s * self.inverse_weight)
        return np.asarray(np.add.reduceat(y, self.starts)), np.asarray(np.add.reduceat(self._mass(slope), self.starts))

    def evaluate(self, p: Array) -> Evaluation:
        if self.dense is None:
            sums, slope = self.cells(p @ self.coefficients)
            return Evaluation(self.coefficients @ sums + self.offset, slope)
        y, slope, _ = self.moved(self.shifts(p))
        mass = self._mass(slope)
        cells = np.asarray(np.add.reduceat(mass, self.starts))
        return Evaluation(self.row_values(y), cells, self._model(cells, mass))

    def scores(self, p: Array) -> Tensor:
        return torch.from_numpy(self.moved(self.shifts(p))[0])

    def rates(self, p: Array) -> tuple[Array, Array]:
        """(n,) dy / dz at fixed prices, 0 where clamped, and (n,) -dy / d(A'p)."""
        s = self.shifts(p)
        _, slope, free = self.moved(s)
        return np.where(free | self.pinned, following(self.kind, self.z, s), 0.0), self._mass(slope)

    def reach(self, d: Array) -> Array:
        """(C,) or (n,) how far a change d (m,) of the prices shifts scores, in the units of s."""
        if self.dense is not None:
            return self.shifts(d)
        return np.asarray((d @ self.coefficients) * self._lightest)

    @cached_property
    def _lightest(self) -> Array | float:
        return 1.0 if self.inverse_weight is None else np.maximum.reduceat(self.inverse_weight, self.starts)

    @property
    def modelled(self) -> bool:
        """Whether there is a ``model_of_cells``."""
        return self.dense is None

    def magnitude(self) -> float:
        return self.size

    def softer(self) -> EntropyDual | None:
        """A problem that bends less, at whose prices the search for this one's had better begin; None where there is none."""
        return None

    def flat_slope(self, p: Array) -> Array:
        return np.asarray(FLAT * self.plan.open_slope)

    def model_of_cells(self, p: Array) -> CellModel:
        """The problem in which each cell is as many equal samples, with the sums and slopes of this one at prices p. Not for dense rows."""
        return CellModel(self, p)


class CellModel(EntropyDual):
    """Each cell as N equal scores mu that move at a rate k <= max 1 / w: sum(s) = kept + N y(mu, k (s - s_0)).

    It bends as the cell itself does, where that is far from the line that Newton's method takes.
    ``kept``: the sum of the scores that do not move at p.
    """

    def __init__(self, whole: EntropyDual, p: Array) -> None:
        self.__dict__.update(whole.__dict__)  # rows, offset and plan are the same
        self.anchor = p @ whole.coefficients
        y, slope, free = whole.moved(whole.shifts(p))
        mass = np.asarray(np.add.reduceat(whole._mass(slope), whole.starts))
        self.many = np.asarray(np.add.reduceat(free.astype(np.float64), whole.starts))
        total = np.add.reduceat(np.where(free, y, 0.0), whole.starts)
        self.kept = np.add.reduceat(np.where(free, 0.0, y), whole.starts)
        with np.errstate(all="ignore"):
            self.mean = np.where(self.many > 0, total / np.maximum(self.many, 1.0), 0.5)
            rate = mass / (self.many * falling(self.kind, self.mean))
        self.rate = np.where(np.isfinite(rate), rate, 0.0)

    def reach(self, d: Array) -> Array:
        return np.asarray((d @ self.coefficients) * self.rate)

    def secants(self, p: Array, far: float) -> Array:
        """(C,) slopes of the cells from their means at prices p to means ``far`` nearer to where they are steepest. These are about those
        at p, unless means are far smaller."""
        y = mapped(self.kind, self.mean, self.rate * (p @ self.coefficients - self.anchor))
        with np.errstate(all="ignore"):
            if self.kind == "kl":
                low = np.minimum(y, 1.0 - y)
                near = np.minimum(low + far, 0.5)
                secant = (near - low) / (np.log(near / low) + np.log1p(-low) - np.log1p(-near))
            else:
                secant = far / np.log1p(far / y)
        return np.where(np.isfinite(secant), self.many * self.rate * secant, 0.0)

    def cells(self, shift: Array) -> tuple[Array, Array]:
        y = mapped(self.kind, self.mean, self.rate * (shift - self.anchor))
        return self.kept + self.many * y, self.many * self.rate * falling(self.kind, y)
