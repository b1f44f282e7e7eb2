"""Blocks of rows: scores, groups, targets and weights out of cells, and which rows cannot be used and why."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

import numpy as np

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.basics.columns import Value, plain_value
from fairopt.basics.errors import InputError
from fairopt.basics.files import label, number, zero_or_one

_PLAIN = re.compile(r"(?:[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\n)*")
_DIGITS = b"0123456789.eE+-"
MISSING = "is missing"


@dataclass(frozen=True)
class Wanted:
    """The columns that are read. groups: attributes with values; numeric: continuous attributes; target, weights, decision: None where
    not read.

    own: a missing value of an attribute is a group; pos_label: the target that counts as 1.
    """

    score: str
    groups: tuple[str, ...]
    numeric: tuple[str, ...] = ()
    target: str | None = None
    weights: str | None = None
    pos_label: str | None = None
    own: bool = False
    decimal: str = "."
    decision: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them, each once."""
        named = (self.score, *self.groups, *self.numeric, self.target, self.weights, self.decision)
        return tuple(dict.fromkeys(c for c in named if c is not None))


@dataclass(frozen=True, eq=False)
class TextColumn:
    """Cells of text in a pyarrow array of strings."""

    array: Any

    def __len__(self) -> int:
        return len(self.array)


@dataclass(frozen=True)
class Constant:
    """A cell of text that stands in each of ``n`` rows."""

    text: str
    n: int

    def __len__(self) -> int:
        return self.n


class Raw(Protocol):
    """Rows as they stand in a file. bad: number and reason of rows that are no rows, with their text."""

    @property
    def n(self) -> int:
        """How many."""

    @property
    def bad(self) -> list[Reject]:
        """Rows that are no rows."""

    def cells(self, column: str) -> Any:
        """A list of texts, a ``TextColumn``, a ``Constant``, or a pyarrow array of values."""

    def number(self, row: int) -> int:
        """Of row 0 .. n - 1: its line, or its place in the file from 1."""

    def content(self, row: int) -> str:
        """The row as text."""


class Table(Protocol):
    """An open file. columns: its names; types: what must be alike in all files of a data set, by column."""

    columns: list[str]
    types: dict[str, str]

    def blocks(self, columns: Sequence[str]) -> Iterator[Any]:
        """Its rows as ``Raw``, from front to back."""

    def write(self, file: IO[bytes], columns: Sequence[str], name: str, fair: Callable[[Any], tuple[Any, Any]]) -> int:
        """The table with the column ``name`` behind the others; the rows written.

        fair: a block of rows -> its scores (n,), and which of its rows they are, None for all.
        """

    def close(self) -> None:
        """Let go of the file."""


@dataclass(frozen=True)
class Reject:
    """A row that was left out. number: its line in a text, or its place from 1 in Parquet."""

    number: int
    reason: str
    content: str


@dataclass(frozen=True, eq=False)
class Block:
    """Rows that can be used. scores (n,) float32 or float64; codes: attribute -> (n,) places in its values; numbers, targets, weights,
    decisions (n,).

    keep: (rows read,) which of them these are, None where all; rejects: the others, in order.
    """

    scores: Any
    codes: dict[str, IntArray]
    values: dict[str, list[Value]]
    numbers: dict[str, Array]
    targets: Array | None
    weights: Array | None
    decisions: Array | None
    keep: BoolArray | None
    rejects: list[Reject]

    @property
    def n(self) -> int:
        return int(self.scores.shape[0])


@dataclass(eq=False)
class _Reasons:
    """Why rows cannot be used: the first reason of each."""

    found: dict[int, str] = field(default_factory=dict)

    def add(self, column: str, wrong: dict[int, str]) -> None:
        for row, reason in wrong.items():
            self.found.setdefault(row, f"column {column!r} {reason}")


