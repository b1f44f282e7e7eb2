"""Rows of a stream from a file of text, a Parquet file or a pipe, each with the place where reading goes on after it.

A malformed row is a row too: it carries the reason. Text is read by ``fairopt.basics.files``, as an audit reads it. A place is bytes,
lines and a hash of what was consumed, so that another input, or one that has changed, is told from the one that was begun. A pipe resumes
by keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing
from fairopt.basics.files import Delimited, Dialect, Opened, Place, open_input


class Row(NamedTuple):
    """fields: by column name; text: as it came; line: where it begins, from 1 (Parquet: its number); reason: why it is malformed, or ''."""

    fields: dict[str, Any]
    text: str
    line: int
    reason: str = ""


class Source(Protocol):
    """Where rows come from. kind: text or parquet; pipe: it cannot be read again; size: total of the offsets, or None where unknown."""

    name: str
    kind: str
    pipe: bool
    columns: list[str]
    size: int | None
    separator: str
    decimal: str
    encoding: str

    def resume(self, place: Place) -> None:
        """Go on behind ``place``. InputError where what stands before it is not what was read then."""

    def place(self) -> Place:
        """Behind the last row."""

    def rows(self) -> Iterator[Row]: ...

    def close(self) -> None: ...


class CsvSource:
    """A text with a header line: a file, or a pipe (``path`` None or '-': ``stream``)."""

    kind = "text"

    def __init__(
        self, path: str | Path | Opened | None, stream: IO[bytes] | None = None, dialect: Dialect | None = None, wanted: Sequence[str] = ()
    ) -> None:
        opened = path if isinstance(path, Opened) else open_input("-" if path is None else str(path), stream)
        self._table = Delimited(opened, dialect, wanted=wanted)
        self.name, self.pipe, self.size = opened.name, opened.pipe, opened.size
        self.columns, self.separator, self.encoding = self._table.columns, self._table.separator, self._table.encoding
        self.decimal = self._table.dialect.decimal

    def resume(self, place: Place) -> None:
        self._table.resume(place)

    def place(self) -> Place:
        return self._table.place()

    def close(self) -> None:
        self._table.close()

    def rows(self) -> Iterator[Row]:
        columns = self.columns
        for cells, text, line, reason in self._table.records():
            yield Row(dict(zip(columns, cells, strict=False)) if len(cells) == len(columns) else {}, text.rstrip("\r\n"), line, reason)


class ParquetSource:
    """A Parquet file, read in batches. Needs pyarrow."""

    kind, pipe, separator, decimal, encoding = "parquet", False, ",", ".", "utf-8"

    def __init__(self, path: str | Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise missing("Parquet needs pyarrow", "audit") from error
        self._errors = (pyarrow.ArrowException, OSError, ValueError)
        self.name = str(path)
        if not Path(path).is_file():
            raise InputError(f"{path}: there is no such file")
        try:
            self._file = parquet.ParquetFile(path)
        except self._errors as error:
            raise InputError(f"{path}: cannot be read as Parquet: {error}") from error
        self.columns = list(self._file.schema_arrow.names)
        twice = [c for c in self.columns if self.columns.count(c) > 1]
        if twice:
            raise InputError(f"{path}: a column's name stands twice: {twice[0]!r}")
        self.size: int | None = self._file.metadata.num_rows
        self._number = 0
        self._hash = blake2b(digest_size=16)
        self._rows = self._read()

    def resume(self, place: Place) -> None:
        said = f"{self.name}: this input is not the one that was read before"
        if place.offset > (self.size or 0):
            raise InputError(f"{said}: it has {self.size:,} rows, and {place.offset:,} were read: another file, or cut")
        while self._number < place.offset:
            next(self._rows)
        if self.place().digest != place.digest:
            raise InputError(f"{said}: its first {place.offset:,} rows have changed")

    def place(self) -> Place:
        return Place(self._number, self._number, self._hash.hexdigest())

    def rows(self) -> Iterator[Row]:
        return self._rows

    def close(self) -> None:
        self._file.close()

    def _read(self) -> Iterator[Row]:
        try:
            for batch in self._file.iter_batches(batch_size=8192):
                for fields in batch.to_pylist():
                    text = repr(fields)
                    self._number += 1
                    self._hash.update(text.encode("utf-8", "surrogatepass"))
                    yield Row(fields, text, self._number)
        except self._errors as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.name}: cannot be read further than row {self._number:,}: {error}") from error


def open_source(name: str, stdin: IO[bytes], dialect: Dialect | None = None, wanted: Sequence[str] = ()) -> Source:
    """A source by its name: '-' is standard input. Parquet and gzip are known by their first bytes.

    wanted: names that the header must have; they tell which separator is meant where none is given.
    """
    opened = open_input(name, stdin)
    if opened.parquet or Path(name).suffix.lower() in (".parquet", ".pq"):
        opened.close()
        if opened.pipe:
            raise InputError(f"{opened.name}: Parquet cannot be read from a pipe; give the file's path")
        return ParquetSource(name)
    return CsvSource(opened, None, dialect, wanted)
