"""Scores that only an infinite price brings to where the rows want them.

The map of a divergence never reaches an end of its range: probabilities of 0 and 1, values of 0. Where hard limits leave a score no other
place (the mean of a group of zeros, which stay, may not be passed by any other group's) the projection exists, but no prices give it: the
dual only tends to its least value. Such scores are found from what the rows can reach at most, and put to their ends first (facial
reduction: Borwein and Wolkowicz 1981); the dual of what is left has a solution of ordinary size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.basics.sparse import dense
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.structure import structure
from fairopt.solve.finish.rounding import to_cell_order

MOST = 1 << 22  # numbers of the matrix that is looked at
SLACK = 4.0 * 2.0**-52  # of a row's own terms: what rounding may hide of its distance to a limit
FAR = 1500.0  # a shift that takes any score to its end


@dataclass(frozen=True, eq=False)
class Ends:
    """Which scores have no other place than 0 and than 1, (n,) in the order of the samples, and prices (m,) that take them there."""

    zero: BoolArray
    one: BoolArray
    prices: Array

    def put(self, scores: Tensor, classes: int = 1) -> Tensor:
        """Scores (n,), or (n, C) class probabilities, which are shared out anew, at their ends: a function that can be differentiated."""
        zero, one = (torch.from_numpy(side).to(scores.device) for side in (self.zero, self.one))
        if classes == 1:
            return torch.where(zero, 0.0, torch.where(one, 1.0, scores))
        left = torch.where(zero.reshape(classes, -1).T, 0.0, scores)
        if left.requires_grad:
            end = torch.finfo(left.dtype).max
            left.register_hook(lambda g: g.clamp(-end, end))  # type: ignore[no-untyped-call]  # a class of 1e-300 that has all the rest follows by 1e300
        # the map is that of odds, the same whatever they sum to, so that the sum is a constant also to its gradient
        whole = left.detach().sum(1, keepdim=True)
        return left / torch.where((left == scores).all(1, keepdim=True), 1.0, whole)


@dataclass(eq=False)
class _Push:
    """What one round found: a direction of prices (m,), and the cells (C,) whose scores it takes to an end."""

    direction: Array
    cells: BoolArray


def ends_of(problem: ProjectionProblem, z: Array) -> Ends | None:
    """The ends that scores z (n,) float64, in the order of the samples, are forced to; None where none is, or where no scores meet the
    rows at all. Rows with weights of their own a sample, and problems beyond MOST, are not looked at.
    """
    rows, hard = problem.rows, structure(problem).hard
    if not hard.any() or rows.dense is not None or problem.m * rows.counts.shape[0] > MOST:
        return None
    top = 1.0 if problem.distance == "kl" or problem.classes > 1 else np.inf
    sort, back = rows.order.numpy(), rows.inverse_order.numpy()
    bounds = (to_cell_order(b, problem).numpy() if isinstance(b, Tensor) else np.full(z.shape, b) for b in (problem.lb, problem.ub))
    low, high = (np.clip(b, 0.0, top) for b in bounds)
    fixed = (z[sort] <= 0.0) | ((z[sort] >= top) & (problem.classes == 1))  # beside a class of 1 there may be one of 1e-300, which moves
    low, high = np.where(fixed, z[sort], low), np.where(fixed, z[sort], high)
    free, reach, pushes = low < high, _Reach(problem, hard), list[_Push]()
    for _ in range(rows.counts.shape[0] + 1):
        if problem.classes > 1 and not _sums_to_one(low, high, sort, back, problem.classes):
            return None
        found = reach.forced(low, high)
        if found is None:
            return None
        down, up, direction = found
        moved = (low < high) & ((down & (low == 0.0)) | (up & (high == top)))
        low, high = np.where(up, high, low), np.where(down, low, high)
        if not (low <= high).all():
            return None
        if not moved.any():
            break
        pushes.append(_Push(direction, np.asarray(np.logical_or.reduceat(moved, rows.starts[:-1]))))
    at = free & (low == high)
    zero, one = at & (low == 0.0), at & (low == top)
    if not pushes or not (zero | one).any():
        return None
    return Ends(zero[back], one[back] & (problem.classes == 1), reach.prices(pushes))


def _sums_to_one(low: Array, high: Array, sort: Array, back: Array, classes: int) -> bool:
    """Tightens bounds (n,), in cell order, of probabilities that sum to 1; False where a sample has no class left."""
    least, most = (b[back].reshape(classes, -1) for b in (low, high))
    most = np.where((least == 1.0).any(0) & (least < 1.0), 0.0, most)
    least = np.where(((most > 0.0).sum(0) == 1) & (most > 0.0), 1.0, least)
    low[:], high[:] = least.reshape(-1)[sort], most.reshape(-1)[sort]
    return bool((most > 0.0).any(0).all())


class _Reach:
    """What hard rows can reach, and which of them their limits hold at the end of it."""

    def __init__(self, problem: ProjectionProblem, hard: BoolArray) -> None:
        self.problem, self.hard = problem, hard
        self.A = np.asarray(dense(problem.rows.coefficients))
        self.counts, self.starts = problem.rows.counts, problem.rows.starts[:-1]
        weights = problem.weights
        self.heaviest = 1.0 if weights is None else np.maximum.reduceat(to_cell_order(weights, problem).numpy(), self.starts)

    def forced(self, low: Array, high: Array) -> tuple[BoolArray, BoolArray, Array] | None:
        """(n,) which scores, in cell order, have to be at their lower and at their upper bounds (n,), by rows that can only just meet
        their limits, with the direction of the prices (m,); None where a row cannot."""
        problem, A, L = self.problem, self.A, self.problem.linear
        up, down = np.maximum(A, 0.0), np.maximum(-A, 0.0)
        lo, wide = np.add.reduceat(low, self.starts), np.logical_or.reduceat(np.isinf(high), self.starts)
        hi = np.add.reduceat(np.where(np.isinf(high), 0.0, high), self.starts)
        offset = problem.rows.offset
        slack = SLACK * (np.abs(A) @ np.maximum(lo, hi) + np.abs(offset))
        least = np.where((down[:, wide] > 0.0).any(1), -np.inf, up @ lo - down @ hi + offset)
        most = np.where((up[:, wide] > 0.0).any(1), np.inf, up @ hi - down @ lo + offset)
        ceiling, floor = np.full(problem.m, np.inf), np.full(problem.m, -np.inf)
        ceiling[:L], floor[:L] = np.where(self.hard[:L], problem.upper, np.inf), np.where(self.hard[:L], problem.lower, -np.inf)
        other = np.arange(problem.m)  # the row of the range that leaves a row no more than this
        for r, run in enumerate(problem.range_slices):
            if self.hard[L + r]:
                lowest, highest = run.start + int(most[run].argmin()), run.start + int(least[run].argmax())
                ratio, width = float(problem.ratio[r]), float(problem.width[r])
                ceiling[run] = (width + most[lowest]) / ratio if ratio > 0.0 else np.inf
                floor[run] = ratio * least[highest] - width
                slack[run] += slack[lowest] + slack[highest]
                other[run] = np.where(ceiling[run] <= least[run] + slack[run], lowest, highest)
        if not ((ceiling >= least - slack) & (floor <= most + slack)).all():
            return None
        falls, rises = ceiling <= least + slack, floor >= most - slack
        lowered = ((A[falls] > 0.0).any(0)) | ((A[rises] < 0.0).any(0))
        raised = ((A[falls] < 0.0).any(0)) | ((A[rises] > 0.0).any(0))
        return np.repeat(lowered, self.counts), np.repeat(raised, self.counts), self._direction(falls, rises, other)

    def _direction(self, falls: BoolArray, rises: BoolArray, other: IntArray) -> Array:
        """(m,) prices of the domain that push some rows down and others up."""
        problem, p = self.problem, np.zeros(self.problem.m)
        L = problem.linear
        p[:L] = falls[:L].astype(np.float64) - rises[:L]
        for r, run in enumerate(problem.range_slices):
            ratio = float(problem.ratio[r])
            for k in range(run.start, run.stop):
                if falls[k]:  # ratio f_k - f_other <= width
                    p[k] += ratio
                    p[other[k]] -= 1.0
                elif rises[k]:  # ratio f_other - f_k <= width
                    p[other[k]] += ratio
                    p[k] -= 1.0
        return p

    def prices(self, pushes: list[_Push]) -> Array:
        """(m,) the sum of the directions, the earlier ones so long that the later ones, which push at what is at its end by then, do not
        matter."""
        p = np.zeros(self.problem.m)
        for push in reversed(pushes):
            shift = np.abs(push.direction @ self.A) / self.heaviest
            cells = push.cells & (shift > 0.0)
            needed = FAR + np.abs(p @ self.A) / self.heaviest * np.ones_like(shift)
            with np.errstate(all="ignore"):
                length = float((needed[cells] / shift[cells]).max(initial=0.0))
            p = p + length * push.direction if np.isfinite(length) else p
        return p
