"""The loops over samples of the maps onto the simplex, compiled where numba is installed (see ``kernels``).

A sample moves by the shifts (C,) of its joint cell, over its weight. Some samples of a cell are worked on together, which the machine does
with vectors. Without weights they share the factors exp(-s) of the entropic map, so that a pass has no exponential; where these leave
nothing of a sample, exponents are taken one by one.
Sums have a fixed order: the same bits on every call.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fairopt.solve.passes.jit import compiled, inner, reordered, within

TOP = 700.0  # exp(TOP) is a float64
CHUNK = 64  # samples that are worked on together
TIE = 2.0**-52  # as in ``fairopt.solve.simplex.maps``, which this module does not import
LEAST = 1e-250  # sums of factors below which exponents are taken one by one


@within
def entropic(z: Any, i: int, s: Any, j: int, inverse: float, y: Any, rate: Any) -> None:
    """y (C,) proportional to z exp(-s inverse) for sample i of joint cell j, with sum 1, and rate (C,) = y / z (its limit at z = 0)."""
    C = z.shape[1]
    top, total = -np.inf, 0.0
    for c in range(C):
        if z[i, c] > 0.0:
            top = max(top, np.log(z[i, c]) - s[j, c] * inverse)
    for c in range(C):
        y[c] = np.exp(np.log(z[i, c]) - s[j, c] * inverse - top) if z[i, c] > 0.0 else 0.0
        total += y[c]
    for c in range(C):
        rate[c] = np.exp(min(-s[j, c] * inverse - top, TOP)) / total
        y[c] = y[c] / total


@within
def entropic_factors(y: Any, up: Any, j: int, size: int, rate: Any, share: Any) -> bool:
    """The same for ``size`` samples of joint cell j without weights, which share factors: y (C, CHUNK) holds z and is overwritten, unless
    the factors leave nothing of a sample, which is False. up (J, C): exp(min s - s). share (CHUNK,) is overwritten.
    """
    C = y.shape[0]
    for i in range(size):
        share[i] = 0.0
    for c in range(C):
        for i in range(size):
            share[i] += y[c, i] * up[j, c]
    least = np.inf
    for i in range(size):
        least = min(least, share[i])
        share[i] = 1.0 / share[i]
    if not least > LEAST:
        return False
    for c in range(C):
        for i in range(size):
            rate[c, i] = up[j, c] * share[i]
            y[c, i] *= rate[c, i]
    return True


@within
def nearest_points(y: Any, kept: Any, count: Any, size: int) -> None:
    """y (C, CHUNK): its first ``size`` columns become the nearest points of the simplex; kept (C, CHUNK) 1 for classes that stay in, count
    (CHUNK,) how many do.

    All classes are kept, then those that are below the level of the kept ones go, until none does (Michelot 1986). Those on it stay, up to
    TIE (see ``fairopt.solve.simplex.maps``), and beside shifts so large that a level has no digits for 1 the last ones.
    """
    C = y.shape[0]
    level, left = np.empty(CHUNK), np.empty(CHUNK)
    for i in range(size):
        count[i] = float(C)
    for c in range(C):
        for i in range(size):
            kept[c, i] = 1.0
    fewer = True
    while fewer:
        for i in range(size):
            level[i], left[i] = -1.0, 0.0
        for c in range(C):
            for i in range(size):
                level[i] += kept[c, i] * y[c, i]
        for i in range(size):
            level[i] /= count[i]
        for c in range(C):
            for i in range(size):
                left[i] += kept[c, i] if y[c, i] > level[i] - TIE else 0.0
        fewer = False
        for i in range(size):
            fewer |= 0.0 < left[i] < count[i]
        if fewer:
            for c in range(C):
                for i in range(size):
                    kept[c, i] = kept[c, i] if y[c, i] > level[i] - TIE or left[i] == 0.0 else 0.0
            for i in range(size):
                count[i] = left[i] if left[i] > 0.0 else count[i]
    for c in range(C):
        for i in range(size):
            y[c, i] = kept[c, i] * max(y[c, i] - level[i], 0.0)


@inner
def factors(shift: Any) -> Any:
    """(J, C) exp(min s - s) of each joint cell."""
    up = np.empty_like(shift)
    for j in range(shift.shape[0]):
        least = shift[j].min()
        for c in range(shift.shape[1]):
            up[j, c] = np.exp(-min(shift[j, c] - least, TOP))
    return up


@within
def several(
    kl: bool, z: Any, order: Any, first: int, size: int, s: Any, up: Any, j: int, inverse: Any, y: Any, own: Any, rate: Any, of: Any
) -> None:  # fmt: skip
    """The samples order[first : first + size] of joint cell j, one a column, at shifts s (J, C).

    y (C, CHUNK); own (C, CHUNK), the classes' weights in H = diag(own) - own own' / total; rate (C, CHUNK), those of
    dy / dz = diag(rate) - rate own' / total; of (3, CHUNK): total, 1 / w, and this over the total. Classes stand in rows, so that loops
    over samples are vectors. This is the one place that knows the two distances apart.
    """
    C, plain = z.shape[1], inverse.shape[0] == 0
    for i in range(size):
        of[1, i] = 1.0 if plain else inverse[order[first + i]]
        for c in range(C):
            y[c, i] = z[order[first + i], c]
    if not kl:
        for c in range(C):
            for i in range(size):
                y[c, i] -= s[j, c] * of[1, i]
        nearest_points(y, own, of[0], size)
        for c in range(C):
            for i in range(size):
                rate[c, i] = own[c, i]
    else:
        if not (plain and entropic_factors(y, up, j, size, rate, of[0])):
            one, two = np.empty(C), np.empty(C)
            for i in range(size):
                entropic(z, order[first + i], s, j, of[1, i], one, two)
                for c in range(C):
                    y[c, i], rate[c, i] = one[c], two[c]
        for c in range(C):
            for i in range(size):
                own[c, i] = y[c, i]
        for i in range(size):
            of[0, i] = 1.0
    for i in range(size):
        of[2, i] = of[1, i] / of[0, i]


@reordered
def added(y: Any, own: Any, of: Any, size: int, j: int, sums: Any, blocks: Any) -> None:
    """What ``several`` samples add to sums (J, C) and to blocks (J, C, C) under their diagonals."""
    C = y.shape[0]
    for c in range(C):
        total = 0.0
        for i in range(size):
            total += y[c, i]
        sums[j, c] += total
        for d in range(c):
            both = 0.0
            for i in range(size):
                both += of[2, i] * own[c, i] * own[d, i]
            blocks[j, c, d] -= both


@within
def taken(v: Any, order: Any, first: int, size: int, out: Any) -> None:
    """out (C, CHUNK): the rows of v (n, C) of some samples."""
    for i in range(size):
        for c in range(v.shape[1]):
            out[c, i] = v[order[first + i], c]


@compiled
def simplex_map(kl: bool, z: Any, order: Any, bounds: Any, shift: Any, inverse: Any, y: Any) -> None:
    """y (n, C) at shifts (J, C) of the joint cells. The samples of cell j are order[bounds[j] : bounds[j + 1]]; inverse: 1 / w (n,), or
    (0,) where there are no weights."""
    C, up = z.shape[1], factors(shift)
    x, own, rate, of = np.empty((C, CHUNK)), np.empty((C, CHUNK)), np.empty((C, CHUNK)), np.empty((3, CHUNK))
    for j in range(shift.shape[0]):
        for first in range(bounds[j], bounds[j + 1], CHUNK):
            size = min(CHUNK, bounds[j + 1] - first)
            several(kl, z, order, first, size, shift, up, j, inverse, x, own, rate, of)
            for i in range(size):
                for c in range(C):
                    y[order[first + i], c] = x[c, i]


@compiled
def simplex_sums(kl: bool, z: Any, order: Any, bounds: Any, shift: Any, inverse: Any, sums: Any, blocks: Any) -> None:
    """sums (J, C) of y, and blocks (J, C, C) of H / w, over the samples of each joint cell; both begin at 0."""
    C, up = z.shape[1], factors(shift)
    y, own, rate, of = np.empty((C, CHUNK)), np.empty((C, CHUNK)), np.empty((C, CHUNK)), np.empty((3, CHUNK))
    for j in range(shift.shape[0]):
        for first in range(bounds[j], bounds[j + 1], CHUNK):
            size = min(CHUNK, bounds[j + 1] - first)
            several(kl, z, order, first, size, shift, up, j, inverse, y, own, rate, of)
            added(y, own, of, size, j, sums, blocks)
        for c in range(C):  # rows of H sum to 0: own_c (total - own_c) has no digits where own_c is nearly the total
            for d in range(c):
                blocks[j, d, c] = blocks[j, c, d]
                blocks[j, c, c] -= blocks[j, c, d]
                blocks[j, d, d] -= blocks[j, c, d]


@compiled
def simplex_pull(kl: bool, z: Any, order: Any, bounds: Any, shift: Any, inverse: Any, v: Any, sums: Any) -> None:
    """sums (J, C) of H v / w for v (n, C), over the samples of each joint cell; they begin at 0."""
    C, up = z.shape[1], factors(shift)
    y, own, rate, of = np.empty((C, CHUNK)), np.empty((C, CHUNK)), np.empty((C, CHUNK)), np.empty((3, CHUNK))
    u, mean = np.empty((C, CHUNK)), np.empty(CHUNK)
    for j in range(shift.shape[0]):
        for first in range(bounds[j], bounds[j + 1], CHUNK):
            size = min(CHUNK, bounds[j + 1] - first)
            several(kl, z, order, first, size, shift, up, j, inverse, y, own, rate, of)
            taken(v, order, first, size, u)
            averaged(u, own, of, size, mean)
            pulled(u, own, of, size, mean, j, sums)


@within
def averaged(u: Any, own: Any, of: Any, size: int, mean: Any) -> None:
    """mean (CHUNK,): own'u over the total of each sample."""
    for i in range(size):
        mean[i] = 0.0
    for c in range(u.shape[0]):
        for i in range(size):
            mean[i] += own[c, i] * u[c, i]
    for i in range(size):
        mean[i] /= of[0, i]


