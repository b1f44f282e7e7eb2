"""What a compiled solve does between its passes, in cell space: the checks in front, the search's steps, the repair, the last check, and
the system of the gradient. One function of vectors and a number that says what is asked for, compiled once for scores of all dtypes.

The answer is the one of the general road: prices of the optimum, moved on their piece to limits that are tighter by what rounding can
do, scores made from them, and every hard row proved for the sums of the very scores that are returned. Anything else (a row that floats
cannot decide, limits without room for a margin, dependent rows, a search that does not settle) is left to the general road.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fairopt.solve.passes.jit import by_address, inner, module, vector
from fairopt.solve.passes.kernels import copy, fill
from fairopt.solve.passes.pieces import gaps, read_piece, solve_piece
from fairopt.solve.passes.rows import HALF_ULP, Cells, combine, model, residual, values, with_limits
from fairopt.solve.passes.search import EPS, OWN, RESIDUAL, STEPS, Search, advance, begin, search_of

OPEN, GUESS, FULL, ADVANCE, SETTLE, BESIDE, JUDGE, RESPOND = range(8)
# whole numbers of a plan: its head, then starts, index, first, hard, joint_first, joint_row, joint_class
WHOLE_SIZE, REAL_SIZE, WORK_SIZE, ANSWER_SIZE, M_, C_, L_, R_, ENTRIES, DIAGONAL, APART, BOXED, UNIFORM = range(13)
SLOPES, CLASSES, JOINTS, JOINT_ENTRIES, INTS = range(13, 18)  # SLOPES: how many there are of an evaluation, C but for classes
# numbers of a plan: its head, then value, joint_value, lower, upper, width, rho, soft, offset, unit, metric, open, scale
LOW, HIGH, TERMS, TINY, SPAN_LOW, SPAN_HIGH, FORCED, FARTHEST, LIGHT, LOW32, HIGH32, FLOATS = range(12)
# numbers of an answer: its head, then p (m,), violation (L + R,), state (m,), capped (R,), slopes at these prices and at those found
LEFT_AT, ITERATIONS, LEAST, LARGEST, MAGNITUDE, RESIDUE, BOUND, MOVED, ERROR, HEAD = range(10)
ACCEPTED = 2e-10  # of the scores' size: a residual that counts as nearest (as in fairopt.solve.dual.newton)
STALLED = 1e-13  # what this road leaves of it at most
FAR = 2.0**-38  # of the scores' size: prices of a repair that moves them more are judged by their own residual
END, ENDED = 36.0, 2  # a shift by which a score may have been brought to an end up to rounding, and what says so
LEFT = 64.0  # margins that this residual may be: rounding is a share of one (both as in fairopt.solve.finish.repair)


@inner
def unpack(whole: Any, real: Any) -> Cells:
    """The plan's arrays as they lie in its two vectors."""
    m, C, L, R, entries, joined = whole[M_], whole[C_], whole[L_], whole[R_], whole[ENTRIES], whole[JOINT_ENTRIES]
    a, b = INTS, INTS + m + 1
    c, d = b + entries, b + entries + R + 1
    j = d + L + R
    k = j + (whole[JOINTS] + 1 if whole[CLASSES] > 0 else 0)
    v = FLOATS + entries
    e = v + joined
    f, g = e + 2 * L, e + 2 * L + R
    h = g + 2 * (L + R)
    i = h + 3 * m
    return Cells(
        whole[a:b], whole[b:c], real[FLOATS:v], whole[c:d], real[e : e + L], real[e + L : f], real[f:g], real[g : g + L + R],
        real[g + L + R : h], whole[d:j], real[h : h + m], real[h + m : h + 2 * m], real[h + 2 * m : i], real[i : i + C],
        whole[DIAGONAL] != 0, whole[APART] != 0, whole[CLASSES], whole[j:k], whole[k : k + joined], whole[k + joined : k + 2 * joined],
        real[v:e],
    )  # fmt: skip


