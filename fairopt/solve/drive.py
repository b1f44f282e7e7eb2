"""A solve driven by passes: the stages of the compiled road one after the other, over samples that may lie anywhere.

``drive`` sees cells and prices. What it asks of the samples is a ``Passes`` (``fairopt.solve.passes.interface``), which says what
the map from prices to scores has to be; nothing here assumes that it clips. It needs a problem, whose rows count the samples of each cell,
and its plan (``fairopt.solve.plan.cell_plan``). In order, with what each asks for:

    OPEN      extent                 the scores' size; whether limits leave room for a margin
    FULL      sums, a few times      Newton's search for the prices; begins at ``start`` (``guess`` finds one from a part of the samples)
    SETTLE    largest, at times      the prices of limits that are tighter by what rounding can do
    BESIDE    scores                 whether prices that this moved far solve the problem of those limits
    JUDGE                            whether every hard row holds for the scores returned; where floats cannot decide, exact_sums do
    RESPOND   gradient_sums, spread  J'v or J v (``respond``)

What is not certified so is left to whoever can do better: ``Driven.left_at`` says at which stage, and nothing is claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Generic

import numpy as np
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError
from fairopt.basics.exact_sums import finite_float
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.structure import structure
from fairopt.solve.finish.check import violations_of_sums
from fairopt.solve.passes import project, stages
from fairopt.solve.passes.interface import Passes, Y
from fairopt.solve.passes.search import EPS, EVALUATE, NUMBERS, SOLVED
from fairopt.solve.plan import CellPlan


@dataclass(frozen=True, eq=False)
class Driven(Generic[Y]):
    """What a solve found: scores where it came so far, whether they are certified, and the numbers of ``passes.stages``.

    left_at: the stage that it was left at, None where certified; rounds: passes that it took; exact: rows were decided by exact sums.
    """

    plan: CellPlan
    numbers: Array
    scores: Y | None
    left_at: int | None
    rounds: int
    exact: bool = False

    @property
    def certified(self) -> bool:
        """Whether every hard row is proved for these scores and they are nearest, as a certificate says it."""
        return self.left_at is None and self.scores is not None

    @property
    def prices(self) -> Array:
        """(m,) the prices that the scores were made from."""
        return self.numbers[stages.HEAD : stages.HEAD + self.plan.m]

    @property
    def violation(self) -> Array:
        """(L + R,) signed, of these scores."""
        first = stages.HEAD + self.plan.m
        return self.numbers[first : first + self.plan.constraints]

    @cached_property
    def slopes(self) -> Array:
        """(C,) of the cells, at these prices."""
        return self.numbers[-2 * self.plan.cells : -self.plan.cells]


class _Run(Generic[Y]):
    """One search over one ``Passes``: the vectors that the stages work on, and how many passes were taken."""

    def __init__(self, plan: CellPlan, passes: Passes[Y]) -> None:
        self.plan, self.passes, self.rounds = plan, passes, 0
        self.work, self.numbers = np.zeros(int(plan.whole[stages.WORK_SIZE])), np.zeros(plan.size)
        self.work[EPS] = passes.eps
        self.none: Array = np.zeros(plan.cells)

    def stage(self, which: int, sums: Array | None = None, free: Array | None = None) -> int:
        plan, none = self.plan, self.none
        with np.errstate(all="ignore"):  # what overflows grants nothing
            return int(
                project.step(
                    stages.ADDRESS, which, plan.whole, plan.real, self.work, self.numbers, none if sums is None else sums,
                    none if free is None else free,
                )
            )  # fmt: skip

    @property
    def shift(self) -> Array:
        """(C,) what is to be evaluated."""
        return self.work[-self.plan.cells :]

    @property
    def trial(self) -> Array:
        """(m,) the prices that make ``shift``."""
        m = self.plan.m
        return self.work[NUMBERS + 3 * m : NUMBERS + 4 * m]

    def open(self) -> bool:
        self.rounds += 1
        self.numbers[stages.LEAST], self.numbers[stages.LARGEST] = self.passes.extent()
        return bool(self.stage(stages.OPEN))

    def begin(self, start: Array | None) -> None:
        """The search begins at prices ``start`` (m,), or at none."""
        if start is not None:
            self.trial[:] = start
            self.shift[:] = shifts(self.plan, start)

    def found(self, scale: Array | None = None) -> bool:
        """Evaluates until the search ends; whether it found the prices. ``scale`` (C,): each sample stands for so many."""
        move = EVALUATE
        while move == EVALUATE:
            sums, slopes = self.passes.sums(self.shift.copy())
            self.rounds += 1
            if not (np.isfinite(sums).all() and np.isfinite(slopes).all()):
                return False  # the stages compare numbers, and NaN is none
            move = self.stage(stages.ADVANCE, *((sums, slopes) if scale is None else (sums * scale, slopes * scale)))
        return move == SOLVED


def shifts(plan: CellPlan, p: Array) -> Array:
    """(C,) the shift of each cell at prices p (m,)."""
    m, entries = plan.m, int(plan.whole[stages.ENTRIES])
    starts = plan.whole[stages.INTS : stages.INTS + m + 1]
    index = plan.whole[stages.INTS + m + 1 : stages.INTS + m + 1 + entries]
    value = plan.real[stages.FLOATS : stages.FLOATS + entries]
    return np.asarray(np.bincount(index, weights=value * np.repeat(p, np.diff(starts)), minlength=plan.cells), dtype=np.float64)


def guess(plan: CellPlan, part: Passes[Y], scale: Array, start: Array | None = None) -> Array | None:
    """Prices (m,) from a part of the samples, each of which stands for ``scale`` (C,) ones of its cell; None where none are found.

    ``start`` (m,): prices to begin with.
    """
    run = _Run(plan, part)
    if not run.open():
        return None
    run.begin(start)
    run.stage(stages.GUESS)
    return run.work[NUMBERS : NUMBERS + plan.m].copy() if run.found(scale) else None


def drive(problem: ProjectionProblem, plan: CellPlan, passes: Passes[Y], *, start: Array | None = None) -> Driven[Y]:
    """The certified projection of the scores behind ``passes``, or how far it came.

    ``problem``: its rows, limits and softness are read, its samples never; ``plan``: ``cell_plan`` of it; ``start`` (m,): prices to begin
    with, near the answer if they are any good. The search itself takes 3 to 6 passes, two more are taken around it.
    """
    run = _Run(plan, passes)
    if not run.open():
        return Driven(plan, run.numbers, None, stages.OPEN, run.rounds)
    run.begin(start)
    run.stage(stages.FULL)
    if not run.found():
        return Driven(plan, run.numbers, None, stages.FULL, run.rounds)
    numbers = run.numbers
    numbers[stages.MAGNITUDE] = -1.0  # known from the box and the extent
    extent = max(abs(numbers[stages.LEAST]), abs(numbers[stages.LARGEST]))
    if not plan.whole[stages.UNIFORM] or (plan.boxed and plan.real[stages.FARTHEST] > 4.0 * extent):
        numbers[stages.MAGNITUDE] = passes.largest(run.shift.copy())
        run.rounds += 1
    if not run.stage(stages.SETTLE):
        return Driven(plan, numbers, None, stages.SETTLE, run.rounds)
    if not numbers[stages.RESIDUE] <= numbers[stages.BOUND]:
        return Driven(plan, numbers, None, stages.SETTLE, run.rounds)
    y, sums, slopes = passes.scores(run.shift.copy())
    run.rounds += 1
    numbers[-2 * plan.cells : -plan.cells] = slopes
    if not run.stage(stages.BESIDE, sums, slopes):
        return Driven(plan, numbers, y, stages.BESIDE, run.rounds)
    if run.stage(stages.JUDGE, sums, slopes):
        return Driven(plan, numbers, y, None, run.rounds)
    if not np.isfinite(sums).all():
        return Driven(plan, numbers, y, stages.JUDGE, run.rounds)
    holds = decided(problem, plan, numbers, passes.exact_sums(y))
    return Driven(plan, numbers, y, None if holds else stages.JUDGE, run.rounds + 1, exact=True)


def decided(problem: ProjectionProblem, plan: CellPlan, numbers: Array, sums: list[Fraction]) -> bool:
    """Whether every hard row holds for scores with the exact ``sums`` (C,); writes the violations of all rows to ``numbers``."""
    st = structure(problem)
    open_ended = np.concatenate([np.isinf(problem.lower) & np.isinf(problem.upper), np.isinf(problem.width)])
    first = stages.HEAD + plan.m
    violation = numbers[first : first + plan.constraints]
    violation[open_ended] = -np.inf
    exact = violations_of_sums(st, problem, sums, np.flatnonzero(~open_ended).tolist())
    for c, value in exact.items():
        violation[c] = finite_float(value)
    return all(value <= 0 for c, value in exact.items() if st.hard[c])


def respond(driven: Driven[Y], passes: Passes[Y], v: Tensor, *, forward: bool = False) -> Tensor:
    """J'v (n,), or J v where ``forward``, on the piece of certified scores; ``passes`` those that made them.

    J' = D (I - A'K A W^-1 D), D the slopes of the samples: one pass sums v, one spreads the answer. Raises BackendError where the rows of
    the piece contradict each other.
    """
    plan = driven.plan
    sums, shift = passes.gradient_sums(v, weighted=not forward), np.zeros(plan.cells)
    work = np.zeros(1)
    if not project.step(stages.ADDRESS, stages.RESPOND, plan.whole, plan.real, work, driven.numbers, sums, shift):
        raise BackendError("in the gradient: the rows of the piece contradict each other")
    return passes.spread(v, shift, weighted=forward)
