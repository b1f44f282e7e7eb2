"""How far scores are from a notion, as a differentiable number a constraint: what penalties and Lagrangians add to the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fairopt.compiler import compile_problem
from fairopt.experiments.methods.base import Goal
from fairopt.experiments.methods.projection import asked

if TYPE_CHECKING:
    from fairopt.contract.problem import ProjectionProblem
    from fairopt.experiments.data.tabular import Part


def excess(scores: Tensor, problem: ProjectionProblem) -> Tensor:
    """(L + R,): max(f - upper, lower - f) of each linear constraint, ratio max f - min f - width of each range; negative inside the limits.

    f = A y + offset, by cells: ``coefficients @ (sum of y over each cell)``.
    """
    rows = problem.rows
    like = scores.detach().new_tensor  # the dtype and device of the scores
    sums = scores.new_zeros(rows.masks.shape[1]).index_add(0, rows.cell, scores)  # (C,)
    f = like(np.asarray(rows.coefficients)) @ sums + like(rows.offset)  # (m,)
    if rows.dense is not None:
        f = f.index_add(0, torch.from_numpy(rows.dense_rows), rows.dense.to(scores.dtype) @ scores)
    linear = f[: problem.linear]
    upper, lower = like(problem.upper), like(problem.lower)
    limits = zip(problem.range_slices, problem.width.tolist(), problem.ratio.tolist(), strict=True)
    ranges = [ratio * f[rows_of].max() - f[rows_of].min() - width for rows_of, width, ratio in limits]
    return torch.cat([torch.maximum(linear - upper, lower - linear), *(r.reshape(1) for r in ranges)])


def excess_of(scores: Tensor, part: Part, goal: Goal) -> Tensor:
    """``excess`` of ``scores`` (n,) on the rows of ``part`` for the goal's notion; its targets are used where the notion has them."""
    notion = goal.notion
    targets = part.y if notion.needs_targets else None
    compiled = compile_problem(notion, n=len(part.y), sensitive_features=asked(part.sensitive, notion), targets=targets)
    return excess(scores, compiled.problem)
