"""Groups of one attribute: Python values on the outside, int64 codes on the inside.

A vocabulary is the sorted tuple of an attribute's values, of one type (int, str or bool), with None last for the missing ones where
these are a group of their own. A *declared* vocabulary never changes: an unknown value is an error and a group without samples is
known to be absent. One that is not declared grows where the caller allows it (a layer in train mode, ``project`` from its one
batch) and stays sorted, so that the codes do not depend on the order of arrival.

Source: DESIGN 4, "Groups".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np

from fairopt.basics.arrays import IntArray
from fairopt.basics.columns import Value, group_values, plain_value
from fairopt.basics.errors import InputError
from fairopt.basics.table import group_word

Missing = Literal["error", "own"]
Attribute = str | tuple[str, ...]  # a name, or the names of a combination
"""A name in sensitive_features, or several: their combinations."""

_KINDS: dict[type, str] = {bool: "bool", int: "int", str: "str", np.bool_: "bool", np.str_: "str"}
_WIDEST_TABLE = 1 << 16
_SPAN = 128


@dataclass(frozen=True)
class Vocabulary:
    """The values of one attribute, sorted, None (missing) last. The code of a value is its position."""

    values: tuple[Value, ...] = ()
    declared: bool = False

    @classmethod
    def of(cls, values: Iterable[Any], *, name: str, declared: bool = False) -> Vocabulary:
        """A vocabulary of the distinct ``values``; InputError where they are of mixed types. ``name`` is for the message."""
        listed = [plain_value(v, name) for v in values]
        kinds = {_kind_of(v) for v in listed if v is not None}  # before the set: 1 == True
        if len(kinds) > 1:
            raise InputError(f"{name} mixes {' and '.join(sorted(kinds))} values; a vocabulary has one type")
        plain = set(listed)
        ordered: list[Any] = sorted(v for v in plain if v is not None)
        return cls((*ordered, None) if None in plain else tuple(ordered), declared)

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def kind(self) -> str:
        """'int', 'str', 'bool', or '' where there is no value yet."""
        return _kind_of(self.values[0]) if self.values and self.values[0] is not None else ""

    @cached_property
    def index(self) -> dict[Value, int]:
        return {v: k for k, v in enumerate(self.values)}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The values as words for labels."""
        return tuple(map(group_word, self.values))

    @cached_property
    def numbers(self) -> IntArray:
        """The int values without None, sorted."""
        return np.array([v for v in self.values if v is not None], dtype=np.int64)

    @cached_property
    def table(self) -> IntArray | None:
        """(last - first + 1,) code of each integer from the first to the last value, -1 where there is none; None where too wide."""
        first, last = int(self.numbers[0]), int(self.numbers[-1])
        if last - first >= _WIDEST_TABLE:
            return None
        table = np.full(last - first + 1, -1, dtype=np.int64)
        table[self.numbers - first] = np.arange(len(self.numbers))
        return table

    @cached_property
    def contiguous(self) -> bool:
        """Whether the int values are first, first + 1, ... without a gap."""
        return len(self.numbers) > 0 and int(self.numbers[-1]) - int(self.numbers[0]) + 1 == len(self.numbers)

    def joined(self, values: Iterable[Value], *, name: str) -> Vocabulary:
        """The vocabulary with ``values`` added, sorted again."""
        return Vocabulary.of([*self.values, *values], name=name, declared=self.declared)

    def to_list(self) -> list[Value]:
        """A plain list that ``torch.load(weights_only=True)`` reads back."""
        return list(self.values)


def declare(groups: Mapping[str, Iterable[Any]] | None) -> dict[str, Vocabulary]:
    """Declared vocabularies from ``groups={"sex": ["female", "male"]}``."""
    if groups is None:
        return {}
    if not isinstance(groups, Mapping):
        raise InputError(f"groups must map attribute names to their values, came {type(groups).__name__}")
    return {name: _declared(name, values) for name, values in groups.items()}


def _declared(name: str, values: Any) -> Vocabulary:
    if isinstance(values, Vocabulary):
        return Vocabulary(values.values, declared=True)
    where = f"groups[{name!r}]"
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InputError(f"{where} must be the list of the attribute's values, came {values!r}")
    listed = [*values]
    vocabulary = Vocabulary.of(listed, name=where, declared=True)
    if len(vocabulary) != len(listed):
        raise InputError(f"{where} names a value twice: {listed!r}")
    if not listed:
        raise InputError(f"{where} is empty; name at least one value")
    return vocabulary


def encode(
    column: Any, *, name: str, vocabulary: Vocabulary | None = None, grow: bool = True, missing: Missing = "error"
) -> tuple[IntArray, Vocabulary]:
    """Codes (n,) int64 of one attribute's values, and the vocabulary that they refer to.

    column      anything that ``fairopt.basics.columns`` reads, of ints, integral floats, strings or bools; one type
    vocabulary  what is known so far; a declared one is fixed whatever ``grow`` says
    grow        whether unknown values join the vocabulary, or are an error
    missing     "error", or "own": None, NaN and pd.NA form the group None

    Raises InputError for a missing value, an unknown value, mixed types, or a shape that is not (n,).
    """
    where = f"sensitive_features[{name!r}]"
    grow = grow and (vocabulary is None or not vocabulary.declared)
    known = Vocabulary() if vocabulary is None else vocabulary
    if missing == "own" and known.declared and None not in known.index:
        known = Vocabulary((*known.values, None), declared=True)
    integers, kind, listed = group_values(column, where)
    if integers is not None:
        if known.kind not in ("", kind):
            raise InputError(f"{where} holds {kind} values; its vocabulary holds {known.kind} values {list(known.values)!r}")
        return _encode_integers(integers, kind, known, grow=grow, where=where)
    return _encode_listed(listed, known, grow=grow, missing=missing, where=where)


