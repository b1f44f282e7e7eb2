"""A table of text of a data set: blocks of its rows, and the same rows, as they came, with one cell more.

It is read by ``fairopt.basics.files``, as everywhere. Pages of plain lines (no quotes) go through pyarrow's reader of CSV where that is
installed: columns come out of it whole, and no row is touched by itself but to be written.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import IO, Any

from fairopt.basics.errors import InputError
from fairopt.basics.files import Delimited, Dialect, Page, Record, csv_line, legible
from fairopt.datasets.find import Shard
from fairopt.datasets.reading import Reject, TextColumn

# where a character takes several bytes a reader has to be told their order
_MARKS = {
    "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE, "utf-32-le": codecs.BOM_UTF32_LE, "utf-32-be": codecs.BOM_UTF32_BE,
}  # fmt: skip
_ROWS = 1 << 15  # of a block of records
_BLANK = (b"\n", b"\r\n")
PAGE = 1 << 21  # bytes of a block of plain lines


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
        return legible(self.lines[row])

    @cached_property
    def lines(self) -> list[str]:
        """The rows as they came, without their ends."""
        return [record.text.rstrip("\r\n") for record in self.records]


@dataclass(frozen=True, eq=False)
class PlainRows:
    """A page of which each line is a row. table: its columns that were asked for, as pyarrow read them."""

    page: Page
    table: Any
    codec: str
    bad: list[Reject]

    @property
    def n(self) -> int:
        return int(self.table.num_rows)

    def cells(self, column: str) -> TextColumn:
        return TextColumn(self.table.column(column).combine_chunks())

    def number(self, row: int) -> int:
        return self.page.first + row

    def content(self, row: int) -> str:
        return legible(self.lines[row])

    @cached_property
    def lines(self) -> list[str]:
        """The rows as they came, without their ends."""
        text = self.page.data.decode(self.codec)
        return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


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

    def blocks(self, columns: Sequence[str]) -> Iterator[TextRows | PlainRows]:
        records: list[Record] = []
        read = _reader(self.columns, columns, self._table.separator, self._table.encoding)
        for one in self._table.pages(PAGE) if read is not None else self._table.records():
            if isinstance(one, Record):
                records.append(one)
                if len(records) < _ROWS:
                    continue
            if records:
                yield self._rows(records)
                records = []
            if isinstance(one, Page):
                table = None if read is None else read(one)
                yield self._rows(self._table.split(one)) if table is None else PlainRows(one, table, self._table.encoding, [])
        if records:
            yield self._rows(records)

    def _rows(self, records: Iterable[Record]) -> TextRows:
        good, bad = [], []
        for record in records:
            if record.reason:
                bad.append(Reject(record.line, record.reason, legible(record.text.rstrip("\r\n"))))
            else:
                good.append(record)
        return TextRows(good, bad, self._place)

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
            lines = block.lines if keep is None else list(compress(block.lines, keep.tolist()))
            cells = map(repr, scores.tolist()) if decimal == "." else (repr(v).replace(".", decimal) for v in scores.tolist())
            rows = [f"{line}{separator}{cell}\n" for line, cell in zip(lines, cells, strict=True)]
            file.write("".join(rows).encode(codec))
            written += len(lines)
        return written


def _reader(names: Sequence[str], wanted: Sequence[str], separator: str, codec: str) -> Callable[[Page], Any] | None:
    """A page -> a pyarrow table of the columns that are wanted, all of them text; None where some line is no row.

    None without pyarrow.
    """
    try:
        import pyarrow
        from pyarrow import csv
    except ImportError:
        return None
    parse = csv.ParseOptions(delimiter=separator, quote_char=False, escape_char=False, newlines_in_values=False, ignore_empty_lines=False)
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(wanted, pyarrow.string()), include_columns=list(wanted), strings_can_be_null=False
    )

    def read(page: Page) -> Any:
        if page.data.startswith(_BLANK) or any(b"\n" + blank in page.data for blank in _BLANK):
            return None  # blank lines are passed over
        data = page.data if codec == "utf-8" else page.data.decode(codec).encode()
        options = csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=list(names))
        try:
            table = csv.read_csv(pyarrow.BufferReader(data), options, parse, convert)
        except pyarrow.ArrowException:  # a line of more or fewer cells: the other reader says which
            return None
        return table if table.num_rows == page.lines else None

    return read
