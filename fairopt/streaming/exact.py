"""Exact sums of floats, so that the pooled means do not depend on the order of arrival or of merging.

An exact sum is a tuple of floats (s_1, s_2, ...): s_1 is the float nearest to the true sum, s_2 the float nearest to what is left, and
so on until nothing is left. The true sum alone decides the tuple, so merging in any order gives the same bits (claim P5).
``math.fsum`` rounds correctly, which is all that is needed. Usually two entries suffice.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum

Exact = tuple[float, ...]
ZERO: Exact = (0.0,)


def add_one(total: Exact, value: float) -> Exact:
    """``total + value``, exactly."""
    head = fsum((*total, value))
    rest = fsum((*total, value, -head))
    if rest == 0.0:
        return (head,)
    last = fsum((*total, value, -head, -rest))
    if last == 0.0:
        return (head, rest)
    return _split((*total, value))


def add_many(total: Exact, values: Iterable[float]) -> Exact:
    """``total`` plus all ``values``, exactly; about 60 ns a value."""
    return _split((*total, *values))


def value(total: Exact) -> float:
    """The float nearest to the sum."""
    return total[0]


def _split(terms: tuple[float, ...]) -> Exact:
    """The exact sum of ``terms``; negated parts are appended until nothing is left."""
    parts: list[float] = []
    while True:
        part = fsum((*terms, *(-p for p in parts)))
        if part == 0.0:
            return tuple(parts) if parts else ZERO
        parts.append(part)
