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
from dataclasses import dataclass, replace
from fractions import Fraction

from fairopt.compiler.cells_of_rows import Cells
from fairopt.compiler.duplicates import merge_duplicates
from fairopt.compiler.items import Item, Members, Removed, Row
from fairopt.compiler.pairs_to_ranges import merge_ranges, pairs_to_ranges
from fairopt.compiler.reach import Box, always_met, reaches


@dataclass(frozen=True, eq=False)
class Decided:
    """What of presolve's work hangs on counts: the linear rows that were looked at for duplicates, and the items that bounds were held
    against, as they were, with whether one of these went or had a side opened."""

    linear: list[Row]
    reached: list[Item]
    changed: bool


def presolve(items: list[Item], cells: Cells, box: Box) -> tuple[list[Item], Removed, Decided]:
    """The items that remain, (label, reason) of what went, and what was decided by counts."""
    removed: Removed = []
    items = [part for item in items for part in _shrink(item, removed)]
    items = [item for item in items if not _needless(item, removed)]
    linear = [item.rows[0] for item in items if not item.is_range]
    joined = 0
    if len(linear) > 1:
        before = len(items)
        items = merge_duplicates(items, cells, removed)
        joined = before - len(items)
        items = pairs_to_ranges(items, cells, removed)
    items = merge_ranges(items, removed)
    found = reaches(items, cells, box)
    old = [replace(item) for item in items]
    met = [always_met(item, reach, removed) for item, reach in zip(items, found, strict=True)]
    changed = joined > 0 or any(map(changes, items, met, old))
    return [item for item, gone in zip(items, met, strict=True) if not gone], removed, Decided(linear, old, changed)


def changes(item: Item, met: bool, old: Item) -> bool:
    """Whether an item that was held against the bounds went, or lost a limit."""
    return met or item.low() != old.low() or item.high() != old.high()


def _shrink(item: Item, removed: Removed) -> list[Item]:
    """A range without repeated members; of two members the linear rows."""
    if not item.is_range or (isinstance(item.rows, Members) and len(item.rows) > 2):
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
