"""Prices and row values in cell space: the proximal map and the residual of ``solve.dual``, once for numba and numpy.

Nothing here sees a sample. A problem is a ``Cells``: rows that are sums over cells, limits, softness. Rows ``0 .. L-1`` are linear, then
come the ranges (ratio 1).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fairopt.solve.passes.jit import compiled, inner
from fairopt.solve.passes.kernels import fill

HALF_ULP = 2.0**-53


class Cells(NamedTuple):
    """starts (m + 1,), index, value (entries,): the rows of A (m, C); first (R + 1,): the rows of each range.

    lower, upper (L,); width (R,); rho (L + R,) price caps (inf: none); soft (L + R,) 1 / gamma (0: not quadratic); hard (L + R,) bool;
    offset, unit, metric (m,); open (C,) the sum of 1 / w of each cell; diagonal: no cell is in two rows; apart: nor in two of a range.

    Where a sample has ``classes`` numbers that sum to 1, rows also meet in the samples, and the slopes of the cells are blocks (J, classes,
    classes) over the joint cells of the samples. joint_first (J + 1,), joint_row, joint_class, joint_value: the rows' entries in each
    of these. classes is 0 elsewhere.
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
    classes: int
    joint_first: Any
    joint_row: Any
    joint_class: Any
    joint_value: Any


@inner
def with_limits(q: Cells, lower: Any, upper: Any, width: Any) -> Cells:
    """The same rows within other limits."""
    return Cells(
        q.starts, q.index, q.value, q.first, lower, upper, width, q.rho, q.soft, q.hard, q.offset, q.unit, q.metric, q.open, q.diagonal,
        q.apart, q.classes, q.joint_first, q.joint_row, q.joint_class, q.joint_value,
    )  # fmt: skip


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
    """diagonal (m,) and, unless the rows share no cell, all of M (m, m) = A diag(free) A', or A with the blocks ``free`` of classes."""
    m = diagonal.shape[0]
    if q.classes > 0:
        joint_model(q, free, M)
        for k in range(m):
            diagonal[k] = M[k, k]
        return
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
def joint_model(q: Cells, blocks: Any, M: Any) -> None:
    """M (m, m), summed over the joint cells; blocks (J, classes, classes), one after the other."""
    C = q.classes
    for k in range(M.shape[0]):
        fill(M[k], 0.0)
    for j in range(q.joint_first.shape[0] - 1):
        for a in range(q.joint_first[j], q.joint_first[j + 1]):
            first = (j * C + q.joint_class[a]) * C
            for b in range(q.joint_first[j], q.joint_first[j + 1]):
                M[q.joint_row[a], q.joint_row[b]] += q.joint_value[a] * q.joint_value[b] * blocks[first + q.joint_class[b]]


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
def linear_step(f: float, p: float, s: float, lower: float, upper: float, rho: float, soft: float) -> float:
    """``linear_price`` at f + s p, minus p, from the distances to limits and caps: nothing is lost where s p is far larger than f."""
    up, down = (f - upper - p * soft) / (s + soft), (f - lower - p * soft) / (s + soft)
    if p + up > 0.0:
        return min(up, rho - p)
    return max(down, -rho - p) if p + down < 0.0 else -p


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
        if not (abs(v[j]) < np.inf and 0.0 < s[j] < np.inf):  # no level is pushed among these; and no residual of such prices is small
            fill(theta, np.nan)
            return
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
        # a member that both levels push is one by rounding alone: beside a huge weight that piece has no digits
        up = above * (upper - v[order[i - 1]]) if i - 1 > j else np.inf
        down = below * (v[order[j + 1]] - lower) if j + 1 < i else np.inf
        if not step > min(up, down):  # NaN ends the walk too: past its last member there is nothing to read
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
    # once more from the last member that each level has pushed, never from the level itself: what a level rounds to beside huge weights
    # is more than the whole flow
    last, first = v[order[i]], v[order[j]]
    to_last, to_first = 0.0, 0.0  # the flows at which the levels reach them
    for k in range(i, K):
        to_last += (v[order[k]] - last) / s[order[k]]
    for k in range(j + 1):
        to_first += (first - v[order[k]]) / s[order[k]]
    if flow < rho:  # upper = last - (flow - to_last) / above,  lower = first + (flow - to_first) / below,  width + soft flow apart
        flow = (last - first - width + to_last / above + to_first / below) / (1.0 / above + 1.0 / below + soft)
        flow = min(max(flow, 0.0), rho)
    push(v, s, order, i, K, last, max(flow - to_last, 0.0) / above, flow, theta)
    push(v, s, order, 0, j + 1, first, max(flow - to_first, 0.0) / below, -flow, theta)


@inner
def push(v: Any, s: Any, order: Any, a: int, b: int, last: float, depth: float, flow: float, theta: Any) -> None:
    """Prices of the members order[a:b] of one level, ``depth`` beyond the member at ``last``: they sum to ``flow``, to rounding."""
    total = 0.0
    for k in range(a, b):
        theta[order[k]] = (abs(v[order[k]] - last) + depth) / s[order[k]]
        total += theta[order[k]]
    for k in range(a, b):
        theta[order[k]] *= flow / total if total > 0.0 else 0.0


@compiled
def several_ranges(v: Any, s: Any, first: Any, width: Any, rho: Any, soft: Any, theta: Any) -> None:
    """Prices theta (m,) of the ranges of rows first[r] to first[r + 1], in place."""
    for r in range(width.shape[0]):
        a, b = first[r], first[r + 1]
        range_prices(v[a:b], s[a:b], width[r], rho[r], soft[r], theta[a:b])


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
        r = max(abs(s * (p[k] - theta[k])), HALF_ULP * abs(s * p[k]))
        if k < L:
            r = abs(s * linear_step(f[k], p[k], s, q.lower[k], q.upper[k], q.rho[k], q.soft[k]))
        r = r / q.unit[k]
        if not r <= worst:
            worst = r if r < np.inf else np.inf
    return worst
