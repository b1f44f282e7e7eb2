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
from fairopt.solve.dual.newton import DualSolution, Search, State, goals, hidden, magnitude
from fairopt.solve.dual.structure import Numbers, Structure
from fairopt.solve.entropy.dual import CellModel, EntropyDual

MAX_ITER = 50
INNER = 100  # steps without a pass over the samples
STALE, PATIENT, SETTLED = 12, 25, 4  # steps that leave the residual where it was: far from the end, where the dual still falls (PATIENT:
# without a pass over the samples), and near it
NEAR = 1e-6  # of the scores' size: residuals from which Newton's own steps are taken
CLEAR = 1e-3  # a residual that falls by so much in one step needs no search, however near the end is
SEARCH = 30  # evaluations of one line search
SMALL = 0.1  # slope beyond the minimum, over that at the start, which needs no search
ROUGH, SOFT = 0.01, 12  # of the scores' size: the residual at which a softer problem has done its part; steps that it is given
FAR = 1500.0  # a shift that takes any probability from one end to the other


def metric_of(dual: EntropyDual, structure: Structure, numbers: Numbers) -> Structure:
    """The structure with the metric of the divergence: how far a row moves for a unit of its own price, at most about. Scores are taken
    to be as large as the largest, and as the limits that push them: a smaller metric would hide a price that pushes too far.
    """
    size = magnitude(dual, structure, numbers)
    most = {"kl": min(0.25, size), "kl_positive": size, "squared": 1.0}[dual.kind]
    moves = np.where(dual.pinned, 0.0, most)
    mass = moves if dual.inverse_weight is None else moves * dual.inverse_weight
    metric = np.diag(dual.model_of(mass)) if dual.dense is not None else (dual.coefficients**2) @ np.add.reduceat(mass, dual.starts)
    return replace(structure, metric=np.where(metric > 0, metric, 1.0))


class _Descent(Search):
    """Newton steps that are cut where they would take a cell from one end to the other and beyond."""

    stale = PATIENT

    def __init__(self, dual: EntropyDual, structure: Structure, numbers: Numbers, resolution: float, solved: float) -> None:
        super().__init__(dual, structure, numbers, resolution, solved)
        self.entropy, self.size = dual, max(dual.magnitude(), 1e-300)

    def interior(self, state: State, max_iter: int) -> tuple[State, int]:
        return state, 1  # that method is for maps that are lines

    def slopes(self, state: State) -> Array:
        """(C,) the slopes of the model: secants as far as the residual, where cells are flat at the prices."""
        own = super().slopes(state)
        return np.maximum(own, self.entropy.secants(state.p, state.res)) if isinstance(self.entropy, CellModel) else own

    def towards(self, state: State, q: Array) -> State:
        """A point on the way from ``state`` to prices q where the dual, which is convex, has fallen, and falls more slowly."""
        d = q - state.p
        far = float(np.abs(self.entropy.reach(d)).max(initial=0.0))
        if not far < np.inf:
            return state
        d = d if far <= FAR else (FAR / far) * d
        new = self.at(state.p + d if far > FAR else q)
        near = state.res <= NEAR * self.size and new.res <= 0.5 * state.res
        if near or new.res <= CLEAR * state.res:  # near the end slopes of the dual are rounding
            return new
        falls, rises = self.derivative(state, d), -self.derivative(new, -d)
        if not rises > 0.0:
            return self.expand(state, new, d, falls, rises)
        if rises <= SMALL * abs(falls) and new.res < state.res:
            return new
        low, high, at_low, at_high = 0.0, 1.0, min(falls, 0.0), rises
        lowest = state
        for _ in range(SEARCH):
            a = low + (high - low) * (-at_low / (at_high - at_low)) if at_high > at_low else 0.5 * (low + high)
            a = min(max(a, low + 0.05 * (high - low)), high - 0.05 * (high - low))
            new = self.at(state.p + a * d)
            slope = -self.derivative(new, -d)
            if slope <= 0:
                low, at_low, lowest = a, slope, new
                if slope >= 0.2 * falls:
                    break
            else:  # also where it is no number
                high, at_high = a, slope if slope < np.inf else np.inf
        return lowest

    def step(self, state: State) -> State:
        return self.towards(state, self.model_minimiser(state))

    def run(self, state: State, goal: float, max_iter: int, most: float) -> tuple[State, int]:
        """Steps until the residual is at most ``goal``, or they no longer help. Returns the last point, at which the dual is least, and
        their number; ``self.best`` is the one with the least residual."""
        self.spread = max(state.res, 1e-300)
        self.best = best = state
        stale, used = 0, 0
        while used < max_iter and stale < self.stale and not state.res <= max(goal, min(hidden(self.structure, state.p), most)):
            used += 1
            try:
                state = self.step(state)
            except np.linalg.LinAlgError:  # slopes too far apart to factor the model
                break
            settled = best.res <= self.solved
            stale = 0 if state.res < (0.5 if settled else 0.95) * best.res else stale + 1
            best = state if state.res < best.res else best
            if settled and stale >= SETTLED:
                break
        self.best = best
        return state, used


class _Outer(_Descent):
    """The search over the samples: each step is the solution of the problem of the cells."""

    stale = STALE

    def step(self, state: State) -> State:
        if not self.entropy.modelled:
            return super().step(state)
        inner = _Descent(self.entropy.model_of_cells(state.p), self.structure, self.numbers, self.resolution, self.solved)
        start = inner.at(state.p)
        found, _ = inner.run(start, max(self.resolution, 1e-3 * state.res), INNER, 0.0)
        return super().step(state) if found.p is start.p else self.towards(state, found.p)


def solve_entropy(
    dual: EntropyDual,
    structure: Structure,
    numbers: Numbers,
    start: Array | None = None,
    *,
    tol: float | None = None,
    max_iter: int = MAX_ITER,
) -> DualSolution:
    """Prices that solve the dual. ``tol``: KKT residual in score units at which to stop; None: what float64 resolves."""
    limits = goals(dual, structure, numbers, 0.0 if tol is None else tol)
    goal = max(0.0 if tol is None else tol, limits.resolution)
    search, steps = _Outer(dual, structure, numbers, limits.resolution, limits.solved), 0
    softer = dual.softer() if start is None else None
    if softer is not None:
        first = solve_entropy(softer, structure, numbers, tol=ROUGH * limits.magnitude, max_iter=min(max_iter, SOFT))
        start, steps = first.p, first.iterations
    p = np.zeros(structure.metric.shape[0]) if start is None else search.solver.feasible(start)
    with np.errstate(over="ignore", invalid="ignore"):  # a step that leaves float64 is not taken
        _, used = search.run(search.at(p), goal, max_iter - steps, limits.most)
    state = search.best
    bound = limits.bound(structure, state.p)
    return DualSolution(state.p, state.ev, state.res, steps + used, bool(state.res <= bound), bound)
