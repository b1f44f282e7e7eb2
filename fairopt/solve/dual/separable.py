"""The saddle system of a piece whose constraints share no sample: solved constraint by constraint, without any (m, m) matrix.

    [ D + C' Gamma^-1 C   E' ] [theta]   [ g ]
    [ E                   0  ] [ nu  ] = [ e ]

D is diagonal, the rows of C are the flows of quadratic constraints and those of E the balances and caps. With x = Gamma^-1 C theta the rows
B = [E; C] border D alone,  D theta + B' (nu, x) = g,  B theta - diag(0, Gamma) (nu, x) = (e, 0),  and the Schur complement
S = B D^-1 B' + diag(0, Gamma) has one small block a constraint, at most three rows of it. Rows of E over several constraints, the caps of
budgets, border these blocks in turn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.sparse import SparseRows

FLAT = 1e-11  # of the metric: the slope that rows without a free sample get
FEW = 64  # rows of B that are worth writing out
BLOCK = 3  # rows of B that a constraint has at most: its balance, its cap or its quadratic cost


@dataclass(frozen=True, eq=False)
class Quadratic:
    """C' Gamma^-1 C: ``flows`` (s, k) the rows of C, ``inverse`` (s,) 1 / gamma."""

    flows: SparseRows
    inverse: Array

    def __matmul__(self, theta: Array) -> Array:
        return (self.inverse * (self.flows @ theta)) @ self.flows

    def diagonal(self) -> Array:
        """(k,)"""
        return np.asarray(self.inverse @ (self.flows**2))

    def toarray(self) -> Array:
        dense = self.flows.toarray()
        return np.asarray((dense.T * self.inverse) @ dense)


