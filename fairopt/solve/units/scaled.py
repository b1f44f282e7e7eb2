"""A problem in other units: every limit, bound, weight and price times its power of two, rounded inward where it loses digits."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.exact_sums import nearest_float
from fairopt.basics.sparse import Matrix, SparseRows
from fairopt.contract.problem import OF_CELLS, ProjectionProblem, Softness
from fairopt.contract.rows import Rows
from fairopt.feasibility.exact_rows import exact_offsets
from fairopt.solve.units.exponents import as_numpy, ldexp, row_exponents
from fairopt.solve.units.span import FAR, WIDE, Span

HEAVY = 700  # weights beyond 2^HEAVY are cut to it: such a sample does not move
ROUNDED = 100  # moves below 2^-100 are none


def softness_exponents(problem: ProjectionProblem, s: int, b: int, u: IntArray) -> IntArray:
    first = np.concatenate([np.arange(problem.linear), problem.range_starts[:-1]]).astype(np.int64)
    exponents = {"hard": 0 * u, "priced": u - b - s, "budget": u - b - s, "quadratic": 2 * u - b}  # (m,) each
    return np.array([exponents[soft.kind][k] for soft, k in zip(problem.softness, first.tolist(), strict=True)], dtype=np.int64)


def scaled(problem: ProjectionProblem, s: int, known: Span, tacit: float, reach: int | None) -> ProjectionProblem:
    """The problem in units; ``tacit``: the largest score that the dtype holds, in the problem's own units, or inf; ``reach``: exponent of
    scores that none comes near, where prices are capped.
    """
    u, b, L = known.rows, known.weights, problem.linear
    lower, upper = _limit(problem.lower, s + u[:L], up=True), _limit(problem.upper, s + u[:L], up=False)
    exponents = softness_exponents(problem, s, b, u)
    softness = tuple(
        soft if soft.kind == "hard" else Softness(soft.kind, _soft_weight(soft, e), soft.block)
        for soft, e in zip(problem.softness, exponents.tolist(), strict=True)
    )
    weights = problem.weights
    if weights is not None and b:
        weights = torch.from_numpy(np.minimum(ldexp(weights.numpy(), -b), 2.0**HEAVY))
    width = _limit(problem.width, s + u[problem.range_starts[:-1]], up=False)
    if reach is not None:
        _nearer(problem, u, reach - s, lower, upper, width)
    for k, e in known.faint.items():
        if softness[k].weight < 2.0 ** min(-e - WIDE - ROUNDED, 1000):  # its whole price moves no score
            if k < L:
                lower[k], upper[k] = -np.inf, np.inf
            else:
                width[k - L] = np.inf
    return replace(
        problem,
        rows=_scaled_rows(problem.rows, s, u),
        lower=lower,
        upper=np.maximum(upper, lower),  # equal limits stay equal
        width=width,
        lb=_bound(problem.lb, s, -tacit, up=True),
        ub=_bound(problem.ub, s, tacit, up=False),
        weights=weights,
        softness=softness,
    )


def _nearer(problem: ProjectionProblem, u: IntArray, reach: int, lower: Array, upper: Array, width: Array) -> None:
    """Moves the limits of capped prices that no score comes near: what all limits under one cap lose alike is a constant of the objective,
    as long as one of them is out of reach. Their sizes would drown the other rows. ``reach``: exponent of scores that none comes near.
    """
    L = problem.linear
    size = row_exponents(problem.rows) - u
    for members in capped(problem):
        linear, ranges = [k for k in members if k < L], [k - L for k in members if k >= L]
        if not linear:
            continue
        beyond = 2.0 ** min(max(reach + int(size[linear].max()), -1000), 1000)
        farthest = max(float(lower[linear].max()), float((-upper[linear]).max()))
        if farthest > beyond:  # the farthest one ends there, the others as much behind it as they were
            with np.errstate(invalid="ignore"):  # the farthest may have become infinite in these units
                lower[linear] = np.where(lower[linear] == farthest, beyond, (lower[linear] - farthest) + beyond)
                upper[linear] = np.where(-upper[linear] == farthest, -beyond, (upper[linear] + farthest) - beyond)
            width[ranges] = (width[ranges] + farthest) - beyond


def capped(problem: ProjectionProblem) -> list[list[int]]:
    """The constraints under each cap: a priced one by itself, those of a budget together."""
    under: dict[int, list[int]] = {}
    for k, soft in enumerate(problem.softness):
        if soft.kind in ("priced", "budget"):
            under.setdefault(soft.block if soft.kind == "budget" else -k - 1, []).append(k)
    return list(under.values())


def _soft_weight(soft: Softness, exponent: int) -> float:
    """A weight that rounds to 0 or to nothing finite decides as the ends of the range do."""
    weight = float(ldexp(soft.weight, exponent))
    return weight if soft.weight == 0.0 or soft.kind != "quadratic" else min(max(weight, 2.0**-FAR), 2.0**FAR)


def _limit(values: Array, exponents: IntArray, *, up: bool) -> Array:
    """Limits over 2^exponents, rounded inward where they lose digits, open beyond 2^FAR."""
    scaled = ldexp(values, -exponents)
    back = ldexp(scaled, exponents)
    toward = np.inf if up else -np.inf
    scaled = np.where(back < values if up else back > values, np.nextafter(scaled, toward), scaled)
    return np.where(scaled < -(2.0**FAR), -np.inf, scaled) if up else np.where(scaled > 2.0**FAR, np.inf, scaled)


def _bound(bound: float | Tensor, s: int, tacit: float, *, up: bool) -> float | Tensor:
    values = np.atleast_1d(as_numpy(bound))
    scaled = _limit(values, np.full(values.shape, s), up=up)
    if np.isfinite(tacit):
        end = float(ldexp(tacit, -s))
        scaled = np.minimum(np.maximum(scaled, end), -end) if up else np.maximum(np.minimum(scaled, end), -end)
    return torch.from_numpy(scaled) if isinstance(bound, Tensor) else float(scaled[0])


def _scaled_matrix(scales: Matrix, u: IntArray) -> Matrix:
    if isinstance(scales, SparseRows):
        return scales.like(ldexp(scales.values, -u[scales.row_of]))
    return ldexp(scales, -u[:, None])


def _wide_constants(rows: Rows, exponents: IntArray) -> Array:
    """(m,) the rows' constants over 2^exponents, some of which are beyond float64."""
    return np.array([nearest_float(v / Fraction(2) ** int(e)) for v, e in zip(exact_offsets(rows), exponents, strict=True)])


def _scaled_rows(rows: Rows, s: int, u: IntArray) -> Rows:
    terms = tuple(
        (k, float(ldexp(scale, -(s + int(u[k])) if mask < 0 else -int(u[k]))), mask, value) for k, scale, mask, value in rows.offset_terms
    )
    result = replace(
        rows,
        scales=_scaled_matrix(rows.scales, u),
        offset=ldexp(rows.offset, -(s + u)) if np.isfinite(rows.offset).all() else _wide_constants(rows, s + u),
        offset_terms=terms,
        values=tuple(torch.from_numpy(ldexp(v.numpy(), -s)) for v in rows.values),
        dense=None if rows.dense is None else torch.from_numpy(ldexp(rows.dense.numpy(), -u[rows.dense_rows][:, None])),
    )
    result.know(rows.known(*OF_CELLS))
    return result
