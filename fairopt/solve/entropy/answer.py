"""From what a search for another distance found to what is told of it: verdict, certificate, and scores connected to their input.

One number a sample (``entropy.front``) and class probabilities (``solve.simplex``) end here alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.errors import BackendError
from fairopt.contract.backend import Backend, RawSolution, Status
from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt.solve.certificate import Certificate
from fairopt.solve.entropy.finish import EntropyOutcome
from fairopt.solve.finish.finish import solved
from fairopt.solve.finish.gate import GRANTING, Stated, Verdict, judge
from fairopt.solve.guard import guarded
from fairopt.solve.ruling import ruled

BACKEND = "dual_newton"


def asked(chosen: Backend, z: Tensor, pinned: ProjectionProblem) -> RawSolution | None:
    """The answer of another backend to z (n,); None of the one that this package searches for itself. BackendError where it comes without
    prices."""
    if chosen.name == BACKEND:
        return None
    (raw,) = solved(z.to(torch.float64)[None], pinned, chosen)
    if raw.status is None and raw.prices is None:
        raise BackendError(f"backend {chosen.name!r} returned no prices, which are needed beside distance={pinned.nearest_in!r}")
    return raw


@dataclass(eq=False)
class Answer:
    """outcome: None where the search failed; told: the problem that the certificate is of."""

    outcome: EntropyOutcome | None
    verdict: Verdict
    told: ProjectionProblem
    backend: str = BACKEND

    def certificate(self, z: Tensor, dtype: torch.dtype) -> Certificate:
        """The certificate of the answer to z (n,), for scores of ``dtype``."""
        outcome, verdict = self.outcome, self.verdict
        return Certificate(
            violation=verdict.violation,
            bounds_violation=verdict.outside,
            kkt_residual=np.inf if outcome is None else outcome.residual,
            rounding_bound=0.0 if outcome is None else outcome.bound,
            moved_by_repair=0.0 if outcome is None else outcome.moved,
            status=verdict.status,
            backend=self.backend,
            dtype=str(dtype).removeprefix("torch."),
            problem=self.told,
            _scores=(z, verdict.y),
            kkt_bound=0.0 if outcome is None else outcome.kkt_bound,
        )

    @property
    def prices(self) -> Tensor:
        """(m,) float64; 0 where there is no outcome."""
        if self.outcome is None:
            return torch.zeros(self.told.m, dtype=torch.float64, device="cpu")
        return torch.from_numpy(self.outcome.p.copy())

    @property
    def iterations(self) -> int:
        return 0 if self.outcome is None else self.outcome.iterations


def answered(
    z: Tensor,
    problem: ProjectionProblem,
    pinned: ProjectionProblem,
    search: Callable[[], EntropyOutcome],
    whole: Callable[[], ProjectionProblem] | None = None,
    backend: str = BACKEND,
) -> Answer:
    """What ``search`` finds for z (n,), judged. ``pinned``: the problem in which scores that no price moves have no other place;
    ``whole``: the one in which infeasibility is looked for, where more is known of the scores than ``pinned`` says."""
    outcome: EntropyOutcome | None = None
    with guarded(backend, problem) as guard:
        outcome = search()
        verdict = judge(outcome.y, z, pinned, outcome.violation, outcome)
    if guard.error is not None:
        claim = Stated(Status.FAILED, False, False, np.inf, 0.0, guard.message)
        nothing = np.full(problem.linear + problem.ranges, np.inf)
        outcome, verdict = None, judge(torch.full_like(z, np.nan), z, pinned, nothing, claim)
    if verdict.status in GRANTING and problem.stated is None:
        return Answer(outcome, verdict, problem, backend)
    with guarded(backend, problem) as guard:
        verdict = ruled(verdict, pinned if whole is None else whole(), np.inf if outcome is None else outcome.residual)
    if guard.error is not None:  # nothing is known of what the problem allows
        verdict = replace(verdict, status=Status.FAILED, message=guard.message)
    return Answer(outcome, verdict, pinned, backend)


@dataclass(eq=False)
class Solved:
    """What a gradient needs besides the tensors."""

    outcome: EntropyOutcome
    problem: ProjectionProblem


class Connected(torch.autograd.Function):
    """Scores that are there already, connected to their input and to the limits; ``backward`` is that of the distance."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, lower: Any, upper: Any, width: Any, offset: Any, weight: Any, y: Tensor, solved: Solved
    ) -> Tensor:
        ctx.save_for_backward(scores, lower, upper, width, offset, weight)
        ctx.solved = solved
        return y.detach()  # another tensor: the node must not hold its own output

    @classmethod
    def attach(cls, scores: Tensor, limits: Limits | None, outcome: EntropyOutcome, problem: ProjectionProblem, y: Tensor) -> Tensor:
        """The returned y, connected to ``scores`` of the same shape and to the limits."""
        tensors = limits.tensors() if limits is not None else (None,) * 5
        attached: Tensor = cls.apply(scores, *tensors, y, Solved(outcome, problem))  # type: ignore[no-untyped-call]
        return attached
