"""Independent answers: a feasible point in rationals, and a proof that there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.optimize import linprog

from tests.fuzz import nearest
from tests.fuzz.draw import Draw
from tests.fuzz.rows import Block, F, box_of, in_box, violation

INF = math.inf


@dataclass
class Found:
    point: list[Any] | None = None
    how: str = ""
    proved: bool = False  # that there is no feasible point


def clipped(d: Draw, y: list[Any]) -> list[Any]:
    """The nearest point of the box, in rationals."""
    return inside(*box_of(d), y)


def inside(lb: list[float], ub: list[float], y: list[Any]) -> list[Any]:
    """The nearest point between ``lb`` and ``ub``, in rationals."""
    result = []
    for lo, v, hi in zip(lb, y, ub, strict=True):
        v = F(v)
        v = F(lo) if lo > -INF and v < F(lo) else v
        result.append(F(hi) if hi < INF and v > F(hi) else v)
    return result


def feasible_point(d: Draw, blocks: list[Block]) -> Found:
    """A point of the box that meets every hard row exactly, or a Farkas proof that there is none, or neither."""
    hard = [c for b in blocks if b.kind == "hard" for c in b.constraints]
    n = d["n"]
    if not hard:
        return Found(clipped(d, [0.0] * n), "no hard row")
    lb, ub = box_of(d)
    low, high = max(lb), min(ub)
    constants = {0.0, low if low > -INF else 0.0, high if high < INF else 0.0, sorted(d["scores"])[n // 2]}
    candidates: list[tuple[str, list[Any]]] = [("witness", d["witness"])] if d["witness"] is not None else []
    candidates += [
        ("scores", d["scores"]),
        ("targets", d["targets"] or d["scores"]),
        *((f"constant {c!r}", [c] * n) for c in sorted(constants)),
    ]
    for how, y in candidates:
        point = clipped(d, y)
        if all(violation(c, point) <= 0 for c in hard) and in_box(d, point):
            return Found(point, how)
    if n * sum(2 if c.width is None else len(c.members) ** 2 for c in hard) > 20_000:  # minutes in rationals
        return Found()
    return _by_programme(d, hard)


def _sides(hard: list[Any], n: int) -> list[tuple[list[Fraction], Fraction]]:
    """(a, u): a . y <= u, ranges as pairs."""
    result = []
    for c in hard:
        rows = [m.coefficients(n) for m in c.members]
        if c.width is None:
            if c.upper is not None:
                result.append((rows[0], c.upper - c.members[0].offset))
            if c.lower is not None:
                result.append(([-v for v in rows[0]], c.members[0].offset - c.lower))
        else:
            for j, a in enumerate(rows):
                for k, b in enumerate(rows):
                    if j != k:
                        result.append(
                            (
                                [c.ratio * x - v for x, v in zip(a, b, strict=True)],
                                c.width - c.ratio * c.members[j].offset + c.members[k].offset,
                            )
                        )
    return result


def _by_programme(d: Draw, hard: list[Any]) -> Found:
    """Maximise the slack t <= 1: A y + t size <= u inside the box, in units of the draw."""
    n = d["n"]
    sides = _sides(hard, n)
    lb, ub = box_of(d)
    centre = clipped(d, d["scores"])  # exact
    sizes = [nearest.power(max((abs(v) for v in a), default=F(1)) or F(1)) for a, _ in sides]
    over = [(sum((x * v for x, v in zip(a, centre, strict=True)), F(0)) - u) / s for (a, u), s in zip(sides, sizes, strict=True)]
    worst = max(over)
    if worst <= 0:
        return Found(centre, "clipped scores")
    unit = nearest.power(worst)
    A = np.array([[nearest.small(v / s) for v in a] for (a, _), s in zip(sides, sizes, strict=True)])
    b = np.array([-nearest.small(o / unit) for o in over])
    bounds = [
        (None if lo == -INF else nearest.small((F(lo) - c) / unit), None if hi == INF else nearest.small((F(hi) - c) / unit))
        for lo, hi, c in zip(lb, ub, centre, strict=True)
    ]
    # a bound beyond 1e9 units is open for the solver
    bounds = [(None if lo is None or lo < -1e9 else lo, None if hi is None or hi > 1e9 else hi) for lo, hi in bounds]
    use = b < 1e12
    try:
        lp = linprog(
            np.r_[np.zeros(n), -1.0],
            A_ub=np.c_[A[use], np.ones(int(use.sum()))],
            b_ub=b[use],
            bounds=[*bounds, (None, 1.0)],
            method="highs",
            options={"presolve": False, "primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )
    except ValueError:
        return Found()
    if lp.x is None:
        return Found()
    move = [F(float(v)) * unit for v in lp.x[:n]]
    point = clipped(d, [c + m for c, m in zip(centre, move, strict=True)])

    def meets(y: list[Fraction]) -> bool:
        return all(violation(c, y) <= 0 for c in hard) and in_box(d, y)

    if meets(point):
        return Found(point, "linear programme")
    repaired = _repaired(d, sides, sizes, point, unit, set(np.flatnonzero(use).tolist()))
    if repaired is not None and meets(repaired):
        return Found(repaired, "linear programme, repaired in rationals")
    if lp.ineqlin is not None:
        raw = np.zeros(len(sides))
        raw[use] = np.maximum(-np.asarray(lp.ineqlin.marginals), 0.0)
        if proved_infeasible(d, sides, sizes, raw):
            return Found(proved=True)
    return Found()


Sides = list[tuple[list[Fraction], Fraction]]


def proved_infeasible(d: Draw, sides: Sides, sizes: list[Fraction], raw: np.ndarray) -> bool:
    """Whether prices near ``raw`` (of rows divided by their sizes) are a Farkas proof, checked exactly."""
    prices = [F(float(v)) / s for v, s in zip(raw, sizes, strict=True)]
    if separates(d, sides, prices):
        return True
    support = [k for k, v in enumerate(raw) if v > 1e-9 * raw.max()]
    if not support or len(support) > 40:
        return False
    # where samples are open their coefficient must vanish exactly: solve for prices of the same rows that make it
    lb, ub = box_of(d)
    columns = {
        tuple(sides[k][0][i] / sizes[k] for k in support) for i in range(d["n"]) if not (math.isfinite(lb[i]) and math.isfinite(ub[i]))
    }
    size = float(raw[support].sum())
    equations = [[*c, F(0)] for c in columns if abs(sum(float(v) * raw[k] for v, k in zip(c, support, strict=True))) <= 1e-7 * size]
    equations.append([*([F(1)] * len(support)), F(1)])
    m = len(support)
    normal = [[sum((e[j] * e[k] for e in equations), F(0)) for k in range(m)] for j in range(m)]
    exact = solve_exactly(normal, [sum((e[j] * e[m] for e in equations), F(0)) for j in range(m)])
    if exact is None or min(exact) < 0:
        return False
    prices = [F(0)] * len(sides)
    for k, v in zip(support, exact, strict=True):
        prices[k] = v / sizes[k]
    return separates(d, sides, prices)


def separates(d: Draw, sides: Sides, prices: list[Fraction]) -> bool:
    """Whether sum_k prices_k (a_k . y) > sum_k prices_k u_k for every y in the box, exactly."""
    lb, ub = box_of(d)
    used = [(p, a, u) for p, (a, u) in zip(prices, sides, strict=True) if p]
    left, right = F(0), sum((p * u for p, _, u in used), F(0))
    for i, (lo, hi) in enumerate(zip(lb, ub, strict=True)):
        q = sum((p * a[i] for p, a, _ in used), F(0))
        end = lo if q > 0 else hi
        if q and not math.isfinite(end):
            return False
        left += q * F(end) if q else 0
    return left > right


def _repaired(d: Draw, sides: Sides, sizes: list[Fraction], y: list[Fraction], unit: Fraction, use: set[int]) -> list[Fraction] | None:
    """``y`` moved, by the least squares of its free samples, onto the rows that it breaks or nearly touches, in exact arithmetic."""
    n = d["n"]
    lb, ub = box_of(d)
    near = unit / 10**6
    free = [i for i in range(n) if (lb[i] == -INF or y[i] - F(lb[i]) > near) and (ub[i] == INF or F(ub[i]) - y[i] > near)]
    snapped = list(y)
    for i in range(n):
        if i not in set(free):
            snapped[i] = F(lb[i]) if lb[i] > -INF and abs(y[i] - F(lb[i])) <= near else F(ub[i])
            if lb[i] > -INF and ub[i] < INF and F(ub[i]) - F(lb[i]) <= 2 * near:
                snapped[i] = min(max(y[i], F(lb[i])), F(ub[i]))
    y = snapped
    values = [sum((x * v for x, v in zip(a, y, strict=True)), F(0)) - u for a, u in sides]
    active = [k for k in range(len(sides)) if k in use and values[k] / sizes[k] > -near]
    if len(active) > 60 or not free:
        return None
    normal = [[sum((sides[j][0][i] * sides[k][0][i] for i in free), F(0)) for k in active] for j in active]
    target = [-values[k] for k in active]
    solved = solve_exactly(normal, target)
    if solved is None:
        return None
    result = list(y)
    for i in free:
        result[i] += sum((s * sides[k][0][i] for s, k in zip(solved, active, strict=True) if s), F(0))
    return result


def solve_exactly(matrix: list[list[Fraction]], right: list[Fraction]) -> list[Fraction] | None:
    """A solution of a consistent symmetric system, free unknowns at 0; None where there is none."""
    m = len(right)
    rows = [[*r, t] for r, t in zip(matrix, right, strict=True)]
    pivots: list[int] = []
    place = 0
    for column in range(m):
        best = next((k for k in range(place, m) if rows[k][column]), None)
        if best is None:
            continue
        rows[place], rows[best] = rows[best], rows[place]
        head = rows[place][column]
        rows[place] = [v / head for v in rows[place]]
        for k in range(m):
            if k != place and rows[k][column]:
                f = rows[k][column]
                rows[k] = [v - f * p for v, p in zip(rows[k], rows[place], strict=True)]
        pivots.append(column)
        place += 1
    if any(rows[k][m] for k in range(place, m)):
        return None
    result = [F(0)] * m
    for k, column in enumerate(pivots):
        result[column] = rows[k][m]
    return result
