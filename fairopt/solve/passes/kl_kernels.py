"""The loops over samples of the Kullback-Leibler maps, compiled where numba is installed (see ``kernels``).

Without weights all samples of a cell share one factor up = exp(-s), so that a pass has no exponential. With k = 1 for probabilities ("kl"),
0 for positive values ("kl_positive"), one formula is both maps:

    a = z up,    t = k a + 1 - k z,    y = a / t,    -dy/ds = y (1 - k y),    dy/dz = up / t^2

Shifts beyond TOP in size count as TOP, and values beyond HUGE as HUGE, so that every sum is a number; callers leave answers with such
shifts to the general road (``kl_map``). Samples are taken in blocks: first the map, many
samples at a time, then the sums of their cells in a fixed order. Scores of 0, and probabilities of 1, stay.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fairopt.solve.passes.jit import compiled, inner, reordered
from fairopt.solve.passes.kernels import BANKS, FEW, join

BLOCK = 512
TOP = 700.0  # exp(TOP) is a float64
HUGE = 1e290


@inner
def kl_factors(shift: Any) -> Any:
    """(max(C, FEW),) exp(-shift)."""
    up = np.ones(max(shift.shape[0], FEW))
    for c in range(shift.shape[0]):
        up[c] = np.exp(-min(max(shift[c], -TOP), TOP))
    return up


@inner
def spread_factors(cell: Any, up: Any, few: bool, out: Any) -> None:
    """out (k,): the factor of each sample's cell."""
    if few:  # a choice of three is quicker than to look it up
        u, v, w = up[0], up[1], up[2]
        for i in range(out.shape[0]):
            out[i] = u if cell[i] == 0 else (v if cell[i] == 1 else w)
    else:
        for i in range(out.shape[0]):
            out[i] = up[cell[i]]


@inner
def weigh_factors(cell: Any, shift: Any, inverse: Any, out: Any) -> None:
    """out (k,): the factor of each sample, exp(-s / w)."""
    for i in range(out.shape[0]):
        out[i] = np.exp(-min(max(shift[cell[i]] * inverse[i], -TOP), TOP))


@inner
def move(k: float, z: Any, up: Any, low: float, high: float, y: Any, falls: Any) -> None:
    """y (k,) inside the box and -dy / ds (k,), 0 where clamped."""
    top, high = 1.0 if k == 1.0 else np.inf, min(high, HUGE)
    for i in range(y.shape[0]):
        x = np.float64(z[i])
        a = x * up[i]
        v = a / (k * a + (1.0 - k * x))
        v = v if (x > 0.0) & (x < top) else x
        slope = v * (1.0 - k * v)
        falls[i] = slope if (v > low) & (v < high) else 0.0
        v = v if v > low else low
        y[i] = v if v < high else high


@inner
def rates(k: float, z: Any, up: Any, low: float, high: float, falls: Any, follows: Any) -> None:
    """-dy / ds (k,) and dy / dz (k,); 0 where clamped, and the first where scores stay."""
    top, high = 1.0 if k == 1.0 else np.inf, min(high, HUGE)
    for i in range(falls.shape[0]):
        x, u = np.float64(z[i]), up[i]
        b = 1.0 - k * x
        r = 1.0 / (k * x * u + b)
        v = x * u * r
        moves = (x > 0.0) & (x < top)
        free = (v > low) & (v < high)
        falls[i] = v * (b * r if k == 1.0 else 1.0) if free & moves else 0.0
        follows[i] = u * r * r if free | (not moves) else 0.0


@reordered
def add_few(y: Any, cell: Any, sums: Any) -> None:
    """Adds y (k,) to the sums of at most FEW cells."""
    for c in range(sums.shape[0]):
        total = 0.0
        for i in range(y.shape[0]):
            total += y[i] if cell[i] == c else 0.0
        sums[c] += total


@inner
def add(y: Any, cell: Any, banks: Any) -> None:
    """Adds y (k,) to the sums of their cells, in four sets that are joined at the end (BANKS, C)."""
    whole = y.shape[0] - y.shape[0] % BANKS
    for i in range(0, whole, BANKS):
        for b in range(BANKS):
            banks[b, cell[i + b]] += y[i + b]
    for i in range(whole, y.shape[0]):
        banks[0, cell[i]] += y[i]


@inner
def times(x: Any, y: Any) -> None:
    """x (k,) times y (k,), in place."""
    for i in range(x.shape[0]):
        x[i] *= y[i]


@compiled
def kl_sums(k: float, z: Any, cell: Any, shift: Any, low: float, high: float, inverse: Any, sums: Any, slopes: Any) -> None:
    """(C,) sums of y and of -dy / d(A'p). inverse: 1 / w (n,), or (0,) where there are no weights."""
    n, C, plain = z.shape[0], sums.shape[0], inverse.shape[0] == 0
    few = C <= FEW
    up = kl_factors(shift)
    S, F = np.zeros((BANKS, C)), np.zeros((BANKS, C))
    ups, ys, fs = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    for start in range(0, n, BLOCK):
        end = min(start + BLOCK, n)
        c, u, y, f = cell[start:end], ups[: end - start], ys[: end - start], fs[: end - start]
        if plain:
            spread_factors(c, up, few, u)
        else:
            weigh_factors(c, shift, inverse[start:end], u)
        move(k, z[start:end], u, low, high, y, f)
        if not plain:
            times(f, inverse[start:end])
        if few:
            add_few(y, c, S[0])
            add_few(f, c, F[0])
        else:
            add(y, c, S)
            add(f, c, F)
    join(S, sums)
    join(F, slopes)


