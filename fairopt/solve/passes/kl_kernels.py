"""The loops over samples of the Kullback-Leibler maps, compiled where numba is installed (see ``kernels``).

Without weights all samples of a cell are multiplied by the same factors up = exp(-s), down (1, but for huge shifts), so that a pass has no exponential:

    kl            y = a / (a + b),  a = z up,  b = (1 - z) down        falls = y (1 - y)        follows = up down / (a + b)^2
    kl_positive   y = z up                                             falls = y                follows = up

Samples are taken in blocks: first the map, many samples at a time, then the sums of their cells in a fixed order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fairopt.solve.passes.jit import compiled, inner
from fairopt.solve.passes.kernels import BANKS, fill, join

BLOCK = 512
TOP = 700.0  # exp(TOP) is a float64
MOST = 1400.0
LARGEST = 1.7976931348623157e308


@inner
def kl_factors(positive: bool, s: float) -> tuple[float, float]:
    """(up, down) at the shift s; down is 0 where it is not used."""
    s = min(max(s, -MOST), MOST)
    if positive:
        return np.exp(min(-s, TOP)), 0.0
    return np.exp(min(-s, TOP)), np.exp(min(s + TOP, 0.0))


@inner
def kl_moved(positive: bool, x: float, up: float, down: float) -> float:
    """y, before clipping; a score of 0 or 1 stays."""
    a = x * up
    if positive:
        return a
    b = (1.0 - x) * down
    total = a + b
    return a / total if (x > 0.0) & (x < 1.0) & (total > 0.0) else x


@compiled
def kl_sums(positive: bool, z: Any, cell: Any, shift: Any, low: float, high: float, inverse: Any, sums: Any, slopes: Any) -> None:
    """(C,) sums of y and of -dy / d(A'p). inverse: 1 / w (n,), or (0,) where there are no weights."""
    n, C, plain = z.shape[0], sums.shape[0], inverse.shape[0] == 0
    up, down = np.empty(C), np.empty(C)
    for c in range(C):
        up[c], down[c] = kl_factors(positive, shift[c])
    S, F = np.zeros((BANKS, C)), np.zeros((BANKS, C))
    y, f = np.empty(BLOCK), np.empty(BLOCK)
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        if plain:
            for i in range(size):
                c = cell[start + i]
                x = np.float64(z[start + i])
                v = kl_moved(positive, x, up[c], down[c])
                y[i] = v
                f[i] = v if positive else v * (1.0 - v)
        else:
            for i in range(size):
                k = start + i
                one, other = kl_factors(positive, shift[cell[k]] * inverse[k])
                v = kl_moved(positive, np.float64(z[k]), one, other)
                y[i] = v
                f[i] = (v if positive else v * (1.0 - v)) * inverse[k]
        for i in range(size):
            v = y[i]
            f[i] = f[i] if (v > low) & (v < high) else 0.0
            y[i] = min(max(v, low), high)
        for i in range(size):
            c = cell[start + i]
            S[i & 3, c] += y[i]
            F[i & 3, c] += f[i]
    join(S, sums)
    join(F, slopes)


@compiled
def kl_largest(positive: bool, z: Any, cell: Any, shift: Any, low: float, high: float, inverse: Any) -> float:
    """The largest y at these shifts."""
    plain, most = inverse.shape[0] == 0, 0.0
    C = shift.shape[0]
    up, down = np.empty(C), np.empty(C)
    for c in range(C):
        up[c], down[c] = kl_factors(positive, shift[c])
    for i in range(z.shape[0]):
        c = cell[i]
        one, other = up[c], down[c]
        if not plain:
            one, other = kl_factors(positive, shift[c] * inverse[i])
        v = min(max(kl_moved(positive, np.float64(z[i]), one, other), low), high)
        most = v if v > most else most
    return most


@compiled
def kl_scores(
    positive: bool, z: Any, cell: Any, shift: Any, box: Any, inner_box: Any, inverse: Any, y: Any, sums: Any, slopes: Any
) -> None:  # fmt: skip
    """Writes y (n,), rounded to its dtype and inside the box, the sums (C,) of what was written, and the slopes (C,)."""
    n, C, plain = z.shape[0], sums.shape[0], inverse.shape[0] == 0
    low, high, low_t, high_t = box[0], box[1], inner_box[0], inner_box[1]
    up, down = np.empty(C), np.empty(C)
    for c in range(C):
        up[c], down[c] = kl_factors(positive, shift[c])
    S, F = np.zeros((BANKS, C)), np.zeros((BANKS, C))
    f = np.empty(BLOCK)
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        for i in range(size):
            k = start + i
            c = cell[k]
            one, other, mass = up[c], down[c], 1.0
            if not plain:
                mass = inverse[k]
                one, other = kl_factors(positive, shift[c] * mass)
            v = kl_moved(positive, np.float64(z[k]), one, other)
            f[i] = (v if positive else v * (1.0 - v)) * mass if (v > low) & (v < high) else 0.0
            y[k] = v
            x = y[k]
            x = x if x > low_t else low_t
            y[k] = x if x < high_t else high_t
        for i in range(size):
            c = cell[start + i]
            S[i & 3, c] += np.float64(y[start + i])
            F[i & 3, c] += f[i]
    join(S, sums)
    join(F, slopes)


@compiled
def kl_gradient_sums(positive: bool, v: Any, z: Any, cell: Any, shift: Any, low: float, high: float, inverse: Any, forward: bool, sums: Any) -> None:
    """(C,) sums of v times -dy / d(A'p), or of v times dy / dz where ``forward``."""
    n, C, plain = z.shape[0], sums.shape[0], inverse.shape[0] == 0
    up, down = np.empty(C), np.empty(C)
    for c in range(C):
        up[c], down[c] = kl_factors(positive, shift[c])
    S = np.zeros((BANKS, C))
    f = np.empty(BLOCK)
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        for i in range(size):
            k = start + i
            c = cell[k]
            one, other, mass = up[c], down[c], 1.0
            if not plain:
                mass = inverse[k]
                one, other = kl_factors(positive, shift[c] * mass)
            falls, follows = rates(positive, np.float64(z[k]), one, other, low, high)
            f[i] = np.float64(v[k]) * (follows if forward else falls * mass)
        for i in range(size):
            S[i & 3, cell[start + i]] += f[i]
    join(S, sums)


@inner
def rates(positive: bool, x: float, up: float, down: float, low: float, high: float) -> tuple[float, float]:
    """-dy / ds and dy / dz, 0 where y is clamped; dy / dz is at most the largest float64."""
    if positive:
        y = x * up
        free = (y > low) & (y < high)
        return (y if free else 0.0), (up if free | (x <= 0.0) else 0.0)
    a, b = x * up, (1.0 - x) * down
    total = a + b
    total = total if total > 0.0 else 1.0
    y = a / total
    fixed = (x <= 0.0) | (x >= 1.0)
    free = (y > low) & (y < high) & (not fixed)
    follows = (up / total) * (down / total)
    follows = follows if follows < LARGEST else LARGEST
    return (y * (b / total) if free else 0.0), (follows if free | fixed else 0.0)


@compiled
def kl_spread(
    positive: bool, v: Any, z: Any, cell: Any, shift: Any, back: Any, low: float, high: float, inverse: Any, forward: bool, end: float, out: Any
) -> None:  # fmt: skip
    """out (n,) = dy / dz (v - back), at most ``end`` in size, or dy / dz v - (-dy / d(A'p)) back where ``forward``; back (C,) of the cell."""
    n, C, plain = z.shape[0], shift.shape[0], inverse.shape[0] == 0
    up, down = np.empty(C), np.empty(C)
    for c in range(C):
        up[c], down[c] = kl_factors(positive, shift[c])
    for k in range(n):
        c = cell[k]
        one, other, mass = up[c], down[c], 1.0
        if not plain:
            mass = inverse[k]
            one, other = kl_factors(positive, shift[c] * mass)
        falls, follows = rates(positive, np.float64(z[k]), one, other, low, high)
        r = follows * np.float64(v[k]) - falls * mass * back[c] if forward else follows * (np.float64(v[k]) - back[c])
        out[k] = min(max(r, -end), end)
