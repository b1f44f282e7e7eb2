"""The optimality conditions of a projection problem, recomputed from its definition: what decides whether a reference is accepted.

Conditions (claim L8 and DESIGN 1), for scores z, prices p and f = A y + offset:

    y = clip(z - A^T p / w, lb, ub)            stationarity, clamping included
    every constraint is met                    (hard ones)
    a price is non-zero only where its limit binds, capped for priced and budget, equal to gamma * violation for quadratic

All residuals are relative: scores to the largest |score| around, a row to sum |A_ki| * max|y| + |offset|, a price to the price that
would move some sample by that largest score. Each condition "this or that is zero" counts the smaller of the two.
Independent of fairopt.basics on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fairopt.basics.arrays import Array
from fairopt.contract.problem import ProjectionProblem


@dataclass(frozen=True)
class Residuals:
    """Relative residuals of the optimality conditions."""

    stationarity: float
    violation: float
    complementarity: float

    @property
    def worst(self) -> float:
        return max(self.stationarity, self.violation, self.complementarity)


@dataclass(frozen=True, eq=False)
class Dense:
    """A problem written out: A (m, n), offset (m,), w (n,), lb (n,), ub (n,), all float64 numpy."""

    a: Array
    offset: Array
    w: Array
    lb: Array
    ub: Array


def written_out(problem: ProjectionProblem) -> Dense:
    """The problem's matrices from its masks and scales, sample by sample."""
    rows, n = problem.rows, problem.n
    members = rows.masks[:, rows.cell.numpy()].astype(np.float64)  # (M, n)
    a = rows.scales @ (members / members.sum(axis=1, keepdims=True)) if members.size else np.zeros((rows.m, n))
    if rows.dense is not None:
        for weights, k in zip(rows.dense.numpy(), rows.dense_rows.tolist(), strict=True):
            a[k] += weights
    w = np.ones(n) if problem.weights is None else problem.weights.numpy()
    lb, ub = (np.broadcast_to(b.numpy() if isinstance(b, torch.Tensor) else float(b), (n,)) for b in (problem.lb, problem.ub))
    return Dense(np.asarray(a), rows.offset, np.asarray(w), np.asarray(lb), np.asarray(ub))


def size_of(scores: Array, y: Array) -> float:
    """The largest |score| around, 1 when all are 0: what scores are relative to."""
    return max(float(np.abs(scores).max()), float(np.abs(y).max())) or 1.0


def price_unit(d: Dense, scale: float) -> Array:
    """(m,) the price that moves some sample by ``scale``; 1 for a row that moves none."""
    pull = (np.abs(d.a) / d.w).max(axis=1)
    return np.asarray(np.where(pull > 0.0, scale / np.where(pull > 0.0, pull, 1.0), 1.0))


@dataclass(frozen=True)
class Constraint:
    """One constraint at a point: its signed distance beyond its limit (< 0: inside) and its price, each with its scale.

    beyond  distance beyond the nearer limit that the price points at: > 0 violated, 0 at the limit, < 0 inside
    price   >= 0 when it points outward;  row_scale, price_scale: what these two are relative to
    """

    kind: str
    weight: float
    block: int
    beyond: float
    price: float
    row_scale: float
    price_scale: float


def residuals(problem: ProjectionProblem, scores: Array, y: Array, prices: Array) -> Residuals:
    """The relative residuals at y (n,), prices (m,). Raises nothing: NaN anywhere gives inf."""
    nothing = Residuals(np.inf, np.inf, np.inf)
    if not (np.isfinite(y).all() and np.isfinite(prices).all()):
        return nothing
    d = written_out(problem)
    with np.errstate(all="ignore"):
        f = d.a @ y + d.offset
        expected = np.clip(scores - (d.a.T @ prices) / d.w, d.lb, d.ub)
        scale = size_of(scores, y)
        outside = float(np.maximum(d.lb - y, y - d.ub).max())
        stationarity = float(np.abs(y - expected).max()) / scale
    if not (np.isfinite(f).all() and np.isfinite(stationarity)):  # min and max would pass over NaN
        return nothing
    row_scale = np.abs(d.a).sum(axis=1) * max(float(np.abs(y).max()), 1e-3 * scale) + np.abs(d.offset)
    row_scale[row_scale == 0.0] = 1.0
    price_scale = price_unit(d, scale)
    violation = max(0.0, outside / scale)
    complementarity = 0.0
    constraints, membership = _constraints(problem, f, prices, row_scale, price_scale)
    complementarity = max(complementarity, membership)
    blocks: dict[int, list[Constraint]] = {}
    for c in constraints:
        if c.kind == "budget":
            blocks.setdefault(c.block, []).append(c)
            continue
        broken, slack = _single(c)
        violation, complementarity = max(violation, broken), max(complementarity, slack)
    for block in blocks.values():
        complementarity = max(complementarity, _budget(block))
    return Residuals(float(stationarity), float(violation), float(complementarity))


