"""Semismooth Newton on the dual: exact for any rows, softness and bounds, in a few passes over the samples.

Minimise over prices p   Phi(p) = sum_i phi_i((A'p)_i) + sigma(p),  phi_i' = -y_i(p), sigma the dual cost of the limits. Each iteration
minimises the model f(q) = f(p) - M (q - p), sigma as it is, exactly: by sorting where constraints share no cell, else by an
active-set method (``active_set``). A line search on the derivative of Phi follows (Phi is convex: the sign of its derivative brackets
the minimum). On the right piece the model is Phi itself, and the step ends the search.

Cells without a free sample have slope 0: they get their mean slope times min(1, residual), which vanishes at the optimum. Where far
scores leave much of Phi linear, Newton can wander: after TRUST steps another method takes over and Newton finishes. That is the interior
point method (``interior``), or, after EARLY steps, where many constraints share no cell a search in tables of the rows (``tables``). The
residual is that of ``prox.residual``; the search ends when float64 resolves no better.

Source: Qi & Sun 1993 (semismooth Newton); DESIGN 7 for what failed before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.basics.range_projection import flow_derivative, in_domain, range_flow
from fairopt.basics.sparse import dense
from fairopt.contract.backend import RawSolution
from fairopt.solve.dual.active_piece import flow_of
from fairopt.solve.dual.active_set import ModelSolver, factor, factor_dense
from fairopt.solve.dual.evaluator import Dual, Evaluation
from fairopt.solve.dual.interior import InteriorPoint
from fairopt.solve.dual.pieces import minimise_by_pieces
from fairopt.solve.dual.prox import CONSTANTS, EPS, own_rounding, prox, residual
from fairopt.solve.dual.structure import Numbers, Structure
from fairopt.solve.dual.tables import table_prices
from fairopt.solve.dual.two_rows import few_rows

MAX_ITER = 50  # Newton steps and iterations of the interior point method together
ACCEPTED = 2e-10  # relative KKT residual that still counts as solved, where the search gets no further
TRUST = 8  # Newton steps before the interior point method
EARLY = 4  # before tables, which cost as much as a few steps
INTERIOR = 30
WRITTEN = 600  # rows up to which M may be written out where parts of it do not settle
GUESSES = 12  # Newton steps on a sample of the scores


@dataclass(frozen=True, eq=False)
class DualSolution:
    """Prices (m,), the evaluation there, the KKT residual in score units, iterations, and whether it is as small as float64 resolves.

    ``bound``: what the residual may be at most to count as solved; without one nothing is certified.
    """

    p: Array
    evaluation: Evaluation
    residual: float
    iterations: int
    converged: bool
    bound: float = 0.0


@dataclass(frozen=True, eq=False)
class SolvedDual(RawSolution):
    """A backend's answer with the evaluator and the solution that it comes from: the front door goes on from them, without a new pass."""

    dual: Dual = field(kw_only=True)
    solution: DualSolution = field(kw_only=True)


@dataclass(frozen=True, eq=False)
class State:
    p: Array
    ev: Evaluation
    res: float


