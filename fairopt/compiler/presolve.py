"""Presolve: fewer rows with the same answer. What it removes is listed with the reason.

- a range over two groups becomes the linear row a - b in [-t, t]; with a ratio, where it is hard, the rows ratio a - b <= t and back
- rows without scores that are met, and rows without limits, go
- duplicate rows (also scaled or negated ones) of hard constraints join to one with the tightest limits, which keeps the gradient to the
  tolerance two-sided; soft duplicates only where that is the same function of the scores
- the written-out loop over all pairs of K >= 3 groups with one limit becomes one range
- rows that cannot leave their limits inside the bounds go, where no limit can move; one side of a row far beyond reach opens
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from fairopt.compiler.cells_of_rows import Cells
from fairopt.compiler.duplicates import merge_duplicates
from fairopt.compiler.items import Item, Removed, Row
from fairopt.compiler.pairs_to_ranges import merge_ranges, pairs_to_ranges
from fairopt.compiler.reach import Box, always_met, reaches


def presolve(items: list[Item], cells: Cells, box: Box) -> tuple[list[Item], Removed]:
    """The items that remain, and (label, reason) of what went."""
    removed: Removed = []
    items = [part for item in items for part in _shrink(item, removed)]
    items = [item for item in items if not _needless(item, removed)]
    if sum(not item.is_range for item in items) > 1:
        items = merge_duplicates(items, cells, removed)
        items = pairs_to_ranges(items, cells, removed)
    items = merge_ranges(items, removed)
    found = reaches(items, cells, box)
    return [item for item, reach in zip(items, found, strict=True) if not always_met(item, reach, removed)], removed


def _shrink(item: Item, removed: Removed) -> list[Item]:
    """A range without repeated members; of two members the linear rows."""
    if not item.is_range:
        return [item]
    rows = list({row.key: row for row in reversed(item.rows)}.values())[::-1]
    if len(rows) < len(item.rows):
        kept = {id(row) for row in rows}
        gone = [row.name for row in item.rows if id(row) not in kept]
        removed += [(f"{item.header}: {name}", "the same samples as another group of this range") for name in gone]
    if len(rows) == 2 and item.ratio == 1.0:
        return [Item(item.header, [rows[0].minus(rows[1])], item.soft, tuple(-a for a in item.width), item.width)]
    # two rows cost the sum of their violations where a soft range costs the larger one, and a product must be exact
    if len(rows) == 2 and item.soft.kind == "hard" and all(_exactly_scaled(row, item.ratio) for row in rows):
        a, b = rows
        below = tuple(-w for w in item.width)
        return [Item(item.header, [x.minus(y, item.ratio)], item.soft, below) for x, y in ((a, b), (b, a))]
    return [replace(item, rows=rows)]


def _exactly_scaled(row: Row, ratio: float) -> bool:
    """Whether every number of ratio * row is a float64 without rounding."""
    numbers = [*row.scales.values(), *row.dense.values(), row.constant, *(s for s, _, _ in row.terms)]
    return all(Fraction(s) * Fraction(ratio) == Fraction(s * ratio) for s in numbers)


def _needless(item: Item, removed: Removed) -> bool:
    """A range of one, a row without limits, or a constant row that is met (or whose cost is a constant)."""
    if item.is_range:
        if len(item.rows) >= 2 or item.ratio < 1.0:  # of one member: (ratio - 1) f <= width
            return False
        removed.append((item.header, "all groups of this range have the same samples"))
        return True
    if not item.moves and math.isinf(item.low()) and math.isinf(item.high()) and item.low() < item.high():
        removed.append((item.label, "no finite limit"))
        return True
    row = item.rows[0]
    if not row.empty or item.moves:
        return False
    value = 0.0 if not row.terms and not row.constant else row.offset
    if item.low() <= value <= item.high() or item.soft.kind in ("priced", "quadratic"):
        removed.append((item.label, "no score enters it"))
        return True
    return False
