"""What presolve knows of the cells, and rows as numbers on them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fairopt.basics.arrays import BoolArray, IntArray
from fairopt.basics.sparse import LARGE, Matrix, SparseRows, entries_of
from fairopt.compiler.items import Row
from fairopt.contract.problem import shares_of_cells

LEAST = 1e-280  # nothing is judged among numbers whose products underflow


@dataclass(frozen=True, eq=False)
class Cells:
    """What presolve knows of the cells: masks (M, C), counts (C,), mask_counts (M,), names (M,)."""

    masks: BoolArray | SparseRows
    counts: IntArray
    mask_counts: IntArray
    names: list[str]

    def coefficients(self, rows: list[Row]) -> Matrix:
        """(rows, C): the weight of one sample of each cell, without dense parts."""
        return shares_of_cells(scales_of([row.scales for row in rows], self.masks), self.masks, self.mask_counts)

    def exact(self, row: Row) -> dict[object, Fraction]:
        """The weight of one sample of each cell, exactly; zeros left out."""
        weights: dict[object, Fraction] = defaultdict(Fraction)
        for j, s in row.scales.items():
            share = Fraction(s) / int(self.mask_counts[j])
            for c in entries_of(self.masks, j).tolist():
                weights[c] += share
        return {c: w for c, w in weights.items() if w}


def scales_of(rows: list[dict[int, float]], masks: BoolArray | SparseRows) -> Matrix:
    """(rows, M) from the scales of each row by mask; sparse where the masks are, or where it is large."""
    count = masks.shape[0]
    if isinstance(masks, SparseRows) or len(rows) * count > LARGE:
        place = [np.array(sorted(row), dtype=np.int64) for row in rows]
        values = [np.array([row[j] for j in sorted(row)], dtype=np.float64) for row in rows]
        return SparseRows.of_lists(place, values, count)
    scales = np.zeros((len(rows), count))
    for k, row in enumerate(rows):
        for j, s in row.items():
            scales[k, j] = s
    return scales
