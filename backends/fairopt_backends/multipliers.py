"""Multipliers from scores: a solver may return the right x with multipliers that do not fit it.

gradient + C_active^T lam + box = 0 in non-negative least squares, each multiplier with the sign of its side. Lawson and Hanson's
active-set method ends at a vertex: at most one multiplier for each independent row. (scipy's nnls frees memory twice when it stops early.)
"""

from __future__ import annotations

import numpy as np

from fairopt.basics.arrays import Array
from fairopt_backends.programme import Programme

NEAR = 1e-7  # how near a limit counts as active, in scaled rows
FITS = 1e-8  # a residual that needs no second try
COLUMNS = 200  # more active rows than that are not tried


def recovered(programme: Programme, x: Array) -> Array | None:
    """Multipliers (M,) of the rows that fit x (U + E,), a vertex of those that do; None where x is not feasible or nothing fits.

    First on the variables off their bounds alone, where the box has no say; with the box when that does not fit.
    """
    if programme.violation(x) > NEAR:
        return None
    best: Array | None = None
    for free in (True, False):
        lam = _fit(programme, x, free=free)
        if lam is not None and (best is None or programme.residual(x, lam) < programme.residual(x, best)):
            best = lam
        if best is not None and programme.residual(x, best) <= FITS:
            break
    return best


def at_a_vertex(programme: Programme, x: Array, lam: Array) -> bool:
    """Whether the rows that carry a multiplier are independent on the variables off their bounds."""
    inside = (x < programme.ubx - NEAR) & (x > programme.lbx + NEAR)
    carrying = np.flatnonzero(np.abs(lam) > NEAR * max(1.0, float(np.abs(lam).max(initial=0.0))))
    if carrying.size == 0:
        return True
    return bool(np.linalg.matrix_rank(programme.lowered.dense()[carrying][:, inside], tol=1e-9) == carrying.size)


def _fit(programme: Programme, x: Array, *, free: bool) -> Array | None:
    c, f = programme.lowered, programme.lowered.times(x)
    inside = (x < programme.ubx - NEAR) & (x > programme.lbx + NEAR)
    kept = np.flatnonzero(inside) if free else np.arange(c.variables)
    rows = [(np.flatnonzero(f >= programme.upper - NEAR), 1.0), (np.flatnonzero(f <= programme.lower + NEAR), -1.0)]
    box = [(np.flatnonzero(x >= programme.ubx - NEAR), 1.0), (np.flatnonzero(x <= programme.lbx + NEAR), -1.0)]
    dense = c.dense()
    columns = [s * dense[at] for at, s in rows]
    if not free:
        columns += [s * np.eye(c.variables)[at] for at, s in box]
    matrix = np.concatenate(columns)[:, kept].T
    if matrix.shape[1] > COLUMNS:
        return None
    nu = non_negative_least_squares(matrix, -(programme.diagonal * x + programme.q)[kept])
    lam, start = np.zeros(c.rows), 0
    for at, s in rows:
        lam[at] += s * nu[start : start + at.size]
        start += at.size
    return lam


def non_negative_least_squares(a: Array, b: Array) -> Array:
    """argmin |A x - b| over x >= 0, for A (rows, columns); the best point after 5 * columns changes of the active set."""
    x, held = np.zeros(a.shape[1]), np.zeros(a.shape[1], dtype=np.bool_)
    small = 1e-12 * max(1.0, float(np.abs(b).max(initial=0.0)))
    for _ in range(5 * a.shape[1]):
        slope = np.where(held, -np.inf, a.T @ (b - a @ x))
        if held.all() or slope.max(initial=-np.inf) <= small:
            break
        held[int(np.argmax(slope))] = True
        while held.any():
            trial = np.zeros_like(x)
            trial[held] = np.linalg.lstsq(a[:, held], b, rcond=1e-13)[0]
            leaving = held & (trial <= 0)
            if not leaving.any():
                x = trial
                break
            ratios = np.where(leaving, x / np.where(leaving, np.maximum(x - trial, 1e-300), 1.0), np.inf)
            first = int(np.argmin(ratios))
            x = np.maximum(x + min(1.0, float(ratios[first])) * (trial - x), 0.0)
            held &= x > 0
            held[first] = False  # whatever rounding left of it: else this never ends
            x[~held] = 0.0
    return x