def read_block(raw: Raw, wanted: Wanted) -> Block:
    """The rows of ``raw`` that can be used. InputError for a column of a type that holds nothing of the kind."""
    reasons = _Reasons()

    def numbers(column: str, read: Callable[[Any, str, str], float] = number, *, single: bool = False) -> Any:
        values, wrong = _numbers(raw.cells(column), column, wanted.decimal, read, single=single)
        reasons.add(column, wrong)
        return values

    scores = numbers(wanted.score, single=True)
    weights = None if wanted.weights is None else numbers(wanted.weights)
    if weights is not None:
        light = np.flatnonzero(~(weights > 0.0) | ~np.isfinite(1.0 / np.where(weights > 0.0, weights, 1.0)))
        reasons.add(str(wanted.weights), {i: f"holds {weights[i]:g}, expected a weight > 0" for i in light.tolist()})
    targets = None
    if wanted.target is not None:
        targets = numbers(wanted.target, label) if wanted.pos_label is None else _equal(raw, wanted, reasons)
    decisions = None if wanted.decision is None else numbers(wanted.decision, zero_or_one)
    if decisions is not None:
        other = np.flatnonzero((decisions != 0) & (decisions != 1))
        reasons.add(str(wanted.decision), {i: f"holds {decisions[i]:g}, expected 0 or 1" for i in other.tolist()})
    continuous = {column: numbers(column) for column in wanted.numeric}
    codes: dict[str, IntArray] = {}
    values: dict[str, list[Value]] = {}
    for column in wanted.groups:
        codes[column], values[column] = _groups(raw.cells(column), column)
        if not wanted.own and None in values[column]:
            missing = np.flatnonzero(codes[column] == values[column].index(None))
            reasons.add(column, dict.fromkeys(missing.tolist(), f"{MISSING} (missing_group='own' makes that a group)"))
    return _without(raw, reasons.found, Block(scores, codes, values, continuous, targets, weights, decisions, None, []))


def _without(raw: Raw, found: dict[int, str], block: Block) -> Block:
    """``block`` without the rows that cannot be used."""
    rejects = [*raw.bad, *(Reject(raw.number(i), found[i], raw.content(i)) for i in sorted(found))]
    if not found:
        return Block(**{**block.__dict__, "rejects": rejects})
    keep = np.ones(raw.n, dtype=np.bool_)
    keep[list(found)] = False
    part = {name: codes[keep] for name, codes in block.codes.items()}
    numbers = {name: v[keep] for name, v in block.numbers.items()}
    targets, weights, decisions = (None if v is None else v[keep] for v in (block.targets, block.weights, block.decisions))
    rejects.sort(key=lambda reject: reject.number)
    return Block(block.scores[keep], part, block.values, numbers, targets, weights, decisions, keep, rejects)


def _numbers(cells: Any, column: str, decimal: str, read: Callable[[Any, str, str], float], *, single: bool) -> tuple[Any, dict[int, str]]:
    """(n,) float64 (float32 where the column is and ``single``), NaN where a cell is none; and why. InputError where no cell can be."""
    if isinstance(cells, Constant):
        (value,), wrong = _one_by_one([cells.text], column, decimal, read)
        return np.full(len(cells), value), dict.fromkeys(range(len(cells)), wrong[0]) if wrong else {}
    if isinstance(cells, TextColumn):
        return _text_numbers(cells.array, column, decimal, read)
    if not isinstance(cells, list):
        return _arrow_numbers(cells, column, single=single, truth=read is not number)
    text = "\n".join([*cells, ""])
    if decimal == "." and text.count("\n") == len(cells) and _PLAIN.fullmatch(text):  # a quoted cell may hold a line end
        out = np.array(list(map(float, cells)), dtype=np.float64)
        if np.isfinite(out).all():
            return out, {}
    return _one_by_one(cells, column, decimal, read)


def _text_numbers(array: Any, column: str, decimal: str, read: Callable[[Any, str, str], float]) -> tuple[Array, dict[int, str]]:
    """Digits go through pyarrow's reader of numbers, which rounds as Python does; of anything else each distinct cell is read once."""
    import pyarrow

    if decimal == "." and not bytes(_bytes_of(array)).translate(None, _DIGITS):
        try:
            out = array.cast(pyarrow.float64()).to_numpy(zero_copy_only=False)
        except pyarrow.ArrowException:
            out = np.full(len(array), np.nan)
        if np.isfinite(out).all():
            return out, {}
    encoded = array.dictionary_encode()
    values, wrong = _one_by_one(encoded.dictionary.to_pylist(), column, decimal, read)
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    bad = np.isin(codes, list(wrong))
    return values[codes], {i: wrong[codes[i]] for i in np.flatnonzero(bad).tolist()}


