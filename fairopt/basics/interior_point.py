"""A primal-dual interior point method for small dense convex problems.

    minimise  phi(x)   subject to  G x <= g,  E x = e

``phi`` is convex and quadratic. Used for feasibility (cell sums); its linear algebra also serves the interior point method on the
samples (fairopt.solve.dual.interior).

Source: Mehrotra's predictor-corrector (Nocedal & Wright, Numerical Optimization, 2nd ed., algorithm 16.4), with the equality
rows in an augmented system.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fairopt.basics.arrays import Array


@dataclass(frozen=True, eq=False)
class QPResult:
    """x (N,), multipliers (k,) >= 0 of G x <= g, the largest KKT residual in the scaled problem, and the iterations taken."""

    x: Array
    multipliers: Array
    residual: float
    iterations: int


def minimise(
    H: Array, h: Array, G: Array, g: Array, E: Array | None = None, e: Array | None = None, *, max_iter: int = 60, tol: float = 1e-14
) -> QPResult:
    """Minimise 1/2 x' H x + h' x subject to G x <= g and E x = e. H (N, N) positive semidefinite, G (k, N), E (q, N).

    Returns the best iterate by KKT residual; stops after twelve iterations that do not halve it.
    """
    N = h.shape[0]
    E = np.zeros((0, N)) if E is None else E
    e = np.zeros(E.shape[0]) if e is None else e
    # scale variables by the Hessian's diagonal and inequality rows to norm 1: prices of tiny and huge groups differ by 1e6
    d = _variable_scale(np.diag(H))
    norms = np.maximum(np.abs(G * d).max(1, initial=0.0), 1e-300) if G.shape[0] else np.ones(0)
    Gs, gs, Es = G * d / norms[:, None], g / norms, E * d
    k, q = Gs.shape[0], Es.shape[0]
    Hs, hs = H * d * d[:, None], h * d
    unit = max(float(np.abs(hs).max(initial=0.0)), 1e-8)
    scale = 1.0 + float(np.abs(hs).max(initial=0.0))
    x, nu = np.zeros(N), np.zeros(q)
    s, z = np.maximum(gs, unit), np.full(k, unit)
    best: tuple[float, Array, Array] = (np.inf, x, z)
    stale = 0
    iteration = 0
    for iteration in range(max_iter + 1):
        mu = float(s @ z) / k if k else 0.0
        rd = Hs @ x + hs + Gs.T @ z + Es.T @ nu  # (N,)
        rp = Gs @ x + s - gs  # (k,)
        re = Es @ x - e  # (q,)
        parts = (np.abs(rd).max(initial=0.0), np.abs(rp).max(initial=0.0), np.abs(re).max(initial=0.0), mu)
        residual = float(max(parts)) / scale
        if residual < best[0]:
            stale = 0 if residual < 0.5 * best[0] else stale + 1
            best = (residual, x, z)
        else:
            stale += 1
        if residual <= tol or stale >= 12 or iteration == max_iter or not np.isfinite(residual):
            break
        solve = factor(Hs + (Gs.T * (z / s)) @ Gs, Es)
        # predictor: aim at mu = 0
        _, ds, dz, _ = direction(solve, Gs, s, z, rd, rp, re, s * z)
        a = min(reach(s, ds), reach(z, dz))
        mu_affine = float((s + a * ds) @ (z + a * dz)) / k if k else 0.0
        sigma = (mu_affine / mu) ** 3 if mu > 0 else 0.0
        dx, ds, dz, dn = direction(solve, Gs, s, z, rd, rp, re, s * z + ds * dz - sigma * mu)
        a = min(1.0, 0.995 * min(reach(s, ds), reach(z, dz)))
        x, s, z, nu = x + a * dx, s + a * ds, z + a * dz, nu + a * dn
    residual, x, z = best
    return QPResult(x * d, z / norms, residual, iteration)


def _variable_scale(diagonal: Array) -> Array:
    """(N,) 1 / sqrt of the Hessian's diagonal; variables without curvature share the typical scale of the others."""
    positive = diagonal[diagonal > 0]
    typical = float(np.median(positive)) if positive.size else 1.0
    return np.asarray(1.0 / np.sqrt(np.where(diagonal > 1e-12 * typical, diagonal, typical)))


def factor(K: Array, E: Array) -> Callable[[Array, Array], tuple[Array, Array]]:
    """A solver of [[K, E'], [E, 0]]; a singular system (redundant rows) is solved in the least-squares sense."""
    N, q = K.shape[0], E.shape[0]
    system = np.zeros((N + q, N + q))
    # a shift far below rounding of the result keeps redundant equality rows from an exactly singular matrix
    system[:N, :N] = K + 1e-15 * max(float(np.trace(K)) / max(N, 1), 1e-300) * np.eye(N)
    system[:N, N:] = E.T
    system[N:, :N] = E

    def solve(a: Array, b: Array) -> tuple[Array, Array]:
        rhs = np.concatenate([a, b])
        try:
            v = np.linalg.solve(system, rhs)
            v = v + np.linalg.solve(system, rhs - system @ v)  # one step of refinement
        except np.linalg.LinAlgError:
            v = _least_squares(system, rhs)
        return v[:N], v[N:]

    return solve


def _least_squares(system: Array, rhs: Array) -> Array:
    """NaN where there is no solution in numbers, which ends the search at its best iterate. LAPACK would print a line of its own."""
    if np.isfinite(system).all() and np.isfinite(rhs).all():
        try:
            return np.asarray(np.linalg.lstsq(system, rhs, rcond=None)[0])
        except np.linalg.LinAlgError:  # no singular values
            pass
    return np.full(rhs.shape, np.nan)


def direction(
    solve: Callable[[Array, Array], tuple[Array, Array]], G: Array, s: Array, z: Array, rd: Array, rp: Array, re: Array, rc: Array
) -> tuple[Array, Array, Array, Array]:
    """Newton direction (dx, ds, dz, dnu) of the perturbed KKT system with complementarity residual ``rc`` (k,)."""
    dx, dn = solve(-rd - G.T @ ((z * rp - rc) / s), -re)
    ds = -rp - G @ dx
    dz = -(rc + z * ds) / s
    return dx, ds, dz, dn


def reach(v: Array, dv: Array) -> float:
    """The largest step in (0, 1] that keeps v + a dv >= 0."""
    negative = dv < 0
    return min(1.0, float((-v[negative] / dv[negative]).min())) if negative.any() else 1.0
