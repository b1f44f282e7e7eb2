"""The one reader of delimited text: a header, then records, each with its place; a record that is malformed carries the reason.

Cells are text as written: "01" is not "1", nothing is stripped, and only an empty cell is missing ("NA" and "nan" are words). Quoting is
RFC 4180's: a cell in double quotes may hold separators, line ends and doubled quotes. Blank lines between records are passed over.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, NamedTuple

from fairopt.basics.errors import InputError
from fairopt.basics.files.dialect import Dialect, find_separator, hinted_separator
from fairopt.basics.files.encoding import find_encoding, first_bad_byte, is_text
from fairopt.basics.files.lines import LONGEST, Lines, lines_of
from fairopt.basics.files.names import readings
from fairopt.basics.files.opened import Opened, open_input

_BLANK = " \t\r\n"
_ONE_BYTE = ("utf-8", "ascii", "iso8859-1", "iso8859-15", "cp1252")  # where a byte of ASCII is that character, wherever it stands


class Record(NamedTuple):
    """cells: one a column where ``reason`` is '' (else as far as they could be read); text: as it came; line: where it begins, from 1."""

    cells: list[str]
    text: str
    line: int
    reason: str


@dataclass(frozen=True, eq=False)
class Page:
    """Whole lines of text without quotes. first: the number of the first, from 1; offset: bytes before them."""

    data: bytes
    first: int
    offset: int

    @property
    def lines(self) -> int:
        return self.data.count(b"\n") + (not self.data.endswith(b"\n"))


@dataclass(frozen=True)
class Place:
    """What was consumed: bytes of text, lines, and a hash of those bytes."""

    offset: int
    line: int
    digest: str


class Delimited:
    """A table of text, read once from front to back. columns: the header's names; separator, encoding: as found or as given.

    wanted: names that the header must have, as on the command line (``column_names`` reads them): they tell which separator is meant.
    InputError: an input that cannot be opened, an empty one, a header that has no name, a name twice, or broken quoting.
    """

    def __init__(
        self, source: str | Opened, dialect: Dialect | None = None, *, wanted: Sequence[str] = (), stdin: IO[bytes] | None = None
    ) -> None:
        self.opened = open_input(source, stdin) if isinstance(source, str) else source
        self.name = self.opened.name
        self.dialect = dialect or Dialect()
        self._lines = Lines(self.opened.chunks(), self.name)
        self.separator = self.dialect.separator or ","
        try:
            self._lines.begin(find_encoding(self._lines.head(), self.dialect.encoding))
            self.columns = self._header(wanted)
        except BaseException:
            self.close()
            raise
        self.encoding = self._lines.encoding.codec

    def close(self) -> None:
        self.opened.close()

    def place(self) -> Place:
        """Behind the last record that was read."""
        return Place(self._lines.position, self._lines.number, self._lines.digest())

    def resume(self, place: Place) -> None:
        """Go on behind ``place``. InputError where the text before it is not the one that was read then."""
        said = "this input is not the one that was read before"
        if place.offset < self._lines.position:
            raise InputError(f"{self.name}: {said}: its header ends after byte {self._lines.position:,}, then {place.offset:,}")
        goes_on = self._lines.skip(place.offset, place.line)
        if self._lines.digest() != place.digest:
            raise InputError(f"{self.name}: {said}: its first {place.offset:,} bytes (lines 1 to {place.line:,}) have changed")
        if goes_on:
            raise InputError(
                f"{self.name}: line {place.line:,} ended the file when it was read, and goes on now: it was incomplete then; "
                "begin anew, and give a file whose last line is whole"
            )
        self._lines.join()

    def records(self) -> Iterator[Record]:
        """All that follow. InputError where a quote is opened and never closed: what follows it belongs to no row."""
        return self._records(self._lines)

    def pages(self, size: int) -> Iterator[Page | Record]:
        """All that follow: pages of lines of which each is a record, quotes and oddities aside, and single records where there are such."""
        lines = self._lines
        if lines.encoding.codec not in _ONE_BYTE:
            yield from self.records()
            return
        records = self._records(lines)
        while data := lines.page(size):
            if self._is_plain(data):
                page = Page(data, lines.number + 1, lines.position)
                lines.pass_over(data, page.lines)
                yield page
                continue
            end = lines.position + len(data)
            lines.put_back(data)
            while lines.position < end and (record := next(records, None)) is not None:
                yield record

    def _is_plain(self, data: bytes) -> bool:
        if b'"' in data or b"\0" in data or data.count(b"\r") != data.count(b"\r\n") or data.endswith(b"\r"):
            return False
        if data.isascii():
            return True
        try:
            data.decode(self._lines.encoding.codec)
        except UnicodeDecodeError:
            return False
        return True

    def split(self, page: Page) -> Iterator[Record]:
        """The records of a page, one by one."""
        lines = Lines(iter([page.data]), self.name)
        lines.encoding, lines.number, lines.position = self._lines.encoding, page.first - 1, page.offset
        return self._records(lines)

    def _records(self, lines: Lines) -> Iterator[Record]:
        width = len(self.columns)
        reader = csv.reader(self._bounded(lines), delimiter=self.separator, strict=True)
        while True:
            first = lines.number + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Record([], lines.take(), first, self._broken(error, first, lines.number))
                continue
            text = lines.take()
            if not cells or (len(cells) == 1 < width and not text.strip(_BLANK)):
                continue
            yield Record(cells, text, first, self._reason(cells, text, width, lines.position))

    def _bounded(self, lines: Lines) -> Iterator[str]:
        """``lines``. InputError where one record goes on for more than LONGEST characters: the limit of ``csv`` is the process's, and
        whoever raises it would have an open quote read to the end of the file."""
        held = 0
        for line in lines:
            goes_on = len(lines.taken) > 1
            held = held + len(line) if goes_on else len(line)
            if goes_on and held > LONGEST:
                raise self._unclosed(lines.number - len(lines.taken) + 1, f"holds more than {LONGEST:,} characters (is it closed?)")
            yield line

    def _unclosed(self, first: int, found: str) -> InputError:
        return InputError(f"{self.name}: line {first}: a quoted cell {found}; mend the file: nothing from line {first} on was read")

    def _reason(self, cells: list[str], text: str, width: int, position: int) -> str:
        """Why the record is malformed; '' where it is not."""
        if len(cells) != width:
            return f"{len(cells)} fields, the header has {width}"
        if "\0" in text:
            return "a NUL byte"
        if not is_text(text):
            return self._undecoded(text, position)
        return ""

    def _undecoded(self, text: str, position: int) -> str:
        encoding = self._lines.encoding
        byte = position - len(encoding.raw(text)) + first_bad_byte(text, encoding)
        return f"not {encoding.codec.upper()} at byte {byte} (--encoding names another)"

    def _broken(self, error: csv.Error, first: int, last: int) -> str:
        """The reason of broken quoting in one record; InputError where no end of it was found."""
        words = str(error)
        where = f"line {first}" if last == first else f"lines {first} to {last}"
        if "unexpected end" in words or "field limit" in words:
            limit = csv.field_size_limit()
            found = "is never closed" if "unexpected end" in words else f"holds more than {limit:,} characters (is it closed?)"
            raise self._unclosed(first, found)
        return f"broken quoting in {where}: a closing quote is not followed by {self.separator!r}"

    # -- the header -----------------------------------------------------------------------------------------------------------------

    def _header(self, wanted: Sequence[str]) -> list[str]:
        first = self._first_line()
        if self.dialect.separator is None:
            hinted = hinted_separator(first)
            if hinted is not None:
                self.separator = Dialect(hinted, self.dialect.decimal).separator or ","
                first = self._first_line()
        else:
            hinted = None
            if hinted_separator(first) == self.separator:
                first = self._first_line()
        whole = self._whole(first)
        line = self._lines.number
        if self.dialect.separator is None and hinted is None:
            self.separator = find_separator(whole, [readings(name) for name in wanted], self.dialect.decimal)
        self._lines.taken.clear()
        return self._checked(whole, line)

    def _first_line(self) -> str:
        """The next line that is not blank."""
        for line in self._lines:
            if line.strip(_BLANK):
                return line
        raise InputError(f"{self.name}: no header line: the file is empty")

    def _whole(self, first: str) -> str:
        """The header's text: more than one line where a quoted name goes on."""
        parts, quotes, length = [first], first.count('"'), len(first)
        while quotes % 2:
            more = next(self._lines, None)
            if more is None or length > LONGEST:
                raise InputError(f"{self.name}: line 1: a quote in the header is never closed")
            parts.append(more)
            quotes, length = quotes + more.count('"'), length + len(more)
        return "".join(parts)

    def _checked(self, text: str, line: int) -> list[str]:
        where = f"{self.name}: line {line}"
        if "\0" in text:
            raise InputError(f"{where}: a NUL byte in the header; is it UTF-16 (--encoding utf-16), or no text at all?")
        if not is_text(text):
            encoding = self._lines.encoding
            byte = self._lines.position - len(encoding.raw(text)) + first_bad_byte(text, encoding)
            raise InputError(f"{where}: the header is not {encoding.codec.upper()} at byte {byte}; name its encoding with --encoding")
        try:
            (names,) = csv.reader(lines_of(text), delimiter=self.separator, strict=True)
        except (csv.Error, ValueError) as error:
            raise InputError(f"{where}: broken quoting in the header ({error})") from error
        for k, name in enumerate(names):
            if name == "":
                why = f"an index of pandas? to_csv(index=False); a trailing {self.separator!r}?"
                raise InputError(f"{where}: column {k + 1} of the header has no name ({why})")
            if name in names[:k]:
                raise InputError(f"{where}: the header names a column twice: {name!r} is column {names.index(name) + 1} and {k + 1}")
        return names