class SeparableInverse:
    """``inverse @ (g, e)`` is (theta, nu). ``slopes``, ``metric``, ``owner`` (k,): D, the rows' own scale, their constraints."""

    def __init__(self, slopes: Array, metric: Array, E: SparseRows, quadratic: Quadratic | None, owner: IntArray) -> None:
        self.k, self.q = slopes.shape[0], E.shape[0]
        self.slopes = np.maximum(slopes, FLAT * metric)
        self.B, self.gamma = E, np.zeros(self.q)
        if quadratic is not None:
            self.B = stacked(E, quadratic.flows)
            self.gamma = np.concatenate([self.gamma, 1.0 / quadratic.inverse])
        if self.B.shape[0]:
            self._factor(owner)

    def _factor(self, owner: IntArray) -> None:
        B, rows = self.B, self.B.shape[0]
        size = np.diff(B.starts)
        filled = np.flatnonzero(size)
        low, high = np.full(rows, -1), np.full(rows, -1)
        low[filled] = np.minimum.reduceat(owner[B.index], B.starts[:-1][filled]) if filled.size else -1
        high[filled] = np.maximum.reduceat(owner[B.index], B.starts[:-1][filled]) if filled.size else -1
        self.border = np.flatnonzero(low != high)
        inner = np.flatnonzero((low == high) & (size > 0))
        # rows are scaled to norm 1 in D^-1: their sizes differ by orders of magnitude
        norm = (B**2) @ (1.0 / self.slopes)
        self.scale = 1.0 / np.sqrt(np.where(norm > 0, norm, 1.0))
        order = inner[np.argsort(low[inner], kind="stable")]
        component, position = np.unique(low[order], return_inverse=True)
        slot = np.arange(order.shape[0]) - np.searchsorted(position.reshape(-1), position.reshape(-1))
        self.members = np.full((component.shape[0], BLOCK), rows, dtype=np.int64)  # rows of B; the number of rows: none
        self.members[position.reshape(-1), slot] = order
        blocks = self._blocks(component, owner) if component.size else np.zeros((0, BLOCK, BLOCK))
        self.blocks = np.linalg.pinv(blocks, rcond=1e-12, hermitian=True) if component.size else blocks
        if self.border.size:
            self._border()

    def _blocks(self, component: IntArray, owner: IntArray) -> Array:
        """(components, BLOCK, BLOCK) of S, the identity where a constraint has fewer rows."""
        padded = np.zeros((self.k, BLOCK))  # the scaled entries of B in the slots of each row's own constraint
        slot_of = np.full(self.B.shape[0] + 1, -1, dtype=np.int64)
        slot_of[self.members] = np.arange(BLOCK)
        entry_row = self.B.row_of
        ours = slot_of[entry_row] >= 0
        ours &= ~np.isin(entry_row, self.border)
        padded[self.B.index[ours], slot_of[entry_row[ours]]] = (self.B.values * self.scale[entry_row])[ours]
        place = np.searchsorted(component, owner)
        used = np.flatnonzero((place < component.shape[0]) & (component[np.minimum(place, component.shape[0] - 1)] == owner))
        S = np.zeros((component.shape[0], BLOCK, BLOCK))
        np.add.at(S, place[used], padded[used, :, None] * padded[used, None, :] / self.slopes[used, None, None])
        diagonal = np.append(self.gamma * self.scale**2, 1.0)[self.members]
        S[:, np.arange(BLOCK), np.arange(BLOCK)] += diagonal
        return S

    def _border(self) -> None:
        """The Schur complement of the rows over several constraints."""
        wide = self.B.take(self.border).toarray() * self.scale[self.border][:, None]  # (b, k)
        full = np.zeros((self.B.shape[0], self.border.size))
        for c, row in enumerate(wide):
            full[:, c] = (self.B @ (row / self.slopes)) * self.scale
        self.full, inside = full, np.stack([self._inner(column) for column in full.T], axis=1)
        S = (wide / self.slopes) @ wide.T - full.T @ inside
        self.inside, self.corner = inside, np.linalg.pinv(0.5 * (S + S.T), rcond=1e-12, hermitian=True)

    def _inner(self, rhs: Array) -> Array:
        """The solution of the blocks alone; 0 on the other rows."""
        taken = np.append(rhs, 0.0)[self.members]  # (components, BLOCK)
        out = np.zeros(rhs.shape[0] + 1)
        out[self.members] = np.einsum("cij,cj->ci", self.blocks, taken)
        return out[:-1]

    def _schur(self, rhs: Array) -> Array:
        """S^+ rhs."""
        scaled = self.scale * rhs
        out = self._inner(scaled)
        if self.border.size:
            rest = self.corner @ (scaled[self.border] - self.full.T @ out)
            out = out - self.inside @ rest
            out[self.border] = rest
        return self.scale * out

    def _solve(self, g: Array, e: Array) -> tuple[Array, Array]:
        nu = self._schur(self.B @ (g / self.slopes) - e)
        return (g - nu @ self.B) / self.slopes, nu

    def solve_many(self, columns: Array) -> Array:
        """``inverse @`` each column of (k + q, b), to a few more half ulps."""
        rows = self.B.shape[0]
        if rows > FEW:
            return np.stack([self @ column for column in columns.T], axis=1) if columns.shape[1] else columns
        scaled = columns[: self.k] / self.slopes[:, None]
        if not rows:
            return scaled
        B, e = self.B.toarray(), np.zeros((rows, columns.shape[1]))
        e[: self.q] = columns[self.k :]
        schur = np.stack([self._schur(unit) for unit in np.eye(rows)], axis=1)
        nu = schur @ (B @ scaled - e)
        return np.concatenate([scaled - (B.T @ nu) / self.slopes[:, None], nu[: self.q]])

    def __matmul__(self, rhs: Array) -> Array:
        g, e = rhs[: self.k], np.zeros(self.B.shape[0])
        if not self.B.shape[0]:
            return np.asarray(g / self.slopes)
        e[: self.q] = rhs[self.k :]
        theta, nu = self._solve(g, e)
        # once more with what is left over: rows without a free sample magnify rounding
        dtheta, dnu = self._solve(g - self.slopes * theta - nu @ self.B, e - (self.B @ theta - self.gamma * nu))
        return np.concatenate([theta + dtheta, (nu + dnu)[: self.q]])


def stacked(a: SparseRows, b: SparseRows) -> SparseRows:
    """The rows of a, then those of b."""
    starts = np.concatenate([a.starts, a.starts[-1] + b.starts[1:]])
    return SparseRows(starts, np.concatenate([a.index, b.index]), np.concatenate([a.values, b.values]), a.columns)
