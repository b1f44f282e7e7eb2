"""An InfeasibleError's proof, recomputed: from its multipliers and the plain arrays of its problem, with the draw's own box.

For y in the box  q . f(y) >= least,  and for row values v inside the limits  q . v <= most;  least > most proves that there is no y.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from tests.fuzz.draw import Draw
from tests.fuzz.rows import F, box_of

INF = math.inf


def wrong_proof(d: Draw, error: Any) -> str:
    """What is wrong with ``error.proof``; '' where it proves what it says, or where there is none."""
    proof = getattr(error, "proof", None)
    if proof is None:
        return ""
    if not proof.check():
        return "its own check() denies it"
    problem = proof.problem
    rows = problem.rows
    prices = dict(zip(proof.rows, (F(q) for q in proof.multipliers), strict=True))
    least = _least(d, rows, prices)
    most = _most(problem, prices)
    if least is None or most is None or not least > most:
        return f"recomputed: least {None if least is None else float(least)!r}, most {None if most is None else float(most)!r}"
    return ""


def _least(d: Draw, rows: Any, prices: dict[int, Fraction]) -> Fraction | None:
    cell, n = rows.cell.tolist(), d["n"]
    counts = [sum(1 for c in cell if mask[c]) for mask in rows.masks]
    a = [F(0)] * n
    total = F(0)
    for k, q in prices.items():
        for j, scale in enumerate(rows.scales[k].tolist()):
            if scale:
                share = q * F(scale) / counts[j]
                for i in range(n):
                    if rows.masks[j][cell[i]]:
                        a[i] += share
        for place, row in enumerate(rows.dense_rows.tolist()):
            if row == k:
                for i, v in enumerate(rows.dense[place].tolist()):
                    a[i] += q * F(v)
        terms = [t for t in rows.offset_terms if t[0] == k]
        if not rows.offset_terms:
            total += q * F(float(rows.offset[k]))
        for _, scale, mask, value in terms:
            if mask < 0:
                total += q * F(scale)
            else:
                inside = [F(rows.values[value][i].item()) for i in range(n) if rows.masks[mask][cell[i]]]
                total += q * F(scale) * sum(inside, F(0)) / len(inside)
    lb, ub = box_of(d)
    for v, lo, hi in zip(a, lb, ub, strict=True):
        end = lo if v > 0 else hi
        if v and not math.isfinite(end):
            return None
        total += v * F(end) if v else 0
    return total


def _most(problem: Any, prices: dict[int, Fraction]) -> Fraction | None:
    total = F(0)
    linear = len(problem.lower)
    for k, q in prices.items():
        if k < linear:
            limit = float(problem.upper[k] if q > 0 else problem.lower[k])
            if q and not math.isfinite(limit):
                return None
            total += q * F(limit) if q else 0
    ratios = getattr(problem, "ratio", None)
    for r, width in enumerate(problem.width.tolist()):
        mine = [prices[k] for k in range(int(problem.range_starts[r]), int(problem.range_starts[r + 1])) if k in prices]
        if any(mine):
            largest = _largest(F(1) if ratios is None else F(float(ratios[r])), F(width), mine)
            if largest is None:
                return None
            total += largest
    return total


def _largest(ratio: Fraction, width: Fraction, prices: list[Fraction]) -> Fraction | None:
    """The largest sum of price * v over values v with ratio * max v - min v <= width: positive prices sit at max v."""
    up, down = sum((q for q in prices if q > 0), F(0)), -sum((q for q in prices if q < 0), F(0))
    if ratio == 1:
        return width * up if up == down else None
    # max v and min v range over a cone: both are -width / (1 - ratio) at its tip, its edges go along (1, ratio) and (1, 1)
    return (down - up) * width / (1 - ratio) if up <= ratio * down else None
