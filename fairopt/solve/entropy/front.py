"""``solve`` for the Kullback-Leibler divergences: one projection with certificate and gradient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.errors import InputError
from fairopt.contract.backend import Status
from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt.solve.certificate import Certificate, Solution
from fairopt.solve.entropy.finish import EntropyOutcome, finished, pinned_problem
from fairopt.solve.entropy.gradient import attach
from fairopt.solve.finish.gate import GRANTING, Stated, Verdict, judge
from fairopt.solve.gradient.native import replaced
from fairopt.solve.guard import guarded
from fairopt.solve.ruling import ruled

BACKEND = "dual_newton"


def check_domain(z: Tensor, problem: ProjectionProblem) -> None:
    """InputError naming the first of the scores z (n,) that the divergence does not take: it is no probability, or a value below 0; or it
    stays where it is, at 0 or 1, outside its bounds."""
    probabilities = problem.distance == "kl"
    outside = (z < 0.0) | (z > 1.0) if probabilities else z < 0.0
    if bool(outside.any()):
        k = int(torch.nonzero(outside)[0])
        what = "probabilities in [0, 1]" if probabilities else "values of 0 or more"
        other = " (distance='kl_positive' takes positive values)" if probabilities else ""
        raise InputError(f"scores: got {float(z[k])!r} at position {k} beside distance={problem.distance!r}, expected {what}{other}")
    wide = z.to("cpu", torch.float64)
    fixed = (wide <= 0.0) | (wide >= 1.0) if probabilities else wide <= 0.0
    lost = fixed & ((wide < problem.lb) | (wide > problem.ub))
    if bool(lost.any()):
        k = int(torch.nonzero(lost)[0])
        raise InputError(
            f"scores: got {float(wide[k])!r} at position {k}, which distance={problem.distance!r} never moves, outside its bounds; "
            "expected it inside them, or scores strictly between 0 and 1"
        )


def solve_divergence(
    scores: Tensor,
    flat: Tensor,
    problem: ProjectionProblem,
    limits: Limits | None,
    *,
    certify: bool,
    tol: float | None,
    max_iter: int | None,
) -> Solution:
    """The projection of ``scores``, (n,) as ``flat``, finite, by ``problem.distance``. ``limits``: the problem's own, where they carry
    gradients."""
    z = flat.detach()
    check_domain(z, problem)
    pinned = pinned_problem(problem, z.to("cpu", torch.float64))
    outcome: EntropyOutcome | None = None
    with guarded(BACKEND, problem) as guard:
        outcome = finished(z, problem, pinned, certify=certify, tol=tol, max_iter=max_iter)
        verdict = judge(outcome.y, z, pinned, outcome.violation, outcome)
    if guard.error is not None:
        claim = Stated(Status.FAILED, False, False, np.inf, 0.0, guard.message)
        nothing = np.full(problem.linear + problem.ranges, np.inf)
        outcome, verdict = None, judge(torch.full_like(z, np.nan), z, pinned, nothing, claim)
    told = problem
    if verdict.status not in GRANTING or problem.stated is not None:
        told = pinned
        with guarded(BACKEND, problem) as guard:
            verdict = ruled(verdict, pinned, np.inf if outcome is None else outcome.residual)
        if guard.error is not None:  # nothing is known of what the problem allows
            verdict = replace(verdict, status=Status.FAILED, message=guard.message)
    connected = torch.is_grad_enabled() and (scores.requires_grad or (limits is not None and limits.requires_grad))
    y = verdict.y
    if connected and verdict.status is not Status.INFEASIBLE:
        y = replaced(flat, y) if outcome is None else attach(flat, limits, outcome, problem, y)
    return _solution(scores, y.view(scores.shape) if scores.dim() == 2 else y, z, verdict, outcome, told)


def _solution(
    scores: Tensor, y: Tensor, z: Tensor, verdict: Verdict, outcome: EntropyOutcome | None, problem: ProjectionProblem
) -> Solution:
    certificate = Certificate(
        violation=verdict.violation,
        bounds_violation=verdict.outside,
        kkt_residual=np.inf if outcome is None else outcome.residual,
        rounding_bound=0.0 if outcome is None else outcome.bound,
        moved_by_repair=0.0 if outcome is None else outcome.moved,
        status=verdict.status,
        backend=BACKEND,
        dtype=str(scores.dtype).removeprefix("torch."),
        problem=problem,
        _scores=(z, verdict.y),
        kkt_bound=0.0 if outcome is None else outcome.kkt_bound,
    )
    prices = torch.zeros(problem.m, dtype=torch.float64, device="cpu") if outcome is None else torch.from_numpy(outcome.p.copy())
    iterations = 0 if outcome is None else outcome.iterations
    return Solution(y, prices, verdict.status, certificate, BACKEND, iterations, verdict.message)
