"""Newton's method on the dual as steps between evaluations, in cell space, written once for numba and numpy.

Whoever holds the samples evaluates: ``advance`` takes the sums and slopes of the cells at the shifts it asked for, and asks for the next
ones, says that the prices are found, or gives up. A step goes to the minimiser of the model f(q) = f(p) - M (q - p): the proximal map
where no cell is in two rows, else a primal-dual active set method, helped by sweeps over one constraint after the other where its sets
come back. What it gives up ``fairopt.solve.dual.newton`` solves, with its line search and its interior point method.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fairopt.solve.passes.jit import inner
from fairopt.solve.passes.kernels import copy
from fairopt.solve.passes.pieces import gaps, read_piece, solve_piece
from fairopt.solve.passes.rows import Cells, combine, linear_price, model, prox, range_prices, residual, values

EVALUATE, SOLVED, GIVEN_UP = 0, 1, 2
RESIDUAL, LENGTH, STEPS, TRIES, GOAL, LOOSE, NOISE, OWN, EPS, NUMBERS = range(10)
MOST_STEPS = 30
PIVOTS, BEFORE_SWEEPS, SWEEPS = 60, 10, 6
FEW, MANY = 8, 15_360  # pivots at least, and rows times pivots at most: each one eliminates anew


class Search(NamedTuple):
    """p, f (m,) the best prices and the row values there, free the slopes there, (C,) or blocks; step (m,), trial (m,) and shift (C,) what
    is asked for; number (NUMBERS,): the residual, the step's length, steps, shorter tries, the goal, what a stalled search may end with,
    noise, the size of the scores, and the rounding of their dtype. All lie one after the other in one vector, number first.
    """

    number: Any
    p: Any
    f: Any
    step: Any
    trial: Any
    free: Any
    shift: Any


@inner
def search_of(work: Any, m: int, slopes: int) -> Search:
    a, b = NUMBERS, NUMBERS + 4 * m
    c = b + slopes
    return Search(work[:a], work[a : a + m], work[a + m : a + 2 * m], work[a + 2 * m : a + 3 * m], work[a + 3 * m : b], work[b:c], work[c:])


@inner
def begin(w: Search, goal: float, loose: float, noise: float) -> None:
    """A search from the prices ``w.trial``, whose shifts ``w.shift`` are to be evaluated first."""
    w.number[RESIDUAL], w.number[STEPS], w.number[TRIES] = np.inf, 0.0, 0.0
    w.number[GOAL], w.number[LOOSE], w.number[NOISE] = goal, loose, noise


@inner
def _ended(q: Cells, w: Search) -> int:
    combine(q, w.p, w.shift)
    return SOLVED


@inner
def advance(q: Cells, w: Search, sums: Any, free: Any) -> int:
    """The next move, after an evaluation at ``w.shift``: sums (C,) of the scores and slopes (C,) of the cells. In the end ``w.shift``
    is that of the prices found.
    """
    m, number = w.p.shape[0], w.number
    f = np.empty(m)
    values(q, sums, f)
    new = residual(q, f, w.trial)
    old = number[RESIDUAL]
    if new < old:
        copy(w.p, w.trial)
        copy(w.f, f)
        copy(w.free, free)
        number[RESIDUAL], number[TRIES] = new, 0.0
        if new <= number[GOAL] or (new > 0.5 * old and new <= number[LOOSE]):
            return _ended(q, w)
        good = number[STEPS] < MOST_STEPS
        if good:  # w.step: the way to the model's minimiser
            M, diagonal = np.zeros((1, 1)) if q.diagonal else np.zeros((m, m)), np.zeros(m)
            model(q, w.free, M, diagonal)
            if q.diagonal:
                for k in range(m):
                    s = max(diagonal[k], 0.05 * q.metric[k] if diagonal[k] <= 1e-12 * q.metric[k] else 0.0)
                    diagonal[k] = s
                    f[k] = w.f[k] + s * w.p[k]
                prox(q, f, diagonal, w.step)
            else:
                good = minimise(q, w, M, diagonal, w.step)
            for k in range(m):
                w.step[k] -= w.p[k]
        if not good:
            return _ended(q, w) if new <= number[LOOSE] else GIVEN_UP
        number[STEPS] += 1.0
        number[LENGTH] = 1.0
    else:
        if old <= number[LOOSE]:
            return _ended(q, w)
        number[TRIES] += 1.0
        number[LENGTH] *= 0.3
        if number[TRIES] > 4.0 or not old < np.inf:
            return GIVEN_UP
    for k in range(m):
        w.trial[k] = w.p[k] + number[LENGTH] * w.step[k]
    combine(q, w.trial, w.shift)
    return EVALUATE


@inner
def minimise(q: Cells, w: Search, M: Any, diagonal: Any, p: Any) -> bool:
    """p (m,): the prices that minimise the model at w.p, for rows that share cells. False where the active sets do not settle."""
    m, R, K = p.shape[0], q.width.shape[0], max(q.lower.shape[0], q.width.shape[0])
    limits = np.zeros((3, K))
    for k in range(q.lower.shape[0]):
        limits[0, k], limits[1, k] = q.lower[k], q.upper[k]
    for r in range(R):
        limits[2, r] = q.width[r]
    slopes, f = np.empty(m), w.f.copy()
    for k in range(m):
        slopes[k] = max(diagonal[k], 1e-9 * q.metric[k])
    copy(p, w.p)
    state, capped, before, caps = np.zeros(m), np.zeros(R), np.zeros(m), np.zeros(R)
    g, e, theta, x = np.zeros(m), np.zeros(2 * R), np.zeros(m), np.zeros(m)
    solved = False
    for pivot in range(min(PIVOTS, max(FEW, MANY // m))):
        read_piece(q, f, p, slopes, state, capped)
        if solved and _same(state, before) and _same(capped, caps):
            return True
        if pivot % BEFORE_SWEEPS == BEFORE_SWEEPS - 1 or (not solved and pivot > 0):
            if not q.apart:
                return False
            for _ in range(SWEEPS):
                sweep(q, M, slopes, f, p)
            read_piece(q, f, p, slopes, state, capped)
        copy(before, state)
        copy(caps, capped)
        gaps(q, limits, f, p, M, diagonal, state, capped, g, e, theta)
        solved = solve_piece(q, M, diagonal, state, capped, g, e, x)
        if not solved:
            continue
        for k in range(m):
            p[k] = theta[k] + x[k]
        for k in range(m):
            total = 0.0
            for j in range(m):
                total += M[k, j] * (p[j] - w.p[j])
            f[k] = w.f[k] - total
        if residual_of(q, f, p, slopes) <= w.number[NOISE]:
            return True
    return False


@inner
def residual_of(q: Cells, f: Any, p: Any, slopes: Any) -> float:
    """As ``rows.residual`` with other slopes: how far prices are from a fixed point, in units of the scores."""
    m = p.shape[0]
    v, theta = np.empty(m), np.empty(m)
    for k in range(m):
        v[k] = f[k] + slopes[k] * p[k]
    prox(q, v, slopes, theta)
    worst = 0.0
    for k in range(m):
        r = abs(slopes[k] * (p[k] - theta[k])) / q.unit[k]
        if not r <= worst:
            worst = r
    return worst


@inner
def sweep(q: Cells, M: Any, slopes: Any, f: Any, p: Any) -> None:
    """Each constraint's prices in turn, exactly, with those of the others fixed: the model falls with every one."""
    m, L = p.shape[0], q.lower.shape[0]
    for c in range(L + q.width.shape[0]):
        a, b = (c, c + 1) if c < L else (q.first[c - L], q.first[c - L + 1])
        new = np.empty(b - a)
        v = np.empty(b - a)
        for k in range(a, b):
            v[k - a] = f[k] + slopes[k] * p[k]
        if c < L:
            new[0] = linear_price(v[0], slopes[a], q.lower[c], q.upper[c], q.rho[c], q.soft[c])
        else:
            range_prices(v, slopes[a:b], q.width[c - L], q.rho[c], q.soft[c], new)
        for k in range(a, b):
            change = new[k - a] - p[k]
            if change != 0.0:
                p[k] = new[k - a]
                for j in range(m):
                    f[j] -= M[j, k] * change


@inner
def _same(a: Any, b: Any) -> bool:
    same = True
    for k in range(a.shape[0]):
        same &= a[k] == b[k]
    return same
