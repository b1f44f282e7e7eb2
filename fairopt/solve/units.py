"""Problems far from 1, solved in units of their own: powers of two, so that no digit is lost and no intermediate result overflows.

    y = 2^s y',   w = 2^b w',   f_k = 2^(s + u_k) f'_k      (f the rows' values)

divide the objective by 2^(2s + b): the same problem in y', with limits over 2^(s + u_k), prices rho over 2^(s - u_k + b) and quadratic
weights over 2^(b - 2 u_k). s follows from what the answer cannot help being as large as: the scores, the rows' constants, limits and
bounds that exclude 0. Limits and bounds beyond 2^FAR of that are open: no answer comes near them. Where the dtype ends near the
scores, its largest number is a bound as well. The common road sees one comparison: see ``find_units``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.exact_sums import nearest_float
from fairopt.basics.sparse import Matrix, SparseRows, absolute
from fairopt.contract.problem import OF_CELLS, Limits, ProjectionProblem, Rows, Softness
from fairopt.feasibility.exact_rows import exact_offsets

NEAR = 30  # scores and rows within 2^-30 .. 2^30 are solved as they are
WIDE = 60  # the same for distance weights; beyond it the lightest becomes 2^LIGHT
LIGHT = -300
HEAVY = 700  # weights beyond 2^HEAVY are cut to it: such a sample does not move
FAR = 300
BEYOND = 10  # no score comes near 2^BEYOND times what is asked of it
ROUNDED = 100  # moves below 2^-100 are none
ROOM = 40  # a dtype that ends within 2^ROOM of the scores bounds them
STEP = 16  # s is a multiple of it: scores that grow slowly do not make a new problem each time
SOFT = 200  # rho and gamma within 2^-200 .. 2^200
NOTHING = -(1 << 20)  # the exponent of 0


@dataclass(frozen=True, eq=False)
class Span:
    """What of a problem decides whether it needs units: the extents of scores that do not, and what it forces on any answer."""

    low: float
    high: float
    forced: int  # exponent
    rows: IntArray  # (m,) exponents u
    weights: int  # exponent b
    plain: bool
    faint: dict[int, int]  # constraints of a budget whose rows are far smaller than its largest one: the exponent that u leaves


@dataclass(frozen=True, eq=False)
class Units:
    """Exponents s, b, u (m,) and the problem in these units."""

    score: int
    weight: int
    rows: IntArray
    problem: ProjectionProblem
    bounded: bool  # the end of the dtype is among the bounds

    def into(self, scores: Tensor) -> Tensor:
        """(n,) scores in these units, in their dtype."""
        return _times(scores, -self.score)

    def back(self, y: Tensor, scores: Tensor, before: Tensor) -> Tensor:
        """(n,) ``y`` in the units of ``scores`` (n,), whose samples that did not move (``before``: as they went in) keep their bits."""
        own = _times(y.to(torch.float64), self.score)
        if self.bounded:
            end = torch.finfo(scores.dtype).max
            own = own.clamp(-end, end)
        return torch.where(y == before, scores, own.to(scores.dtype))

    def sure(self, y: Tensor, before: Tensor) -> bool:
        """Whether no sample moved, but by nothing to speak of, whose weight was cut to 2^HEAVY. Both (n,), in these units."""
        weights = self.problem.weights
        if weights is None:
            return True
        heavy = weights >= 2.0**HEAVY
        return not bool(heavy.any()) or bool(((y - before).abs().cpu()[heavy] <= 2.0**-ROUNDED).all())

    def size_of(self, y: Tensor) -> Tensor:
        """(n,) ``y`` in the problem's own units, differentiable."""
        return _times(y, self.score)

    def size(self, value: float) -> float:
        """A size of scores in these units, in the problem's own; the largest float64 stands for what float64 cannot hold."""
        return min(float(_ldexp(value, self.score)), float(np.finfo(np.float64).max)) if value < np.inf else value

    def extent(self, extent: float) -> float:
        return float(_ldexp(extent, -self.score))

    def prices(self, p: Array) -> Array:
        """(m,) prices in the problem's own units; the largest float64 stands for what float64 cannot hold."""
        top = np.finfo(np.float64).max
        return np.clip(_ldexp(p, self.weight + self.score - self.rows), -top, top)

    def limits(self, limits: Limits) -> Limits:
        """Limits in these units, connected to ``limits``."""
        L, starts = self.problem.linear, self.problem.range_starts
        linear, ranges = self.rows[:L], self.rows[starts[:-1]]
        by_row = (linear, linear, ranges, self.rows)
        lower, upper, width, offset = (_times(t, -(self.score + u)) for t, u in zip(limits.tensors()[:4], by_row, strict=True))
        weight = _times(limits.softness_weight, self.softness())
        # the value that the problem has, where a tiny or huge gamma was cut; straight through to the given one
        move = torch.where(torch.isfinite(weight), weight - weight.detach(), torch.zeros_like(weight))
        return Limits(lower, upper, width, offset, torch.from_numpy(self.problem.softness_weight) + move)

    def gradients(self, found: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        """Gradients to lower, upper, width, offset and softness_weight, from those of the scores to the limits in these units.

        The largest float64 stands for what float64 cannot hold.
        """
        L, starts = self.problem.linear, self.problem.range_starts
        linear, ranges = self.rows[:L], self.rows[starts[:-1]]
        hard = np.array([s.kind == "hard" for s in self.problem.softness], dtype=bool)
        exponents = (-linear, -linear, -ranges, -self.rows, np.where(hard, 0, self.score + self.softness()))
        top = float(np.finfo(np.float64).max)
        return tuple(None if g is None else _times(g, e).clamp(-top, top) for g, e in zip(found, exponents, strict=True))

    def softness(self) -> IntArray:
        """(L + R,) exponents that rho and gamma are multiplied by."""
        return _softness_exponents(self.problem, self.score, self.weight, self.rows)


def find_units(problem: ProjectionProblem, extent: float, dtype: torch.dtype, *, bounded: bool | None = None) -> Units | None:
    """The units for scores of at most ``extent``, or None where the problem can be solved as it is.

    ``bounded``: whether the end of the dtype is a bound; None: where the scores are near it.
    """
    known = span(problem)
    if known.low <= extent <= known.high and not bounded:
        return None
    top = max(_exponent(extent), known.forced)
    if top == NOTHING and known.plain and not bounded:
        return None  # zeros, and limits that hold them
    s = 0 if top == NOTHING or abs(top) <= NEAR else STEP * round(top / STEP)
    end = int(np.frexp(torch.finfo(dtype).max)[1])
    tacit = torch.finfo(dtype).max if bounded or (bounded is None and end - s < ROOM) else np.inf
    reach = top + BEYOND if top > NOTHING and _capped(problem) else None
    key = (s, tacit, reach)
    kept: tuple[tuple[int, float, int | None], Units] | None = problem.workspace.get("units")
    if kept is None or kept[0] != key:  # one at a time: scores keep their size from step to step
        made = Units(s, known.weights, known.rows, _scaled(problem, s, known, tacit, reach), tacit < np.inf)
        kept = problem.workspace.put("units", (key, made))
    return kept[1]


def span(problem: ProjectionProblem) -> Span:
    """The span of a problem, kept with it."""
    return problem.workspace.keep("span", lambda: _span(problem))


def _span(problem: ProjectionProblem) -> Span:
    rows, L = problem.rows, problem.linear
    size = _row_exponents(rows)  # (m,)
    u = np.where(np.abs(size) <= NEAR, 0, size)
    u[size == NOTHING] = 0
    for part in problem.range_slices:
        u[part] = u[part].max()  # the rows of a range are compared with one another
    blocks = {s.block for s in problem.softness if s.kind == "budget"}
    faint: dict[int, int] = {}
    for block in blocks:  # and a budget's with its one cap
        members = [k for k, s in enumerate(problem.softness) if s.kind == "budget" and s.block == block]
        mine = np.concatenate([_rows_of(problem, k) for k in members])
        u[mine] = u[mine].max()
        left = {k: int((size - u)[_rows_of(problem, k)].max()) for k in members}
        faint |= {k: e for k, e in left.items() if NOTHING < e < -SOFT}
    b, light = 0, 1
    if problem.weights is not None:
        light, heavy = (_exponent(float(v)) for v in torch.aminmax(problem.weights))
        b = 0 if light >= -WIDE and heavy <= WIDE else light - LIGHT
    forced = max(_largest_constant(rows, u), _forced_by_limits(problem, u, size - light))
    for v in _excluding_zero(problem.lb, problem.ub):
        forced = max(forced, _largest(np.atleast_1d(v), 0))
    ends = [_largest(np.atleast_1d(_numpy(v)), 0) for v in (problem.lb, problem.ub)]
    ends += [_largest(v, u[:L]) for v in (problem.lower, problem.upper)]
    ends.append(_largest(problem.width, u[problem.range_starts[:-1]]))
    soft = np.array([s.weight for s in problem.softness if s.kind != "hard"])
    plain = b == 0 and not u.any() and not faint and max(ends, default=NOTHING) <= FAR
    plain = plain and bool(np.isfinite(rows.offset).all())
    plain = plain and all(abs(e) <= SOFT for e in map(_exponent, soft.tolist()) if e != NOTHING)
    if not plain or forced > NEAR:
        return Span(np.inf, -np.inf, forced, u, b, plain, faint)
    low = 0.0 if forced >= -NEAR else 2.0**-NEAR
    return Span(low, 2.0**NEAR, forced, u, b, plain, faint)


def _forced_by_limits(problem: ProjectionProblem, u: IntArray, push: IntArray) -> int:
    """The exponent of the scores that the rows' limits ask for. A capped price asks for no more than it can do: ``push`` (m,) is the
    exponent of how far a price of 1 moves the lightest sample.
    """
    forced = NOTHING
    caps = [(k, _exponent(s.weight)) for k, s in enumerate(problem.softness[: problem.linear]) if s.kind in ("priced", "budget")]
    for limit in _excluding_zero(problem.lower, problem.upper):
        finite = np.isfinite(limit) & (limit != 0)
        asked = np.where(finite, _exponents(np.where(finite, limit, 0.0)) - u[: problem.linear], NOTHING)
        for k, cap in caps:
            asked[k] = min(asked[k], max(cap + int(push[k]), NOTHING))
        forced = max(forced, int(asked.max(initial=NOTHING)))
    return forced


def _row_exponents(rows: Rows) -> IntArray:
    """(m,) exponent of the sum of |coefficients| of each row, to a few units; NOTHING for rows without any."""
    size = _exponents(absolute(rows.scales).max(1, initial=0.0))
    if rows.dense is not None:
        dense = _exponents(rows.dense.abs().mean(1).numpy())  # a mean overflows where the sum does: then by the largest
        largest = _exponents(rows.dense.abs().amax(1).numpy())
        dense = np.where((dense == NOTHING) | (dense > 1024), largest, dense)
        dense = np.where(dense == NOTHING, NOTHING, dense + int(rows.n).bit_length())
        size[rows.dense_rows] = np.maximum(size[rows.dense_rows], dense)
    return size


def _excluding_zero(lower: float | Tensor | Array, upper: float | Tensor | Array) -> tuple[Array, Array]:
    """What limits force on an answer: lower ones above 0, upper ones below 0."""
    return np.maximum(_numpy(lower), 0.0), np.minimum(_numpy(upper), 0.0)


def _numpy(v: float | Tensor | Array) -> Array:
    return v.numpy() if isinstance(v, Tensor) else np.asarray(v, dtype=np.float64)


def _rows_of(problem: ProjectionProblem, constraint: int) -> IntArray:
    if constraint < problem.linear:
        return np.array([constraint], dtype=np.int64)
    part = problem.range_slices[constraint - problem.linear]
    return np.arange(part.start, part.stop, dtype=np.int64)


def _largest(values: Array, u: IntArray | int) -> int:
    """The largest exponent of finite ``values`` over 2^u."""
    finite = np.isfinite(values) & (values != 0)
    exponents = np.where(finite, _exponents(np.where(finite, values, 0.0)) - u, NOTHING)
    return int(exponents.max(initial=NOTHING))


def _largest_constant(rows: Rows, u: IntArray) -> int:
    """The largest exponent of the rows' constants over 2^u, also of those beyond float64."""
    if np.isfinite(rows.offset).all():
        return _largest(rows.offset, u)
    sizes = [v.numerator.bit_length() - v.denominator.bit_length() + 1 - int(e) for v, e in zip(exact_offsets(rows), u, strict=True) if v]
    return max(sizes, default=NOTHING)


def _exponents(values: Array) -> IntArray:
    """e with 2^(e - 1) <= |value| < 2^e; NOTHING for 0, 1025 and more for infinity."""
    exponents = np.frexp(values)[1].astype(np.int64)
    exponents = np.where(np.isfinite(values), exponents, 1100)
    return np.where(values == 0, NOTHING, exponents)


def _exponent(value: float) -> int:
    return int(_exponents(np.array(value)))


def _ldexp(values: Array | float, exponents: IntArray | int) -> Array:
    """values * 2^exponents; overflow is infinite, underflow 0."""
    with np.errstate(all="ignore"):
        return np.asarray(np.ldexp(values, np.clip(exponents, -5000, 5000)))


def _times(t: Tensor, exponents: IntArray | int) -> Tensor:
    """t * 2^exponents in its dtype, in steps that float64 holds: rounded once, and differentiable."""
    e = np.clip(exponents, -3000, 3000)
    wide = t.to(torch.float64)
    for _ in range(4):
        part = np.clip(e, -1000, 1000)
        e = e - part
        if np.any(part):
            wide = wide * torch.from_numpy(np.asarray(np.ldexp(1.0, part))).to(wide.device)
    return wide.to(t.dtype)


def _softness_exponents(problem: ProjectionProblem, s: int, b: int, u: IntArray) -> IntArray:
    first = np.concatenate([np.arange(problem.linear), problem.range_starts[:-1]]).astype(np.int64)
    exponents = {"hard": 0 * u, "priced": u - b - s, "budget": u - b - s, "quadratic": 2 * u - b}  # (m,) each
    return np.array([exponents[soft.kind][k] for soft, k in zip(problem.softness, first.tolist(), strict=True)], dtype=np.int64)


def _scaled(problem: ProjectionProblem, s: int, known: Span, tacit: float, reach: int | None) -> ProjectionProblem:
    """The problem in units; ``tacit``: the largest score that the dtype holds, in the problem's own units, or inf; ``reach``: exponent of
    scores that none comes near, where prices are capped.
    """
    u, b, L = known.rows, known.weights, problem.linear
    lower, upper = _limit(problem.lower, s + u[:L], up=True), _limit(problem.upper, s + u[:L], up=False)
    exponents = _softness_exponents(problem, s, b, u)
    softness = tuple(
        soft if soft.kind == "hard" else Softness(soft.kind, _soft_weight(soft, e), soft.block)
        for soft, e in zip(problem.softness, exponents.tolist(), strict=True)
    )
    weights = problem.weights
    if weights is not None and b:
        weights = torch.from_numpy(np.minimum(_ldexp(weights.numpy(), -b), 2.0**HEAVY))
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
    size = _row_exponents(problem.rows) - u
    for members in _capped(problem):
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


def _capped(problem: ProjectionProblem) -> list[list[int]]:
    """The constraints under each cap: a priced one by itself, those of a budget together."""
    under: dict[int, list[int]] = {}
    for k, soft in enumerate(problem.softness):
        if soft.kind in ("priced", "budget"):
            under.setdefault(soft.block if soft.kind == "budget" else -k - 1, []).append(k)
    return list(under.values())


def _soft_weight(soft: Softness, exponent: int) -> float:
    """A weight that rounds to 0 or to nothing finite decides as the ends of the range do."""
    weight = float(_ldexp(soft.weight, exponent))
    return weight if soft.weight == 0.0 or soft.kind != "quadratic" else min(max(weight, 2.0**-FAR), 2.0**FAR)


def _limit(values: Array, exponents: IntArray, *, up: bool) -> Array:
    """Limits over 2^exponents, rounded inward where they lose digits, open beyond 2^FAR."""
    scaled = _ldexp(values, -exponents)
    back = _ldexp(scaled, exponents)
    toward = np.inf if up else -np.inf
    scaled = np.where(back < values if up else back > values, np.nextafter(scaled, toward), scaled)
    return np.where(scaled < -(2.0**FAR), -np.inf, scaled) if up else np.where(scaled > 2.0**FAR, np.inf, scaled)


def _bound(bound: float | Tensor, s: int, tacit: float, *, up: bool) -> float | Tensor:
    values = np.atleast_1d(_numpy(bound))
    scaled = _limit(values, np.full(values.shape, s), up=up)
    if np.isfinite(tacit):
        end = float(_ldexp(tacit, -s))
        scaled = np.minimum(np.maximum(scaled, end), -end) if up else np.maximum(np.minimum(scaled, end), -end)
    return torch.from_numpy(scaled) if isinstance(bound, Tensor) else float(scaled[0])


def _scaled_matrix(scales: Matrix, u: IntArray) -> Matrix:
    if isinstance(scales, SparseRows):
        return scales.like(_ldexp(scales.values, -u[scales.row_of]))
    return _ldexp(scales, -u[:, None])


def _wide_constants(rows: Rows, exponents: IntArray) -> Array:
    """(m,) the rows' constants over 2^exponents, some of which are beyond float64."""
    return np.array([nearest_float(v / Fraction(2) ** int(e)) for v, e in zip(exact_offsets(rows), exponents, strict=True)])


def _scaled_rows(rows: Rows, s: int, u: IntArray) -> Rows:
    terms = tuple(
        (k, float(_ldexp(scale, -(s + int(u[k])) if mask < 0 else -int(u[k]))), mask, value) for k, scale, mask, value in rows.offset_terms
    )
    result = replace(
        rows,
        scales=_scaled_matrix(rows.scales, u),
        offset=_ldexp(rows.offset, -(s + u)) if np.isfinite(rows.offset).all() else _wide_constants(rows, s + u),
        offset_terms=terms,
        values=tuple(torch.from_numpy(_ldexp(v.numpy(), -s)) for v in rows.values),
        dense=None if rows.dense is None else torch.from_numpy(_ldexp(rows.dense.numpy(), -u[rows.dense_rows][:, None])),
    )
    result.know(rows.known(*OF_CELLS))
    return result