class Search:
    """One solve: evaluations, the model's minimiser, the line search, and the way out."""

    def __init__(self, dual: Dual, structure: Structure, numbers: Numbers, resolution: float, solved: float) -> None:
        self.dual, self.structure, self.numbers = dual, structure, numbers
        self.resolution, self.solved = resolution, solved  # residuals: noise, and good enough to be called solved
        self.constants = CONSTANTS * EPS * sum(sizes_of_limits(structure, numbers)[1:])
        self.spread = 1.0  # the residual at the start

    @cached_property
    def solver(self) -> ModelSolver:
        return ModelSolver(self.structure, self.numbers)

    def at(self, p: Array) -> State:
        ev = self.dual.evaluate(p)
        r = np.abs(residual(self.structure, self.numbers, ev.f, p))
        res = float(r.max(initial=0.0))
        if self.resolution < res <= self.constants:
            res = float((r - own_rounding(self.structure, self.numbers, p)).max(initial=0.0))
        return State(p, ev, res)

    def slopes(self, state: State) -> Array:
        """(C,) slopes of the cells, positive for flat ones."""
        slope = state.ev.slope
        flat = slope <= 0
        if not flat.any():
            return slope
        return np.where(flat, self.dual.flat_slope(state.p) * min(1.0, state.res / self.spread), slope)

    @cached_property
    def quadratic(self) -> bool:
        return bool(np.isfinite(self.numbers.gamma).any())

    @cached_property
    def softness(self) -> Array:
        """(m,) 1 / gamma of each row; infinite for rows of other kinds."""
        sizes = [1] * self.structure.linear + [part.stop - part.start for part in self.structure.slices]
        soft = np.repeat(1.0 / self.numbers.gamma, sizes)
        return np.where(soft > 0.0, soft, np.inf)

    def model_minimiser(self, state: State, *, flat: bool = False) -> Array:
        """(m,) prices in the domain that minimise the model at ``state``. ``flat``: cells without a free sample stay flat."""
        f, p, ev, metric = state.ev.f, state.p, state.ev, self.structure.metric
        cells = ev.slope if flat or ev.dense_model is not None else self.slopes(state)
        alone = flat and ev.dense_model is None and not cells.any() and not self.structure.blocks  # then no row moves another
        if self.structure.shape == "separable" or alone:
            least = 1e-14 * (np.minimum(metric, self.softness) if flat else metric)
            slopes = np.maximum((self.dual.coefficients**2) @ cells, least)
            return prox(self.structure, self.numbers, f + slopes * p, slopes)
        if self.structure.bordered:
            q, left = minimise_by_pieces(self.structure, self.numbers, self.dual.sandwich(cells), f, p, 0.1 * self.resolution)
            if left <= max(0.1 * state.res, self.resolution) or p.shape[0] > WRITTEN:
                return q
        if ev.dense_model is None:
            B = factor(dense(self.dual.coefficients), cells, metric)
        else:
            M = ev.dense_model
            if not flat and bool((ev.slope <= 0).any() | (np.diag(M) <= 1e-6 * metric).any()):
                M = M + 1e-2 * min(1.0, state.res / self.spread) * self.dual.open_model()
            B = factor_dense(M, metric)
        start = None if p.any() else prox(self.structure, self.numbers, f, metric)  # about the right active set
        return self.solver.minimise(p, f, B, 0.1 * self.resolution, start)

    def step(self, state: State) -> State:
        if self.quadratic and bool((state.ev.slope <= 0).any()):
            # the softness alone decides a price where every sample is at a bound: a slope of our own would creep towards it
            new = self.at(self.model_minimiser(state, flat=True))
            if new.res <= 0.1 * state.res:
                return new
        return self.line_search(state, self.model_minimiser(state))

    def line_search(self, state: State, q: Array) -> State:
        """The point on [p, q] where Phi is (nearly) least; the full step if Phi still falls there or the residual is much smaller."""
        d = q - state.p
        new = self.at(q)
        if new.res <= (0.5 if state.res <= self.solved else 0.1) * state.res:  # near the end slopes of Phi are rounding
            return new
        slope_new = -self.derivative(new, -d)
        slope_old = self.derivative(state, d)
        if slope_new <= 0:
            return self.expand(state, new, d, slope_old, slope_new)
        low, high, slope_low, slope_high = 0.0, 1.0, min(slope_old, 0.0), slope_new
        above = self.curvature(new, d)  # of Phi at the upper end
        lowest: State | None = None  # Phi has fallen all the way to it
        for _ in range(12):
            a = low + (high - low) * (-slope_low / (slope_high - slope_low)) if slope_high > slope_low else 0.5 * (low + high)
            # where cells have no free sample Phi' is flat up to a bend, and the line between the ends would creep there
            bend = high - slope_high / above if above > 0 else low
            a = min(max(a, bend, low + 0.05 * (high - low)), high - 0.05 * (high - low))
            new = self.at(state.p + a * d)
            slope = -self.derivative(new, -d)
            if slope <= 0:
                low, slope_low, lowest = a, slope, new
            else:
                high, slope_high, above = a, slope, self.curvature(new, d)
            if 0.2 * slope_old <= slope <= 0 or new.res <= 0.1 * state.res:
                return new
        return new if lowest is None else lowest

    def expand(self, state: State, new: State, d: Array, slope_old: float, slope_new: float) -> State:
        """Longer steps while Phi falls nearly as fast as at the start: cells without a free sample make it linear."""
        a, reach = 1.0, np.inf  # at most ten times: 4^10 > 1e6
        while slope_new < 0.5 * slope_old < 0 and a < min(reach, 1e6):
            if a == 1.0:
                reach = self.reach(state.p, d)
            a = min(4 * a, reach)
            trial = self.at(state.p + a * d)
            slope_new = -self.derivative(trial, -d)
            if slope_new > 0 and trial.res > 0.5 * new.res:
                break
            new = trial
        return new

    def reach(self, p: Array, d: Array) -> float:
        """The longest step from p along d, at least 1, that respects caps and one-sided limits."""
        st, nums = self.structure, self.numbers
        L = st.linear
        reach = 1e6
        for k in np.flatnonzero(d[:L]).tolist():
            cap = nums.rho[k] if np.isfinite(nums.upper[k] if d[k] > 0 else nums.lower[k]) else 0.0
            reach = min(reach, (cap - np.sign(d[k]) * p[k]) / abs(d[k]))
        caps = [(np.zeros(0, dtype=np.int64), np.array([r]), L + r) for r in range(len(st.slices)) if not st.in_block[L + r]]
        for linear, ranges, k in [*caps, *st.blocks]:
            if not np.isfinite(nums.rho[k]):
                continue
            # the flow is convex along the ray: halve until it fits, at most 20 times from 1e6
            while reach > 1.0 and flow_of(st, p + reach * d, linear, ranges) > nums.rho[k] * (1 + 1e-12):
                reach *= 0.5
        for part, ratio in zip(st.slices, st.ratios, strict=True):
            while reach > 1.0 and ratio < 1.0 and not in_domain(p[part] + reach * d[part], ratio):
                reach *= 0.5
        return float(max(reach, 1.0))

    def derivative(self, state: State, d: Array) -> float:
        """Phi'(p; d), the directional derivative, with the rows' offsets counted in f."""
        st, nums, p = self.structure, self.numbers, state.p
        L = st.linear
        total = -float(state.ev.f @ d)
        if L:
            pl, dl = p[:L], d[:L]
            rising = (pl > 0) | ((pl == 0) & (dl > 0))
            limit = np.where(rising, nums.upper, nums.lower)
            limit = np.where(np.isfinite(limit), limit, 0.0)  # no price is on an open side but by rounding
            total += float(limit @ dl) + float((pl * dl / nums.gamma[:L]).sum())
        for r, part in enumerate(st.slices):
            pr, ratio = p[part], st.ratios[r]
            dflow = flow_derivative(pr, d[part], ratio)
            total += (float(nums.width[r]) * dflow if dflow else 0.0) + range_flow(pr, ratio) * dflow / float(nums.gamma[L + r])
        return total

    def curvature(self, state: State, d: Array) -> float:
        """d'M d: the slope of Phi' along d on the piece of ``state``, softness left out."""
        M = state.ev.dense_model
        return float((d @ self.dual.coefficients) ** 2 @ state.ev.slope) if M is None else float(d @ M @ d)

    def interior(self, state: State, max_iter: int) -> tuple[State, int]:
        """Where another method gets to, and its iterations; ``state`` itself where there is none for so many rows."""
        if self.structure.diagonal:  # the interior point method would write out M
            p = table_prices(self.dual.vector(), self.structure, self.numbers)
            s = self.structure.metric
            return self.at(prox(self.structure, self.numbers, self.dual.evaluate(p).f + s * p, s)), 1  # in the price domain
        if self.structure.bordered and self.structure.metric.shape[0] > WRITTEN:
            return state, 1
        method = InteriorPoint(self.dual.vector(), self.structure, self.numbers)
        method.run(max_iter)
        return self.at(self.solver.feasible(method.prices())), method.iterations


