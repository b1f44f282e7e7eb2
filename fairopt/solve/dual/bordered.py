"""Pieces of many rows of which some share samples: the rows that share none bordered by the few others, no (m, m) matrix.

M = A S A' with A = narrow + left wide (``basics.wide_rows``) and S the slopes of the cells. Of narrow's rows the finest that share no
cell are *simple*: among them M is diagonal, and ``SeparableInverse`` solves their part of the saddle system, with the balances and caps
of their constraints. What is left is the border: the other rows (a second attribute), balances and caps that reach into them, and two
unknowns for each wide mask, a = left' theta and b = wide S narrow' theta, with which

    M theta = narrow S narrow' theta + left (wide S wide' a + b) + (narrow S wide') a.

The border is solved by its Schur complement, and what rounding leaves by refinement with M itself. ``minimise_by_pieces`` walks from piece
to piece of the model: the primal-dual active set method (Hintermueller, Ito & Kunisch 2003).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.basics.sparse import Diagonal, Matrix, SparseRows, row_of_columns
from fairopt.basics.wide_rows import WideRows
from fairopt.solve.dual.separable import Quadratic, SeparableInverse, stacked


class ActiveRows(Protocol):
    """What of a piece (``active_piece.Piece``) its system is made of: ``index`` (k,) the active rows of m, ``owner`` (k,) their
    constraints, ``metric`` (k,), ``E`` (q, k) the equations between prices, ``gamma_inverse`` the quadratic softness."""

    @property
    def index(self) -> IntArray: ...
    @property
    def owner(self) -> IntArray: ...
    @property
    def metric(self) -> Array: ...
    @property
    def m(self) -> int: ...
    @property
    def E(self) -> Matrix: ...
    @property
    def gamma_inverse(self) -> Array | Quadratic | None: ...


REFINE = 2
PAIRS = 5_000_000
ROUNDS = 4
NOTHING = SparseRows(np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0), 0)


@dataclass(frozen=True, eq=False)
class Split:
    """A = narrow + left wide, and which rows (m,) are simple. ``left`` (m, r) and ``wide`` (r, C) have r = 0 where no mask is wide."""

    narrow: SparseRows
    left: SparseRows
    wide: SparseRows
    simple: BoolArray

    @property
    def border(self) -> int:
        return int((~self.simple).sum()) + 2 * self.wide.shape[0]

    @cached_property
    def others(self) -> IntArray:
        """(b,) the rows that are not simple."""
        return np.flatnonzero(~self.simple)

    @cached_property
    def crossings(self) -> tuple[IntArray, IntArray, Array]:
        """(e,) each: where simple rows and others share a cell: place in (m, b), the cell, the product of their entries."""
        row_of, factor = row_of_columns(self.narrow.take(np.flatnonzero(self.simple)))
        held = self.narrow.take(self.others)
        at = np.flatnonzero(row_of[held.index] >= 0)
        cell = held.index[at]
        place = np.flatnonzero(self.simple)[row_of[cell]] * self.others.size + held.row_of[at]
        return place, cell, held.values[at] * factor[cell]

    @cached_property
    def pairs(self) -> tuple[IntArray, IntArray, Array] | None:
        """(e,) each: where two of the others share a cell: place in (b, b), the cell, the product; None where that is very often."""
        held = self.narrow.take(self.others)
        by_cell = held.transposed
        size = np.diff(by_cell.starts)[held.index]
        if int(size.sum()) > PAIRS:
            return None
        ends = np.cumsum(size)
        second = np.repeat(by_cell.starts[:-1][held.index] - (ends - size), size) + np.arange(int(size.sum()))
        place = np.repeat(held.row_of, size) * self.others.size + by_cell.index[second]
        return place, np.repeat(held.index, size), np.repeat(held.values, size) * by_cell.values[second]

    @cached_property
    def wide_crossings(self) -> tuple[IntArray, Array]:
        """(entries of narrow,) each: place in (m, r + 1), the last column standing for none; the product with the wide mask's weight."""
        r = self.wide.shape[0]
        of, weight = np.full(self.narrow.columns, r, dtype=np.int64), np.zeros(self.narrow.columns)
        of[self.wide.index], weight[self.wide.index] = self.wide.row_of, self.wide.values
        return self.narrow.row_of * (r + 1) + of[self.narrow.index], self.narrow.values * weight[self.narrow.index]


def split(coefficients: Matrix) -> Split:
    """The most rows that are found to share no cell are simple: the finest first, or in the order in which notions name them."""
    m, columns = coefficients.shape
    if isinstance(coefficients, WideRows):
        narrow, left, wide = coefficients.narrow, coefficients.left, coefficients.wide
    else:
        narrow = coefficients if isinstance(coefficients, SparseRows) else SparseRows.of_dense(coefficients)
        left = SparseRows(np.zeros(m + 1, dtype=np.int64), NOTHING.index, NOTHING.values, 0)
        wide = SparseRows(NOTHING.starts, NOTHING.index, NOTHING.values, columns)
    by_size = np.argsort(np.diff(narrow.starts), kind="stable")
    found = [apart(narrow, order) for order in (by_size, np.arange(m), np.arange(m)[::-1])]
    return Split(narrow, left, wide, max(found, key=lambda simple: int(simple.sum())))


