"""The files of a data set: blocks of rows out of one, and the same file with one more column.

A table of text is read by ``fairopt.basics.files``, as everywhere, and its rows are written as they came with one cell more; Parquet needs
pyarrow, and keeps its schema, row groups and compression.
"""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing
from fairopt.basics.files import Delimited, Dialect, Record, csv_line, legible, open_input
from fairopt.datasets.find import Shard
from fairopt.datasets.reading import Reject

ROWS = 1 << 17  # of a block
# where a character takes several bytes a reader has to be told their order
_MARKS = {
    "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE, "utf-32-le": codecs.BOM_UTF32_LE, "utf-32-be": codecs.BOM_UTF32_BE,
}  # fmt: skip
_TEXT_ROWS = 1 << 15


class Table(Protocol):
    """An open file. columns: its names; types: what must be alike in all files of a data set, by column."""

    columns: list[str]
    types: dict[str, str]

    def blocks(self, columns: Sequence[str]) -> Iterator[Any]:
        """Its rows as ``fairopt.datasets.reading.Raw``, from front to back."""

    def write(self, file: IO[bytes], columns: Sequence[str], name: str, fair: Callable[[Any], tuple[Any, Any]]) -> int:
        """The table with the column ``name`` behind the others; the rows written.

        fair: a block of rows -> its scores (n,), and which of its rows they are, None for all.
        """

    def close(self) -> None:
        """Let go of the file."""


def open_table(shard: Shard, dialect: Dialect, wanted: Sequence[str], *, need: bool = True) -> Table:
    """InputError, with the file's name, for what cannot be read, and where it ``need``s a column that is ``wanted`` and not there."""
    table: Table = ParquetTable(shard) if shard.parquet else TextTable(shard, dialect, wanted)
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


# -- text ---------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TextRows:
    """Records that have a cell for every column."""

    records: list[Record]
    bad: list[Reject]
    place: dict[str, int]

    @property
    def n(self) -> int:
        return len(self.records)

    def cells(self, column: str) -> list[str]:
        k = self.place[column]
        return [record.cells[k] for record in self.records]

    def number(self, row: int) -> int:
        return self.records[row].line

    def content(self, row: int) -> str:
        return legible(self.records[row].text.rstrip("\r\n"))


def _line(record: Record) -> str:
    """The row as it came, without its end."""
    return record.text.rstrip("\r\n")


class TextTable:
    """A table of text. Rows are written in the encoding that they came in, numbers with the decimal mark that was asked for."""

    def __init__(self, shard: Shard, dialect: Dialect, wanted: Sequence[str]) -> None:
        self._table = Delimited(str(shard.path), dialect, wanted=wanted)
        if self._table.opened.pipe:
            self._table.close()
            raise InputError(f"{shard.path}: is a pipe, expected a file: the data are read more than once")
        self._place = {name: k for k, name in enumerate(self._table.columns)}
        self.columns = self._table.columns
        self.types = {name: f"text between {self._table.separator!r} in {self._table.encoding.upper()}" for name in self.columns}

    def close(self) -> None:
        self._table.close()

    def blocks(self, columns: Sequence[str]) -> Iterator[TextRows]:
        records: list[Record] = []
        bad: list[Reject] = []
        for record in self._table.records():
            if record.reason:
                bad.append(Reject(record.line, record.reason, legible(record.text.rstrip("\r\n"))))
            else:
                records.append(record)
            if len(records) + len(bad) >= _TEXT_ROWS:
                yield TextRows(records, bad, self._place)
                records, bad = [], []
        if records or bad:
            yield TextRows(records, bad, self._place)

    def _header(self, name: str) -> bytes:
        try:
            return csv_line([*self.columns, name], self._table.separator).encode(self._table.encoding)
        except UnicodeEncodeError as error:
            raise InputError(f"name: got {name!r}, which {self._table.encoding.upper()} cannot write, the encoding of the input") from error

    def write(self, file: IO[bytes], columns: Sequence[str], name: str, fair: Callable[[Any], tuple[Any, Any]]) -> int:
        separator, codec, decimal = self._table.separator, self._table.encoding, self._table.dialect.decimal
        file.write(_MARKS.get(codec, b"") + self._header(name))
        written = 0
        for block in self.blocks(columns):
            scores, keep = fair(block)
            records = block.records if keep is None else [r for r, kept in zip(block.records, keep.tolist(), strict=True) if kept]
            cells = map(repr, scores.tolist()) if decimal == "." else (repr(v).replace(".", decimal) for v in scores.tolist())
            rows = [f"{_line(record)}{separator}{cell}\n" for record, cell in zip(records, cells, strict=True)]
            file.write("".join(rows).encode(codec))
            written += len(records)
        return written


