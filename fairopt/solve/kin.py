"""The plan of a problem, kept with it; problems that differ in their counts alone share all but numbers of it.

Shuffled batches nearly always have the same groups, and other counts: of their problems (``fairopt.compiler.template``) the plan of the
first one is laid out once, and each further one fills in its numbers, in one compiled call.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.sparse import SparseRows
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.finish.check import TINY
from fairopt.solve.passes.refill import refill
from fairopt.solve.plan import LARGE, Plan, extents_of, near_one, own_plan, sample
from fairopt.solve.units import NEAR

MOST_MASKS = 2  # of an entry: no order of their sum matters


def plan_of(problem: ProjectionProblem) -> Plan | None:
    """The plan of a problem and its samples, or None where the general road takes it."""
    return problem.workspace.keep("compiled", lambda: _of_kin(problem))


@dataclass(frozen=True, eq=False)
class Layout:
    """The plan of the first of some problems that have all but samples and weights in common.

    scales: those of its rows, which the others have too;  constant: what ``refill`` takes of it, in order
    """

    plan: Plan
    scales: Any
    constant: tuple[Array | IntArray, ...]

    def of(self, problem: ProjectionProblem) -> Plan | None:
        """The plan of another of them: what ``own_plan`` makes, in every bit. None where counts change more than numbers."""
        rows, first, weights = problem.rows, self.plan, problem.weights
        if rows.scales is not self.scales:
            return None
        counts, light, inverse = rows.counts, 1.0, first.inverse
        opened = counts.astype(np.float64)
        if weights is not None:
            extents = extents_of(problem)
            if not (extents.lightest > 2.0**-NEAR and extents.heaviest < 2.0**NEAR):
                return None
            opened, light, inverse = extents.opened, 1.0 / extents.lightest, 1.0 / weights.numpy()
        real = first.real.copy()
        arguments: tuple[Any, ...] = (counts, opened, light, 2.0**NEAR, TINY, *self.constant, real)
        if not refill(*arguments):
            return None
        cell, part = rows.cell.numpy().astype(np.uint16), first.part
        if first.boxed and weights is None and rows.n > LARGE:
            part, real[-first.cells :] = sample(cell, counts)
        return first.with_samples(cell, real, inverse, part)


def _layout(problem: ProjectionProblem, plan: Plan) -> Layout | None:
    """How the plans of a problem's kin are laid out; None where counts could change more than numbers."""
    rows = problem.rows
    masks, scales = rows.masks, rows.scales
    if isinstance(masks, SparseRows) or isinstance(scales, SparseRows) or isinstance(rows.coefficients, SparseRows):
        return None
    meet = (scales != 0.0).astype(np.int64) @ masks.astype(np.int64)  # (m, C) masks of each entry
    if int(meet.max(initial=0)) > MOST_MASKS or not np.array_equal(meet > 0, rows.coefficients != 0.0) or not near_one(problem):
        return None
    row, cell = np.nonzero(meet)
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=problem.m))])
    entry, mask = np.nonzero((scales[row] != 0.0) & masks[:, cell].T)  # of each entry, its masks in order
    first = np.concatenate([[0], np.cumsum(np.bincount(entry, minlength=row.size))])
    of_mask, mask_cells = np.nonzero(masks)
    mask_starts = np.concatenate([[0], np.cumsum(np.bincount(of_mask, minlength=masks.shape[0]))])
    indices = [np.ascontiguousarray(v) for v in (mask_starts, mask_cells, starts, cell, first, mask)]  # one kind, compiled once
    constant = (*indices, np.asarray(scales)[row[entry], mask])
    real = plan.real.copy()
    real[-plan.cells :] = 1.0
    none = np.zeros(0, dtype=np.int64)
    return Layout(replace(plan, real=real, cell=plan.cell[:0], part=none), rows.scales, constant)


def _of_kin(problem: ProjectionProblem) -> Plan | None:
    """The plan of a problem, by that of an earlier one of its kin where there is one."""
    kin = problem.workspace.get("kin")
    if kin is None:
        return own_plan(problem)
    key = "layout", problem.weights is None
    layout = kin.get(key)
    plan = None if layout is None else layout.of(problem)
    if plan is None:
        plan = own_plan(problem)
        if plan is not None and layout is None:
            made = _layout(problem, plan)
            if made is not None:
                kin.put(key, made)
    return plan
