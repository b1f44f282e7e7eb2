"""Is ``y`` nearest? A bound of how far its objective is above the least one, from prices that the judge finds itself.

For any prices p in the domain of the softness, weak duality gives  objective(y) - least objective <= gap(y, p),  where gap is a sum of
terms that are each >= 0 for feasible y and computed without cancellation:

    a sample    1/2 w (y - t)^2 + (w (t - z) + q)(y - t),   q = (A'p)_i,  t = clip(z - q / w, lb, ub)
    a block     cost(d) - sum p . excess + conjugate(sum |p|)

so a small gap proves that y is nearest, whoever found p. First p is read from y by non-negative least squares on the free samples; where
that gap is not small enough, clarabel solves the written-out problem (``reference``), and its prices and its point decide. All in float64
after scaling by powers of two; row values and displacements are computed exactly before they are rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from tests.fuzz.draw import DTYPES
from tests.fuzz.rows import Block, Constraint, box_of, member_value

F = Fraction
INF = math.inf


@dataclass
class Scaled:
    """A draw in units of its own: scores / unit, weights / heaviest, rows / size of their block."""

    n: int
    w: np.ndarray
    unit: Fraction
    z: list[Fraction]  # all in plain units
    lb: list[float]
    ub: list[float]
    blocks: list[Block]
    a: list[list[np.ndarray]]  # per constraint (in order of blocks) the scaled members (n,)
    size: list[Fraction]  # per block
    weight: list[float]  # per block: rho or gamma, scaled
    ratio: list[float]  # per constraint

    def constraints(self) -> list[tuple[int, Constraint]]:
        return [(b, c) for b, block in enumerate(self.blocks) for c in block.constraints]


def power(v: Fraction | float) -> Fraction:
    """The power of two next to v > 0."""
    v = F(v)
    e = v.numerator.bit_length() - v.denominator.bit_length()
    return F(2) ** e


def small(v: Fraction) -> float:
    try:
        return float(v)
    except OverflowError:
        return INF if v > 0 else -INF


def scaled(d: dict[str, Any], blocks: list[Block], y: list[float], unit: Fraction) -> Scaled:
    n = d["n"]
    weights = np.ones(n) if d["weights"] is None else np.array(d["weights"])
    heavy = float(power(float(weights.max())))
    lb, ub = reachable(d, unit)
    rows, sizes, costs = [], [], []
    for block in blocks:
        coefficients = [[m.coefficients(n) for m in c.members] for c in block.constraints]
        top = max((abs(v) for c in coefficients for m in c for v in m), default=F(0))
        size = power(top) if top else F(1)
        rows += [[np.array([small(v / size) for v in m]) for m in c] for c in coefficients]
        sizes.append(size)
        if block.kind == "penalised":
            costs.append(small(F(block.weight) * size * size / F(heavy)))
        elif block.kind == "hard":
            costs.append(INF)
        else:
            costs.append(small(F(block.weight) * size / F(heavy) / unit))
    ratios = [float(c.ratio) for block in blocks for c in block.constraints]
    return Scaled(n, weights / heavy, unit, [F(v) for v in d["scores"]], lb, ub, blocks, rows, sizes, costs, ratios)


def reachable(d: dict[str, Any], unit: Fraction) -> tuple[list[float], list[float]]:
    """The box, closed at the largest number of the dtype where that is within 2^40 units: no answer lies beyond it."""
    lb, ub = box_of(d)
    end = float(torch.finfo(DTYPES[d["dtype"]]).max)
    if F(end) > unit * 2**40:
        return lb, ub
    return [max(v, -end) for v in lb], [min(v, end) for v in ub]


@dataclass
class Point:
    """A point in scaled units, each number one rounding away from the exact: y - z, y - lb, ub - y, and the members of every constraint."""

    move: np.ndarray
    above: np.ndarray
    below: np.ndarray
    excess: list[list[tuple[float, float]]]  # linear: [(f - upper, lower - f)]; range: (f - max, min - f) of each member, times ratio and 1
    over: list[float]  # range: ratio * max - min - width, else nan


def point(s: Scaled, y: list[Any]) -> Point:
    exact = [F(v) for v in y]
    u = s.unit
    move = np.array([small((v - z) / u) for v, z in zip(exact, s.z, strict=True)])
    above = np.array([INF if lo == -INF else small((v - F(lo)) / u) for v, lo in zip(exact, s.lb, strict=True)])
    below = np.array([INF if hi == INF else small((F(hi) - v) / u) for v, hi in zip(exact, s.ub, strict=True)])
    excess, over = [], []
    for b, c in s.constraints():
        r = u * s.size[b]
        values = [member_value(m, y) for m in c.members]
        if c.width is None:
            f = values[0]
            excess.append([(-INF if c.upper is None else small((f - c.upper) / r), -INF if c.lower is None else small((c.lower - f) / r))])
            over.append(math.nan)
        else:
            top, bottom = max(values), min(values)
            excess.append([(small(c.ratio * (f - top) / r), small((bottom - f) / r)) for f in values])
            over.append(small((c.ratio * top - bottom - c.width) / r))
    return Point(move, above, below, excess, over)


def excess_of_block(s: Scaled, at: Point, b: int, index: list[int]) -> float:
    """The largest signed excess of the block's constraints."""
    return max(at.over[k] if at.over[k] == at.over[k] else max(at.excess[k][0]) for k in index)


