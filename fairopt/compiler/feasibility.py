"""Feasibility, decided at compile time, and explained.

Only hard constraints count. Two witnesses settle nearly all problems at once: (C) a constant inside all bounds, (T) the targets.
Otherwise the least sum of squared violations inside the box is computed over the cell means, which range independently over
[mean lb, mean ub] of their cell; its multipliers are a Farkas certificate. Rows with weights of their own a sample take the samples
as unknowns where there are few, and a projected gradient method where there are many.

An infeasible problem is explained by a deletion filter: constraints that are infeasible together and feasible without any one.

Source: claim L2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fairopt.compiler.least_violation import Region, least_violation
from fairopt.errors import InfeasibleError
from fairopt.problem import Array, IntArray, ProjectionProblem

_SLACK = 1e-12  # rounding allowed to a witness, relative to the numbers in play


def settle(
    problem: ProjectionProblem, targets: Array | None, on_infeasible: Literal["raise", "closest", "passthrough"]
) -> ProjectionProblem:
    """``problem`` itself where it is feasible; else as ``on_infeasible`` says. ``targets`` (n,) where the notion read them."""
    hard = [k for k, s in enumerate(problem.softness) if s.kind == "hard"]
    if not hard or _constant_witness(problem, hard) or (targets is not None and _targets_witness(problem, hard, targets)):
        return problem
    region = _region(problem, hard)
    answer = least_violation(region, list(range(len(hard))))
    if answer.feasible:
        return problem
    if on_infeasible == "raise":
        conflict = [problem.constraint_labels[hard[k]] for k in _minimal_conflict(region, answer.support)]
        raise InfeasibleError(
            f"no scores inside the bounds meet these constraints together (without any one of them there are some): {'; '.join(conflict)}. "
            "Widen a tolerance or the bounds, make one of them .priced(rho), or pass on_infeasible='closest'",
            tuple(conflict),
        )
    if on_infeasible == "passthrough":
        return replace(problem, feasible=False)
    return _widened(problem, hard, answer.rows)


def _constant_witness(problem: ProjectionProblem, hard: list[int]) -> bool:
    """Whether some constant inside every bound meets the hard constraints: an intersection of intervals."""
    low = float(problem.lb.max()) if isinstance(problem.lb, Tensor) else problem.lb
    high = float(problem.ub.min()) if isinstance(problem.ub, Tensor) else problem.ub
    sums = _coefficient_sums(problem)  # (m,): row k at the constant c is c * sums[k] + offset[k]
    offset = problem.rows.offset
    linear = np.array([k for k in hard if k < problem.linear], dtype=np.int64)
    s, lower, upper = sums[linear], problem.lower[linear] - offset[linear], problem.upper[linear] - offset[linear]
    flat = s == 0
    slack = np.where(offset[linear] == 0, 0.0, _SLACK * (1.0 + np.abs(offset[linear])))
    if np.any(flat & ((lower > slack) | (upper < -slack))):
        return False
    a, b = lower[~flat] / s[~flat], upper[~flat] / s[~flat]
    low, high = max(low, float(np.minimum(a, b).max(initial=-np.inf))), min(high, float(np.maximum(a, b).min(initial=np.inf)))
    for k in hard:
        if k >= problem.linear:
            r = k - problem.linear
            rows, ratio = problem.range_slices[r], float(problem.ratio[r])
            if np.ptp(sums[rows]) != 0:
                return False  # left to the exact test
            room = float(problem.width[r]) - ratio * float(offset[rows].max()) + float(offset[rows].min())
            s = (ratio - 1.0) * float(sums[rows][0])  # s * constant <= room
            if s == 0.0 and room < 0.0:
                return False
            low, high = (max(low, room / s), high) if s < 0 else (low, min(high, room / s) if s > 0 else high)
    return not low > high + _SLACK * max(1.0, abs(low), abs(high)) * (low < np.inf)


def _coefficient_sums(problem: ProjectionProblem) -> Array:
    """(m,) the sum of each row's coefficients; the rounding left over by a centred dense row counts as 0."""
    sums = problem.rows.scales.sum(1)
    magnitude = abs(problem.rows.scales).sum(1)
    sums = np.where(np.abs(sums) <= 1e-15 * magnitude, 0.0, sums)
    if problem.rows.dense is not None:
        dense = problem.rows.dense
        total, size = dense.sum(1).numpy(), dense.abs().sum(1).numpy()
        np.add.at(sums, problem.rows.dense_rows, np.where(np.abs(total) <= _SLACK * size, 0.0, total))
    return np.asarray(sums)


