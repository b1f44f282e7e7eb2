"""The exact derivative of the projection at a generic point, and the test whether a point is generic.

J v = D_F (v - W^-1 C^T (C W^-1 D_F C^T + Gamma^-1)^-1 C D_F v): claim L4 and DESIGN 7, on the piece of ``fairopt.testing.active``.
"""

from __future__ import annotations

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.contract.problem import ProjectionProblem
from fairopt.testing.active import Piece, piece_at
from fairopt.testing.draws import Draw
from fairopt.testing.optimality import price_unit, size_of, written_out
from fairopt.testing.oracle import OracleSolution, accepted_oracle

MARGIN = 1e-3


def exact_jacobian(draw: Draw, solution: OracleSolution) -> Array:
    """(n, n): d y_i / d z_j of ``solution`` of ``draw``, by the active-set formula. Meaningful where ``is_generic`` holds.

    Examples:
        >>> from fairopt.testing import draw, exact_jacobian, solve_oracle
        >>> drawn = draw("pairs", seed=3, n=5)
        >>> exact_jacobian(drawn, solve_oracle(drawn)).shape
        (5, 5)
    """
    piece = piece_at(draw.problem, draw.scores.numpy(), solution.y, solution.prices)
    d = written_out(draw.problem)
    free = np.diag(piece.free.astype(np.float64))
    c = piece.columns.T @ d.a @ free  # (q, n)
    if c.shape[0] == 0:
        return free
    root = np.sqrt(np.maximum(((c / d.w) * c).sum(axis=1) + piece.compliance, 1e-300))
    c = c / root[:, None]
    middle = (c / d.w) @ c.T + np.diag(piece.compliance / root**2)
    inner = np.linalg.solve(middle, c) if np.linalg.cond(middle) < 1e10 else np.linalg.pinv(middle) @ c
    return np.asarray(free - (c / d.w).T @ inner)


def is_generic(draw: Draw, solution: OracleSolution, margin: float = MARGIN) -> bool:
    """Whether complementarity is strict by ``margin`` (relative to the scores) and the held rows have full rank on the free samples."""
    problem, z = draw.problem, draw.scores.numpy()
    piece = piece_at(problem, z, solution.y, solution.prices)
    return _full_rank(problem, piece) and strictness(problem, z, solution.y, solution.prices) >= margin


def generic(draw: Draw, margin: float = MARGIN) -> OracleSolution | None:
    """The accepted reference solution of a generic draw, ``margin`` away from every kink, else None: gradients are compared only there.

    Examples:
        >>> from fairopt.testing import draw, generic
        >>> solutions = [generic(draw("pairs", seed, n=5)) for seed in range(5)]
        >>> [solution is not None for solution in solutions]
        [False, True, True, False, False]
    """
    solution = accepted_oracle(draw)
    return solution if solution is not None and is_generic(draw, solution, margin) else None


def strictness(problem: ProjectionProblem, z: Array, y: Array, prices: Array) -> float:
    """How far the point is from any change of its piece, relative to the scores: the least margin over samples and constraints."""
    d = written_out(problem)
    scale = size_of(z, y)
    before = z - (d.a.T @ prices) / d.w
    fixed = d.lb == d.ub
    margins = [np.inf]
    for bound in (d.lb, d.ub):
        here = np.isfinite(bound) & ~fixed
        margins.extend((np.abs(before - bound)[here] / scale).tolist())
    f = d.a @ y + d.offset
    rows = np.abs(d.a).sum(axis=1) * max(float(np.abs(y).max()), 1e-3 * scale) + 1e-300 * scale
    unit = price_unit(d, scale)
    budgets: dict[int, list[tuple[float, float]]] = {}  # block -> (relative beyond, relative price)
    caps: dict[int, float] = {}
    for k, softness in enumerate(problem.softness):
        if k < problem.linear:
            beyond, price = max(f[k] - problem.upper[k], problem.lower[k] - f[k]) / rows[k], abs(prices[k]) / unit[k]
            cost, equality = float(unit[k]), bool(problem.lower[k] == problem.upper[k])
        else:
            block = problem.range_slices[k - problem.linear]
            values, p = f[block] / rows[block].max(), prices[block] / unit[block].min()
            ratio = float(problem.ratio[k - problem.linear])
            equality = bool(problem.width[k - problem.linear] == 0.0) and ratio == 1.0
            beyond = float(ratio * values.max() - values.min()) - float(problem.width[k - problem.linear]) / float(rows[block].max())
            up, down, cost = float(np.maximum(p, 0.0).sum()), float(np.maximum(-p, 0.0).sum()), float(unit[block].min())
            price = up if ratio == 1.0 else (down - up) / (1.0 - ratio)
            if ratio < 1.0 and price > 1e-9 and float(np.ptp(values)) <= 1e-9:  # the tip: it stays while the prices are not split
                margins.append(ratio * down - up if ratio else float(np.abs(p).min()))
            elif ratio == 0.0 and price > 1e-9:
                margins.append(float(np.maximum(values - values.min(), -p).min()))
            elif not (equality and softness.kind == "hard"):
                carried = np.inf if price <= 1e-9 else 0.0  # an inactive range may have ties at its ends
                top, bottom = np.maximum(values.max() - values, np.maximum(p, 0.0)), np.maximum(values - values.min(), np.maximum(-p, 0.0))
                margins.append(max(carried, float(min(top.min(), bottom.min()))))
        margins.append(_constraint_margin(softness.kind, beyond, price, softness.weight / cost, equality))
        if softness.kind == "budget":
            budgets.setdefault(softness.block, []).append((beyond, price))
            caps[softness.block] = softness.weight / cost
    margins.extend(_budget_margin(sides, caps[number]) for number, sides in budgets.items())
    return min(margins)


def _constraint_margin(kind: str, beyond: float, price: float, cap: float, equality: bool) -> float:
    if kind == "budget":
        return np.inf
    if kind == "priced" and beyond <= 1e-9 and price > 1e-9:
        return min(price, cap - price)
    if kind == "priced" and equality:
        return beyond if beyond > 1e-9 else cap - price
    if kind == "hard" and equality:
        return np.inf
    return max(abs(beyond), price if kind != "priced" else 0.0)


def _budget_margin(sides: list[tuple[float, float]], cap: float) -> float:
    """Largest distance above zero: those at it carry a price, the others are clearly nearer. At zero: the budget is clearly not used up."""
    largest = max(beyond for beyond, _ in sides)
    if largest > 1e-9:
        return min(largest, *(max(largest - beyond, price) for beyond, price in sides))
    spare = cap - sum(price for _, price in sides)
    return min(spare, *(max(-beyond, price) for beyond, price in sides))


def _full_rank(problem: ProjectionProblem, piece: Piece) -> bool:
    d = written_out(problem)
    c = (piece.columns.T @ d.a) * (piece.free / np.sqrt(d.w))
    if c.shape[0] == 0:
        return True
    whole = np.linalg.norm((piece.columns.T @ d.a) / np.sqrt(d.w), axis=1)
    if not (whole > 0).all():
        return False
    singular = np.linalg.svd(c / whole[:, None], compute_uv=False)
    return c.shape[0] <= c.shape[1] and float(singular[-1]) >= 1e-4
