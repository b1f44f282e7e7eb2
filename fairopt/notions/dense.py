"""The weights of rows that give every sample one of its own; centred ones sum to exactly 0.

Numbers less their mean should sum to 0, so that scores which are all the same have no covariance with them. Rounded, they do not: the
mean is off by its own last digit, which may be large beside the differences. Then a constant has a covariance in fractions, and equal
scores, the plainest answer of all, would be proved impossible. ``sums_to_zero`` takes that rounding out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from fairopt.basics.arrays import Array

BITS = 51  # of the largest weight that are kept: one to spare, for a weight that grows past a power of two
HALF = 26


@dataclass(frozen=True)
class DenseWeights:
    """values: (n,) tensors that rows weigh samples by; centred: the places of those that are numbers less their mean."""

    values: tuple[Tensor, ...]
    centred: frozenset[int]
    n: int

    def row(self, terms: Iterable[tuple[int, float]]) -> Array:
        """(n,) float64 weights of a row that names values v, each with its scale: sum_v scale / n * values_v."""
        total, centred = np.zeros(self.n), True
        for v, scale in terms:
            total = total + scale / self.n * self.values[v].detach().to("cpu").double().numpy()
            centred = centred and v in self.centred
        return sums_to_zero(total) if centred else total


def sums_to_zero(weights: Array) -> Array:
    """(n,) weights within 1.5 * 2^-51 of the largest, and of what they sum to a share each, whose exact sum is 0.

    As whole multiples of one power of two their sum is a whole number, which is taken from all alike; what does not divide by n goes to
    the first of those that are not 0. Weights that are not finite come back as they are.
    """
    largest = float(np.abs(weights).max(initial=0.0))
    if not 0.0 < largest < np.inf:
        return weights
    grid = max(int(np.frexp(largest)[1]) - BITS, -1074)
    whole = np.rint(np.ldexp(weights, -grid)).astype(np.int64)  # below 2^51
    left = int((whole >> HALF).sum()) * (1 << HALF) + int((whole & ((1 << HALF) - 1)).sum())
    each = abs(left) // whole.size * (1 if left > 0 else -1)
    whole -= each
    left -= each * whole.size
    moved = np.flatnonzero(whole)[: abs(left)]
    moved = moved if moved.size == abs(left) else np.arange(abs(left))
    whole[moved] -= 1 if left > 0 else -1
    return np.ldexp(whole.astype(np.float64), grid)
