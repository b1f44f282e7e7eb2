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
from fairopt.testing.score_map import ScoreMap, fixed_scores

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
    found = _found(scores, problem)
    return None if found is None else found.solution


def cone_gradient(scores: Array, problem: ProjectionProblem, cotangent: Array, margin: float) -> tuple[OracleSolution, Array | None] | None:
    """(the reference, (n,) the derivative of ``cotangent . y`` by the scores with the sides that are active held). The second is None
    within ``margin`` of where another side, or another class, would be. For hard constraints."""
    found = _found(scores, problem)
    if found is None:
        return None
    return found.solution, found.gradient(cotangent) if found.is_generic(margin) else None


@dataclass(frozen=True, eq=False)
class _Found:
    """solution; own (R, m), multipliers (R,) and active (R,) of its sides; h (R,) their limits."""

    solution: OracleSolution
    map: ScoreMap
    own: Array
    h: Array
    lam: Array
    active: BoolArray

    def is_generic(self, margin: float) -> bool:
        over = self.own @ self.map.d.a @ self.solution.y - self.h
        apart = [self.lam[self.active], -over[~self.active], self.map.kinks(self.solution.prices)]
        return all(bool((values > margin).all()) for values in apart)

    def gradient(self, cotangent: Array) -> Array:
        """With S = -dy/d(A'p) and T = dy/dz at fixed prices: T'(c - B' (B S B')^-1 B S c) for the active sides B."""
        B = self.own[self.active] @ self.map.d.a
        speed = self.map.at(self.solution.prices)[1]
        moved = self.map.moved(cotangent, speed)
        prices = np.linalg.lstsq(self.map.product(B, speed), B @ moved, rcond=1e-12)[0] if len(B) else np.zeros(0)
        return self.map.by_scores(cotangent - B.T @ prices, speed)


def _found(scores: Array, problem: ProjectionProblem) -> _Found | None:
    d = written_out(problem)
    sides = _sides(problem)
    if not sides.owner:
        sides.ask(np.zeros(problem.m), 1.0, -1)
    own = np.array(sides.owner)  # (R, m)
    h = np.array(sides.limit) - own @ d.offset
    found = _clarabel(problem, d, sides, own, h, scores)
    if found is None:
        return None
    lam, gap = found
    active = lam > gap
    map_ = ScoreMap(problem, d, scores)
    lam, residual = _newton(map_, own, h, sides, lam, active)
    if not residual <= ACCEPTED:
        return None
    y = map_.at(own.T @ lam)[0]
    return _Found(OracleSolution(y, own.T @ lam, residual, "clarabel"), map_, own, h, lam, active)


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


def _clarabel(problem: ProjectionProblem, d: Dense, sides: _Sides, own: Array, h: Array, z: Array) -> tuple[Array, Array] | None:
    """(R,) multipliers and slacks of the sides. Variables: u, the slacks, A u, tau (and tau' of 1 - u under "kl")."""
    try:
        import clarabel
        from scipy import sparse
    except ImportError as error:
        raise missing("fairopt.testing needs clarabel and scipy for its reference of other distances", "testing") from error
    n, S, R = problem.n, len(sides.cost), len(h)
    kl = problem.distance != "squared"
    fixed = fixed_scores(problem, z)
    free = np.flatnonzero(~fixed)
    F = free.size if kl else 0
    twice = problem.distance == "kl"
    T = n + S + problem.m  # where the taus begin
    width = T + F * (2 if twice else 1)
    P = np.zeros(width)
    q = np.zeros(width)
    P[n : n + S], q[n : n + S] = sides.hess, sides.cost
    if kl:
        with np.errstate(divide="ignore"):
            q[free] = -d.w[free] * (np.log(z[free]) - np.log1p(-z[free]) if twice else np.log(z[free]) + 1.0)
        q[T:] = -np.tile(d.w[free], 2 if twice else 1)
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
    put(
        sparse.hstack([d.a, sparse.csr_matrix((problem.m, S)), -sparse.identity(problem.m)], format="csr"),
        np.zeros(problem.m),
        clarabel.ZeroConeT(problem.m),
    )
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
    put(sparse.hstack([sparse.csr_matrix((R, n)), of_slack, own], format="csr"), h, clarabel.NonnegativeConeT(R))
    if S:
        put(sparse.hstack([sparse.csr_matrix((S, n)), -sparse.identity(S)], format="csr"), np.zeros(S), clarabel.NonnegativeConeT(S))
    for sign, b in ((1.0, d.ub), (-1.0, -d.lb)):
        bound = np.isfinite(b) & ~fixed & ~(kl & (b == (1.0 if sign > 0 and twice else 0.0 if sign < 0 else np.inf)))
        put(sign * eye[bound], b[bound], clarabel.NonnegativeConeT(int(bound.sum())))
    for k in range((2 if twice else 1) if kl else 0):  # (tau, u, 1), (tau', 1 - u, 1)
        at = np.arange(F)
        index, columns = np.concatenate([3 * at, 3 * at + 1]), np.concatenate([T + k * F + at, free])
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


