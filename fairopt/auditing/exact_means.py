"""Exact means of scores over the groups that constraints name, and the constraints' exact values."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from fairopt.basics.arrays import Array
from fairopt.basics.exact_sums import exact_cell_sums, exact_counted_sums, exact_dot
from fairopt.notions.batch import Batch
from fairopt.notions.cells import combine
from fairopt.notions.events import Mask, columns_of
from fairopt.notions.functional import Constraint, Functional


class ExactMeans:
    """Exact means of the scores (n,) and of values over the masks that some constraints name.

    Where positions of the batch stand for many samples (``copies``), ``scores`` are the exact sums over those, or an array of what is
    alike in each.
    """

    def __init__(self, scores: Array | Sequence[Fraction], batch: Batch, constraints: list[Constraint]) -> None:
        functionals = [f for c in constraints for f in c.functionals]
        keys = list(dict.fromkeys(m.key for f in functionals for m in _masks(f)))
        used = sorted(set().union(*(columns_of(key) for key in keys)))
        self._combinations = combine(batch.columns, used, batch.positions, batch.copies)
        members = self._combinations.masks(keys)
        self._members = dict(zip(keys, members, strict=True))
        self._counts = dict(zip(keys, (np.asarray(members).astype(np.int64) @ self._combinations.counts).tolist(), strict=True))
        self._batch, self._scores = batch, scores
        self._values = [v.detach().to("cpu", torch.float64).numpy() for v in batch.values]
        self._sums: dict[int, list[Fraction]] = {}
        self._means: dict[tuple[int, tuple[Any, ...]], Fraction] = {}
        self._dense: dict[tuple[tuple[float, int], ...], Fraction] = {}

    def count(self, mask: Mask) -> int:
        return int(self._counts[mask.key])

    def mean(self, mask: Mask, values: int = -1) -> Fraction | None:
        """Mean of the scores (-1) or of values over a mask; None where nobody is in it."""
        if not self.count(mask):
            return None
        place = (values, mask.key)
        if place not in self._means:
            if values not in self._sums:
                self._sums[values] = self._summed(values)
            sums = self._sums[values]
            total = sum((sums[c] for c in np.flatnonzero(self._members[mask.key]).tolist()), Fraction(0))
            self._means[place] = total / self.count(mask)
        return self._means[place]

    def _summed(self, values: int) -> list[Fraction]:
        """The sums over each combination."""
        key, cells = self._combinations.key, len(self._combinations.counts)
        vector = self._values[values] if values >= 0 else self._scores
        if isinstance(vector, np.ndarray):
            copies = self._batch.copies
            return exact_cell_sums(vector, key, cells) if copies is None else exact_counted_sums(vector, copies, key, cells)
        totals = [Fraction(0)] * cells
        for c, part in zip(key.tolist(), vector, strict=True):
            totals[c] += part
        return totals

    def value(self, f: Functional) -> Fraction | None:
        """The functional's exact value; None where a group is absent."""
        total = Fraction(f.constant.value())
        for scale, mask, values in [(s, m, -1) for s, m in f.means] + list(f.constants):
            mean = self.mean(mask, values)
            if mean is None:
                return None
            total += Fraction(scale) * mean
        if f.dense:
            if f.dense not in self._dense:  # a group is in many pairs
                assert isinstance(self._scores, np.ndarray)
                self._dense[f.dense] = exact_dot(self._batch.dense_weights.row((v, s) for s, v in f.dense), self._scores)
            total += self._dense[f.dense]
        return total


def against_limits(value: Fraction | None, constraint: Constraint) -> tuple[Fraction | None, float]:
    """(gap, limit) such that the constraint is met where gap <= limit."""
    lower = float("-inf") if constraint.lower is None else constraint.lower.value()
    upper = float("inf") if constraint.upper is None else constraint.upper.value()
    if lower == -upper:
        return (None if value is None else abs(value)), upper
    if lower == float("-inf"):
        return value, upper
    if upper == float("inf"):
        return (None if value is None else -value), 0.0 - lower
    return (None if value is None else max(Fraction(lower) - value, value - Fraction(upper))), 0.0


def _masks(f: Functional) -> list[Mask]:
    return [m for _, m in f.means] + [m for _, m, _ in f.constants]
