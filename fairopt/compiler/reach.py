"""What the bounds let a row reach: rows that cannot leave their limits inside them go, and limits far beyond reach open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.basics.sparse import Matrix, SparseRows, absolute
from fairopt.basics.wide_rows import WideRows
from fairopt.compiler.cells_of_rows import LEAST, Cells
from fairopt.compiler.items import Item, Removed, Row, listed_rows, offsets_of
from fairopt.notions.dense import DenseWeights

MARGIN = 1e-12
FAR = 1e6  # a limit so many times as large as what the bounds let its row reach is no limit, and its size would spoil sums
PLAIN = 1e-6  # relative: what rounding never comes near
Reach = tuple[Array, Array, Array]


@dataclass(frozen=True, eq=False)
class Box:
    """What presolve knows of the bounds: lb, ub a float or (n,) tensor; cell (n,) of each sample; dense: the weights of dense rows."""

    lb: float | Tensor
    ub: float | Tensor
    cell: IntArray
    dense: DenseWeights | None

    @property
    def open(self) -> bool:
        return not isinstance(self.lb, Tensor) and not isinstance(self.ub, Tensor) and math.isinf(self.lb) and math.isinf(self.ub)

    @cached_property
    def sums(self) -> tuple[Array, Array] | None:
        """(C,) sums of the lower and of the upper bounds of each cell; None where they are the same for all samples."""
        if not isinstance(self.lb, Tensor) and not isinstance(self.ub, Tensor):
            return None
        lb, ub = (b.numpy() if isinstance(b, Tensor) else np.full(self.cell.shape[0], b) for b in (self.lb, self.ub))
        low, high = (np.asarray(np.bincount(self.cell, weights=b), dtype=np.float64) for b in (lb, ub))
        return low, high

    def reach(self, items: Sequence[Item], cells: Cells) -> tuple[Array, Array, Array]:
        """(rows,) of all ``items``: least and greatest values inside the bounds, and (2, rows) what their rounding may hide."""
        weight = cells.coefficients_of(items)  # (rows, C)
        constants = offsets_of(items)
        if any(item.dense for item in items):
            lb, ub = (b.numpy() if isinstance(b, Tensor) else np.full(self.cell.shape[0], b) for b in (self.lb, self.ub))
            whole = np.asarray(weight)[:, self.cell]
            for k, row in listed_rows(items):
                if row.dense:
                    assert self.dense is not None
                    whole[k] += self.dense.row(row.dense.items())
            terms = [_product(whole, a, b) for a, b in ((lb, ub), (ub, lb))]
        elif isinstance(weight, WideRows):
            return self._reach_wide(weight, constants, cells.counts)
        elif self.sums is None:
            assert not isinstance(self.lb, Tensor)
            assert not isinstance(self.ub, Tensor)
            terms = [_product(weight * cells.counts, a, b) for a, b in ((self.lb, self.ub), (self.ub, self.lb))]
        else:
            terms = [_product(weight, *self.sums), _product(weight, *self.sums[::-1])]
        with np.errstate(invalid="ignore", over="ignore"):
            ends = [t.sum(1) + constants for t in terms]
            error = MARGIN + 2.0**-52 * self.cell.shape[0]
            hidden = np.array([error * (absolute(t).sum(1) + np.abs(constants)) for t in terms])
        return ends[0], ends[1], hidden

    def _reach_wide(self, weight: WideRows, constants: Array, counts: IntArray) -> tuple[Array, Array, Array]:
        """``reach`` of rows that share wide masks, from the cells' sums of the bounds."""
        if self.sums is None:
            assert not isinstance(self.lb, Tensor)
            assert not isinstance(self.ub, Tensor)
            with np.errstate(over="ignore"):
                low, high = (np.asarray(b * counts, dtype=np.float64) for b in (self.lb, self.ub))
        else:
            low, high = self.sums
        with np.errstate(invalid="ignore", over="ignore"):
            ends = weight.reach(low, high) + constants, weight.reach(high, low) + constants
            terms = [weight.parts_sum(np.maximum(np.abs(low), np.abs(high))) + np.abs(constants)] * 2
            return ends[0], ends[1], (MARGIN + 2.0**-52 * self.cell.shape[0]) * np.array(terms)


