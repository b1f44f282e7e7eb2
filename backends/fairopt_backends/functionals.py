"""The rows of a problem in the space where it is solved: cells where that is exact, samples otherwise.

u = sqrt(weight) * score in sample space, and u_c = sqrt(sum of the cell's weights) * (mean score of the cell) in cell space.
Cell space is exact without a box, without dense rows and with weights that are constant in each cell: then
y = z - A^T p / w moves all samples of a cell alike, and the distance is that of the cell means. Under a divergence u are the scores: its
weights stand in the objective.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.contract.problem import ProjectionProblem


@dataclass(frozen=True, eq=False)
class Functionals:
    """The rows f_k as sparse vectors over u, and the two maps between scores and u.

    root  (U,) float64: sqrt of each entry's weight;  lb, ub (U,): the box of u
    """

    problem: ProjectionProblem
    cells: bool
    root: Array
    lb: Array
    ub: Array

    @property
    def size(self) -> int:
        return int(self.root.shape[0])

    @cached_property
    def _dense_rows(self) -> dict[int, int]:
        return {int(row): i for i, row in enumerate(self.problem.rows.dense_rows)}

    def one(self, k: int) -> tuple[IntArray, Array]:
        """Row k: columns and values over u."""
        rows = self.problem.rows
        cells = np.flatnonzero(rows.coefficients[k])
        if self.cells:
            return cells, rows.coefficients[k, cells] * rows.counts[cells] / self.root[cells]
        if k in self._dense_rows and rows.dense is not None:
            value = rows.coefficients[k][rows.cell.numpy()] + rows.dense[self._dense_rows[k]].numpy()
            col = np.flatnonzero(value)
            return col, value[col] / self.root[col]
        order = rows.order.numpy()
        pieces = [order[rows.starts[c] : rows.starts[c + 1]] for c in cells]
        col = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)
        return col, np.repeat(rows.coefficients[k, cells], rows.counts[cells]) / self.root[col]

    def combine(self, parts: list[tuple[int, float]]) -> tuple[IntArray, Array]:
        """sum of factor * f_k: columns without repeats, and values."""
        if len(parts) == 1:
            col, val = self.one(parts[0][0])
            return col, val * parts[0][1]
        pieces = [(self.one(k), factor) for k, factor in parts]
        total = np.zeros(self.size)
        for (col, val), factor in pieces:
            total[col] += factor * val
        col = np.flatnonzero(total)
        return col, total[col]

    def means(self, scores: Tensor) -> Tensor:
        """(n,) -> (C,) cell means, differentiable."""
        rows = self.problem.rows
        sums = torch.zeros(rows.counts.shape[0], dtype=torch.float64, device="cpu").index_add(0, rows.cell, scores)
        return sums / torch.from_numpy(rows.counts)

    def centre(self, scores: Tensor) -> Tensor:
        """Scores (n,) float64 -> the point u (U,) to project, differentiable."""
        root = torch.from_numpy(self.root)
        return (self.means(scores) if self.cells else scores) * root

    def scores(self, u: Tensor, scores: Tensor) -> Tensor:
        """The projected u (U,) -> the projected scores (n,), differentiable in both."""
        root = torch.from_numpy(self.root)
        if not self.cells:
            return u / root
        shift = u / root - self.means(scores)
        return scores + shift.index_select(0, self.problem.rows.cell)


def cell_weights(problem: ProjectionProblem) -> Array | None:
    """(C,) the weight of one sample of each cell where it is constant there, else None."""
    rows = problem.rows
    if problem.weights is None:
        return np.ones(rows.counts.shape[0])
    sorted_weights = problem.weights[rows.order].numpy()
    first = sorted_weights[rows.starts[:-1]]
    return first if np.array_equal(np.repeat(first, rows.counts), sorted_weights) else None


def functionals(problem: ProjectionProblem) -> Functionals:
    """In cell space where that is exact."""
    n = problem.n
    weight = cell_weights(problem)
    if not problem.has_box and problem.rows.dense is None and weight is not None and problem.distance == "squared":
        root = np.sqrt(weight * problem.rows.counts)
        return Functionals(problem, True, root, np.full(root.shape, -np.inf), np.full(root.shape, np.inf))
    root = np.ones(n) if problem.weights is None or problem.distance != "squared" else problem.weights.sqrt().numpy()
    lb, ub = (b.numpy() if isinstance(b, Tensor) else np.full(n, float(b)) for b in (problem.lb, problem.ub))
    if problem.classes > 1:
        ub = np.where(ub < 1.0, ub, np.inf)  # which the sum says
    return Functionals(problem, False, root, lb * root, ub * root)
