"""What the kit hands to a backend at a draw, to have a failing call again at the prompt."""

from __future__ import annotations

from typing import NoReturn

from torch import Tensor

from fairopt.basics.errors import FairoptError
from fairopt.contract.backend import Backend, RawSolution
from fairopt.contract.problem import ProjectionProblem
from fairopt.contract.ranges_as_pairs import as_pairs, untaken
from fairopt.contract.registry import BackendLike, resolve
from fairopt.solve import solve
from fairopt.testing.draws import Draw


def handed_over(drawn: Draw, backend: BackendLike) -> tuple[Tensor, ProjectionProblem]:
    """``(scores, problem)`` as ``backend.solve`` gets them at the draw ``drawn``: with pairs for the ranges that it does not declare, and
    scores in a dtype and a scale that it takes. A failure of ``check_backend`` names the draw.

    ``backend``: an instance, a class or a name. UnsupportedError where it does not declare what the draw asks.

    Examples:
        >>> from fairopt.testing import draw, handed_over
        >>> class Mine(fo.Backend):
        ...     name = "mine"
        ...     capabilities = fo.Capabilities()
        ...     def solve(self, scores, problem):
        ...         return fo.RawSolution(scores.clone())
        >>> drawn = draw("range", 0, n=6)
        >>> scores, problem = handed_over(drawn, Mine())
        >>> drawn.problem.ranges, problem.ranges, problem.linear
        (1, 0, 15)
    """
    asked = resolve(backend)
    try:
        solve(drawn.scores, drawn.problem, backend=_Recorder(asked))
    except _Handed as handed:
        return handed.scores, handed.problem
    others = untaken(drawn.problem, asked.capabilities)  # it was not asked: fair scores are left as they are
    return drawn.scores, as_pairs(drawn.problem, others).problem if others else drawn.problem


class _Handed(FairoptError):
    """Carries a call out of the front door, which lets errors of fairopt's own pass."""

    def __init__(self, scores: Tensor, problem: ProjectionProblem) -> None:
        super().__init__("recorded")
        self.scores, self.problem = scores, problem


class _Recorder(Backend):
    """What another backend declares, and no answer."""

    def __init__(self, asked: Backend) -> None:
        self.name, self.capabilities = asked.name, asked.capabilities  # type: ignore[misc]

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        self._hand(scores, problem)

    def solve_batch(self, scores: Tensor, problem: ProjectionProblem) -> list[RawSolution]:
        self._hand(scores[0], problem)

    def _hand(self, scores: Tensor, problem: ProjectionProblem) -> NoReturn:
        raise _Handed(scores, problem)
