"""Events: which samples a mean is taken over.

A ``Mask`` is a small expression tree over *columns* of codes, never an (n, groups) array: the K groups of an attribute are K atoms
"column j == code k" over one column of n codes. The compiler finds the distinct combinations of codes and evaluates the trees on
that short table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import numpy as np
import torch

from fairopt.basics.arrays import BoolArray, IntArray
from fairopt.notions.trap import trap


@dataclass(frozen=True, eq=False)
class Column:
    """Codes (n,) int64 in 0 .. size - 1. ``names`` are the codes' words; ``attribute`` is '' for a column of raw booleans."""

    codes: IntArray
    size: int
    names: tuple[str, ...]
    attribute: str


class Registry(Protocol):
    """What a mask needs of its batch: turning raw boolean arrays into columns."""

    def event(self, mask: Any) -> Mask: ...


class Mask:
    """An event. ``a & b``, ``a | b``, ``~a``; boolean arrays and tensors (n,) join in. Made by the ``batch`` under a ``key``; ``name`` is
    for labels.

    Examples:
        >>> from fairopt.notions import Batch
        >>> batch = Batch(3, {"sex": ["f", "m", "m"]}, targets=[1, 0, 1])
        >>> women, men = batch.groups("sex")
        >>> men & (batch.targets == 1), ~women
        (<event m & target=1>, <event not f>)
    """

    __array_ufunc__ = None
    __hash__ = object.__hash__

    def __init__(self, batch: Registry, key: tuple[Any, ...], name: str) -> None:
        self._batch = batch
        self.key = key  # ("all",), ("=", column, code), ("&" or "|", key, key), ("~", key); ("soft", ...): see ``soft_events``
        self.name = name

    def named(self, name: str) -> Mask:
        """The same event under another name in labels."""
        return Mask(self._batch, self.key, name)

    def __and__(self, other: Any) -> Mask:
        event = self._batch.event(other)
        if self.key == ("all",) or event.key[0] == "soft":
            return event & self if event.key[0] == "soft" else event
        if event.key == ("all",):
            return self
        return Mask(self._batch, ("&", self.key, event.key), f"{self.name} & {event.name}")

    def __or__(self, other: Any) -> Mask:
        event = self._batch.event(other)
        if event.key[0] == "soft":
            return event | self
        return Mask(self._batch, ("|", self.key, event.key), f"({self.name} | {event.name})")

    def __invert__(self) -> Mask:
        return Mask(self._batch, ("~", self.key), f"not {self.name}")

    __rand__ = __and__
    __ror__ = __or__

    def __bool__(self) -> NoReturn:
        trap("an event has no truth value of its own: join events with &, | and ~, not with and, or, not")

    def __eq__(self, other: object) -> NoReturn:
        trap("two events cannot be compared with == or !=")

    def __ne__(self, other: object) -> NoReturn:
        trap("two events cannot be compared with == or !=")

    def __repr__(self) -> str:
        return f"<event {self.name}>"


def columns_of(key: tuple[Any, ...]) -> set[int]:
    """The columns that a mask's tree names."""
    if key[0] == "=":
        return {key[1]}
    found: set[int] = set()
    for part in key[1:]:
        found |= columns_of(part)
    return found


def evaluate(key: tuple[Any, ...], table: Mapping[int, IntArray], rows: int) -> BoolArray:
    """(rows,) whether each combination of codes belongs to the mask; ``table`` maps a column to its codes (rows,)."""
    operation = key[0]
    if operation == "=":
        return np.asarray(table[key[1]] == key[2])
    if operation == "&":
        return evaluate(key[1], table, rows) & evaluate(key[2], table, rows)
    if operation == "|":
        return evaluate(key[1], table, rows) | evaluate(key[2], table, rows)
    if operation == "~":
        return ~evaluate(key[1], table, rows)
    return np.ones(rows, dtype=np.bool_)


def boolean_array(value: Any, n: int) -> BoolArray | None:
    """A boolean array or tensor (n,) as numpy; None where it is something else."""
    if isinstance(value, torch.Tensor) and value.dtype == torch.bool:
        value = value.detach().cpu().numpy()
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if isinstance(value, np.ndarray) and value.dtype == np.bool_ and value.shape == (n,):
        return value
    return None
