"""Scores outside their box: an infeasible batch under on_infeasible="passthrough", whose scores stay as they came, with a status that says
so; and scores of a dtype that has no number between two bounds. What is said of them counts the rows that no scores inside could break.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.contract.backend import Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.certificate import Certificate, Solution
from fairopt.solve.dual.make import make_dual
from fairopt.solve.dual.structure import structure
from fairopt.solve.finish.check import summation_bound, violations
from fairopt.solve.finish.gate import LARGEST, outside, rows_hold


def unchanged(scores: Tensor, problem: ProjectionProblem) -> Solution:
    """The input (n,) or (n, 1), connected to itself, with status INFEASIBLE and its violations."""
    flat = scores.detach().reshape(-1)
    violation, bound = _violations(flat, problem)
    certificate = Certificate(
        violation=violation,
        bounds_violation=outside(flat, problem),
        kkt_residual=float("inf"),
        rounding_bound=bound,
        moved_by_repair=0.0,
        status=Status.INFEASIBLE,
        backend="none",
        dtype=str(scores.dtype).removeprefix("torch."),
        problem=problem,
        _scores=(flat, flat),
    )
    message = "no scores inside the bounds meet all hard rows; the scores are returned as they came"
    prices = torch.zeros(problem.m, dtype=torch.float64, device="cpu")
    return Solution(scores.clone(), prices, Status.INFEASIBLE, certificate, "none", 0, message)


def restated(solution: Solution, written: ProjectionProblem) -> Solution:
    """The same scores, said of the problem with the rows that presolve left out since no scores inside the box break them: price 0."""
    violation, bound = _violations(solution.scores.detach().reshape(-1), written)
    certificate = replace(solution.certificate, problem=written, violation=violation, rounding_bound=bound)
    price = dict(zip(solution.labels, solution.prices.tolist(), strict=True))
    prices = torch.tensor([price.get(label, 0.0) for label in written.labels], dtype=torch.float64, device="cpu")
    return replace(solution, certificate=certificate, prices=prices)


def _violations(flat: Tensor, problem: ProjectionProblem) -> tuple[Array, float]:
    """(L + R,) violations by scores (n,), exact where floats cannot tell, and the bound of the floats' rounding."""
    y = flat.to("cpu", torch.float64)
    with np.errstate(all="ignore"):
        if problem.n * problem.m < 1e7:
            values = problem.rows.matrix().numpy() @ y.numpy() + problem.rows.offset
        else:
            free = replace(problem, lb=float("-inf"), ub=float("inf"))
            values = make_dual(flat, free).evaluate(np.zeros(problem.m)).f
        violation = violations(structure(problem), problem, values)
        bound = float(summation_bound(problem, float(y.abs().max())).max(initial=0.0))
        hard = violation[structure(problem).hard]
        if not np.isfinite(values).all() or bool((np.abs(hard) <= 2.0 * bound).any()):  # sums beyond float64, or too near to tell
            rows_hold(y, problem, violation)
    return violation, min(bound, LARGEST)
