"""The compiled projection of class probabilities, and its gradient: the stages of ``project``, the passes of ``simplex_kernels``.

An evaluation gives the sums of each cell and, as slopes, the blocks of the joint cells (see ``rows.Cells``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fairopt.solve.passes import kernels
from fairopt.solve.passes.jit import compiled, inner
from fairopt.solve.passes.search import EPS, EVALUATE, SOLVED
from fairopt.solve.passes.simplex_kernels import TOP, simplex_back, simplex_pull, simplex_scores, simplex_sums
from fairopt.solve.passes.stages import (
    ADVANCE,
    BESIDE,
    C_,
    END,
    ENDED,
    FULL,
    HEAD,
    JUDGE,
    L_,
    LARGEST,
    LEAST,
    LEFT_AT,
    LIGHT,
    M_,
    MAGNITUDE,
    OPEN,
    R_,
    RESPOND,
    SETTLE,
    SLOPES,
    WORK_SIZE,
    farthest,
    moved_far,
    staged,
)

OFF = 0.01  # what the entries of a row of scores may sum to beside 1
ROUNDED = 4.0  # a largest entry takes the rounding of its whole row: in ulps of its dtype, with what the maps err by


@inner
def spread(joint: Any, cells: Any, out: Any) -> None:
    """out (J, C): the numbers (K,) of the cells of each joint cell."""
    for j in range(joint.shape[0]):
        for c in range(joint.shape[1]):
            out[j, c] = cells[joint[j, c]]


@inner
def gathered(joint: Any, values: Any, cells: Any) -> None:
    """cells (K,): the sums of values (J, C) over the joint cells."""
    kernels.fill(cells, 0.0)
    for j in range(joint.shape[0]):
        for c in range(joint.shape[1]):
            cells[joint[j, c]] += values[j, c]


@inner
def extremes(z: Any, answer: Any) -> bool:
    """LEAST and LARGEST of z (n, C). False where they are no probabilities that sum to about 1."""
    least, largest = np.inf, -np.inf
    for i in range(z.shape[0]):
        total = 0.0
        for c in range(z.shape[1]):
            least, largest = min(least, z[i, c]), max(largest, z[i, c])
            total += z[i, c]
        if not abs(total - 1.0) <= OFF:  # also NaN
            return False
    answer[LEAST], answer[LARGEST] = least, largest
    return least >= 0.0 and largest <= 1.0


@inner
def found(
    address: int, kl: bool, z: Any, order: Any, bounds: Any, joint: Any, whole: Any, real: Any, inverse: Any, work: Any, answer: Any
) -> bool:  # fmt: skip
    """Runs the search on probabilities z (n, C), one pass an evaluation."""
    K, (J, C) = whole[C_], joint.shape
    sums, shifts, totals = np.zeros(K), np.zeros((J, C)), np.zeros((J, C))
    slopes = np.zeros(J * C * C)
    blocks = slopes.reshape((J, C, C))
    move = EVALUATE
    while move == EVALUATE:
        spread(joint, work[work.shape[0] - K :], shifts)
        kernels.fill(slopes, 0.0)
        for j in range(J):
            kernels.fill(totals[j], 0.0)
        simplex_sums(kl, z, order, bounds, shifts, inverse, totals, blocks)
        gathered(joint, totals, sums)
        for k in range(K):
            if not sums[k] < np.inf:  # also where it is no number: the stages compare what they get
                return False
        for k in range(slopes.shape[0]):
            if not abs(slopes[k]) < np.inf:
                return False
        move = staged(address, ADVANCE, whole, real, work, answer, sums, slopes)
    return move == SOLVED


@compiled
def simplex_project(
    address: int, kl: bool, z: Any, order: Any, bounds: Any, joint: Any, whole: Any, real: Any, inverse: Any, y: Any,
    answer: Any, final: Any,
) -> int:  # fmt: skip
    """1: certified probabilities y (n, C) for z (n, C) float64; ENDED where one may be at an end. 0: not for this road, and y means
    nothing.

    order (n,) the samples by joint cell, bounds (J + 1,) where each begins there, joint (J, C) the cells of each; inverse: 1 / w (n,), or
    (0,) without weights; whole, real: the plan (see ``stages``); final (K + 1,): the shifts of the cells that y was made from, then how far
    a sum of y is from 1 at most.
    """
    m, K, R, (J, C) = whole[M_], whole[C_], whole[R_], joint.shape
    work, none = np.zeros(whole[WORK_SIZE]), np.zeros(K)
    eps = 2.0**-23 if y.itemsize == 4 else 2.0**-52
    work[EPS] = ROUNDED * eps
    answer[LEFT_AT] = OPEN
    if not extremes(z, answer) or not staged(address, OPEN, whole, real, work, answer, none, none):
        return 0
    staged(address, FULL, whole, real, work, answer, none, none)
    answer[LEFT_AT] = FULL
    if not found(address, kl, z, order, bounds, joint, whole, real, inverse, work, answer):
        return 0
    answer[MAGNITUDE] = -1.0  # no probability is larger than the box
    answer[LEFT_AT] = SETTLE
    if not staged(address, SETTLE, whole, real, work, answer, none, none):
        return 0
    shift = work[work.shape[0] - K :]
    if not farthest(shift) * real[LIGHT] < TOP:
        return 0
    kernels.copy(final[:K], shift)
    shifts, totals, sums = np.zeros((J, C)), np.zeros((J, C)), np.zeros(K)
    spread(joint, shift, shifts)
    final[K] = simplex_scores(kl, z, order, bounds, shifts, inverse, y, totals)
    if not final[K] <= C * eps:
        return 0
    gathered(joint, totals, sums)
    F = whole[SLOPES]  # a gradient has blocks of its own (``simplex_differentiate``); those of the prices found are there beside them
    a = HEAD + 2 * m + whole[L_] + 2 * R
    kernels.copy(answer[a : a + F], answer[a + F : a + 2 * F])
    answer[LEFT_AT] = BESIDE
    if moved_far(work[EPS], answer) and not staged(address, BESIDE, whole, real, work, answer, sums, none):
        return 0
    answer[LEFT_AT] = JUDGE
    done = staged(address, JUDGE, whole, real, work, answer, sums, none)
    return ENDED if done and farthest(shift) * real[LIGHT] >= END else done


@compiled
def simplex_differentiate(
    address: int, kl: bool, v: Any, z: Any, order: Any, bounds: Any, joint: Any, whole: Any, real: Any, inverse: Any, answer: Any,
    final: Any, out: Any,
) -> int:  # fmt: skip
    """out (n, C) = J'v at the prices of an answer, float64 as v and z. 0 where the rows of its piece depend on each other.

    J' = D'(I - A'K A S), with D = dy / dz and S = -dy / d(A'p) at fixed prices: all of them at the shifts that y was made from, because a
    repair may take a class off the simplex's edge, and rows that depend on each other contradict each other between two such pieces.
    """
    K, F, (J, C) = whole[C_], whole[SLOPES], joint.shape
    shifts, totals, pull = np.zeros((J, C)), np.zeros((J, C)), np.zeros((J, C))
    sums, back, work, here = np.zeros(K), np.zeros(K), np.zeros(1), answer.copy()
    spread(joint, final, shifts)
    a = HEAD + 2 * whole[M_] + whole[L_] + 2 * whole[R_]
    kernels.fill(here[a : a + F], 0.0)
    simplex_sums(kl, z, order, bounds, shifts, inverse, totals, here[a : a + F].reshape((J, C, C)))
    kernels.fill(totals.reshape(J * C), 0.0)
    simplex_pull(kl, z, order, bounds, shifts, inverse, v, totals)
    gathered(joint, totals, sums)
    if not staged(address, RESPOND, whole, real, work, here, sums, back):
        return 0
    spread(joint, back, pull)
    simplex_back(kl, z, order, bounds, shifts, inverse, v, pull, out)
    return 1
