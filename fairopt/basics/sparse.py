"""Matrices with few entries, on numpy alone: what the rows, masks and models of thousands of groups are kept in.

``SparseRows`` is a matrix in row form. It knows the operations that the solvers use on a dense one, under the same names, so that code
reads the same for both; anything else goes through ``toarray()``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fairopt.basics.arrays import Array, IntArray

LARGE = 1 << 18  # entries from which a matrix is worth keeping sparse


@dataclass(frozen=True, eq=False)
class SparseRows:
    """A matrix (rows, columns): row k has ``values[starts[k] : starts[k + 1]]`` in the columns ``index[...]``, rising, no repeats."""

    __array_ufunc__ = None  # numpy leaves ``array @ sparse`` to the method here

    starts: IntArray  # (rows + 1,)
    index: IntArray  # (entries,)
    values: npt.NDArray[Any]  # (entries,) float64 or bool
    columns: int

    @classmethod
    def of_lists(cls, index: Sequence[IntArray], values: Sequence[Array] | None, columns: int) -> SparseRows:
        """One array of columns a row (and one of values, else all True)."""
        starts = np.concatenate([[0], np.cumsum([len(part) for part in index])]).astype(np.int64)
        flat = np.concatenate([np.zeros(0, dtype=np.int64), *index]).astype(np.int64)
        held = np.ones(flat.shape[0], dtype=np.bool_) if values is None else np.concatenate([np.zeros(0), *values])
        return cls(starts, flat, held, columns)

    @classmethod
    def of_entries(cls, row: IntArray, column: IntArray, values: npt.NDArray[Any], shape: tuple[int, int]) -> SparseRows:
        """From entries in any order; those of the same place add up."""
        place = row * shape[1] + column
        order = np.argsort(place, kind="stable")
        place, values = place[order], values[order]
        first = np.flatnonzero(np.diff(place, prepend=-1))
        if first.shape[0] < place.shape[0]:
            values, place = np.add.reduceat(values, first), place[first]
        starts = np.searchsorted(place, np.arange(shape[0] + 1) * shape[1]).astype(np.int64)
        return cls(starts, place % shape[1], values, shape[1])

    @classmethod
    def of_dense(cls, matrix: npt.NDArray[Any]) -> SparseRows:
        row, column = np.nonzero(matrix)
        return cls.of_entries(row, column, matrix[row, column], (matrix.shape[0], matrix.shape[1]))

    @property
    def shape(self) -> tuple[int, int]:
        return self.starts.shape[0] - 1, self.columns

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    @cached_property
    def row_of(self) -> IntArray:
        """(entries,) the row of each entry."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.starts))

    def row(self, k: int) -> tuple[IntArray, npt.NDArray[Any]]:
        """Columns and values of row k."""
        part = slice(int(self.starts[k]), int(self.starts[k + 1]))
        return self.index[part], self.values[part]

    def toarray(self) -> npt.NDArray[Any]:
        out = np.zeros(self.shape, dtype=self.values.dtype)
        out[self.row_of, self.index] = self.values
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self.toarray() if dtype is None else self.toarray().astype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        """As of the dense matrix; some rows without writing out the others."""
        if isinstance(key, tuple) and len(key) == 2 and isinstance(key[0], (int, np.integer)):
            return self[key[0]][key[1]]
        if isinstance(key, list) or (isinstance(key, np.ndarray) and key.dtype != np.bool_):
            return self.take(np.asarray(key, dtype=np.int64)).toarray()
        if isinstance(key, slice):
            return self.take(np.arange(len(self))[key]).toarray()
        if not isinstance(key, (int, np.integer)):
            return self.toarray()[key]
        if not -len(self) <= key < len(self):
            raise IndexError(f"row {key} of {len(self)}")
        out = np.zeros(self.columns, dtype=self.values.dtype)
        index, values = self.row(int(key) % len(self))
        out[index] = values
        return out

    def take(self, rows: IntArray) -> SparseRows:
        """The matrix of these rows."""
        size = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
        place = np.repeat(self.starts[:-1][rows] - starts[:-1], size) + np.arange(starts[-1])
        return SparseRows(starts, self.index[place], self.values[place], self.columns)

    @cached_property
    def transposed(self) -> SparseRows:
        """The matrix of the columns."""
        return SparseRows.of_entries(self.index, self.row_of, self.values, (self.columns, self.shape[0]))

    def like(self, values: npt.NDArray[Any]) -> SparseRows:
        """Other values in the same places."""
        return SparseRows(self.starts, self.index, values, self.columns)

    def __matmul__(self, x: npt.NDArray[Any]) -> Array:
        if x.ndim != 1:
            return np.asarray(self.toarray() @ x)
        return np.asarray(np.bincount(self.row_of, weights=self.values * x[self.index], minlength=self.shape[0]), dtype=np.float64)

    def __rmatmul__(self, x: npt.NDArray[Any]) -> Array:
        if x.ndim != 1:
            return np.asarray(x @ self.toarray())
        return np.asarray(np.bincount(self.index, weights=self.values * x[self.row_of], minlength=self.columns), dtype=np.float64)

    def __mul__(self, scale: npt.NDArray[Any]) -> SparseRows:
        """Each column times its ``scale`` (columns,)."""
        return self.like(self.values * scale[self.index])

    def __truediv__(self, scale: npt.NDArray[Any]) -> SparseRows:
        return self.like(self.values / scale[self.index])

    def __abs__(self) -> SparseRows:
        return self.like(np.abs(self.values))

    def __pow__(self, power: int) -> SparseRows:
        return self.like(self.values**power)

    def max(self, axis: int, initial: float = 0.0) -> Array:
        """The largest value of each row, at least ``initial`` >= 0."""
        assert axis == 1
        out = np.full(self.shape[0], initial)
        np.maximum.at(out, self.row_of, self.values)
        return out

    def sum(self, axis: int) -> Array:
        place, size = (self.row_of, self.shape[0]) if axis == 1 else (self.index, self.columns)
        return np.asarray(np.bincount(place, weights=self.values, minlength=size), dtype=np.float64)

    @property
    def all_finite(self) -> bool:
        return bool(np.isfinite(self.values).all())

    @property
    def most_in_a_column(self) -> int:
        """The largest number of entries, other than 0, of a column."""
        return int(np.bincount(self.index[self.values != 0], minlength=1).max())

    @property
    def T(self) -> npt.NDArray[Any]:
        return np.asarray(self.toarray().T)


