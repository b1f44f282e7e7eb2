"""The rows of a problem: linear functionals of the scores, in cell form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.basics.sparse import Matrix, SparseRows, absolute, most_in_a_column, product
from fairopt.basics.wide_rows import WideRows, wide_shares
from fairopt.contract.workspace import Workspace


def shares_of_cells(scales: Matrix, masks: BoolArray | SparseRows, counts: IntArray) -> Matrix:
    """(rows, C): the weight in each row of one sample of each cell; ``counts`` (M,) samples of the masks."""
    if isinstance(scales, SparseRows) and isinstance(masks, SparseRows):
        apart = wide_shares(scales, masks, counts)
        if apart is not None:
            return apart
    if isinstance(scales, SparseRows) or isinstance(masks, SparseRows):
        left, right = (x if isinstance(x, SparseRows) else SparseRows.of_dense(x) for x in (scales, masks))
        return product(left / counts, right)
    return np.asarray((scales / counts) @ masks.astype(np.float64))


@dataclass(frozen=True, eq=False)
class Rows:
    """The m linear functionals f(y) = A y + offset, in cell form.

    cell          (n,) int64 tensor on the CPU: the cell of each sample, 0 .. C-1; every cell has a sample
    masks         (M, C) bool: which cells belong to each mask (group) that a mean is taken over
    scales        (m, M): row k is sum_j scales[k, j] * mean(y over mask j) (+ its dense part + offset)
    offset        (m,): constants, e.g. minus the mean target of a residual row (float64 rounding of the exact one)
    offset_terms  (row, scale, mask, value): row's offset contains scale * mean(values[value] over mask), for exact arithmetic;
                  constants that are no means are (row, scale, -1, -1)
    values        the (n,) float64 tensors that offset_terms name
    dense         (d, n) float64 tensor or None: extra weights of the rows dense_rows (d,)
    copies        (n,) int64 or None: how many samples each position stands for, of data that lie elsewhere; None: for itself alone

    masks and scales, and with them ``coefficients``, are ``fairopt.basics.sparse.SparseRows`` where there are thousands of groups.

    Examples:
        >>> rows = fo.compile(fo.DemographicParity("sex", tolerance=0), sensitive_features=["f", "m", "m"]).problem.rows
        >>> rows.n, rows.m, rows.matrix()
        (3, 1, tensor([[ 1.0000, -0.5000, -0.5000]], dtype=torch.float64))
    """

    cell: Tensor
    masks: BoolArray | SparseRows
    scales: Matrix
    offset: Array
    offset_terms: tuple[tuple[int, float, int, int], ...] = ()
    values: tuple[Tensor, ...] = ()
    dense: Tensor | None = None
    dense_rows: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    copies: IntArray | None = None

    @property
    def n(self) -> int:
        """Samples."""
        return int(self.cell.shape[0])

    @property
    def m(self) -> int:
        """Rows."""
        return int(self.scales.shape[0])

    @cached_property
    def workspace(self) -> Workspace:
        """What is worked out of these rows and kept with them."""
        return Workspace()

    @cached_property
    def counts(self) -> IntArray:
        """(C,) samples in each cell."""
        if self.copies is None:
            return np.bincount(self.cell.numpy(), minlength=self.masks.shape[1]).astype(np.int64)
        counts = np.zeros(self.masks.shape[1], dtype=np.int64)
        np.add.at(counts, self.cell.numpy(), self.copies)
        return counts

    @cached_property
    def mask_counts(self) -> IntArray:
        """(M,) samples in each mask."""
        if isinstance(self.masks, SparseRows):
            return (self.masks @ self.counts).astype(np.int64)  # exact below 2^53
        return self.masks.astype(np.int64) @ self.counts

    @cached_property
    def coefficients(self) -> Matrix:
        """(m, C): the weight in each row of one sample of each cell (without the dense part)."""
        return shares_of_cells(self.scales, self.masks, self.mask_counts)

    @cached_property
    def one_row_a_cell(self) -> bool:
        """Whether no sample is in two rows: M = A W^-1 D A' is diagonal then, whatever is clamped."""
        return self.dense is None and most_in_a_column(self.coefficients) <= 1

    @cached_property
    def order(self) -> Tensor:
        """(n,) int64: the samples sorted by cell (stable), so that each cell is one slice."""
        return torch.argsort(self.cell, stable=True)

    @cached_property
    def inverse_order(self) -> Tensor:
        """(n,) int64: position of each sample in ``order``."""
        inverse = torch.empty_like(self.order)
        inverse[self.order] = torch.arange(self.n, device="cpu")
        return inverse

    @cached_property
    def starts(self) -> IntArray:
        """(C + 1,): slice bounds of the cells in ``order``."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)

    @cached_property
    def absolute_sum(self) -> Array:
        """(m,): sum_i |A_ki|, how far row k moves if every score moves by 1."""
        if self.dense is None:
            return np.asarray(absolute(self.coefficients) @ self.counts)
        return np.asarray(self.matrix().abs().sum(1).numpy())

    @cached_property
    def term_sum(self) -> Array:
        """(m,): sum of |terms| that make up row k if every score is 1; more than ``absolute_sum`` where a row is summed in two parts."""
        return self.coefficients.parts_sum(self.counts) if isinstance(self.coefficients, WideRows) else self.absolute_sum

    def known(self, *names: str) -> dict[str, Any]:
        """Those of the cached properties ``names`` that have been worked out."""
        return {name: self.__dict__[name] for name in names if name in self.__dict__}

    def know(self, known: Mapping[str, Any]) -> None:
        """Cached properties that are known already, from elsewhere: saves their passes over the samples."""
        self.__dict__.update(known)

    def matrix(self) -> Tensor:
        """(m, n) float64: A written out. Only for small n, solvers without cell structure, and tests."""
        a = torch.from_numpy(np.asarray(self.coefficients))[:, self.cell]
        if self.dense is not None:
            a = a.index_add(0, torch.from_numpy(self.dense_rows), self.dense)
        return a
