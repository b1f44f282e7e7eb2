"""A problem under a Kullback-Leibler divergence with its numbers filled in, for solvers of exponential cones.

    minimise    sum_i w_i d(u_i, z_i) + cost . extra + 1/2 hess . extra^2     subject to  lower <= C (u, extra) <= upper,  lbx <= ... <= ubx

u are the scores themselves (``functionals``), rows and extras as in ``lowering``. Where z_i is pinned there is no cost. With
u log u = -entr(u) the distance is, but for a constant,

    kl            -w entr(u) - w entr(1 - u) - w logit(z) u             kl_positive    -w entr(u) - w (log z + 1) u

so that z stands in a linear term alone: a solver's compiled problem serves every z. Positive values are divided by their size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.contract.problem import Distance, ProjectionProblem
from fairopt.solve.passes.kl_map import mapped
from fairopt_backends.lowering import Lowered, Numbers
from fairopt_backends.programme import Programme


@dataclass(frozen=True, eq=False)
class Entropic:
    """``programme``: rows, limits and box of the problem divided by ``unit``; z, w (n,) scores over ``unit``, and weights."""

    programme: Programme
    z: Array
    w: Array
    distance: Distance
    unit: float

    @property
    def lowered(self) -> Lowered:
        return self.programme.lowered

    @property
    def numbers(self) -> Numbers:
        return self.programme.numbers

    @cached_property
    def free(self) -> IntArray:
        """The scores that have a cost: those that are not pinned."""
        n = self.z.size
        return np.flatnonzero(self.lowered.lbx[:n] != self.lowered.ubx[:n])

    @cached_property
    def slope(self) -> Array:
        """(F,) what the free scores' linear term takes off: w logit(z), or w (log z + 1)."""
        z, w = self.z[self.free], self.w[self.free]
        return np.asarray(w * (np.log(z) - np.log1p(-z)) if self.distance == "kl" else w * (np.log(z) + 1.0))

    @cached_property
    def key(self) -> tuple[object, ...]:
        """Equal for problems that differ in z and in finite numbers of their limits alone."""
        return self.lowered.key, self.distance, self.free.tobytes(), self.w.tobytes()

    def residual(self, x: Array, lam: Array) -> float:
        """The natural residual of the optimality conditions, inf for anything not finite."""
        if not (np.isfinite(x).all() and np.isfinite(lam).all()):
            return float("inf")
        p, n = self.programme, self.z.size
        pull = self.lowered.times_transposed(lam)
        with np.errstate(over="ignore"):
            u = mapped(self.distance, self.z, pull[:n] / self.w)
        e = x[n:] - (p.diagonal[n:] * x[n:] + p.q[n:] + pull[n:])
        stationarity = x - np.clip(np.concatenate([u, e]), p.lbx, p.ubx)
        f = self.lowered.times(x)
        rows = f - np.clip(f + lam, p.lower, p.upper)
        return float(max(np.abs(stationarity).max(initial=0.0), np.abs(rows).max(initial=0.0)))

    def violation(self, x: Array) -> float:
        """The largest violation of a row or a bound; inf for anything not finite."""
        return self.programme.violation(x)

    def feasible(self) -> bool:
        """Whether any x meets the rows and the box."""
        return self.programme.feasible()


def entropic(problem: ProjectionProblem, lowered: Lowered, z: Tensor) -> Entropic:
    """``problem``, lowered, at scores z (n,) float64 of its divergence."""
    scores = z.numpy()
    unit = float(scores.max(initial=0.0)) if problem.distance == "kl_positive" and problem.classes == 1 else 1.0
    unit = unit if unit > 0.0 else 1.0
    numbers = lowered.numbers(problem.limits())
    divided = numbers.divided(unit)
    numbers = replace(divided, cost=numbers.cost, hess=numbers.hess * unit)
    w = np.ones(problem.n) if problem.weights is None else problem.weights.numpy()
    centre = torch.zeros(lowered.size, dtype=torch.float64, device="cpu").numpy()
    return Entropic(Programme(lowered, numbers, centre), scores / unit, w, problem.distance, unit)
