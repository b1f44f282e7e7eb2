"""The weights of rows that give every sample one of its own; where their sum is known, it is exact.

Numbers less their mean should sum to 0, so that scores which are all the same have no covariance with them; the weights of a mean should
sum to 1, so that those scores have that mean in every group. Rounded, they do not: a mean is off by its own last digit, which may be
large beside the differences. Then equal scores, the plainest answer of all, would be proved impossible. ``summing_to`` takes that
rounding out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from fairopt.basics.arrays import Array

BITS = 51  # of the largest weight that are kept: one to spare, for a weight that grows past a power of two
HALF = 26


@dataclass(frozen=True)
class DenseWeights:
    """values: (n,) tensors that rows weigh samples by; totals: the place of values -> what their mean is exactly, where it is known."""

    values: tuple[Tensor, ...]
    totals: Mapping[int, float]
    n: int

    def row(self, terms: Iterable[tuple[int, float]]) -> Array:
        """(n,) float64 weights of a row that names values v, each with its scale: sum_v scale / n * values_v."""
        weights, total, known = np.zeros(self.n), 0.0, True
        for v, scale in terms:
            weights = weights + scale / self.n * self.values[v].detach().to("cpu").double().numpy()
            known = known and v in self.totals
            total += scale * self.totals.get(v, 0.0)
        return summing_to(weights, total) if known else weights


def summing_to(weights: Array, total: float) -> Array:
    """(n,) weights whose exact sum is ``total``: each within 1.5 * 2^-51 of the largest, and its share of what they were off by.

    As whole multiples of one power of two their sum is a whole number, from which what is too much is taken from all alike; what does not
    divide by n goes to the first of those that are not 0. Weights 0 stay 0 where the others can take all. Weights that are not finite,
    and a total that is no multiple of that power, change nothing.
    """
    largest = float(np.abs(weights).max(initial=0.0))
    if not 0.0 < largest < np.inf:
        return weights
    grid = max(int(np.frexp(largest)[1]) - BITS, -1074)
    wanted = float(np.ldexp(total, -grid))
    if not (abs(wanted) < 2.0**62 and wanted == int(wanted)):
        return weights
    whole = np.rint(np.ldexp(weights, -grid)).astype(np.int64)  # below 2^51
    left = int((whole >> HALF).sum()) * (1 << HALF) + int((whole & ((1 << HALF) - 1)).sum()) - int(wanted)
    used = np.flatnonzero(whole)
    moved = used if used.size else np.arange(whole.size)
    each = abs(left) // moved.size * (1 if left > 0 else -1)
    whole[moved] -= each
    left -= each * moved.size
    whole[moved[: abs(left)]] -= 1 if left > 0 else -1
    return np.ldexp(whole.astype(np.float64), grid)
