"""Newton's method for the divergences: the same search as for the squared distance, with a model that bends as the map does.

A step of plain Newton is the minimiser of a quadratic model of the dual. Where probabilities of 1e-300 have to rise to 1/2 that is off by
hundreds of orders of magnitude. So the model is a projection problem of the same divergence with one kind of sample a cell
(``dual.CellModel``): equal to the dual in value and slopes, exact where the samples of each cell are equal, and solved without a pass over
the samples. A line search on the derivative of the dual, which is convex, makes each step a descent; near the optimum steps are Newton's
own and converge quadratically.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.solve.dual.newton import DualSolution, Search, State, goals, hidden
from fairopt.solve.dual.structure import Numbers, Structure
from fairopt.solve.entropy.dual import EntropyDual

MAX_ITER = 50
INNER = 100  # steps without a pass over the samples
STALE = 4
FAR = 1500.0  # a shift that takes any probability from one end to the other


def metric_of(dual: EntropyDual, structure: Structure) -> Structure:
    """The structure with the metric of the divergence: how far a row moves for a unit of its own price, about where it moves most. Scores
    that are all tiny move by no more than their size."""
    size = float(np.where(dual.pinned, 0.0, dual.z).max(initial=0.0))
    if dual.kind == "kl":
        moves = np.full_like(dual.z, min(0.25, size))
    else:
        moves = np.maximum(dual.z, 1e-3 * size)
    moves = np.where(dual.pinned, 0.0, moves)
    mass = moves if dual.inverse_weight is None else moves * dual.inverse_weight
    metric = np.diag(dual.model_of(mass)) if dual.dense is not None else (dual.coefficients**2) @ np.add.reduceat(mass, dual.starts)
    return replace(structure, metric=np.where(metric > 0, metric, 1.0))


class _Descent(Search):
    """Newton steps that are cut where they would take a cell from one end to the other and beyond."""

    def __init__(self, dual: EntropyDual, structure: Structure, numbers: Numbers, resolution: float, solved: float) -> None:
        super().__init__(dual, structure, numbers, resolution, solved)
        self.entropy = dual

    def interior(self, state: State, max_iter: int) -> tuple[State, int]:
        return state, 1  # that method is for maps that are lines

    def towards(self, state: State, q: Array) -> State:
        """A point on the way from ``state`` to prices q, where the dual has fallen."""
        far = float(np.abs(self.entropy.reach(q - state.p)).max(initial=0.0))
        if not far <= FAR:
            q = state.p + (FAR / far) * (q - state.p) if far < np.inf else state.p
        return self.line_search(state, q)

    def step(self, state: State) -> State:
        return self.towards(state, self.model_minimiser(state))

    def run(self, state: State, goal: float, max_iter: int, most: float) -> tuple[State, int]:
        """Steps until the residual is at most ``goal``, or they no longer help. Returns the best point."""
        self.spread = max(state.res, 1e-300)
        best, stale, used = state, 0, 0
        while used < max_iter and stale < STALE and not state.res <= max(goal, min(hidden(self.structure, state.p), most)):
            used += 1
            try:
                state = self.step(state)
            except np.linalg.LinAlgError:  # slopes too far apart to factor the model
                break
            settled = best.res <= self.solved
            stale = 0 if state.res < (0.5 if settled else 0.95) * best.res else stale + 1
            best = state if state.res < best.res else best
        return best, used


class _Outer(_Descent):
    """The search over the samples: each step is the solution of the problem of the cells."""

    def step(self, state: State) -> State:
        if self.entropy.dense is not None:
            return super().step(state)
        inner = _Descent(self.entropy.model_of_cells(state.p), self.structure, self.numbers, self.resolution, self.solved)
        start = inner.at(state.p)
        found, _ = inner.run(start, max(self.resolution, 1e-3 * state.res), INNER, 0.0)
        return super().step(state) if found is start else self.towards(state, found.p)


def solve_entropy(
    dual: EntropyDual, structure: Structure, numbers: Numbers, start: Array | None = None, *, tol: float | None = None, max_iter: int = MAX_ITER
) -> DualSolution:
    """Prices that solve the dual. ``tol``: KKT residual in score units at which to stop; None: what float64 resolves."""
    limits = goals(dual, structure, numbers, 0.0 if tol is None else tol)
    goal = max(0.0 if tol is None else tol, limits.resolution)
    search = _Outer(dual, structure, numbers, limits.resolution, limits.solved)
    p = np.zeros(structure.metric.shape[0]) if start is None else search.solver.feasible(start)
    with np.errstate(over="ignore", invalid="ignore"):  # a step that leaves float64 is not taken
        state, used = search.run(search.at(p), goal, max_iter, limits.most)
    bound = limits.bound(structure, state.p)
    return DualSolution(state.p, state.ev, state.res, used, bool(state.res <= bound), bound)
