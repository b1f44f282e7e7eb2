"""Rows of which many share a mask: a sparse matrix plus one of low rank, never written out.

``|mean of group k - mean of all| <= t`` for thousands of groups makes every row full. Split as ``narrow + left @ wide``, with ``wide`` the
few masks that many rows share, it has a few entries a row. The wide masks share no cell and have weights >= 0, so that a column has one of
them at most: absolute values, positive parts and squares are of the same form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.sparse import SparseRows, product

SHARED = 16  # rows from which a mask that they share is kept apart
MOST = 256  # wide masks


@dataclass(frozen=True, eq=False)
class WideRows(SparseRows):
    """A matrix (rows, C): the fields of ``SparseRows`` hold ``narrow``; left (rows, r) and wide (r, C) the rest."""

    left: SparseRows
    wide: SparseRows

    @property
    def narrow(self) -> SparseRows:
        return SparseRows(self.starts, self.index, self.values, self.columns)

    @cached_property
    def _wide_of(self) -> tuple[IntArray, Array]:
        """(C,) the wide mask of each column (r: none), and its weight there."""
        of, weight = np.full(self.columns, self.wide.shape[0], dtype=np.int64), np.zeros(self.columns)
        of[self.wide.index], weight[self.wide.index] = self.wide.row_of, self.wide.values
        return of, weight

    @cached_property
    def _behind(self) -> tuple[Array, Array]:
        """(entries,) each: left's entry behind each of narrow's, and wide's weight in its column."""
        of, weight = self._wide_of
        width = self.wide.shape[0] + 1
        place = self.row_of * width + of[self.index]
        held = self.left.row_of * width + self.left.index
        if not held.size:
            return np.zeros(place.shape[0]), weight[self.index]
        at = np.minimum(np.searchsorted(held, place), held.shape[0] - 1)
        return np.where(held[at] == place, self.left.values[at], 0.0), weight[self.index]

    def _mapped(self, function: Callable[[Array], Array], power: int = 1) -> WideRows:
        """``function`` of every entry; function(a w) = function(a) w^power for w >= 0, and function(0) = 0."""
        behind, weight = self._behind
        values = function(self.values + behind * weight) - function(behind) * weight**power
        left, wide = self.left.like(function(self.left.values)), self.wide.like(self.wide.values**power)
        return WideRows(self.starts, self.index, values, self.columns, left, wide)

    def __abs__(self) -> WideRows:
        return self._mapped(np.abs)

    def positive(self) -> WideRows:
        """The positive parts of the entries."""
        return self._mapped(lambda a: np.maximum(a, 0.0))

    def negative(self) -> WideRows:
        """The negative parts of the entries, as numbers <= 0."""
        return self._mapped(lambda a: np.minimum(a, 0.0))

    def __pow__(self, power: int) -> WideRows:
        return self._mapped(lambda a: a**power, power)

    def __matmul__(self, x: npt.NDArray[Any]) -> Array:
        if x.ndim != 1:
            return np.asarray(self.toarray() @ x)
        return np.asarray(self.narrow @ x + self.left @ (self.wide @ x))

    def __rmatmul__(self, x: npt.NDArray[Any]) -> Array:
        if x.ndim != 1:
            return np.asarray(x @ self.toarray())
        return np.asarray(x @ self.narrow + (x @ self.left) @ self.wide)

    def __mul__(self, scale: npt.NDArray[Any]) -> WideRows:
        return replace(self, values=self.values * scale[self.index], wide=self.wide * scale)

    def __truediv__(self, scale: npt.NDArray[Any]) -> WideRows:
        return replace(self, values=self.values / scale[self.index], wide=self.wide / scale)

    def like(self, values: npt.NDArray[Any]) -> SparseRows:
        raise TypeError("entries of a matrix with wide rows are not its own alone")

    def toarray(self) -> npt.NDArray[Any]:
        return np.asarray(self.narrow.toarray() + self.left.toarray() @ self.wide.toarray())

    def row(self, k: int) -> tuple[IntArray, npt.NDArray[Any]]:
        full = self.take(np.array([k], dtype=np.int64))
        return full.index, full.values

    def take(self, rows: IntArray) -> SparseRows:
        """The matrix of these rows, written out."""
        return SparseRows.of_dense(self.narrow.take(rows).toarray() + self.left.take(rows).toarray() @ self.wide.toarray())

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, (int, np.integer)):
            return self.take(np.array([range(len(self))[key]], dtype=np.int64)).toarray()[0]
        return super().__getitem__(key)

    @cached_property
    def transposed(self) -> SparseRows:
        return SparseRows.of_dense(self.toarray().T)

    @property
    def most_in_a_column(self) -> int:
        return len(self)  # of a wide mask

    @property
    def all_finite(self) -> bool:
        return bool(np.isfinite(self.values).all() and np.isfinite(self.left.values).all() and np.isfinite(self.wide.values).all())

    def max(self, axis: int, initial: float = 0.0) -> Array:
        assert axis == 1
        return np.asarray(self.toarray().max(1, initial=initial))

    def sum(self, axis: int) -> Array:
        return self @ np.ones(self.columns) if axis == 1 else np.ones(len(self)) @ self

    def reach(self, below: Array, above: Array) -> Array:
        """(rows,) the sum of each row's entries times ``below`` (C,) where they are positive and ``above`` (C,) where they are negative."""
        total = np.zeros(len(self))
        for part, side, sign in ((self.positive(), below, 1.0), (self.negative(), above, -1.0)):
            finite = np.isfinite(side)
            total = total + part @ np.where(finite, side, 0.0)
            for end in (np.inf, -np.inf):
                at = side == end
                if at.any():
                    held = self._mapped(lambda a, sign=sign: (sign * a > 0).astype(np.float64), 0) @ at.astype(np.float64)  # type: ignore[misc]
                    total = np.where(held > 0.5, total + sign * end, total)
        return total

    def parts_sum(self, counts: IntArray) -> Array:
        """(rows,) the sum of the absolute terms that make up row @ x for |x| <= counts: what a row value's rounding is relative to."""
        return np.asarray(abs(self.narrow) @ counts + abs(self.left) @ (self.wide @ counts))


def wide_shares(scales: SparseRows, masks: SparseRows, counts: IntArray) -> SparseRows | None:
    """``(scales / counts) @ masks`` with the masks that many rows share kept apart; None where there are none, or they overlap."""
    uses = np.bincount(scales.index[scales.values != 0], minlength=masks.shape[0])
    chosen = np.flatnonzero(uses > SHARED)
    if not 0 < chosen.size <= MOST:
        return None
    held = masks.take(chosen)
    if int(np.bincount(held.index, minlength=1).max(initial=0)) > 1:
        return None
    place = np.full(masks.shape[0], -1, dtype=np.int64)
    place[chosen] = np.arange(chosen.size)
    apart = place[scales.index] >= 0
    left = SparseRows.of_entries(scales.row_of[apart], place[scales.index[apart]], scales.values[apart], (len(scales), chosen.size))
    rest = SparseRows.of_entries(scales.row_of[~apart], scales.index[~apart], scales.values[~apart], scales.shape)
    narrow = product(rest / counts, masks)
    if not isinstance(narrow, SparseRows):
        narrow = SparseRows.of_dense(narrow)
    wide = SparseRows(held.starts, held.index, np.repeat(1.0 / counts[chosen], np.diff(held.starts)), masks.columns)
    return WideRows(narrow.starts, narrow.index, narrow.values, narrow.columns, left, wide)
