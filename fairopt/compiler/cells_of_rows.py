"""What presolve knows of the cells, and rows as numbers on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fairopt.basics.arrays import BoolArray, IntArray
from fairopt.basics.sparse import LARGE, Matrix, SparseRows, entries_of
from fairopt.compiler.items import Item, Members, Row
from fairopt.contract.rows import shares_of_cells

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

    def coefficients_of(self, items: Sequence[Item]) -> Matrix:
        """``coefficients`` of the rows of ``items``."""
        return shares_of_cells(scales_of_items(items, self.masks), self.masks, self.mask_counts)

    def exact(self, row: Row) -> dict[object, Fraction]:
        """The weight of one sample of each cell, exactly; zeros left out."""
        weights: dict[object, Fraction] = defaultdict(Fraction)
        for j, s in row.scales.items():
            share = Fraction(s) / int(self.mask_counts[j])
            for c in entries_of(self.masks, j).tolist():
                weights[c] += share
        return {c: w for c, w in weights.items() if w}


def scales_of_items(items: Sequence[Item], masks: BoolArray | SparseRows, place: IntArray | None = None) -> Matrix:
    """``scales_of`` the rows of ``items``; ``place``: the number in ``masks`` of each mask that rows name, where it is another."""
    place = np.arange(masks.shape[0]) if place is None else place
    if not any(isinstance(item.rows, Members) for item in items):
        return scales_of([{int(place[j]): s for j, s in row.scales.items()} for item in items for row in item.rows], masks)
    size, column, value = [], [], []
    for item in items:
        if isinstance(item.rows, Members):
            size.append(np.ones(len(item.rows), dtype=np.int64))
            column.append(place[item.rows.masks])
            value.append(np.ones(len(item.rows)))
        else:
            entries = [sorted((int(place[j]), s) for j, s in row.scales.items()) for row in item.rows]
            size.append(np.array([len(row) for row in entries], dtype=np.int64))
            column.append(np.array([j for row in entries for j, _ in row], dtype=np.int64))
            value.append(np.array([s for row in entries for _, s in row], dtype=np.float64))
    starts = np.concatenate([[0], np.cumsum(np.concatenate(size))]).astype(np.int64)
    scales = SparseRows(starts, np.concatenate(column), np.concatenate(value), masks.shape[0])
    return scales if isinstance(masks, SparseRows) or len(scales) * masks.shape[0] > LARGE else scales.toarray()


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
