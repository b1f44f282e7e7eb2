"""What becomes of a problem that no scores can meet: an error that explains it, wider limits, or nothing.

Only hard constraints count. Two witnesses settle nearly all problems at once: (C) a constant inside all bounds, (T) the targets.
Otherwise a proof of infeasibility is searched for (fairopt.feasibility). Where none is found, or where it rests on less than CLEAR of
the numbers in play, the problem is solved: rounding may hide that much. One that is proved infeasible only then comes back to ``as_asked``.

Source: claim L2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import InfeasibleError
from fairopt.basics.sparse import absolute
from fairopt.contract.problem import ProjectionProblem, Stated
from fairopt.feasibility import FarkasProof, conflict, infeasibility
from fairopt.feasibility.closest import least_values
from fairopt.feasibility.exact_rows import hard_constraints, ratio_of

OnInfeasible = Literal["raise", "closest", "passthrough"]
CLEAR = 2.0**-40  # margin of a proof over the terms of its sums; a witness may be off by as much


def settle(problem: ProjectionProblem, targets: Array | None, on_infeasible: OnInfeasible) -> ProjectionProblem:
    """``problem`` itself where it is not proved infeasible; else as ``on_infeasible`` says. ``targets`` (n,) where the notion read them."""
    hard = hard_constraints(problem)
    if plainly_feasible(problem, hard) or (targets is not None and _targets_witness(problem, hard, targets)):
        return problem
    proof = infeasibility(problem)
    return problem if proof is None or proof.margin < CLEAR else as_asked(problem, proof, on_infeasible)


def plainly_feasible(problem: ProjectionProblem, hard: list[int] | None = None) -> bool:
    """Whether a constant inside the bounds meets all hard constraints, which no count of samples can change."""
    hard = hard_constraints(problem) if hard is None else hard
    return not hard or _constant_witness(problem, hard)


def as_asked(problem: ProjectionProblem, proof: FarkasProof, on_infeasible: OnInfeasible) -> ProjectionProblem:
    """What ``on_infeasible`` says of a problem that ``proof`` proves infeasible: InfeasibleError, or the problem to go on with."""
    if on_infeasible == "raise":
        raise infeasible(problem, proof)
    if on_infeasible == "passthrough":
        return replace(problem, feasible=False)
    return problem.workspace.keep("widened", lambda: _widened(problem))


OR_CLOSEST = ", or pass on_infeasible='closest'"  # what a layer of one number a sample takes


@contextmanager
def closest_not_offered() -> Iterator[None]:
    """For callers that have no on_infeasible="closest": their errors do not advise it."""
    try:
        yield
    except InfeasibleError as error:
        raise InfeasibleError(str(error).replace(OR_CLOSEST, ""), error.rows, error.proof) from error


def infeasible(problem: ProjectionProblem, proof: FarkasProof) -> InfeasibleError:
    """The error that names a minimal conflict and carries its proof."""
    return _named(
        problem, conflict(problem, proof), "scores inside the bounds", f" or the bounds, make one of them .priced(rho){OR_CLOSEST}"
    )


def infeasible_classes(problem: ProjectionProblem, proof: FarkasProof, facts: Collection[int], stay: str) -> InfeasibleError:
    """As ``infeasible``, of class probabilities: ``facts`` are the constraints that say that they sum to 1, and none that was asked.
    ``stay``: what else is so, in words."""
    fewest = conflict(problem, proof, facts)
    return _named(problem, fewest, f"class probabilities{stay}", ", or make one of them .priced(rho)", facts)


def _named(problem: ProjectionProblem, fewest: FarkasProof, what: str, way: str, facts: Collection[int] = ()) -> InfeasibleError:
    rows = tuple(problem.constraint_labels[c] for c in fewest.constraints if c not in facts)
    one = len(rows) == 1
    which = "this constraint" if one else "these constraints together (without any one of them there are some)"
    words = f"no {what} meet {which}: {'; '.join(rows)}. Widen a tolerance{way.replace('one of them', 'it') if one else way}"
    return InfeasibleError(words, rows, fewest)


def _widened(problem: ProjectionProblem) -> ProjectionProblem:
    """The limits moved to the values of the rows at the least violation: {y: no constraint is violated by more than that}."""
    lower, upper, width = problem.lower.copy(), problem.upper.copy(), problem.width.copy()
    for c, values in least_values(problem).items():
        if c < problem.linear:
            lower[c], upper[c] = min(lower[c], _outward(values[0], -1)), max(upper[c], _outward(values[0], 1))
        else:
            width[c - problem.linear] = max(width[c - problem.linear], _outward(ratio_of(problem, c) * max(values) - min(values), 1))
    return replace(
        problem, lower=lower, upper=upper, width=width, feasible=False, stated=Stated(problem.lower, problem.upper, problem.width)
    )


def _outward(value: Fraction, sign: int) -> float:
    """The nearest float64 that is >= (sign 1) or <= (sign -1) ``value``."""
    try:
        near = float(value)
    except OverflowError:
        near = np.inf if value > 0 else -np.inf
    if np.isinf(near):
        return near if near * sign > 0 else float(np.nextafter(near, 0.0))
    return float(np.nextafter(near, sign * np.inf)) if (Fraction(near) - value) * sign < 0 else near


def _constant_witness(problem: ProjectionProblem, hard: list[int]) -> bool:
    """Whether some constant inside every bound meets the hard constraints: an intersection of intervals."""
    low = float(problem.lb.max()) if isinstance(problem.lb, Tensor) else problem.lb
    high = float(problem.ub.min()) if isinstance(problem.ub, Tensor) else problem.ub
    sums = _coefficient_sums(problem)  # (m,): row k at the constant c is c * sums[k] + offset[k]
    offset = problem.rows.offset
    linear = np.array([k for k in hard if k < problem.linear], dtype=np.int64)
    s, lower, upper = sums[linear], problem.lower[linear] - offset[linear], problem.upper[linear] - offset[linear]
    flat = s == 0
    slack = CLEAR * np.abs(offset[linear])  # the sum that it is may be rounded
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
            slope = (ratio - 1.0) * float(sums[rows][0])  # slope * constant <= room
            if slope == 0.0 and room < 0.0:
                return False
            if slope < 0:
                low = max(low, room / slope)
            elif slope > 0:
                high = min(high, room / slope)
    return bool(low <= high or low - high <= CLEAR * max(abs(low), abs(high)) < np.inf)


def _coefficient_sums(problem: ProjectionProblem) -> Array:
    """(m,) the sum of each row's coefficients; the rounding left over by a centred dense row counts as 0."""
    sums = problem.rows.scales.sum(1)
    magnitude = absolute(problem.rows.scales).sum(1)
    sums = np.where(np.abs(sums) <= 1e-15 * magnitude, 0.0, sums)
    if problem.rows.dense is not None:
        dense = problem.rows.dense
        total, size = dense.sum(1).numpy(), dense.abs().sum(1).numpy()
        np.add.at(sums, problem.rows.dense_rows, np.where(np.abs(total) <= CLEAR * size, 0.0, total))
    return np.asarray(sums)


def _targets_witness(problem: ProjectionProblem, hard: list[int], targets: Array) -> bool:
    """Whether the targets lie in the box and meet the hard constraints up to rounding."""
    y = torch.from_numpy(targets)
    if bool((y < problem.lb).any()) or bool((y > problem.ub).any()):
        return False
    rows = problem.rows
    sums = np.bincount(rows.cell.numpy(), weights=targets if rows.copies is None else targets * rows.copies, minlength=rows.masks.shape[1])
    f = rows.coefficients @ sums + rows.offset  # (m,)
    if rows.dense is not None:
        np.add.at(f, rows.dense_rows, (rows.dense @ y).numpy())
    slack = CLEAR * (rows.absolute_sum * float(np.abs(targets).max()) + np.abs(rows.offset))  # (m,)
    for k in hard:
        if k < problem.linear:
            if not problem.lower[k] - slack[k] <= f[k] <= problem.upper[k] + slack[k]:
                return False
            continue
        r = k - problem.linear
        part = problem.range_slices[r]
        if not problem.ratio[r] * f[part].max() - f[part].min() <= problem.width[r] + 2.0 * slack[part].max():
            return False
    return True
