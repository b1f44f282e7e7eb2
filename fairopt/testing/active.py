"""The linear piece of the projection around a solution: which samples are free, which combinations of rows are held, and how.

On a piece, with prices p = fixed + B q, free samples F and C = B^T A, the solution obeys

    y_F = z_F - (A^T p / w)_F,   y_i = its bound elsewhere,   C y + B^T offset = target + compliance * q .

B has one column per held combination: e_k for a row at its limit; e_i - e_t for members i, t that share the top (or bottom) of a
range; ratio e_t - e_s for the width of a range (t = s where all its rows are equal, at the tip of a ratio's cone); differences of
constraints that share a budget. Rows at their cap stand in ``fixed``.
compliance is 1 / gamma for quadratic softness and 0 elsewhere. Written from DESIGN 1 and 7, independent of fairopt.basics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fairopt.basics.arrays import Array, BoolArray
from fairopt.contract.problem import ProjectionProblem
from fairopt.testing.optimality import Dense, price_unit, size_of, written_out


@dataclass(frozen=True, eq=False)
class Piece:
    """See the module. free (n,), clamped_at (n,), columns (m, q), fixed (m,), target (q,), compliance (q,)."""

    free: BoolArray
    clamped_at: Array
    columns: Array
    fixed: Array
    target: Array
    compliance: Array


@dataclass
class _Held:
    """Columns while they are collected."""

    m: int
    columns: list[Array]
    target: list[float]
    compliance: list[float]
    fixed: Array

    def hold(self, column: Array, target: float, compliance: float = 0.0) -> None:
        self.columns.append(column)
        self.target.append(target)
        self.compliance.append(compliance)


@dataclass(frozen=True, eq=False)
class _Side:
    """A constraint that carries a price: beyond(f) = direction . f - limit, and the price along direction."""

    direction: Array  # (m,)
    limit: float
    price: float


def piece_at(problem: ProjectionProblem, scores: Array, y: Array, prices: Array, tolerance: float = 1e-9) -> Piece:
    """The piece at (y, prices): a price counts as zero, and a sample as clamped, below ``tolerance`` relative to the scores."""
    d = written_out(problem)
    scale = size_of(scores, y)
    unit = price_unit(d, scale)
    before = scores - (d.a.T @ prices) / d.w
    low, high = before <= d.lb + tolerance * scale, before >= d.ub - tolerance * scale
    held = _Held(problem.m, [], [], [], np.zeros(problem.m))
    blocks: dict[int, list[_Side]] = {}
    for k in range(problem.linear):
        _linear(problem, held, blocks, k, prices, unit, tolerance)
    for r in range(problem.ranges):
        _range(problem, held, blocks, r, d.a @ y + d.offset, prices, unit, tolerance)
    for number, sides in blocks.items():
        rho = next(s.weight for s in problem.softness if s.block == number)
        _budget(held, sides, rho, tolerance * float(unit.max()))
    columns = np.array(held.columns).T.reshape(problem.m, len(held.columns))
    return Piece(
        free=~(low | high),
        clamped_at=np.where(low, d.lb, np.where(high, d.ub, 0.0)),
        columns=columns,
        fixed=held.fixed,
        target=np.array(held.target),
        compliance=np.array(held.compliance),
    )


def _linear(
    problem: ProjectionProblem, held: _Held, blocks: dict[int, list[_Side]], k: int, prices: Array, unit: Array, tolerance: float
) -> None:
    softness, p = problem.softness[k], float(prices[k])
    equality = problem.lower[k] == problem.upper[k]
    direction = np.zeros(problem.m)
    direction[k] = 1.0 if p > 0 or (p == 0 and np.isfinite(problem.upper[k])) else -1.0
    limit = float(problem.upper[k] if direction[k] > 0 else -problem.lower[k])
    if abs(p) <= tolerance * unit[k] and not (equality and softness.kind in ("hard", "priced")):
        return
    if softness.kind == "budget":
        blocks.setdefault(softness.block, []).append(_Side(direction, limit, abs(p)))
    elif softness.kind == "priced" and abs(p) >= softness.weight - tolerance * unit[k]:
        held.fixed += softness.weight * direction
    else:
        held.hold(direction, limit, 1.0 / softness.weight if softness.kind == "quadratic" else 0.0)


def _range(
    problem: ProjectionProblem, held: _Held, blocks: dict[int, list[_Side]], r: int, f: Array, prices: Array, unit: Array, tolerance: float
) -> None:
    block, softness = problem.range_slices[r], problem.softness[problem.linear + r]
    width = float(problem.width[r])
    members = np.arange(block.start, block.stop)
    p, small = prices[members], tolerance * float(unit[members].min())
    ratio = float(problem.ratio[r])
    up, down = float(np.maximum(p, 0.0).sum()), float(np.maximum(-p, 0.0).sum())
    spent = up if ratio == 1.0 else (down - up) / (1.0 - ratio)
    top, bottom = members[p > small], members[p < -small]
    if ratio < 1.0 and ratio * down - up > small:  # the tip: every row is at both ends
        top = bottom = members
    elif ratio == 0.0:
        top = bottom
    unspent = softness.kind in ("hard", "priced") and spent < softness.weight - small
    if width == 0.0 and ratio == 1.0 and unspent:  # all rows equal
        for i in members[1:]:
            held.hold(_difference(problem.m, i, members[0]), 0.0)
        return
    if not (top.size and bottom.size):
        return
    for group in (top,) if top is bottom else (top, bottom):
        for i in group[1:]:
            held.hold(_difference(problem.m, i, group[0]), 0.0)
    direction = _difference(problem.m, top[0], bottom[0], ratio)
    if softness.kind == "budget":
        blocks.setdefault(softness.block, []).append(_Side(direction, width, spent))
    elif softness.kind == "priced" and not unspent:
        held.fixed += softness.weight * direction
    else:
        held.hold(direction, width, 1.0 / softness.weight if softness.kind == "quadratic" else 0.0)


def _budget(held: _Held, sides: list[_Side], rho: float, small: float) -> None:
    if sum(side.price for side in sides) < rho - small:  # the budget is not used up: each limit holds as if hard
        for side in sides:
            held.hold(side.direction, side.limit)
        return
    first = sides[0]
    held.fixed += rho * first.direction
    for side in sides[1:]:
        held.hold(side.direction - first.direction, side.limit - first.limit)


def _difference(m: int, i: int, j: int, ratio: float = 1.0) -> Array:
    """ratio e_i - e_j."""
    column = np.zeros(m)
    column[i] += ratio
    column[j] -= 1.0
    return column


def solve_piece(problem: ProjectionProblem, scores: Array, piece: Piece, start: Array) -> tuple[Array, Array]:
    """(y, prices) of the piece; where its multipliers are not unique, the ones nearest to the prices ``start`` (m,)."""
    d = written_out(problem)
    q: Array = np.zeros(0)
    if piece.columns.size:
        q = np.asarray(np.linalg.lstsq(piece.columns, start - piece.fixed, rcond=None)[0], dtype=np.float64)
    c = piece.columns.T @ d.a  # (q, n)
    curvature = _curvature(c, d, piece)
    y, prices = _point(scores, d, piece, q)
    for _ in range(4):  # a linear system: the later rounds only refine
        miss = c @ y + piece.columns.T @ d.offset - piece.target - piece.compliance * q
        if q.size == 0:
            break
        root = np.sqrt(np.maximum(np.diag(curvature), 1e-300))
        q = q + np.asarray(np.linalg.lstsq(curvature / np.outer(root, root), miss / root, rcond=1e-11)[0] / root, dtype=np.float64)
        y, prices = _point(scores, d, piece, q)
    return y, prices


def _curvature(c: Array, d: Dense, piece: Piece) -> Array:
    """(q, q): C W^-1 D_F C^T + compliance."""
    return np.asarray((c * (piece.free / d.w)) @ c.T + np.diag(piece.compliance))


def _point(scores: Array, d: Dense, piece: Piece, q: Array) -> tuple[Array, Array]:
    prices = piece.fixed + piece.columns @ q
    y = np.where(piece.free, scores - (d.a.T @ prices) / d.w, piece.clamped_at)
    return np.clip(y, d.lb, d.ub), prices


def crossover(problem: ProjectionProblem, scores: Array, y: Array, prices: Array, tolerance: float) -> tuple[Array, Array]:
    """(y, prices) of the piece that (y, prices) points at: full accuracy from an answer that only has the right active set."""
    return solve_piece(problem, scores, piece_at(problem, scores, y, prices, tolerance), prices)
