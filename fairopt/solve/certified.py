"""The certificate of what a compiled solve found, from the numbers of its stages: the same for every road."""

from __future__ import annotations

from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.contract.backend import Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.certificate import Certificate
from fairopt.solve.passes import stages
from fairopt.solve.plan import CellPlan


def prices_of(plan: CellPlan, numbers: Array) -> Array:
    """(m,) a view of the answer's prices."""
    return numbers[stages.HEAD : stages.HEAD + plan.m]


def certificate_of(
    problem: ProjectionProblem, plan: CellPlan, numbers: Array, scores: tuple[Tensor, Tensor], backend: str, farthest: float = 1.0
) -> Certificate:
    """``scores``: what was asked and what is returned, (n,) each; ``farthest``: how far a score moves at most for a unit of its shift."""
    first = stages.HEAD + plan.m
    return Certificate(
        violation=numbers[first : first + plan.constraints].copy(),
        bounds_violation=0.0,
        kkt_residual=float(numbers[stages.RESIDUE]),
        rounding_bound=float(numbers[stages.ERROR]),
        moved_by_repair=float(numbers[stages.MOVED]) * farthest,
        status=Status.CERTIFIED,
        backend=backend,
        dtype=str(scores[0].dtype).removeprefix("torch."),
        problem=problem,
        _scores=scores,
        kkt_bound=float(numbers[stages.BOUND]),
    )
