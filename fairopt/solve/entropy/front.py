"""``solve`` for the Kullback-Leibler divergences: one projection with certificate and gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from fairopt.basics.errors import InputError
from fairopt.contract.backend import Backend, Status
from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt.solve.certificate import Solution
from fairopt.solve.entropy.answer import BACKEND, answered, asked
from fairopt.solve.entropy.ends import ends_of
from fairopt.solve.entropy.finish import EntropyOutcome, finished, pinned_problem
from fairopt.solve.entropy.gradient import Implicit
from fairopt.solve.gradient.native import replaced


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
    chosen: Backend,
    *,
    certify: bool,
    tol: float | None,
) -> Solution:
    """The projection of ``scores``, (n,) as ``flat``, finite, by ``problem.distance``. ``limits``: the problem's own, where they carry
    gradients."""
    check_domain(flat.detach(), problem)
    ends = ends_of(problem, flat.detach().to("cpu", torch.float64).numpy())
    given, flat = flat.detach(), flat if ends is None else ends.put(flat)
    z = flat.detach()
    pinned = pinned_problem(problem, z.to("cpu", torch.float64))
    most = getattr(chosen, "max_iter", None) if chosen.name == BACKEND else None

    def search() -> EntropyOutcome:
        return finished(z, problem, pinned, certify=certify, tol=tol, max_iter=most, raw=asked(chosen, z, pinned))

    answer = answered(z, problem, pinned, search, backend=chosen.name)
    outcome, verdict = answer.outcome, answer.verdict
    y = verdict.y
    connected = torch.is_grad_enabled() and (scores.requires_grad or (limits is not None and limits.requires_grad))
    if connected and verdict.status is not Status.INFEASIBLE:
        y = replaced(flat, y) if outcome is None else Implicit.attach(flat, limits, outcome, problem, y)
    out = y.view(scores.shape) if scores.dim() == 2 else y
    certificate = answer.certificate(given, scores.dtype)
    prices = answer.prices if ends is None else answer.prices + torch.from_numpy(ends.prices)
    return Solution(out, prices, verdict.status, certificate, chosen.name, answer.iterations, verdict.message)
