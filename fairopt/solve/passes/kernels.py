"""The loops over samples: everything compiled that sees n numbers. Plain Python where numba is not installed.

Samples stay in the order that they came in; ``cell`` (n,) uint16 says where each adds to. Four sets of sums are kept side by side, so that
one sample need not wait for the one before it; their order is fixed, so that the same scores give the same bits. Whatever the dtype of
the scores, shifts, clipping and sums are float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fairopt.solve.passes.jit import compiled, inner, reordered

BANKS = 4
FEW = 3  # cells that are summed one after the other, eight or more scores at a time


@compiled
def extremes(bits: Any, ends: Any) -> None:
    """Writes to ends (2,) the least and largest of (n,) numbers, all three as the whole numbers with the same bits.

    They are compared as whole numbers in the order of the floats: such a loop runs eight to sixteen numbers at a time.
    """
    if bits.itemsize == 4:
        top32, sign32 = np.int32(0x7FFFFFFF), np.int32(31)
        low32, high32 = top32, np.int32(-top32)
        for i in range(bits.shape[0]):
            a = np.int32(bits[i])
            a = np.int32(a ^ ((a >> sign32) & top32))
            low32, high32 = min(low32, a), max(high32, a)
        ends[0], ends[1] = low32 ^ ((low32 >> sign32) & top32), high32 ^ ((high32 >> sign32) & top32)
    else:
        top64, sign64 = np.int64(0x7FFFFFFFFFFFFFFF), np.int64(63)
        low64, high64 = top64, np.int64(-top64)
        for i in range(bits.shape[0]):
            b = np.int64(bits[i])
            b = b ^ ((b >> sign64) & top64)
            low64, high64 = min(low64, b), max(high64, b)
        ends[0], ends[1] = low64 ^ ((low64 >> sign64) & top64), high64 ^ ((high64 >> sign64) & top64)


@inner
def fill(target: Any, value: float) -> None:
    """Every entry of ``target`` (k,) becomes ``value``. Such loops compile sooner than slices, which bring the words of their errors."""
    for i in range(target.shape[0]):
        target[i] = value


@inner
def copy(target: Any, source: Any) -> None:
    """``target`` (k,) = ``source`` (k,)."""
    for i in range(target.shape[0]):
        target[i] = source[i]


@inner
def join(banks: Any, sums: Any) -> None:
    """Adds the four sets (BANKS, C) to ``sums`` (C,)."""
    for c in range(sums.shape[0]):
        sums[c] = (banks[0, c] + banks[1, c]) + (banks[2, c] + banks[3, c])


@reordered
def few_sums(z: Any, cell: Any, sums: Any) -> None:
    """``cell_sums`` for few cells."""
    for c in range(sums.shape[0]):
        total = 0.0
        for i in range(z.shape[0]):
            total += np.float64(z[i]) if cell[i] == c else 0.0
        sums[c] = total


@compiled
def cell_sums(z: Any, cell: Any, sums: Any) -> None:
    """(C,) the sum of the scores of each cell."""
    if sums.shape[0] <= FEW:
        few_sums(z, cell, sums)
        return
    n = z.shape[0]
    banks = np.zeros((BANKS, sums.shape[0]))
    whole = n - n % BANKS
    for i in range(0, whole, BANKS):
        for b in range(BANKS):
            banks[b, cell[i + b]] += np.float64(z[i + b])
    for i in range(whole, n):
        banks[0, cell[i]] += np.float64(z[i])
    join(banks, sums)


@inner
def next_above(v: float) -> float:
    """The next larger float64, none of the subnormal ones (a slow loop where many scores are clipped to it)."""
    near = np.nextafter(v, np.inf)
    return near if abs(near) > 2.0**-1022 else 2.0**-1022


@compiled
def clipped_sums(z: Any, cell: Any, shift: Any, low: float, high: float, sums: Any, free: Any) -> None:
    """(C,) sums of clip(z - shift, low, high) and the number of scores strictly between the bounds, for each cell.

    Clipped to the floats next to the bounds, a score is free where that changes nothing: one comparison, and the sums are off by an ulp of
    a bound for each clamped score, as any rounding.
    """
    n = z.shape[0]
    S, N = np.zeros((BANKS, sums.shape[0])), np.zeros((BANKS, sums.shape[0]), np.int64)
    least, most = next_above(low), -next_above(-high)
    whole = n - n % BANKS
    for i in range(0, whole, BANKS):
        for b in range(BANKS):
            c = cell[i + b]
            v = np.float64(z[i + b]) - shift[c]
            w = v if v > least else least
            w = w if w < most else most
            S[b, c] += w
            N[b, c] += np.int64(w == v)
    for i in range(whole, n):
        c = cell[i]
        v = np.float64(z[i]) - shift[c]
        w = min(max(v, least), most)
        S[0, c] += w
        N[0, c] += np.int64(w == v)
    join(S, sums)
    join(N, free)


@compiled
def weighted_sums(z: Any, cell: Any, shift: Any, lb: Any, ub: Any, inverse: Any, sums: Any, free: Any) -> None:
    """As ``clipped_sums`` with bounds (n,) or (1,), and 1 / w (n,) or (1,): a score moves by shift / w, and free is the sum of 1 / w."""
    n = z.shape[0]
    sl, su, sw = int(lb.shape[0] > 1), int(ub.shape[0] > 1), int(inverse.shape[0] > 1)
    fill(sums, 0.0)
    fill(free, 0.0)
    for i in range(n):
        c = cell[i]
        mass = inverse[i * sw]
        v, low, high = np.float64(z[i]) - shift[c] * mass, lb[i * sl], ub[i * su]
        sums[c] += min(max(v, low), high)
        free[c] += mass if (v > low) & (v < high) else 0.0


@compiled
def largest(z: Any, cell: Any, shift: Any, low: float, high: float, lb: Any, ub: Any, inverse: Any) -> float:
    """The largest absolute score at these shifts; bounds and 1 / w as in ``weighted_sums``, or (0,): low and high, and 1."""
    sl, su, sw = int(lb.shape[0] > 1), int(ub.shape[0] > 1), int(inverse.shape[0] > 1)
    plain, alike = lb.shape[0] == 0, inverse.shape[0] == 0
    most = 0.0
    for i in range(z.shape[0]):
        v = np.float64(z[i]) - shift[cell[i]] * (1.0 if alike else inverse[i * sw])
        v = abs(min(max(v, low if plain else lb[i * sl]), high if plain else ub[i * su]))
        most = v if v > most else most
    return most


@compiled
def shifted(z: Any, cell: Any, shift: Any, y: Any, sums: Any) -> None:
    """Writes z - shift to y (n,), rounded to its dtype, and the sums (C,) of what was written."""
    if sums.shape[0] <= FEW:
        for i in range(z.shape[0]):
            y[i] = np.float64(z[i]) - shift[cell[i]]
        few_sums(y, cell, sums)
        return
    n = z.shape[0]
    S = np.zeros((BANKS, sums.shape[0]))
    whole = n - n % BANKS
    for i in range(0, whole, BANKS):
        for b in range(BANKS):
            c = cell[i + b]
            y[i + b] = np.float64(z[i + b]) - shift[c]
            S[b, c] += np.float64(y[i + b])
    for i in range(whole, n):
        c = cell[i]
        y[i] = np.float64(z[i]) - shift[c]
        S[0, c] += np.float64(y[i])
    join(S, sums)


@compiled
def clipped(z: Any, cell: Any, shift: Any, box: Any, inner: Any, y: Any, code: Any, sums: Any, free: Any) -> None:
    """Writes clip(z - shift) to y (n,), rounded to its dtype; box (2,) float64, whose ends in that dtype are ``inner`` (2,).

    ``code`` (n,): the cell of a score strictly between its bounds before rounding, else C. ``sums`` (C,) of what was written; ``free`` (C,)
    the scores that are not coded C.
    """
    n = z.shape[0]
    C = sums.shape[0]
    low, high, low_t, high_t = box[0], box[1], inner[0], inner[1]
    S, N = np.zeros((BANKS, C)), np.zeros((BANKS, C), np.int64)
    whole = n - n % BANKS
    for i in range(0, whole, BANKS):
        for b in range(BANKS):
            c = cell[i + b]
            v = np.float64(z[i + b]) - shift[c]
            y[i + b] = v
            x = y[i + b]
            x = x if x > low_t else low_t
            x = x if x < high_t else high_t
            y[i + b] = x
            S[b, c] += np.float64(x)
            inside = (v > low) & (v < high)
            N[b, c] += np.int64(inside)
            code[i + b] = c if inside else C
    for i in range(whole, n):
        c = cell[i]
        v = np.float64(z[i]) - shift[c]
        y[i] = v
        y[i] = min(max(y[i], low_t), high_t)
        S[0, c] += np.float64(y[i])
        inside = (v > low) & (v < high)
        N[0, c] += np.int64(inside)
        code[i] = c if inside else C
    join(S, sums)
    join(N, free)


@compiled
def weighted(z: Any, cell: Any, shift: Any, lb: Any, ub: Any, inverse: Any, y: Any, code: Any, sums: Any, free: Any) -> None:
    """As ``clipped`` with bounds and 1 / w as in ``weighted_sums``; every box holds a number of the dtype."""
    n = z.shape[0]
    C = sums.shape[0]
    sl, su, sw = int(lb.shape[0] > 1), int(ub.shape[0] > 1), int(inverse.shape[0] > 1)
    ends = np.empty(2, y.dtype)
    ends[0], ends[1] = -np.inf, np.inf
    fill(sums, 0.0)
    fill(free, 0.0)
    for i in range(n):
        c = cell[i]
        mass = inverse[i * sw]
        v, low, high = np.float64(z[i]) - shift[c] * mass, lb[i * sl], ub[i * su]
        y[i] = min(max(v, low), high)
        if np.float64(y[i]) < low:
            y[i] = np.nextafter(y[i], ends[1])
        elif np.float64(y[i]) > high:
            y[i] = np.nextafter(y[i], ends[0])
        sums[c] += np.float64(y[i])
        inside = (v > low) & (v < high)
        free[c] += mass if inside else 0.0
        code[i] = c if inside else C


@compiled
def gradient_sums(v: Any, code: Any, inverse: Any, sums: Any) -> None:
    """(C + 1,) sums of an incoming gradient, times 1 / w where ``inverse`` is (n,); the last entry holds the clamped samples'."""
    if inverse.shape[0] <= 1:
        cell_sums(v, code, sums)
        return
    fill(sums, 0.0)
    for i in range(v.shape[0]):
        sums[code[i]] += np.float64(v[i]) * inverse[i]


