"""An infeasible batch under on_infeasible="passthrough": the scores as they came, and a status that says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

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
    certificate = Certificate(
        violation=violation,
        bounds_violation=outside(flat, problem),
        kkt_residual=float("inf"),
        rounding_bound=min(bound, LARGEST),
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
