"""The compiler: a notion and the facts of one batch become one projection problem."""

from __future__ import annotations

from fairopt.compiler.compile import Compiled, OnMissing, compile_problem
from fairopt.compiler.infeasible import OnInfeasible

__all__ = ["Compiled", "OnInfeasible", "OnMissing", "compile_problem"]
