"""The compiled projection by a Kullback-Leibler divergence, and its gradient: the stages of ``project``, the passes of ``kl_kernels``."""

from __future__ import annotations

from typing import Any

import numpy as np

from fairopt.solve.passes import kernels
from fairopt.solve.passes.jit import compiled, inner
from fairopt.solve.passes.kl_kernels import TOP, kl_gradient_sums, kl_largest, kl_scores, kl_spread, kl_sums
from fairopt.solve.passes.search import EPS, EVALUATE, NUMBERS, SOLVED
from fairopt.solve.passes.stages import (
    ADVANCE,
    BESIDE,
    C_,
    END,
    ENDED,
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
    LIGHT,
    LOW,
    LOW32,
    M_,
    MAGNITUDE,
    OPEN,
    R_,
    RESPOND,
    SETTLE,
    WORK_SIZE,
    farthest,
    moved_far,
    staged,
)


@inner
def kl_found(address: int, k: float, z: Any, cell: Any, whole: Any, real: Any, inverse: Any, work: Any, answer: Any, scaled: bool) -> bool:
    """Runs a search on scores z (n,), one pass an evaluation. ``scaled``: they are a part of the scores, and each stands for several."""
    C = whole[C_]
    sums, slopes = np.zeros(C), np.zeros(C)
    shift, scale = work[work.shape[0] - C :], real[real.shape[0] - C :]
    move = EVALUATE
    while move == EVALUATE:
        kl_sums(k, z, cell, shift, real[LOW], real[HIGH], inverse, sums, slopes)
        for c in range(C):
            if scaled:
                sums[c] *= scale[c]
                slopes[c] *= scale[c]
            if not (sums[c] < np.inf and slopes[c] < np.inf):  # also where they are no numbers: the stages compare what they get
                return False
        move = staged(address, ADVANCE, whole, real, work, answer, sums, slopes)
    return move == SOLVED


@compiled
def kl_project(
    address: int, k: float, z: Any, bits: Any, ends: Any, ends_bits: Any, cell: Any, whole: Any, real: Any, inverse: Any, part: Any,
    y: Any, answer: Any, final: Any,
) -> int:  # fmt: skip
    """1: certified scores y (n,) for z (n,), with the shifts (C,) that they were made from in ``final``; ENDED where one may be at an
    end. 0: not for this road.

    The arguments are those of ``project.project``; the box is one for all.
    """
    m, C, R = whole[M_], whole[C_], whole[R_]
    work, none = np.zeros(whole[WORK_SIZE]), np.zeros(C)
    sums, slopes = np.zeros(C), np.zeros(C)
    kernels.extremes(bits, ends_bits)
    answer[LEAST], answer[LARGEST] = ends[0], ends[1]
    work[EPS] = 2.0**-23 if z.itemsize == 4 else 2.0**-52
    answer[LEFT_AT] = OPEN
    inside = answer[LEAST] >= 0.0 and (k == 0.0 or answer[LARGEST] <= 1.0)  # also False for NaN
    if real[LOW] > 0.0:  # what never moves has to lie in its box
        inside = inside and answer[LEAST] > 0.0
    if real[HIGH] < 1.0 and k == 1.0:
        inside = inside and answer[LARGEST] < 1.0
    if not inside or not staged(address, OPEN, whole, real, work, answer, none, none):
        return 0
    if part.shape[0] > 0:
        sample, where = np.empty(part.shape[0], z.dtype), np.empty(part.shape[0], cell.dtype)
        for i in range(part.shape[0]):
            sample[i], where[i] = z[part[i]], cell[part[i]]
        staged(address, GUESS, whole, real, work, answer, none, none)
        if kl_found(address, k, sample, where, whole, real, inverse, work, answer, True):
            kernels.copy(work[NUMBERS + 3 * m : NUMBERS + 4 * m], work[NUMBERS : NUMBERS + m])
        else:
            staged(address, OPEN, whole, real, work, answer, none, none)
    staged(address, FULL, whole, real, work, answer, none, none)
    answer[LEFT_AT] = FULL
    if not kl_found(address, k, z, cell, whole, real, inverse, work, answer, False):
        return 0
    shift = work[work.shape[0] - C :]
    answer[MAGNITUDE] = -1.0
    if not real[FARTHEST] <= 4.0 * answer[LARGEST]:
        answer[MAGNITUDE] = kl_largest(k, z, cell, shift, real[LOW], real[HIGH], inverse)
    answer[LEFT_AT] = SETTLE
    if not staged(address, SETTLE, whole, real, work, answer, none, none):
        return 0
    if not farthest(shift) * real[LIGHT] < TOP:
        return 0
    kernels.copy(final, shift)
    box, inside_box = np.empty(2), np.empty(2, z.dtype)
    box[0], box[1] = real[LOW], real[HIGH]
    inside_box[0], inside_box[1] = real[LOW], real[HIGH]
    if z.itemsize == 4:
        inside_box[0], inside_box[1] = real[LOW32], real[HIGH32]
    kl_scores(k, z, cell, shift, box, inside_box, inverse, y, sums, slopes)
    a = HEAD + 2 * m + whole[L_] + 2 * R
    kernels.copy(answer[a : a + C], slopes)
    answer[LEFT_AT] = BESIDE
    if moved_far(work[EPS], answer) and not staged(address, BESIDE, whole, real, work, answer, sums, slopes):
        return 0
    answer[LEFT_AT] = JUDGE
    done = staged(address, JUDGE, whole, real, work, answer, sums, slopes)
    return ENDED if done and farthest(shift) * real[LIGHT] >= END else done


@compiled
def kl_differentiate(
    address: int, k: float, v: Any, z: Any, cell: Any, whole: Any, real: Any, inverse: Any, answer: Any, final: Any, out: Any,
    forward: bool,
) -> int:  # fmt: skip
    """out (n,) = J'v, or J v where ``forward``, at the prices of an answer. 0 where the rows of its piece depend on each other.

    J = D - S A'K A D, with D = dy / dz and S = -dy / d(A'p) at fixed prices.
    """
    C = whole[C_]
    sums, back, work = np.zeros(C), np.zeros(C), np.zeros(1)
    kl_gradient_sums(k, v, z, cell, final, real[LOW], real[HIGH], inverse, forward, sums)
    if not staged(address, RESPOND, whole, real, work, answer, sums, back):
        return 0
    end = 3.4028234663852886e38 if v.itemsize == 4 else 1.7976931348623157e308
    kl_spread(k, v, z, cell, final, back, real[LOW], real[HIGH], inverse, forward, end, out)
    return 1