# -- Parquet ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ArrowRows:
    """A record batch; ``first``: the number of its first row in the file."""

    batch: Any
    first: int
    bad: list[Reject]

    @property
    def n(self) -> int:
        return int(self.batch.num_rows)

    def cells(self, column: str) -> Any:
        return self.batch.column(self.batch.schema.get_field_index(column))

    def number(self, row: int) -> int:
        return self.first + row

    def content(self, row: int) -> str:
        return repr(self.batch.slice(row, 1).to_pylist()[0])


class ParquetTable:
    """A Parquet file."""

    def __init__(self, shard: Shard) -> None:
        try:
            import pyarrow
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise missing("Parquet needs pyarrow", "project") from error
        self._path = shard.path
        self._errors = (pyarrow.ArrowException, OSError, ValueError)
        try:
            self._file = parquet.ParquetFile(shard.path)
            self._schema = self._file.schema_arrow
        except self._errors as error:
            raise InputError(f"{shard.path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from error
        self.columns = list(self._schema.names)
        twice = [c for c in self.columns if self.columns.count(c) > 1]
        if twice:
            self.close()
            raise InputError(f"{shard.path}: a column's name stands twice: {twice[0]!r}")
        empty = not self._file.metadata.num_rows
        self.types = {f.name: "" if empty and pyarrow.types.is_null(f.type) else str(f.type) for f in self._schema}

    def close(self) -> None:
        import pyarrow

        self._file.close()
        pyarrow.default_memory_pool().release_unused()  # else what the largest row groups took stays for good

    def count(self) -> int:
        """Its rows."""
        return int(self._file.metadata.num_rows)

    def blocks(self, columns: Sequence[str]) -> Iterator[ArrowRows]:
        first = 1
        for batch in self._batches(self._file.iter_batches(batch_size=ROWS, columns=list(columns))):
            yield ArrowRows(batch, first, [])
            first += batch.num_rows

    def _batches(self, batches: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from batches
        except self._errors as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self._path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from error

    def write(self, file: IO[bytes], columns: Sequence[str], name: str, fair: Callable[[Any], tuple[Any, Any]]) -> int:
        import pyarrow
        import pyarrow.parquet as parquet

        kind = pyarrow.float32() if pyarrow.types.is_float32(self._schema.field(columns[0]).type) else pyarrow.float64()
        schema = self._schema.append(pyarrow.field(name, kind))
        written, first = 0, 1
        with parquet.ParquetWriter(file, schema, compression=self._compression(name, columns[0])) as writer:
            for group in range(self._file.metadata.num_row_groups):
                parts: list[Any] = []
                for batch in self._batches(self._file.iter_batches(batch_size=ROWS, row_groups=[group])):
                    scores, keep = fair(ArrowRows(batch, first, []))
                    first += batch.num_rows
                    batch = batch if keep is None else batch.filter(pyarrow.array(keep))
                    columns_ = [*batch.columns, pyarrow.array(scores, type=kind)]
                    parts.append(pyarrow.record_batch(columns_, schema=schema))
                table = pyarrow.Table.from_batches(parts, schema=schema)
                if table.num_rows:
                    writer.write_table(table, row_group_size=table.num_rows)
                written += table.num_rows
        return written

    def _compression(self, name: str, score: str) -> dict[str, str]:
        """Codec of each leaf as it was; the new column has the scores'."""
        metadata = self._file.metadata
        codecs: dict[str, str] = {}
        if metadata.num_row_groups:
            group = metadata.row_group(0)
            for k in range(group.num_columns):
                codec = group.column(k).compression
                codecs[group.column(k).path_in_schema] = "NONE" if codec == "UNCOMPRESSED" else codec
        codecs[name] = codecs.get(score, "SNAPPY")
        return codecs


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
