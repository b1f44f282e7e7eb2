"""The minimiser of the Newton model of many rows by the primal-dual active set method: from piece to piece, no matrix written out.

    the model:  f(q) = f0 - M (q - p0);    each step: the active set of prox(f(q) + s q), then the prices of its equality system

On the right piece the step is the answer, up to rounding: where the same piece comes again and the residual is no longer cut in half, the
search ends. The method need not settle where pieces come again and again; then steps are cut in half, and what it ends at is judged by the
caller's line search like any other direction.
"""

from __future__ import annotations

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.solve.dual.active_piece import Piece, read_piece
from fairopt.solve.dual.bordered import Sandwich
from fairopt.solve.dual.prox import prox, residual
from fairopt.solve.dual.structure import Numbers, Structure

STEPS = 40
SHORTEST = 1.0 / 16.0


def minimise_by_pieces(structure: Structure, numbers: Numbers, M: Sandwich, f0: Array, p0: Array, goal: float) -> tuple[Array, float]:
    """(m,) prices in the domain, about those that minimise the model at (p0, f0), and the model's residual there, in score units.

    ``goal``: the residual that is enough.
    """

    def values(q: Array) -> tuple[Array, float]:
        f = f0 - M @ (q - p0)
        return f, float(np.abs(residual(structure, numbers, f, q)).max(initial=0.0))

    s = structure.metric
    q, f, res = p0, f0, np.inf
    if not p0.any():
        q = prox(structure, numbers, f0, np.maximum(M.diagonal(), 1e-6 * s))  # about the right active set
        f, res = values(q)
    best, best_res, share = (q, f), res, 1.0
    last: Piece | None = None
    for _ in range(STEPS):
        piece = read_piece(structure, numbers, f, q)
        again = last is not None and piece.same_as(last)
        last = piece
        new = piece.prices(f, q, M, piece.inverse(M))
        if share < 1.0:
            new = q + share * (new - q)
        if not np.isfinite(new).all():
            break
        q = new
        f, res = values(q)
        settled = again and not res < 0.5 * best_res
        if res < best_res:
            best, best_res = (q, f), res
        else:
            share = max(0.5 * share, SHORTEST)
        if best_res <= goal or settled:
            break
    q, f = best
    return prox(structure, numbers, f + s * q, s), best_res  # in the price domain; q itself at the minimum