def _bytes_of(array: Any) -> Any:
    """The bytes of all cells of an array of strings."""
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int32)[array.offset : array.offset + len(array) + 1]
    data = array.buffers()[2]
    return b"" if data is None else memoryview(data)[int(offsets[0]) : int(offsets[-1])]


def _one_by_one(cells: Sequence[Any], column: str, decimal: str, read: Callable[[Any, str, str], float]) -> tuple[Array, dict[int, str]]:
    out, wrong = np.full(len(cells), np.nan), {}
    for i, cell in enumerate(cells):
        try:
            out[i] = read(cell, "", decimal)
        except InputError as error:
            wrong[i] = f"holds {cell!r}: {str(error).removeprefix(': ')}" if cell else MISSING
    return out, wrong


def _arrow_numbers(cells: Any, column: str, *, single: bool, truth: bool) -> tuple[Any, dict[int, str]]:
    import pyarrow
    from pyarrow import types

    kind = cells.type
    if types.is_null(kind):
        return np.full(len(cells), np.nan), dict.fromkeys(range(len(cells)), MISSING)
    numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    if not numeric and not (truth and types.is_boolean(kind)):
        raise InputError(f"column {column!r} has type {kind}, expected numbers")
    if types.is_boolean(kind):
        cells = cells.cast(pyarrow.uint8())
    wrong = {}
    if cells.null_count:
        wrong = dict.fromkeys(np.flatnonzero(cells.is_null().to_numpy(zero_copy_only=False)).tolist(), MISSING)
    keeps = single and types.is_float32(kind)
    try:
        typed = cells if keeps else cells.cast(pyarrow.float64(), safe=False)
    except pyarrow.ArrowException as error:
        raise InputError(f"column {column!r} has type {kind}, which cannot be read as numbers: {error}") from error
    out = typed.to_numpy(zero_copy_only=False)
    finite = np.isfinite(out)
    if not finite.all():
        for i in np.flatnonzero(~finite).tolist():
            wrong.setdefault(i, f"holds {out[i]}: not finite")
    return out, wrong


def _equal(raw: Raw, wanted: Wanted, reasons: _Reasons) -> Array:
    """1.0 where a target is the one that counts as 1."""
    assert wanted.target is not None
    codes, values = _groups(raw.cells(wanted.target), wanted.target)
    if None in values:
        reasons.add(wanted.target, dict.fromkeys(np.flatnonzero(codes == values.index(None)).tolist(), MISSING))
    table = np.array([float(v is not None and str(v) == wanted.pos_label) for v in values], dtype=np.float64)
    return table[codes] if len(values) else np.zeros(0)


def _groups(cells: Any, column: str) -> tuple[IntArray, list[Value]]:
    """(n,) places in the list of distinct values; None is missing. InputError for what names no group."""
    if isinstance(cells, list):
        words = {v: k for k, v in enumerate(dict.fromkeys(cells))}
        codes = np.fromiter(map(words.__getitem__, cells), dtype=np.int64, count=len(cells))
        return codes, [v if v != "" else None for v in words]
    if isinstance(cells, Constant):
        return np.zeros(len(cells), dtype=np.int64), [cells.text or None] if len(cells) else []
    if isinstance(cells, TextColumn):
        coded = cells.array.dictionary_encode()
        places = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        return places, [v if v != "" else None for v in coded.dictionary.to_pylist()]
    import pyarrow

    try:
        encoded = cells if pyarrow.types.is_dictionary(cells.type) else cells.dictionary_encode()
    except pyarrow.ArrowException as error:
        raise InputError(f"column {column!r} has type {cells.type}, which names no groups") from error
    listed = [plain_value(v, f"column {column!r}") for v in encoded.dictionary.to_pylist()]
    index = {v: k for k, v in enumerate(dict.fromkeys(listed))}  # NaN and null are one
    none = index.setdefault(None, len(index))
    codes = np.full(len(encoded), none, dtype=np.int64)
    place = np.array([index[v] for v in listed], dtype=np.int64)
    valid = encoded.indices.is_valid().to_numpy(zero_copy_only=False)
    codes[valid] = place[encoded.indices.drop_null().to_numpy(zero_copy_only=False)]
    values: list[Value] = list(index)
    if not (codes == none).any():
        codes = codes - (codes > none)
        values.pop(none)
    return codes, values
