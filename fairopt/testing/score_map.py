"""What prices stand for: the scores that minimise the Lagrangian at them, for every distance and for class probabilities, and how these
move. Written from the definitions, with nothing of fairopt.solve."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fairopt.basics.arrays import Array, BoolArray
from fairopt.contract.problem import ProjectionProblem
from fairopt.testing.optimality import Dense


def fixed_scores(problem: ProjectionProblem, z: Array) -> BoolArray:
    """(n,) the scores that the divergence never moves."""
    if problem.distance == "squared":
        return np.zeros(problem.n, dtype=np.bool_)
    fixed = z <= 0.0
    if problem.distance == "kl":
        return fixed | (z >= 1.0)
    if problem.classes > 1:  # the only class that is left has it all, and z says so
        table = fixed.reshape(problem.classes, -1)
        fixed = (table | (~table & ((~table).sum(0) == 1))).reshape(-1)
    return fixed


@dataclass(eq=False)
class ScoreMap:
    """y(p), the minimiser of the Lagrangian at prices p (m,), and B D B' for rows B over the samples, D = -dy / d(A'p)."""

    problem: ProjectionProblem
    d: Dense
    z: Array

    def at(self, p: Array) -> tuple[Array, Array]:
        """(y, how fast each moves (n,): of class probabilities y, or whether it is above 0)."""
        shift = (p @ self.d.a) / self.d.w
        if self.problem.classes > 1:
            return self._on_the_simplex(shift)
        kind = self.problem.distance
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            if kind == "kl":
                x = np.log(self.z) - np.log1p(-self.z) - shift
                small = np.exp(-np.abs(x))
                y = np.where(fixed_scores(self.problem, self.z), self.z, np.where(x >= 0, 1.0, small) / (1.0 + small))
                speed = y * (1.0 - y)
            elif kind == "kl_positive":
                y = self.z * np.exp(-shift)
                speed = y
            else:
                y = self.z - shift
                speed = np.ones_like(y)
        inside = (y > self.d.lb) & (y < self.d.ub)
        return np.clip(y, self.d.lb, self.d.ub), np.where(inside, speed, 0.0)

    def _on_the_simplex(self, shift: Array) -> tuple[Array, Array]:
        C = self.problem.classes
        z, s = self.z.reshape(C, -1), shift.reshape(C, -1)
        if self.problem.distance == "squared":
            v = z - s
            order = np.sort(v, axis=0)[::-1]
            levels = (np.cumsum(order, 0) - 1.0) / np.arange(1, C + 1)[:, None]
            count = (order > levels).sum(0)
            level = levels[count - 1, np.arange(v.shape[1])]
            kept = v > level
            level = (np.where(kept, v, 0.0).sum(0) - 1.0) / kept.sum(0)
            return np.where(kept, v - level, 0.0).reshape(-1), kept.astype(np.float64).reshape(-1)
        with np.errstate(divide="ignore"):
            x = np.log(z) - s
        e = np.exp(x - x.max(0))
        y = (e / e.sum(0)).reshape(-1)
        return y, y

    def product(self, B: Array, speed: Array) -> Array:
        """(R, R) B D B'."""
        moved = B * (speed / self.d.w)
        out = np.asarray(moved @ B.T)
        if self.problem.classes > 1:
            n = self.problem.n // self.problem.classes
            total = (B * speed).reshape(len(B), self.problem.classes, n).sum(1)  # (R, n)
            count = speed.reshape(self.problem.classes, n).sum(0)
            out -= (total / (self.d.w[:n] * count)) @ total.T
        return out

    def moved(self, c: Array, speed: Array) -> Array:
        """(n,) D c, with D as in ``product``."""
        out = np.asarray(speed * c / self.d.w)
        if self.problem.classes > 1:
            share, total = (a.reshape(self.problem.classes, -1) for a in (speed, out))
            out = out - (share * total.sum(0) / share.sum(0)).reshape(-1)
        return out

    def by_scores(self, c: Array, speed: Array) -> Array:
        """(n,) the derivative of c . y by the scores at fixed prices."""
        slope = np.ones_like(c)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.problem.distance == "kl":
                slope = 1.0 / (self.z * (1.0 - self.z))
            elif self.problem.distance == "kl_positive":
                slope = 1.0 / self.z
            out = slope * self.d.w * self.moved(c, speed)
        return np.where(fixed_scores(self.problem, self.z), 0.0, out)

    def kinks(self, p: Array) -> Array:
        """How far the scores at prices p (m,) are from where they would move in another way: at bounds, at classes of probability 0."""
        if self.problem.classes == 1:
            everywhere = np.full(self.problem.n, np.inf)
            y = ScoreMap(self.problem, replace(self.d, lb=-everywhere, ub=everywhere), self.z).at(p)[0]
            free = ~fixed_scores(self.problem, self.z)
            return np.asarray(np.abs(np.concatenate([(y - self.d.lb)[free], (y - self.d.ub)[free]])))
        if self.problem.distance != "squared":
            return np.ones(1)  # smooth: a probability that is not 0 never becomes 0
        v = (self.z - (p @ self.d.a) / self.d.w).reshape(self.problem.classes, -1)
        y, kept = (a.reshape(v.shape) for a in self.at(p))
        level = np.where(kept > 0, v - y, -np.inf).max(0)
        return np.asarray(np.abs(v - level)).reshape(-1)
