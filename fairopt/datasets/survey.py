"""The first pass: what groups there are, how many rows have each composition, exact sums and extremes; nothing of it depends on an order.

A composition is what a notion can tell of a row: its groups, and its target where the notion compares targets; in an audit also its
decision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from fairopt.auditing.sample import is_binary, residuals_of
from fairopt.basics.arrays import IntArray
from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.basics.files import Dialect
from fairopt.datasets.find import Shard
from fairopt.datasets.guess import Histograms, Key
from fairopt.datasets.kept import NONE, Kept, Rows
from fairopt.datasets.reading import Block, Reject, Wanted, read_block
from fairopt.datasets.tables import open_table
from fairopt.solve.passes.whole_sums import count_at_least, exact_sums

SHOWN = 5  # bad rows that an error shows
MOST = 1 << 12  # compositions: what is summed a composition must fit in memory


@dataclass(frozen=True)
class Asked:
    """What the first pass reads: columns, whether targets tell rows apart, the threshold of decisions, and histograms to add to.

    audit: decisions tell rows apart, residuals are summed, targets are kept where they are not in the composition; no file is hashed.
    """

    wanted: Wanted
    by_target: bool
    threshold: float
    histograms: Histograms | None
    audit: bool = False


@dataclass(eq=False)
class Tally:
    """Sums of one shard by composition: counts and decisions (K,) int64; exact sums of scores, 1 / w, targets, and in an audit of
    score - target and its square."""

    keys: dict[Key, int] = field(default_factory=dict)
    counts: list[int] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)
    scores: list[int] = field(default_factory=list)
    masses: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    residuals: list[int] = field(default_factory=list)
    squares: list[int] = field(default_factory=list)

    def place(self, key: Key) -> int:
        """The number of ``key``, a new one where it was not met before."""
        if key not in self.keys:
            if len(self.keys) == MOST:
                raise UnsupportedError(
                    f"more than {MOST:,} combinations of groups (the last: {', '.join(map(repr, key))}): too many to be summed one by one"
                )
            self.keys[key] = len(self.keys)
            for name in SUMS:
                getattr(self, name).append(0)
        return self.keys[key]


SUMS = tuple(one.name for one in fields(Tally) if one.name != "keys")


@dataclass(eq=False)
class Ends:
    """The least and the largest score and weight; whether all targets are 0 or 1."""

    least: float = np.inf
    largest: float = -np.inf
    lightest: float = np.inf
    heaviest: float = 0.0
    binary: bool = True


@dataclass(eq=False)
class Seen:
    """What the first pass found in one shard.

    types: of its columns; single: scores are float32; digest, size: sha256 and bytes of the file.
    """

    shard: Shard
    types: dict[str, str]
    rows: int
    rejects: list[Reject]
    tally: Tally
    ends: Ends
    single: bool
    digest: str
    size: int


def survey(shard: Shard, dialect: Dialect, asked: Asked, kept: Kept, told: Callable[[int], None], *, strict: bool) -> Seen:
    """One pass over a shard; ``told``: rows read. What is short of a row is ``kept``.

    InputError, with the file's name, for what cannot be read, and where ``strict`` for rows that cannot be used.
    """
    table = open_table(shard, dialect, asked.wanted.columns)
    tally, rejects = Tally(), []
    ends = Ends()
    rows, single = 0, True
    try:
        for raw in table.blocks(asked.wanted.columns):
            block = _read(shard, raw, asked.wanted)
            rejects += block.rejects
            if rejects and strict:
                raise InputError(bad_rows(shard, rejects, rows + block.n, may_leave_out=not asked.audit))
            if block.n == 0:
                continue
            code = compositions(block, asked, tally)
            _add(block, code, asked, tally, ends)
            apart = asked.audit and not asked.by_target and block.targets is not None
            kept.add(Rows(code, block.scores, NONE if block.weights is None else 1.0 / block.weights, block.targets if apart else NONE))
            rows += block.n
            single = single and block.scores.dtype == np.float32
            told(block.n)
    finally:
        table.close()
    digest, size = "" if asked.audit else file_digest(shard.path), shard.path.stat().st_size
    return Seen(shard, table.types, rows, rejects, tally, ends, single and rows > 0, digest, size)


def bad_rows(shard: Shard, rejects: list[Reject], rows: int, *, may_leave_out: bool) -> str:
    """The first rows of a shard that cannot be used."""
    unit = "row" if shard.parquet else "line"
    shown = "; ".join(f"{unit} {r.number}: {r.reason}" for r in rejects[:SHOWN])
    more = f" ({len(rejects):,} such rows of the first {len(rejects) + rows:,})"
    mend = "; mend them, or pass rejects= to leave them out and write them there" if may_leave_out else ""
    return f"{shard.path}: {shown}{more}{mend}"


def blocks_of(shard: Shard, dialect: Dialect, wanted: Wanted) -> Generator[Block, None, None]:
    """The rows of a shard that can be used. InputError, with the file's name, for what cannot be read."""
    table = open_table(shard, dialect, wanted.columns)
    try:
        for raw in table.blocks(wanted.columns):
            yield _read(shard, raw, wanted)
    finally:
        table.close()


