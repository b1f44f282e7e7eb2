"""The least sum of squared violations of some constraints inside a box, with a Farkas certificate where it is positive.

    minimise  1/2 sum_k d_k^2    over u in [lb, ub],   d_k the violation of constraint k by f = F u + offset

Few unknowns: the interior point method, exact to about 1e-12. Many (dense rows of a large batch): accelerated projected gradient.
The residuals q of f make a certificate: if the least value of q . f over the box is above the largest value of q . v over all v that
meet the constraints, no u does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairopt.numerics.interior_point import minimise
from fairopt.numerics.range_projection import range_flow, range_prices
from fairopt.problem import Array

_FEW = 400  # unknowns plus constraints that the interior point method takes
_STEPS = 4000


@dataclass(frozen=True, eq=False)
class Region:
    """matrix (rows, u) and offset (rows,) of the constraints' rows in turn; box lb, ub (u,); constraints (rows, lower, upper) or
    (rows, nan, width); ratios: one a constraint, empty where all are 1."""

    matrix: Array
    offset: Array
    lb: Array
    ub: Array
    constraints: tuple[tuple[int, float, float], ...]
    ratios: tuple[float, ...] = ()

    def slices(self) -> list[slice]:
        ends = np.cumsum([0, *(rows for rows, _, _ in self.constraints)]).tolist()
        return [slice(a, b) for a, b in itertools.pairwise(ends)]


@dataclass(frozen=True, eq=False)
class LeastViolation:
    """feasible; the rows' values at the least violation, one array a constraint; support: the constraints in the certificate."""

    feasible: bool
    rows: list[Array]
    support: list[int]


def least_violation(region: Region, chosen: list[int]) -> LeastViolation:
    """Solve for the constraints ``chosen`` of the region."""
    slices = region.slices()
    index = np.concatenate([np.arange(slices[k].start, slices[k].stop) for k in chosen])
    F, offset = region.matrix[index], region.offset[index]
    used = np.flatnonzero(np.any(F != 0, axis=0))  # unknowns that matter
    F, lb, ub = F[:, used], region.lb[used], region.ub[used]
    constraints = [region.constraints[k] for k in chosen]
    ratios = [region.ratios[k] for k in chosen] if region.ratios else []
    few = F.shape[1] + F.shape[0] <= _FEW
    u = _interior(F, offset, lb, ub, constraints, ratios) if few else _gradient(F, offset, lb, ub, constraints, ratios)
    f = F @ u + offset
    q = residuals(f, constraints, ratios)
    parts = [f[s] for s in _slices(constraints)]
    finite = [abs(x) for _, a, b in constraints for x in (a, b) if np.isfinite(x)]
    size = max([*finite, float(np.abs(offset).max(initial=0.0)), float(np.abs(f).max(initial=0.0)), 1e-300])
    worst = float(np.abs(q).max(initial=0.0))
    if worst <= 1e-9 * size or (worst <= 1e-6 * size and not _proves_infeasible(q, F, offset, lb, ub, constraints, ratios)):
        return LeastViolation(True, parts, [])
    support = [k for k, s in zip(chosen, _slices(constraints), strict=True) if float(np.abs(q[s]).max(initial=0.0)) > 1e-7 * worst]
    return LeastViolation(False, parts, support)


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
    points = np.sort(np.concatenate([f, f - width]))
    values = np.array([np.maximum(t - f, 0).sum() - np.maximum(f - t - width, 0).sum() for t in points])
    k = int(np.searchsorted(values, 0.0))
    if k == 0 or values[min(k, len(values) - 1)] == 0:
        return float(points[min(k, len(points) - 1)])
    share = -values[k - 1] / (values[k] - values[k - 1])
    return float(points[k - 1] + share * (points[k] - points[k - 1]))


