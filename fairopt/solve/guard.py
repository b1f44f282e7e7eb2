"""Foreign exceptions end here: what a solver or a linear algebra routine raises becomes a status or an error of ours.

The message names the backend, the exception and the problem's hash, for a report. fairopt's own errors, warnings turned into errors and
a TimeoutError (raised by alarms, not by solvers) pass; KeyboardInterrupt does as well. Floating point warnings are silent inside:
what overflows or has no value is denied at the gate.
"""

from __future__ import annotations

import logging
import os
from types import TracebackType

import numpy as np

from fairopt.basics.errors import FairoptError
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.certificate import problem_hash

PASSED = (FairoptError, Warning, TimeoutError)
logger = logging.getLogger("fairopt")


class guarded:
    """A context that swallows a foreign exception and keeps it as ``error``, with ``message`` for the user."""

    error: Exception | None = None
    message = ""

    def __init__(self, backend: str, problem: ProjectionProblem) -> None:
        self.backend, self.problem = backend, problem
        self._quiet = np.errstate(all="ignore")

    def __enter__(self) -> guarded:
        self._quiet.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        self._quiet.__exit__(kind, error, trace)
        if not isinstance(error, Exception) or isinstance(error, PASSED):
            return False
        said = " ".join(str(error).split())[:300]
        self.error = error
        self.message = f"{type(error).__name__}: {said} ({place(trace)}), backend {self.backend!r}, problem {problem_hash(self.problem)}"
        logger.debug(self.message, exc_info=error)
        return True


def place(trace: TracebackType | None) -> str:
    """File and line where an exception came up."""
    if trace is None:
        return "nowhere"
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