def _read(shard: Shard, raw: Any, wanted: Wanted) -> Block:
    try:
        return read_block(raw, wanted)
    except InputError as error:
        raise InputError(f"{shard.path}: {error}") from error


def compositions(block: Block, asked: Asked, tally: Tally) -> Any:
    """(n,) uint16 the composition of each row, numbered by ``tally``."""
    names = asked.wanted.groups
    columns: list[tuple[IntArray, Sequence[Any]]] = [(block.codes[name], block.values[name]) for name in names]
    if asked.by_target and block.targets is not None:
        values, codes = np.unique(block.targets, return_inverse=True)
        columns.append((codes.reshape(-1), values.tolist()))
    if asked.audit:
        chosen = block.scores.astype(np.float64) >= asked.threshold if block.decisions is None else block.decisions == 1
        columns.append((chosen.astype(np.int64), (0.0, 1.0)))
    joint = np.zeros(block.n, dtype=np.int64)
    sizes = [max(len(values), 1) for _, values in columns]
    for (codes, _), size in zip(columns, sizes, strict=True):
        joint = joint * size + codes
    present, inverse = _distinct(joint, int(np.prod([float(s) for s in sizes])) if sizes else 1)
    places = np.empty(len(present), dtype=np.uint16)
    for k, number in enumerate(present.tolist()):
        key: list[Any] = []
        for (_, values), size in zip(reversed(columns), reversed(sizes), strict=True):
            key.append(values[number % size])
            number //= size
        places[k] = tally.place(tuple(reversed(key)))
    return places[inverse]


def _distinct(joint: IntArray, size: int) -> tuple[IntArray, IntArray]:
    """The numbers that occur below ``size``, and the place of each among them."""
    if size > max(4 * joint.shape[0], 1 << 16):
        present, inverse = np.unique(joint, return_inverse=True)
        return present, inverse.reshape(-1)
    present = np.flatnonzero(np.bincount(joint, minlength=size))
    place = np.zeros(size, dtype=np.int64)
    place[present] = np.arange(present.shape[0])
    return present, place[joint]


