"""A lowered problem with its numbers filled in, the one-sided form of its rows, and the residual that tells a solved one.

Solvers that take ``G x <= h, A x = b`` see every finite side once; infinite sides are left out (several solvers return NaN for
them). A solver's word that it solved the programme is never taken: ``residual`` is recomputed from x and the multipliers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt_backends.lowering import Lowered, Numbers
from fairopt_backends.modules import load


@dataclass(frozen=True, eq=False)
class Sides:
    """Which sides of rows and bounds are finite: ``equal``, ``above``, ``below`` index rows; ``most``, ``least``, ``pinned`` variables.

    The order of h is above, below, most, least, that of b equal, pinned. Variables with equal bounds are pinned: as two inequalities
    they would leave no interior, and interior points stop at 1e-5 there. ``equal`` may leave out equalities that others imply
    (``sides(independent=True)``).
    """

    lowered: Lowered
    equal: IntArray
    above: IntArray
    below: IntArray
    most: IntArray
    least: IntArray
    pinned: IntArray

    @property
    def equalities(self) -> int:
        return self.equal.size + self.pinned.size

    @property
    def inequalities(self) -> int:
        return self.above.size + self.below.size + self.most.size + self.least.size

    def h(self, numbers: Numbers) -> Tensor:
        """Right-hand sides of the inequalities, differentiable to ``numbers``."""
        most, least = numbers.ubx[torch.from_numpy(self.most)], numbers.lbx[torch.from_numpy(self.least)]
        return torch.cat([numbers.upper[torch.from_numpy(self.above)], -numbers.lower[torch.from_numpy(self.below)], most, -least])

    def b(self, numbers: Numbers) -> Tensor:
        """Right-hand sides of the equalities, differentiable: a limit on either side counts by half."""
        equal = torch.from_numpy(self.equal)
        return torch.cat([(numbers.upper[equal] + numbers.lower[equal]) / 2, numbers.lbx[torch.from_numpy(self.pinned)]])

    @cached_property
    def dense(self) -> tuple[Array, Array]:
        """(G, A) as dense arrays."""
        c, eye = self.lowered.dense(), np.eye(self.lowered.variables)
        g = np.concatenate([c[self.above], -c[self.below], eye[self.most], -eye[self.least]])
        return g, np.concatenate([c[self.equal], eye[self.pinned]])

    @cached_property
    def sparse(self) -> tuple[Any, Any]:
        """(G, A) as scipy CSR matrices."""
        scipy = load("scipy.sparse")
        c, eye = self.lowered.sparse, scipy.identity(self.lowered.variables, format="csr")
        g = scipy.vstack([c[self.above], -c[self.below], eye[self.most], -eye[self.least]], format="csr")
        return g, scipy.vstack([c[self.equal], eye[self.pinned]], format="csr")

    def multipliers(self, of_h: Array, of_b: Array) -> Array:
        """Multipliers of inequalities and equalities -> (M,) of the rows; those of the box are not needed."""
        lam = np.zeros(self.lowered.rows)
        lam[self.equal] = of_b[: self.equal.size]
        lam[self.above] += of_h[: self.above.size]
        lam[self.below] -= of_h[self.above.size : self.above.size + self.below.size]
        return lam


def sides(lowered: Lowered, *, box: bool = True, independent: bool = False) -> Sides:
    """``box=False`` leaves the bounds of the variables out, for solvers that take them apart.

    ``independent`` leaves equalities out that others imply, for solvers that factor A A^T. Contradictory ones are not implied by
    their limits: the residual, which knows all rows, tells.
    """
    open_above = ~np.isin(np.arange(lowered.rows), lowered.limit_upper[0])
    open_below = ~np.isin(np.arange(lowered.rows), lowered.limit_lower[0])
    pinned = (lowered.lbx == lowered.ubx) & box
    return Sides(
        lowered,
        _independent(lowered, pinned) if independent else np.flatnonzero(lowered.equal),
        np.flatnonzero(~lowered.equal & ~open_above),
        np.flatnonzero(~lowered.equal & ~open_below),
        np.flatnonzero(np.isfinite(lowered.ubx) & ~pinned & box),
        np.flatnonzero(np.isfinite(lowered.lbx) & ~pinned & box),
        np.flatnonzero(pinned),
    )


def _independent(lowered: Lowered, pinned: BoolArray) -> IntArray:
    """The equalities that are not in the span of earlier ones and of the pinned variables (rows have norm 1; orthogonalised twice)."""
    kept: list[int] = []
    basis: list[Array] = []
    for r in np.flatnonzero(lowered.equal):
        mine = lowered.row == r
        rest = np.zeros(lowered.variables)
        rest[lowered.col[mine]] = lowered.val[mine]
        rest[pinned] = 0.0
        for _ in range(2):
            for direction in basis:
                rest -= np.dot(direction, rest) * direction
        norm = float(np.sqrt(np.dot(rest, rest)))
        if norm > 1e-9:
            kept.append(int(r))
            basis.append(rest / norm)
    return np.array(kept, dtype=np.int64)


def unit_of(centre: Array, numbers: Numbers) -> float:
    """The size of the clipped centre: divided by it, a programme has entries of order 1 and tolerances mean what they say."""
    size = float(np.abs(np.clip(centre, numbers.lbx[: centre.size].numpy(), numbers.ubx[: centre.size].numpy())).max(initial=0.0))
    return size if size > 0 else 1.0


def unit_of_cone(centre: Array, numbers: Numbers) -> float:
    """The unit for solvers that take the square as a cone: also at least the distance to the box, or the cone is badly scaled."""
    outside = centre - np.clip(centre, numbers.lbx[: centre.size].numpy(), numbers.ubx[: centre.size].numpy())
    return max(unit_of(centre, numbers), float(np.sqrt(np.dot(outside, outside))))


@dataclass(frozen=True, eq=False)
class Programme:
    """The numbers of one quadratic programme as numpy arrays; see ``lowering`` for the form."""

    lowered: Lowered
    numbers: Numbers
    centre: Array

    @cached_property
    def q(self) -> Array:
        """(U + E,)"""
        return np.concatenate([-self.centre, self.numbers.cost.detach().numpy()])

    @cached_property
    def diagonal(self) -> Array:
        """(U + E,) of the Hessian"""
        return np.concatenate([np.ones(self.lowered.size), self.numbers.hess.detach().numpy()])

    @cached_property
    def lower(self) -> Array:
        return self.numbers.lower.detach().numpy()

    @cached_property
    def upper(self) -> Array:
        return self.numbers.upper.detach().numpy()

    @property
    def lbx(self) -> Array:
        return self.numbers.lbx.numpy()

    @property
    def ubx(self) -> Array:
        return self.numbers.ubx.numpy()

    def residual(self, x: Array, lam: Array) -> float:
        """The natural residual of the optimality conditions, inf for anything not finite. 0 exactly at the solution.

        x - clip(x - gradient, box) and C x - clip(C x + lam, lower, upper): no tolerance, no active set.
        """
        if not (np.isfinite(x).all() and np.isfinite(lam).all()):
            return float("inf")
        c = self.lowered
        gradient = self.diagonal * x + self.q + c.times_transposed(lam)
        f = c.times(x)
        stationarity = x - np.clip(x - gradient, self.lbx, self.ubx)
        rows = f - np.clip(f + lam, self.lower, self.upper)
        return float(max(np.abs(stationarity).max(initial=0.0), np.abs(rows).max(initial=0.0)))

    def violation(self, x: Array) -> float:
        """The largest violation of a row or a bound; inf for anything not finite."""
        if not np.isfinite(x).all():
            return float("inf")
        c = self.lowered
        f = c.times(x)
        rows, box = f - np.clip(f, self.lower, self.upper), x - np.clip(x, self.lbx, self.ubx)
        return float(max(np.abs(rows).max(initial=0.0), np.abs(box).max(initial=0.0)))

    def feasible(self) -> bool:
        """Whether any x meets the rows and the box: a linear programme, asked only after a solver failed."""
        c = self.lowered
        s = sides(c, box=False)
        g, a = s.sparse
        bounds = np.stack([self.lbx, self.ubx], axis=1)
        answer = load("scipy.optimize").linprog(
            np.zeros(c.variables),
            A_ub=g if g.shape[0] else None,
            b_ub=s.h(self.numbers).detach().numpy() if g.shape[0] else None,
            A_eq=a if a.shape[0] else None,
            b_eq=s.b(self.numbers).detach().numpy() if a.shape[0] else None,
            bounds=bounds,
            method="highs",
            options={"presolve": False},  # its postsolve prints
        )
        return bool(answer.status != 2)  # 2: proved infeasible
