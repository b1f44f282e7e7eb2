"""Duplicate rows, also scaled or negated ones: hard ones join to one with the tightest limits, which keeps the gradient to the tolerance
two-sided; soft ones only where that is the same function of the scores.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.basics.exact_sums import nearest_float
from fairopt.basics.sparse import SparseRows
from fairopt.basics.wide_rows import WideRows
from fairopt.compiler.cells_of_rows import Cells
from fairopt.compiler.items import Item, Removed, Row
from fairopt.notions.amount import Amount


def merge_duplicates(items: list[Item], cells: Cells, removed: Removed) -> list[Item]:
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
    coefficients = cells.coefficients(rows)  # (rows, C)
    if isinstance(coefficients, WideRows):
        return _random_keys(coefficients, rows)
    values = sorted({v for row in rows for v in row.dense})
    dense = np.array([[row.dense.get(v, 0.0) for v in values] for row in rows]).reshape(len(rows), len(values))
    constants = np.array([row.offset for row in rows])
    if not isinstance(coefficients, SparseRows):
        return directions(np.concatenate([coefficients, dense], axis=1), constants)
    keys: list[bytes | None] = []
    for k in range(len(rows)):
        index, inside = coefficients.row(k)
        key = directions(np.concatenate([inside, dense[k]])[None], constants[k : k + 1])[0]
        keys.append(None if key is None else index.tobytes() + key)
    return keys


def directions(body: Array, constants: Array) -> list[bytes | None]:
    """Equal keys for rows ``body`` (k, C) with ``constants`` (k,) that are, up to rounding, multiples of each other; None for zeros."""
    size = np.abs(body)
    largest = size.max(1, initial=0.0)
    some = largest > 0
    pivot = (size > 1e-9 * largest[:, None]).argmax(1) if body.shape[1] else np.zeros(body.shape[0], dtype=np.int64)
    unit = np.where(some, np.sign(body[np.arange(body.shape[0]), pivot]) * largest, 1.0) if body.shape[1] else np.ones(body.shape[0])
    lines = np.round(np.concatenate([body, constants[:, None]], axis=1) / unit[:, None], 10) + 0.0
    return [line.tobytes() if there else None for line, there in zip(lines, some.tolist(), strict=True)]


def _random_keys(coefficients: WideRows, rows: list[Row]) -> list[bytes | None]:
    """``_direction_keys`` from random combinations of the columns, in the first one's units: what has the same key is compared exactly."""
    draw = np.random.default_rng(0)
    values = sorted({v for row in rows for v in row.dense})
    weights = draw.standard_normal((4, len(values) + 1))
    marks = np.array([coefficients @ draw.standard_normal(coefficients.columns) for _ in range(4)])  # (4, rows)
    marks += weights[:, :1] * np.array([row.offset for row in rows])
    for k, row in enumerate(rows):
        marks[:, k] += sum((weights[:, 1 + values.index(v)] * s for v, s in row.dense.items()), np.zeros(4))
    with np.errstate(all="ignore"):
        ratios = np.round(marks[1:] / marks[0], 8).T + 0.0
    return [ratio.tobytes() if np.isfinite(ratio).all() else None for ratio in ratios]


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
        joined = Item(target.header, target.rows, target.soft, distinct(target.lower + lower), distinct(target.upper + upper))
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


def distinct(amounts: tuple[Amount, ...]) -> tuple[Amount, ...]:
    return tuple({a.key: a for a in amounts}.values())
