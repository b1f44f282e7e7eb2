"""The proximal map of the price domain in a diagonal metric: from row values to prices, for every kind of softness.

    prox(v; s) = argmin over p of  sum_k s_k / 2 (p_k - v_k / s_k)^2 + sigma(p)

sigma is the dual cost of the limits: upper p_k for p_k > 0, lower p_k for p_k < 0, width times the flow of a range, with the price
domains of ``fairopt.contract.problem`` (caps rho, quadratic minus p^2 / (2 gamma)). One map gives three things: the solution of separable
problems, the KKT residual p - prox(f + s p; s), and the active set that the residual is zero on.
"""

from __future__ import annotations

import numpy as np

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.range_projection import LEAST_SLOPE, range_flow, range_prices
from fairopt.solve.dual.structure import Numbers, Structure

EPS = 0.5 * float(np.finfo(np.float64).eps)
CONSTANTS = 16.0  # half ulps of a row's constant and limit that its residual does not count


def prox(structure: Structure, numbers: Numbers, v: Array, slopes: Array) -> Array:
    """Prices (m,) for values v = f + s p (m,) and slopes s (m,) > 0. Rows' values include their offsets."""
    L = structure.linear
    theta = np.empty_like(v)
    if L:
        theta[:L] = _linear(numbers, v[:L], slopes[:L])
    if structure.together is not None and structure.slices:
        first = np.array([*(rows.start for rows in structure.slices), structure.slices[-1].stop])
        structure.together(v, np.maximum(slopes, LEAST_SLOPE), first, numbers.width, numbers.rho[L:], 1.0 / numbers.gamma[L:], theta)
        ranges_left: list[tuple[slice, float]] = []
    else:
        ranges_left = list(zip(structure.slices, structure.ratios, strict=True))
    for r, (rows, ratio) in enumerate(ranges_left):
        rho, gamma = float(numbers.rho[L + r]), float(numbers.gamma[L + r])
        theta[rows] = range_prices(v[rows], slopes[rows], float(numbers.width[r]), ratio=ratio, rho=rho, gamma=gamma)
    for linear, ranges, k in structure.blocks:
        if linear.size + ranges.size > 1:  # a single row or range was capped at rho already, which is the same
            budget, rho = _Budget(structure, numbers, v, slopes, linear, ranges), float(numbers.rho[k])
            theta[budget.places] = budget.capped(rho) if rho > 0.0 else 0.0
    return theta


def residual(structure: Structure, numbers: Numbers, f: Array, p: Array) -> Array:
    """(m,) KKT residual of each row, in units of the scores: s_k (p_k - prox_k) / sum_i |A_ki|. 0 at the optimum and only there.

    Prices of contradicting rows grow without end, and f + s p then forgets f: rows by themselves are worked out without that sum, the
    others count at least the rounding that it hides.
    """
    s, L = structure.metric, structure.linear
    theta = prox(structure, numbers, f + s * p, s)
    r = s * (p - theta)
    if L:
        r[:L] = np.where(structure.in_block[:L], r[:L], -s[:L] * _linear_step(numbers, f[:L], p[:L], s[:L]))
    if structure.coupled.any():
        r = np.where(structure.coupled, np.maximum(np.abs(r), EPS * np.abs(s * p)), r)
    return np.asarray(r / structure.unit)


def _linear_step(numbers: Numbers, f: Array, p: Array, s: Array) -> Array:
    """(L,) prox(f + s p) - p of linear rows, from the distances to limits and caps: nothing is lost where s p is far larger than f."""
    L = f.shape[0]
    soft, rho = 1.0 / numbers.gamma[:L], numbers.rho[:L]
    with np.errstate(invalid="ignore"):
        up, down = (f - numbers.upper - p * soft) / (s + soft), (f - numbers.lower - p * soft) / (s + soft)
        return np.where(p + up > 0.0, np.minimum(up, rho - p), np.where(p + down < 0.0, np.maximum(down, -rho - p), -p))


def own_rounding(structure: Structure, numbers: Numbers, p: Array) -> Array:
    """(m,) what the rounding of each row's own constant, and of the limit that binds at prices p, can do to it, in score units.

    A row of large numbers is judged by these, and loosens nothing for the others.
    """
    noise, L = np.abs(numbers.offset), structure.linear
    limit = np.where(p[:L] > 0, np.abs(numbers.upper), np.where(p[:L] < 0, np.abs(numbers.lower), 0.0))
    noise[:L] += np.where(np.isfinite(limit), limit, 0.0)
    for width, rows in zip(numbers.width, structure.slices, strict=True):
        noise[rows] += np.where(p[rows] != 0, abs(width), 0.0)
    return np.asarray(CONSTANTS * EPS * noise / structure.unit)


