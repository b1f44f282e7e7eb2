"""The evaluator of the dual that suits a problem and its scores: whole vectors (``evaluator``) or slices of a tensor (``chunked``)."""

from __future__ import annotations

import torch
from torch import Tensor

from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.chunked import SlicedDual
from fairopt.solve.dual.evaluator import Dual, VectorDual

SMALL = 4096  # below it numpy on whole vectors beats sliced torch
MANY, CELL = 64, 2000


def make_dual(scores: Tensor, problem: ProjectionProblem) -> Dual:
    """An evaluator of ``scores`` (n,), detached, in the order of the samples.

    Small or dense problems, and those of many small cells, are moved to float64 numpy.
    """
    if problem.n <= SMALL or problem.rows.dense is not None or _many_small_cells(problem):
        z = scores if scores.dtype == torch.float64 else scores.to(torch.float64)
        z = z if z.device.type == "cpu" else z.cpu()
        return VectorDual(problem, z.numpy()[problem.rows.order.numpy()])
    inverse = problem.rows.inverse_order
    # reading in order and writing a stream a cell is twice as fast as reading many streams
    z = torch.empty_like(scores).scatter_(0, inverse if scores.device.type == "cpu" else inverse.to(scores.device), scores)
    return SlicedDual(problem, z)


def _many_small_cells(problem: ProjectionProblem) -> bool:
    """Whether a Python loop over the cells costs more than one pass over whole vectors: 5 calls a cell against 8 ns a score."""
    cells = int(problem.rows.masks.shape[1])
    return cells > MANY and problem.n < CELL * cells