def _constraints(
    problem: ProjectionProblem, f: Array, prices: Array, row_scale: Array, price_scale: Array
) -> tuple[list[Constraint], float]:
    """The constraints as ``Constraint``, and the residual of the inner conditions of ranges (who may carry a price)."""
    found, inner = [], 0.0
    for k, softness in enumerate(problem.softness[: problem.linear]):
        above, below = f[k] - problem.upper[k], problem.lower[k] - f[k]
        if above > max(below, 0.0) or below > max(above, 0.0):  # violated: the side is the violated one
            sign = 1.0 if above > below else -1.0
        else:
            sign = 1.0 if prices[k] > 0 or (prices[k] == 0 and above > below) else -1.0
        beyond = above if sign > 0 else below
        found.append(
            Constraint(softness.kind, softness.weight, softness.block, float(beyond), float(sign * prices[k]), row_scale[k], price_scale[k])
        )
    for r, (block, width) in enumerate(zip(problem.range_slices, problem.width, strict=True)):
        values, p = f[block], prices[block]
        rows, cost = float(row_scale[block].max()), float(price_scale[block].min())
        ratio = float(problem.ratio[r])
        up, down = float(np.maximum(p, 0.0).sum()), float(np.maximum(-p, 0.0).sum())
        if ratio == 1.0:
            flow, unbalanced = up, abs(up - down) / cost
        else:  # the sum is (ratio - 1) flow; up = ratio * down, or less where all rows are equal
            flow, spare = (down - up) / (1.0 - ratio), (ratio * down - up) / cost
            unbalanced = max(-spare, min(spare, float(np.ptp(values)) / rows))
        inner = max(inner, unbalanced)
        top, bottom = (values.max() - values) / rows, (values - values.min()) / rows
        inner = max(inner, float(np.minimum(np.maximum(p, 0.0) / cost, top).max()))
        inner = max(inner, float(np.minimum(np.maximum(-p, 0.0) / cost, bottom).max()))
        softness = problem.softness[problem.linear + r]
        beyond = float(ratio * values.max() - values.min() - width)
        found.append(Constraint(softness.kind, softness.weight, softness.block, beyond, flow, rows, cost))
    return found, inner


def _single(c: Constraint) -> tuple[float, float]:
    """(violation, complementarity) of a constraint that stands alone."""
    beyond, price = c.beyond / c.row_scale, c.price / c.price_scale
    wrong_way = max(0.0, -price)  # a price that pulls towards the violated side
    if c.kind == "hard":
        return max(0.0, beyond), max(min(abs(price), max(0.0, -beyond)), min(wrong_way, max(0.0, beyond)))
    if c.kind == "quadratic":
        target = c.weight * max(0.0, c.beyond)
        return 0.0, min(abs(c.price - target) / c.price_scale, abs(max(0.0, c.beyond) - c.price / c.weight) / c.row_scale)
    cap = c.weight / c.price_scale
    over = max(0.0, abs(price) - cap)
    if beyond > 0:  # violated: the price is at its cap
        return 0.0, max(over, min(beyond, abs(cap - price)))
    return 0.0, max(over, min(abs(price), -beyond))


def _budget(block: list[Constraint]) -> float:
    """rho * max of the distances: prices sum to rho where the largest distance is positive, and only constraints there carry one."""
    rho = block[0].weight
    unit = max(c.price_scale for c in block)
    largest = max(max(c.beyond, 0.0) for c in block)
    rows = max(c.row_scale for c in block)
    spent = sum(abs(c.price) for c in block)
    worst = max(0.0, spent - rho) / unit
    worst = max(worst, min(largest / rows, max(0.0, rho - spent) / unit))
    # the largest distance is known as far as its own row resolves it, which may be far coarser than another row of the block
    resolved = max((c.row_scale for c in block if c.beyond == largest), default=0.0)
    for c in block:
        worst = max(worst, min(abs(c.price) / c.price_scale, abs(c.beyond - largest) / max(c.row_scale, resolved)))
        worst = max(worst, min(max(0.0, -c.price) / c.price_scale, max(0.0, c.beyond) / c.row_scale))
    return worst