@inner
def row_error(q: Cells, k: int, magnitude: float, real: Any) -> float:
    """How far a float64 value of row k can be from the exact one (as ``fairopt.solve.finish.check.summation_bound``)."""
    return float(HALF_ULP * (real[TERMS] * q.unit[k] * magnitude + 8.0 * abs(q.offset[k])) + real[TINY] * max(1.0, magnitude))


@inner
def margin(q: Cells, k: int, magnitude: float, shift: float, eps: float, real: Any) -> float:
    """What rounding can do to row k: of the scores, of their shifts, and of the sum."""
    rounding = q.unit[k] * (0.5 * eps * magnitude + 2.0 * HALF_ULP * shift)
    return float((rounding + 2.0 * row_error(q, k, magnitude, real)) * (1.0 + 1e-9))


@inner
def tightened(q: Cells, limits: Any, magnitude: float, shift: float, eps: float, real: Any) -> bool:
    """limits (3, max(L, R)): lower, upper, width of the hard constraints moved inward by what rounding can do. False: there is no room."""
    L = q.lower.shape[0]
    for k in range(L):
        inward = margin(q, k, magnitude, shift, eps, real) if q.hard[k] else 0.0
        limits[0, k], limits[1, k] = q.lower[k] + inward, q.upper[k] - inward
        if q.hard[k] and not limits[1, k] > limits[0, k]:
            return False
    for r in range(q.width.shape[0]):
        inward = 0.0
        if q.hard[L + r]:
            for k in range(q.first[r], q.first[r + 1]):
                inward = max(inward, 2.0 * margin(q, k, magnitude, shift, eps, real))
        limits[2, r] = q.width[r] - inward
        if q.hard[L + r] and not limits[2, r] > 0.0:
            return False
    return True


@inner
def farthest(shift: Any) -> float:
    """The largest absolute shift."""
    most = 0.0
    for c in range(shift.shape[0]):
        if not abs(shift[c]) <= most:
            most = abs(shift[c])
    return most


@inner
def opened(q: Cells, w: Search, real: Any, whole: Any, answer: Any) -> bool:
    """Whether scores between LEAST and LARGEST are for this road; sets the search's sizes, at no price."""
    least, largest, number = answer[LEAST], answer[LARGEST], w.number
    if not (least > -np.inf and largest < np.inf):  # NaN among them: its bits lie beyond those of infinity
        return False
    extent = max(abs(least), abs(largest))
    if not (extent >= real[SPAN_LOW] and extent <= real[SPAN_HIGH]):
        return False
    number[OWN] = extent
    if whole[BOXED]:
        if whole[UNIFORM]:
            number[OWN] = max(abs(min(max(least, real[LOW]), real[HIGH])), abs(min(max(largest, real[LOW]), real[HIGH])))
        else:
            number[OWN] = min(real[FARTHEST], max(extent, real[FORCED]))
    fill(w.trial, 0.0)
    fill(w.shift, 0.0)
    limits = np.zeros((3, max(q.lower.shape[0], q.width.shape[0])))
    return tightened(q, limits, number[OWN], 0.0, number[EPS], real)


@inner
def settled(q: Cells, w: Search, real: Any, whole: Any, answer: Any) -> bool:
    """From the prices that the search found to those of the tighter limits, with their shifts in ``w.shift``. False: not on this road."""
    m, F, L, R, number = w.p.shape[0], w.free.shape[0], q.lower.shape[0], q.width.shape[0], w.number
    answer[ITERATIONS], answer[RESIDUE], answer[BOUND] = number[STEPS], number[RESIDUAL], ACCEPTED * number[OWN]
    shift = farthest(w.shift) * real[LIGHT]
    if not shift < np.inf:
        return False
    extent = max(abs(answer[LEAST]), abs(answer[LARGEST]))
    if answer[MAGNITUDE] < 0.0:
        answer[MAGNITUDE] = real[FARTHEST] if whole[BOXED] else extent + shift
    limits = np.zeros((3, max(L, R)))
    if not tightened(q, limits, answer[MAGNITUDE], min(shift, extent + answer[MAGNITUDE]), number[EPS], real):
        return False
    a = HEAD + m + L + R
    p, state, capped = answer[HEAD : HEAD + m], answer[a : a + m], answer[a + m : a + m + R]
    copy(answer[a + m + R + F : a + m + R + 2 * F], w.free)
    M, diagonal = np.zeros((1, 1)) if q.diagonal else np.zeros((m, m)), np.zeros(m)
    model(q, w.free, M, diagonal)
    read_piece(q, w.f, w.p, q.metric, state, capped)
    if not moved_to(q, limits, w, M, diagonal, state, capped, p):
        return False
    x = np.zeros(m)
    for k in range(m):
        x[k] = p[k] - w.p[k]
    combine(q, x, w.shift)
    answer[MOVED] = farthest(w.shift) * real[LIGHT]
    combine(q, p, w.shift)
    return bool(answer[MOVED] < np.inf)