class Goals(NamedTuple):
    """Residuals in score units. resolution: noise; solved: good enough to be called solved; most: what rounding may excuse at all;
    accepted: what still counts where a search gets no further."""

    magnitude: float
    resolution: float
    solved: float
    most: float
    accepted: float

    def met(self, structure: Structure, p: Array, residual: float) -> bool:
        """Whether prices p with this residual solve the problem as far as float64 resolves."""
        return residual <= self.bound(structure, p)

    def bound(self, structure: Structure, p: Array) -> float:
        """The largest residual at which prices p count as solved."""
        return max(self.accepted, min(2.0 * hidden(structure, p), self.most))


def goals(dual: Dual, structure: Structure, numbers: Numbers, goal: float = 0.0) -> Goals:
    """The goals of one problem; ``goal``: a residual that is asked for, where larger than what float64 resolves."""
    size = magnitude(dual, structure, numbers)
    resolution = 8 * dual.resolution * max(size, 1e-300)
    solved = max(goal, resolution, min(1e4 * resolution, 1e-7 * size))
    # rounding beyond ``most`` is no excuse: prices of contradicting rows grow without end
    return Goals(size, resolution, solved, 1e-8 * size, max(solved, ACCEPTED * size))


def solve_dual(
    dual: Dual, structure: Structure, numbers: Numbers, start: Array | None = None, *, tol: float | None = None, max_iter: int = MAX_ITER
) -> DualSolution:
    """Prices that solve the dual. ``tol``: KKT residual in score units at which to stop; None: what float64 resolves."""
    limits = goals(dual, structure, numbers, 0.0 if tol is None else tol)
    goal = max(0.0 if tol is None else tol, limits.resolution)
    if start is None:
        start = _guess(dual, structure, numbers)
    used, p = 0, np.zeros(structure.metric.shape[0]) if start is None else start
    search = Search(dual, structure, numbers, limits.resolution, limits.solved)
    if structure.shape == "few_rows" and dual.problem.rows.dense is None:
        found = few_rows(dual, structure, numbers, start, goal, max_iter)
        state, used = State(found.p, found.evaluation, found.residual), found.iterations
    else:
        state = search.at(p if start is None else search.solver.feasible(p))
    if not state.res <= goal:
        state, used = _newton(search, state, goal, used, max_iter, limits.most)
    bound = limits.bound(structure, state.p)
    return DualSolution(state.p, state.ev, state.res, used, bool(state.res <= bound), bound)


