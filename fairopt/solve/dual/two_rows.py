"""One or two linear rows: Newton on the dual in plain floats, with one numpy evaluation a step.

The model of one or two rows is minimised by trying states: each row is at no price, at its upper or lower limit, or at its cap. The
first state tried is the one that the proximal map of each row alone would take; the others follow. A step that does not bring the
residual down by half ends this road: ``fairopt.solve.dual.newton`` goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import inf

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.basics.sparse import dense
from fairopt.solve.dual.evaluator import Dual, Evaluation
from fairopt.solve.dual.prox import CONSTANTS, EPS
from fairopt.solve.dual.structure import Numbers, Structure

# a row's state: no price, at a limit (its price is solved for), at its cap
ZERO, UPPER, LOWER, HIGH, LOW = range(5)


@dataclass(frozen=True)
class Row:
    """The floats of one row. ``soft`` = 1 / gamma."""

    lower: float
    upper: float
    rho: float
    soft: float
    metric: float
    unit: float
    offset: float  # absolute

    def price(self, v: float, s: float) -> float:
        """The proximal map: the price for value v = f + s p and slope s."""
        if v > self.upper:
            return min((v - self.upper) / (s + self.soft), self.rho)
        return max((v - self.lower) / (s + self.soft), -self.rho) if v < self.lower else 0.0

    def residual(self, f: float, p: float) -> float:
        """As ``fairopt.solve.dual.prox.residual``, without the sum f + s p where it would forget f."""
        s = self.metric
        theta = self.price(f + s * p, s)
        if theta == 0.0 or abs(theta) >= self.rho:
            return abs(p - theta) * s / self.unit
        limit = self.upper if theta > 0.0 else self.lower
        gap = abs(p * self.soft + limit - f) * s / (s + self.soft)
        return max(gap - CONSTANTS * EPS * (abs(limit) + self.offset), 0.0) / self.unit

    def state(self, p: float) -> int:
        if p == 0.0:
            return ZERO
        if p > 0.0:
            return HIGH if p >= self.rho else UPPER
        return LOW if p <= -self.rho else LOWER


def read_rows(structure: Structure, numbers: Numbers) -> list[Row]:
    return [
        Row(lower, upper, rho, 0.0 if gamma == inf else 1.0 / gamma, metric, unit, abs(offset))
        for lower, upper, rho, gamma, metric, unit, offset in zip(
            numbers.lower.tolist(), numbers.upper.tolist(), numbers.rho.tolist(), numbers.gamma.tolist(),
            structure.metric.tolist(), structure.unit.tolist(), numbers.offset.tolist(), strict=True,
        )
    ]  # fmt: skip


@dataclass(frozen=True, eq=False)
class FewRowsState:
    """Prices, the evaluation there, the residual, and the iterations so far."""

    p: Array
    evaluation: Evaluation
    residual: float
    iterations: int


def few_rows(dual: Dual, structure: Structure, numbers: Numbers, start: Array | None, goal: float, max_iter: int) -> FewRowsState:
    """Newton's method until the residual is at most ``goal`` or stops halving."""
    rows = read_rows(structure, numbers)
    coefficients, offset = dual.coefficients, dual.offset.tolist()
    products = _products(dual)
    p = [0.0] * len(rows) if start is None else [_inside(row, q) for row, q in zip(rows, start.tolist(), strict=True)]

    def at(p: list[float]) -> tuple[list[float], Array, float]:
        sums, slope = dual.cells(np.array(p) @ coefficients)
        f = [a + b for a, b in zip((coefficients @ sums).tolist(), offset, strict=True)]
        return f, slope, max(row.residual(a, q) for row, a, q in zip(rows, f, p, strict=True))

    f, slope, residual = at(p)
    iteration = 0
    while residual > goal and iteration < max_iter:
        q = _minimise(rows, p, f, (products @ slope).tolist())
        if q is None:
            break
        f_new, slope_new, new = at(q)
        iteration += 1
        if not new < residual:
            break
        halved = new <= 0.5 * residual
        p, f, slope, residual = q, f_new, slope_new, new
        if not halved:
            break
    return FewRowsState(np.array(p), Evaluation(np.array(f), slope), residual, iteration)


