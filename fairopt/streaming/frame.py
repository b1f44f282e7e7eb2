"""The units a controller computes in: x = (score - offset) / unit.

The unit is 1 for boxes of ordinary width, else the power of two that makes the width lie in [1, 2): nothing overflows or underflows
where the scores themselves do not. All tolerances inside are relative to the width, so that a stream scaled by a power of two is
answered by the same bits, scaled. The offset is 0, unless the box is far from 0 for its width (same signs, a factor of at most
2): then it is lb, since there ``score - lb`` is exact (Sterbenz) while a mean of the scores themselves would be rounded in units of lb.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import frexp, isfinite, isinf, ldexp

import numpy as np
import numpy.typing as npt

from fairopt.basics.errors import InputError
from fairopt.streaming.families import Family

FloatArray = npt.NDArray[np.float64]
ORDINARY = 64  # widths from 2^-64 to 2^64: squares and sums of 2^53 scores are floats by far
FAR = 2.0**500  # a finite limit so far out (in units) is never met, whatever its exact value


@dataclass(frozen=True)
class Frame:
    """lb, ub: the box as given. low, high, range: the box in units. inverse: 1 / unit, exact."""

    lb: float
    ub: float
    unit: float
    inverse: float
    offset: float

    @classmethod
    def of(cls, lb: float, ub: float) -> Frame:
        exponent = max(-1022, min(1022, frexp(ub - lb)[1] - 1))
        exponent = 0 if abs(exponent) < ORDINARY else exponent
        near = min(abs(lb), abs(ub))
        shifted = (lb > 0.0 or ub < 0.0) and max(abs(lb), abs(ub)) <= 2.0 * near
        return cls(lb, ub, ldexp(1.0, exponent), ldexp(1.0, -exponent), lb if shifted else 0.0)

    @property
    def plain(self) -> bool:
        return self.unit == 1.0 and self.offset == 0.0

    @property
    def low(self) -> float:
        return (self.lb - self.offset) * self.inverse

    @property
    def high(self) -> float:
        return (self.ub - self.offset) * self.inverse

    @property
    def range(self) -> float:
        return (self.ub - self.lb) * self.inverse

    def enter(self, values: FloatArray) -> FloatArray:
        """(n,) scores or targets in units."""
        if self.plain:
            return values
        return (values - self.offset) * self.inverse

    def enter_targets(self, targets: FloatArray) -> FloatArray:
        with np.errstate(over="ignore"):
            out = self.enter(targets)
        if not (np.abs(out) <= FAR).all():
            worst = targets[np.argmax(np.abs(out))]
            raise InputError(f"targets: got {worst!r}, too far from the bounds ({self.lb!r}, {self.ub!r}) to be counted beside them")
        return out

    def leave(self, values: FloatArray) -> FloatArray:
        """(n,) scores of numbers in units, inside [lb, ub] where they are inside [low, high] (rounding keeps the order)."""
        if self.plain:
            return values
        return values * self.unit + self.offset

    def family(self, family: Family) -> Family:
        """The family with its limits in units."""
        shift = self.offset if family.kind == "anchored" and not family.residual else 0.0
        return replace(family, lower=self._limit(family.lower, shift), upper=self._limit(family.upper, shift))

    def _limit(self, limit: float, shift: float) -> float:
        if isinf(limit):
            return limit
        return max(-FAR, min(FAR, (limit - shift) * self.inverse))

    def stated(self, figure: float | None) -> float | None:
        """A gap, bound or price (a difference of scores) as the caller reads it."""
        return None if figure is None else figure * self.unit


def finite(figure: float) -> float | None:
    """A bound that overflowed says nothing."""
    return figure if isfinite(figure) else None
