"""The pieces of the dual in cell space: which rows are active, and the equality system of their prices, once for numba and numpy.

The mathematics is that of ``solve.dual.active_piece``, with one saving: the system of a piece is solved for a change of the prices, so
that repair and gradient are the same call with another right-hand side.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fairopt.solve.passes.jit import inner
from fairopt.solve.passes.kernels import fill
from fairopt.solve.passes.rows import Cells, prox, times

SMALLEST_PIVOT = 1e-11  # of a system whose rows are scaled to about 1: below it rows depend on each other
CONTRADICTION = 1e-9  # what is left of the right-hand side of such rows, over the others': more is a contradiction


@inner
def read_piece(q: Cells, f: Any, p: Any, slopes: Any, state: Any, capped: Any) -> None:
    """The piece that (f, p) lies on. state (m,): the sign of each price, 0 for none, 2 or -2 for a linear one at its cap; capped (R,)."""
    m, L = p.shape[0], q.lower.shape[0]
    v, theta = np.empty(m), np.empty(m)
    for k in range(m):
        v[k] = f[k] + slopes[k] * p[k]
    prox(q, v, slopes, theta)
    for k in range(m):
        state[k] = 1.0 if theta[k] > 0.0 else -1.0 if theta[k] < 0.0 else 0.0
        if k < L and theta[k] != 0.0 and abs(theta[k]) >= q.rho[k]:
            state[k] *= 2.0
    for r in range(q.width.shape[0]):
        flow = 0.0
        for k in range(q.first[r], q.first[r + 1]):
            flow += max(theta[k], 0.0)
        capped[r] = 1.0 if flow > 0.0 and flow >= q.rho[L + r] * (1.0 - 1e-12) else 0.0


@inner
def gaps(q: Cells, limits: Any, f: Any, p: Any, M: Any, diagonal: Any, state: Any, capped: Any, g: Any, e: Any, theta: Any) -> None:
    """What the prices of a piece make up for, from p: g (m,) of the rows and e (2 R,) of the equations; theta (m,) = p on the piece.

    ``limits`` (3, max(L, R)): lower, upper and width, as given or tighter. The row values on the piece are f + M (p - theta).
    """
    m, L = p.shape[0], q.lower.shape[0]
    left, moved = np.empty(m), np.empty(m)
    for k in range(m):
        theta[k] = 0.0 if state[k] == 0.0 else p[k]
        if abs(state[k]) == 2.0:
            theta[k] = q.rho[k] if state[k] > 0.0 else -q.rho[k]
        left[k] = p[k] - theta[k]
    times(q, M, diagonal, left, moved)
    for k in range(m):
        g[k] = 0.0
        if abs(state[k]) == 1.0:
            g[k] = f[k] + moved[k]
            if k < L:
                g[k] -= (limits[1, k] if state[k] > 0.0 else limits[0, k]) + q.soft[k] * theta[k]
    for r in range(q.width.shape[0]):
        ups, downs = 0.0, 0.0
        for k in range(q.first[r], q.first[r + 1]):
            if state[k] > 0.0:
                ups += theta[k]
            elif state[k] < 0.0:
                downs += theta[k]
        if capped[r] != 0.0:
            e[2 * r], e[2 * r + 1] = q.rho[L + r] - ups, -q.rho[L + r] - downs
        else:
            e[2 * r], e[2 * r + 1] = -ups - downs, 0.0
            for k in range(q.first[r], q.first[r + 1]):
                if state[k] > 0.0:
                    g[k] -= limits[2, r] + q.soft[L + r] * ups


@inner
def solve_piece(q: Cells, M: Any, diagonal: Any, state: Any, capped: Any, g: Any, e: Any, x: Any) -> bool:
    """x (m,): the change of the prices on a piece, 0 elsewhere. False where rows of the piece depend on each other."""
    m, L = x.shape[0], q.lower.shape[0]
    fill(x, 0.0)
    for k in range(m):
        soft = q.soft[k] if k < L else 0.0
        if abs(state[k]) == 1.0 and not diagonal[k] + soft > 1e-12 * q.metric[k]:
            return False
    if not q.diagonal:
        return _coupled(q, M, diagonal, state, capped, g, e, x)
    for k in range(L):
        if abs(state[k]) == 1.0:
            x[k] = g[k] / (diagonal[k] + q.soft[k])
    for r in range(q.width.shape[0]):
        a, b = q.first[r], q.first[r + 1]
        wu, gu, wd, gd = 0.0, 0.0, 0.0, 0.0
        for k in range(a, b):
            if state[k] > 0.0:
                wu += 1.0 / diagonal[k]
                gu += g[k] / diagonal[k]
            elif state[k] < 0.0:
                wd += 1.0 / diagonal[k]
                gd += g[k] / diagonal[k]
        if wu == 0.0 and wd == 0.0:
            continue
        if wu == 0.0 or wd == 0.0:
            return False
        if capped[r] != 0.0:
            up, down = (gu - e[2 * r]) / wu, (gd - e[2 * r + 1]) / wd
        else:
            soft = 1.0 + q.soft[L + r] * wu
            down = (gu - (e[2 * r] - gd) * soft) / (wd * soft + wu)
            up = down + q.soft[L + r] * (e[2 * r] - gd + down * wd)
        for k in range(a, b):
            if state[k] != 0.0:
                x[k] = (g[k] - (up if state[k] > 0.0 else down)) / diagonal[k]
    return True


@inner
def _coupled(q: Cells, M: Any, diagonal: Any, state: Any, capped: Any, g: Any, e: Any, x: Any) -> bool:
    """``solve_piece`` by elimination with pivots, for rows that share cells."""
    m, L, R = x.shape[0], q.lower.shape[0], q.width.shape[0]
    place, equation = np.full(m, -1, np.int64), np.full(m, -1, np.int64)
    size = 0
    for k in range(m):
        if abs(state[k]) == 1.0:
            place[k] = size
            size += 1
    rows = size
    right = np.zeros(2 * R)
    for r in range(R):
        a, b = q.first[r], q.first[r + 1]
        up, down = -1, -1
        for k in range(a, b):
            if state[k] > 0.0:
                if up < 0:
                    up = size
                    right[size - rows] = e[2 * r]
                    size += 1
                    if capped[r] == 0.0:
                        down = up
                equation[k] = up
            elif state[k] < 0.0:
                if down < 0:
                    down = size
                    right[size - rows] = e[2 * r + 1] if capped[r] != 0.0 else e[2 * r]
                    size += 1
                    if capped[r] == 0.0:
                        up = down
                equation[k] = down
    if rows == 0:
        return True
    K, h, scale = np.zeros((size, size)), np.zeros(size), np.ones(size)
    for k in range(m):
        if place[k] >= 0:
            scale[place[k]] = 1.0 / np.sqrt(diagonal[k] + (q.soft[k] if k < L else 0.0))
    for k in range(m):
        if equation[k] >= 0:
            scale[equation[k]] = min(scale[equation[k]], 1.0 / scale[place[k]])
    for k in range(m):
        i = place[k]
        if i < 0:
            continue
        h[i] = scale[i] * g[k]
        for j in range(m):
            if place[j] >= 0:
                K[i, place[j]] = M[k, j] * scale[i] * scale[place[j]]
        if k < L:
            K[i, i] += q.soft[k] * scale[i] * scale[i]
        else:
            n = equation[k]
            K[i, n] = scale[i] * scale[n]
            K[n, i] = K[i, n]
    for r in range(R):
        if q.soft[L + r] > 0.0 and capped[r] == 0.0:
            for a in range(q.first[r], q.first[r + 1]):
                for b in range(q.first[r], q.first[r + 1]):
                    if state[a] > 0.0 and state[b] > 0.0:
                        K[place[a], place[b]] += q.soft[L + r] * scale[place[a]] * scale[place[b]]
    for n in range(rows, size):
        h[n] = scale[n] * right[n - rows]
    if not eliminate(K, h):
        return False
    for k in range(m):
        if place[k] >= 0:
            x[k] = h[place[k]] * scale[place[k]]
    return True


@inner
def eliminate(K: Any, h: Any) -> bool:
    """Solves K x = h (size,), rows of about 1, and leaves x in h. An unknown that depends on those before it is 0. False where such rows
    contradict each other.
    """
    size = h.shape[0]
    place = np.full(size, -1, np.int64)  # the row that each unknown is read from
    row = 0
    for c in range(size):
        best = row
        for i in range(row + 1, size):
            if abs(K[i, c]) > abs(K[best, c]):
                best = i
        if not abs(K[best, c]) > SMALLEST_PIVOT:
            continue
        if best != row:
            for j in range(c, size):
                K[row, j], K[best, j] = K[best, j], K[row, j]
            h[row], h[best] = h[best], h[row]
        for i in range(row + 1, size):
            factor = K[i, c] / K[row, c]
            if factor != 0.0:
                for j in range(c + 1, size):
                    K[i, j] -= factor * K[row, j]
                h[i] -= factor * h[row]
        place[c] = row
        row += 1
        if row == size:
            break
    largest = 0.0
    for i in range(row):
        largest = max(largest, abs(h[i]))
    for i in range(row, size):
        if not abs(h[i]) <= CONTRADICTION * largest:
            return False
    x = np.zeros(size)
    for c in range(size - 1, -1, -1):
        i = place[c]
        if i >= 0:
            total = h[i]
            for j in range(c + 1, size):
                total -= K[i, j] * x[j]
            x[c] = total / K[i, c]
    for c in range(size):
        h[c] = x[c]
    return True
