"""Rows of a stream from a CSV file, a Parquet file or standard input, each with the place where reading goes on after it.

A malformed row is a row too: it carries the reason. Offsets are bytes for CSV (so resuming seeks) and row numbers for Parquet;
standard input
has none, and resumes by keys.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from fairopt.errors import InputError, MissingExtraError


@dataclass(frozen=True)
class Row:
    """fields: by column name; text: as it came; offset: where reading goes on; reason: why it is malformed, '' if it is not."""

    fields: dict[str, Any]
    text: str
    offset: int | None
    reason: str = ""


class Source(Protocol):
    """Where rows come from. size: total of the offsets, or None where unknown."""

    columns: list[str]
    size: int | None

    def rows(self, offset: int | None) -> Iterator[Row]: ...


@dataclass
class _Lines:
    """The lines of a binary stream as text, counting bytes. Bytes that are no UTF-8 come through as surrogates, to be rejected."""

    stream: IO[bytes]
    position: int = 0
    taken: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[str]:
        for raw in self.stream:
            self.position += len(raw)
            line = raw.decode("utf-8", errors="surrogateescape")
            self.taken.append(line)
            yield line

    def take(self) -> str:
        text = "".join(self.taken)
        self.taken.clear()
        return text.rstrip("\r\n").encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


class CsvSource:
    """A CSV file with a header line, or standard input (``path`` None, a binary stream given)."""

    def __init__(self, path: Path | None, stream: IO[bytes] | None = None) -> None:
        self.size: int | None = None
        if path is not None:
            if not path.is_file():
                raise InputError(f"input: {path} is no file")
            self.size = path.stat().st_size
            stream = path.open("rb")
        assert stream is not None
        self._seekable = path is not None
        self._lines = _Lines(stream)
        header = next(iter(csv.reader(iter(self._lines))), None)
        self._lines.taken.clear()
        if not header:
            raise InputError("input: no header line")
        header[0] = header[0].lstrip("\ufeff")
        if len(set(header)) != len(header):
            raise InputError("input: the header names a column twice")
        self.columns = header

    def rows(self, offset: int | None) -> Iterator[Row]:
        lines = self._lines
        if offset is not None and self._seekable:
            lines.stream.seek(offset)
            lines.position = offset
        reader = csv.reader(iter(lines))
        while True:
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row({}, lines.take(), self._offset(), f"no CSV: {error}")
                continue
            text, place = lines.take(), self._offset()
            if not values:
                continue  # a blank line
            if len(values) != len(self.columns):
                yield Row({}, text, place, f"{len(values)} fields, the header has {len(self.columns)}")
            elif any("\udc80" <= c <= "\udcff" for v in values for c in v):
                yield Row({}, text, place, "not UTF-8")
            else:
                yield Row(dict(zip(self.columns, values, strict=True)), text, place)

    def _offset(self) -> int | None:
        return self._lines.position if self._seekable else None


class ParquetSource:
    """A Parquet file, read in batches. Needs pyarrow."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise MissingExtraError("Parquet needs pyarrow: pip install 'fairopt[experiments]'") from error
        if not path.is_file():
            raise InputError(f"input: {path} is no file")
        self._file = parquet.ParquetFile(path)
        self.columns = list(self._file.schema_arrow.names)
        self.size: int | None = self._file.metadata.num_rows

    def rows(self, offset: int | None) -> Iterator[Row]:
        number, skip = 0, offset or 0
        for batch in self._file.iter_batches(batch_size=8192):
            if number + batch.num_rows <= skip:
                number += batch.num_rows
                continue
            for fields in batch.to_pylist():
                number += 1
                if number > skip:
                    yield Row(fields, repr(fields), number)


def open_source(name: str, stdin: IO[bytes]) -> Source:
    """A source by its name: '-' is standard input, '*.parquet' Parquet, anything else CSV."""
    if name == "-":
        return CsvSource(None, stdin)
    path = Path(name)
    return ParquetSource(path) if path.suffix.lower() in (".parquet", ".pq") else CsvSource(path)
