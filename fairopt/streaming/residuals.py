"""Residuals of the group means: how far each is from the nearest allowed means, in a metric c.

    range family:     min over t of  sum_g c_g dist(M_g, [t, t + eps])^2,    r_g = M_g - clip(M_g, t, t + eps)
    anchored family:  the interval [lower, upper] stands still,              r_g = M_g - clip(M_g, lower, upper)

``t`` is the root of the increasing function ``h(t) = sum_g c_g [(t - M_g)_+ - (M_g - eps - t)_+]``, found by walking its 2K sorted
breakpoints (claim L7 with c_g in the place of n_g). Plain floats, O(K log K).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def range_base(means: Sequence[float], metric: Sequence[float], eps: float) -> float:
    """The root t of h; any root where there is an interval of them (the residuals are the same, namely 0)."""
    low, high = min(means), max(means)
    if high - low <= eps:
        return high - eps
    events = sorted([(m - eps, -c) for m, c in zip(means, metric, strict=True)] + [(m, c) for m, c in zip(means, metric, strict=True)])
    at = events[0][0]
    slope = sum(metric)
    height = sum(-c * (m - eps - at) for m, c in zip(means, metric, strict=True))
    for point, change in events:
        step = slope * (point - at)
        if height + step >= 0.0 and slope > 0.0:
            return at - height / slope
        height += step
        at = point
        slope += change
    return at


def residual(mean: float, lower: float, upper: float) -> float:
    """r = M - clip(M, lower, upper)."""
    return mean - upper if mean > upper else mean - lower if mean < lower else 0.0


def range_residuals(means: Sequence[float], metric: Sequence[float], eps: float) -> list[float]:
    """r (K,): all zero when the range is at most eps."""
    if len(means) == 2:
        difference = means[0] - means[1]
        excess = difference - eps if difference > eps else difference + eps if difference < -eps else 0.0
        total = metric[0] + metric[1]
        return [excess * metric[1] / total, -excess * metric[0] / total]
    if max(means) - min(means) <= eps:
        return [0.0] * len(means)
    t = range_base(means, metric, eps)
    return [residual(m, t, t + eps) for m in means]


def increasing_root(f: Callable[[float], float], low: float, high: float, f_low: float, f_high: float, size: float = 1.0) -> float:
    """A root of an increasing continuous f with f(low) <= 0 <= f(high), to the last float or so; ``size``: the width of the scores' box.

    Illinois' false position: exact in one step once the bracket lies in one linear piece, and never slower than a bisection for long
    (three steps without halving the bracket force one).
    """
    if f_low >= 0.0:
        return low
    if f_high <= 0.0:
        return high
    side = 0
    slow = 0
    for _ in range(200):
        width = high - low
        x = (low * f_high - high * f_low) / (f_high - f_low) if slow < 3 else low + 0.5 * width
        if not low < x < high:
            x = low + 0.5 * width
            if not low < x < high:
                break
        y = f(x)
        if y == 0.0:
            return x
        if y < 0.0:
            low, f_low = x, y
            f_high = f_high * 0.5 if side == -1 else f_high
            side = -1
        else:
            high, f_high = x, y
            f_low = f_low * 0.5 if side == 1 else f_low
            side = 1
        slow = slow + 1 if high - low > 0.5 * width else 0
        if high - low <= 4e-16 * max(abs(low), abs(high), 1e-3 * size):
            break
    return low if -f_low < f_high else high