def bend(s: Scaled) -> float:
    """Twice what moving every score by one unit adds to the objective at its least: the curvature of distance and of quadratic softness."""
    total, k = float(s.w.sum()), 0
    for b, block in enumerate(s.blocks):
        for a in s.a[k : k + len(block.constraints)]:
            if block.kind == "penalised":
                total += s.weight[b] * float(max(np.abs(row).sum() for row in a) * (1 if len(a) == 1 else 2)) ** 2
        k += len(block.constraints)
    return total


def gap(s: Scaled, at: Point, prices: list[np.ndarray]) -> tuple[float, float]:
    """(the gap, the total of prices times row sizes: what one unit of rounding in every score can change)."""
    with np.errstate(all="ignore"):
        q = pulled(s, prices)
        step = -q / s.w  # t - z where free
        # everything relative to y: t - y
        to = step - at.move
        to = np.minimum(np.maximum(to, -at.above), at.below)
        samples = 0.5 * s.w * to * to - (s.w * (to + at.move) + q) * to
        total = float(samples.sum())
        slope = float(np.abs(s.w * (to + at.move) + q).sum())
        pull = 0.0
        k = 0
        for b, block in enumerate(s.blocks):
            index = list(range(k, k + len(block.constraints)))
            k += len(block.constraints)
            if not index:
                continue
            mass = 0.0
            for i in index:
                p = prices[i]
                if block.constraints[i - index[0]].width is None:
                    mass += abs(float(p[0]))
                    up, down = at.excess[i][0]
                    total -= float(p[0]) * up if p[0] > 0 else (-float(p[0]) * down if p[0] < 0 else 0.0)
                    pull += abs(float(p[0])) * float(np.abs(s.a[i][0]).sum())
                else:
                    flow = float(p[1].sum())
                    mass += flow
                    total -= sum(v * e[0] for v, e in zip(p[0], at.excess[i], strict=True) if v)
                    total -= sum(v * e[1] for v, e in zip(p[1], at.excess[i], strict=True) if v)
                    total -= flow * at.over[i] if flow else 0.0
                    pull += sum(float(v) * float(np.abs(row).sum()) for v, row in zip(p[0] + p[1], s.a[i], strict=True))
            d = max(excess_of_block(s, at, b, index), 0.0)
            w = s.weight[b]
            if block.kind == "penalised":
                total += 0.5 * w * d * d + 0.5 * mass * mass / w if w else 0.0
            elif block.kind != "hard" and d:
                total += w * d
        return total, pull + slope


def pulled(s: Scaled, prices: list[np.ndarray]) -> np.ndarray:
    """(n,) A'p. Prices of a linear constraint are (1,), signed; of a range (2, members): on its largest ones and on its smallest, >= 0."""
    q = np.zeros(s.n)
    for i, p in enumerate(prices):
        for row, v in zip(s.a[i], p if p.ndim == 1 else s.ratio[i] * p[0] - p[1], strict=True):
            if v:
                q += v * row
    return q


