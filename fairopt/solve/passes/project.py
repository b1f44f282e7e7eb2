"""One compiled call forward, one backward: passes over the samples by ``kernels``, everything between them by ``stages``."""

from __future__ import annotations

from typing import Any

import numpy as np

from fairopt.solve.passes import kernels
from fairopt.solve.passes.jit import compiled, inner
from fairopt.solve.passes.search import EPS, EVALUATE, NUMBERS, SOLVED
from fairopt.solve.passes.stages import (
    ADVANCE,
    BESIDE,
    BOXED,
    C_,
    FARTHEST,
    FULL,
    GUESS,
    HEAD,
    HIGH,
    HIGH32,
    JUDGE,
    L_,
    LARGEST,
    LEAST,
    LEFT_AT,
    LOW,
    LOW32,
    M_,
    MAGNITUDE,
    OPEN,
    R_,
    RESPOND,
    SETTLE,
    UNIFORM,
    WORK_SIZE,
    moved_far,
    staged,
)  # fmt: skip


@inner
def found(
    address: int, z: Any, cell: Any, whole: Any, real: Any, lb: Any, ub: Any, inverse: Any, work: Any, answer: Any, scaled: bool
) -> bool:
    """Runs a search on scores z (n,): each evaluation is one pass, and none but the first without a box. ``scaled``: they are a part of
    the scores, and each stands for several.
    """
    C = whole[C_]
    sums, free, base = np.zeros(C), np.zeros(C), np.zeros(C)
    shift, opened, scale = work[work.shape[0] - C :], real[real.shape[0] - 2 * C :], real[real.shape[0] - C :]
    if not whole[BOXED]:
        kernels.cell_sums(z, cell, base)
    move = EVALUATE
    while move == EVALUATE:
        if not whole[BOXED]:
            for c in range(C):
                sums[c] = base[c] - shift[c] * opened[c]
                free[c] = opened[c]
        elif whole[UNIFORM]:
            kernels.clipped_sums(z, cell, shift, real[LOW], real[HIGH], sums, free)
        else:
            kernels.weighted_sums(z, cell, shift, lb, ub, inverse, sums, free)
        if scaled:
            for c in range(C):
                sums[c] *= scale[c]
                free[c] *= scale[c]
        move = staged(address, ADVANCE, whole, real, work, answer, sums, free)
    return move == SOLVED


@compiled
def project(
    address: int, z: Any, bits: Any, ends: Any, ends_bits: Any, cell: Any, whole: Any, real: Any, lb: Any, ub: Any, inverse: Any,
    part: Any, y: Any, code: Any, answer: Any,
) -> int:  # fmt: skip
    """1: certified scores y (n,) for z (n,). 0: not for this road, and y means nothing.

    bits (n,), ends_bits (2,): z and ends as whole numbers; ends (2,) in the dtype of z; cell (n,) uint16; whole, real: the plan (see
    ``stages``); lb, ub, inverse: (n,) or (1,), or (0,) where the box is one for all and there are no weights; part (k,) int64: positions
    of a sample of the scores, from which prices are guessed; code (n,) as in ``kernels.clipped``, not written without a box and weights;
    answer: see ``stages``; LEFT_AT says how far it came.
    """
    m, C, R = whole[M_], whole[C_], whole[R_]
    work, none = np.zeros(whole[WORK_SIZE]), np.zeros(C)
    sums, free = np.zeros(C), np.zeros(C)
    kernels.extremes(bits, ends_bits)
    answer[LEAST], answer[LARGEST] = ends[0], ends[1]
    work[EPS] = 2.0**-23 if z.itemsize == 4 else 2.0**-52
    answer[LEFT_AT] = OPEN
    if not staged(address, OPEN, whole, real, work, answer, none, none):
        return 0
    if part.shape[0] > 0:
        sample, where = np.empty(part.shape[0], z.dtype), np.empty(part.shape[0], cell.dtype)
        for i in range(part.shape[0]):
            sample[i], where[i] = z[part[i]], cell[part[i]]
        staged(address, GUESS, whole, real, work, answer, none, none)
        if found(address, sample, where, whole, real, lb, ub, inverse, work, answer, True):
            kernels.copy(work[NUMBERS + 3 * m : NUMBERS + 4 * m], work[NUMBERS : NUMBERS + m])
        else:
            staged(address, OPEN, whole, real, work, answer, none, none)
    staged(address, FULL, whole, real, work, answer, none, none)
    answer[LEFT_AT] = FULL
    if not found(address, z, cell, whole, real, lb, ub, inverse, work, answer, False):
        return 0
    shift = work[work.shape[0] - C :]
    answer[MAGNITUDE] = -1.0  # known from the box and the extent
    if inverse.shape[0] > 0 or (whole[BOXED] and real[FARTHEST] > 4.0 * max(abs(answer[LEAST]), abs(answer[LARGEST]))):
        answer[MAGNITUDE] = kernels.largest(z, cell, shift, real[LOW], real[HIGH], lb, ub, inverse)
    answer[LEFT_AT] = SETTLE
    if not staged(address, SETTLE, whole, real, work, answer, none, none):
        return 0
    if not whole[BOXED] and inverse.shape[0] == 0:
        kernels.shifted(z, cell, shift, y, sums)
        kernels.copy(free, real[real.shape[0] - 2 * C : real.shape[0] - C])
    elif whole[UNIFORM]:
        box, inside = np.empty(2), np.empty(2, z.dtype)
        box[0], box[1] = real[LOW], real[HIGH]
        inside[0], inside[1] = real[LOW], real[HIGH]
        if z.itemsize == 4:
            inside[0], inside[1] = real[LOW32], real[HIGH32]
        kernels.clipped(z, cell, shift, box, inside, y, code, sums, free)
    else:
        kernels.weighted(z, cell, shift, lb, ub, inverse, y, code, sums, free)
    a = HEAD + 2 * m + whole[L_] + 2 * R
    kernels.copy(answer[a : a + C], free)
    answer[LEFT_AT] = BESIDE
    if moved_far(work[EPS], answer) and not staged(address, BESIDE, whole, real, work, answer, sums, free):
        return 0
    answer[LEFT_AT] = JUDGE
    return staged(address, JUDGE, whole, real, work, answer, sums, free)


@compiled
def differentiate(
    address: int, v: Any, code: Any, whole: Any, real: Any, inverse: Any, answer: Any, out: Any, forward: bool
) -> int:  # fmt: skip
    """out (n,) = J'v, or J v where ``forward``, on the piece of an answer. 0 where its rows depend on each other.

    J' = D (I - A'K A W^-1 D): the pass in front counts 1 / w, and for J the one behind does.
    """
    C = whole[C_]
    free = whole[BOXED] == 0
    sums, shift, plain, work = np.zeros(C if free else C + 1), np.zeros(C), np.ones(1), np.zeros(1)
    kernels.gradient_sums(v, code, plain if forward else inverse, sums)
    if not staged(address, RESPOND, whole, real, work, answer, sums, shift):
        return 0
    kernels.spread(v, code, shift, inverse if forward else plain, out, free)
    return 1


@compiled
def step(address: int, which: int, whole: Any, real: Any, work: Any, answer: Any, sums: Any, free: Any) -> int:
    """``stages.stage`` for who calls from Python."""
    return staged(address, which, whole, real, work, answer, sums, free)