def apart(rows: SparseRows, order: IntArray) -> BoolArray:
    """(m,) rows of which no two share a cell: going through ``order`` (m,), each that shares none with those taken before.

    A round takes every row that comes first on all its cells among those that are left; after ROUNDS the others are not taken.
    """
    m = len(rows)
    rank = np.empty(m, dtype=np.int64)
    rank[order] = np.arange(m)
    taken, left = np.zeros(m, dtype=np.bool_), np.ones(m, dtype=np.bool_)
    entry, cell = rows.row_of, rows.index
    for _ in range(ROUNDS):
        first = np.full(rows.columns, m, dtype=np.int64)
        np.minimum.at(first, cell, rank[entry])
        beaten = first[cell] < rank[entry]
        taken |= left & (np.bincount(entry, weights=beaten, minlength=m) == 0)
        held = np.zeros(rows.columns, dtype=np.bool_)
        held[cell[taken[entry]]] = True
        left &= np.bincount(entry, weights=held[cell], minlength=m) == 0
        if not left.any():
            break
        kept = left[entry]
        entry, cell = entry[kept], cell[kept]
    return taken


@dataclass(frozen=True, eq=False)
class Sandwich:
    """M = A diag(slope) A' (m, m) by its parts."""

    coefficients: Matrix
    slope: Array
    split: Split

    def __matmul__(self, x: Array) -> Array:
        parts, others = self.split, self.split.others
        crossed, own = self.cross
        out = np.where(parts.simple, self.narrow_diagonal * x, 0.0) + crossed @ x[others]
        out[others] = crossed.T @ x + own @ x[others]
        if parts.wide.shape[0]:
            moved, mass = self.wide_cross
            a, b = x @ parts.left, moved.T @ x
            out += parts.left @ (mass * a + b) + moved @ a
        return np.asarray(out)

    def diagonal(self) -> Array:
        """(m,)"""
        return np.asarray((self.coefficients**2) @ self.slope)

    @cached_property
    def narrow_diagonal(self) -> Array:
        """(m,) of narrow S narrow'."""
        return (self.split.narrow**2) @ self.slope

    @cached_property
    def cross(self) -> tuple[Array, Array]:
        """narrow S narrow' between all rows and the others (m, b): of simple rows and of the others themselves, (b, b)."""
        parts, m = self.split, self.split.simple.shape[0]
        b = parts.others.size
        place, cell, value = parts.crossings
        simple = _binned(place, value * self.slope[cell], m, b)
        if parts.pairs is None:
            held = parts.narrow.take(parts.others)
            return simple, np.asarray(np.stack([held @ (self.slope * row) for row in held]))
        place, cell, value = parts.pairs
        return simple, _binned(place, value * self.slope[cell], b, b)

    @cached_property
    def wide_cross(self) -> tuple[Array, Array]:
        """narrow S wide' (m, r) and the diagonal (r,) of wide S wide'."""
        parts, m = self.split, self.split.simple.shape[0]
        r = parts.wide.shape[0]
        place, value = parts.wide_crossings
        both = _binned(place, value * self.slope[parts.narrow.index], m, r + 1)
        return both[:, :r], (parts.wide**2) @ self.slope


Model = Array | Diagonal | Sandwich


def diagonal(model: Model) -> Array:
    """(m,)"""
    if isinstance(model, Diagonal):
        return model.values
    return model.diagonal() if isinstance(model, Sandwich) else np.diag(model)


