"""The search for a proof that some hard constraints contradict each other, and for the fewest that do.

Three searches, cheapest first: what one constraint asks for against what its rows can reach; the simplex method in fractions where the
constraints have few terms (it decides); the least sum of squared violations in floats, whose residuals are nearly a proof. Whatever they
find counts only as a ``FarkasProof``, checked in fractions. No proof is no statement.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fractions import Fraction

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.basics.exact_simplex import Forms, decide
from fairopt.basics.sparse import SparseRows, all_finite
from fairopt.basics.wide_rows import WideRows
from fairopt.contract.problem import ProjectionProblem
from fairopt.feasibility.exact_rows import (
    cells_of,
    coefficients,
    exact_offsets,
    hard_constraints,
    limits_of,
    ratio_of,
    row_terms,
    rows_of,
    unknowns,
)
from fairopt.feasibility.farkas import FarkasProof, float_multipliers, from_floats, proof
from fairopt.feasibility.least_violation import Region, least_violation

ROUNDED = 2.0**-44  # of the terms of a proof: what the rounding of a dense row's weights may decide
SMALL = 4000  # terms of the constraints' rows that the simplex method in fractions takes
WORK = 300_000  # its operations on fractions, about a second
CHECKS = 200  # searches for fewer constraints


def infeasibility(problem: ProjectionProblem) -> FarkasProof | None:
    """A proof that no scores inside the bounds meet the hard constraints, or None; kept with the problem."""
    return problem.workspace.keep("infeasibility", lambda: _infeasibility(problem))


def _infeasibility(problem: ProjectionProblem) -> FarkasProof | None:
    proved = contradiction(problem, hard_constraints(problem))
    return None if proved is None or _rests_on_rounding(problem, proved) else proved


def _rests_on_rounding(problem: ProjectionProblem, found: FarkasProof) -> bool:
    """Whether a proof names a dense row and leaves less than that row's own rounding: centred weights are no numbers that were given."""
    dense = set(problem.rows.dense_rows.tolist())
    return not found.margin >= ROUNDED and any(k in dense for c in found.constraints for k in rows_of(problem, c))


