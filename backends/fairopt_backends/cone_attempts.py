"""How often a cone solver is asked: SCS twice, for it can lose its own scale.

SCS adapts the scale of its problem as it goes, and the scale can run away: on two overlapping attributes of 8 groups with active bounds
and 300 to 1,024 samples it ended with residuals of 1e8, or with no status at all, in 7 of 12 problems. With a fixed scale all of them
are solved, small problems in twice the iterations. So a quarter of the iterations is tried with the adaptive scale and, where the answer
is not good, the rest with a fixed one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fairopt.basics.errors import BackendError

Answered = TypeVar("Answered")


def attempts(solver: str, solver_tol: float | None, max_iter: int) -> list[dict[str, Any]]:
    """The options of each attempt, for DIFFCP's ``solve_method``."""
    if solver == "Clarabel":
        tol = 1e-12 if solver_tol is None else solver_tol
        return [{"solve_method": solver, "tol_gap_abs": tol, "tol_gap_rel": tol, "tol_feas": tol, "max_iter": max_iter}]
    scs = {"solve_method": solver, "eps": 1e-10 if solver_tol is None else solver_tol}
    quick = max(1, max_iter // 4)
    found = [scs | {"max_iters": quick}]
    return found if quick == max_iter else [*found, scs | {"max_iters": max_iter - quick, "adaptive_scale": False}]


def exponential_attempts(solver_tol: float | None, max_iter: int) -> list[dict[str, Any]]:
    """The options of each attempt at exponential cones: Clarabel, which is exact there, once more with a goal that it reaches always, and
    SCS where it gives up."""
    easier = [] if solver_tol is not None else attempts("Clarabel", 1e-8, max_iter)
    return [*attempts("Clarabel", solver_tol, max_iter), *easier, *attempts("SCS", solver_tol, max_iter)]


def best_answer(
    options: Sequence[dict[str, Any]], call: Callable[[dict[str, Any]], Answered], residual: Callable[[Answered], float], enough: float
) -> Answered:
    """The first answer with a residual of at most ``enough``, else the one with the least. BackendError where every attempt raised one."""
    found: list[tuple[float, Answered]] = []
    raised: BackendError | None = None
    for one in options:
        try:
            answer = call(one)
        except BackendError as error:
            raised = error
            continue
        found.append((residual(answer), answer))
        if found[-1][0] <= enough:
            break
    if not found:
        raise BackendError("not asked") if raised is None else raised
    return min(found, key=lambda pair: pair[0])[1]
