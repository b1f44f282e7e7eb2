"""The last word on a problem that no scores can meet: INFEASIBLE with a proof, CLOSEST against the limits as written, never without.

What a search ran into (prices that grow, a solver's own word) is no proof. Where an answer earned no status that grants anything, the proof
is searched for, once a problem; without one the answer stays what it reached.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.exact_sums import finite_float
from fairopt.contract.backend import Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.feasibility import infeasibility
from fairopt.solve.dual.structure import structure
from fairopt.solve.finish.check import exact_violations
from fairopt.solve.finish.gate import GRANTING

SHORT = (Status.INACCURATE, Status.ITERATION_LIMIT, Status.INFEASIBLE)
NEARLY = 1e-6  # share of the largest score
UNPROVED = "infeasible by the backend's word, but no proof was found"


class Answered(Protocol):
    """A dataclass with scores (n,) in the order of the samples, violations (L + R,) of the problem's limits, a status and a message."""

    @property
    def y(self) -> Tensor: ...
    @property
    def violation(self) -> Array: ...
    @property
    def status(self) -> Status: ...
    @property
    def message(self) -> str: ...


A = TypeVar("A", bound=Answered)


def ruled(answer: A, problem: ProjectionProblem, residual: float) -> A:
    """``answer`` with the status that the problem allows, and its violations against the limits as written. ``residual``: of its
    optimality, in units of the scores."""
    status, message = answer.status, answer.message
    if problem.stated is None:
        if status in GRANTING:
            return answer
        if infeasibility(problem) is not None:
            return replace(answer, status=Status.INFEASIBLE, message="")  # type: ignore[type-var]
        if status is Status.INFEASIBLE:
            words = f"{UNPROVED}: {message}" if message else UNPROVED
            return replace(answer, status=Status.INACCURATE, message=words)  # type: ignore[type-var]
        return answer
    if status in GRANTING or (status in SHORT and _nearly(answer, problem, residual)):
        status = Status.CLOSEST
    elif status is Status.INFEASIBLE:  # the wider limits can be met: whatever says otherwise is the search's own rounding
        status = Status.INACCURATE
    return replace(answer, status=status, violation=stated_violations(problem, answer.y))  # type: ignore[type-var]


def _nearly(answer: Answered, problem: ProjectionProblem, residual: float) -> bool:
    """Whether scores meet the wider limits, and are nearest there, up to NEARLY. These limits leave no room, so a search may end a little
    beside them; the violations that are told are those of the scores returned."""
    y = answer.y.detach().to("cpu", torch.float64)
    allowed = NEARLY * float(y.abs().max())
    inside = bool(((y >= problem.lb) & (y <= problem.ub)).all())
    st = structure(problem)
    unit = np.concatenate([st.unit[: st.linear], [2.0 * st.unit[part].max() for part in st.slices]])
    return inside and residual <= allowed < np.inf and bool((answer.violation <= allowed * unit)[st.hard].all())


def stated_violations(problem: ProjectionProblem, y: Tensor) -> Array:
    """(L + R,) signed violation of every constraint as written by scores y (n,), from exact sums."""
    stated = problem.as_stated()
    if not bool(torch.isfinite(y).all()):
        return np.full(stated.linear + stated.ranges, np.inf)
    scores = y.detach().to("cpu", torch.float64).numpy()
    open_ends = [c for c in range(stated.linear) if np.isinf(stated.lower[c]) and np.isinf(stated.upper[c])]
    open_ends += [stated.linear + r for r in range(stated.ranges) if np.isinf(stated.width[r])]
    every = [c for c in range(stated.linear + stated.ranges) if c not in set(open_ends)]
    exact = exact_violations(structure(problem), stated, scores, every)
    return np.array([finite_float(exact[c]) if c in exact else -np.inf for c in range(stated.linear + stated.ranges)])
