"""What the compiler works on between a notion's constraints and the arrays of a problem."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np

from fairopt.basics.arrays import Array, IntArray
from fairopt.contract.problem import SoftnessKind
from fairopt.notions.amount import Amount

Term = tuple[float, int, int]  # (scale, mask, values)


@dataclass(frozen=True, eq=False)
class Soft:
    """Softness whose weight may move."""

    kind: SoftnessKind = "hard"
    weight: Amount = field(default_factory=lambda: Amount(float("inf")))
    block: int = -1


@dataclass(eq=False)
class Row:
    """One functional with masks as numbers: scales (mask -> scale) of means, terms of constants, dense (values -> scale) weights.

    ``offset`` is constant + terms as the nearest float64, filled in once the means of the values are known.
    """

    scales: dict[int, float]
    terms: tuple[Term, ...]
    constant: float
    dense: dict[int, float]
    name: str
    offset: float = 0.0

    @property
    def empty(self) -> bool:
        """Whether no score enters."""
        return not self.scales and not self.dense

    @property
    def key(self) -> tuple[object, ...]:
        """Equal keys: the same functional."""
        return (tuple(sorted(self.scales.items())), tuple(sorted(self.terms)), self.constant, tuple(sorted(self.dense.items())))

    def minus(self, other: Row, factor: float = 1.0) -> Row:
        """self - factor * other."""
        scales, dense = dict(self.scales), dict(self.dense)
        for j, s in other.scales.items():
            scales[j] = scales.get(j, 0.0) - factor * s
        for j, s in other.dense.items():
            dense[j] = dense.get(j, 0.0) - factor * s
        return Row(
            {j: s for j, s in scales.items() if s != 0},
            self.terms + tuple((-factor * s, m, v) for s, m, v in other.terms if factor),
            self.constant - factor * other.constant,
            {j: s for j, s in dense.items() if s != 0},
            f"{self.name} - {other.name}" if factor == 1.0 else f"{self.name} - {factor:g}*{other.name}",
            self.offset - factor * other.offset,
        )


@dataclass(frozen=True, eq=False)
class Members(Sequence[Row]):
    """The means over disjoint masks (K,), one row each, as arrays: a row is made when it is looked at, for there may be thousands."""

    masks: IntArray
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, k: int) -> Row: ...
    @overload
    def __getitem__(self, k: slice) -> list[Row]: ...
    def __getitem__(self, k: int | slice) -> Row | list[Row]:
        if isinstance(k, slice):
            return [self[i] for i in range(len(self))[k]]
        return Row({int(self.masks[k]): 1.0}, (), 0.0, {}, self.names[k])


@dataclass(eq=False)
class Item:
    """One constraint: a linear one (one row, limits) or a range (rows, width, ratio). Limits join: the largest lower, the least upper."""

    header: str
    rows: Sequence[Row]
    soft: Soft
    lower: tuple[Amount, ...] = ()
    upper: tuple[Amount, ...] = ()
    width: tuple[Amount, ...] = ()
    merged: list[str] = field(default_factory=list)
    ratio: float = 1.0

    @property
    def is_range(self) -> bool:
        return bool(self.width)

    @property
    def dense(self) -> bool:
        """Whether a row has weights of its own a sample."""
        return not isinstance(self.rows, Members) and any(row.dense for row in self.rows)

    @property
    def label(self) -> str:
        return self.header if self.is_range else f"{self.header}: {self.rows[0].name}"

    @property
    def moves(self) -> bool:
        """Whether a limit or the weight can change after compilation."""
        return self.soft.weight.moves or any(a.moves for a in (*self.lower, *self.upper, *self.width))

    def low(self) -> float:
        return max((a.value() for a in self.lower), default=float("-inf"))

    def high(self) -> float:
        return min((a.value() for a in self.upper), default=float("inf"))

    def wide(self) -> float:
        return min(a.value() for a in self.width)


def listed_rows(items: Iterable[Item]) -> Iterator[tuple[int, Row]]:
    """The rows that are held one by one, with their numbers among all rows of ``items``."""
    start = 0
    for item in items:
        if not isinstance(item.rows, Members):
            yield from enumerate(item.rows, start)
        start += len(item.rows)


def row_names(item: Item) -> Sequence[str]:
    return item.rows.names if isinstance(item.rows, Members) else [row.name for row in item.rows]


def offsets_of(items: Sequence[Item]) -> Array:
    """The offset of each row of ``items``."""
    offsets = np.zeros(sum(len(item.rows) for item in items))
    for k, row in listed_rows(items):
        offsets[k] = row.offset
    return offsets


Removed = list[tuple[str, str]]  # what presolve left out: label, reason