def conflict(problem: ProjectionProblem, found: FarkasProof, facts: Collection[int] = ()) -> FarkasProof:
    """A proof with fewest constraints: without any one of them no contradiction is found. ``facts``: those that are always there.

    A deletion filter, in halves first; each proof found on the way leaves out what it does not need.
    """
    checks, asked = 0, _asked(found, facts)
    size = max(len(asked) // 2, 1)
    while True:
        start = 0
        while start < len(asked) > 1 and checks < CHECKS:
            rest = [*asked[:start], *asked[start + size :]]
            fewer = contradiction(problem, sorted([*rest, *facts])) if rest else None
            checks += 1
            if fewer is None:
                start += size
            else:
                start = sum(c < asked[start] for c in _asked(fewer, facts))
                found, asked = fewer, _asked(fewer, facts)
        if size == 1:
            return found
        size = max(min(size, len(asked)) // 2, 1)


def _asked(found: FarkasProof, facts: Collection[int]) -> list[int]:
    return [c for c in found.constraints if c not in facts]


@np.errstate(all="ignore")  # floats only suggest: what overflows here is found out in fractions
def contradiction(problem: ProjectionProblem, constraints: list[int]) -> FarkasProof | None:
    """A proof from some hard constraints of the problem, or None."""
    numbers = (problem.rows.scales, problem.rows.offset, problem.rows.coefficients)
    if not constraints or not all(all_finite(v) for v in numbers):
        return None  # what overflowed proves nothing
    alone = _alone(problem, constraints)
    if alone is not None:
        return alone
    if _terms(problem, constraints) <= SMALL:
        decided, found = _simplex(problem, constraints)
        if decided:
            return found
    if problem.rows.one_row_a_cell:
        return None  # rows without a common sample reach their values independently: each constraint was asked alone
    return _least_squares(problem, constraints)


def _alone(problem: ProjectionProblem, constraints: list[int]) -> FarkasProof | None:
    """A proof from one constraint: a row that cannot reach its limit, two rows of a range that cannot come near enough."""
    low, high, limits = _reaches(problem, constraints)
    start = 0
    for c, (lower, upper) in zip(constraints, limits, strict=True):
        rows = rows_of(problem, c)
        part = slice(start, start + len(rows))
        start = part.stop
        found = None
        if c < problem.linear:
            if low[part.start] > upper or high[part.start] < lower:
                found = proof(problem, {rows[0]: Fraction(1 if low[part.start] > upper else -1)})
        else:
            top, bottom = (int(i) for i in (np.argmax(low[part]), np.argmin(high[part])))
            ratio = ratio_of(problem, c)
            if top != bottom and (float(ratio) * low[part][top] if ratio else 0.0) - high[part][bottom] > upper:
                found = proof(problem, {rows[top]: ratio, rows[bottom]: Fraction(-1)})
            elif ratio < 1 and (float(ratio) - 1.0) * high[part][bottom] > upper:  # the row against itself
                found = proof(problem, {rows[bottom]: ratio - 1})
        if found is not None:
            return found
    return None


def _reaches(problem: ProjectionProblem, constraints: list[int]) -> tuple[Array, Array, list[tuple[float, float]]]:
    """Least and greatest value of each row (rows,), and (lower, upper) or (nan, width) of each constraint, in the same units."""
    rows = problem.rows
    keep = [k for c in constraints for k in rows_of(problem, c)]
    if not isinstance(rows.coefficients, SparseRows) or (rows.dense is not None and np.isin(rows.dense_rows, keep).any()):
        region = normal_region(problem, constraints)
        return *region.reach(), [(lower, upper) for _, lower, upper in region.constraints]
    index = np.array(keep, dtype=np.int64)
    if isinstance(rows.coefficients, WideRows):
        below, above = (_cell_means(problem, b) * rows.counts for b in (problem.lb, problem.ub))
        with np.errstate(over="ignore", invalid="ignore"):
            low, high = ((rows.coefficients.reach(*side) + rows.offset)[index] for side in ((below, above), (above, below)))
    else:
        weight = rows.coefficients.take(index) * rows.counts
        with np.errstate(over="ignore", invalid="ignore"):
            ends = (_cell_means(problem, b) for b in (problem.lb, problem.ub))
            terms = [np.where(weight.values != 0, weight.values * b[weight.index], 0.0) for b in ends]
            low, high = (weight.like(t).sum(1) + rows.offset[index] for t in (np.minimum(*terms), np.maximum(*terms)))
    L = problem.linear
    return (
        low,
        high,
        [(float(problem.lower[c]), float(problem.upper[c])) if c < L else (float("nan"), float(problem.width[c - L])) for c in constraints],
    )


def _terms(problem: ProjectionProblem, constraints: Iterable[int]) -> int:
    """How many coefficients the rows of the constraints have."""
    keep = [k for c in constraints for k in rows_of(problem, c)]
    rows = problem.rows
    if rows.dense is not None and np.isin(rows.dense_rows, keep).any():
        return len(keep) * rows.n
    total = 0
    for k in keep:
        total += sum(len(cells_of(rows, j)) for j, _ in row_terms(rows, k))
        if total > SMALL:  # how many more does not matter
            break
    return total


def _simplex(problem: ProjectionProblem, constraints: list[int]) -> tuple[bool, FarkasProof | None]:
    """(whether it was decided, the proof where there is one)."""
    keep = [k for c in constraints for k in rows_of(problem, c)]
    bounds, offsets = unknowns(problem, keep), exact_offsets(problem.rows)
    forms, place = Forms(), dict[int, int]()
    lines: list[tuple[int, Fraction]] = []  # form -> the row it is of, and its factor

    def ask(k: int, floor: int | None, bottom: Fraction | None, top: Fraction | None, factor: Fraction = Fraction(1)) -> None:
        """bottom <= factor * f_k - x_floor <= top."""
        form: dict[int, Fraction] = {} if floor is None else {floor: Fraction(-1)}
        for u, a in coefficients(problem, k, bounds.samples).items():
            if u not in place:
                place[u] = forms.variable(bounds.low[u], bounds.high[u])
            form[place[u]] = factor * a
        d = factor * offsets[k]
        forms.ask(form, None if bottom is None else bottom - d, None if top is None else top - d)
        lines.append((k, factor))

    for c in constraints:
        lower, upper = limits_of(problem, c)
        if c < problem.linear:
            ask(c, None, lower, upper)
        elif upper is not None:  # the floor of a range is a free variable
            floor = forms.variable(None, None, offsets[rows_of(problem, c)[0]])
            ratio = ratio_of(problem, c)
            for k in rows_of(problem, c):
                if ratio == 1:
                    ask(k, floor, Fraction(0), upper)
                else:
                    ask(k, floor, Fraction(0), None)
                    ask(k, floor, None, upper, ratio)
    answer = decide(forms, WORK)
    if answer.contradiction is None:
        return answer.point is not None, None
    q: dict[int, Fraction] = {}
    for i, multiplier in answer.contradiction.items():
        k, factor = lines[i]
        q[k] = q.get(k, Fraction(0)) + multiplier * factor
    return True, proof(problem, q)


def _least_squares(problem: ProjectionProblem, constraints: list[int]) -> FarkasProof | None:
    """A proof near the multipliers of the least violation."""
    region = normal_region(problem, constraints)
    answer = least_violation(region)
    if answer.worst <= 1e-15:
        return None
    index = [k for c in constraints for k in rows_of(problem, c)]
    q = answer.multipliers / region.unit
    return from_floats(problem, constraints, float_multipliers(index, q / max(float(np.abs(q).max()), 1e-300)))


def normal_region(problem: ProjectionProblem, constraints: list[int]) -> Region:
    """The constraints in one unit: every row moves by 1 where all scores do, and the largest number in play is about 1."""
    region = raw_region(problem, constraints)
    unit = np.abs(region.matrix).sum(1)
    for part in region.slices():
        unit[part] = unit[part].max()
    unit = np.where(unit > 0, unit, 1.0)
    return region.divided(unit).in_one_scale()


def raw_region(problem: ProjectionProblem, constraints: list[int]) -> Region:
    """The constraints over few unknowns, as floats: means over cells, or the samples where a row is dense."""
    rows = problem.rows
    keep = [k for c in constraints for k in rows_of(problem, c)]
    dense = rows.dense is not None and bool(np.isin(rows.dense_rows, keep).any())
    if dense:
        matrix = rows.matrix().numpy()[keep]
        lb, ub = (np.broadcast_to(np.asarray(b, dtype=np.float64), (problem.n,)) for b in (problem.lb, problem.ub))
    else:
        matrix = np.asarray(rows.coefficients[keep]) * rows.counts  # (rows, C): acts on cell means
        lb, ub = (_cell_means(problem, b) for b in (problem.lb, problem.ub))
    used = np.any(matrix != 0, axis=0)
    limits = [
        (1, float(problem.lower[c]), float(problem.upper[c]))
        if c < problem.linear
        else (len(rows_of(problem, c)), float("nan"), float(problem.width[c - problem.linear]))
        for c in constraints
    ]
    ratios = tuple(1.0 if c < problem.linear else float(problem.ratio[c - problem.linear]) for c in constraints)
    return Region(matrix[:, used], rows.offset[keep], lb[used], ub[used], tuple(limits), np.ones(len(keep)), used, ratios=ratios)


def _cell_means(problem: ProjectionProblem, bound: object) -> Array:
    """(C,) mean of a bound over each cell."""
    cells = problem.rows.masks.shape[1]
    if isinstance(bound, float):
        return np.full(cells, bound)
    values, cell = np.asarray(bound, dtype=np.float64), problem.rows.cell.numpy()
    # divided first: a sum of the largest numbers would overflow
    return np.bincount(cell, weights=values / problem.rows.counts[cell], minlength=cells).astype(np.float64)