def _interior(
    F: Array, offset: Array, lb: Array, ub: Array, constraints: list[tuple[int, float, float]], ratios: Sequence[float] = ()
) -> Array:
    """Unknowns (u, violation of each constraint, floor of each range)."""
    U, K = F.shape[1], len(constraints)
    is_range = [bool(np.isnan(a)) for _, a, _ in constraints]
    floors = np.cumsum(is_range) - 1
    N = U + K + sum(is_range)
    G: list[Array] = []
    g: list[float] = []

    def ask(row: Array | None, sign: float, violation: int, floor: int, limit: float) -> None:
        """sign * F_row u - violation - sign * floor <= limit."""
        line = np.zeros(N)
        if row is not None:
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
                ratio = ratios[k] if ratios else 1.0
                ask(ratio * F[i], 1.0, k, int(floors[k]), b - ratio * offset[i])
                ask(F[i], -1.0, -1, int(floors[k]), offset[i])
            else:
                if np.isfinite(b):
                    ask(F[i], 1.0, k, -1, b - offset[i])
                if np.isfinite(a):
                    ask(F[i], -1.0, k, -1, offset[i] - a)
    identity = np.eye(U)
    for j in range(U):
        if np.isfinite(ub[j]):
            ask(identity[j], 1.0, -1, -1, float(ub[j]))
        if np.isfinite(lb[j]):
            ask(identity[j], -1.0, -1, -1, -float(lb[j]))
    H = np.zeros((N, N))
    H[range(U, U + K), range(U, U + K)] = 1.0
    # violations of the size of the numbers in play to start with: the method takes its unit from the gradient there
    start = np.zeros(N)
    start[:U] = _inside(lb, ub)
    start[U : U + K] = 1.0 + max((abs(x) for x in g), default=0.0)
    rows = np.stack(G)
    result = minimise(H, H @ start, rows, np.array(g) - rows @ start, max_iter=100)  # in x - start
    return np.clip(start[:U] + result.x[:U], lb, ub)


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
    scaled = F / norms
    low, high = lb * norms, ub * norms
    step = 1.0 / max(_largest_eigenvalue(scaled), 1e-300)
    x = _inside(low, high)
    ahead, t, last = x, 1.0, np.inf
    for _ in range(_STEPS):
        q = residuals(scaled @ ahead + offset, constraints, ratios)
        value = float(q @ q)
        if value == 0.0:
            return np.asarray(np.clip(ahead / norms, lb, ub))
        new = np.clip(ahead - step * (scaled.T @ q), low, high)
        if value > last:
            t = 1.0  # restart
        t_next = (1.0 + np.sqrt(1.0 + 4.0 * t * t)) / 2.0
        moved = new - x
        if float(np.abs(moved).max()) <= 1e-15 * (1.0 + float(np.abs(new).max())):
            x = new
            break
        ahead = np.clip(new + (t - 1.0) / t_next * moved, low, high)
        x, t, last = new, t_next, value
    return np.asarray(np.clip(x / norms, lb, ub))


def _largest_eigenvalue(F: Array) -> float:
    return float(np.linalg.norm(F @ F.T, 2)) if F.shape[0] <= 2000 else float((F * F).sum())


def _proves_infeasible(
    q: Array, F: Array, offset: Array, lb: Array, ub: Array, constraints: list[tuple[int, float, float]], ratios: Sequence[float] = ()
) -> bool:
    """Whether the least of q . f over the box exceeds the largest q . v over the values v that meet the constraints."""
    weight = q @ F
    weight = np.where(np.abs(weight) <= 1e-7 * float(np.abs(q).max()) * np.abs(F).max(0), 0.0, weight)
    ends = np.where(weight > 0, lb, ub)
    if np.any((weight != 0) & ~np.isfinite(ends)):
        return False
    least = float(np.sum(np.where(weight != 0, weight * np.where(np.isfinite(ends), ends, 0.0), 0.0))) + float(q @ offset)
    most = 0.0
    for (_, a, b), ratio, s in zip(constraints, ratios or [1.0] * len(constraints), _slices(constraints), strict=True):
        if np.isnan(a):
            most += b * range_flow(q[s], ratio)
        elif q[s][0] != 0:
            most += float(q[s][0]) * (b if q[s][0] > 0 else a)
    return least > most
