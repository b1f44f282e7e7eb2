"""Prices and row values in cell space: the proximal map, the residual and the pieces of ``solve.dual``, once for numba and numpy.

Nothing here sees a sample. A problem is a ``Cells``: rows that are sums over cells, limits, softness. Rows ``0 .. L-1`` are linear, then
come the ranges (ratio 1). The mathematics is that of ``prox`` and ``active_piece``, with one saving: the system of a
piece is solved for a change of the prices, so that repair and gradient are the same call with another right-hand side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fairopt.solve.passes.jit import inner
from fairopt.solve.passes.kernels import fill

HALF_ULP = 2.0**-53
SMALLEST_PIVOT = 1e-11  # of a system whose rows are scaled to about 1: below it rows depend on each other
CONTRADICTION = 1e-9  # what is left of the right-hand side of such rows, over the others': more is a contradiction


class Cells(NamedTuple):
    """starts (m + 1,), index, value (entries,): the rows of A (m, C); first (R + 1,): the rows of each range.

    lower, upper (L,); width (R,); rho (L + R,) price caps (inf: none); soft (L + R,) 1 / gamma (0: not quadratic); hard (L + R,) bool;
    offset, unit, metric (m,); open (C,) the sum of 1 / w of each cell; diagonal: no cell is in two rows; apart: nor in two of a range.
    """

    starts: Any
    index: Any
    value: Any
    first: Any
    lower: Any
    upper: Any
    width: Any
    rho: Any
    soft: Any
    hard: Any
    offset: Any
    unit: Any
    metric: Any
    open: Any
    diagonal: bool
    apart: bool


@inner
def combine(q: Cells, p: Any, shift: Any) -> None:
    """shift (C,) = A'p."""
    fill(shift, 0.0)
    for k in range(p.shape[0]):
        if p[k] != 0.0:
            for e in range(q.starts[k], q.starts[k + 1]):
                shift[q.index[e]] += q.value[e] * p[k]


@inner
def values(q: Cells, sums: Any, f: Any) -> None:
    """f (m,) = A y + offset, from the sums (C,) of each cell."""
    for k in range(f.shape[0]):
        total = 0.0
        for e in range(q.starts[k], q.starts[k + 1]):
            total += q.value[e] * sums[q.index[e]]
        f[k] = total + q.offset[k]


@inner
def model(q: Cells, free: Any, M: Any, diagonal: Any) -> None:
    """diagonal (m,) and, unless the rows share no cell, all of M (m, m) = A diag(free) A'."""
    m = diagonal.shape[0]
    for k in range(m):
        total = 0.0
        for e in range(q.starts[k], q.starts[k + 1]):
            total += q.value[e] * q.value[e] * free[q.index[e]]
        diagonal[k] = total
    if q.diagonal:
        return
    row = np.zeros(free.shape[0])
    for a in range(m):
        for e in range(q.starts[a], q.starts[a + 1]):
            row[q.index[e]] = q.value[e] * free[q.index[e]]
        for b in range(a, m):
            total = 0.0
            for e in range(q.starts[b], q.starts[b + 1]):
                total += q.value[e] * row[q.index[e]]
            M[a, b] = total
            M[b, a] = total
        for e in range(q.starts[a], q.starts[a + 1]):
            row[q.index[e]] = 0.0


@inner
def times(q: Cells, M: Any, diagonal: Any, x: Any, out: Any) -> None:
    """out (m,) = M x."""
    for k in range(x.shape[0]):
        if q.diagonal:
            out[k] = diagonal[k] * x[k]
        else:
            total = 0.0
            for j in range(x.shape[0]):
                total += M[k, j] * x[j]
            out[k] = total


@inner
def linear_price(v: float, s: float, lower: float, upper: float, rho: float, soft: float) -> float:
    """The proximal map of one row: the price for value v = f + s p and slope s."""
    if v > upper:
        return min((v - upper) / (s + soft), rho)
    return max((v - lower) / (s + soft), -rho) if v < lower else 0.0


@inner
def sorted_places(v: Any) -> Any:
    """(K,) the places of v (K,) in rising order (Shell's method: a few lines compile sooner than a library's sort)."""
    K = v.shape[0]
    order = np.arange(K)
    gap = 1
    while 3 * gap + 1 < K:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, K):
            k = order[i]
            j = i
            while j >= gap and v[order[j - gap]] > v[k]:
                order[j] = order[j - gap]
                j -= gap
            order[j] = k
        gap //= 3
    return order


