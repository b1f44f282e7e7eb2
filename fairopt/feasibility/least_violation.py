"""The least sum of squared violations of some constraints inside a box, in floats.

    minimise  1/2 sum_k d_k^2    over u in [lb, ub],   d_k the violation of constraint k by f = F u + offset

Few unknowns: the interior point method, exact to about 1e-12. Many: accelerated projected gradient. Where the least is positive, the
residuals of f are nearly a Farkas proof (fairopt.feasibility.farkas makes one of them).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fairopt.basics.arrays import Array, BoolArray
from fairopt.basics.interior_point import minimise
from fairopt.basics.range_projection import range_prices

_NEAR = 1e-9  # share of the largest unknown within which one counts as at its bound
_FEW = 400  # unknowns plus constraints that the interior point method takes
_STEPS, _WORK = 4000, 5e8  # gradient steps, and terms that they may take in all


@dataclass(frozen=True, eq=False)
class Region:
    """matrix (rows, u) and offset (rows,) of the constraints' rows in turn; box lb, ub (u,); constraints (rows, lower, upper) or
    (rows, nan, width). unit (rows,): what the rows were divided by; used: which of the problem's unknowns these are."""

    matrix: Array
    offset: Array
    lb: Array
    ub: Array
    constraints: tuple[tuple[int, float, float], ...]
    unit: Array
    used: BoolArray
    scale: int = 0  # all numbers are 2**scale times these
    ratios: tuple[float, ...] = ()  # one a constraint, empty where all are 1

    def slices(self) -> list[slice]:
        return _slices(list(self.constraints))

    def reach(self) -> tuple[Array, Array]:
        """(rows,) least and largest value of each row over the box, up to rounding."""
        with np.errstate(over="ignore", invalid="ignore"):
            ends = [np.where(self.matrix != 0, self.matrix * b, 0.0) for b in (self.lb, self.ub)]
            return np.minimum(*ends).sum(1) + self.offset, np.maximum(*ends).sum(1) + self.offset

    def divided(self, unit: Array) -> Region:
        """Each row divided by its ``unit`` (rows,), the same within a constraint."""
        limits = [(k, a / u, b / u) for (k, a, b), u in zip(self.constraints, unit[[s.start for s in self.slices()]].tolist(), strict=True)]
        matrix, offset = self.matrix / unit[:, None], self.offset / unit
        return replace(self, matrix=matrix, offset=offset, constraints=tuple(limits), unit=self.unit * unit)

    def in_one_scale(self) -> Region:
        """All scores and limits divided by a power of two: the largest finite one becomes about 1. Limits that bind nowhere open."""
        low, high = self.reach()
        limits = []
        ratios = self.ratios or [1.0] * len(self.constraints)
        for (k, a, b), ratio, s in zip(self.constraints, ratios, self.slices(), strict=True):
            if np.isnan(a):
                limits.append((k, a, float("inf") if (ratio * high[s].max() if ratio else 0.0) - low[s].min() < b else b))
            else:
                limits.append((k, -float("inf") if low[s.start] > a else a, float("inf") if high[s.start] < b else b))
        numbers = np.abs(np.array([*self.lb, *self.ub, *self.offset, *(x for _, a, b in limits for x in (a, b))]))
        largest = float(numbers[np.isfinite(numbers)].max(initial=0.0))
        if largest == 0.0:
            return replace(self, constraints=tuple(limits))
        shift = int(np.frexp(largest)[1])

        def scaled(x: Array) -> Array:
            return np.ldexp(x, -shift)

        return replace(
            self,
            offset=scaled(self.offset),
            lb=scaled(self.lb),
            ub=scaled(self.ub),
            constraints=tuple((k, float(np.ldexp(a, -shift)), float(np.ldexp(b, -shift))) for k, a, b in limits),
            scale=self.scale + shift,
        )


@dataclass(frozen=True, eq=False)
class LeastViolation:
    """point (u,); values and residuals (rows,) of the rows there; multipliers (rows,): nearly a proof where the least violation is
    positive; worst: the largest residual."""

    point: Array
    values: Array
    residuals: Array
    multipliers: Array

    @cached_property
    def worst(self) -> float:
        return float(np.abs(self.residuals).max(initial=0.0))