@inner
def moved_far(eps: float, answer: Any) -> bool:
    """Whether the repair moved scores by more than rounding does: then BESIDE has to be asked."""
    return not answer[MOVED] <= max(FAR, 64.0 * eps) * answer[MAGNITUDE]


@inner
def beside(q: Cells, w: Search, sums: Any, real: Any, answer: Any) -> bool:
    """Whether the repair moved the scores by no more than rounding, or else its prices solve the problem of the limits that it went to:
    their residual at the sums (C,) of the scores returned is small, beyond what rounding leaves of it.
    """
    m, L, R, number, magnitude = w.p.shape[0], q.lower.shape[0], q.width.shape[0], w.number, answer[MAGNITUDE]
    if not moved_far(number[EPS], answer):
        return True
    shift = min(farthest(w.shift) * real[LIGHT], max(abs(answer[LEAST]), abs(answer[LARGEST])) + magnitude)
    limits = np.zeros((3, max(L, R)))
    if not tightened(q, limits, magnitude, shift, number[EPS], real):
        return False
    excused = np.inf
    for k in range(m):
        excused = min(excused, margin(q, k, magnitude, shift, number[EPS], real) / q.unit[k])
    lower, upper, width, f = np.empty(L), np.empty(L), np.empty(R), np.empty(m)
    for k in range(L):
        lower[k], upper[k] = limits[0, k], limits[1, k]
    for r in range(R):
        width[r] = limits[2, r]
    values(q, sums, f)
    left = residual(with_limits(q, lower, upper, width), f, answer[HEAD : HEAD + m]) - LEFT * excused
    answer[RESIDUE] = max(answer[RESIDUE], left)
    return bool(left <= answer[BOUND])


@inner
def moved_to(q: Cells, limits: Any, w: Search, M: Any, diagonal: Any, state: Any, capped: Any, p: Any) -> bool:
    """p (m,): the search's prices moved on their piece to other limits. False: not on this road.

    A price that would change its side belongs to a row that does not bind at those limits: it leaves the piece (state 0).
    """
    m = p.shape[0]
    g, e, theta, x = np.zeros(m), np.zeros(2 * capped.shape[0]), np.zeros(m), np.zeros(m)
    for _ in range(3):
        gaps(q, limits, w.f, w.p, M, diagonal, state, capped, g, e, theta)
        if not solve_piece(q, M, diagonal, state, capped, g, e, x):
            return False
        kept = True
        for k in range(m):
            p[k] = theta[k] + x[k]
            if p[k] * state[k] < 0.0:
                state[k], kept = 0.0, False
        if kept:
            return True
    return False


