"""Prices alone, of the divergences and of class probabilities: what ``dual_newton`` answers where it is asked as a backend."""

from __future__ import annotations

import torch
from torch import Tensor

from fairopt.contract.backend import RawSolution, Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.structure import numbers, structure
from fairopt.solve.entropy.dual import EntropyDual
from fairopt.solve.entropy.search import metric_of, solve_entropy
from fairopt.solve.finish.rounding import to_sample_order
from fairopt.solve.simplex.dual import SimplexDual, structure_of


def searched(scores: Tensor, problem: ProjectionProblem, *, tol: float | None, max_iter: int) -> RawSolution:
    """The answer to ``scores`` (n,), without certificate: float64 scores and prices."""
    z = scores.detach().to("cpu", torch.float64).numpy()
    st = structure(problem)
    dual: EntropyDual
    if problem.classes > 1:
        dual = SimplexDual(problem, z.reshape(problem.classes, -1).T.copy(), kl=problem.distance != "squared")
        st = structure_of(st)
    else:
        dual = EntropyDual(problem, z[problem.rows.order.numpy()])
    found = solve_entropy(dual, metric_of(dual, st, numbers(problem)), numbers(problem), tol=tol, max_iter=max_iter)
    status = None if found.converged else Status.ITERATION_LIMIT if found.iterations >= max_iter else Status.INACCURATE
    return RawSolution(to_sample_order(dual.scores(found.p), problem).to(scores.dtype), found.p, status, found.iterations)
