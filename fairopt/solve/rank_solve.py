"""One solve over the scores of all ranks of a process group: the driver over ``RankPasses``, its certificate and its gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fairopt.contract.backend import Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.certificate import Certificate, Solution
from fairopt.solve.drive import Driven, drive, respond
from fairopt.solve.dual.evaluator import round_inward
from fairopt.solve.gradient.attached import attach_piece
from fairopt.solve.passes import stages
from fairopt.solve.passes.rank_passes import RankPasses
from fairopt.solve.plan import CellPlan


@dataclass(frozen=True, eq=False)
class RankPiece:
    """The piece of one answer, over all ranks: its products are collective calls."""

    driven: Driven[Tensor]
    passes: RankPasses

    def times(self, v: Tensor, forward: bool) -> Tensor:
        """J'v for this rank's share v (n,) of all, or J v where ``forward``."""
        return respond(self.driven, self.passes, v, forward=forward)


def holds_numbers(plan: CellPlan, dtype: torch.dtype) -> bool:
    """Whether the box of a plan holds a number of ``dtype``."""
    ends = torch.tensor([plan.real[stages.LOW], plan.real[stages.HIGH]], dtype=torch.float64, device="cpu")
    return bool(round_inward(ends[:1], dtype, up=True) <= round_inward(ends[1:], dtype, up=False))


def solve_on_ranks(scores: Tensor, problem: ProjectionProblem, plan: CellPlan, passes: RankPasses) -> Solution | None:
    """The certified projection of all ranks' scores, of which ``scores`` (n,) or (n, 1) are this one's, connected to it.

    The certificate speaks of all and is the same everywhere. None, on every rank alike, where it is left to another road.
    """
    if not holds_numbers(plan, scores.dtype):
        return None
    driven = drive(problem, plan, passes)
    if not driven.certified or driven.scores is None:
        return None
    numbers = driven.numbers
    certificate = Certificate(
        violation=driven.violation.copy(),
        bounds_violation=0.0,
        kkt_residual=float(numbers[stages.RESIDUE]),
        rounding_bound=float(numbers[stages.ERROR]),
        moved_by_repair=float(numbers[stages.MOVED]),
        status=Status.CERTIFIED,
        backend=plan.name,
        dtype=str(scores.dtype).removeprefix("torch."),
        problem=problem,
        _scores=None,
        kkt_bound=float(numbers[stages.BOUND]),
    )
    certificate.__dict__["distance"] = passes.distance
    y = driven.scores
    if scores.requires_grad and torch.is_grad_enabled():
        y = attach_piece(scores.reshape(-1), y, RankPiece(driven, passes))
    prices = torch.from_numpy(np.array(driven.prices))
    return Solution(y.view(scores.shape), prices, Status.CERTIFIED, certificate, plan.name, int(numbers[stages.ITERATIONS]))
