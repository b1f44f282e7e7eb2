"""One linear piece of the projection: which rows are active, and the equality system that they make.

On the active rows (index set I) the prices theta solve a symmetric saddle system

    [ M + Gamma^-1   E' ] [theta]   [ f(p) + M p - ell ]
    [ E              0  ] [ nu  ] = [ e                ]

M = A W^-1 D_F A', ell the limits that bind, Gamma^-1 from quadratic softness. E theta = e holds what the price domain adds: prices of a
range balance, prices at their cap rho stay there, a budget at its cap keeps its sum. Active rows of a range have the limit
shares * width + levels * nu, nu its free level: balance is levels . theta = 0, the flow is shares . theta
(``fairopt.basics.range_projection``). The same system gives Newton's step,
the polish of any backend's answer, and the gradient (DESIGN 7; implicit function theorem, claims L4 and L11).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.range_projection import at_tip, level_shares, range_flow, width_shares
from fairopt.basics.sparse import Diagonal, Matrix, SparseRows, absolute, dense
from fairopt.solve.dual.bordered import BorderedInverse, Model, Sandwich, symmetric_inverse
from fairopt.solve.dual.prox import prox
from fairopt.solve.dual.separable import Quadratic, SeparableInverse
from fairopt.solve.dual.structure import Numbers, Structure

LEAST, FAINT = 1e-30, 1e-9  # of a row's metric: what samples off their bounds may move it by alone, at weights over 24 decades

Inverse = Array | SeparableInverse | BorderedInverse


@dataclass(frozen=True, eq=False)
class Piece:
    """Active rows ``index`` (k,) of m, signs (k,) of their prices, E (q, k), e (q,), ell (k,), gamma_inverse (k, k) or None.

    At the tip of a ratio's cone every row of the range is held, and its price may have any sign: 0 in ``signs``.

    ``caps``: for each row of E, (constraint, sign): e = sign * rho of that constraint, or constraint -1 where e = 0.
    ``metric``: (k,) scale of the rows. ``shares``: (k,) how the limit moves with the width, for rows of ranges (0 for others).
    ``owner``: (k,) the constraint of each row.
    """

    m: int
    index: IntArray
    signs: Array
    E: Matrix
    e: Array
    caps: tuple[int, ...]
    ell: Array
    gamma_inverse: Array | Quadratic | None
    metric: Array
    shares: Array
    owner: IntArray

    def same_as(self, other: Piece) -> bool:
        """Whether both have the same active rows on the same sides, and the same equations."""
        same = np.array_equal(self.index, other.index) and np.array_equal(self.signs, other.signs)
        return same and self.caps == other.caps and np.array_equal(self.ell, other.ell)

    def keeps(self, p: Array) -> bool:
        """Whether no price of p (m,) is on the other side: a row whose price is does not bind where p was asked for."""
        return not bool((p[self.index] * self.signs < 0.0).any())

    def inverse(self, M: Model) -> Inverse:
        """Pseudo-inverse (k + q, k + q) of the saddle matrix for M (m, m). Symmetric; redundant rows take the least-norm solution.

        Kept for the next call with the same M: the repair and the gradient of one projection both need it.
        """
        kept: tuple[Model, Inverse] | None = self.__dict__.get("_inverse")
        if kept is None or kept[0] is not M:
            if isinstance(M, Sandwich):
                kept = (M, BorderedInverse(M, self))
            else:
                kept = (M, self._separable(M) if isinstance(M, Diagonal) else self._inverse(M))
            self.__dict__["_inverse"] = kept
        return kept[1]

    def _separable(self, M: Diagonal) -> SeparableInverse:
        E = self.E if isinstance(self.E, SparseRows) else SparseRows.of_dense(self.E)
        assert not isinstance(self.gamma_inverse, np.ndarray)
        return SeparableInverse(M.values[self.index], self.metric, E, self.gamma_inverse, self.owner)

    def _inverse(self, M: Array) -> Array:
        k, q = self.E.shape[1], self.E.shape[0]
        assert isinstance(self.E, np.ndarray) and not isinstance(self.gamma_inverse, Quadratic)  # noqa: PT018
        K = M[np.ix_(self.index, self.index)] if k < self.m else M
        if self.gamma_inverse is not None:
            K = K + self.gamma_inverse
        if q == 0 and k == 1:
            value = float(K[0, 0])
            return np.array([[1.0 / value if value > LEAST * self.metric[0] else 0.0]])
        d = self.scale(K.diagonal())
        if q == 0 and k == 2:
            return _inverse_2x2(K * d * d[:, None]) * d * d[:, None]
        system = np.zeros((k + q, k + q))
        system[:k, :k] = K * d[:k] * d[:k, None]
        if q:
            system[k:, :k] = self.E * d[:k] * d[k:, None]
            system[:k, k:] = system[k:, :k].T
        return np.asarray(symmetric_inverse(system) * d * d[:, None])

    def scale(self, slopes: Array) -> Array:
        """(k + q,) what the saddle system is multiplied by from both sides to have rows of about 1. ``slopes`` (k,): its diagonal.

        Prices of small and large groups differ by orders of magnitude, a tiny gamma outweighs any row, and where a light sample is at
        its bound the heavy ones that are left move their row by next to nothing of its metric: by that, none the less.
        """
        soft = 0.0 if self.gamma_inverse is None else self.gamma_inverse.diagonal()
        d = 1.0 / np.sqrt(np.where((slopes > LEAST * self.metric) & (slopes < FAINT * self.metric), slopes, self.metric + soft))
        return np.concatenate([d, 1.0 / absolute(self.E * d).max(1)]) if self.E.shape[0] else d

    def prices(self, f: Array, p: Array, M: Model, inverse: Inverse) -> Array:
        """(m,) prices of this piece, from row values f at prices p and the linear model f(theta) = f + M (p - theta).

        Where redundant rows leave a choice, the prices nearest to p (in the metric of the rows): their signs stay right.
        """
        theta = np.zeros(self.m)
        if self.index.size:
            theta[self.index] = p[self.index]
            gap = (f + M @ (p - theta))[self.index] - self.ell
            if self.gamma_inverse is not None:
                gap -= self.gamma_inverse @ theta[self.index]
            rhs = np.concatenate([gap, self.e - self.E @ theta[self.index]])
            theta[self.index] += (inverse @ rhs)[: self.index.size]
            if isinstance(inverse, np.ndarray) and self.E.shape[0]:  # beside a huge price the others' caps and balance are rounding
                rhs = np.concatenate([np.zeros(self.index.size), self.e - self.E @ theta[self.index]])
                theta[self.index] += (inverse @ rhs)[: self.index.size]
        return theta


def _inverse_2x2(K: Array) -> Array:
    a, b, c = float(K[0, 0]), float(K[0, 1]), float(K[1, 1])
    det = a * c - b * b
    if det > 1e-12 * max(a * a, c * c):
        return np.array([[c, -b], [-b, a]]) / det
    return np.asarray(np.linalg.pinv(K, rcond=1e-12, hermitian=True))


def read_piece(structure: Structure, numbers: Numbers, f: Array, p: Array, drop: float = 0.0) -> Piece:
    """The piece that (f, p) lies on: the active set of prox(f + s p).

    ``drop``: rows whose price moves them by less than this, in score units, count as inactive. At a degenerate optimum rows without a
    price touch their limits, and an approximate (f, p) cannot tell them from active ones.
    """
    s = structure.metric
    theta = prox(structure, numbers, f + s * p, s)
    if drop > 0.0:
        theta = np.where(np.abs(theta) * s / structure.unit > drop, theta, 0.0)
    active, signs = theta != 0.0, np.sign(theta)
    L = structure.linear
    m = theta.shape[0]
    shares, levels = np.zeros(m), np.zeros(m)
    ell = np.zeros(m)
    ell[:L] = np.where(theta[:L] > 0, numbers.upper, numbers.lower)
    for r, (rows, ratio) in enumerate(zip(structure.slices, structure.ratios, strict=True)):
        shares[rows], levels[rows] = width_shares(theta[rows], ratio), level_shares(theta[rows], ratio)
        if at_tip(theta[rows], ratio):
            active[rows], signs[rows] = True, 0.0
        ell[rows] = np.where(active[rows], shares[rows] * numbers.width[r], 0.0)
    index = np.flatnonzero(active)
    equations = _Equations(m, index)
    for linear, ranges, k in structure.blocks:
        if flow_of(structure, theta, linear, ranges) >= numbers.rho[k] * (1 - 1e-12):
            block = np.concatenate([linear, *(np.arange(structure.slices[r].start, structure.slices[r].stop) for r in ranges.tolist())])
            equations.add(block, np.where(block < L, np.sign(theta[block]), shares[block]), float(numbers.rho[k]), k)
    for k in np.flatnonzero((theta[:L] != 0) & (np.abs(theta[:L]) >= numbers.rho[:L]) & ~structure.in_block[:L]).tolist():
        equations.add(np.array([k]), np.sign(theta[k : k + 1]), float(numbers.rho[k]), k)
    for r, part in enumerate(structure.slices):
        if not active[part].any():
            continue
        members = np.arange(part.start, part.stop)
        if levels[part].any():
            equations.add(members, levels[part], 0.0, -1)
        rho = float(numbers.rho[L + r])
        if rho < np.inf and not structure.in_block[L + r] and range_flow(theta[part], structure.ratios[r]) >= rho * (1 - 1e-12):
            equations.add(members, shares[part], rho, L + r)
    gamma: Array | Quadratic | None = _gamma_inverse(structure, numbers, index, shares)
    E: Matrix = equations.matrix()
    if not structure.in_parts:
        E, gamma = dense(E), gamma.toarray() if isinstance(gamma, Quadratic) else None
    e, caps, owner = np.array(equations.e), tuple(equations.caps), structure.owner[index]
    return Piece(m, index, signs[index], E, e, caps, ell[index], gamma, s[index], shares[index], owner)


class _Equations:
    """The rows of E while they are collected: on the active rows ``index`` of m."""

    def __init__(self, m: int, index: IntArray) -> None:
        self.place = np.full(m, -1, dtype=np.int64)
        self.place[index] = np.arange(index.shape[0])
        self.size = index.shape[0]
        self.parts: list[tuple[IntArray, Array]] = []
        self.e: list[float] = []
        self.caps: list[int] = []

    def add(self, rows: IntArray, factors: Array, value: float, constraint: int) -> None:
        kept = (self.place[rows] >= 0) & (factors != 0)
        if not kept.any():
            return  # a cap of 0: no price is left that it holds
        self.parts.append((self.place[rows[kept]], factors[kept]))
        self.e.append(value)
        self.caps.append(constraint)

    def matrix(self) -> SparseRows:
        ordered = [np.argsort(place, kind="stable") for place, _ in self.parts]
        places = [place[order] for (place, _), order in zip(self.parts, ordered, strict=True)]
        factors = [factor[order] for (_, factor), order in zip(self.parts, ordered, strict=True)]
        return SparseRows.of_lists(places, factors, self.size)


def flow_of(structure: Structure, theta: Array, linear: IntArray, ranges: IntArray) -> float:
    flow = float(np.abs(theta[linear]).sum())
    return flow + sum(range_flow(theta[structure.slices[r]], structure.ratios[r]) for r in ranges.tolist())


def _gamma_inverse(structure: Structure, numbers: Numbers, index: IntArray, shares: Array) -> Quadratic | None:
    """The second derivative of the quadratic softness in the prices of the active rows, or None where there is none."""
    gamma = numbers.gamma[structure.owner[index]]  # (k,)
    soft = np.flatnonzero(np.isfinite(gamma))
    if not soft.size:
        return None
    owners, group = np.unique(structure.owner[index[soft]], return_inverse=True)
    factors = np.where(index[soft] < structure.linear, 1.0, shares[index[soft]])
    flows = SparseRows.of_entries(group.reshape(-1).astype(np.int64), soft, factors, (owners.shape[0], index.shape[0]))
    return Quadratic(flows, 1.0 / numbers.gamma[owners])


def gamma_pattern(structure: Structure, shares: Array, k: int) -> Array:
    """(m, m) matrix G with  q^2 = theta' G theta,  q the price or flow of constraint k on the piece with these ``shares`` (m,)."""
    row = np.zeros(shares.shape[0])
    if k < structure.linear:
        row[k] = 1.0
    else:
        part = structure.slices[k - structure.linear]
        row[part] = shares[part]
    return np.outer(row, row)
