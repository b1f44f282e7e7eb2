"""The nearest K values whose range is at most a width, with a ratio: claim L7, with slopes, caps and quadratic softness, by sorting.

    minimise over v   sum_j (v_j - a_j)^2 / (2 s_j)  +  softness( (ratio * max v - min v - width)_+ ),      0 <= ratio <= 1

Prices are theta_j = (a_j - v_j) / s_j. The set is the meet of the half-spaces ratio v_i - v_j <= width over all i, j, so that prices are

    theta = sum_ij x_ij (ratio e_i - e_j),  x >= 0,   at the cost of width * q,   q = sum_ij x_ij  the *flow*.

With P and N the sums of theta's positive and negative parts, such x exist where P <= ratio N, and q = (N - P) / (1 - ratio) (ratio < 1);
for ratio = 1 where P = N, and q = N. Two cases:

- *split*: P = ratio N, q = N. v = clip(a, t, u) with ratio u - t = width + d. Everything is a function of q alone: the lower level t(q)
  rises, the upper one u(ratio q) falls, both piecewise linear, and q solves  ratio u(ratio q) - t(q) = width + d(q)
- *apex* (only for ratio < 1): the levels would cross, and all v are one number c = -(width + d) / (1 - ratio), the tip of the cone

with d = 0 (hard), q / gamma (quadratic), or anything once q = rho (priced). A width below 0 is a set as well where ratio < 1.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from fairopt.basics.arrays import Array

INF = float("inf")
LEAST, MOST = 5e-324, 1e290  # weights where slopes are beyond float64 either way: nothing is divided by 0
LEAST_SLOPE = 1.0 / MOST
FEW = 256
SPLIT = 1e-12  # prices this near to balance, relative to N, are split


def range_prices(a: Array, slopes: Array, width: float, *, ratio: float = 1.0, rho: float = INF, gamma: float = INF) -> Array:
    """Prices theta (K,) of the projection of ``a`` (K,) onto {ratio * max - min <= width} with slopes s (K,) > 0.

    ``rho`` caps the flow (priced softness), ``gamma`` is the quadratic weight; both infinite: hard. O(K log K).
    """
    order = a.argsort()
    low = a[order]  # rising
    bottom, top = float(low[0]), float(low[-1])
    start = ratio * top - bottom - width
    if start <= 0.0:
        return np.zeros_like(a)
    inverse = np.minimum(1.0 / slopes, MOST)
    weight = inverse[order]
    upper, lower = _Side(top - low[::-1], weight[::-1]), _Side(low - bottom, weight)
    # the excess falls and is convex in q: Newton from q = 0 is monotone and ends on the piece of its root
    softness = 0.0 if gamma == INF else 1.0 / gamma
    q = 0.0
    for _ in range(2 * a.shape[0] + 2):
        i, j = _apart(upper, lower, q, ratio)
        excess = start - ratio * upper.depth(ratio * q, i) - lower.depth(q, j) - q * softness
        step = excess / (ratio * ratio / upper.total[i] + 1.0 / lower.total[j] + softness)
        q = max(q + step, 0.0)
        if step <= 0.0 or _apart(upper, lower, q, ratio) == (i, j):
            break
    q = min(q, rho)
    up = ratio * q
    i, j = _apart(upper, lower, q, ratio)
    if ratio < 1.0 and top - upper.depth(up, i) < bottom + lower.depth(q, j):
        return _apex(a, inverse, width, ratio, softness, rho)
    theta = np.zeros_like(a)
    theta[order[: j + 1]] = -lower.parts(q, j)
    theta[order[::-1][: i + 1]] += upper.parts(up, i)
    return theta


def _apart(upper: _Side, lower: _Side, q: float, ratio: float) -> tuple[int, int]:
    """The last members that the two levels have pushed at flow q; none is pushed by both, or both levels would be at one number.

    By rounding one may be: beside a huge weight the excess of that piece is nothing but rounding, and its slope as good as 0.
    """
    i, j = upper.pushed(ratio * q), lower.pushed(q)
    while i + j + 2 > len(upper.flows):
        if i > 0 and (j == 0 or upper.flows[i] >= ratio * lower.flows[j]):
            i -= 1
        else:
            j -= 1
    return i, j


def range_flow(theta: Array, ratio: float) -> float:
    """The flow q of prices theta (K,) in the price domain: what the width costs."""
    positive = float(np.maximum(theta, 0.0).sum())
    if ratio == 1.0:
        return positive
    negative = -float(np.minimum(theta, 0.0).sum())
    return (negative - positive) / (1.0 - ratio) if at_apex(positive, negative, ratio) else negative


def at_apex(positive: float, negative: float, ratio: float) -> bool:
    """Whether prices with these sums of parts stand at the tip: all values are one number there."""
    return ratio < 1.0 and positive < ratio * negative * (1.0 - SPLIT)


def at_tip(theta: Array, ratio: float) -> bool:
    """``at_apex`` of prices theta (K,)."""
    return ratio < 1.0 and at_apex(float(np.maximum(theta, 0.0).sum()), -float(np.minimum(theta, 0.0).sum()), ratio)


def in_domain(theta: Array, ratio: float) -> bool:
    """Whether prices theta (K,) are a range's with a ratio below 1, up to rounding."""
    negative = -float(np.minimum(theta, 0.0).sum())
    return float(np.maximum(theta, 0.0).sum()) <= ratio * negative * (1.0 + SPLIT)


