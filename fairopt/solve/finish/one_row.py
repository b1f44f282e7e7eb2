"""The price of a single row by bisection, where a search ended on a piece without a free sample.

There the row does not move with the price, so a Newton step has no length; yet a tolerance of a billionth of the scores lies between two
such pieces, and the price at which the row meets its limit lies on the short piece between them. The row's value falls with its price,
so halving a bracket finds it whatever the sizes are. Rare; a pass a halving.
"""

from __future__ import annotations

import numpy as np

from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.evaluator import Dual
from fairopt.solve.dual.newton import DualSolution, goals
from fairopt.solve.dual.prox import residual
from fairopt.solve.dual.structure import Numbers, Structure

HALVINGS = 100


def bisected(dual: Dual, structure: Structure, numbers: Numbers, found: DualSolution, problem: ProjectionProblem) -> DualSolution:
    """``found``, or the better prices of a bracket from it to no price; only for one hard linear row."""
    if problem.m != 1 or problem.linear != 1 or not problem.all_hard or not np.isfinite(found.p).all():
        return found
    if found.residual == 0.0 or (found.converged and found.evaluation.slope.any()):
        return found  # solved, or on a piece that moves
    price = float(found.p[0])
    limit = float(problem.upper[0] if price > 0 else problem.lower[0])
    sign = 1.0 if price > 0 else -1.0
    low, high = 0.0, abs(price)  # beyond the limit without a price, within it at the high end

    def beyond(p: float) -> float:
        return sign * (float(dual.evaluate(np.array([sign * p])).f[0]) - limit)

    if not (high > 0.0 and np.isfinite(limit) and beyond(low) > 0.0 and beyond(high) <= 0.0):
        return found
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if beyond(middle) > 0.0:
            low = middle
        else:
            high = middle
    p = np.array([sign * high])
    ev = dual.evaluate(p)
    error = float(np.abs(residual(structure, numbers, ev.f, p)).max(initial=0.0))
    if not error < found.residual:
        return found
    bound = goals(dual, structure, numbers).bound(structure, p)
    return DualSolution(p, ev, error, found.iterations, bool(error <= bound), bound)
