"""Units of their own for problems far from 1, so that no digit is lost and nothing overflows."""

from __future__ import annotations

from fairopt.solve.units.span import NEAR, span
from fairopt.solve.units.units import Units, find_units

__all__ = ["NEAR", "Units", "find_units", "span"]
