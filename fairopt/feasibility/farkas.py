"""A proof that no scores inside the bounds meet some hard rows: multipliers q, one a row, checked in fractions.

For scores y inside the bounds  q . f(y) >= least,  and for row values v inside the limits  q . v <= most.  Where least > most there is no y
with f(y) inside the limits. Both sides are sums that anybody can recompute:

    least = sum_k q_k offset_k + sum_u min(w_u low_u, w_u high_u)      w_u the weight of unknown u in sum_k q_k f_k, low and high its bounds
    most  = sum over linear rows of q_k * (upper_k where q_k > 0, lower_k where q_k < 0)
            + sum over ranges of width * (sum of the positive q of its rows), where these sum to 0 (else infinite: a range has no level);
              of  r max v - min v <= width  with r < 1: width * (negative sum - positive sum) / (1 - r), positive sum <= r * negative sum

Source: Farkas' lemma; Schrijver, Theory of linear and integer programming, 7.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.contract.problem import ProjectionProblem
from fairopt.feasibility.exact_rows import exact_offsets, limits_of, ratio_of, rows_of, unknowns, weights

DROPS = (0.0, 1e-13, 1e-10, 1e-8, 1e-6, 1e-4)  # shares of the largest multiplier under which one counts as rounding
NEARLY = 1e-7  # share of its own terms under which the weight of an open unknown counts as rounding
WORK = 2_000_000  # operations on fractions for one set of equations


@dataclass(frozen=True)
class FarkasProof:
    """The rows with a multiplier (indices and labels), the multipliers, and the two sides: ``least > most``.

    ``size`` is the sum of the absolute terms of both sides, to judge the margin by. ``check()`` recomputes both sides from ``problem``.
    """

    rows: tuple[int, ...]
    labels: tuple[str, ...]
    multipliers: tuple[Fraction, ...]
    least: Fraction
    most: Fraction
    size: Fraction = field(repr=False, compare=False)
    problem: ProjectionProblem = field(repr=False, compare=False)

    @property
    def margin(self) -> float:
        """(least - most) / size, in (0, 1]."""
        return float((self.least - self.most) / self.size) if self.size else 0.0

    @property
    def constraints(self) -> tuple[int, ...]:
        """The constraints that the rows belong to."""
        named = set(self.rows)
        return tuple(c for c in range(self.problem.linear + self.problem.ranges) if named & set(rows_of(self.problem, c)))

    def check(self) -> bool:
        """Whether the multipliers prove it, computed anew from the problem's numbers."""
        found = sides(self.problem, dict(zip(self.rows, self.multipliers, strict=True)))
        return found is not None and (found[0], found[1]) == (self.least, self.most) and found[0] > found[1]

    def __repr__(self) -> str:
        return f"FarkasProof({len(self.rows)} rows, margin {self.margin:.3g})"


def proof(problem: ProjectionProblem, multipliers: Mapping[int, Fraction]) -> FarkasProof | None:
    """The multipliers (row -> q) as a proof, or None where they prove nothing."""
    used = {k: q for k, q in sorted(multipliers.items()) if q}
    found = sides(problem, used) if used else None
    if found is None or not found[0] > found[1]:
        return None
    labels = tuple(problem.labels[k] if k < len(problem.labels) else f"row {k}" for k in used)
    return FarkasProof(tuple(used), labels, tuple(used.values()), *found, problem)


def sides(problem: ProjectionProblem, multipliers: Mapping[int, Fraction]) -> tuple[Fraction, Fraction, Fraction] | None:
    """(least, most, size), or None where a side is infinite or a row with a multiplier belongs to a constraint that is not hard."""
    offsets = exact_offsets(problem.rows)
    least = sum((q * offsets[k] for k, q in multipliers.items()), Fraction(0))
    size = sum((abs(q * offsets[k]) for k, q in multipliers.items()), Fraction(0))
    bounds = unknowns(problem, multipliers)
    for u, w in weights(problem, multipliers, bounds.samples).items():
        end = bounds.low[u] if w > 0 else bounds.high[u]
        if end is None:
            return None
        least += w * end
        size += abs(w * end)
    most = Fraction(0)
    for c in range(problem.linear + problem.ranges):
        q = {k: multipliers[k] for k in rows_of(problem, c) if multipliers.get(k)}
        if not q:
            continue
        largest = largest_allowed(problem, c, q) if problem.softness[c].kind == "hard" else None
        if largest is None:
            return None
        most += largest
        size += abs(largest)
    return least, most, size