def _beyond(v: Array, ratio: float, width: float) -> float:
    """How far a range with the row values v (K,) is beyond its width."""
    return ratio * float(v.max()) - float(v.min()) - width


def _linear(numbers: Numbers, v: Array, s: Array) -> Array:
    L = v.shape[0]
    soft = s + 1.0 / numbers.gamma[:L]
    theta = (np.maximum(v - numbers.upper, 0.0) - np.maximum(numbers.lower - v, 0.0)) / soft
    return np.asarray(np.clip(theta, -numbers.rho[:L], numbers.rho[:L]))


class _Budget:
    """One block of rows and ranges under one cap rho: all their limits widened by one distance d until the flows sum to rho."""

    def __init__(self, structure: Structure, numbers: Numbers, v: Array, s: Array, linear: IntArray, ranges: IntArray) -> None:
        self.v, self.s = v[linear], s[linear]
        self.lower, self.upper = numbers.lower[linear], numbers.upper[linear]
        parts = [structure.slices[r] for r in ranges.tolist()]
        self.ranges = [
            (v[part], s[part], float(numbers.width[r]), structure.ratios[r]) for r, part in zip(ranges.tolist(), parts, strict=True)
        ]
        self.places = np.concatenate([linear, *(np.arange(part.start, part.stop) for part in parts)]).astype(np.int64)

    def prices(self, d: float) -> tuple[Array, float]:
        """Prices in the order of ``places``, and their flow. The flow falls with d, convex and piecewise linear."""
        own = (np.maximum(self.v - self.upper - d, 0.0) - np.maximum(self.lower - d - self.v, 0.0)) / self.s
        found, flow = [own], float(np.abs(own).sum())
        for v, s, width, ratio in self.ranges:
            theta = range_prices(v, s, width + d, ratio=ratio)
            flow += range_flow(theta, ratio)
            found.append(theta)
        return np.concatenate(found), flow

    def capped(self, rho: float) -> Array:
        """The prices whose flow is rho, or those at d = 0 where that is less."""
        theta, flow = self.prices(0.0)
        if not flow > rho:  # or NaN, which no residual lets through
            return theta
        low, at_low = (0.0, theta, flow), -1
        beyond = np.maximum(self.v - self.upper, self.lower - self.v)
        beyond = np.concatenate([beyond, [_beyond(v, ratio, width) for v, _, width, ratio in self.ranges]])
        ends = np.unique(beyond[beyond > 0.0])  # where one of them loses its last price
        high, at_high = (float(ends[-1]), np.zeros_like(theta), 0.0), ends.size - 1
        while at_high - at_low > 1:
            middle = (at_low + at_high) // 2
            d = float(ends[middle])
            theta, flow = self.prices(d)
            if flow > rho:
                low, at_low = (d, theta, flow), middle
            else:
                high, at_high = (d, theta, flow), middle
        return self._between(low, high, rho)

    def _between(self, low: tuple[float, Array, float], high: tuple[float, Array, float], rho: float) -> Array:
        """Prices of flow rho from two points around it; where no row ends between them, prices of rows alone are linear there.

        The root in d may lie closer to an end than floats do (rows of size 1 and 1e-30 under one cap): so prices are interpolated, not d.
        """
        side, weigh_low, weigh_high = 0, low[2] - rho, rho - high[2]
        for _ in range(200 if self.ranges else 0):
            d = (low[0] * weigh_high + high[0] * weigh_low) / (weigh_high + weigh_low)
            if not low[0] < d < high[0]:
                break
            theta, flow = self.prices(d)
            if abs(flow - rho) <= 1e-15 * rho:
                return theta * (rho / flow)
            if flow > rho:
                low, weigh_low = (d, theta, flow), flow - rho
                weigh_high, side = (0.5 * weigh_high if side == 1 else weigh_high), 1
            else:
                high, weigh_high = (d, theta, flow), rho - flow
                weigh_low, side = (0.5 * weigh_low if side == -1 else weigh_low), -1
        while not low[2] < np.inf:  # prices beyond float64
            d = 0.5 * (low[0] + high[0])
            if not low[0] < d < high[0]:
                return high[1]
            at = (d, *self.prices(d))
            low, high = (at, high) if at[2] > rho else (low, at)
        share = (rho - high[2]) / (low[2] - high[2])
        return np.asarray(high[1] + share * (low[1] - high[1]))
