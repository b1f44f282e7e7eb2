"""The numbers of a plan that hang on how many samples each cell has: for problems that differ in their counts alone.

Shuffled batches have the same groups and other counts. What a plan knows of the counts are its entries (a mean weighs a sample by one over
its group's count), sizes of rows, and what rounding can do to sums; all else stays. The sums of a row are added here for every plan, so
that a plan has the same bits whichever way it came about.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fairopt.solve.passes.jit import rounded
from fairopt.solve.passes.stages import FLOATS, LIGHT, TERMS, TINY


@rounded
def row_sums(starts: Any, index: Any, value: Any, counts: Any, opened: Any, unit: Any, metric: Any) -> None:
    """unit (m,): sum_i |A_ki|, metric (m,): sum_i A_ki^2 / w_i of rows in sparse form; 1 where a row is empty."""
    for k in range(unit.shape[0]):
        size, square = 0.0, 0.0
        for e in range(starts[k], starts[k + 1]):
            size += abs(value[e]) * counts[index[e]]
            square += value[e] * value[e] * opened[index[e]]
        unit[k] = size if size > 0.0 else 1.0
        metric[k] = square if square > 0.0 else 1.0


@rounded
def refill(
    counts: Any, opened: Any, light: float, near: float, tiny: float, mask_starts: Any, mask_cells: Any, starts: Any, index: Any,
    first: Any, mask: Any, scale: Any, real: Any,
) -> bool:  # fmt: skip
    """Writes entries, sums of rows and what rounding can do for ``counts`` (C,) into ``real``, the numbers of a plan like it.

    opened (C,): sums of 1 / w;  light: 1 over the least weight;  mask_starts (M + 1,), mask_cells: the cells of each mask
    starts (m + 1,), index: the rows' entries;  first (entries + 1,), mask, scale: entry e is the sum of scale / count over its masks, which
    are at most two, so that no order of the sum matters

    False, with ``real`` of no use: an entry became 0, or a row's sum is not between 1 / near and near.
    """
    tail = real.shape[0] - 2 * (starts.shape[0] - 1) - 2 * counts.shape[0]
    sizes = np.empty(mask_starts.shape[0] - 1)
    n, most = 0, 1
    for c in range(counts.shape[0]):
        n += counts[c]
        most = max(most, counts[c])
    for j in range(mask_starts.shape[0] - 1):
        held = 0
        for t in range(mask_starts[j], mask_starts[j + 1]):
            held += counts[mask_cells[t]]
        sizes[j] = held
    for e in range(index.shape[0]):
        weight = 0.0
        for t in range(first[e], first[e + 1]):
            weight += scale[t] / sizes[mask[t]]
        if weight == 0.0:
            return False
        real[FLOATS + e] = weight
    m = starts.shape[0] - 1
    row_sums(starts, index, real[FLOATS:], counts, opened, real[tail : tail + m], real[tail + m : tail + 2 * m])
    for k in range(m):
        if not 1.0 / near <= real[tail + k] <= near:
            return False
    for c in range(counts.shape[0]):
        real[tail + 2 * m + c] = opened[c]
    real[TERMS] = most + counts.shape[0] + 8
    real[TINY] = (n + real[TERMS]) * tiny
    real[LIGHT] = light
    return True


def compile_now() -> None:
    """Compiles both functions, which otherwise their first calls do, in a second."""
    none, first, numbers = np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.int64), np.zeros(FLOATS)
    row_sums(first, none, numbers[:0], none, numbers[:0], numbers[:0], numbers[:0])
    refill(none, numbers[:0], 1.0, 1.0, 1.0, first, none, first, none, first, none, numbers[:0], numbers)