@inner
def judged(q: Cells, sums: Any, real: Any, answer: Any) -> bool:
    """Whether every hard row holds beyond doubt, from the sums (C,) of the scores returned. Writes violations and the sums' bound."""
    m, L = q.offset.shape[0], q.lower.shape[0]
    f, magnitude = np.empty(m), answer[MAGNITUDE]
    values(q, sums, f)
    violation = answer[HEAD + m : HEAD + m + L + q.width.shape[0]]
    good, worst = True, 0.0
    for k in range(m):
        if not abs(f[k]) < np.inf:
            good = False
    for k in range(L):
        violation[k] = max(f[k] - q.upper[k], q.lower[k] - f[k])
        error = row_error(q, k, magnitude, real) * (1.0 + 1e-9)
        worst = max(worst, error)
        if q.hard[k] and not violation[k] <= -error:
            good = False
    for r in range(q.width.shape[0]):
        top, bottom, error = -np.inf, np.inf, 0.0
        for k in range(q.first[r], q.first[r + 1]):
            top, bottom = max(top, f[k]), min(bottom, f[k])
            error = max(error, row_error(q, k, magnitude, real))
        violation[L + r] = top - bottom - q.width[r]
        error *= 2.0 * (1.0 + 1e-9)
        worst = max(worst, error)
        if q.hard[L + r] and not violation[L + r] <= -error:
            good = False
    answer[ERROR] = worst
    return good


@inner
def responded(q: Cells, sums: Any, answer: Any, shift: Any) -> bool:
    """shift (C,) = A'K A of the sums (C,) of an incoming gradient on the piece of an answer. False where its rows depend on each other."""
    m, L, R = q.offset.shape[0], q.lower.shape[0], q.width.shape[0]
    a = HEAD + m + L + R
    F = (answer.shape[0] - a - m - R) // 2
    state, capped = answer[a : a + m], answer[a + m : a + m + R]
    r, e, x = np.zeros(m), np.zeros(2 * R), np.zeros(m)
    for k in range(m):
        if abs(state[k]) == 1.0:
            for i in range(q.starts[k], q.starts[k + 1]):
                r[k] += q.value[i] * sums[q.index[i]]
    M, diagonal = np.zeros((1, 1)) if q.diagonal else np.zeros((m, m)), np.zeros(m)
    for attempt in range(2):  # a cell may have lost its last free score to the repair: then the slopes before it
        b = a + m + R + attempt * F
        model(q, answer[b : b + F], M, diagonal)
        if solve_piece(q, M, diagonal, state, capped, r, e, x):
            combine(q, x, shift)
            return True
    return False


def stage(which: int, whole: Any, real: Any, work: Any, answer: Any, sums: Any, free: Any) -> int:
    """What ``which`` asks for. work: a search; sums (C,), free (slopes,): of an evaluation, of the scores returned, or of a gradient (sums,
    with its shifts (C,) written to free).
    """
    head = vector(whole, INTS)
    C, F = head[C_], head[SLOPES]
    whole, real = vector(whole, head[WHOLE_SIZE]), vector(real, head[REAL_SIZE])
    work, answer, sums = vector(work, head[WORK_SIZE]), vector(answer, head[ANSWER_SIZE]), vector(sums, C)
    free = vector(free, C if which == RESPOND else F)
    q = unpack(whole, real)
    if which == RESPOND:
        return int(responded(q, sums, answer, free))
    w = search_of(work, whole[M_], F)
    if which == ADVANCE:
        return advance(q, w, sums, free)
    if which == SETTLE:
        return int(settled(q, w, real, whole, answer))
    if which == BESIDE:
        return int(beside(q, w, sums, real, answer))
    if which == JUDGE:
        return int(judged(q, sums, real, answer))
    own = w.number[OWN]
    if which == OPEN:
        return int(opened(q, w, real, whole, answer))
    if which == GUESS:
        begin(w, 1e-6 * own, 1e-3 * own, 1e-9 * own)
    else:
        goal = max(8.0 * 2.0**-52, min(1e-4 * w.number[EPS], 0.1 * ACCEPTED) if w.number[EPS] > 2.0**-52 else 0.0) * own
        begin(w, goal, max(STALLED * own, goal), 1e-13 * own)
    return 1


if module() is None:
    ADDRESS = 0

    def staged(address: int, which: int, whole: Any, real: Any, work: Any, answer: Any, sums: Any, free: Any) -> int:
        return stage(which, whole, real, work, answer, sums, free)

else:
    staged, ADDRESS = by_address(stage)
