"""The files of a data set: one protocol for tables of text and Parquet files, and which of them a file is."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from fairopt.basics.errors import InputError
from fairopt.basics.files import Dialect, open_input
from fairopt.datasets.find import Shard
from fairopt.datasets.parquet import ParquetTable
from fairopt.datasets.path_columns import PathTable
from fairopt.datasets.reading import Table
from fairopt.datasets.text import TextTable


def open_table(shard: Shard, dialect: Dialect, wanted: Sequence[str], *, need: bool = True) -> Table:
    """InputError, with the file's name, for what cannot be read, and where it ``need``s a column that is ``wanted`` and not there."""
    inside = [name for name in wanted if name not in dict(shard.path_columns)]
    table: Table = ParquetTable(shard) if shard.parquet else TextTable(shard, dialect, inside)
    if shard.path_columns:
        table = PathTable(table, shard)
    absent = [c for c in wanted if need and c not in table.columns]
    if absent:
        table.close()
        raise InputError(f"{shard.path}: has no column {absent[0]!r}; it has {', '.join(map(repr, table.columns))}")
    return table


def few_rows(shards: Sequence[Shard], most: int) -> bool:
    """Whether files have at most ``most`` rows; a text's are its lines behind the first, and no more are counted than it takes."""
    for shard in shards:
        most -= _rows_of_parquet(shard) if shard.parquet else _lines(shard, most)
        if most < 0:
            return False
    return True


def _rows_of_parquet(shard: Shard) -> int:
    table = ParquetTable(shard)
    try:
        return table.count()
    finally:
        table.close()


def _lines(shard: Shard, most: int) -> int:
    """Lines behind the first, whether they end in LF, CR LF or CR."""
    ends, last = {b"\n": -1, b"\r": -1}, b""
    opened = open_input(str(shard.path))
    try:
        for chunk in opened.chunks():
            ends = {end: count + chunk.count(end) for end, count in ends.items()}
            last = chunk[-1:]
            if max(ends.values()) > most:
                break
    finally:
        opened.close()
    return max(ends.values()) + (last not in (b"", b"\n", b"\r"))


def packed(path: Path, file: IO[bytes]) -> IO[bytes]:
    """``file``, packed with gzip where ``path`` says so: without a time, so that the same rows are the same bytes."""
    if path.suffix.lower() != ".gz":
        return io.BufferedWriter(_Borrowed(file), 1 << 20)
    return gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)  # type: ignore[return-value]


class _Borrowed(io.RawIOBase):
    """A file that stays open when what is written through it is closed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return int(self._file.write(data))
