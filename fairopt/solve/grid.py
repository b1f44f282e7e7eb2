"""Equal group means exactly, in floating point: claim L12 at tolerance 0.

Rounding leaves means a few ulps apart, and no tighter limit can help where both limits are the same. On the grid h = one ulp at the
largest magnitude, sums of fewer than 2^53 / n samples are integers, and any group can be given the sum k n_g h by moving samples by a
step or two: then all means are exactly k h. For disjoint groups (one attribute).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fairopt.arrays import Array, IntArray
from fairopt.problem import ProjectionProblem


def to_grid(problem: ProjectionProblem, sorted_y: Tensor, magnitude: float) -> Tensor | None:
    """(n,) scores in cell order whose tied groups have the same exact mean, or None where the structure does not allow it."""
    ties = _tied_groups(problem)
    if ties is None or magnitude <= 0 or sorted_y.device.type != "cpu":
        return None
    h = 2.0 ** (math.floor(math.log2(magnitude)) + 1) * torch.finfo(sorted_y.dtype).eps / 2
    y = np.rint(sorted_y.to(torch.float64).numpy() / h).astype(np.int64)  # (n,) grid steps
    starts = problem.rows.starts
    low, high = _box_steps(problem, h)
    y = np.minimum(np.maximum(y, low), high)
    for tie in ties:
        members = [np.concatenate([np.arange(starts[c], starts[c + 1]) for c in cells]) for cells in tie]
        total, count = sum(int(y[m].sum()) for m in members), sum(m.size for m in members)
        k = round(total / count)
        for m in members:
            if not _set_sum(y, m, k * m.size, low, high):
                return None
    return torch.from_numpy(y * h).to(sorted_y.dtype)


def _tied_groups(problem: ProjectionProblem) -> list[list[IntArray]] | None:
    """For each hard constraint of width 0: the cells of each of its groups. None unless groups are plain means and share no cell."""
    rows = problem.rows
    ties: list[list[IntArray]] = []
    used = np.zeros(rows.masks.shape[1], dtype=np.int64)
    slices = problem.range_slices
    for c in range(problem.linear + problem.ranges):
        if problem.softness[c].kind != "hard":
            continue
        if c < problem.linear:
            if problem.lower[c] != 0 or problem.upper[c] != 0:
                continue
            scales = rows.scales[c]
            if sorted(scales[scales != 0].tolist()) != [-1.0, 1.0] or rows.offset[c] != 0 or c in rows.dense_rows:
                return None
            masks = np.flatnonzero(scales).tolist()
        else:
            if problem.width[c - problem.linear] != 0:
                continue
            part = slices[c - problem.linear]
            block = rows.scales[part]
            if not (np.sort(block, axis=1)[:, -1] == 1.0).all() or (block != 0).sum() != block.shape[0] or rows.offset[part].any():
                return None
            masks = np.argmax(block, axis=1).tolist()
        cells = [np.flatnonzero(rows.masks[j]) for j in masks]
        for group in cells:
            used[group] += 1
        ties.append(cells)
    return ties if ties and used.max(initial=0) <= 1 else None


def _box_steps(problem: ProjectionProblem, h: float) -> tuple[Array, Array]:
    """(n,) or scalar bounds in grid steps, rounded inward."""
    order = problem.rows.order
    lb = problem.lb[order].numpy() if isinstance(problem.lb, Tensor) else np.array(problem.lb)
    ub = problem.ub[order].numpy() if isinstance(problem.ub, Tensor) else np.array(problem.ub)
    limit = 2.0**62
    return np.ceil(np.maximum(lb / h, -limit)).astype(np.int64), np.floor(np.minimum(ub / h, limit)).astype(np.int64)


def _set_sum(y: IntArray, members: IntArray, goal: int, low: Array, high: Array) -> bool:
    """Move some of ``y[members]`` by whole steps, as evenly as the box allows, until they sum to ``goal``."""
    while (missing := goal - int(y[members].sum())) != 0:
        step = 1 if missing > 0 else -1
        bound = high if step > 0 else low
        edge = bound[members] if bound.ndim else bound
        room = members[(edge - y[members]) * step > 0]
        if room.size == 0:
            return False
        y[room[: abs(missing)]] += step
    return True
