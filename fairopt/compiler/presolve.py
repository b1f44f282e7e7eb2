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
from collections import defaultdict
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
from torch import Tensor

from fairopt.compiler.items import Item, Row
from fairopt.notions.amount import Amount
from fairopt.numerics.exact_sums import nearest_float
from fairopt.problem import Array, BoolArray, IntArray, shares_of_cells
from fairopt.sparse import LARGE, Matrix, SparseRows, absolute, entries_of

_MARGIN = 1e-12
_LEAST = 1e-280  # nothing is judged among numbers whose products underflow
FAR = 1e6  # a limit so many times as large as what the bounds let its row reach is no limit, and its size would spoil sums


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


Removed = list[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class Box:
    """What presolve knows of the bounds: lb, ub a float or (n,) tensor; cell (n,) of each sample; values: (n,) tensors of dense rows."""

    lb: float | Tensor
    ub: float | Tensor
    cell: IntArray
    values: list[Tensor]

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

    def reach(self, rows: list[Row], cells: Cells) -> tuple[Array, Array, Array]:
        """(rows,) least and greatest values that scores inside the bounds give each row, and (2, rows) what their rounding may hide."""
        weight = cells.coefficients(rows)  # (rows, C)
        constants = np.array([row.offset for row in rows])
        if any(row.dense for row in rows):
            lb, ub = (b.numpy() if isinstance(b, Tensor) else np.full(self.cell.shape[0], b) for b in (self.lb, self.ub))
            whole = np.asarray(weight)[:, self.cell]
            for k, row in enumerate(rows):
                for v, s in row.dense.items():
                    whole[k] += s / self.cell.shape[0] * self.values[v].numpy()
            terms = [_product(whole, a, b) for a, b in ((lb, ub), (ub, lb))]
        elif self.sums is None:
            assert not isinstance(self.lb, Tensor)
            assert not isinstance(self.ub, Tensor)
            terms = [_product(weight * cells.counts, a, b) for a, b in ((self.lb, self.ub), (self.ub, self.lb))]
        else:
            terms = [_product(weight, *self.sums), _product(weight, *self.sums[::-1])]
        with np.errstate(invalid="ignore", over="ignore"):
            ends = [t.sum(1) + constants for t in terms]
            error = _MARGIN + 2.0**-52 * self.cell.shape[0]
            hidden = np.array([error * (absolute(t).sum(1) + np.abs(constants)) for t in terms])
        return ends[0], ends[1], hidden


def _product(weight: Matrix, below: Array | float, above: Array | float) -> Matrix:
    """(rows, k) the terms of each row at ``below`` where its weight is positive, at ``above`` where it is negative."""
    if isinstance(weight, SparseRows):
        low, high = (b if isinstance(b, float) else b[weight.index] for b in (below, above))
        terms = _product(weight.values, low, high)
        assert isinstance(terms, np.ndarray)
        return weight.like(terms)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(weight > 0, weight * below, np.where(weight < 0, weight * above, 0.0))


def presolve(items: list[Item], cells: Cells, box: Box) -> tuple[list[Item], Removed]:
    """The items that remain, and (label, reason) of what went."""
    removed: Removed = []
    items = [part for item in items for part in _shrink(item, removed)]
    items = [item for item in items if not _needless(item, removed)]
    if sum(not item.is_range for item in items) > 1:
        items = _merge_duplicates(items, cells, removed)
        items = _pairs_to_ranges(items, cells, removed)
    items = _merge_ranges(items, removed)
    reaches = _reaches(items, cells, box)
    return [item for item, reach in zip(items, reaches, strict=True) if not _always_met(item, reach, removed)], removed


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


def _merge_duplicates(items: list[Item], cells: Cells, removed: Removed) -> list[Item]:
    """Join linear rows that are multiples of one another."""
    linear = [item for item in items if not item.is_range]
    keys = _direction_keys([item.rows[0] for item in linear], cells)
    first: dict[tuple[object, ...], Item] = {}
    into: dict[int, Item] = {}  # of what went: what it joined
    for item, direction in zip(linear, keys, strict=True):
        if direction is None:
            continue
        key = (direction, item.soft.kind, item.soft.block)
        if key not in first:
            first[key] = item
            continue
        target = first[key]
        factor = _factor(target.rows[0], item.rows[0], cells)
        if factor is None:
            continue
        if _join(target, item, factor):
            into[id(item)] = target
            target.merged.append(item.label)
        elif _join(item, target, 1 / factor):
            into[id(target)] = first[key] = item
            item.merged += [target.label, *target.merged]
        else:
            continue
        gone, kept = (item, target) if first[key] is target else (target, item)
        removed.append((gone.label, f"joined with {kept.label}"))
    return [item for item in items if id(item) not in into]


def _direction_keys(rows: list[Row], cells: Cells) -> list[bytes | None]:
    """Equal keys for rows that are, up to rounding, multiples of each other; None for rows without scores."""
    values = sorted({v for row in rows for v in row.dense})
    dense = np.array([[row.dense.get(v, 0.0) for v in values] for row in rows]).reshape(len(rows), len(values))
    constants = np.array([[row.offset] for row in rows])
    coefficients = cells.coefficients(rows)  # (rows, C)
    keys: list[bytes | None] = []
    for k in range(len(rows)):
        index, inside = coefficients.row(k) if isinstance(coefficients, SparseRows) else (None, coefficients[k])
        line = np.concatenate([inside, dense[k], constants[k]])
        body = np.abs(line[:-1])
        largest = float(body.max(initial=0.0))
        if largest == 0:
            keys.append(None)
            continue
        pivot = int(np.argmax(body > 1e-9 * largest))
        line = np.round(line / (np.sign(line[pivot]) * largest), 10) + 0.0
        keys.append(line.tobytes() if index is None else index.tobytes() + line.tobytes())
    return keys


def _factor(a: Row, b: Row, cells: Cells) -> Fraction | None:
    """s with b = s a exactly, or None."""
    if a.scales == b.scales and a.terms == b.terms and a.constant == b.constant and a.dense == b.dense:
        return Fraction(1)
    whole: list[tuple[dict[object, Fraction], dict[object, Fraction]]] = [
        (cells.exact(a), cells.exact(b)),
        (_terms(a), _terms(b)),
        ({v: Fraction(s) for v, s in a.dense.items()}, {v: Fraction(s) for v, s in b.dense.items()}),
        ({0: Fraction(a.constant)} if a.constant else {}, {0: Fraction(b.constant)} if b.constant else {}),
    ]
    factor: Fraction | None = None
    for left, right in whole:
        if left.keys() != right.keys():
            return None
        for k, value in left.items():
            if factor is None:
                factor = right[k] / value
            elif right[k] != factor * value:
                return None
    return factor


def _terms(row: Row) -> dict[object, Fraction]:
    total: dict[object, Fraction] = defaultdict(Fraction)
    for s, m, v in row.terms:
        total[m, v] += Fraction(s)
    return {k: s for k, s in total.items() if s}


def _join(target: Item, item: Item, factor: Fraction) -> bool:
    """Take the limits of ``item``, whose row is ``factor`` times the target's; False where that would change the answer."""
    below, above = (item.lower, item.upper) if factor > 0 else (item.upper, item.lower)
    if item.soft.kind == "hard":
        if abs(factor) < 1 and _same_interval(target, item):
            return True  # a limit that is met by more
        lower, upper = _divided(below, factor, target.lower, 1), _divided(above, factor, target.upper, -1)
        if lower is None or upper is None:
            return False
        joined = Item(target.header, target.rows, target.soft, _distinct(target.lower + lower), _distinct(target.upper + upper))
        if joined.low() > joined.high():
            return False  # kept apart: an InfeasibleError shall name both
        target.lower, target.upper = joined.lower, joined.upper
        return True
    if abs(factor) != 1:
        return False
    lower, upper = (tuple(a.times(float(factor)) for a in side) for side in (below, above))
    same = [a.key for a in lower] == [a.key for a in target.lower] and [a.key for a in upper] == [a.key for a in target.upper]
    if not same:
        return False
    if item.soft.kind in ("priced", "quadratic"):
        target.soft = replace(target.soft, weight=target.soft.weight.plus(item.soft.weight))
    return True


def _same_interval(a: Item, b: Item) -> bool:
    """Whether both have the same limits [-t, t], for ever."""
    sides = [{x.key for x in side} for item in (a, b) for side in (item.upper, [-x for x in item.lower])]
    return bool(a.lower) and all(side == sides[0] for side in sides)


def _divided(amounts: tuple[Amount, ...], factor: Fraction, known: tuple[Amount, ...], sign: int) -> tuple[Amount, ...] | None:
    """``amounts`` / factor, as limits beside ``known``: lower ones (sign 1) or upper ones (-1). None where some quotient is no float64 and
    says more than ``known``: rounded inward it could rule out the only scores that meet it, rounded outward let others in.
    """
    if factor == 1:
        return amounts
    constants = [Fraction(a.constant) for a in known if not a.moves and math.isfinite(a.constant)]
    quotients = []
    for a in amounts:
        if a.moves:
            if not _power_of_two(factor):
                return None
            quotients.append(a.times(1.0 / float(factor)))
        elif math.isinf(a.constant):
            quotients.append(Amount(a.constant if factor > 0 else -a.constant))
        else:
            exact = Fraction(a.constant) / factor
            rounded = nearest_float(exact)
            if math.isfinite(rounded) and Fraction(rounded) == exact:
                quotients.append(Amount(rounded))
            elif not any(sign * (limit - exact) >= 0 for limit in constants):
                return None
    return tuple(quotients)


def _power_of_two(factor: Fraction) -> bool:
    """Whether a product with ``factor`` is exact."""
    return all(v & (v - 1) == 0 for v in (abs(factor.numerator), factor.denominator))


def _distinct(amounts: tuple[Amount, ...]) -> tuple[Amount, ...]:
    return tuple({a.key: a for a in amounts}.values())


def _pairs_to_ranges(items: list[Item], cells: Cells, removed: Removed) -> list[Item]:
    """Every complete set of hard rows f_i - f_j in [-t, t], i < j, over K >= 3 masks becomes max f - min f <= t."""
    edges: dict[tuple[object, ...], dict[frozenset[int], tuple[Item, dict[int, Row]]]] = defaultdict(dict)
    position = {id(item): k for k, item in enumerate(items)}
    for item in items:
        ends = _ends(item, cells.names)
        if ends is not None:
            limit = tuple(sorted(map(repr, (a.key for a in item.upper))))
            edges[(item.header, limit)].setdefault(frozenset(ends), (item, ends))
    replaced: dict[int, Item | None] = {}
    for family in edges.values():
        for members in _cliques(set(family)):
            chosen = [family[frozenset(pair)] for pair in _pairs(members)]
            parts: dict[int, set[tuple[object, ...]]] = defaultdict(set)
            for _, ends in chosen:
                for j, row in ends.items():
                    parts[j].add(row.key)
            if any(len(keys) > 1 for keys in parts.values()):
                continue  # the same groups with different constants
            first = min((item for item, _ in chosen), key=lambda item: position[id(item)])
            rows_of = {j: row for _, ends in chosen for j, row in ends.items()}
            members_rows = [rows_of[j] for j in members]
            replaced.update({id(item): None for item, _ in chosen})
            replaced[id(first)] = Item(first.header, members_rows, first.soft, width=first.upper, merged=[i.label for i, _ in chosen])
            removed += [(item.label, f"one of all pairs: part of the range {first.header}") for item, _ in chosen]
    kept = [replaced.get(id(item), item) for item in items]
    return [item for item in kept if item is not None]


def _ends(item: Item, names: list[str]) -> dict[int, Row] | None:
    """The two member rows of mean_i - mean_j in [-t, t]; None for any other item."""
    if item.is_range or item.soft.kind != "hard" or not item.lower or {a.key for a in item.lower} != {(-a).key for a in item.upper}:
        return None
    row = item.rows[0]
    if row.terms or row.constant or row.dense or sorted(row.scales.values()) != [-1.0, 1.0]:
        return None
    return {j: Row({j: 1.0}, (), 0.0, {}, names[j]) for j in row.scales}


def _cliques(edges: set[frozenset[int]]) -> list[list[int]]:
    """Connected components of three or more that are complete."""
    neighbours: dict[int, set[int]] = defaultdict(set)
    for edge in edges:
        a, b = edge
        neighbours[a].add(b)
        neighbours[b].add(a)
    found: list[list[int]] = []
    seen: set[int] = set()
    for start in sorted(neighbours):
        if start in seen:
            continue
        component, todo = {start}, [start]
        while todo:
            for other in neighbours[todo.pop()] - component:
                component.add(other)
                todo.append(other)
        seen |= component
        if len(component) >= 3 and all(len(neighbours[j]) == len(component) - 1 for j in component):
            found.append(sorted(component))
    return found


def _pairs(members: list[int]) -> list[tuple[int, int]]:
    return [(a, b) for k, a in enumerate(members) for b in members[k + 1 :]]


def _merge_ranges(items: list[Item], removed: Removed) -> list[Item]:
    """Hard ranges over the same members join to the least width."""
    first: dict[frozenset[tuple[object, ...]], Item] = {}
    kept: list[Item] = []
    for item in items:
        if item.is_range and item.soft.kind == "hard":
            key = frozenset([*(row.key for row in item.rows), (item.ratio,)])
            if key in first:
                first[key].width = _distinct(first[key].width + item.width)
                removed.append((item.label, f"joined with {first[key].label}"))
                continue
            first[key] = item
        kept.append(item)
    return kept


Reach = tuple[Array, Array, Array]


def _reaches(items: list[Item], cells: Cells, box: Box) -> list[Reach | None]:
    """``box.reach`` of the rows of each item, in one pass for those without dense rows; None where the limits move or the box is open."""
    asked = [item for item in items if not box.open and not item.moves]
    plain = [item for item in asked if not any(row.dense for row in item.rows)]
    found: dict[int, Reach] = {id(item): box.reach(item.rows, cells) for item in asked if any(row.dense for row in item.rows)}
    if plain:
        low, high, hidden = box.reach([row for item in plain for row in item.rows], cells)
        start = 0
        for item in plain:
            part = slice(start, start + len(item.rows))
            found[id(item)] = low[part], high[part], hidden[:, part]
            start = part.stop
    return [found.get(id(item)) for item in items]


def _always_met(item: Item, reach: Reach | None, removed: Removed) -> bool:
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
    return limit == math.inf or (known and limit - end >= max(hidden + _MARGIN * abs(limit), _LEAST))