def flow_derivative(theta: Array, d: Array, ratio: float) -> float:
    """The directional derivative of the flow at theta (K,) along d (K,), which stays in the price domain for a while."""
    rising = (theta > 0) | ((theta == 0) & (d > 0))
    positive = float(d[rising].sum())
    if ratio == 1.0:
        return positive
    negative = -float(d[~rising].sum())
    spare = ratio * negative - positive  # what P stays behind ratio N by; 0 from split to split
    return negative + (spare / (1.0 - ratio) if abs(spare) > SPLIT * float(np.abs(d).sum()) else 0.0)


def width_shares(theta: Array, ratio: float) -> Array:
    """(K,) d limit_j / d width on the piece of theta, 0 for members that are not held. Their product with theta is the flow.

    Split: members at the upper level have the limit width + nu, those at the lower one (ratio - 1) width + ratio nu, for one level nu
    (``level_shares``); at the tip every limit is -width / (1 - ratio), also of a member whose price there is 0.
    """
    if at_tip(theta, ratio):
        return np.full_like(theta, -1.0 / (1.0 - ratio))
    return np.asarray(np.where(theta > 0.0, 1.0, np.where(theta < 0.0, ratio - 1.0, 0.0)))


def level_shares(theta: Array, ratio: float) -> Array:
    """(K,) d limit_j / d nu on the piece of theta: split prices balance, level_shares . theta = 0; all 0 at the tip."""
    if at_tip(theta, ratio):
        return np.zeros_like(theta)
    return np.asarray(np.where(theta > 0.0, 1.0, np.where(theta < 0.0, ratio, 0.0)))


def _apex(a: Array, inverse: Array, width: float, ratio: float, softness: float, rho: float) -> Array:
    """Prices at the tip: all values are c = -(width + d) / (1 - ratio), and their sum is -(1 - ratio) q."""
    rest = 1.0 - ratio
    total, weight = float((a * inverse).sum()), float(inverse.sum())
    q = -(rest * total + weight * width) / (rest * rest + weight * softness)
    tip = (total + rest * rho) / weight if q > rho else -(width + softness * q) / rest
    return (a - tip) * inverse


class _Side:
    """A level pushed over the members from one end. depths (K,) of the members rise from 0; weights (K,) = 1 / slope.

    ``flows``: the flow at which the level reaches each member; ``total``: weight of the members up to each.
    """

    # Prices come from the depth below the last member that is pushed, never from the level itself: what a level rounds to beside huge
    # weights (samples of weight 1e-12 among others of 1e12) is more than the whole flow.

    def __init__(self, depths: Array, weights: Array) -> None:
        total = np.maximum(weights.cumsum(), LEAST)
        flows = np.zeros_like(depths)
        np.cumsum(np.diff(depths) * total[:-1], out=flows[1:])  # terms of one sign: no digit is lost beside a huge weight
        self.members, self.weights = depths, weights
        # lists are quicker to look into, and take longer to make than a search in thousands
        few = depths.shape[0] <= FEW
        self.depths: Array | list[float] = depths.tolist() if few else depths
        self.flows: Array | list[float] = flows.tolist() if few else flows
        self.total: Array | list[float] = total.tolist() if few else total

    def pushed(self, q: float) -> int:
        """The last member that a flow q pushes (the first one always)."""
        flows = self.flows
        return max((bisect_right(flows, q) if isinstance(flows, list) else int(flows.searchsorted(q, "right"))) - 1, 0)

    def depth(self, q: float, k: int) -> float:
        """The level's depth at flow q where members 0 .. k are pushed."""
        return float(self.depths[k] + (q - self.flows[k]) / self.total[k])

    def parts(self, q: float, k: int) -> Array:
        """(k + 1,) what each member that is pushed takes of the flow q: they sum to it, to rounding."""
        below = (self.depths[k] - self.members[: k + 1]) + max(q - self.flows[k], 0.0) / self.total[k]
        parts = np.asarray(self.weights[: k + 1] * below)
        total = float(parts.sum())
        return parts * (q / total) if total > 0.0 else parts