@reordered
def pulled(u: Any, own: Any, of: Any, size: int, mean: Any, j: int, sums: Any) -> None:
    """What some samples add to sums (J, C) of H u / w."""
    for c in range(u.shape[0]):
        total = 0.0
        for i in range(size):
            total += of[1, i] * own[c, i] * (u[c, i] - mean[i])
        sums[j, c] += total


@compiled
def simplex_back(kl: bool, z: Any, order: Any, bounds: Any, shift: Any, inverse: Any, v: Any, pull: Any, out: Any) -> None:
    """out (n, C) = D'(v - pull), pull (J, C) by joint cell, D = dy / dz at fixed shifts."""
    C, up = z.shape[1], factors(shift)
    y, own, rate, of = np.empty((C, CHUNK)), np.empty((C, CHUNK)), np.empty((C, CHUNK)), np.empty((3, CHUNK))
    u, mean = np.empty((C, CHUNK)), np.empty(CHUNK)
    for j in range(shift.shape[0]):
        for first in range(bounds[j], bounds[j + 1], CHUNK):
            size = min(CHUNK, bounds[j + 1] - first)
            several(kl, z, order, first, size, shift, up, j, inverse, y, own, rate, of)
            taken(v, order, first, size, u)
            for c in range(C):
                for i in range(size):
                    u[c, i] -= pull[j, c]
            averaged(u, own, of, size, mean)
            for i in range(size):
                for c in range(C):
                    out[order[first + i], c] = rate[c, i] * (u[c, i] - mean[i])