Matrix = Array | SparseRows


def absolute(matrix: Matrix) -> Matrix:
    """The absolute values of the entries."""
    return matrix.__abs__() if isinstance(matrix, SparseRows) else np.abs(matrix)


def dense(matrix: Matrix) -> Array:
    """A matrix of few rows, written out."""
    return matrix.toarray() if isinstance(matrix, SparseRows) else matrix


def product(a: SparseRows, b: SparseRows) -> Matrix:
    """a @ b; dense where it has many entries."""
    size = np.diff(b.starts)[a.index]  # entries that each entry of a makes
    total = int(size.sum())
    shape = (a.shape[0], b.columns)
    if total > max(LARGE, shape[0] * shape[1] // 8):
        return np.asarray(a.toarray() @ b.toarray())
    ends = np.cumsum(size)
    place = np.repeat(b.starts[:-1][a.index] - (ends - size), size) + np.arange(total)
    return SparseRows.of_entries(
        np.repeat(a.row_of, size), b.index[place], np.repeat(a.values, size) * b.values[place].astype(np.float64), shape
    )


def entries_of(matrix: npt.NDArray[Any] | SparseRows, k: int) -> IntArray:
    """The columns in which row k is not 0."""
    if isinstance(matrix, SparseRows):
        index, values = matrix.row(k)
        return index if values.dtype == np.bool_ else index[values != 0]
    return np.flatnonzero(matrix[k])


def all_finite(matrix: Matrix) -> bool:
    return matrix.all_finite if isinstance(matrix, SparseRows) else bool(np.isfinite(matrix).all())


def most_in_a_column(matrix: Matrix) -> int:
    """The largest number of rows that share a column."""
    if isinstance(matrix, SparseRows):
        return matrix.most_in_a_column
    return int((matrix != 0).sum(0).max(initial=0))


def row_of_columns(matrix: Matrix) -> tuple[IntArray, Array]:
    """(columns,) the row that each column has an entry in (-1: none; one of them where there are several), and that entry (else 0)."""
    if isinstance(matrix, SparseRows):
        row, column, values = matrix.row_of, matrix.index, matrix.values
    else:
        row, column = np.nonzero(matrix)
        values = matrix[row, column]
    rows, entries = np.full(matrix.shape[1], -1, dtype=np.int64), np.zeros(matrix.shape[1])
    kept = values != 0
    rows[column[kept]], entries[column[kept]] = row[kept], values[kept]
    return rows, entries


def same_columns(matrix: Matrix, columns: IntArray) -> bool:
    """Whether some columns are all the same."""
    if not isinstance(matrix, SparseRows):
        chosen = matrix[:, columns]
        return bool((chosen == chosen[:, :1]).all())
    parts = [matrix.transposed.row(int(c)) for c in columns]
    return all(np.array_equal(index, parts[0][0]) and np.array_equal(values, parts[0][1]) for index, values in parts)


@dataclass(frozen=True, eq=False)
class Diagonal:
    """A diagonal matrix (m, m) by its ``values`` (m,)."""

    values: Array

    def __matmul__(self, x: Array) -> Array:
        return np.asarray(self.values * x)

    def toarray(self) -> Array:
        return np.asarray(np.diag(self.values))