def _targets_witness(problem: ProjectionProblem, hard: list[int], targets: Array) -> bool:
    """Whether the targets lie in the box and meet the hard constraints up to rounding."""
    y = torch.from_numpy(targets)
    if bool((y < problem.lb).any()) or bool((y > problem.ub).any()):
        return False
    rows = problem.rows
    sums = np.bincount(rows.cell.numpy(), weights=targets, minlength=rows.masks.shape[1])
    f = rows.coefficients @ sums + rows.offset  # (m,)
    if rows.dense is not None:
        np.add.at(f, rows.dense_rows, (rows.dense @ y).numpy())
    size = 1.0 + float(np.abs(targets).max())
    for k in hard:
        if k < problem.linear:
            if not problem.lower[k] - _SLACK * size <= f[k] <= problem.upper[k] + _SLACK * size:
                return False
            continue
        r = k - problem.linear
        values = f[problem.range_slices[r]]
        if problem.ratio[r] * values.max() - values.min() > problem.width[r] + _SLACK * size:
            return False
    return True


def _region(problem: ProjectionProblem, hard: list[int]) -> Region:
    """The hard constraints over few unknowns: cell means, or the samples where a row is dense."""
    rows = problem.rows
    keep = np.concatenate([np.atleast_1d(_rows_of(problem, k)) for k in hard])
    dense = rows.dense is not None and bool(np.isin(rows.dense_rows, keep).any())
    if dense:
        matrix = rows.matrix().numpy()
        lb, ub = (np.broadcast_to(np.asarray(b, dtype=np.float64), (problem.n,)) for b in (problem.lb, problem.ub))
    else:
        matrix = np.asarray(rows.coefficients) * rows.counts  # (m, C): acts on cell means
        lb, ub = _cell_means(problem, problem.lb), _cell_means(problem, problem.ub)
    return Region(
        matrix[keep],
        rows.offset[keep],
        lb,
        ub,
        tuple(_constraint(problem, k) for k in hard),
        tuple(1.0 if k < problem.linear else float(problem.ratio[k - problem.linear]) for k in hard),
    )


def _rows_of(problem: ProjectionProblem, k: int) -> IntArray:
    """The rows of constraint k."""
    if k < problem.linear:
        return np.array([k])
    part = problem.range_slices[k - problem.linear]
    return np.arange(part.start, part.stop)


def _constraint(problem: ProjectionProblem, k: int) -> tuple[int, float, float]:
    """(number of rows, lower, upper) of a linear constraint, (number of rows, nan, width) of a range."""
    if k < problem.linear:
        return 1, float(problem.lower[k]), float(problem.upper[k])
    part = problem.range_slices[k - problem.linear]
    return part.stop - part.start, float("nan"), float(problem.width[k - problem.linear])


def _cell_means(problem: ProjectionProblem, bound: float | Tensor) -> Array:
    """(C,) mean of a bound over each cell."""
    cells = problem.rows.masks.shape[1]
    if not isinstance(bound, Tensor):
        return np.full(cells, bound)
    sums = np.bincount(problem.rows.cell.numpy(), weights=bound.numpy(), minlength=cells)
    return np.asarray(sums / problem.rows.counts)


def _minimal_conflict(region: Region, support: list[int]) -> list[int]:
    """Deletion filter: drop what is not needed for infeasibility, one constraint at a time, from the Farkas certificate's support."""
    everything = list(range(len(region.constraints)))
    kept = support if support and not least_violation(region, support).feasible else everything
    for k in list(kept):
        rest = [j for j in kept if j != k]
        if rest and not least_violation(region, rest).feasible:
            kept = rest
    return kept


def _widened(problem: ProjectionProblem, hard: list[int], f: list[Array]) -> ProjectionProblem:
    """The limits moved to the values ``f`` of the rows at the least violation: {y: no constraint is violated by more than that}."""
    lower, upper, width = problem.lower.copy(), problem.upper.copy(), problem.width.copy()
    for k, values in zip(hard, f, strict=True):
        if k < problem.linear:
            lower[k], upper[k] = min(lower[k], values[0]), max(upper[k], values[0])
        else:
            r = k - problem.linear
            width[r] = max(width[r], float(problem.ratio[r] * values.max() - values.min()))
    return replace(problem, lower=lower, upper=upper, width=width, feasible=False)
