"""An independent reference for the Kullback-Leibler divergences and for class probabilities: a cone solver's answer made exact.

    minimise    sum_i w_i d(u_i, z_i) + cost . s + 1/2 hess . s^2     over scores u and slacks s >= 0, one a soft constraint or budget
    subject to  o . (A u + offset) - s_k <= limit                     for the sides of linear rows, all ordered pairs of a range's rows
                sum over classes = 1, u >= 0 (class probabilities),  lb <= u <= ub

Clarabel solves it: an exponential cone for each u log u, a quadratic cost for squares. Its multipliers are right to about 1e-8 and say
which sides are active. Newton's method on the conditions of these sides alone gives the rest of the digits: u(lambda) is the minimiser of
the Lagrangian, sample by sample. Accepted at a residual of 1e-10 of all conditions, inactive sides and signs included. Nothing of
fairopt.solve is used. Scores of 0 (and of 1 under "kl") stay, which the divergence says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np

from fairopt.basics.arrays import Array, BoolArray
from fairopt.basics.extras import missing
from fairopt.contract.problem import ProjectionProblem
from fairopt.testing.optimality import Dense, written_out
from fairopt.testing.oracle import OracleSolution

ACCEPTED = 1e-10
STEPS = 60


@dataclass(eq=False)
class _Sides:
    """Sides o . f - s <= limit: owner (m,) each, limit, the slack or -1. cost, hess of the slacks."""

    owner: list[Array] = field(default_factory=list)
    limit: list[float] = field(default_factory=list)
    slack: list[int] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)
    hess: list[float] = field(default_factory=list)

    def ask(self, owner: Array, limit: float, slack: int) -> None:
        if np.isfinite(limit):
            self.owner.append(owner)
            self.limit.append(limit)
            self.slack.append(slack)


def cone_reference(scores: Array, problem: ProjectionProblem) -> OracleSolution | None:
    """The reference for scores (n,) float64, or None where its conditions do not hold to 1e-10. MissingExtraError without clarabel."""
    d = written_out(problem)
    sides = _sides(problem)
    if not sides.owner:
        sides.ask(np.zeros(problem.m), 1.0, -1)
    own = np.array(sides.owner)  # (R, m)
    h = np.array(sides.limit) - own @ d.offset
    found = _clarabel(problem, d, sides, own @ d.a, h, scores)
    if found is None:
        return None
    lam, gap = found
    active = lam > gap
    map_ = _Map(problem, d, scores)
    lam, residual = _newton(map_, own, h, sides, lam, active)
    y = map_.at(own.T @ lam)[0]
    return OracleSolution(y, own.T @ lam, residual, "clarabel") if residual <= ACCEPTED else None


def _sides(problem: ProjectionProblem) -> _Sides:
    sides, eye, blocks = _Sides(), np.eye(problem.m), dict[int, int]()

    def slack_of(k: int) -> int:
        soft = problem.softness[k]
        if soft.kind == "hard":
            return -1
        if soft.kind == "budget" and soft.block in blocks:
            return blocks[soft.block]
        sides.cost.append(0.0 if soft.kind == "quadratic" else soft.weight)
        sides.hess.append(soft.weight if soft.kind == "quadratic" else 0.0)
        if soft.kind == "budget":
            blocks[soft.block] = len(sides.cost) - 1
        return len(sides.cost) - 1

    for k in range(problem.linear):
        s = slack_of(k)
        sides.ask(eye[k], float(problem.upper[k]), s)
        sides.ask(-eye[k], -float(problem.lower[k]), s)
    for r, part in enumerate(problem.range_slices):
        s, ratio, width = slack_of(problem.linear + r), float(problem.ratio[r]), float(problem.width[r])
        for i, j in permutations(range(part.start, part.stop), 2):
            sides.ask(ratio * eye[i] - eye[j], width, s)
        if ratio < 1.0:
            for i in range(part.start, part.stop):
                sides.ask((ratio - 1.0) * eye[i], width, s)
    return sides


def _clarabel(problem: ProjectionProblem, d: Dense, sides: _Sides, G: Array, h: Array, z: Array) -> tuple[Array, Array] | None:
    """(R,) multipliers and slacks of the sides. Variables: u, the slacks, tau (and tau' of 1 - u under "kl")."""
    try:
        import clarabel
        from scipy import sparse
    except ImportError as error:
        raise missing("fairopt.testing needs clarabel and scipy for its reference of other distances", "testing") from error
    n, S, R = problem.n, len(sides.cost), len(h)
    kl = problem.distance != "squared"
    fixed = _fixed(problem, z)
    free = np.flatnonzero(~fixed)
    F = free.size if kl else 0
    twice = problem.distance == "kl"
    width = n + S + F * (2 if twice else 1)
    P = np.zeros(width)
    q = np.zeros(width)
    P[n : n + S], q[n : n + S] = sides.hess, sides.cost
    if kl:
        with np.errstate(divide="ignore"):
            q[free] = -d.w[free] * (np.log(z[free]) - np.log1p(-z[free]) if twice else np.log(z[free]) + 1.0)
        q[n + S :] = -np.tile(d.w[free], 2 if twice else 1)
    else:
        P[:n], q[:n] = d.w, -d.w * z
    rows: list[Any] = []
    right: list[Array] = []
    cones: list[Any] = []

    def put(matrix: Any, b: Array, cone: Any) -> None:
        if matrix.shape[0]:
            rows.append(sparse.hstack([matrix, sparse.csr_matrix((matrix.shape[0], width - matrix.shape[1]))]))
            right.append(b)
            cones.append(cone)

    eye = sparse.identity(n, format="csr")
    put(eye[fixed], z[fixed], clarabel.ZeroConeT(int(fixed.sum())))
    if problem.classes > 1:
        samples = n // problem.classes
        live = ~fixed.reshape(problem.classes, samples).all(0)
        total = sparse.hstack([sparse.identity(samples, format="csr")] * problem.classes, format="csr")
        put(total[live], np.ones(int(live.sum())), clarabel.ZeroConeT(int(live.sum())))
    of_slack = np.zeros((R, S))
    for r, k in enumerate(sides.slack):
        if k >= 0:
            of_slack[r, k] = -1.0
    first = sum(len(b) for b in right)
    put(sparse.csr_matrix(np.hstack([G, of_slack])), h, clarabel.NonnegativeConeT(R))
    if S:
        put(sparse.hstack([sparse.csr_matrix((S, n)), -sparse.identity(S)], format="csr"), np.zeros(S), clarabel.NonnegativeConeT(S))
    for sign, b in ((1.0, d.ub), (-1.0, -d.lb)):
        bound = np.isfinite(b) & ~fixed & ~(kl & (b == (1.0 if sign > 0 and twice else 0.0 if sign < 0 else np.inf)))
        put(sign * eye[bound], b[bound], clarabel.NonnegativeConeT(int(bound.sum())))
    for k in range((2 if twice else 1) if kl else 0):  # (tau, u, 1), (tau', 1 - u, 1)
        at = np.arange(F)
        index, columns = np.concatenate([3 * at, 3 * at + 1]), np.concatenate([n + S + k * F + at, free])
        entries = np.concatenate([np.full(F, -1.0), np.full(F, 1.0 if k else -1.0)])
        rows.append(sparse.csr_matrix((entries, (index, columns)), shape=(3 * F, width)))
        right.append(np.tile([0.0, float(k), 1.0], F))
        cones += [clarabel.ExponentialConeT()] * F
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    matrix = sparse.vstack(rows, format="csc")
    found = clarabel.DefaultSolver(sparse.diags(P, format="csc"), q, matrix, np.concatenate(right), cones, settings).solve()
    lam, gap = (np.asarray(v)[first : first + R] for v in (found.z, found.s))
    return (np.maximum(lam, 0.0), np.maximum(gap, 0.0)) if np.isfinite(lam).all() and np.isfinite(gap).all() else None


def _fixed(problem: ProjectionProblem, z: Array) -> BoolArray:
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
class _Map:
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
                y = np.where(_fixed(self.problem, self.z), self.z, np.where(x >= 0, 1 / (1 + np.exp(-x)), np.exp(x) / (1 + np.exp(x))))
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


def _newton(map_: _Map, own: Array, h: Array, sides: _Sides, lam: Array, active: BoolArray) -> tuple[Array, float]:
    """(multipliers, the residual of all conditions): active sides are equalities, slacks with room are free."""
    S, cost, hess = len(sides.cost), np.array(sides.cost), np.array(sides.hess)
    slack = np.array(sides.slack)
    of_slack = (slack[:, None] == np.arange(S)) * 1.0  # (R, S)
    B = own @ map_.d.a

    def state(lam: Array, s: Array) -> tuple[Array, Array, Array, Array]:
        y, speed = map_.at(own.T @ lam)
        over = B @ y - h - of_slack @ s  # (R,) beyond the side
        return y, speed, over, cost + hess * s - of_slack.T @ lam

    s = np.zeros(S)
    y = map_.at(own.T @ lam)[0]
    for k in range(S):  # as far as its sides are broken
        s[k] = max(float((B @ y - h)[slack == k].max(initial=0.0)), 0.0)
    lam = np.where(active, lam, 0.0)
    paid = of_slack.T @ lam
    moving = (hess > 0) | (paid > cost * (1.0 - 1e-6))  # slacks that are not held at 0
    s = np.where(moving, s, 0.0)
    best = (np.inf, lam)
    act = np.flatnonzero(active)
    for _ in range(STEPS):
        y, speed, over, short = state(lam, s)
        wrong = [np.abs(over[act]).max(initial=0.0), np.maximum(over, 0.0).max(initial=0.0), np.maximum(-lam, 0.0).max(initial=0.0)]
        wrong += [np.abs(short[moving]).max(initial=0.0), np.maximum(-short, 0.0).max(initial=0.0), np.maximum(-s, 0.0).max(initial=0.0)]
        worst = float(max(wrong))
        best = (worst, lam) if worst < best[0] else best
        if worst <= 1e-15 or not np.isfinite(worst):
            break
        E = of_slack[act][:, moving]
        K = np.block([[map_.product(B[act], speed), E], [E.T, -np.diag(hess[moving])]])
        step = np.linalg.lstsq(K, np.concatenate([over[act], short[moving]]), rcond=1e-14)[0]
        lam, s = lam.copy(), s.copy()
        lam[act] += step[: act.size]
        s[moving] += step[act.size :]
    return best[1], best[0]
