"""Problems far from 1, solved in units of their own: powers of two, so that no digit is lost and no intermediate result overflows.

    y = 2^s y',   w = 2^b w',   f_k = 2^(s + u_k) f'_k      (f the rows' values)

divide the objective by 2^(2s + b): the same problem in y', with limits over 2^(s + u_k), prices rho over 2^(s - u_k + b) and quadratic
weights over 2^(b - 2 u_k). s follows from what the answer cannot help being as large as: the scores, the rows' constants, limits and
bounds that exclude 0. Limits and bounds beyond 2^FAR of that are open: no answer comes near them. Where the dtype ends near the
scores, its largest number is a bound as well. The common road sees one comparison: see ``find_units``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt.solve.units.exponents import NOTHING, exponent_of, ldexp, times
from fairopt.solve.units.scaled import HEAVY, ROUNDED, capped, scaled, softness_exponents
from fairopt.solve.units.span import NEAR, span

BEYOND = 10  # no score comes near 2^BEYOND times what is asked of it
ROOM = 40  # a dtype that ends within 2^ROOM of the scores bounds them
STEP = 16  # s is a multiple of it: scores that grow slowly do not make a new problem each time


@dataclass(frozen=True, eq=False)
class Units:
    """Exponents s, b, u (m,) and the problem in these units."""

    score: int
    weight: int
    rows: IntArray
    problem: ProjectionProblem
    bounded: bool  # the end of the dtype is among the bounds

    def into(self, scores: Tensor) -> Tensor:
        """(n,) scores in these units, in their dtype."""
        return times(scores, -self.score)

    def back(self, y: Tensor, scores: Tensor, before: Tensor) -> Tensor:
        """(n,) ``y`` in the units of ``scores`` (n,), whose samples that did not move (``before``: as they went in) keep their bits."""
        own = times(y.to(torch.float64), self.score)
        if self.bounded:
            end = torch.finfo(scores.dtype).max
            own = own.clamp(-end, end)
        return torch.where(y == before, scores, own.to(scores.dtype))

    def sure(self, y: Tensor, before: Tensor) -> bool:
        """Whether no sample moved, but by nothing to speak of, whose weight was cut to 2^HEAVY. Both (n,), in these units."""
        weights = self.problem.weights
        if weights is None:
            return True
        heavy = weights >= 2.0**HEAVY
        return not bool(heavy.any()) or bool(((y - before).abs().cpu()[heavy] <= 2.0**-ROUNDED).all())

    def size_of(self, y: Tensor) -> Tensor:
        """(n,) ``y`` in the problem's own units, differentiable."""
        return times(y, self.score)

    def size(self, value: float) -> float:
        """A size of scores in these units, in the problem's own; the largest float64 stands for what float64 cannot hold."""
        return min(float(ldexp(value, self.score)), float(np.finfo(np.float64).max)) if value < np.inf else value

    def extent(self, extent: float) -> float:
        return float(ldexp(extent, -self.score))

    def prices(self, p: Array) -> Array:
        """(m,) prices in the problem's own units; the largest float64 stands for what float64 cannot hold."""
        top = np.finfo(np.float64).max
        return np.clip(ldexp(p, self.weight + self.score - self.rows), -top, top)

    def limits(self, limits: Limits) -> Limits:
        """Limits in these units, connected to ``limits``."""
        L, starts = self.problem.linear, self.problem.range_starts
        linear, ranges = self.rows[:L], self.rows[starts[:-1]]
        by_row = (linear, linear, ranges, self.rows)
        lower, upper, width, offset = (times(t, -(self.score + u)) for t, u in zip(limits.tensors()[:4], by_row, strict=True))
        weight = times(limits.softness_weight, self.softness())
        # the value that the problem has, where a tiny or huge gamma was cut; straight through to the given one
        move = torch.where(torch.isfinite(weight), weight - weight.detach(), torch.zeros_like(weight))
        return Limits(lower, upper, width, offset, torch.from_numpy(self.problem.softness_weight) + move)

    def gradients(self, found: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        """Gradients to lower, upper, width, offset and softness_weight, from those of the scores to the limits in these units.

        The largest float64 stands for what float64 cannot hold.
        """
        L, starts = self.problem.linear, self.problem.range_starts
        linear, ranges = self.rows[:L], self.rows[starts[:-1]]
        hard = np.array([s.kind == "hard" for s in self.problem.softness], dtype=bool)
        exponents = (-linear, -linear, -ranges, -self.rows, np.where(hard, 0, self.score + self.softness()))
        top = float(np.finfo(np.float64).max)
        return tuple(None if g is None else times(g, e).clamp(-top, top) for g, e in zip(found, exponents, strict=True))

    def softness(self) -> IntArray:
        """(L + R,) exponents that rho and gamma are multiplied by."""
        return softness_exponents(self.problem, self.score, self.weight, self.rows)


def find_units(problem: ProjectionProblem, extent: float, dtype: torch.dtype, *, bounded: bool | None = None) -> Units | None:
    """The units for scores of at most ``extent``, or None where the problem can be solved as it is.

    ``bounded``: whether the end of the dtype is a bound; None: where the scores are near it.
    """
    known = span(problem)
    if known.low <= extent <= known.high and not bounded:
        return None
    top = max(exponent_of(extent), known.forced)
    if top == NOTHING and known.plain and not bounded:
        return None  # zeros, and limits that hold them
    s = 0 if top == NOTHING or abs(top) <= NEAR else STEP * round(top / STEP)
    end = int(np.frexp(torch.finfo(dtype).max)[1])
    tacit = torch.finfo(dtype).max if bounded or (bounded is None and end - s < ROOM) else np.inf
    reach = top + BEYOND if top > NOTHING and capped(problem) else None
    key = (s, tacit, reach)
    kept: tuple[tuple[int, float, int | None], Units] | None = problem.workspace.get("units")
    if kept is None or kept[0] != key:  # one at a time: scores keep their size from step to step
        made = Units(s, known.weights, known.rows, scaled(problem, s, known, tacit, reach), tacit < np.inf)
        kept = problem.workspace.put("units", (key, made))
    return kept[1]
