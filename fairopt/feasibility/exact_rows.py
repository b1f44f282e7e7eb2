"""The numbers of a problem as fractions: coefficients, constants and bounds, exactly as they were given.

Row k of the problem is  sum_j scale_kj * mean(y over mask j) + offset_k (+ its dense part). Scales, dense weights, bounds and limits are
the float64 numbers themselves; means divide by whole counts; constants are exact means of the values that they name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from torch import Tensor

from fairopt.basics.exact_sums import exact_cell_sums, exact_counted_sums
from fairopt.contract.problem import ProjectionProblem
from fairopt.contract.rows import Rows


def row_terms(rows: Rows, k: int) -> list[tuple[int, Fraction]]:
    """(mask, scale) of row k, zeros left out."""
    scales = rows.scales[k]
    return [(j, Fraction(float(scales[j]))) for j in np.flatnonzero(scales).tolist()]


def cells_of(rows: Rows, j: int) -> list[int]:
    """The cells of mask j."""
    cells: list[int] = np.flatnonzero(rows.masks[j]).tolist()
    return cells


def mask_means(rows: Rows, sums: list[Fraction]) -> list[Fraction]:
    """(M,) means over the masks, from the sums over the cells."""
    return [
        sum((sums[c] for c in cells_of(rows, j)), Fraction(0)) / count if count else Fraction(0)
        for j, count in enumerate(rows.mask_counts.tolist())
    ]


def offset_parts(rows: Rows) -> list[dict[int, Fraction]]:
    """(m,) the rows' constants by the mask that each part is a mean over; -1: what is no mean. Kept with the rows."""
    return rows.workspace.keep("offset parts", lambda: _offset_parts(rows))


def _offset_parts(rows: Rows) -> list[dict[int, Fraction]]:
    found: list[dict[int, Fraction]]
    found = [{} for _ in range(rows.m)] if rows.offset_terms else [{-1: Fraction(float(v))} if v else {} for v in rows.offset]
    means: dict[int, list[Fraction]] = {}
    for k, scale, mask, value in rows.offset_terms:
        if mask >= 0 and value not in means:
            means[value] = mask_means(rows, value_sums(rows, value))
        part = Fraction(scale) * (means[value][mask] if mask >= 0 else 1)
        found[k][max(mask, -1)] = found[k].get(max(mask, -1), Fraction(0)) + part
    return found


def value_sums(rows: Rows, value: int) -> list[Fraction]:
    """(C,) exact sums of ``rows.values[value]`` over the samples of each cell."""
    values, cell, cells = rows.values[value].numpy(), rows.cell.numpy(), rows.masks.shape[1]
    return exact_cell_sums(values, cell, cells) if rows.copies is None else exact_counted_sums(values, rows.copies, cell, cells)


def exact_offsets(rows: Rows) -> list[Fraction]:
    """(m,) the rows' constants."""
    return [sum(parts.values(), Fraction(0)) for parts in offset_parts(rows)]


@dataclass(frozen=True, eq=False)
class Unknowns:
    """What the rows are functions of: sums over cells, or single samples where a dense row is among them.

    samples  whether the unknowns are samples
    low, high  for each unknown its exact bounds; None where open
    """

    samples: bool
    low: list[Fraction | None]
    high: list[Fraction | None]


def unknowns(problem: ProjectionProblem, rows: Iterable[int]) -> Unknowns:
    """The unknowns of some rows of the problem, with their bounds; kept with the problem."""
    dense = set(problem.rows.dense_rows.tolist())
    samples = any(k in dense for k in rows)

    def made() -> Unknowns:
        return Unknowns(
            samples, *(_sample_bounds(b, problem.n) if samples else _cell_bounds(b, problem.rows) for b in (problem.lb, problem.ub))
        )

    return problem.workspace.keep(("exact bounds", samples), made)


def _sample_bounds(bound: float | Tensor, n: int) -> list[Fraction | None]:
    if not isinstance(bound, Tensor):
        return [Fraction(bound) if np.isfinite(bound) else None] * n
    return [Fraction(b) if np.isfinite(b) else None for b in bound.tolist()]


def _cell_bounds(bound: float | Tensor, rows: Rows) -> list[Fraction | None]:
    """The sum of a bound over each cell; None where one sample is open."""
    if not isinstance(bound, Tensor):
        return [Fraction(bound) * int(count) if np.isfinite(bound) else None for count in rows.counts]
    values, cell, cells = bound.numpy(), rows.cell.numpy(), rows.masks.shape[1]
    closed = np.isfinite(values)
    sums = exact_cell_sums(np.where(closed, values, 0.0), cell, cells)
    open_cells = np.bincount(cell[~closed], minlength=cells) > 0
    return [None if is_open else s for is_open, s in zip(open_cells.tolist(), sums, strict=True)]


def coefficients(problem: ProjectionProblem, k: int, samples: bool) -> dict[int, Fraction]:
    """Row k as weights of the unknowns, zeros left out."""
    return weights(problem, {k: Fraction(1)}, samples)


def weights(problem: ProjectionProblem, multipliers: Mapping[int, Fraction], samples: bool) -> dict[int, Fraction]:
    """The sum of rows times multipliers, as weights of the unknowns, zeros left out."""
    rows = problem.rows
    by_mask: dict[int, Fraction] = {}
    for k, q in multipliers.items():
        for j, scale in row_terms(rows, k):
            by_mask[j] = by_mask.get(j, Fraction(0)) + q * scale
    by_cell: dict[int, Fraction] = {}
    for j, scale in by_mask.items():
        share = scale / int(rows.mask_counts[j])
        for c in cells_of(rows, j) if share else ():
            by_cell[c] = by_cell.get(c, Fraction(0)) + share
    if not samples:
        return {c: w for c, w in by_cell.items() if w}
    by_sample = [by_cell.get(c, Fraction(0)) for c in rows.cell.tolist()]
    for d, k in enumerate(rows.dense_rows.tolist()):
        q = multipliers.get(k, Fraction(0))
        if q:
            assert rows.dense is not None
            by_sample = [w + q * Fraction(v) if v else w for w, v in zip(by_sample, rows.dense[d].tolist(), strict=True)]
    return {i: w for i, w in enumerate(by_sample) if w}


def limits_of(problem: ProjectionProblem, c: int) -> tuple[Fraction | None, Fraction | None]:
    """(lower, upper) of a linear constraint, (None, width) of a range; None where open."""
    if c < problem.linear:
        lower, upper = float(problem.lower[c]), float(problem.upper[c])
        return (Fraction(lower) if np.isfinite(lower) else None), (Fraction(upper) if np.isfinite(upper) else None)
    width = float(problem.width[c - problem.linear])
    return None, (Fraction(width) if np.isfinite(width) else None)


def ratio_of(problem: ProjectionProblem, c: int) -> Fraction:
    """r of a range constraint  r max v - min v <= width."""
    return Fraction(float(problem.ratio[c - problem.linear]))


def rows_of(problem: ProjectionProblem, c: int) -> range:
    """The rows of constraint c."""
    if c < problem.linear:
        return range(c, c + 1)
    part = problem.range_slices[c - problem.linear]
    return range(part.start, part.stop)


def hard_constraints(problem: ProjectionProblem) -> list[int]:
    return [c for c, s in enumerate(problem.softness) if s.kind == "hard"]