@inner
def range_prices(v: Any, s: Any, width: float, rho: float, soft: float, theta: Any) -> None:
    """Prices theta (K,) of  max - min <= width  for values v and slopes s > 0 (claim L7): one level is pushed down from the top, one up
    from the bottom, at equal flows, until they are as near as the width (and the softness) asks, or the flow comes to its cap.
    """
    K = v.shape[0]
    fill(theta, 0.0)
    top, bottom = v[0], v[0]
    for j in range(K):
        top, bottom = max(top, v[j]), min(bottom, v[j])
    if not top - bottom > width:
        return
    order = sorted_places(v)
    i, j = K - 1, 0  # the last member that each level has pushed
    upper, lower, flow = top, bottom, 0.0
    above, below = 1.0 / s[order[i]], 1.0 / s[order[j]]  # weights of the members pushed
    while True:
        rate = 1.0 / above + 1.0 / below + soft
        gap = upper - lower - width - soft * flow
        step = min(gap / rate, rho - flow)
        up = above * (upper - v[order[i - 1]]) if i > 0 else np.inf
        down = below * (v[order[j + 1]] - lower) if j < K - 1 else np.inf
        if step <= min(up, down):
            flow += max(step, 0.0)
            break
        if up <= down:
            flow += up
            lower += up / below
            i -= 1
            upper = v[order[i]]
            above += 1.0 / s[order[i]]
        else:
            flow += down
            upper -= down / above
            j += 1
            lower = v[order[j]]
            below += 1.0 / s[order[j]]
    # the levels once more, from the members that are pushed: nothing of the walk's rounding is left in them
    a_sum, b_sum = 0.0, 0.0  # weighted distances from top and bottom
    for k in range(i, K):
        a_sum += (top - v[order[k]]) / s[order[k]]
    for k in range(j + 1):
        b_sum += (v[order[k]] - bottom) / s[order[k]]
    if flow < rho:
        # upper = top - (flow + a_sum) / above,  lower = bottom + (flow + b_sum) / below,  upper - lower = width + soft flow
        flow = (top - bottom - width - a_sum / above - b_sum / below) / (1.0 / above + 1.0 / below + soft)
        flow = min(max(flow, 0.0), rho)
    else:
        flow = rho
    upper, lower = top - (flow + a_sum) / above, bottom + (flow + b_sum) / below
    for k in range(i, K):
        theta[order[k]] = max(v[order[k]] - upper, 0.0) / s[order[k]]
    for k in range(j + 1):
        theta[order[k]] = -max(lower - v[order[k]], 0.0) / s[order[k]]


@inner
def prox(q: Cells, v: Any, s: Any, theta: Any) -> None:
    """Prices theta (m,) for values v = f + s p and slopes s > 0."""
    L = q.lower.shape[0]
    for k in range(L):
        theta[k] = linear_price(v[k], s[k], q.lower[k], q.upper[k], q.rho[k], q.soft[k])
    for r in range(q.width.shape[0]):
        a, b = q.first[r], q.first[r + 1]
        range_prices(v[a:b], s[a:b], q.width[r], q.rho[L + r], q.soft[L + r], theta[a:b])


@inner
def residual(q: Cells, f: Any, p: Any) -> float:
    """The largest KKT residual, in units of the scores: see ``fairopt.solve.dual.prox.residual``. Infinite where it is not a number."""
    m, L = p.shape[0], q.lower.shape[0]
    v, theta = np.empty(m), np.empty(m)
    for k in range(m):
        v[k] = f[k] + q.metric[k] * p[k]
    prox(q, v, q.metric, theta)
    worst = 0.0
    for k in range(m):
        s = q.metric[k]
        r = abs(s * (p[k] - theta[k]))
        if k < L:
            if theta[k] != 0.0 and abs(theta[k]) < q.rho[k]:
                limit = q.upper[k] if theta[k] > 0.0 else q.lower[k]
                r = abs((p[k] * q.soft[k] + limit - f[k]) * (s / (s + q.soft[k])))
        else:
            r = max(r, HALF_ULP * abs(s * p[k]))
        r = r / q.unit[k]
        if not r <= worst:
            worst = r if r < np.inf else np.inf
    return worst


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
