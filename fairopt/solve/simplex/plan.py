"""What the compiled road needs of a problem of class probabilities: its plan, and how its rows meet in the samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fairopt.basics.arrays import Array, IntArray
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.structure import structure
from fairopt.solve.plan import MOST_COUPLED, NOTHING, CellPlan, Joint, cell_plan
from fairopt.solve.simplex.dual import joint_cells

MOST_SLOPES = 1 << 20  # numbers of the blocks of all joint cells


@dataclass(frozen=True, eq=False)
class SimplexPlan(CellPlan):
    """joint (J, C): the cells of each joint cell; order (n,): the samples by joint cell, which begin at bounds (J + 1,); inverse: 1 / w
    (n,), or (0,) without weights."""

    joint: IntArray
    order: IntArray
    bounds: IntArray
    inverse: Array


def simplex_plan(problem: ProjectionProblem) -> SimplexPlan | None:
    """The plan of a ``joined`` problem, kept with it; None where the general road takes it."""
    return problem.workspace.keep("simplex plan", lambda: _made(problem))


def _made(problem: ProjectionProblem) -> SimplexPlan | None:
    if problem.m > MOST_COUPLED or problem.rows.dense is not None:
        return None
    classes = problem.classes
    joint, _, order, bounds, columns = problem.workspace.keep("joint cells", lambda: joint_cells(problem, classes))
    if joint.shape[0] * classes**2 > MOST_SLOPES:
        return None
    of, row, index = np.nonzero(columns.transpose(1, 0, 2))
    first = np.searchsorted(of, np.arange(len(joint) + 1))
    there = (columns != 0.0).any(2)  # (m, J)
    apart = all(int(there[part].sum(0).max(initial=0)) <= 1 for part in structure(problem).slices)
    plan = cell_plan(problem, joint=Joint(joint, first, row, index, columns[row, of, index], apart))
    if plan is None or not plan.boxed:
        return None
    inverse = NOTHING if problem.weights is None else 1.0 / problem.weights.numpy()[: order.shape[0]]
    return SimplexPlan(
        **vars(plan), joint=np.ascontiguousarray(joint, dtype=np.int64), order=order.astype(np.int64),
        bounds=bounds.astype(np.int64), inverse=inverse,
    )  # fmt: skip
