"""What every projection does: it commutes with reordering, stays when repeated, and never pulls two inputs apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.errors import UnsupportedError
from fairopt.contract.problem import ProjectionProblem
from fairopt.contract.rows import Rows
from fairopt.testing.subject import Subject, fail, slack


def permutation(subject: Subject) -> None:
    """Reordering the samples reorders the answer and changes nothing else."""
    for number, case in enumerate(subject.sample):
        order = torch.from_numpy(np.random.default_rng([subject.seed, number]).permutation(case.problem.n))
        plain = subject.answer(case).scores.double()
        moved = subject.project(case.scores[order], permuted(case.problem, order)).scores.double()
        error = float((moved - plain[order]).abs().max())
        if not error <= slack(subject, case):
            fail("permutation", subject, case.draw, f"the answer to the reordered batch differs by {error:.2e}")


def relabelling(subject: Subject) -> None:
    """Naming the groups otherwise (other cells and masks, rows in another order) does not change the scores."""
    for number, case in enumerate(subject.sample):
        rng = np.random.default_rng([subject.seed, number, 1])
        plain = subject.answer(case).scores.double()
        other = subject.project(case.scores, relabelled(case.problem, rng)).scores.double()
        error = float((other - plain).abs().max())
        if not error <= slack(subject, case):
            fail("relabelling", subject, case.draw, f"the answer under other group numbers differs by {error:.2e}")


def idempotence(subject: Subject) -> None:
    """With hard rows alone, projecting an answer again returns it."""
    for case in subject.hard:
        once = subject.answer(case).scores.detach()
        twice = subject.project(once, case.problem).scores
        error = float((twice - once).abs().max())
        if not error <= slack(subject, case):
            fail("idempotence", subject, case.draw, f"a second projection moves the answer by {error:.2e}")


def non_expansiveness(subject: Subject) -> None:
    """||y(z) - y(z')||_W <= ||z - z'||_W, for hard and soft rows (claim L3)."""
    for number, case in enumerate(subject.sample):
        rng = np.random.default_rng([subject.seed, number, 2])
        w = torch.ones(case.problem.n, dtype=torch.float64, device="cpu") if case.problem.weights is None else case.problem.weights
        y = subject.answer(case).scores.double()
        for size in (1.0, 1e-2):
            other = case.scores + torch.from_numpy(rng.normal(size=case.problem.n)) * size * case.draw.scale
            try:
                there = subject.project(other, case.problem).scores.double()
            except UnsupportedError:
                continue  # a backend may take a problem at some scores only (closed_form: while no bound is active)
            apart = torch.sqrt((w * (there - y) ** 2).sum())
            allowed = torch.sqrt((w * (other - case.scores) ** 2).sum()) + slack(subject, case) * torch.sqrt(w.sum())
            if not float(apart) <= float(allowed):
                fail(
                    "non_expansiveness", subject, case.draw, f"two answers are {float(apart):.6g} apart, their inputs {float(allowed):.6g}"
                )


def permuted(problem: ProjectionProblem, order: Tensor) -> ProjectionProblem:
    """The problem of the samples in another order (n,)."""
    rows = problem.rows
    moved = Rows(
        cell=rows.cell[order],
        masks=rows.masks,
        scales=rows.scales,
        offset=rows.offset,
        offset_terms=rows.offset_terms,
        values=tuple(v[order] for v in rows.values),
        dense=None if rows.dense is None else rows.dense[:, order].contiguous(),
        dense_rows=rows.dense_rows,
    )
    return replace(
        problem,
        rows=moved,
        lb=problem.lb[order] if isinstance(problem.lb, Tensor) else problem.lb,
        ub=problem.ub[order] if isinstance(problem.ub, Tensor) else problem.ub,
        weights=None if problem.weights is None else problem.weights[order],
    )


def relabelled(problem: ProjectionProblem, rng: np.random.Generator) -> ProjectionProblem:
    """The same problem with its cells and masks numbered otherwise, and its linear rows and range members in another order."""
    rows, linear = problem.rows, problem.linear
    cells, masks = rng.permutation(rows.masks.shape[1]), rng.permutation(rows.masks.shape[0])  # new -> old
    new_cell = np.argsort(cells)  # old -> new
    new_mask = np.argsort(masks)
    first = rng.permutation(linear)
    order = np.concatenate([first, *(block.start + rng.permutation(block.stop - block.start) for block in problem.range_slices)]).astype(
        np.int64
    )
    new_row = np.argsort(order)
    moved = Rows(
        cell=torch.from_numpy(new_cell)[rows.cell],
        masks=np.ascontiguousarray(rows.masks[masks][:, cells]),
        scales=np.ascontiguousarray(rows.scales[order][:, masks]),
        offset=rows.offset[order],
        offset_terms=tuple((int(new_row[k]), s, int(new_mask[j]) if j >= 0 else j, v) for k, s, j, v in rows.offset_terms),
        values=rows.values,
        dense=rows.dense,
        dense_rows=new_row[rows.dense_rows].astype(np.int64),
    )
    constraints = np.concatenate([first, np.arange(linear, linear + problem.ranges)]).astype(np.int64).tolist()
    return replace(
        problem,
        rows=moved,
        lower=problem.lower[first],
        upper=problem.upper[first],
        softness=tuple(problem.softness[k] for k in constraints),
        labels=tuple(problem.labels[k] for k in order.tolist()),
        constraint_labels=tuple(problem.constraint_labels[k] for k in constraints),
    )
