"""Layers with one thing wrong each: the mutants of the layer claims."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve import Solution
from fairopt.testing.active import piece_at
from fairopt.testing.claims.subject import Case, Layer, clipped


class WeightsIgnored(Layer):
    """Projects in the Euclidean norm whatever the weights."""

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        return super().project(scores, replace(problem, weights=None))

    def vjp(self, scores: Tensor, problem: ProjectionProblem, g: Array) -> Array:
        return super().vjp(scores, replace(problem, weights=None), g)


class WrongSign(Layer):
    """y = clip(z + A^T p / w): pushes the rows the wrong way."""

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        _, p = super().project(scores, problem)
        return clipped(Case(scores, problem), -p), p

    def vjp(self, scores: Tensor, problem: ProjectionProblem, g: Array) -> Array:
        return 2.0 * g - super().vjp(scores, problem, g)


class HalfWay(Layer):
    """Stops half way to the rows."""

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        _, p = super().project(scores, problem)
        return clipped(Case(scores, problem), 0.5 * p), p


class PricesHalved(Layer):
    """The right scores with the prices of an objective without the 1/2 (claim L8's remark, the other way round)."""

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        y, p = super().project(scores, problem)
        return y, 0.5 * p


class BoxForgotten(Layer):
    """Projects without the box, then clips: feasible for the box alone."""

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        y, p = super().project(scores, replace(problem, lb=float("-inf"), ub=float("inf")))
        lb, ub = (b if isinstance(b, float) else b.numpy() for b in (problem.lb, problem.ub))
        return np.clip(y, lb, ub), p


class RowsForgottenInGradient(Layer):
    """The gradient of the clipping alone."""

    def vjp(self, scores: Tensor, problem: ProjectionProblem, g: Array) -> Array:
        y, p = self.project(scores, problem)
        return g * piece_at(problem, scores.numpy(), y, p).free


class Transposed(Layer):
    """J g instead of J^T g, which differ where weights differ."""

    def vjp(self, scores: Tensor, problem: ProjectionProblem, g: Array) -> Array:
        w = np.ones(problem.n) if problem.weights is None else problem.weights.numpy()
        return super().vjp(scores, problem, g * w) / w


class GradientScaled(Layer):
    """A gradient with a price step that is 1.5 times too long: eigenvalues 1 and -1/2."""

    def vjp(self, scores: Tensor, problem: ProjectionProblem, g: Array) -> Array:
        return 1.5 * super().vjp(scores, problem, g) - 0.5 * g


class SoftnessWeak(Layer):
    """Prices a softened constraint at a third of what is asked."""

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        weak = tuple(s if s.kind == "hard" else replace(s, weight=s.weight / 3.0) for s in problem.softness)
        return super().project(scores, replace(problem, softness=weak))


class NotRepaired(Layer):
    """Says certified of what the solver returned, without repair."""

    def solution(self, scores: Tensor, problem: ProjectionProblem) -> Solution:
        from fairopt.contract.backend import Status
        from fairopt.solve import solve

        found = solve(scores, problem, certify=False)
        return replace(found, status=Status.CERTIFIED, scores=torch.nextafter(found.scores, torch.full_like(found.scores, torch.inf)))


class ToleranceDoubled(Layer):
    """Reads every limit as twice as wide."""

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        return super().project(scores, replace(problem, lower=2 * problem.lower, upper=2 * problem.upper, width=2 * problem.width))


class ToleranceSquared(Layer):
    """Projects to tolerance^2: feasible and non-increasing, but the cost is not convex in the tolerance."""

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        return super().project(scores, replace(problem, lower=-(problem.lower**2), upper=problem.upper**2, width=problem.width**2))
