"""The loops over samples of the maps onto the simplex, compiled where numba is installed (see ``kernels``).

A sample moves by the shifts (C,) of its joint cell, over its weight. Without weights the samples of a cell share the factors exp(-s) of the
entropic map, so that a pass has no exponential; where these leave nothing of a sample, its exponents are taken one by one.
Sums have a fixed order: the same bits on every call. The maps take whole arrays and places in them: a view of each sample's row would take
more than twice as long as the sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fairopt.solve.passes.jit import compiled, inner, within

TOP = 700.0  # exp(TOP) is a float64
LEAST = 1e-250  # sums of factors below which exponents are taken one by one


@within
def entropic(z: Any, i: int, s: Any, up: Any, j: int, inverse: float, plain: bool, y: Any, rate: Any) -> None:
    """y (C,) proportional to z exp(-s inverse) for sample i of joint cell j, with sum 1, and rate (C,) = y / z (its limit at z = 0).

    up (J, C): exp(min s - s).
    """
    C = z.shape[1]
    total = 0.0
    if plain:
        for c in range(C):
            y[c] = z[i, c] * up[j, c]
            total += y[c]
    if not total > LEAST:
        top = -np.inf
        for c in range(C):
            if z[i, c] > 0.0:
                top = max(top, np.log(z[i, c]) - s[j, c] * inverse)
        total = 0.0
        for c in range(C):
            y[c] = np.exp(np.log(z[i, c]) - s[j, c] * inverse - top) if z[i, c] > 0.0 else 0.0
            total += y[c]
        for c in range(C):
            rate[c] = np.exp(min(-s[j, c] * inverse - top, TOP)) / total
            y[c] = y[c] / total
    else:
        share = 1.0 / total
        for c in range(C):
            rate[c] = up[j, c] * share
            y[c] = z[i, c] * rate[c]


@within
def nearest_point(z: Any, i: int, s: Any, j: int, inverse: float, y: Any, kept: Any) -> Any:
    """y (C,) the nearest point of the simplex to z - s inverse, of sample i in joint cell j; kept (C,) 1 where it is above 0. Returns how
    many are.

    All classes are kept, then those that fall below the level of the kept ones go, until none does (Michelot 1986).
    """
    C = z.shape[1]
    for c in range(C):
        y[c] = z[i, c] - s[j, c] * inverse
        kept[c] = 1.0
    count, before = C, C + 1
    level = 0.0
    while count < before:
        before = count
        total = 0.0
        for c in range(C):
            total += y[c] if kept[c] > 0.0 else 0.0
        level = (total - 1.0) / count
        for c in range(C):
            if kept[c] > 0.0 and not y[c] > level and count > 1:
                kept[c] = 0.0
                count -= 1
    for c in range(C):
        y[c] = max(y[c] - level, 0.0) if kept[c] > 0.0 else 0.0
    return count


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
def probabilities(kl: bool, z: Any, i: int, s: Any, up: Any, j: int, inverse: float, plain: bool, y: Any, own: Any, rate: Any) -> Any:
    """y (C,) of sample i in joint cell j; own (C,), the classes' weights in H = diag(own) - own own' / total; rate (C,), those of
    dy / dz = diag(rate) - rate own' / total. Returns total. This is the one place that knows the two distances apart."""
    if kl:
        entropic(z, i, s, up, j, inverse, plain, y, rate)
        for c in range(y.shape[0]):
            own[c] = y[c]
        return 1.0
    count = nearest_point(z, i, s, j, inverse, y, own)
    for c in range(y.shape[0]):
        rate[c] = own[c]
    return float(count)


@compiled
def simplex_map(kl: bool, z: Any, code: Any, shift: Any, inverse: Any, y: Any) -> None:
    """y (n, C) at shifts (J, C) of the joint cells ``code`` (n,). inverse: 1 / w (n,), or (0,) where there are no weights."""
    n, C, plain = z.shape[0], z.shape[1], inverse.shape[0] == 0
    up, x, own, rate = factors(shift), np.empty(C), np.empty(C), np.empty(C)
    for i in range(n):
        probabilities(kl, z, i, shift, up, code[i], 1.0 if plain else inverse[i], plain, x, own, rate)
        for c in range(C):
            y[i, c] = x[c]