@np.errstate(all="ignore")
def _newton(map_: ScoreMap, own: Array, h: Array, sides: _Sides, lam: Array, active: BoolArray) -> tuple[Array, float]:
    """(multipliers, the residual of all conditions): active sides are equalities, slacks with room are free.

    The rows of a range make many pairs out of few prices: steps of the multipliers are taken in the space that these span.
    """
    S, cost, hess = len(sides.cost), np.array(sides.cost), np.array(sides.hess)
    slack = np.array(sides.slack)
    of_slack = (slack[:, None] == np.arange(S)) * 1.0  # (R, S)
    a = map_.d.a

    def state(lam: Array, s: Array) -> tuple[Array, Array, Array, Array]:
        y, speed = map_.at(own.T @ lam)
        over = own @ (a @ y) - h - of_slack @ s  # (R,) beyond the side
        return y, speed, over, cost + hess * s - of_slack.T @ lam

    s = np.zeros(S)
    y = map_.at(own.T @ lam)[0]
    for k in range(S):  # as far as its sides are broken
        s[k] = max(float((own @ (a @ y) - h)[slack == k].max(initial=0.0)), 0.0)
    lam = np.where(active, lam, 0.0)
    paid = of_slack.T @ lam
    moving = (hess > 0) | (paid > cost * (1.0 - 1e-6))  # slacks that are not held at 0
    s = np.where(moving, s, 0.0)
    best = (np.inf, lam)
    act = np.flatnonzero(active)
    left, size, right = np.linalg.svd(own[act], full_matrices=False)
    rank = int((size > 1e-12 * size.max(initial=0.0)).sum())
    basis, rows = left[:, :rank], (size[:, None] * right)[:rank]  # (|act|, r), (r, m): own[act] = basis rows
    for _ in range(STEPS):
        y, speed, over, short = state(lam, s)
        wrong = [np.abs(over[act]).max(initial=0.0), np.maximum(over, 0.0).max(initial=0.0), np.maximum(-lam, 0.0).max(initial=0.0)]
        wrong += [np.abs(short[moving]).max(initial=0.0), np.maximum(-short, 0.0).max(initial=0.0), np.maximum(-s, 0.0).max(initial=0.0)]
        worst = float(np.max(wrong))  # NaN where one is: scores beyond float64 at multipliers far off
        best = (worst, lam) if worst < best[0] else best
        if worst <= 1e-15 or not np.isfinite(worst):
            break
        E = basis.T @ of_slack[act][:, moving]
        K = np.block([[map_.product(rows @ a, speed), E], [E.T, -np.diag(hess[moving])]])
        step = np.linalg.lstsq(K, np.concatenate([basis.T @ over[act], short[moving]]), rcond=1e-14)[0]
        lam, s = lam.copy(), s.copy()
        lam[act] += basis @ step[:rank]
        s[moving] += step[rank:]
    return best[1], best[0]
