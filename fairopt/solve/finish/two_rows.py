"""Rounding, checking and repair for one or two hard linear rows, in plain floats: what ``finish`` does, without its small arrays.

Anything that floats cannot settle at the first attempt (limits closer than the margins, a check within its error bound) is left to
``finish``, which knows exact arithmetic, larger margins and the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fairopt.basics.arrays import Array
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.active_piece import Piece
from fairopt.solve.dual.structure import structure
from fairopt.solve.finish.check import TINY
from fairopt.solve.finish.rounding import lightest_of

HALF_ULP = 2.0**-53
NONE = np.zeros(0)
INF = float("inf")


@dataclass(frozen=True, eq=False)
class FewRows:
    """Limits and bounds of the rows as floats; kept with the problem."""

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    unit: tuple[float, ...]
    metric: Array
    offset: tuple[float, ...]
    terms: int
    tiny: float  # what products among the subnormal numbers lose, as in ``check.summation_bound``
    lightest: Array | float  # least distance weight of each cell

    def error(self, magnitude: float) -> list[float]:
        """How far a float64 row value can be from the exact one, for scores of at most ``magnitude``."""
        tiny = self.tiny * max(1.0, magnitude)
        return [HALF_ULP * (self.terms * u * magnitude + 8 * o) + tiny for u, o in zip(self.unit, self.offset, strict=True)]

    def inside(self, f: list[float], error: list[float]) -> bool:
        """Whether every row is inside its limits beyond doubt."""
        return all(lo + e <= v <= hi - e and -INF < v < INF for v, lo, hi, e in zip(f, self.lower, self.upper, error, strict=True))

    def outside(self, f: list[float], error: list[float]) -> bool:
        """Whether some row is outside its limits beyond doubt."""
        return any(v > hi + e or v < lo - e for v, lo, hi, e in zip(f, self.lower, self.upper, error, strict=True))


def few_rows(problem: ProjectionProblem) -> FewRows | None:
    """The plan of a problem that this road takes, or None."""
    return problem.workspace.keep("two rows", lambda: _plan(problem))


def _plan(problem: ProjectionProblem) -> FewRows | None:
    st = structure(problem)
    if st.shape != "few_rows" or not problem.all_hard or problem.rows.dense is not None:
        return None
    rows = problem.rows
    lightest, _ = lightest_of(problem)
    terms = int(rows.counts.max(initial=1)) + rows.masks.shape[1] + 8
    return FewRows(
        lower=tuple(problem.lower.tolist()),
        upper=tuple(problem.upper.tolist()),
        unit=tuple(st.unit.tolist()),
        metric=st.metric,
        offset=tuple(np.abs(rows.offset).tolist()),
        terms=terms,
        tiny=(rows.n + terms) * TINY,
        lightest=1.0 if lightest is None else lightest,
    )


@dataclass(frozen=True, eq=False)
class Repaired:
    """Prices of the tightened rows and the piece that they lie on, with the margins' magnitude."""

    p: Array
    piece: Piece


def repaired_prices(
    plan: FewRows,
    coefficients: Array,
    p: Array,
    f: Array,
    M: Array,
    sizes: tuple[float, float],
    dtypes: tuple[torch.dtype, torch.dtype],
) -> Repaired | None:
    """Prices at limits moved inward by what rounding can do; None where the limits are too close for it.

    A row is active where the proximal map says so, v = f + s p beyond a limit: rounding leaves inactive rows prices that are next to
    nothing, and none of them moves a row to its limit. A price that changes its side there was misread: None.

    ``sizes``: bounds of the absolute scores that are returned, and of those that came (see ``rounding.Finisher.margin``).
    ``dtypes``: of the scores that are returned, and of the pass that makes them.
    """
    prices, values = p.tolist(), f.tolist()
    magnitude, extent = sizes
    shift = min(float((np.abs(p @ coefficients) / plan.lightest).max(initial=0.0)), extent + magnitude)
    passing = torch.finfo(dtypes[1]).eps * (magnitude + shift) if dtypes[1] != torch.float64 else 0.0
    spread = 0.5 * torch.finfo(dtypes[0]).eps * magnitude + 2.0 * HALF_ULP * shift + passing
    error = plan.error(magnitude)
    gaps, ell, signs, active = [], [], [], []
    new = list(prices)
    for k, price in enumerate(prices):
        margin = (plan.unit[k] * spread + 2.0 * error[k]) * (1 + 1e-9)
        if plan.upper[k] - plan.lower[k] <= 2.0 * margin:
            return None
        reached = values[k] + float(plan.metric[k]) * price
        if reached > plan.upper[k] or reached < plan.lower[k]:
            above = reached > plan.upper[k]
            ell.append(plan.upper[k] if above else plan.lower[k])
            gaps.append(values[k] - (ell[-1] - margin if above else ell[-1] + margin))
            signs.append(1.0 if above else -1.0)
            active.append(k)
        elif price != 0.0:
            return None  # its part of f is not its own
    if len(active) == 1:
        k = active[0]
        if M[k, k] <= 0.0:
            return None
        new[k] += gaps[0] / float(M[k, k])
    elif len(active) == 2:
        a, b, c = float(M[0, 0]), float(M[0, 1]), float(M[1, 1])
        det = a * c - b * b
        if det <= 1e-12 * a * c:
            return None
        new[0] += (c * gaps[0] - b * gaps[1]) / det
        new[1] += (a * gaps[1] - b * gaps[0]) / det
    index = np.array(active, dtype=np.int64)
    piece = Piece(
        len(prices),
        index,
        np.array(signs),
        np.zeros((0, len(active))),
        NONE,
        (),
        np.array(ell),
        None,
        plan.metric[index],
        np.zeros(index.size),
        index,
    )
    p_new = np.array(new)
    return Repaired(p_new, piece) if piece.keeps(p_new) else None
