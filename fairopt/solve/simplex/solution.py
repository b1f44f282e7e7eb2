"""What is found for class probabilities, by any road."""

from __future__ import annotations

from dataclasses import dataclass

from fairopt.solve.certificate import Solution
from fairopt.solve.simplex.summed import Summed


@dataclass(frozen=True, eq=False)
class ClassSolution(Solution):
    """A ``Solution`` with scores (n, C). simplex_error: how far the exact sum of a sample's probabilities is from 1 at most, as float64.
    summed: the problem in which an infeasible one was proved so; None elsewhere."""

    simplex_error: float = 0.0
    summed: Summed | None = None