def _add(block: Block, code: Any, asked: Asked, tally: Tally, ends: Ends) -> None:
    """The sums of a block join those of its shard."""
    K, z = len(tally.keys), block.scores
    chosen = np.zeros(K, dtype=np.int64)
    count_at_least(z, code, asked.threshold, chosen)
    ends.least, ends.largest = min(ends.least, float(z.min())), max(ends.largest, float(z.max()))
    _join(tally.counts, np.bincount(code, minlength=K).tolist())
    _join(tally.chosen, chosen.tolist())
    _join(tally.scores, exact_sums(z, code, K))
    if block.weights is not None:
        ends.lightest, ends.heaviest = min(ends.lightest, float(block.weights.min())), max(ends.heaviest, float(block.weights.max()))
        _join(tally.masses, exact_sums(1.0 / block.weights, code, K))
    if block.targets is not None:
        _join(tally.targets, exact_sums(block.targets, code, K))
        ends.binary = ends.binary and is_binary(block.targets)
    if block.targets is not None and asked.audit:
        residuals, squares = residuals_of(z, block.targets)
        _join(tally.residuals, exact_sums(residuals, code, K))
        _join(tally.squares, exact_sums(squares, code, K))
    if asked.histograms is not None:
        asked.histograms.add(list(tally.keys), z, code, NONE if block.weights is None else 1.0 / block.weights)


def _join(column: list[int], more: Sequence[int]) -> None:
    for k, value in enumerate(more):
        column[k] += value


def file_digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, eq=False)
class Survey:
    """All shards together. keys: the compositions, sorted; the others (K,), in their order."""

    seen: tuple[Seen, ...]
    keys: tuple[Key, ...]
    counts: IntArray
    chosen: IntArray
    scores: list[int]
    masses: list[int]
    targets: list[int]
    residuals: list[int]
    squares: list[int]
    least: float
    largest: float
    heaviest: float
    lightest: float
    weighted: bool
    single: bool
    binary: bool

    @property
    def n(self) -> int:
        return int(self.counts.sum())

    def places(self, tally: Tally) -> IntArray:
        """(K of the shard,) where its compositions stand among all."""
        index = {key: k for k, key in enumerate(self.keys)}
        return np.array([index[key] for key in tally.keys], dtype=np.int64)


def join(seen: Sequence[Seen], asked: Asked, order: Callable[[set[Key]], list[Key]]) -> Survey:
    """The shards' findings as one. ``order``: sorts compositions. InputError where shards differ in columns or types, or hold no rows."""
    alike([(one.shard, one.types) for one in seen])
    total = Tally()
    for key in order({key for one in seen for key in one.tally.keys}):
        total.place(key)
    for one in seen:
        for key, k in one.tally.keys.items():
            j = total.keys[key]
            for name in SUMS:
                column = getattr(total, name)
                column[j] = column[j] + getattr(one.tally, name)[k]
    if not sum(total.counts):
        raise InputError(f"{seen[0].shard.path}: got no rows that can be used in {len(seen)} file{'s'[: len(seen) != 1]}, expected one")
    return Survey(
        tuple(seen),
        tuple(total.keys),
        np.array(total.counts, dtype=np.int64),
        np.array(total.chosen, dtype=np.int64),
        total.scores,
        total.masses,
        total.targets,
        total.residuals,
        total.squares,
        min(one.ends.least for one in seen),
        max(one.ends.largest for one in seen),
        max(one.ends.heaviest for one in seen),
        min(one.ends.lightest for one in seen),
        asked.wanted.weights is not None,
        all(one.single for one in seen if one.rows),
        all(one.ends.binary for one in seen),
    )


def alike(seen: Sequence[tuple[Shard, dict[str, str]]]) -> None:
    """InputError where two shards have other columns, or columns of other types. A file of no rows may leave a type open."""
    first, types = seen[0]
    known, told = dict(types), dict.fromkeys(types, first.path)
    for one, theirs in seen[1:]:
        if list(theirs) != list(types):
            more = [c for c in theirs if c not in types]
            less = [c for c in types if c not in theirs]
            what = f"has {more[0]!r} more" if more else f"lacks {less[0]!r}" if less else "has them in another order"
            raise InputError(f"{one.path}: other columns than {first.path}: it {what}; all files of a data set have the same")
        for column, kind in theirs.items():
            if kind and known[column] and kind != known[column]:
                before = f"{known[column]} in {told[column]}"
                raise InputError(f"{one.path}: column {column!r} is {kind}, but {before}; all files of a data set have the same types")
            if kind and not known[column]:
                known[column], told[column] = kind, one.path