def _newton(search: Search, state: State, goal: float, iteration: int, max_iter: int, most: float) -> tuple[State, int]:
    """Newton steps, the interior point method once where they do not settle, and Newton again. Returns the best point."""
    search.spread = max(state.res, 1e-300)
    best, stale, interior = state, 0, False
    while iteration < max_iter and stale < 4:
        if state.res <= max(goal, min(hidden(search.structure, state.p), most)):
            break
        settled = interior or best.res <= search.solved
        if iteration >= (EARLY if search.structure.diagonal else TRUST) and not settled:
            interior = True
            new, used = search.interior(state, min(INTERIOR, max_iter - iteration))
            iteration += used
            state = new if new.res < state.res else state
        else:
            iteration += 1
            try:
                state = new = search.step(state)
            except np.linalg.LinAlgError:  # slopes too far apart to factor the model
                if settled:
                    break
                iteration = max(iteration, TRUST)
                continue
            stale = 0 if new.res < 0.5 * best.res or not settled else stale + 1
        best = new if new.res < best.res else best
    return best, iteration


def magnitude(dual: Dual, structure: Structure, numbers: Numbers) -> float:
    """The size of the scores at the solution, as far as it can be told: their own, or that of the limits that push them.

    A limit that is met at price 0 pushes no score, however far away it is. The rounding of a row's own constants is left out here: it is
    that row's alone (``prox.residual``).
    """
    own, L = dual.magnitude(), structure.linear
    asked, largest, constant = sizes_of_limits(structure, numbers)
    if max(largest, constant if structure.slices else 0.0) <= own:
        return own
    f = dual.evaluate(np.zeros(structure.metric.shape[0])).f
    most = float(np.where([f[:L] < numbers.lower, f[:L] > numbers.upper], asked, 0.0).max(initial=0.0))
    constants = np.abs(numbers.offset) / structure.unit
    for width, ratio, part in zip(numbers.width.tolist(), structure.ratios, structure.slices, strict=True):
        most = max(most, float(constants[part].max()) if not ratio * f[part].max() - f[part].min() <= width else 0.0)
    return max(own, most)


def sizes_of_limits(structure: Structure, numbers: Numbers) -> tuple[Array, float, float]:
    """(2, L) the mean absolute score where each lower and upper limit binds, 0 where open; the largest of these, and of the rows'
    constants, in score units. Kept with the numbers.
    """

    def made() -> tuple[Array, float, float]:
        L = structure.linear
        both = np.stack([numbers.lower, numbers.upper])
        with np.errstate(invalid="ignore", over="ignore"):
            asked = np.where(np.isfinite(both), np.abs(both - numbers.offset[:L]) / structure.unit[:L], 0.0)
            push = np.where(np.isfinite(numbers.rho[:L]), numbers.rho[:L] * structure.metric[:L] / structure.unit[:L], np.inf)
            asked = np.minimum(asked, push)  # a capped price moves no farther
            widths = [float(w) / float(structure.unit[part].max()) for w, part in zip(numbers.width, structure.slices, strict=True)]
            constant = float(np.abs(numbers.offset / structure.unit).max(initial=0.0))
        return asked, float(asked.max(initial=0.0)), constant + max((w for w in widths if np.isfinite(w)), default=0.0)

    return numbers.workspace.keep("constants", made)


def hidden(structure: Structure, p: Array) -> float:
    """What the rounding of f + s p hides, in score units."""
    return EPS * float((structure.metric / structure.unit * np.abs(p)).max(initial=0.0))


def _guess(dual: Dual, structure: Structure, numbers: Numbers) -> Array | None:
    """Prices that solve the problem of a sample of the scores."""
    sample = dual.sampled()
    if sample is None:
        return None
    found = solve_dual(sample, structure, numbers, tol=1e-6 * dual.magnitude(), max_iter=GUESSES)
    return found.p if found.residual <= 1e-3 * dual.magnitude() else None
