"""The judge: every answer is compared, in the parent process, with a reference solution of the same numbers.

Up to ``ORACLE_N`` numbers the reference is fairopt.testing's, which shares no code with any backend (a cone solver's for class
probabilities and "kl"); beyond, or without daqp or clarabel, it is dual_newton in float64. The gradient is that of the active set; it is
not judged where the problem is within ``MARGIN`` of a kink, because there float32 and float64 rightly disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError, MissingExtraError
from fairopt.contract.problem import ProjectionProblem
from fairopt.race.cells import Subject
from fairopt.race.draw import Drawn, draw, in_positions

if TYPE_CHECKING:
    from fairopt.race.measure import Measured

ORACLE_N = 1024
MARGIN = 1e-7


@dataclass(frozen=True, eq=False)
class Reference:
    """``y``, ``gradient`` of the drawn cotangent, or None at a kink, one number a position of ``problem``; ``source``: which reference;
    ``fingerprint`` of the draw."""

    problem: ProjectionProblem
    y: Array
    gradient: Array | None
    source: str
    fingerprint: str


@dataclass(frozen=True)
class Judged:
    """violation: the worst of any row or bound, exactly, 0 when all hold; y_error, solver_y_error: max |y - y*| of the front door's
    answer and of the solver's own; gradient_error: max |g - g*| / max |g*|, None where it is not judged."""

    violation: float
    y_error: float
    solver_y_error: float | None
    gradient_error: float | None
    reference: str


class Judge:
    """Holds the references of a race: one a subject, made when it is first needed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._references: dict[Subject, Reference] = {}

    def reference(self, subject: Subject) -> Reference:
        if subject not in self._references:
            self._references[subject] = make_reference(draw(subject, self.seed))
        return self._references[subject]

    def judge(self, subject: Subject, measured: Measured) -> Judged:
        """Compare an answer (outcome "ok") with the reference."""
        from fairopt.testing.exact import violation_exact

        assert measured.y is not None
        assert measured.gradient is not None
        best = self.reference(subject)
        if measured.fingerprint != best.fingerprint:
            raise BackendError("the worker drew other numbers than the judge: was fairopt changed during the race?")
        raw = measured.raw if measured.raw is not None and np.isfinite(measured.raw).all() else None
        return Judged(
            violation=float(violation_exact(best.problem, torch.from_numpy(measured.y)).worst),
            y_error=_apart(measured.y, best.y),
            solver_y_error=None if raw is None else _apart(raw, best.y),
            gradient_error=None if best.gradient is None else _off(measured.gradient, best.gradient, subject.classes),
            reference=best.source,
        )


def make_reference(drawn: Drawn) -> Reference:
    """The oracle where it is accepted, else dual_newton in float64."""
    prepared = drawn.prepare()
    problem = drawn.problem(prepared)
    plain = drawn.subject.classes == 1 and drawn.subject.distance == "squared"
    if problem.n <= ORACLE_N:
        try:
            return (_by_oracle if plain else _by_cones)(drawn, problem)
        except (MissingExtraError, BackendError, _NotAccepted):
            pass  # its solver is not there, or found no solution that the oracle's own check accepts
    x = drawn.scores[0].double().requires_grad_(True)
    y = prepared.project(x, backend="dual_newton", certify=False)
    torch.autograd.backward(y, drawn.cotangent.double())
    assert x.grad is not None
    at, gradient = (in_positions(v).numpy() for v in (y.detach(), x.grad))
    return Reference(problem, at, gradient, "dual_newton, float64", drawn.fingerprint)


class _NotAccepted(Exception):
    """The oracle's residual is too large."""


def _by_oracle(drawn: Drawn, problem: ProjectionProblem) -> Reference:
    from fairopt.testing.draws import Draw
    from fairopt.testing.oracle import solve_oracle
    from fairopt.testing.sensitivity import exact_jacobian, is_generic

    subject = drawn.subject
    as_draw = Draw(problem, drawn.scores[0].double(), subject.notion, 0, frozenset(), 1.0, None)
    solution = solve_oracle(as_draw)
    if not solution.accepted:
        raise _NotAccepted
    gradient = exact_jacobian(as_draw, solution).T @ drawn.cotangent.double().numpy() if is_generic(as_draw, solution, MARGIN) else None
    return Reference(problem, solution.y, gradient, "oracle", drawn.fingerprint)


def _by_cones(drawn: Drawn, problem: ProjectionProblem) -> Reference:
    from fairopt.testing.cone_oracle import cone_gradient

    scores, cotangent = (in_positions(v).double().numpy() for v in (drawn.scores[0], drawn.cotangent))
    found = cone_gradient(scores, problem, cotangent, MARGIN)
    if found is None:
        raise _NotAccepted
    return Reference(problem, found[0].y, found[1], "oracle", drawn.fingerprint)


def _off(gradient: Array, best: Array, classes: int) -> float:
    """max |g - g*| / max |g*|. Probabilities that sum to 1 move by what sums to 0: of a gradient by them that part counts."""
    ours, theirs = (g.astype(np.float64).reshape(classes, -1) for g in (gradient, best))
    if classes > 1:
        ours, theirs = ours - ours.mean(axis=0), theirs - theirs.mean(axis=0)
    return _apart(ours, theirs) / _size(theirs)


def _apart(a: Array, b: Array) -> float:
    return float(np.abs(a.astype(np.float64) - b).max())


def _size(a: Array) -> float:
    return float(np.abs(a).max()) or 1.0