def shift(s: Scaled, prices: list[np.ndarray]) -> np.ndarray:
    """(n,) -A'p / w: where prices send the samples, before the box."""
    return np.nan_to_num(-pulled(s, prices) / s.w)


def reach(s: Scaled, at: Point, prices: list[np.ndarray]) -> float:
    """The farthest that the prices of all rows, each taken by its absolute value, would send a sample that is at no bound."""
    total = np.zeros(s.n)
    for i, p in enumerate(prices):
        for row, v in zip(s.a[i], np.abs(p) if p.ndim == 1 else p[0] + p[1], strict=True):
            if v:
                total += v * np.abs(row)
    free = (at.above > 0) & (at.below > 0)
    return min(float((total[free] / s.w[free]).max(initial=0.0)), 1e300)


def no_prices(s: Scaled) -> list[np.ndarray]:
    return [np.zeros((2, len(c.members)) if c.width is not None else 1) for _, c in s.constraints()]


def objective(s: Scaled, at: Point) -> float:
    with np.errstate(all="ignore"):
        total = float((0.5 * s.w * at.move * at.move).sum())
        k = 0
        for b, block in enumerate(s.blocks):
            index = list(range(k, k + len(block.constraints)))
            k += len(block.constraints)
            if block.kind == "hard" or not index:
                continue
            d = max(excess_of_block(s, at, b, index), 0.0)
            total += 0.0 if not d else (0.5 * s.weight[b] * d * d if block.kind == "penalised" else s.weight[b] * d)
        return total


def kink(s: Scaled, at: Point, delta: float) -> float:
    """What soft rows cost that are broken only because scores moved by ``delta`` each: their limit was the goal, or in a budget the tie of
    its largest excesses: one of them falls where another rises, at the whole weight.
    """
    total, k = 0.0, 0
    for b, block in enumerate(s.blocks):
        index = list(range(k, k + len(block.constraints)))
        k += len(block.constraints)
        if block.kind in ("priced", "budgeted") and index:
            d = max(excess_of_block(s, at, b, index), 0.0)
            total += s.weight[b] * d if 0.0 < d <= delta * widest(s, index) else 0.0
            tied = [i for i in index if excess_of_block(s, at, b, [i]) >= d - delta * widest(s, index)] if block.kind == "budgeted" else []
            total += s.weight[b] * delta * widest(s, tied) if d > delta * widest(s, index) and len(tied) > 1 else 0.0
    return total


def widest(s: Scaled, index: list[int]) -> float:
    """How far the constraints can move where every score moves by one unit."""
    return max(float(np.abs(row).sum()) * (1 if len(s.a[i]) == 1 else 2) for i in index for row in s.a[i])