def _encode_integers(a: IntArray, kind: str, known: Vocabulary, *, grow: bool, where: str) -> tuple[IntArray, Vocabulary]:
    if a.size == 0:
        return np.zeros(0, dtype=np.int64), known
    low, high = int(np.minimum.reduce(a)), int(np.maximum.reduce(a))
    codes = _look_up(a, low, high, known)
    if codes is not None:
        return codes, known
    shifted = a - low if high - low < max(4 * a.size, _WIDEST_TABLE) else None
    present = np.unique(a) if shifted is None else np.flatnonzero(np.bincount(shifted)) + low
    if shifted is not None and not known.values and grow and present.size == high - low + 1 <= _SPAN:
        return shifted, _span(kind, low, high)
    values = [bool(v) for v in present] if kind == "bool" else present.tolist()
    unknown = [v for v in values if v not in known.index]
    if unknown and not grow:
        _raise_unknown(unknown, known, where)
    vocabulary = known.joined(unknown, name=where)
    if shifted is not None and vocabulary.contiguous and vocabulary.numbers[0] == low:
        return shifted, vocabulary
    codes = _look_up(a, low, high, vocabulary)
    assert codes is not None  # every value has just joined
    return codes, vocabulary


@lru_cache(maxsize=256)
def _span(kind: str, low: int, high: int) -> Vocabulary:
    """The vocabulary of all values from ``low`` to ``high``: batch after batch comes with the same."""
    return Vocabulary(tuple(map(bool if kind == "bool" else int, range(low, high + 1))))


def _look_up(a: IntArray, low: int, high: int, known: Vocabulary) -> IntArray | None:
    """Codes of the integers ``a`` (n,), or None where one is unknown."""
    if not known.kind:
        return None
    first, last = int(known.numbers[0]), int(known.numbers[-1])
    if low < first or high > last:
        return None
    if known.contiguous:
        return a - first
    if known.table is not None:
        codes = known.table[a - first]
        return None if int(codes.min()) < 0 else codes
    codes = np.searchsorted(known.numbers, a).astype(np.int64)
    return codes if np.array_equal(known.numbers[codes], a) else None


def _encode_listed(column: Sequence[Any], known: Vocabulary, *, grow: bool, missing: Missing, where: str) -> tuple[IntArray, Vocabulary]:
    """Values looked at through a dictionary: each distinct one is checked once."""
    try:
        distinct = dict.fromkeys(zip(map(type, column), column, strict=True))  # 1, True and 1.0 stay apart
    except TypeError as error:  # what has no hash is no value of a group
        for value in column:
            plain_value(value, where)
        raise InputError(f"{where} holds a value that is no int, string or bool ({error})") from error
    plain = {key: plain_value(key[1], where) for key in distinct}
    if missing == "error" and None in plain.values():
        _raise_missing(where, next(i for i, key in enumerate(zip(map(type, column), column, strict=True)) if plain[key] is None))
    kinds = {_kind_of(v) for v in plain.values() if v is not None} | ({known.kind} if known.kind else set())
    if len(kinds) > 1:
        vocabulary_says = f"; its vocabulary is {list(known.values)!r}" if known.values else ""
        raise InputError(f"{where} mixes {' and '.join(sorted(kinds))} values{vocabulary_says}; a vocabulary has one type")
    unknown = [v for v in dict.fromkeys(plain.values()) if v not in known.index]
    if unknown and not grow:
        _raise_unknown(unknown, known, where)
    vocabulary = known.joined(unknown, name=where) if unknown else known
    code = {key: vocabulary.index[v] for key, v in plain.items()}
    codes = np.fromiter((code[key] for key in zip(map(type, column), column, strict=True)), dtype=np.int64, count=len(column))
    return codes, vocabulary


def _kind_of(value: Value) -> str:
    return _KINDS[type(value)]


def _raise_missing(where: str, position: int) -> None:
    raise InputError(f"{where} has a missing value at position {position}; fill it in, or pass missing_group='own' to make it a group")


def _raise_unknown(unknown: Sequence[Value], known: Vocabulary, where: str) -> None:
    shown = ", ".join(repr(v) for v in list(unknown)[:5])
    if not known.values:
        raise InputError(
            f"{where} has the value {shown}, and no group is known yet: declare them with groups=, let the layer see a batch in train mode "
            "(a copy made before that shares nothing that the original learns later), or give it groups='from data'"
        )
    kind = "declared groups are" if known.declared else "groups seen in training are"
    raise InputError(f"{where} has the unknown value {shown}; the {kind} {list(known.values)!r}")