def _products(dual: Dual) -> Array:
    """(1 or 3, C): what each cell's slope adds to M_00, M_01, M_11; kept with the problem's rows."""

    def made() -> Array:
        a = dense(dual.coefficients)
        return a * a if a.shape[0] == 1 else np.stack([a[0] * a[0], a[0] * a[1], a[1] * a[1]])

    return dual.problem.rows.workspace.keep("products", made)


def _inside(row: Row, p: float) -> float:
    if p > 0.0:
        return min(p, row.rho) if row.upper < inf else 0.0
    return max(p, -row.rho) if row.lower > -inf else 0.0


def _minimise(rows: list[Row], p: list[float], f: list[float], M: list[float]) -> list[float] | None:
    """The minimiser of the model, or None where it is not unique to rounding."""
    if len(rows) == 1:
        s = M[0]
        return [rows[0].price(f[0] + s * p[0], s)] if s + rows[0].soft > 1e-12 * rows[0].metric else None
    first, second = rows
    a, b, c = M
    if a <= 1e-12 * first.metric or c <= 1e-12 * second.metric or a * c - b * b <= 1e-10 * a * c:
        return None
    v0, v1 = f[0] + a * p[0] + b * p[1], f[1] + b * p[0] + c * p[1]  # values at price 0
    # the states that each row would take against the other's present price
    q0 = first.price(v0 - b * p[1], a)
    guess = (first.state(q0), second.state(second.price(v1 - b * q0, c)))
    q = _try(guess, first, second, (a, b, c), (v0, v1))
    if q is not None:
        return q
    for states in product(_states(first), _states(second)):
        q = _try(states, first, second, (a, b, c), (v0, v1)) if states != guess else None
        if q is not None:
            return q
    return None


def _states(row: Row) -> tuple[int, ...]:
    return (ZERO, UPPER, LOWER) if row.rho == inf else (ZERO, UPPER, LOWER, HIGH, LOW)


def _try(states: tuple[int, int], first: Row, second: Row, M: tuple[float, float, float], v: tuple[float, float]) -> list[float] | None:
    """The prices of these states if they are consistent."""
    a, b, c = M
    fixed = [_fixed(first, states[0]), _fixed(second, states[1])]
    targets = [first.upper if states[0] == UPPER else first.lower, second.upper if states[1] == UPPER else second.lower]
    if inf in (abs(t) for t, q in zip(targets, fixed, strict=True) if q is None):
        return None
    p0, p1 = fixed
    if p0 is None and p1 is None:
        d0, d1 = a + first.soft, c + second.soft
        g0, g1 = v[0] - targets[0], v[1] - targets[1]
        det = d0 * d1 - b * b
        p0, p1 = (d1 * g0 - b * g1) / det, (d0 * g1 - b * g0) / det
    elif p0 is None:
        assert p1 is not None
        p0 = (v[0] - targets[0] - b * p1) / (a + first.soft)
    elif p1 is None:
        p1 = (v[1] - targets[1] - b * p0) / (c + second.soft)
    f0, f1 = v[0] - a * p0 - b * p1, v[1] - b * p0 - c * p1
    return [p0, p1] if _holds(first, states[0], p0, f0) and _holds(second, states[1], p1, f1) else None


def _fixed(row: Row, state: int) -> float | None:
    return None if state in (UPPER, LOWER) else row.rho if state == HIGH else -row.rho if state == LOW else 0.0


def _holds(row: Row, state: int, p: float, f: float) -> bool:
    noise = 1e-13 * (abs(f) + row.metric * abs(p))
    if state == ZERO:
        return row.lower - noise <= f <= row.upper + noise
    if state == UPPER:
        return 0.0 <= p <= row.rho
    if state == LOWER:
        return -row.rho <= p <= 0.0
    return f >= row.upper - noise if state == HIGH else f <= row.lower + noise