def least_violation(region: Region) -> LeastViolation:
    """Solve for all constraints of the region. The point lies in the box, whatever becomes of the search."""
    F, offset, constraints = region.matrix, region.offset, list(region.constraints)
    few = F.shape[1] + F.shape[0] <= _FEW
    if few:
        u, q = _interior(F, offset, region.lb, region.ub, constraints, region.ratios)
    else:
        u, q = _gradient(F, offset, region.lb, region.ub, constraints, region.ratios), None
    u = np.clip(np.where(np.isfinite(u), u, _inside(region.lb, region.ub)), region.lb, region.ub)
    found, snapped = (_at(x, region, q) for x in (u, _snapped(u, region.lb, region.ub)))
    return snapped if float((snapped.residuals**2).sum()) <= float((found.residuals**2).sum()) * (1.0 + 1e-12) else found


def _at(u: Array, region: Region, q: Array | None) -> LeastViolation:
    f = region.matrix @ u + region.offset
    left = residuals(f, list(region.constraints), region.ratios)
    return LeastViolation(u, f, left, left if q is None else q)


def _snapped(u: Array, lb: Array, ub: Array) -> Array:
    """The point with what nearly reaches a bound at it."""
    near = _NEAR * (float(np.abs(u).max(initial=0.0)) or 1.0)
    return np.where(u - lb <= near, lb, np.where(ub - u <= near, ub, u))


def _slices(constraints: list[tuple[int, float, float]]) -> list[slice]:
    ends = np.cumsum([0, *(rows for rows, _, _ in constraints)]).tolist()
    return [slice(a, b) for a, b in itertools.pairwise(ends)]


def residuals(f: Array, constraints: list[tuple[int, float, float]], ratios: Sequence[float] = ()) -> Array:
    """(rows,) f minus the nearest values that meet the constraints; of a range: its rows clipped to [t, t + width], t at balance, or with
    a ratio as ``range_prices`` says."""
    q = np.zeros_like(f)
    for (_, a, b), ratio, s in zip(constraints, ratios or [1.0] * len(constraints), _slices(constraints), strict=True):
        if not np.isnan(a):
            q[s] = f[s] - np.clip(f[s], a, b)
            continue
        part = f[s]
        if ratio < 1.0:
            q[s] = range_prices(part, np.ones_like(part), b, ratio=ratio)
        elif np.ptp(part) > b:
            t = _balance(part, b)
            q[s] = part - np.clip(part, t, t + b)
    return q


def _balance(f: Array, width: float) -> float:
    """t where the amounts cut above t + width and below t are equal: the root of an increasing piecewise linear function."""
    centre = 0.5 * float(f.min()) + 0.5 * float(f.max())
    f = f - centre  # sums of values far from 0 would lose the differences between them
    points = np.sort(np.concatenate([f, f - width]))
    low, high = np.sort(f), np.sort(f - width)
    below, above = np.searchsorted(low, points), np.searchsorted(high, points)
    sums, rest = np.concatenate([[0.0], np.cumsum(low)]), np.concatenate([[0.0], np.cumsum(high)])
    values = (
        points * below - sums[below] - (rest[-1] - rest[above] - points * (len(f) - above))
    )  # what is cut below t, less above t + width
    k = min(int(np.searchsorted(values, 0.0)), len(values) - 1)  # the last value is 0 or more, but for rounding
    if k == 0 or values[k] <= 0:
        return centre + float(points[k])
    share = -values[k - 1] / (values[k] - values[k - 1])
    return centre + float(points[k - 1] + share * (points[k] - points[k - 1]))


