"""The nearest K values whose range is at most a width: claim L7, with slopes, caps and quadratic softness, by sorting.

    minimise over v   sum_j (v_j - a_j)^2 / (2 s_j)  +  softness( (max v - min v - width)_+ )

The answer is v = clip(a, t, t + width + d) with a softness distance d >= 0. Prices are theta_j = (a_j - v_j) / s_j; they sum to 0, and the
positive ones sum to the flow q. Everything is a function of q alone: the upper level u(q) falls and the lower level t(q) rises,
both piecewise linear, and q solves  u(q) - t(q) = width + d(q)  with d = 0 (hard), q / gamma (quadratic), or anything once
q = rho (priced).
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from fairopt.arrays import Array

INF = float("inf")


def range_prices(a: Array, slopes: Array, width: float, *, rho: float = INF, gamma: float = INF) -> Array:
    """Prices theta (K,) of the projection of ``a`` (K,) onto {max - min <= width} with slopes s (K,) > 0.

    ``rho`` caps the flow (priced softness), ``gamma`` is the quadratic weight; both infinite: hard. O(K log K).
    """
    order = a.argsort()
    low = a[order]  # rising
    bottom, top = float(low[0]), float(low[-1])
    if top - bottom <= width:
        return np.zeros_like(a)
    inverse = 1.0 / slopes
    weight = inverse[order]
    upper, lower = _Side(top - low[::-1], weight[::-1]), _Side(low - bottom, weight)
    # u(q) - t(q) - width - q / gamma falls and is convex: Newton from q = 0 is monotone and ends on the piece of its root
    softness = 0.0 if gamma == INF else 1.0 / gamma
    q = 0.0
    for _ in range(2 * a.shape[0] + 2):
        i, j = upper.pushed(q), lower.pushed(q)
        excess = top - bottom - width - upper.depth(q, i) - lower.depth(q, j) - q * softness
        step = excess / (1.0 / upper.total[i] + 1.0 / lower.total[j] + softness)
        q = max(q + step, 0.0)
        if step <= 0.0 or (upper.pushed(q) == i and lower.pushed(q) == j):
            break
    q = min(q, rho)
    above = np.maximum(a - (top - upper.depth(q, upper.pushed(q))), 0.0) * inverse
    below = np.maximum((bottom + lower.depth(q, lower.pushed(q))) - a, 0.0) * inverse
    return _balanced(above, inverse, q) - _balanced(below, inverse, q)


class _Side:
    """A level pushed over the members from one end. depths (K,) of the members rise from 0; weights (K,) = 1 / slope.

    ``flows``: the flow at which the level reaches each member; ``total``: weight of the members up to each.
    """

    def __init__(self, depths: Array, weights: Array) -> None:
        total = weights.cumsum()
        flows = np.zeros_like(depths)
        np.cumsum(np.diff(depths) * total[:-1], out=flows[1:])  # terms of one sign: no digit is lost beside a huge weight
        self.depths: list[float] = depths.tolist()
        self.flows: list[float] = flows.tolist()
        self.total: list[float] = total.tolist()

    def pushed(self, q: float) -> int:
        """The last member that a flow q pushes (the first one always)."""
        return max(bisect_right(self.flows, q) - 1, 0)

    def depth(self, q: float, k: int) -> float:
        """The level's depth at flow q where members 0 .. k are pushed."""
        return self.depths[k] + (q - self.flows[k]) / self.total[k]


def _balanced(flows: Array, inverse: Array, q: float) -> Array:
    """``flows`` (K,) with sum q to rounding: a level is only known to rounding, which a tiny slope magnifies."""
    excess = float(flows.sum()) - q
    if abs(excess) <= 4e-16 * q:
        return flows
    pushed = flows > 0.0
    if not pushed.any():
        return flows
    return np.maximum(np.where(pushed, flows - excess * (inverse / inverse[pushed].sum()), 0.0), 0.0)
