"""The proximal map of the price domain in a diagonal metric: from row values to prices, for every kind of softness.

    prox(v; s) = argmin over p of  sum_k s_k / 2 (p_k - v_k / s_k)^2 + sigma(p)

sigma is the dual cost of the limits: upper p_k for p_k > 0, lower p_k for p_k < 0, width times the flow of a range, with the price
domains of ``fairopt.contract.problem`` (caps rho, quadratic minus p^2 / (2 gamma)). One map gives three things: the solution of separable
problems, the KKT residual p - prox(f + s p; s), and the active set that the residual is zero on.
"""

from __future__ import annotations

import numpy as np

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.range_projection import range_flow, range_prices
from fairopt.solve.dual.structure import Numbers, Structure

EPS = 0.5 * float(np.finfo(np.float64).eps)
NEARLY = 1e-3  # of a budget: what is left of it by rounding alone
CONSTANTS = 16.0  # half ulps of a row's constant and limit that its residual does not count


def prox(structure: Structure, numbers: Numbers, v: Array, slopes: Array) -> Array:
    """Prices (m,) for values v = f + s p (m,) and slopes s (m,) > 0. Rows' values include their offsets."""
    L = structure.linear
    theta = np.empty_like(v)
    if L:
        theta[:L] = _linear(numbers, v[:L], slopes[:L])
    for r, (rows, ratio) in enumerate(zip(structure.slices, structure.ratios, strict=True)):
        rho, gamma = float(numbers.rho[L + r]), float(numbers.gamma[L + r])
        theta[rows] = range_prices(v[rows], slopes[rows], float(numbers.width[r]), ratio=ratio, rho=rho, gamma=gamma)
    for linear, ranges, k in structure.blocks:
        _budget(structure, numbers, v, slopes, linear, ranges, float(numbers.rho[k]), theta)
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


def _budget(
    structure: Structure, numbers: Numbers, v: Array, s: Array, linear: IntArray, ranges: IntArray, rho: float, theta: Array
) -> None:
    """Fill in the prices of one budget block: widen all its limits by one distance d until the flows sum to rho.

    A single row or range was capped at rho already, which is the same.
    """
    if linear.size + ranges.size == 1:
        return
    if not rho > 0.0:
        theta[linear] = 0.0
        for r in ranges.tolist():
            theta[structure.slices[r]] = 0.0
        return
    lower, upper = numbers.lower[linear], numbers.upper[linear]
    vl, sl = v[linear], s[linear]

    def fill(d: float) -> float:
        t = (np.maximum(vl - upper - d, 0.0) - np.maximum(lower - d - vl, 0.0)) / sl
        theta[linear] = t
        flow = float(np.abs(t).sum())
        for r in ranges.tolist():
            rows = structure.slices[r]
            theta[rows] = range_prices(v[rows], s[rows], float(numbers.width[r]) + d, ratio=structure.ratios[r])
            flow += range_flow(theta[rows], structure.ratios[r])
        return flow

    low, excess_low = 0.0, fill(0.0) - rho
    if excess_low <= 0:
        return
    high = max(
        float((np.maximum(vl - upper, lower - vl)).max(initial=0.0)),
        max((_beyond(v[structure.slices[r]], structure.ratios[r], float(numbers.width[r])) for r in ranges.tolist()), default=0.0),
    )
    # flow(d) falls from flow(0) > rho to 0 and is convex and piecewise linear: Newton from the left is monotone and finite
    excess_high = excess = -rho
    side = 0
    for _ in range(200):
        d = (low * excess_high - high * excess_low) / (excess_high - excess_low) if excess_high != excess_low else 0.5 * (low + high)
        excess = fill(d) - rho
        if abs(excess) <= 1e-15 * rho or not low < d < high:
            break
        if excess > 0:
            low, excess_low = d, excess
            excess_high = 0.5 * excess_high if side == 1 else excess_high
            side = 1
        else:
            high, excess_high = d, excess
            excess_low = 0.5 * excess_low if side == -1 else excess_low
            side = -1
    if abs(excess) <= NEARLY * rho:  # large v hide the last digits of d: the flow is rho all the same, and reads as such
        for part in (linear, *(structure.slices[r] for r in ranges.tolist())):
            theta[part] *= rho / (rho + excess)