@compiled
def spread(v: Any, code: Any, shift: Any, inverse: Any, out: Any, whole: bool) -> None:
    """out (n,) = v - shift of the sample's code (times 1 / w where ``inverse`` is (n,)), 0 for a clamped one. ``shift`` (C,).

    ``whole``: none is clamped.
    """
    C = shift.shape[0]
    keep = np.ones(C + 1, out.dtype)
    keep[C] = 0.0
    if inverse.shape[0] <= 1:
        move = np.zeros(C + 1, out.dtype)
        for c in range(C):
            move[c] = shift[c]
        if whole:
            for i in range(v.shape[0]):
                out[i] = v[i] - move[code[i]]
        else:
            for i in range(v.shape[0]):
                k = code[i]
                out[i] = v[i] * keep[k] - move[k]
        return
    far = np.zeros(C + 1)
    for c in range(C):
        far[c] = shift[c]
    for i in range(v.shape[0]):
        k = code[i]
        out[i] = np.float64(v[i] * keep[k]) - far[k] * inverse[i]


@compiled
def exact_bins(y: Any, cell: Any, exponent: Any, least: int, high: Any, low: Any) -> None:
    """Adds the whole numbers that scores are multiples of, in two halves of 27 bits, to (exponents, C) int64 sums that stay exact.

    ``exponent`` (n,): that of each score, of which ``least`` is the smallest (``np.frexp``).
    """
    for i in range(y.shape[0]):
        whole = np.int64(np.ldexp(np.float64(y[i]), np.int32(53 - exponent[i])))
        k = exponent[i] - least
        low[k, cell[i]] += whole & np.int64((1 << 27) - 1)
        high[k, cell[i]] += whole >> np.int64(27)