@compiled
def simplex_sums(kl: bool, z: Any, code: Any, shift: Any, inverse: Any, sums: Any, blocks: Any) -> None:
    """sums (J, C) of y, and blocks (J, C, C) of H / w, over the samples of each joint cell; both begin at 0."""
    n, C, plain = z.shape[0], z.shape[1], inverse.shape[0] == 0
    up, y, own, rate = factors(shift), np.empty(C), np.empty(C), np.empty(C)
    for i in range(n):
        j, weight = code[i], 1.0 if plain else inverse[i]
        total = probabilities(kl, z, i, shift, up, j, weight, plain, y, own, rate)
        share = weight / total
        for c in range(C):
            sums[j, c] += y[c]
            part = share * own[c]
            for d in range(c):
                blocks[j, c, d] -= part * own[d]
            blocks[j, c, c] += part * (total - own[c])
    for j in range(blocks.shape[0]):
        for c in range(C):
            for d in range(c):
                blocks[j, d, c] = blocks[j, c, d]


@compiled
def simplex_pull(kl: bool, z: Any, code: Any, shift: Any, inverse: Any, v: Any, sums: Any) -> None:
    """sums (J, C) of H v / w for v (n, C), over the samples of each joint cell; they begin at 0."""
    n, C, plain = z.shape[0], z.shape[1], inverse.shape[0] == 0
    up, y, own, rate = factors(shift), np.empty(C), np.empty(C), np.empty(C)
    for i in range(n):
        j, weight = code[i], 1.0 if plain else inverse[i]
        total = probabilities(kl, z, i, shift, up, j, weight, plain, y, own, rate)
        mean = 0.0
        for c in range(C):
            mean += own[c] * v[i, c]
        mean /= total
        for c in range(C):
            sums[j, c] += weight * own[c] * (v[i, c] - mean)


@compiled
def simplex_back(kl: bool, z: Any, code: Any, shift: Any, inverse: Any, v: Any, pull: Any, out: Any) -> None:
    """out (n, C) = D'(v - pull), pull (J, C) by joint cell, D = dy / dz at fixed shifts."""
    n, C, plain = z.shape[0], z.shape[1], inverse.shape[0] == 0
    up, y, own, rate = factors(shift), np.empty(C), np.empty(C), np.empty(C)
    for i in range(n):
        j = code[i]
        total = probabilities(kl, z, i, shift, up, j, 1.0 if plain else inverse[i], plain, y, own, rate)
        mean = 0.0
        for c in range(C):
            mean += own[c] * (v[i, c] - pull[j, c])
        mean /= total
        for c in range(C):
            out[i, c] = rate[c] * (v[i, c] - pull[j, c] - mean)


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
def simplex_scores(kl: bool, z: Any, code: Any, shift: Any, inverse: Any, y: Any, sums: Any) -> float:
    """y (n, C) in its own dtype: what rounding leaves of each sample's sum goes to its largest entry; z itself where no shift is. sums
    (J, C) of it over the samples of each joint cell, which begin at 0. Returns how far a sum is from 1 at most; infinite for NaN.
    """
    n, C, plain = z.shape[0], z.shape[1], inverse.shape[0] == 0
    up, x, own, rate = factors(shift), np.empty(C), np.empty(C), np.empty(C)
    moved, worst = False, 0.0
    for j in range(shift.shape[0]):
        for c in range(C):
            moved |= shift[j, c] != 0.0
    for i in range(n):
        j = code[i]
        if moved:
            probabilities(kl, z, i, shift, up, j, 1.0 if plain else inverse[i], plain, x, own, rate)
            most = 0
            for c in range(C):
                y[i, c] = x[c]
                if x[c] > x[most]:
                    most = c
            y[i, most] = min(max(y[i, most] + lack(y, i), 0.0), 1.0)
        else:
            for c in range(C):
                y[i, c] = z[i, c]
        left = abs(lack(y, i))
        if not left <= worst:
            worst = left if left < np.inf else np.inf
        for c in range(C):
            sums[j, c] += y[i, c]
    return worst
