"""The second reading of a shard: its rows with their fair scores, under a name of its own until it is whole and on the disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.basics.errors import InputError
from fairopt.basics.files import Dialect
from fairopt.basics.files.writing import unwritable
from fairopt.datasets.find import Shard
from fairopt.datasets.journal import Journal, sync_folder
from fairopt.datasets.kept import NONE, Rows
from fairopt.datasets.reading import Block, read_block
from fairopt.datasets.shard_passes import Box, fair_scores
from fairopt.datasets.survey import Asked, Tally, compositions, file_digest
from fairopt.datasets.tables import open_table, packed
from fairopt.solve.passes.whole_sums import exact_sums

CHANGED = "has changed since it was first read; run the command again with overwrite=True"


@dataclass(frozen=True, eq=False)
class Maker:
    """Makes the scores of a shard's blocks. keys, shift (K,): of the compositions; whole: (n,) all scores at hand instead, None else.

    expected: the exact sum of each shard's scores as they were proved.
    """

    asked: Asked
    keys: list[tuple[Any, ...]]
    shift: Array
    box: Box
    expected: list[int]
    whole: Any = None
    starts: list[int] | None = None

    def of(self, shard: int, path: Path) -> _Blocks:
        tally = Tally()
        for key in self.keys:
            tally.place(key)
        return _Blocks(self, shard, path, tally)


class _Blocks:
    """One shard on its way: what was made of it so far."""

    def __init__(self, maker: Maker, shard: int, path: Path, tally: Tally) -> None:
        self._maker, self._shard, self._path, self._tally = maker, shard, path, tally
        self.total, self.rows = 0, 0

    def __call__(self, raw: Any) -> tuple[Any, Any]:
        """The scores of a block of rows, and which of its rows they are."""
        maker = self._maker
        block = read_block(raw, maker.asked.wanted)
        y = self._stored(block) if maker.whole is not None else self._made(block)
        self.total += sum(exact_sums(y, np.zeros(block.n, dtype=np.uint16), 1))
        self.rows += block.n
        return y, block.keep

    def _stored(self, block: Block) -> Any:
        assert self._maker.starts is not None
        first = self._maker.starts[self._shard] + self.rows
        y = self._maker.whole[first : first + block.n]
        if len(y) != block.n:
            raise InputError(f"{self._path}: {CHANGED}")
        return np.ascontiguousarray(y)

    def _made(self, block: Block) -> Any:
        known = len(self._tally.keys)
        code = compositions(block, self._maker.asked, self._tally)
        if len(self._tally.keys) > known:
            raise InputError(f"{self._path}: {CHANGED}")
        rows = Rows(code, block.scores, NONE if block.weights is None else 1.0 / block.weights)
        return fair_scores(rows, self._maker.shift, self._maker.box)[0]

    def check(self) -> None:
        """InputError where these are not the scores that were proved."""
        if self.total != self._maker.expected[self._shard]:
            raise InputError(f"{self._path}: {CHANGED}")


def ready(k: int, out: Path, journal: Journal) -> int | None:
    """The rows of shard k where its output stands there whole, or is whole and gets its name now; None where it is to be written.

    InputError where another file has that name.
    """
    known = journal.written.get(k)
    if known is None:
        return None
    if out.exists():
        if file_digest(out) == known["sha256"]:
            return int(known["rows"])
        raise InputError(f"output: {out} was changed since this run wrote it; put it back, delete it, or pass overwrite=True")
    part = part_of(k, journal)
    if part.exists() and file_digest(part) == known["sha256"]:
        _rename(part, out)
        return int(known["rows"])
    return None


def part_of(k: int, journal: Journal) -> Path:
    """Where shard k is written until it is whole."""
    return journal.folder / f"{k}.part"


def write_part(
    k: int, shard: Shard, part: Path, out: Path, dialect: Dialect, maker: Maker, name: str, heard: Callable[[int], None]
) -> tuple[int, dict[str, Any]]:  # fmt: skip
    """Shard k with its scores at ``part``, on the disk; k and the facts that the journal keeps."""
    rows = _write(shard, part, out, dialect, maker.of(k, shard.path), maker.asked, name, heard)
    return k, {"sha256": file_digest(part), "bytes": part.stat().st_size, "rows": rows}


def publish(k: int, shard: Shard, out: Path, facts: dict[str, Any], journal: Journal) -> None:
    """The part of shard k gets its name, once the journal knows of it."""
    known = journal.written.get(k)
    if known is None:
        journal.keep_written(k, facts)
    elif facts["sha256"] != known["sha256"]:
        raise InputError(f"{shard.path}: {CHANGED}")
    _rename(part_of(k, journal), out)


def _write(
    shard: Shard, part: Path, out: Path, dialect: Dialect, blocks: _Blocks, asked: Asked, name: str, told: Callable[[int], None]
) -> int:  # fmt: skip
    columns = asked.wanted.columns
    table = open_table(shard, dialect, columns)

    def fair(raw: Any) -> tuple[Any, Any]:
        scores, keep = blocks(raw)
        told(len(scores))
        return scores, keep

    try:
        with part.open("wb") as file:
            with packed(out, file) as body:
                rows = table.write(body, columns, name, fair)
            blocks.check()
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if isinstance(error, InputError):
            raise
        raise unwritable(out, "output", error) from error
    finally:
        table.close()
    return rows


def _rename(part: Path, out: Path) -> None:
    try:
        part.replace(out)
    except OSError as error:
        raise unwritable(out, "output", error) from error
    sync_folder(out.parent)