def prices_from(s: Scaled, at: Point, near: float, delta: float, *, pinned: bool = False) -> list[np.ndarray]:
    """Prices that explain the displacements of the free samples, by non-negative least squares over the active sides.

    ``pinned``: those of samples at a bound as well, which may be pulled beyond it: where no sample is free they alone tell the prices.
    """
    free = (at.above > near) & (at.below > near)
    root = np.sqrt(s.w[free])
    columns: list[np.ndarray] = []
    put: list[tuple[int, int, int, int]] = []  # constraint, member up, member down (-1), block
    blocks: dict[int, list[int]] = {}
    k = 0
    fixed: dict[int, float] = {}
    for b, block in enumerate(s.blocks):
        index = list(range(k, k + len(block.constraints)))
        k += len(block.constraints)
        if not index or s.weight[b] == 0:
            continue
        worst = excess_of_block(s, at, b, index)
        level = max(worst, 0.0) if block.kind == "budgeted" else None
        for i in index:
            tol = near * max(1.0, max(float(np.abs(row).sum()) for row in s.a[i]))
            floor = -tol if level is None else level - tol
            if at.over[i] != at.over[i]:
                for sign, e in zip((1, -1), at.excess[i][0], strict=True):
                    if e >= floor:
                        columns.append(sign * s.a[i][0])
                        put.append((i, 0 if sign > 0 else -1, 0 if sign < 0 else -1, b))
                        blocks.setdefault(b, []).append(len(put) - 1)
            elif at.over[i] >= floor:
                ratio = s.ratio[i]
                top = [j for j, e in enumerate(at.excess[i]) if e[0] >= -tol]
                bottom = [j for j, e in enumerate(at.excess[i]) if e[1] >= -tol]
                pairs = [(j, low) for j in top for low in bottom if j != low or ratio < 1]
                if len(pairs) > 150 and ratio == 1:
                    pairs = [(j, top[0]) for j in top[1:]] + [(top[0], j) for j in bottom if j != top[0]]
                for j, low in pairs:
                    columns.append(ratio * s.a[i][j] - s.a[i][low])
                    put.append((i, j, low, b))
                    blocks.setdefault(b, []).append(len(put) - 1)
        if block.kind in ("priced", "budgeted") and worst > max(near * 4, delta * widest(s, index)):
            fixed[b] = s.weight[b]
    prices = no_prices(s)
    if not columns:
        return prices
    count = len(columns)
    if pinned:
        at_low, at_high = np.flatnonzero(at.above <= near), np.flatnonzero((at.below <= near) & (at.above > near))
        eye, free, root = np.eye(s.n), np.ones(s.n, dtype=bool), np.sqrt(s.w)
        columns += [-s.w[i] * eye[i] for i in at_low] + [s.w[i] * eye[i] for i in at_high]
    matrix = np.array(columns).T[free] / root[:, None] if free.any() else np.zeros((0, len(columns)))
    right = -s.w[free] * at.move[free] / root
    extra, extra_right = [], []
    for b, members in blocks.items():
        if s.blocks[b].kind == "penalised":
            index = sorted({put[j][0] for j in members})
            d = max(excess_of_block(s, at, b, index), 0.0)
            row = np.zeros(len(columns))
            row[members] = 1.0 / math.sqrt(s.weight[b]) if s.weight[b] else 0.0
            extra.append(row)
            extra_right.append(math.sqrt(s.weight[b]) * d)
        elif b in fixed:
            row = np.zeros(len(columns))
            row[members] = 1.0
            strong = 1e3 * float(np.abs(matrix).max(initial=1.0))
            extra.append(row * strong)
            extra_right.append(fixed[b] * strong)
    if extra:
        matrix, right = np.vstack([matrix, extra]), np.concatenate([right, extra_right])
    norm = np.sqrt((matrix * matrix).sum(0)) if matrix.size else np.zeros(len(columns))
    norm = np.where((norm > 0) & np.isfinite(norm), norm, 1.0)
    height = float(np.abs(right).max(initial=0.0)) or 1.0
    if not (np.isfinite(matrix).all() and np.isfinite(right).all()):
        return prices
    try:
        found, _ = nnls(matrix / norm, right / height, maxiter=30 * len(columns) + 100)
    except (RuntimeError, ValueError):
        return prices
    found = (found * height / norm)[:count]
    for b, members in blocks.items():
        if s.blocks[b].kind in ("priced", "budgeted"):
            mass = float(found[members].sum())
            if b in fixed and not mass > 1e-6 * s.weight[b]:  # nothing to be read from the samples: the price is known all the same
                found[members] = s.weight[b] / len(members)
            elif mass > s.weight[b] or b in fixed:
                found[members] *= s.weight[b] / mass
    for (i, j, low, _), v in zip(put, found, strict=True):
        if prices[i].ndim == 1:
            prices[i][0] += v if j == 0 else -v
        else:
            prices[i][0, j] += v
            prices[i][1, low] += v
    return cancelled(s, prices)


def cancelled(s: Scaled, prices: list[np.ndarray]) -> list[np.ndarray]:
    """Where the ratio is 1 a price on a member's both sides is none."""
    for i, p in enumerate(prices):
        if p.ndim == 2 and s.ratio[i] == 1:
            p -= np.minimum(p[0], p[1])
    return prices