class BorderedInverse:
    """``inverse @ (g, e)`` is (theta, nu) of a piece with the model M."""

    def __init__(self, M: Sandwich, piece: ActiveRows) -> None:
        assert isinstance(piece.E, SparseRows)
        assert not isinstance(piece.gamma_inverse, np.ndarray)
        self.M, self.E, self.quadratic = M, piece.E, piece.gamma_inverse
        self.m, self.index, self.q = piece.m, piece.index, self.E.shape[0]  # not the piece itself, which keeps its inverse
        simple = M.split.simple[piece.index]
        self.inside, self.outside = np.flatnonzero(simple), np.flatnonzero(~simple)
        inner = self._inner(piece, simple)
        self._border(inner)

    def _inner(self, piece: ActiveRows, simple: BoolArray) -> SeparableInverse:
        """The solver of the simple rows; the equations that it holds, and those of the border, are kept."""
        E, quadratic = self.E, self.quadratic
        equations = E if quadratic is None else stacked(E, quadratic.flows)
        gamma = np.zeros(self.q) if quadratic is None else np.concatenate([np.zeros(self.q), 1.0 / quadratic.inverse])
        size = np.diff(equations.starts)
        own = np.zeros(equations.shape[0], dtype=np.bool_)
        for k in np.flatnonzero(size).tolist():
            held, _ = equations.row(k)
            own[k] = simple[held].all() and (piece.owner[held] == piece.owner[held[0]]).all()
        self.equations, self.gamma = equations, gamma
        self.mine = np.flatnonzero(own[: self.q])
        self.border_equations = np.flatnonzero(~own & (size > 0))
        flows = np.flatnonzero(own[self.q :])
        inner_quadratic = None
        if quadratic is not None and flows.size:
            inner_quadratic = Quadratic(_columns(quadratic.flows.take(flows), self.inside), quadratic.inverse[flows])
        slopes = self.M.narrow_diagonal[piece.index[self.inside]]
        own_equations = _columns(E.take(self.mine), self.inside)
        return SeparableInverse(slopes, piece.metric[self.inside], own_equations, inner_quadratic, piece.owner[self.inside])

    def _border(self, inner: SeparableInverse) -> None:
        """F (simple unknowns, border), inner^-1 F, and the inverse of the border's Schur complement."""
        parts, index = self.M.split, self.index
        inside, outside = index[self.inside], index[self.outside]
        place = np.searchsorted(parts.others, outside)  # of the active ones among the others
        r, b, c = parts.wide.shape[0], outside.size, self.border_equations.size
        F = np.zeros((inside.size + self.mine.size, b + c + 2 * r))
        G = np.zeros((b + c + 2 * r, b + c + 2 * r))
        top = F[: inside.size]
        if b:
            crossed, own = self.M.cross
            top[:, :b], G[:b, :b] = crossed[np.ix_(inside, place)], own[np.ix_(place, place)]
        for at, k in enumerate(self.border_equations.tolist()):
            row = self.equations[k]
            top[:, b + at], G[:b, b + at] = row[self.inside], row[self.outside]
            G[b + at, b + at] = -self.gamma[k]
        if r:
            a = b + c
            top[:, a : a + r], G[:b, a : a + r] = parts.left.take(inside).toarray(), parts.left.take(outside).toarray()
            crossed, own = self.M.wide_cross
            top[:, a + r :], G[:b, a + r :] = crossed[inside], crossed[outside]
            G[a + r :, a : a + r] = G[a : a + r, a + r :] = -np.eye(r)
            G[a + r :, a + r :] = np.diag(own)
        G[b:, :b] = G[:b, b:].T
        self.inner, self.F = inner, F
        self.solved = inner.solve_many(F)
        moved = F.T @ self.solved
        size = np.abs(np.diag(G)) + np.abs(np.diag(moved))
        d = 1.0 / np.sqrt(np.where(size > 0, size, 1.0))
        S = (G - 0.5 * (moved + moved.T)) * d * d[:, None]
        self.corner = symmetric_inverse(S) * d * d[:, None] if S.size else S

    def _solve(self, g: Array, e: Array) -> tuple[Array, Array]:
        b = self.outside.size
        rest = np.zeros(self.F.shape[1])
        rest[:b] = g[self.outside]
        stated = np.concatenate([e, np.zeros(self.equations.shape[0] - self.q)])
        rest[b : b + self.border_equations.size] = stated[self.border_equations]
        u = self.inner @ np.concatenate([g[self.inside], e[self.mine]])
        y = self.corner @ (rest - self.F.T @ u)
        x = u - self.solved @ y
        theta, nu = np.zeros(g.shape[0]), np.zeros(self.equations.shape[0])
        theta[self.inside], theta[self.outside] = x[: self.inside.size], y[:b]
        nu[self.mine] = x[self.inside.size :]
        nu[self.border_equations] = y[b : b + self.border_equations.size]
        return theta, nu[: self.q]

    def __matmul__(self, rhs: Array) -> Array:
        k, index = self.index.size, self.index
        g, e = rhs[:k], rhs[k:]
        theta, nu = self._solve(g, e)
        full = np.zeros(self.m)
        for _ in range(REFINE):
            full[index] = theta
            left = g - (self.M @ full)[index] - nu @ self.E
            if self.quadratic is not None:
                left = left - self.quadratic @ theta
            dtheta, dnu = self._solve(left, e - self.E @ theta)
            theta, nu = theta + dtheta, nu + dnu
        return np.concatenate([theta, nu])


def symmetric_inverse(system: Array) -> Array:
    """The inverse where the matrix is regular, else the pseudo-inverse, which costs ten times as much."""
    if system.shape[0] > 8:
        try:
            inverse = np.linalg.inv(system)
        except np.linalg.LinAlgError:
            inverse = None
        if inverse is not None and np.abs(inverse).max() < 1e9 and np.abs(system @ inverse - np.eye(system.shape[0])).max() < 1e-9:
            return np.asarray(0.5 * (inverse + inverse.T))
    return np.asarray(np.linalg.pinv(system, rcond=1e-12, hermitian=True))


def _columns(matrix: SparseRows, columns: IntArray) -> SparseRows:
    """Some columns (rising) of a matrix whose entries all lie in them."""
    place = np.full(matrix.columns, -1, dtype=np.int64)
    place[columns] = np.arange(columns.size)
    return SparseRows(matrix.starts, place[matrix.index], matrix.values, columns.size)


def _binned(place: IntArray, values: Array, rows: int, columns: int) -> Array:
    """(rows, columns) the sums of the values of each place."""
    sums = np.bincount(place, weights=values, minlength=rows * columns)
    return np.asarray(sums, dtype=np.float64).reshape(rows, columns)
