"""Layers with one thing wrong each: the mutants of the layer claims."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve import Solution
from fairopt.testing.active import piece_at
from fairopt.testing.claims.subject import Case, Layer, clipped
from fairopt.testing.optimality import written_out


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


@dataclass
class FaceTurned(Layer):
    """The projector on a face of the right dimension whose rows are turned by ``size``; samples that are clamped stay so."""

    size: float = 0.1

    def __post_init__(self) -> None:
        super().__init__()

    def vjp(self, scores: Tensor, problem: ProjectionProblem, g: Array) -> Array:
        y, p = self.project(scores, problem)
        piece = piece_at(problem, scores.numpy(), y, p)
        w = np.ones(problem.n) if problem.weights is None else problem.weights.numpy()
        c = (piece.columns.T @ written_out(problem).a) * piece.free  # (q, n)
        turn = np.random.default_rng(problem.n).normal(size=c.shape) * piece.free
        c = c + self.size * np.linalg.norm(c, axis=1, keepdims=True) / max(1.0, np.sqrt(problem.n)) * turn
        gram = (c / w) @ c.T
        return np.asarray(piece.free * g - c.T @ (np.linalg.pinv(gram, rcond=1e-10) @ (c @ (piece.free * g / w))))


@dataclass
class ClampedMoves(Layer):
    """A clamped sample keeps a part ``size`` of its gradient."""

    size: float = 0.1

    def __post_init__(self) -> None:
        super().__init__()

    def vjp(self, scores: Tensor, problem: ProjectionProblem, g: Array) -> Array:
        y, p = self.project(scores, problem)
        clamped = ~piece_at(problem, scores.numpy(), y, p).free
        return super().vjp(scores, problem, g) + self.size * g * clamped


@dataclass
class PricesOff(Layer):
    """Prices too large by ``size`` (too small where negative), and the scores that they give; hard and soft alike."""

    size: float = 0.1

    def __post_init__(self) -> None:
        super().__init__()

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        _, p = super().project(scores, problem)
        p = (1.0 + self.size) * p
        return clipped(Case(scores, problem), p), p


@dataclass
class PricesTold(Layer):
    """The right scores, and prices that are off by ``size``."""

    size: float = 0.1

    def __post_init__(self) -> None:
        super().__init__()

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        y, p = super().project(scores, problem)
        return y, (1.0 - self.size) * p


@dataclass
class StepOff(Layer):
    """A gradient whose price step is too long by ``size``."""

    size: float = 0.1

    def __post_init__(self) -> None:
        super().__init__()

    def vjp(self, scores: Tensor, problem: ProjectionProblem, g: Array) -> Array:
        return (1.0 + self.size) * super().vjp(scores, problem, g) - self.size * g


@dataclass
class SofterBy(Layer):
    """Prices a softened constraint too low by ``size``."""

    size: float = 0.1

    def __post_init__(self) -> None:
        super().__init__()

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        weak = tuple(s if s.kind == "hard" else replace(s, weight=s.weight * (1.0 - self.size)) for s in problem.softness)
        return super().project(scores, replace(problem, softness=weak))


@dataclass
class WiderBy(Layer):
    """Reads every limit as wider by ``size``."""

    size: float = 0.1

    def __post_init__(self) -> None:
        super().__init__()

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        f = 1.0 + self.size
        return super().project(scores, replace(problem, lower=f * problem.lower, upper=f * problem.upper, width=f * problem.width))


@dataclass
class BoxBetween(Layer):
    """The part ``size`` of the answer is that of a layer which projects without the box and clips."""

    size: float = 0.1

    def __post_init__(self) -> None:
        super().__init__()

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        y, p = super().project(scores, problem)
        other, _ = BoxForgotten().project(scores, problem)
        return (1.0 - self.size) * y + self.size * other, p


@dataclass
class WeightsPartly(Layer):
    """Weights to the power 1 - ``size``."""

    size: float = 0.1

    def __post_init__(self) -> None:
        super().__init__()

    def project(self, scores: Tensor, problem: ProjectionProblem) -> tuple[Array, Array]:
        weights = None if problem.weights is None else problem.weights ** (1.0 - self.size)
        return super().project(scores, replace(problem, weights=weights))