@compiled
def kl_largest(k: float, z: Any, cell: Any, shift: Any, low: float, high: float, inverse: Any) -> float:
    """The largest y at these shifts."""
    plain, most = inverse.shape[0] == 0, 0.0
    up = kl_factors(shift)
    u, y, f = np.empty(1), np.empty(1), np.empty(1)
    for i in range(z.shape[0]):
        u[0] = up[cell[i]]
        if not plain:
            weigh_factors(cell[i : i + 1], shift, inverse[i : i + 1], u)
        move(k, z[i : i + 1], u, low, high, y, f)
        most = y[0] if y[0] > most else most
    return most


@compiled
def kl_scores(k: float, z: Any, cell: Any, shift: Any, box: Any, inner_box: Any, inverse: Any, y: Any, sums: Any, slopes: Any) -> None:
    """Writes y (n,), rounded to its dtype and inside the box, the sums (C,) of what was written, and the slopes (C,)."""
    n, C, plain = z.shape[0], sums.shape[0], inverse.shape[0] == 0
    few = C <= FEW
    low_t, high_t = inner_box[0], inner_box[1]
    up = kl_factors(shift)
    S, F = np.zeros((BANKS, C)), np.zeros((BANKS, C))
    ups, ys, fs = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    for start in range(0, n, BLOCK):
        end = min(start + BLOCK, n)
        c, u, v, f, out = cell[start:end], ups[: end - start], ys[: end - start], fs[: end - start], y[start:end]
        if plain:
            spread_factors(c, up, few, u)
        else:
            weigh_factors(c, shift, inverse[start:end], u)
        move(k, z[start:end], u, box[0], box[1], v, f)
        if not plain:
            times(f, inverse[start:end])
        for i in range(v.shape[0]):
            out[i] = v[i]
            x = out[i]
            x = x if x > low_t else low_t
            x = x if x < high_t else high_t
            out[i] = x
            v[i] = x
        if few:
            add_few(v, c, S[0])
            add_few(f, c, F[0])
        else:
            add(v, c, S)
            add(f, c, F)
    join(S, sums)
    join(F, slopes)


@compiled
def kl_gradient_sums(
    k: float, v: Any, z: Any, cell: Any, shift: Any, low: float, high: float, inverse: Any, forward: bool, sums: Any
) -> None:
    """(C,) sums of v times -dy / d(A'p), or of v times dy / dz where ``forward``."""
    n, C, plain = z.shape[0], sums.shape[0], inverse.shape[0] == 0
    few = C <= FEW
    up = kl_factors(shift)
    S = np.zeros((BANKS, C))
    ups, fs, ds = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    for start in range(0, n, BLOCK):
        end = min(start + BLOCK, n)
        c, u, f, d = cell[start:end], ups[: end - start], fs[: end - start], ds[: end - start]
        if plain:
            spread_factors(c, up, few, u)
        else:
            weigh_factors(c, shift, inverse[start:end], u)
        rates(k, z[start:end], u, low, high, f, d)
        if forward:
            f = d
        elif not plain:
            times(f, inverse[start:end])
        times(f, v[start:end])
        if few:
            add_few(f, c, S[0])
        else:
            add(f, c, S)
    join(S, sums)


@compiled
def kl_spread(
    k: float, v: Any, z: Any, cell: Any, shift: Any, back: Any, low: float, high: float, inverse: Any, forward: bool, most: float, out: Any
) -> None:
    """out (n,) = dy / dz (v - back), at most ``most`` in size, or dy / dz v - (-dy / d(A'p)) back where ``forward``; back (C,)."""
    n, C, plain = z.shape[0], shift.shape[0], inverse.shape[0] == 0
    few = C <= FEW
    up = kl_factors(shift)
    backs = np.zeros(max(C, FEW))
    for c in range(C):
        backs[c] = back[c]
    ups, fs, ds, bs = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    for start in range(0, n, BLOCK):
        end = min(start + BLOCK, n)
        u, f, d, b, o, g = ups[: end - start], fs[: end - start], ds[: end - start], bs[: end - start], out[start:end], v[start:end]
        if plain:
            spread_factors(cell[start:end], up, few, u)
        else:
            weigh_factors(cell[start:end], shift, inverse[start:end], u)
        rates(k, z[start:end], u, low, high, f, d)
        spread_factors(cell[start:end], backs, few, b)
        if forward and not plain:
            times(f, inverse[start:end])
        for i in range(u.shape[0]):
            r = d[i] * np.float64(g[i]) - f[i] * b[i] if forward else d[i] * (np.float64(g[i]) - b[i])
            r = r if r < most else most
            o[i] = r if r > -most else -most
