"""The loops over samples of the maps onto the simplex, compiled where numba is installed (see ``kernels``).

A sample moves by the shifts (C,) of its joint cell, over its weight. Without weights the samples of a cell share the factors exp(-s) of the
entropic map, so that a pass has no exponential; where these leave nothing of a sample, its exponents are taken one by one.
Sums have a fixed order: the same bits on every call.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fairopt.solve.passes.jit import compiled, inner

TOP = 700.0  # exp(TOP) is a float64
LEAST = 1e-250  # sums of factors below which exponents are taken one by one


@inner
def entropic(z: Any, s: Any, up: Any, inverse: float, plain: bool, y: Any, rate: Any) -> None:
    """y (C,) proportional to z exp(-s inverse), with sum 1, and rate (C,) = y / z (its limit at z = 0). up: exp(min s - s)."""
    C = z.shape[0]
    total = 0.0
    if plain:
        for c in range(C):
            rate[c] = up[c]
            total += z[c] * up[c]
    if not total > LEAST:
        top = -np.inf
        for c in range(C):
            if z[c] > 0.0:
                top = max(top, np.log(z[c]) - s[c] * inverse)
        total = 0.0
        for c in range(C):
            y[c] = np.exp(np.log(z[c]) - s[c] * inverse - top) if z[c] > 0.0 else 0.0
            total += y[c]
        for c in range(C):
            rate[c] = np.exp(min(-s[c] * inverse - top, TOP)) / total
            y[c] = y[c] / total
    else:
        for c in range(C):
            rate[c] = rate[c] / total
            y[c] = z[c] * rate[c]


@inner
def nearest_point(z: Any, s: Any, inverse: float, y: Any, kept: Any) -> Any:
    """y (C,) the nearest point of the simplex to z - s inverse; kept (C,) 1 where it is above 0. Returns how many are.

    All classes are kept, then those that fall below the level of the kept ones go, until none does (Michelot 1986).
    """
    C = z.shape[0]
    for c in range(C):
        y[c] = z[c] - s[c] * inverse
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


@inner
def probabilities(kl: bool, z: Any, s: Any, up: Any, inverse: float, plain: bool, y: Any, own: Any, rate: Any) -> Any:
    """y (C,) of one sample; own (C,), the classes' weights in H = diag(own) - own own' / total; rate (C,), those of
    dy / dz = diag(rate) - rate own' / total. Returns total. This is the one place that knows the two distances apart."""
    if kl:
        entropic(z, s, up, inverse, plain, y, rate)
        for c in range(y.shape[0]):
            own[c] = y[c]
        return 1.0
    count = nearest_point(z, s, inverse, y, own)
    for c in range(y.shape[0]):
        rate[c] = own[c]
    return float(count)


@compiled
def simplex_map(kl: bool, z: Any, code: Any, shift: Any, inverse: Any, y: Any) -> None:
    """y (n, C) at shifts (J, C) of the joint cells ``code`` (n,). inverse: 1 / w (n,), or (0,) where there are no weights."""
    n, C, plain = z.shape[0], z.shape[1], inverse.shape[0] == 0
    up, own, rate = factors(shift), np.empty(C), np.empty(C)
    for i in range(n):
        j, weight = code[i], 1.0 if plain else inverse[i]
        probabilities(kl, z[i], shift[j], up[j], weight, plain, y[i], own, rate)


@compiled
def simplex_sums(kl: bool, z: Any, code: Any, shift: Any, inverse: Any, sums: Any, blocks: Any) -> None:
    """sums (J, C) of y, and blocks (J, C, C) of H / w, over the samples of each joint cell; both begin at 0."""
    n, C, plain = z.shape[0], z.shape[1], inverse.shape[0] == 0
    up, y, own, rate = factors(shift), np.empty(C), np.empty(C), np.empty(C)
    for i in range(n):
        j, weight = code[i], 1.0 if plain else inverse[i]
        total = probabilities(kl, z[i], shift[j], up[j], weight, plain, y, own, rate)
        for c in range(C):
            sums[j, c] += y[c]
            part = weight * own[c]
            share = part / total
            for d in range(c):
                blocks[j, c, d] -= share * own[d]
            blocks[j, c, c] += part * (1.0 - own[c] / total)
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
        total = probabilities(kl, z[i], shift[j], up[j], weight, plain, y, own, rate)
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
        j, weight = code[i], 1.0 if plain else inverse[i]
        total = probabilities(kl, z[i], shift[j], up[j], weight, plain, y, own, rate)
        mean = 0.0
        for c in range(C):
            mean += own[c] * (v[i, c] - pull[j, c])
        mean /= total
        for c in range(C):
            out[i, c] = rate[c] * (v[i, c] - pull[j, c] - mean)


@compiled
def lacks(y: Any, out: Any) -> None:
    """out (n,): what the rows of y (n, C) lack of 1, rounded once (each sum with the rounding of every addition: Neumaier 1974)."""
    for i in range(y.shape[0]):
        total, rest = 1.0, 0.0
        for c in range(y.shape[1]):
            x = -y[i, c]
            new = total + x
            if abs(total) >= abs(x):
                rest += (total - new) + x
            else:
                rest += (x - new) + total
            total = new
        out[i] = total + rest
