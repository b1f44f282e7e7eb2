"""One linear piece of the projection: which rows are active, and the equality system that they make.

On the active rows (index set I) the prices theta solve a symmetric saddle system

    [ M + Gamma^-1   E' ] [theta]   [ f(p) + M p - ell ]
    [ E              0  ] [ nu  ] = [ e                ]

M = A W^-1 D_F A', ell the limits that bind, Gamma^-1 from quadratic softness. E theta = e holds what the price domain adds: prices of a
range sum to 0, prices at their cap rho stay there, a budget at its cap keeps its sum. The same system gives Newton's step,
the polish of any backend's answer, and the gradient (DESIGN 7; implicit function theorem, claims L4 and L11).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fairopt.arrays import Array, IntArray
from fairopt.dual.prox import prox
from fairopt.dual.structure import Numbers, Structure


@dataclass(frozen=True, eq=False)
class Piece:
    """Active rows ``index`` (k,) of m, signs (k,) of their prices, E (q, k), e (q,), ell (k,), gamma_inverse (k, k) or None.

    ``caps``: for each row of E, (constraint, sign): e = sign * rho of that constraint, or constraint -1 where e = 0.
    ``metric``: (k,) scale of the rows.
    """

    m: int
    index: IntArray
    signs: Array
    E: Array
    e: Array
    caps: tuple[int, ...]
    ell: Array
    gamma_inverse: Array | None
    metric: Array

    def inverse(self, M: Array) -> Array:
        """Pseudo-inverse (k + q, k + q) of the saddle matrix for M (m, m). Symmetric; redundant rows take the least-norm solution.

        Kept for the next call with the same M: the repair and the gradient of one projection both need it.
        """
        kept: tuple[Array, Array] | None = self.__dict__.get("_inverse")
        if kept is None or kept[0] is not M:
            kept = (M, self._inverse(M))
            self.__dict__["_inverse"] = kept
        return kept[1]

    def _inverse(self, M: Array) -> Array:
        k, q = self.E.shape[1], self.E.shape[0]
        K = M[np.ix_(self.index, self.index)] if k < self.m else M
        if self.gamma_inverse is not None:
            K = K + self.gamma_inverse
        if q == 0 and k == 1:
            value = float(K[0, 0])
            return np.array([[1.0 / value if value > 1e-13 * self.metric[0] else 0.0]])
        d = self.scale()
        if q == 0 and k == 2:
            return _inverse_2x2(K * d * d[:, None]) * d * d[:, None]
        system = np.zeros((k + q, k + q))
        system[:k, :k] = K * d[:k] * d[:k, None]
        if q:
            system[k:, :k] = self.E * d[:k] * d[k:, None]
            system[:k, k:] = system[k:, :k].T
        return np.asarray(_symmetric_inverse(system) * d * d[:, None])

    def scale(self) -> Array:
        """(k + q,) what the saddle system is multiplied by from both sides to have rows of about 1.

        Prices of small and large groups differ by orders of magnitude, and a tiny gamma outweighs any row.
        """
        d = 1.0 / np.sqrt(self.metric if self.gamma_inverse is None else self.metric + np.diag(self.gamma_inverse))
        return np.concatenate([d, 1.0 / np.abs(self.E * d).max(1)]) if self.E.shape[0] else d

    def prices(self, f: Array, p: Array, M: Array, inverse: Array) -> Array:
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
        return theta


def _symmetric_inverse(system: Array) -> Array:
    """The inverse where the matrix is regular, else the pseudo-inverse, which costs ten times as much."""
    if system.shape[0] > 8:
        try:
            inverse = np.linalg.inv(system)
        except np.linalg.LinAlgError:
            inverse = None
        if inverse is not None and np.abs(inverse).max() < 1e9 and np.abs(system @ inverse - np.eye(system.shape[0])).max() < 1e-9:
            return np.asarray(0.5 * (inverse + inverse.T))
    return np.asarray(np.linalg.pinv(system, rcond=1e-12, hermitian=True))


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
    active = theta != 0.0
    L = structure.linear
    m = theta.shape[0]
    ell = np.zeros(m)
    ell[:L] = np.where(theta[:L] > 0, numbers.upper, numbers.lower)
    for r, rows in enumerate(structure.slices):
        ell[rows] = np.where(theta[rows] > 0, numbers.width[r], 0.0)
    index = np.flatnonzero(active)
    equations: list[Array] = []
    caps: list[int] = []
    e: list[float] = []

    def equation(rows: Array, value: float, constraint: int) -> None:
        if not rows[index].any():
            return  # a cap of 0: no price is left that it holds
        equations.append(rows)
        e.append(value)
        caps.append(constraint)

    at_cap = [bool(flow_of(structure, theta, linear, ranges) >= numbers.rho[k] * (1 - 1e-12)) for linear, ranges, k in structure.blocks]
    for (linear, ranges, k), capped in zip(structure.blocks, at_cap, strict=True):
        if capped:
            row = np.zeros(m)
            row[linear] = np.sign(theta[linear])
            for r in ranges.tolist():
                part = structure.slices[r]
                row[part] = theta[part] > 0
            equation(row, float(numbers.rho[k]), k)
    for k in range(L):
        if theta[k] != 0 and abs(theta[k]) >= numbers.rho[k] and not structure.in_block[k]:
            row = np.zeros(m)
            row[k] = np.sign(theta[k])
            equation(row, float(numbers.rho[k]), k)
    for r, part in enumerate(structure.slices):
        if not active[part].any():
            continue
        row = np.zeros(m)
        row[part] = active[part]
        equation(row, 0.0, -1)
        if not structure.in_block[L + r] and np.maximum(theta[part], 0.0).sum() >= numbers.rho[L + r] * (1 - 1e-12):
            row = np.zeros(m)
            row[part] = theta[part] > 0
            equation(row, float(numbers.rho[L + r]), L + r)
    E = np.array(equations)[:, index] if equations else np.zeros((0, index.size))
    gamma = _gamma_inverse(structure, numbers, theta)
    gamma = None if gamma is None else gamma[np.ix_(index, index)]
    return Piece(m, index, np.sign(theta[index]), E, np.array(e), tuple(caps), ell[index], gamma, s[index])


def flow_of(structure: Structure, theta: Array, linear: IntArray, ranges: IntArray) -> float:
    flow = float(np.abs(theta[linear]).sum())
    return flow + sum(float(np.maximum(theta[structure.slices[r]], 0.0).sum()) for r in ranges.tolist())


def _gamma_inverse(structure: Structure, numbers: Numbers, theta: Array) -> Array | None:
    """(m, m) second derivative of the quadratic softness in the prices, or None where there is none."""
    finite = np.isfinite(numbers.gamma)
    if not finite.any():
        return None
    L = structure.linear
    out = np.zeros((theta.shape[0], theta.shape[0]))
    for k in np.flatnonzero(finite).tolist():
        out += gamma_pattern(structure, theta, k) / numbers.gamma[k] if k >= L else 0.0
        if k < L:
            out[k, k] += 1.0 / numbers.gamma[k]
    return out


def gamma_pattern(structure: Structure, theta: Array, k: int) -> Array:
    """(m, m) matrix G with  q^2 = theta' G theta,  q the price or flow of constraint k on the piece of theta."""
    row = np.zeros(theta.shape[0])
    if k < structure.linear:
        row[k] = 1.0
    else:
        part = structure.slices[k - structure.linear]
        row[part] = theta[part] > 0
    return np.outer(row, row)