def largest_allowed(problem: ProjectionProblem, c: int, q: Mapping[int, Fraction]) -> Fraction | None:
    """The largest q . v over row values v that meet constraint c; None where it is infinite. ``q``: its non-zero multipliers."""
    lower, upper = limits_of(problem, c)
    if c < problem.linear:
        (price,) = q.values()
        limit = upper if price > 0 else lower
        return None if limit is None else price * limit
    ratio = ratio_of(problem, c)
    up, down = (sum((abs(p) for p in q.values() if (p > 0) is positive), Fraction(0)) for positive in (True, False))
    # q is a sum of pairs (ratio e_b - e_a) that are worth the width each: with the ratio 1 as many up as down, else down in excess
    if upper is None or up > ratio * down or (ratio == 1 and up != down):
        return None
    return upper * (up if ratio == 1 else (down - up) / (1 - ratio))


def from_floats(problem: ProjectionProblem, constraints: list[int], q: Mapping[int, float]) -> FarkasProof | None:
    """A proof near the float multipliers ``q`` (row -> q): rounding set to zero, and what must vanish exactly made to.

    Multipliers count by q_k * (how far row k moves where every score moves by 1), so rows in any unit can be compared.
    """
    unit = problem.rows.absolute_sum
    share = {k: abs(v) * float(unit[k]) if unit[k] > 0 else abs(v) for k, v in q.items()}
    largest = max(share.values(), default=0.0)
    if not 0 < largest < np.inf:
        return None
    tried: set[tuple[int, ...]] = set()
    for drop in DROPS:
        kept = tuple(k for k in q if share[k] > drop * largest)
        if kept in tried:
            continue
        tried.add(kept)
        exact = _corrected(problem, constraints, {k: Fraction(q[k]) for k in kept})
        found = None if exact is None else proof(problem, exact)
        if found is not None:
            return found
    return None


def _corrected(problem: ProjectionProblem, constraints: list[int], q: dict[int, Fraction]) -> dict[int, Fraction] | None:
    """The nearby multipliers with range sums of 0, without weight on open unknowns, none toward an open limit."""
    equations: list[dict[int, Fraction]] = []
    for c in constraints:
        rows = [k for k in rows_of(problem, c) if k in q]
        if c >= problem.linear:
            ratio = ratio_of(problem, c)
            if ratio == 1:
                equations += [dict.fromkeys(rows, Fraction(1))] if rows else []
                continue
            up, down = (sum((abs(q[k]) for k in rows if (q[k] > 0) is positive), Fraction(0)) for positive in (True, False))
            if up > ratio * down:
                q |= {k: q[k] * ratio * down / up for k in rows if q[k] > 0}
            continue
        lower, upper = limits_of(problem, c)
        for k in rows:
            if (upper if q[k] > 0 else lower) is None:
                del q[k]
    equations += _open_equations(problem, q)
    return solved(q, equations, WORK)


def _open_equations(problem: ProjectionProblem, q: dict[int, Fraction]) -> list[dict[int, Fraction]]:
    """For each unknown that is open toward its weight, or nearly: the equation that its weight is 0."""
    bounds = unknowns(problem, q)
    if None not in bounds.low and None not in bounds.high:
        return []
    columns: dict[int, dict[int, Fraction]] = {}
    for k in q:
        for u, a in weights(problem, {k: Fraction(1)}, bounds.samples).items():
            if bounds.low[u] is None or bounds.high[u] is None:
                columns.setdefault(u, {})[k] = a
    found = []
    for u, column in columns.items():
        terms = [a * q[k] for k, a in column.items()]
        w = sum(terms, Fraction(0))
        nearly = Fraction(NEARLY) * sum((abs(t) for t in terms), Fraction(0))
        if abs(w) <= nearly or (bounds.low[u] if w > 0 else bounds.high[u]) is None:
            found.append(column)
    return found


def solved(q: dict[int, Fraction], equations: list[dict[int, Fraction]], most: int) -> dict[int, Fraction] | None:
    """``q`` with some components changed so that all homogeneous equations hold exactly; None after too much work.

    Each equation determines the component that it weighs most, given the others; substituted where it is determined already.
    """
    order: list[tuple[int, dict[int, Fraction]]] = []
    determined: dict[int, dict[int, Fraction]] = {}
    work = 0
    for equation in equations:
        left = dict(equation)
        while True:
            k = next((k for k in left if k in determined), None)
            if k is None:
                break
            factor = left.pop(k)
            for j, a in determined[k].items():
                left[j] = left.get(j, Fraction(0)) + factor * a
                if not left[j]:
                    del left[j]
            work += len(determined[k])
            if work > most:
                return None
        if not left:
            continue
        k = max(left, key=lambda j: abs(left[j] * q[j]))
        a = left.pop(k)
        determined[k] = {j: -v / a for j, v in left.items()}
        order.append((k, determined[k]))
    found = dict(q)
    for k, others in reversed(order):
        found[k] = sum((a * found[j] for j, a in others.items()), Fraction(0))
    return found


def float_multipliers(index: list[int], q: Array) -> dict[int, float]:
    """Row -> q, of the finite non-zero ones."""
    return {k: float(v) for k, v in zip(index, q.tolist(), strict=True) if v != 0 and np.isfinite(v)}
