"""What one instance of a claim measures: a quantity, and the bound that it must not exceed."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite


@dataclass(frozen=True)
class Measurement:
    """``measured <= bound`` is claimed; ``slack`` is what the rounding of the measurement itself may add (units of ``measured``).

    For an identity ``measured`` is the error, ``bound`` the accuracy that is asked. ``note`` says which part of the claim it is.
    """

    measured: float
    bound: float
    slack: float = 0.0
    note: str = ""

    @property
    def holds(self) -> bool:
        return isfinite(self.measured) and self.measured <= self.bound + self.slack

    @property
    def ratio(self) -> float:
        """measured / bound; rounding at a bound of 0 counts as 0, and a breach is always above 1."""
        if not self.holds:
            return max(self.measured / self.bound, 1.0 + 1e-12) if self.bound > 0 and isfinite(self.measured) else inf
        return min(1.0, self.measured / self.bound) if self.bound > self.slack else 0.0


def worst(*parts: Measurement) -> Measurement:
    """The part with the largest ratio: a claim of several statements is as good as its weakest."""
    return max(parts, key=lambda m: (not m.holds, m.ratio))
