"""Equal group means exactly, in floating point: claim L12 at tolerance 0.

Rounding leaves means a few ulps apart, and no tighter limit can help where both limits are the same. On the grid h = one ulp at the
largest magnitude, sums of fewer than 2^53 / n samples are integers, and any group can be given the sum k n_g h by moving samples by a
step or two: then all means are exactly k h. For disjoint groups (one attribute), and for the groups of two attributes.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fairopt.arrays import Array, IntArray
from fairopt.problem import ProjectionProblem
from fairopt.solve.two_way import cell_changes


def to_grid(problem: ProjectionProblem, sorted_y: Tensor, magnitude: float) -> Tensor | None:
    """(n,) scores in cell order whose tied groups have the same exact mean, or None where the structure does not allow it."""
    ties = _tied_groups(problem)
    if ties is None or magnitude <= 0 or sorted_y.device.type != "cpu":
        return None
    h = 2.0 ** (math.floor(math.log2(magnitude)) + 1) * torch.finfo(sorted_y.dtype).eps / 2
    y = np.rint(sorted_y.to(torch.float64).numpy() / h).astype(np.int64)  # (n,) grid steps
    low, high = _box_steps(problem, h)
    y = np.minimum(np.maximum(y, low), high)
    if float(np.abs(y).sum(dtype=np.float64)) >= 2.0**61:  # int64 sums would wrap: float64 from about n = 300 on
        return None
    goals = _cell_goals(ties, np.add.reduceat(y, problem.rows.starts[:-1]), problem.rows.counts)
    if goals is None:
        return None
    starts = problem.rows.starts
    for c, goal in goals.items():
        if not _set_sum(y, np.arange(starts[c], starts[c + 1]), goal, low, high):
            return None
    return torch.from_numpy(y * h).to(sorted_y.dtype)


def _cell_goals(ties: list[list[IntArray]], sums: IntArray, counts: IntArray) -> dict[int, int] | None:
    """The sum in grid steps that each cell gets, so that the groups of each tie have one whole mean; None where there is no way."""
    means = [round(int(sum(sums[g].sum() for g in tie)) / int(sum(counts[g].sum() for g in tie))) for tie in ties]
    groups = [{int(c): k for k, g in enumerate(tie) for c in g} for tie in ties]  # cell -> group
    if len(ties) == 2 and groups[0].keys() & groups[1].keys():
        if groups[0].keys() == groups[1].keys():
            means[1] = means[0]  # one population has one mean
        missing = [[mean * int(counts[g].sum()) - int(sums[g].sum()) for g in tie] for tie, mean in zip(ties, means, strict=True)]
        cells = {c: (groups[0].get(c, -1), groups[1].get(c, -1)) for c in sorted(groups[0].keys() | groups[1].keys())}
        changes = cell_changes(cells, *missing)
        return None if changes is None else {c: int(sums[c]) + d for c, d in changes.items()}
    goals: dict[int, int] = {}
    for tie, mean in zip(ties, means, strict=True):
        for g in tie:
            if goals.keys() & set(g.tolist()):
                return None
            largest = int(g[np.argmax(counts[g])])  # its members share what the group has left over
            goals |= {int(c): int(sums[c]) for c in g}
            goals[largest] += mean * int(counts[g].sum()) - int(sums[g].sum())
    return goals


def _tied_groups(problem: ProjectionProblem) -> list[list[IntArray]] | None:
    """For each hard constraint of width 0: the cells of each of its groups. None unless its groups are plain means and share no cell."""
    rows = problem.rows
    ties: list[list[IntArray]] = []
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
            if problem.width[c - problem.linear] != 0 or problem.ratio[c - problem.linear] != 1:
                continue
            part = slices[c - problem.linear]
            if ((rows.dense_rows >= part.start) & (rows.dense_rows < part.stop)).any():
                return None  # sums with weights of their own lie on no common grid
            block = rows.scales[part]
            if not (np.sort(block, axis=1)[:, -1] == 1.0).all() or (block != 0).sum() != block.shape[0] or rows.offset[part].any():
                return None
            masks = np.argmax(block, axis=1).tolist()
        cells = [np.flatnonzero(rows.masks[j]) for j in masks]
        if sum(len(g) for g in cells) != len({int(c) for g in cells for c in g}):
            return None
        ties.append(cells)
    return ties or None


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
