"""What a caller is told of a solution: an error for a failure, a warning for an answer that its status does not vouch for."""

from __future__ import annotations

import os
import sys
import warnings

import torch

from fairopt.basics.errors import BackendError, FairoptWarning
from fairopt.contract.backend import Status
from fairopt.solve.certificate import Solution


def report(solution: Solution) -> None:
    """Raise BackendError for a failure, warn for an inaccurate answer; say nothing for one that its status vouches for."""
    status = solution.status
    if status in (Status.CERTIFIED, Status.WITHIN_ROUNDING, Status.CLOSEST):
        return
    words = f"backend {solution.backend!r}: {status.name}: {solution.message or status.advice}"
    if status in (Status.FAILED, Status.INFEASIBLE):
        raise BackendError(words)
    residual = solution.certificate.kkt_residual
    warnings.warn(
        f"{words} (KKT residual {residual:.1e}, worst violation {solution.certificate.max_violation:.1e})",
        FairoptWarning,
        stacklevel=callers_level(),
    )


def tell_closest(solutions: list[Solution]) -> None:
    """Warn where scores are the closest to a notion that no scores meet. The words are always the same: Python shows them once a place."""
    if any(solution.status is Status.CLOSEST for solution in solutions):
        warnings.warn(f"{Status.CLOSEST.name}: {Status.CLOSEST.advice}", FairoptWarning, stacklevel=callers_level())


_OWN = (os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep, os.path.dirname(os.path.abspath(torch.__file__)) + os.sep)


def callers_level() -> int:
    """The ``stacklevel`` at which ``warnings.warn``, called by the caller, names the first line outside fairopt and torch."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN):
        level, frame = level + 1, frame.f_back
    return level
