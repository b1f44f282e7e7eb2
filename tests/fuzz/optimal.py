"""Whether a point is nearest: the judge's verdict from ``nearest.gap``, first with prices read from the point, then with a reference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from tests.fuzz import nearest
from tests.fuzz.draw import Draw
from tests.fuzz.reference import clarabel_point
from tests.fuzz.rows import Block, F, violation
from tests.fuzz.witness import inside

PINNED = 100  # samples up to which those at a bound get columns of their own
PULLS = 256 * 2.0**-52  # of the sum of all pulls on one score


@dataclass
class Answer:
    word: str  # near, far, undecided
    words: str = ""


def is_nearest(d: Draw, blocks: list[Block], y: list[float], allowed: float, tiny: float, relative: float) -> Answer:
    """Whether the objective at ``y`` is the least one, up to moves of every score by ``allowed`` of the largest, and ``relative``."""
    top = max(max(abs(F(v)) for v in y), max(abs(F(v)) for v in d["scores"]))
    step = F(allowed) * top + F(tiny)
    for b in blocks:  # rounding of offsets counts as rounding of scores
        for c in b.constraints:
            for m in c.members:
                if m.offset:
                    size = sum((abs(v) for v in m.coefficients(d["n"])), F(0))
                    if size:
                        step = max(step, F(allowed) * abs(m.offset) / size)
    unit = nearest.power(max(max(abs(F(v) - F(z)) for v, z in zip(y, d["scores"], strict=True)), step))
    s = nearest.scaled(d, blocks, y, unit)
    at = nearest.point(s, y)
    delta = nearest.small(step / unit)
    goal, curvature = nearest.objective(s, at), nearest.bend(s)
    tried: list[float] = []

    def rounding(prices: list[np.ndarray]) -> float:
        """How far a score may be off: prices that pull a score far in two directions leave the rounding of both."""
        return min(delta + PULLS * nearest.reach(s, at, prices), 1e100)

    def slack_of(prices: list[np.ndarray], pull: float) -> float:
        moves = rounding(prices)
        return 0.5 * moves**2 * curvature + relative * abs(goal) + nearest.kink(s, at, delta) + moves * pull

    def near_enough(prices: list[np.ndarray]) -> bool:
        g, pull = nearest.gap(s, at, prices)
        tried.append(g)
        return g <= slack_of(prices, pull)

    thresholds = (2 * delta, delta / 16, 500 * delta)
    if any(near_enough(nearest.prices_from(s, at, near, delta)) for near in thresholds):
        return Answer("near")
    if s.n <= PINNED and any(near_enough(nearest.prices_from(s, at, near, delta, pinned=True)) for near in thresholds):
        return Answer("near")
    found = clarabel_point(s, at)
    if found is None:
        return Answer("undecided", "no reference")
    move, prices = found
    references: list[tuple[list[Any], list[np.ndarray]]] = []
    start = inside(s.lb, s.ub, [F(v) + F(float(m)) * unit for v, m in zip(y, move, strict=True)])
    references.append((start, prices))
    theirs = nearest.point(s, start)
    for near in (1e-6, 1e-9, 1e-4):  # the same active set, its equations solved once more
        polished = nearest.prices_from(s, theirs, near, 0.0)
        moves = nearest.shift(s, polished)
        moved = [F(z) + F(float(v)) * unit for z, v in zip(d["scores"], moves, strict=True)]
        references.append((inside(s.lb, s.ub, moved), polished))
        references.append((start, polished))
    if any(near_enough(p) for _, p in references):
        return Answer("near")
    best: tuple[float, str] | None = None
    for other, p in references:
        other, whole = held(d, blocks, y, other, step)
        theirs = nearest.point(s, other)
        their_goal = nearest.objective(s, theirs)
        uncertainty, pull = nearest.gap(s, theirs, p)
        broken = max(
            (
                nearest.small(violation(c, other) / (s.size[b] * unit))
                for b, block in enumerate(blocks)
                for c in block.constraints
                if block.kind == "hard"
            ),
            default=0.0,
        )
        margin = 10 * ((abs(uncertainty) if whole else 0.0) + pull * max(broken, 0.0)) + slack_of(p, pull)
        off = max(abs(F(v) - o) for v, o in zip(y, other, strict=True))
        if goal - their_goal > margin and math.isfinite(margin) and off > F(rounding(p)) * unit and (best is None or margin < best[0]):
            best = (
                margin,
                f"objective {goal:.6g}, {goal - their_goal:.3g} above another (scaled; margin {margin:.2g}, rows broken by "
                f"{max(broken, 0.0):.1g}); a score is {nearest.small(off):.3g} off, scores of size {nearest.small(top):.3g}",
            )
    if best is not None:
        return Answer("far", best[1])
    return Answer("undecided", f"gaps {', '.join(f'{g:.3g}' for g in tried)} of {goal:.3g}")


def held(d: Draw, blocks: list[Block], y: list[float], other: list[Any], step: Fraction) -> tuple[list[Any], bool]:
    """``other``, moved towards y until it breaks no hard row by more than y does and moves of every score by ``step`` may; whether it was
    there already. A reference that breaks a row is nearer to the scores than anything that meets it: it shows nothing.
    """
    share = F(1)
    for b in blocks:
        for c in b.constraints if b.kind == "hard" else ():
            mine, theirs = violation(c, y), violation(c, other)
            room = max(mine, F(0)) + step * sum((sum((abs(a) for a in m.coefficients(d["n"])), F(0)) for m in c.members), F(0))
            if theirs > room:  # convex along the way
                share = min(share, (room - mine) / (theirs - mine))
    if share == 1:
        return other, True
    return [F(v) + share * (F(o) - F(v)) for v, o in zip(y, other, strict=True)], False
