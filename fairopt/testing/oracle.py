"""An independent reference solution of a projection problem, accepted only when its optimality conditions hold to 1e-12.

The problem is written as a strictly convex QP in the samples, scaled to x_i = sqrt(w_i) y_i / S, with rows of unit norm:

- a hard range is all pairs of its rows (a range of width 0 is K - 1 equalities; one with a ratio all ordered pairs, rows with
  themselves too); equalities that others imply are left out;
- quadratic softness is one slack s with distance d = t s, where t makes its cost 1/2 s^2;
- priced and budget softness are slacks with a linear cost, which daqp's strict convexity forbids: they get 1/2 (s - s_before)^2
  as well, and the solve is repeated until s stands still (proximal points). At t = 30 each repetition gains about three digits.

daqp (a dual active-set solver, primal_tol = dual_tol = 1e-12) solves it; ``fairopt.testing.active`` then solves the
optimality conditions of the active set that it found once more. ``fairopt.testing.optimality`` judges both; nothing of
fairopt.basics or of a backend is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any

import numpy as np
import torch

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError
from fairopt.basics.extras import missing
from fairopt.contract.problem import ProjectionProblem, Softness
from fairopt.testing.active import crossover
from fairopt.testing.draws import Draw
from fairopt.testing.optimality import Dense, residuals, written_out

ACCEPTED = 1e-12
_SLACK_UNIT = 30.0


@dataclass(frozen=True, eq=False)
class OracleSolution:
    """``y`` (n,) and ``prices`` (m,) float64 numpy; ``residual``: the worst relative optimality residual; ``route``: how it was found."""

    y: Array
    prices: Array
    residual: float
    route: str

    @property
    def accepted(self) -> bool:
        return self.residual <= ACCEPTED


@dataclass
class _QP:
    """Rows G x (+ slacks) between low and high; ``owner`` maps multipliers back to prices: price += owner * multiplier."""

    n: int
    rows: list[Array] = field(default_factory=list)  # each (n,)
    slacks: list[tuple[int, float] | None] = field(default_factory=list)  # (slack, coefficient)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    owner: list[Array] = field(default_factory=list)  # each (m,)
    units: list[float] = field(default_factory=list)  # distance that one unit of each slack stands for
    costs: list[float] = field(default_factory=list)  # linear cost of each slack
    exact: list[bool] = field(default_factory=list)  # its square is part of the problem (quadratic softness)

    def add(self, row: Array, low: float, high: float, owner: Array, slack: tuple[int, float] | None = None) -> None:
        self.rows.append(row)
        self.low.append(low)
        self.high.append(high)
        self.owner.append(owner)
        self.slacks.append(slack)


def solve_oracle(draw: Draw) -> OracleSolution:
    """The reference solution of a draw; look at ``accepted`` before use. Raises MissingExtraError without daqp.

    Examples:
        >>> from fairopt.testing import draw, solve_oracle
        >>> solution = solve_oracle(draw("pairs", seed=3, n=5))
        >>> bool(solution.accepted), solution.y.shape
        (True, (5,))
    """
    return solve_reference(draw.scores.detach().double().numpy(), draw.problem)


def accepted_oracle(draw: Draw) -> OracleSolution | None:
    """The reference solution, or None where no route reaches 1e-12."""
    try:
        solution = solve_oracle(draw)
    except BackendError:
        return None
    return solution if solution.accepted else None


def solve_reference(scores: Array, problem: ProjectionProblem) -> OracleSolution:
    """The same for any problem and scores (n,) float64. Raises BackendError where daqp finds no solution (also: infeasible)."""
    d = written_out(problem)
    scale = _scale(problem, d, scores)
    qp = _write(problem, d, scale)
    y, prices = _proximal(qp, scores, d, scale, problem.m)
    best: OracleSolution | None = None
    for route, point in (("daqp", (y, prices)), ("daqp, y from prices", (np.clip(scores - (d.a.T @ prices) / d.w, d.lb, d.ub), prices))):
        best = _better(best, problem, scores, point, route)
    for tolerance in (1e-9, 1e-7, 1e-11, 1e-5):
        if best is not None and best.residual <= 1e-2 * ACCEPTED:
            break
        best = _better(best, problem, scores, crossover(problem, scores, y, prices, tolerance), f"crossover {tolerance:g}")
    assert best is not None
    return best


def _scale(problem: ProjectionProblem, d: Dense, scores: Array) -> float:
    """About the size of y: that of the clipped scores, the bounds, the offsets, and of what the broken limits ask for."""
    clipped = np.clip(scores, d.lb, d.ub)
    reach = np.abs(d.a).sum(axis=1)
    moves = reach > 1e-14 * reach.max(initial=0.0)  # a zero row asks for nothing that scores can give
    f = d.a @ clipped + d.offset
    sizes = [float(np.abs(clipped).max()), float((np.abs(d.offset[moves]) / reach[moves]).max(initial=0.0))]
    sizes += [float(np.abs(b[np.isfinite(b)]).max(initial=0.0)) for b in (d.lb, d.ub)]
    for k in range(problem.linear):
        if moves[k] and (f[k] > problem.upper[k] or f[k] < problem.lower[k]):
            sizes.append(float(abs(np.clip(f[k], problem.lower[k], problem.upper[k])) / reach[k]))
    return max(sizes) or float(np.abs(scores).max()) or 1.0


def _better(
    best: OracleSolution | None, problem: ProjectionProblem, scores: Array, point: tuple[Array, Array], route: str
) -> OracleSolution:
    residual = residuals(problem, scores, point[0], point[1]).worst
    return OracleSolution(point[0], point[1], residual, route) if best is None or residual < best.residual else best


def _write(problem: ProjectionProblem, d: Dense, scale: float) -> _QP:
    """The rows in x, of unit norm: one unit of a normalised row is ``scale * norm`` of the row."""
    qp = _QP(problem.n)
    price_of = np.eye(problem.m)
    reach = np.linalg.norm(d.a / np.sqrt(d.w), axis=1)  # (m,)
    blocks: dict[int, int] = {}

    def put(row: Array, offset: float, low: float, high: float, owner: Array, slack: int | None) -> None:
        scaled = row / np.sqrt(d.w)
        unit = scale * float(np.linalg.norm(scaled))
        if unit <= 1e-14 * scale * float(reach.max(initial=0.0)) or unit == 0.0:
            return  # the zero row
        limits, owner = ((low - offset) / unit, (high - offset) / unit), owner * (scale**2 / unit)
        if slack is None:
            qp.add(scaled * (scale / unit), *limits, owner)
            return
        qp.add(scaled * (scale / unit), -np.inf, limits[1], owner, (slack, -qp.units[slack] / unit))
        qp.add(scaled * (scale / unit), limits[0], np.inf, owner, (slack, qp.units[slack] / unit))

    for k in range(problem.linear):
        slack = _slack(qp, problem.softness[k], scale, float(reach[k]), blocks)
        put(d.a[k], d.offset[k], float(problem.lower[k]), float(problem.upper[k]), price_of[k], slack)
    for r, block in enumerate(problem.range_slices):
        softness, width = problem.softness[problem.linear + r], float(problem.width[r])
        members = list(range(block.start, block.stop))
        slack = _slack(qp, softness, scale, float(reach[block].max()), blocks)
        ratio = float(problem.ratio[r])
        if ratio < 1.0:
            for i, j in product(members, members):
                put(ratio * d.a[i] - d.a[j], ratio * d.offset[i] - d.offset[j], -np.inf, width, ratio * price_of[i] - price_of[j], slack)
            continue
        equal = softness.kind == "hard" and width == 0.0
        for i, j in [(members[0], j) for j in members[1:]] if equal else combinations(members, 2):
            put(d.a[i] - d.a[j], d.offset[i] - d.offset[j], -width, width, price_of[i] - price_of[j], slack)
    return _without_implied_equalities(qp)


def _slack(qp: _QP, softness: Softness, scale: float, reach: float, blocks: dict[int, int]) -> int | None:
    """The slack of a soft constraint (the block's own for budget): distance = unit * slack, in the units of the row."""
    if softness.kind == "hard":
        return None
    if softness.kind == "budget" and softness.block in blocks:
        return blocks[softness.block]
    exact = softness.kind == "quadratic"
    unit = scale / np.sqrt(softness.weight) if exact else _SLACK_UNIT * scale * max(reach, 1e-300)
    qp.units.append(float(unit))
    qp.costs.append(0.0 if exact else softness.weight * float(unit) / scale / scale)
    qp.exact.append(exact)
    if softness.kind == "budget":
        blocks[softness.block] = len(qp.units) - 1
    return len(qp.units) - 1


def _without_implied_equalities(qp: _QP) -> _QP:
    """Equalities in the span of earlier ones go (their limits agree, or no solution would be accepted)."""
    kept: list[Array] = []
    result = _QP(qp.n, units=qp.units, costs=qp.costs, exact=qp.exact)
    for row, slack, low, high, owner in zip(qp.rows, qp.slacks, qp.low, qp.high, qp.owner, strict=True):
        if low == high and slack is None:
            rest = row.copy()
            for _ in range(2):  # twice is enough
                for q in kept:
                    rest -= (q @ rest) * q
            if np.linalg.norm(rest) < 1e-9:
                continue
            kept.append(rest / np.linalg.norm(rest))
        result.add(row, low, high, owner, slack)
    return result


def _proximal(qp: _QP, scores: Array, d: Dense, scale: float, m: int) -> tuple[Array, Array]:
    """(y, prices) by daqp, repeated while slacks with a linear cost still move."""
    root = np.sqrt(d.w)
    n, s = qp.n, len(qp.costs)
    g = np.zeros((len(qp.rows), n + s))
    for k, (row, slack) in enumerate(zip(qp.rows, qp.slacks, strict=True)):
        g[k, :n] = row
        if slack is not None:
            g[k, n + slack[0]] = slack[1]
    low = np.concatenate([d.lb * root / scale, np.zeros(s), qp.low])
    high = np.concatenate([d.ub * root / scale, np.full(s, np.inf), qp.high])
    centre = np.concatenate([scores * root / scale, np.zeros(s)])
    cost = np.concatenate([np.zeros(n), qp.costs])
    moving = np.concatenate([np.zeros(n, dtype=np.bool_), ~np.array(qp.exact, dtype=np.bool_)]) if s else np.zeros(n, dtype=np.bool_)
    for _ in range(60):
        x, multipliers = _daqp(cost - centre, g, low, high)
        if not moving.any() or float(np.abs(x[moving] - centre[moving]).max()) <= 1e-15 * max(1.0, float(np.abs(x).max())):
            break
        centre[moving] = x[moving]
    prices = np.array(qp.owner).T @ multipliers[n + s :] if qp.owner else np.zeros(m)
    return np.clip(x[:n] * scale / root, d.lb, d.ub), prices


def _daqp(linear: Array, g: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """(x, multipliers) of min 1/2 |x|^2 + linear . x, low <= (x, G x) <= high. Multipliers are > 0 at the upper side."""
    try:
        import daqp
    except ImportError as error:
        raise missing("fairopt.testing needs daqp for its reference solutions", "testing") from error
    size = linear.shape[0]
    sense = np.zeros(low.shape[0], dtype=np.int32)
    sense[low == high] = 5
    big = 1e30
    flag: int = 0
    for tolerance in (1e-12, 1e-10, 1e-8):  # opposed rows that meet in a point look infeasible at 1e-12; the crossover mends the digits
        x: Any
        x, _, flag, info = daqp.solve(
            np.eye(size),
            linear,
            np.ascontiguousarray(g),
            np.minimum(high, big),
            np.maximum(low, -big),
            sense,
            primal_tol=tolerance,
            dual_tol=1e-12,
        )
        if flag in (1, 2):
            return np.asarray(x), np.asarray(info["lam"])
    raise BackendError(f"daqp stopped with exit flag {flag}")


def oracle_scores(solution: OracleSolution) -> torch.Tensor:
    """y as a float64 tensor (n,)."""
    return torch.from_numpy(solution.y.copy())
