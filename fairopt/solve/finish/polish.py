"""From an approximate answer of any solver to machine precision: read its active set, solve that equality system once.

Where that is not enough although the answer is nearly right (a row without a price, or a free sample, that touches its limit: no
threshold tells it from an active one), at most REFINE Newton steps finish it. They may move no score by more than MOVES: nobody else's
answer is searched for here. An answer that is farther off stays what it is and is reported INACCURATE. A backend that returns scores and
no prices gets those that the dual finds, if they stand for its scores. Source: DESIGN 6.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.contract.backend import RawSolution
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.active_piece import read_piece
from fairopt.solve.dual.evaluator import Dual
from fairopt.solve.dual.newton import DualSolution, Goals, goals, solve_dual
from fairopt.solve.dual.prox import residual
from fairopt.solve.dual.structure import Numbers, Structure
from fairopt.solve.finish.rounding import to_cell_order

ROUNDS = 3
REFINE = 3  # Newton steps
NEAR, MOVES = 1e-3, 1e-3  # the residual from which they start, and what they may move a score by, over the size of the scores
DROPS = (0.0, 1.0, 30.0, 1000.0)  # multiples of the residual under which a row's price counts as none
EPS = float(np.finfo(np.float64).eps)
RESOLVED = 1e-13  # a residual over the scores' size that needs no second look


def polish(
    dual: Dual, structure: Structure, numbers: Numbers, raw: RawSolution, scores: Tensor, problem: ProjectionProblem
) -> DualSolution:
    """The best prices found from the backend's answer, with the residual there. ``scores`` (n,) in the order of the samples."""
    candidates: list[Array] = []
    if raw.prices is not None and np.isfinite(raw.prices).all():
        candidates.append(np.asarray(raw.prices, dtype=np.float64))
    if raw.y is not None and bool(torch.isfinite(raw.y).all()):
        candidates.append(least_squares_prices(dual, structure, raw.y, scores, problem))
    reach = goals(dual, structure, numbers)
    goal = _resolution(dual, structure, numbers)
    best: DualSolution | None = None
    for start in candidates:
        found = _pieces(dual, structure, numbers, start, goal)
        if best is None or found.residual < best.residual:
            best = found
        if best.converged:
            return replace(best, bound=reach.bound(structure, best.p))
    if best is None:
        zero = np.zeros(structure.metric.shape[0])
        return DualSolution(zero, dual.evaluate(zero), float("inf"), 0, False)
    best = _refined(dual, structure, numbers, best, reach)
    if raw.prices is None and raw.y is not None and not best.residual <= reach.bound(structure, best.p):
        best = _rebuilt(dual, structure, numbers, best, to_cell_order(raw.y, problem), reach)
    bound = reach.bound(structure, best.p)
    return replace(best, converged=bool(best.residual <= bound), bound=bound)


def sharpened(dual: Dual, structure: Structure, numbers: Numbers, found: DualSolution, extent: float) -> DualSolution:
    """A solution that a search ended at as solved, at the resolution of float64 where its piece says how: rows and prices of hugely
    different size leave much of an objective between "solved" and that. ``extent``: the largest absolute score.
    """
    if found.residual <= RESOLVED * extent:  # nearly all
        return found
    new = _pieces(dual, structure, numbers, found.p, _resolution(dual, structure, numbers))
    if not new.residual < found.residual:
        return found
    solved = found.converged or new.residual <= found.bound
    return replace(found, p=new.p, evaluation=new.evaluation, residual=new.residual, converged=solved)


def _resolution(dual: Dual, structure: Structure, numbers: Numbers) -> float:
    """The residual, in score units, below which float64 tells nothing."""
    return 64.0 * EPS * (dual.magnitude() + float(np.abs(numbers.offset / structure.unit).max(initial=0.0)))


def _refined(dual: Dual, structure: Structure, numbers: Numbers, found: DualSolution, reach: Goals) -> DualSolution:
    """``found`` after a few Newton steps, where it is near enough for that and they bring the residual down."""
    if found.residual > NEAR * reach.magnitude:
        return found
    new = solve_dual(dual, structure, numbers, found.p, max_iter=REFINE)
    moved = float((dual.scores(new.p) - dual.scores(found.p)).abs().max())
    return new if new.residual < found.residual and moved <= MOVES * reach.magnitude else found


def _rebuilt(dual: Dual, structure: Structure, numbers: Numbers, found: DualSolution, y: Tensor, reach: Goals) -> DualSolution:
    """The prices of ``y`` (n,), the scores of a backend that tells none, in cell order: the dual's, kept only where their scores are ``y``.

    Least squares cannot find them where the samples off their bounds, or the rows that bind, leave a choice: of all prices that fit those
    samples only those with the right signs, and the right side at the clamped samples, are prices of ``y``.
    """
    new = solve_dual(dual, structure, numbers, found.p)
    apart = float((dual.scores(new.p).to("cpu", torch.float64) - y.to("cpu", torch.float64)).abs().max())
    return new if new.residual < found.residual and apart <= MOVES * reach.magnitude else found


def _pieces(dual: Dual, structure: Structure, numbers: Numbers, start: Array, goal: float) -> DualSolution:
    """Up to ROUNDS solves of the equality system of the active set that is read off, kept while the residual falls."""

    def at(p: Array) -> DualSolution:
        ev = dual.evaluate(p)
        res = float(np.abs(residual(structure, numbers, ev.f, p)).max(initial=0.0))
        return DualSolution(p, ev, res, 0, res <= goal)

    best = at(start)
    for _ in range(ROUNDS):
        if best.converged:
            break
        before = best.residual
        M = dual.model(best.evaluation)
        for drop in DROPS:
            piece = read_piece(structure, numbers, best.evaluation.f, best.p, drop * before)
            new = at(piece.prices(best.evaluation.f, best.p, M, piece.inverse(M)))
            if new.residual < best.residual:
                best = new
            if best.residual <= 0.1 * before:
                break
        if best.residual > 0.5 * before:
            break
    return best


def least_squares_prices(dual: Dual, structure: Structure, y: Tensor, scores: Tensor, problem: ProjectionProblem) -> Array:
    """Prices p that fit  A'p = w (z - y)  on the samples off their bounds, in least squares. For solvers that return none."""
    a = problem.rows
    y64, z64 = y.detach().to("cpu", torch.float64), scores.detach().to("cpu", torch.float64)
    free = torch.ones_like(y64)
    gap = 1e-6 * (1.0 + y64.abs())  # a solver's answer reaches its bounds only nearly
    if problem.has_box:
        free = ((y64 > problem.lb + gap) & (y64 < problem.ub - gap)).to(torch.float64)
    inverse = free if problem.weights is None else free / problem.weights
    moved = (free * (z64 - y64)).numpy()
    mass = inverse.numpy()
    C = a.masks.shape[1]
    cell = a.cell.numpy()
    r = a.coefficients @ np.bincount(cell, weights=moved, minlength=C)
    M = (a.coefficients * np.bincount(cell, weights=mass, minlength=C)) @ a.coefficients.T
    if a.dense is not None:
        full = a.matrix().numpy()
        r, M = full @ moved, (full * mass) @ full.T
    # a row whose samples are (nearly) all at their bounds says nothing here: divided by its own size, rounding would be its price
    seen = np.diag(M) > 1e-12 * structure.metric
    s = np.sqrt(np.where(seen, np.diag(M), np.inf))
    return np.asarray(np.linalg.pinv(M / s / s[:, None], rcond=1e-10, hermitian=True) @ (r / s) / s)