def _product(weight: Matrix, below: Array | float, above: Array | float) -> Matrix:
    """(rows, k) the terms of each row at ``below`` where its weight is positive, at ``above`` where it is negative."""
    if isinstance(weight, SparseRows):
        low, high = (b if isinstance(b, float) else b[weight.index] for b in (below, above))
        terms = _product(weight.values, low, high)
        assert isinstance(terms, np.ndarray)
        return weight.like(terms)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(weight > 0, weight * below, np.where(weight < 0, weight * above, 0.0))


def reaches(items: list[Item], cells: Cells, box: Box) -> list[Reach | None]:
    """``box.reach`` of the rows of each item, in one pass for those without dense rows; None where the limits move or the box is open."""
    asked = [item for item in items if not box.open and not item.moves]
    plain = [item for item in asked if not item.dense]
    found: dict[int, Reach] = {id(item): box.reach([item], cells) for item in asked if item.dense}
    if plain:
        low, high, hidden = box.reach(plain, cells)
        start = 0
        for item in plain:
            part = slice(start, start + len(item.rows))
            found[id(item)] = low[part], high[part], hidden[:, part]
            start = part.stop
    return [found.get(id(item)) for item in items]


def always_met(item: Item, reach: Reach | None, removed: Removed) -> bool:
    """Whether no scores inside the bounds can violate the item, with a margin above rounding. A side FAR beyond reach opens."""
    if reach is None:
        return False
    low, high, hidden = reach
    if item.is_range:
        met = _beyond(item.wide(), float((item.ratio * high.max() if item.ratio else 0.0) - low.min()), float(hidden.sum(0).max()))
    else:
        ends, limits = (-float(low[0]), float(high[0])), (-item.low(), item.high())
        sides = [_beyond(limit, end, float(h)) for limit, end, h in zip(limits, ends, hidden[:, 0], strict=True)]
        met = all(sides)
        size = max((abs(end) for end in ends if math.isfinite(end)), default=0.0)
        far = [side and abs(limit) > FAR * size for side, limit in zip(sides, limits, strict=True)]
        if not met:
            item.lower, item.upper = () if far[0] else item.lower, () if far[1] else item.upper
    if met:
        removed.append((item.label, "always met inside the bounds"))
    return met


def _beyond(limit: float, end: float, hidden: float) -> bool:
    """Whether values up to ``end``, known to ``hidden``, stay under an upper limit beyond doubt. False for NaN."""
    known = end > -math.inf and hidden < math.inf  # sums of bounds may overflow: then they say nothing
    return limit == math.inf or (known and limit - end >= max(hidden + MARGIN * abs(limit), LEAST))


def surely_open(item: Item, masks: BoolArray | SparseRows, lb: float, ub: float) -> bool:
    """Whether ``always_met`` says no and opens no side, whatever the counts: where no sample is in two masks of a row, what the bounds let
    it reach are the sums of its scales times the bounds, whose rounding is far below PLAIN."""
    ends = [_ends(row, masks, lb, ub) for row in item.rows]
    if any(end is None for end in ends) or item.moves:
        return False
    low, high, size = (np.array([end[k] for end in ends if end is not None]) for k in range(3))
    slack = PLAIN * float(size.max())
    if item.is_range:
        most = (item.ratio * float(high.max()) if item.ratio else 0.0) - float(low.min())
        return item.wide() < most - slack - PLAIN * abs(item.wide())
    reach = max(abs(float(low[0])), abs(float(high[0])))
    breaks = 0
    for limit, end in ((-item.low(), -float(low[0])), (item.high(), float(high[0]))):
        if limit == math.inf:
            continue
        if limit < end - slack - PLAIN * abs(limit):
            breaks += 1
        elif not abs(limit) < 0.5 * FAR * reach:
            return False  # it may open
    return breaks > 0


def _ends(row: Row, masks: BoolArray | SparseRows, lb: float, ub: float) -> tuple[float, float, float] | None:
    """The least and greatest value of a row between the bounds, and the sum of the absolute terms; None where masks overlap or an end is
    not finite."""
    if row.dense or row.terms or not row.scales or isinstance(masks, SparseRows) or not (math.isfinite(lb) and math.isfinite(ub)):
        return None
    if int(masks[list(row.scales)].sum(0).max()) > 1:
        return None
    low = high = row.offset
    for s in row.scales.values():
        low, high = low + min(s * lb, s * ub), high + max(s * lb, s * ub)
    size = abs(row.offset) + sum(map(abs, row.scales.values())) * max(abs(lb), abs(ub))
    return (low, high, size) if math.isfinite(size) else None
