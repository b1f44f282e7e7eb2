"""Constraints that share no sample, solved from tables of every row: the way out where Newton's steps do not settle.

Row j alone, at the price p of its own, is  f_j(p) = f_j(0) - sum_i m_i (length of [0, p] in which sample i is free): falling and piecewise
linear. Its bends in order, with the values there, make the inverse p_j(v) a search in a table. A range is then one monotone equation in its
lower level t, of a whatever kind (``fairopt.basics.range_projection`` has the conditions), and all constraints are bisected at once:

    q(t) = sum_j (p_j(t))^-,    u(t) = (t + width + q / gamma) / ratio,    sum_j (p_j(u))^+ = ratio q

A row without a free sample keeps its value over a whole stretch of prices, and p_j(v) jumps there: sums are met inside such a jump, by
shares of it. The answer is good to about nine digits; Newton finishes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.basics.sparse import row_of_columns
from fairopt.solve.dual.evaluator import VectorDual
from fairopt.solve.dual.structure import Numbers, Structure

STEPS = 200  # halvings of a bracket
FAR = 1e30  # a price that reaches no value


def table_prices(dual: VectorDual, structure: Structure, numbers: Numbers) -> Array:
    """(m,) prices, about those that solve the problem. For structures that are ``diagonal`` and have no budget over several constraints."""
    tables = Tables(dual)
    L = structure.linear
    p = np.zeros(structure.metric.shape[0])
    if L:
        p[:L] = _linear(tables, numbers, L)
    if structure.slices:
        p[L:] = _Ranges(tables, structure, numbers).prices()
    return np.clip(p, -FAR, FAR)


class Tables:
    """f (m,) at price 0, and of each side (+1: prices > 0) the bends of all rows, row after row: prices and depths from 0."""

    def __init__(self, dual: VectorDual) -> None:
        row_of_cell, factor = row_of_columns(dual.coefficients)
        self.f = dual.evaluate(np.zeros(dual.coefficients.shape[0])).f
        m = self.f.shape[0]
        row = np.repeat(row_of_cell, dual.counts)
        used = np.flatnonzero(row >= 0)
        a = np.repeat(factor, dual.counts)[used]
        w = 1.0 if dual.inverse_weight is None else 1.0 / dual.inverse_weight[used]
        mass = a * a / w * (1.0 if dual.scale is None else np.repeat(dual.scale, dual.counts)[used])
        row, z = row[used].astype(np.int32), dual.z[used]
        lb, ub = (b if isinstance(b, float) else np.broadcast_to(b, dual.z.shape)[used] for b in (dual.lb, dual.ub))
        ends = (z - ub) * w / a, (z - lb) * w / a  # the prices at which a sample leaves one bound and reaches the other
        low, high = np.minimum(*ends), np.maximum(*ends)
        del used, a, z, lb, ub, ends  # of many samples each of these is large
        self.sides = {1: _side(row, low, high, mass, m), -1: _side(row, -high, -low, mass, m)}

    def prices(self, v: Array, rows: IntArray, sign: int) -> Array:
        """(k,) |p| at which each of ``rows`` (k,) comes to the value v (k,), 0 where it is there or beyond; FAR where it never is."""
        return self.sides[sign].prices(sign * (self.f[rows] - v), rows)


@dataclass(frozen=True, eq=False)
class _Side:
    """starts (m + 1,) of the rows among the bends; price, depth and slope (behind it) of each bend."""

    starts: IntArray
    price: Array
    depth: Array
    slope: Array

    def prices(self, depth: Array, rows: IntArray) -> Array:
        low, high = self.starts[:-1][rows], self.starts[1:][rows]  # the last bend not beyond ``depth`` is in [low, high)
        empty = low == high
        low = np.where(empty, 0, low)
        high = np.where(empty, 1, high)
        while (high - low > 1).any():
            middle = (low + high) // 2
            beyond = self.depth[np.minimum(middle, self.depth.shape[0] - 1)] >= depth
            high = np.where((high - low > 1) & beyond, middle, high)
            low = np.where((high - low > 1) & ~beyond, middle, low)
        if not self.price.shape[0]:
            return np.where(depth > 0.0, FAR, 0.0)
        rest, slope = depth - self.depth[low], self.slope[low]
        with np.errstate(divide="ignore", invalid="ignore"):
            reached = self.price[low] + np.where(slope > 0.0, rest / slope, np.where(rest > 0.0, FAR, 0.0))
        return np.where(depth <= 0.0, 0.0, np.where(empty, FAR, np.minimum(reached, FAR)))


def _side(row: IntArray, low: Array, high: Array, mass: Array, m: int) -> _Side:
    """The bends of each row for rising prices from 0: sample i is free between ``low`` and ``high``, where it adds ``mass``."""
    low = np.maximum(low, 0.0)
    kept = high > low
    row, low, high, mass = row[kept], low[kept], high[kept], mass[kept]
    ends = np.isfinite(high)
    owner = np.concatenate([row, row[ends]])
    at = np.concatenate([low, high[ends]])
    change = np.concatenate([mass, -mass[ends]])
    count = np.ones(owner.shape[0], dtype=np.int8)
    count[row.shape[0] :] = -1
    del row, low, high, mass, kept
    order = np.lexsort((at, owner))
    owner, count = owner[order], count[order]
    at, change = at[order], change[order]
    del order, ends
    starts = np.searchsorted(owner, np.arange(m + 1)).astype(np.int64)
    slope = np.where(_within(count, owner, starts) > 0, np.maximum(_within(change, owner, starts), 0.0), 0.0)
    step = np.diff(at, append=0.0)
    last = starts[1:][np.diff(starts) > 0] - 1
    step[last] = 0.0
    depth = _within(np.concatenate([[0.0], (slope * step)[:-1]]) * (np.diff(owner, prepend=-1) == 0), owner, starts)
    return _Side(starts, at, depth, slope)


def _within(values: NDArray[Any], owner: IntArray, starts: IntArray) -> Array:
    """Running sums that begin anew with each row."""
    total = np.cumsum(values)
    before = np.concatenate([[0.0], total])[starts[:-1]]
    return np.asarray(total - before[owner])


def _bisect(low: Array, high: Array, below: Callable[[Array], BoolArray]) -> tuple[Array, Array]:
    """Each bracket closed, to rounding, around the point up to which ``below`` holds."""
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        left = below(middle)
        low, high = np.where(left, middle, low), np.where(left, high, middle)
        if (high - low <= 4e-16 * np.maximum(np.abs(low), np.abs(high))).all():
            break
    return low, high


def _root(low: Array, high: Array, excess: Callable[[Array], Array]) -> tuple[Array, Array]:
    """As ``_bisect`` around the point where ``excess``, which falls, changes its sign: by chords (the Illinois method), which end on a
    linear piece in a step, and halves between them, for there may be jumps."""
    at_low, at_high = np.full(low.shape, np.nan), np.full(low.shape, np.nan)
    side = np.zeros(low.shape, dtype=np.int64)  # how often in a row the same end moved
    least = 1e-17 * np.maximum(np.abs(low), np.abs(high))
    for k in range(STEPS):
        width, delta = high - low, 1e-15 * np.maximum(np.abs(low), np.abs(high)) + least
        if (width <= 2.5 * delta).all():
            break
        with np.errstate(all="ignore"):
            chord = low + width * (at_low / (at_low - at_high))
        known = np.isfinite(chord) & (np.abs(at_low) < FAR / 4) & (np.abs(at_high) < FAR / 4)
        middle = 0.5 * (low + high)
        x = np.where(known & (k % 4 != 3) & (width > 2.0 * delta), np.clip(chord, low + delta, high - delta), middle)
        value = excess(x)
        up = value > 0.0
        again = np.where(up, np.maximum(side, 0) + 1, np.minimum(side, 0) - 1)
        at_low, at_high = (
            np.where(up, value, np.where(again < -1, 0.5 * at_low, at_low)),
            np.where(up, np.where(again > 1, 0.5 * at_high, at_high), value),
        )
        low, high, side = np.where(up, x, low), np.where(up, high, x), again
    return low, high


def _linear(tables: Tables, numbers: Numbers, L: int) -> Array:
    rows, f = np.arange(L), tables.f[:L]
    out = np.zeros(L)
    for sign, limit in ((1, numbers.upper), (-1, -numbers.lower)):
        broken = np.flatnonzero(sign * f > limit)
        if not broken.size:
            continue
        reach, at, soft = sign * f[broken], rows[broken], 1.0 / numbers.gamma[broken]

        def price(d: Array, at: IntArray = at, sign: int = sign, limit: Array = limit) -> Array:
            return tables.prices(sign * (limit[at] + d), at, sign)

        def below(d: Array, price: Callable[[Array], Array] = price, soft: Array = soft) -> BoolArray:
            return np.asarray(d < price(d) * soft)

        d = _bisect(np.zeros(broken.size), reach - limit[broken], below)[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            p = np.where(soft > 0.0, d / soft, price(np.zeros(broken.size)))
        out[broken] = sign * np.minimum(p, numbers.rho[broken])
    return out


class _Ranges:
    """All ranges at once. Sums over the members of each are taken by ``group`` (rows of ranges,)."""

    def __init__(self, tables: Tables, structure: Structure, numbers: Numbers) -> None:
        L, self.R = structure.linear, len(structure.slices)
        self.tables = tables
        self.rows = np.arange(L, structure.metric.shape[0])
        self.group = structure.owner[L:] - L
        self.width, self.ratio = numbers.width, np.array(structure.ratios)
        self.soft, self.rho = 1.0 / numbers.gamma[L:], numbers.rho[L:]
        firsts = np.array([part.start - L for part in structure.slices])
        f = tables.f[L:]
        self.bottom, self.top = np.minimum.reduceat(f, firsts), np.maximum.reduceat(f, firsts)

    def parts(self, level: Array, sign: int) -> Array:
        """(rows,) |prices| of one sign that bring the members to the level (R,) of their range."""
        return self.tables.prices(level[self.group], self.rows, sign)

    def total(self, parts: Array) -> Array:
        return np.asarray(np.bincount(self.group, weights=parts, minlength=self.R))

    def upper(self, low: Array, q: Array) -> Array:
        with np.errstate(divide="ignore", over="ignore"):
            return np.where(self.ratio > 0.0, (low + self.width + self.soft * q) / np.where(self.ratio > 0.0, self.ratio, 1.0), np.inf)

    def between(self, low: Array, high: Array, total: Array) -> Array:
        """(rows,) parts that sum to ``total`` (R,): the same share of the way from ``low`` to ``high`` for all members."""
        start, way = self.total(low), self.total(high) - self.total(low)
        share = np.clip(np.where(way != 0.0, (total - start) / np.where(way != 0.0, way, 1.0), 0.0), 0.0, 1.0)
        return np.asarray(low + share[self.group] * (high - low))

    def prices(self) -> Array:
        broken = self.ratio * self.top - self.bottom > self.width

        def excess(low: Array) -> Array:
            """Above 0 where the lower level may rise: what is pushed up still exceeds what is pushed down."""
            return self._excess(low, self.total(self.parts(low, -1)))

        low = _root(self.bottom, np.maximum(self.top, -self.width), excess)
        down = self.parts(low[0], -1), self.parts(low[1], -1)
        q = _root(self.total(down[0]), self.total(down[1]), lambda q: self._excess(low[0], q))
        high = self.upper(low[1], q[1]), self.upper(low[0], q[0])
        flow = q[0]
        capped = flow > self.rho
        if capped.any():
            c = capped[self.group]
            at_low, at_high = self.at_flow(self.rho, -1), self.at_flow(self.ratio * self.rho, 1)
            flow = np.where(capped, self.rho, flow)
            low = np.where(capped, at_low[0], low[0]), np.where(capped, at_low[1], low[1])
            high = np.where(capped, at_high[1], high[0]), np.where(capped, at_high[0], high[1])
            down = np.where(c, self.parts(low[0], -1), down[0]), np.where(c, self.parts(low[1], -1), down[1])
        up = self.parts(high[0], 1), self.parts(high[1], 1)
        p = self.between(*up, self.ratio * flow) - self.between(*down, flow)
        tip = broken & (self.ratio < 1.0) & (high[0] < low[0])
        if tip.any():
            p = np.where(tip[self.group], self.tip(), p)
        return np.where(broken[self.group], p, 0.0)

    def _excess(self, low: Array, q: Array) -> Array:
        up = self.total(self.parts(self.upper(low, q), 1))
        return np.asarray(np.where(self.ratio > 0.0, up - self.ratio * q, -(low + self.width + self.soft * q)))

    def at_flow(self, q: Array, sign: int) -> tuple[Array, Array]:
        """Brackets (R,) of the level at which the parts of one sign sum to q."""
        if sign > 0:
            return _bisect(self.bottom, self.top, lambda x: self.total(self.parts(x, 1)) > q)
        return _bisect(self.bottom, self.top, lambda x: self.total(self.parts(x, -1)) < q)

    def tip(self) -> Array:
        """(rows,) prices with which all members of a range are one number c, the tip of its cone."""
        rest = np.where(self.ratio < 1.0, 1.0 - self.ratio, 1.0)

        def signed(c: Array) -> Array:
            return self.parts(c, 1) - self.parts(c, -1)

        def flow(c: Array) -> Array:
            return np.asarray(-self.total(signed(c)) / rest)

        hard = -self.width / rest
        low, high = np.minimum(self.bottom, hard), np.maximum(self.top, hard)
        c = _bisect(low, high, lambda c: c * rest + self.width + self.soft * np.maximum(flow(c), 0.0) < 0.0)
        q = np.where(self.soft > 0.0, -(c[0] * rest + self.width) / np.where(self.soft > 0.0, self.soft, 1.0), flow(c[0]))
        capped = q > self.rho
        at_cap = _bisect(low, high, lambda c: flow(c) < self.rho)
        c = np.where(capped, at_cap[0], c[0]), np.where(capped, at_cap[1], c[1])
        return self.between(signed(c[0]), signed(c[1]), -rest * np.minimum(q, self.rho))