@within
def lack(y: Any, i: int) -> float:
    """What row i of y (n, C) lacks of 1, rounded once (a sum with the rounding of every addition: Neumaier 1974)."""
    total, rest = 1.0, 0.0
    for c in range(y.shape[1]):
        x = -float(y[i, c])
        new = total + x
        if abs(total) >= abs(x):
            rest += (total - new) + x
        else:
            rest += (x - new) + total
        total = new
    return total + rest


@compiled
def lacks(y: Any, out: Any) -> None:
    """out (n,): what the rows of y (n, C) lack of 1."""
    for i in range(y.shape[0]):
        out[i] = lack(y, i)


@inner
def simplex_scores(kl: bool, z: Any, order: Any, bounds: Any, shift: Any, inverse: Any, y: Any, sums: Any) -> float:
    """y (n, C) in its own dtype: what rounding leaves of each sample's sum goes to its largest entry; z itself where no shift is. sums
    (J, C) of it over the samples of each joint cell, which begin at 0. Returns how far a sum is from 1 at most; infinite for NaN.
    """
    C, up = z.shape[1], factors(shift)
    x, own, rate, of = np.empty((C, CHUNK)), np.empty((C, CHUNK)), np.empty((C, CHUNK)), np.empty((3, CHUNK))
    moved, worst = False, 0.0
    for j in range(shift.shape[0]):
        for c in range(C):
            moved |= shift[j, c] != 0.0
    for j in range(shift.shape[0]):
        for first in range(bounds[j], bounds[j + 1], CHUNK):
            size = min(CHUNK, bounds[j + 1] - first)
            if moved:
                several(kl, z, order, first, size, shift, up, j, inverse, x, own, rate, of)
            else:
                taken(z, order, first, size, x)
            for i in range(size):
                k, most = order[first + i], 0
                for c in range(C):
                    y[k, c] = x[c, i]
                    if x[c, i] > x[most, i]:
                        most = c
                left = lack(y, k)
                if moved:
                    y[k, most] = min(max(y[k, most] + left, 0.0), 1.0)
                    left = lack(y, k)
                if not abs(left) <= worst:
                    worst = abs(left) if abs(left) < np.inf else np.inf
                for c in range(C):
                    sums[j, c] += y[k, c]
    return worst
