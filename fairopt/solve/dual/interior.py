"""The problem itself by a primal-dual interior point method: the way out where Newton's steps on the dual do not settle.

Far scores leave whole cells on their bounds. The dual is linear there, and Newton's model knows nothing of where it bends. Here every
sample keeps a slack to each of its bounds, so that every cell bends everywhere. Per iteration, with slacks s and multipliers u of
the bounds eliminated sample by sample,

    theta_i = 1 / (w_i + u_low / s_low + u_up / s_up),    (lift' A theta A' lift + Q) dx + G' dlambda + E' dnu = ...

which is one pass over the samples and one system of the size of the prices. x are the parts of the prices (``fairopt.solve.dual.domain``).

Source: Mehrotra's predictor-corrector (Nocedal & Wright, Numerical Optimization, 2nd ed., algorithm 16.4).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.interior_point import direction, factor, reach
from fairopt.solve.dual.active_set import PROXIMAL
from fairopt.solve.dual.domain import Domain, domain
from fairopt.solve.dual.evaluator import VectorDual
from fairopt.solve.dual.structure import Numbers, Structure


@dataclass
class _Bounds:
    """One side of the box: samples ``at`` with sign (+1: lower, -1: upper), limit, slack > 0 and multiplier > 0."""

    at: IntArray
    sign: float
    limit: Array
    slack: Array
    multiplier: Array
    step_slack: Array = field(default_factory=lambda: np.zeros(0))
    step_multiplier: Array = field(default_factory=lambda: np.zeros(0))

    def aim(self, dy: Array, target: Array) -> None:
        """Steps for a step dy of all samples towards slack * multiplier = target."""
        self.step_slack = self.sign * dy[self.at]
        self.step_multiplier = (target - self.multiplier * self.slack - self.multiplier * self.step_slack) / self.slack

    def reach(self) -> float:
        return min(reach(self.slack, self.step_slack), reach(self.multiplier, self.step_multiplier))


class InteriorPoint:
    """The iteration; ``prices`` after ``run``. Sizes: n samples, N parts of prices, k inequalities of the price domain."""

    def __init__(self, dual: VectorDual, structure: Structure, numbers: Numbers) -> None:
        self.dual = dual
        self.metric, self.unit = structure.metric, structure.unit
        self.domain = _scaled(domain(structure, numbers), structure)
        self.w = np.ones_like(dual.z) if dual.inverse_weight is None else 1.0 / dual.inverse_weight
        shape = dual.z.shape
        lb, ub = np.broadcast_to(dual.lb, shape), np.broadcast_to(dual.ub, shape)
        self.pinned = lb == ub
        self.y, self.size = _start(dual.z, lb, ub)
        unit = self.size * float(np.median(self.w))
        self.bounds = []
        for sign, limit in ((1.0, lb), (-1.0, ub)):
            at = np.flatnonzero(np.isfinite(limit) & ~self.pinned)
            slack = sign * (self.y[at] - limit[at])
            self.bounds.append(_Bounds(at, sign, limit[at], slack, 10.0 * unit * self.size / slack))
        self.x = np.zeros(self.domain.cost.shape[0])
        k = self.domain.g.shape[0]
        # the mean of slack * multiplier is the same for the box and for the prices
        self.t = np.maximum(self.domain.g, unit)
        self.multiplier = 10.0 * unit * self.size / self.t if k else np.zeros(0)
        self.nu = np.zeros(self.domain.E.shape[0])
        self.iterations = 0

    def prices(self) -> Array:
        return np.asarray(self.domain.lift @ self.x)

    def mu(self) -> float:
        total = float(self.t @ self.multiplier) + sum(float(b.slack @ b.multiplier) for b in self.bounds)
        return total / max(1, self.t.size + sum(b.at.size for b in self.bounds))

    def run(self, max_iter: int, tol: float = 1e-14) -> None:
        """Iterate until mu is ``tol`` of its start and residuals are small next to it, or nothing improves."""
        start = self.mu() or 1.0
        best, stale = np.inf, 0
        while self.iterations < max_iter and stale < 20:
            error = self._step()
            self.iterations += 1
            mu = self.mu() / start
            now = max(mu, error)
            if not np.isfinite(now) or now <= tol or 0.0 < mu <= 1e-3 * tol:
                break
            stale = 0 if now < 0.5 * best else stale + 1
            best = min(now, best)

    def _step(self) -> float:
        """One predictor-corrector step. Returns the relative residual that it started from."""
        d = self.domain
        p = d.lift @ self.x
        ry = self.w * (self.y - self.dual.z) + self.dual.combine(p)
        stiffness = self.w.copy()
        for b in self.bounds:
            ry[b.at] -= b.sign * b.multiplier
            stiffness[b.at] += b.multiplier / b.slack
        theta = np.where(self.pinned, 0.0, 1.0 / stiffness)
        M = self.dual.model_of(theta)
        f = self.dual.row_values(self.y)
        rx = d.cost + d.quadratic @ self.x - d.lift.T @ f + d.G.T @ self.multiplier + d.E.T @ self.nu
        rt, re = d.G @ self.x + self.t - d.g, d.E @ self.x
        # a proximal term: redundant rows leave directions that cost nothing, in which rounding would carry the prices away
        H = d.lift.T @ M @ d.lift + d.quadratic + PROXIMAL * np.eye(self.x.shape[0])
        ratio = self.multiplier / self.t
        solve = factor(H + (d.G.T * ratio) @ d.G, d.E)
        offset = self.dual.offset

        def aim(target: float, corrections: list[Array], rc: Array) -> tuple[Array, Array, Array, Array, Array]:
            rhs = -ry
            for b, extra in zip(self.bounds, corrections, strict=True):
                rhs[b.at] += b.sign * ((target - extra) / b.slack - b.multiplier)
            pushed = theta * rhs
            moved = self.dual.row_values(pushed) - offset
            dx, dt, dl, dn = direction(solve, d.G, self.t, self.multiplier, rx - d.lift.T @ moved, rt, re, rc)
            dy = pushed - theta * self.dual.combine(d.lift @ dx)
            for b, extra in zip(self.bounds, corrections, strict=True):
                b.aim(dy, target - extra)
            return dy, dx, dt, dl, dn

        mu = self.mu()
        dy, dx, dt, dl, _ = aim(0.0, [np.zeros(b.at.size) for b in self.bounds], self.t * self.multiplier)
        a = min([reach(self.t, dt), reach(self.multiplier, dl), *(b.reach() for b in self.bounds)])
        ahead = float((self.t + a * dt) @ (self.multiplier + a * dl))
        ahead += sum(float((b.slack + a * b.step_slack) @ (b.multiplier + a * b.step_multiplier)) for b in self.bounds)
        count = max(1, self.t.size + sum(b.at.size for b in self.bounds))
        target = (ahead / count / mu) ** 3 * mu if mu > 0 else 0.0
        corrections = [b.step_slack * b.step_multiplier for b in self.bounds]
        dy, dx, dt, dl, dn = aim(target, corrections, self.t * self.multiplier + dt * dl - target)
        a = min(1.0, 0.995 * min([reach(self.t, dt), reach(self.multiplier, dl), *(b.reach() for b in self.bounds)]))
        self.y, self.x = self.y + a * dy, self.x + a * dx
        self.t, self.multiplier, self.nu = self.t + a * dt, self.multiplier + a * dl, self.nu + a * dn
        for b in self.bounds:
            b.slack, b.multiplier = b.slack + a * b.step_slack, b.multiplier + a * b.step_multiplier
        wide = float(np.abs(ry / self.w).max(initial=0.0)) / self.size
        return max(wide, float(np.abs(rx).max(initial=0.0)) / self.size)


def _start(z: Array, lb: Array, ub: Array) -> tuple[Array, float]:
    """(n,) a start well inside the box, near the scores, and the size of a typical distance."""
    with np.errstate(invalid="ignore"):
        half = np.where(np.isfinite(ub - lb), 0.5 * (ub - lb), np.inf)
    distance = np.abs(z - np.clip(z, lb, ub))
    finite = half[np.isfinite(half) & (half > 0)]
    wide = float(np.median(finite)) if finite.size else float(np.std(z))
    size = max(float(np.median(distance)), wide, 1e-12 * float(np.abs(z).max()), 1e-300)
    margin = np.minimum(0.5 * half, size)
    return np.where(lb == ub, lb, np.clip(z, lb + margin, ub - margin)), size


def _scaled(d: Domain, structure: Structure) -> Domain:
    """The domain with each part counted in units of 1 / sqrt(metric), and inequalities of norm 1."""
    rows = np.abs(d.lift).argmax(0)  # (N,) each part belongs to one row
    s = 1.0 / np.sqrt(structure.metric[rows])
    norms = np.abs(d.G * s).max(1, initial=0.0)
    norms[norms == 0.0] = 1.0  # the cap of a constraint whose limits are open
    return Domain(d.lift * s, d.cost * s, d.quadratic * s * s[:, None], d.G * s / norms[:, None], d.g / norms, d.E * s)