def _interior(
    F: Array, offset: Array, lb: Array, ub: Array, constraints: list[tuple[int, float, float]], ratios: Sequence[float] = ()
) -> tuple[Array, Array]:
    """(point, multipliers of the rows). Unknowns (u, violation of each constraint, floor of each range)."""
    U, K = F.shape[1], len(constraints)
    is_range = [bool(np.isnan(a)) for _, a, _ in constraints]
    floors = np.cumsum(is_range) - 1
    N = U + K + sum(is_range)
    G: list[Array] = []
    g: list[float] = []
    of: list[tuple[int, float]] = []  # the row that each inequality is of, and its sign

    def ask(row: Array, sign: float, violation: int, floor: int, limit: float) -> None:
        """sign * row u - violation - sign * floor <= limit."""
        line = np.zeros(N)
        line[:U] = sign * row
        if violation >= 0:
            line[U + violation] = -1.0
        if floor >= 0:
            line[U + K + floor] = -sign
        G.append(line)
        g.append(limit)

    for k, ((_, a, b), s) in enumerate(zip(constraints, _slices(constraints), strict=True)):
        for i in range(s.start, s.stop):
            if is_range[k]:
                if not np.isfinite(b):
                    continue
                ratio = ratios[k] if ratios else 1.0
                ask(ratio * F[i], 1.0, k, int(floors[k]), b - ratio * offset[i])
                ask(F[i], -1.0, -1, int(floors[k]), offset[i])
                of += [(i, ratio), (i, -1.0)]
            else:
                if np.isfinite(b):
                    ask(F[i], 1.0, k, -1, b - offset[i])
                    of.append((i, 1.0))
                if np.isfinite(a):
                    ask(F[i], -1.0, k, -1, offset[i] - a)
                    of.append((i, -1.0))
    identity = np.eye(U)
    for j in range(U):
        if np.isfinite(ub[j]):
            ask(identity[j], 1.0, -1, -1, float(ub[j]))
        if np.isfinite(lb[j]):
            ask(identity[j], -1.0, -1, -1, -float(lb[j]))
    if not G:
        return _inside(lb, ub), np.zeros(F.shape[0])
    H = np.zeros((N, N))
    H[range(U, U + K), range(U, U + K)] = 1.0
    # violations of the size of the numbers in play to start with: the method takes its unit from the gradient there
    start = np.zeros(N)
    start[:U] = _inside(lb, ub)
    start[U : U + K] = 1.0 + max((abs(x) for x in g), default=0.0)
    rows = np.stack(G)
    result = minimise(H, H @ start, rows, np.array(g) - rows @ start, max_iter=100)  # in x - start
    q = np.zeros(F.shape[0])
    for (i, sign), multiplier in zip(of, result.multipliers.tolist(), strict=False):  # then come those of the box
        q[i] += sign * multiplier
    return np.clip(start[:U] + result.x[:U], lb, ub), q


def _inside(lb: Array, ub: Array) -> Array:
    """The middle of the box; where it is open, the number nearest to 0."""
    nearest = np.clip(np.zeros_like(lb), lb, ub)
    closed = np.isfinite(lb) & np.isfinite(ub)
    return np.where(closed, 0.5 * np.where(closed, lb, 0.0) + 0.5 * np.where(closed, ub, 0.0), nearest)


def _gradient(
    F: Array, offset: Array, lb: Array, ub: Array, constraints: list[tuple[int, float, float]], ratios: Sequence[float] = ()
) -> Array:
    """Accelerated projected gradient with restarts, in unknowns scaled so that the columns of F have norm 1."""
    norms = np.linalg.norm(F, axis=0)
    scaled = _Matrix(F / norms)
    low, high = lb * norms, ub * norms
    step = 1.0 / max(scaled.largest_eigenvalue(), 1e-300)
    x = _inside(low, high)
    ahead, t, last = x, 1.0, np.inf
    for _ in range(int(min(_STEPS, max(20.0, _WORK / max(scaled.terms, 1))))):
        q = residuals(scaled.dot(ahead) + offset, constraints, ratios)
        value = float(q @ q)
        if value == 0.0:
            return np.asarray(np.clip(ahead / norms, lb, ub))
        new = np.clip(ahead - step * scaled.transposed(q), low, high)
        if value > last:
            t = 1.0  # restart
        t_next = (1.0 + np.sqrt(1.0 + 4.0 * t * t)) / 2.0
        moved = new - x
        if float(np.abs(moved).max()) <= 1e-15 * float(np.abs(new).max()):
            x = new
            break
        ahead = np.clip(new + (t - 1.0) / t_next * moved, low, high)
        x, t, last = new, t_next, value
    return np.asarray(np.clip(x / norms, lb, ub))


class _Matrix:
    """F (rows, u) for products, as a list of its terms where most are zero. No row and no column is all zero."""

    def __init__(self, F: Array) -> None:
        self.F, self.shape = F, F.shape
        self.terms = int(np.count_nonzero(F))
        self.sparse = self.terms < 0.1 * F.size and bool(np.any(F != 0, axis=1).all())
        if self.sparse:
            self.i, self.j = np.nonzero(F)  # by row
            self.a = F[self.i, self.j]
            self.starts = np.searchsorted(self.i, np.arange(F.shape[0]))
        else:
            self.terms = F.size

    def dot(self, x: Array) -> Array:
        return np.asarray(np.add.reduceat(self.a * x[self.j], self.starts) if self.sparse else self.F @ x)

    def transposed(self, q: Array) -> Array:
        if not self.sparse:
            return np.asarray(self.F.T @ q)
        return np.bincount(self.j, weights=self.a * q[self.i], minlength=self.shape[1]).astype(np.float64)

    def largest_eigenvalue(self) -> float:
        """Of F F', or a bound of it."""
        if self.shape[0] <= 500:
            return float(np.linalg.norm(self.F @ self.F.T, 2))
        size = np.abs(self.F)
        return float(min((size * size).sum(), size.sum(0).max() * size.sum(1).max()))
