"""The one reader of delimited text: what was written comes back, in every dialect; what is malformed says where; and what is written."""

from __future__ import annotations

import csv
import gzip
import io
import os
import random
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fairopt.basics.errors import InputError
from fairopt.basics.files import (
    Delimited,
    Dialect,
    Record,
    check_places,
    column_names,
    csv_line,
    csv_table,
    guarded,
    number,
    write_whole,
    zero_or_one,
)
from fairopt.basics.files.dialect import SEPARATORS
from fairopt.basics.files.lines import LONGEST
from fairopt.basics.table import Table, group_word, joined_words, visible

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom", "utf-16-be-bom", "utf-32", "gzip")
# Every kind of character that a reader may stumble over; NUL and lone surrogates are no text.
HARD = st.text(st.sampled_from(list(' \t,;|"\n\r\x0b\x0c\x1c\x85\u2028\u00e9\u4e2d\U0001f600\ufeffa0=')), max_size=6)
WILD = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
CELL = HARD | WILD | st.sampled_from(["", "NA", "nan", "01", "1", "1e3", "1000", "True", "None", "9007199254740993", "02134"])


class Dribble(io.RawIOBase):
    """A pipe that hands out a few bytes at a time."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data, self._sizes, self._turn = data, sizes, 0

    def read1(self, size: int) -> bytes:
        self._turn += 1
        n = min(self._sizes[self._turn % len(self._sizes)], size)
        out, self._data = self._data[:n], self._data[n:]
        return out


def encoded(text: str, how: str) -> bytes:
    if how == "gzip":
        half = len(text) // 2  # two members, as `cat a.gz b.gz` makes
        return gzip.compress(text[:half].encode()) + gzip.compress(text[half:].encode())
    if how.endswith("-bom"):
        return ("\ufeff" + text).encode(how.removesuffix("-bom"))
    return text.encode(how)


def opened(data: bytes, *, wanted: tuple[str, ...] = (), sizes: list[int] | None = None, **dialect: Any) -> Delimited:
    return Delimited("-", Dialect(**dialect), wanted=wanted, stdin=Dribble(data, sizes or [1 << 20]))  # type: ignore[arg-type]


def read(data: bytes, **how: Any) -> tuple[list[str], list[Record]]:
    table = opened(data, **how)
    return table.columns, list(table.records())


def refused(act: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as error:
        act()
    return str(error.value)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[str]], str, str]:
    """(rows of cells, separator, text); the first row is the header: its names are unique and not empty."""
    width = draw(st.integers(1, 4))
    header = draw(st.lists(CELL.filter(lambda c: c.strip(" \t\r\n\ufeff") != ""), min_size=width, max_size=width, unique=True))
    rows = [header, *draw(st.lists(st.lists(CELL, min_size=width, max_size=width), max_size=5))]
    separator, end = draw(st.sampled_from(SEPARATORS)), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    if draw(st.booleans()):
        text = "".join(csv_line(row, separator)[:-1] + end + end * draw(st.sampled_from([0, 0, 1])) for row in rows)
    else:
        out = io.StringIO()
        csv.writer(out, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
        text = out.getvalue()
    assume(not text.lower().startswith("sep="))
    # a name that begins with a mark of byte order cannot be told from one
    assume(not text.startswith("\ufeff") and not text.startswith('"\ufeff'))
    return rows, separator, text if draw(st.booleans()) else text.removesuffix(end)


@given(tables(), st.sampled_from(ENCODINGS), st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_what_was_written_comes_back(table: tuple[list[list[str]], str, str], encoding: str, sizes: list[int]) -> None:
    rows, separator, text = table
    columns, records = read(encoded(text, encoding), separator=separator, sizes=sizes)
    assert columns == rows[0]
    assert [r.cells for r in records] == rows[1:]
    assert [r.reason for r in records] == [""] * len(records)
    assert all(r.text in text for r in records)  # as it came


@given(tables())
def test_another_reader_reads_what_is_written(table: tuple[list[list[str]], str, str]) -> None:
    rows, separator, _ = table
    text = "".join(csv_line(row, separator) for row in rows)
    assert list(csv.reader(io.StringIO(text, newline=""), delimiter=separator)) == rows


@given(tables(), st.sampled_from(ENCODINGS[:-1]), st.data())
def test_reading_goes_on_from_every_record(table: tuple[list[list[str]], str, str], encoding: str, data: st.DataObject) -> None:
    rows, separator, text = table
    raw = encoded(text, encoding)
    first = opened(raw, separator=separator)
    places = [first.place()]
    for _ in first.records():
        places.append(first.place())
    k = data.draw(st.integers(0, len(places) - 1))
    again = opened(raw, separator=separator, sizes=[3, 5])
    again.resume(places[k])
    assert [r.cells for r in again.records()] == rows[1 + k :]
    assert again.place() == first.place()
    if places[k].offset > places[0].offset:
        at = data.draw(st.integers(places[0].offset, places[k].offset - 1))
        changed = bytearray(raw)
        changed[at] ^= 1
        other = opened(bytes(changed), separator=separator)
        assert "not the one that was read" in refused(lambda: other.resume(places[k]))
        cut = opened(raw[:at], separator=separator)
        assert "not the one that was read" in refused(lambda: cut.resume(places[k]))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_file_that_grows_is_read_as_the_whole_or_refused(encoding: str, end: str) -> None:
    """Cut at every byte, read, then completed: never a row that the whole file has not."""
    text = end.join(["score,race", "0.5,a", '0.25,"b\u00e9,', '""x"""', "", "0.75,c", "1,d"]) + end
    raw = encoded(text, encoding)
    whole = [r.cells for r in read(raw)[1]]
    went_on = 0
    for cut in range(len(raw) + 1):
        try:
            part = opened(raw[:cut])
            before = [r for r in part.records() if not r.reason]
        except InputError:
            continue
        later = opened(raw)
        if part.columns != later.columns:
            continue  # another header: the stream refuses it
        try:
            later.resume(part.place())
        except InputError:
            continue
        went_on += 1
        assert [r.cells for r in before] + [r.cells for r in later.records()] == whole
    assert went_on >= 6


def test_cells_are_text_as_written() -> None:
    cells = ["01", "1", "1.0", "1e3", "1000", "02134", "9007199254740993", "True", "NA", "nan", "None", " a", "a ", "'b'", '5" pipe', ""]
    data = "g,h\n" + "".join(f"{c},x\n" for c in cells)
    assert [r.cells[0] for r in read(data.encode())[1]] == cells


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no header line: the file is empty"),
        (b"\n\n  \n", "no header line"),
        (b"\xef\xbb\xbf", "no header line"),
        (b"a,a\n", "line 1: the header names a column twice: 'a' is column 1 and 2"),
        (b"\na,b,a\n", "line 2: the header names a column twice: 'a' is column 1 and 3"),
        (b",a\n1,2\n", "line 1: column 1 of the header has no name"),
        (b"a,b,\n1,2,\n", "line 1: column 3 of the header has no name"),
        (b'"a,b\n1,2\n', "quote in the header is never closed"),
        (b'"a"b,c\n1,2\n', "line 1: broken quoting in the header"),
        (b"a,\xff\n", "line 1: the header is not UTF-8 at byte 2; name its encoding with --encoding"),
        ("a,b\n1,2\n".encode("utf-16-le"), "NUL byte in the header; is it UTF-16"),
        (b"PK\x03\x04rest", "a zip or Excel file: save it as CSV"),
        (b"BZh9rest", "packed with bzip2"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0)[:-4], "gzip data end early"),
        (b"\x1f\x8bnonsense nonsense", "broken gzip"),
    ],
)
def test_a_bad_header_says_what_is_wrong(data: bytes, said: str) -> None:
    assert said in refused(lambda: read(data))


@pytest.mark.parametrize(
    ("body", "line", "said"),
    [
        (b"1,2\n1,2,\n", 3, "3 fields, the header has 2"),
        (b"1,2\n\n1\n", 4, "1 fields, the header has 2"),
        (b'"x\ny",1\n1,"2"3\n', 4, "broken quoting in line 4"),
        (b'1,"2\n3"4\n', 2, "broken quoting in lines 2 to 3"),
        (b"1,\x002\n", 2, "a NUL byte"),
        (b"1,\xe9\n", 2, "not UTF-8 at byte 6 (--encoding names another)"),
        (b"1,2\r1,2\r\r9\r", 5, "1 fields, the header has 2"),
    ],
)
def test_a_malformed_row_says_where_and_the_next_one_is_read(body: bytes, line: int, said: str) -> None:
    _, records = read(b"a,b\n" + body + b"7,8\n")
    (bad,) = [r for r in records if r.reason]
    assert (bad.line, said in bad.reason) == (line, True), bad
    assert records[-1].cells == ["7", "8"]


def test_a_quote_that_is_never_closed_is_an_error_with_its_line() -> None:
    assert "line 3: a quoted cell is never closed; mend the file" in refused(lambda: read(b'a,b\n1,2\n3,"4\n5,6\n7,8\n'))
    long = b'a,b\n1,"' + b"x,y\n" * 50_000
    assert "line 2: a quoted cell holds more than" in refused(lambda: read(long))


@pytest.mark.parametrize("of_the_process", [1 << 10, 1 << 17, 1 << 30])
def test_a_quote_ends_somewhere_whatever_the_process_lets_csv_read(of_the_process: int) -> None:
    before = csv.field_size_limit(of_the_process)
    try:
        whole = b'a,b\n1,"' + b"x,y\n" * 200 + b'"\n'
        assert [r.cells for r in opened(whole).records()] == [["1", "x,y\n" * 200]]
        endless = b'a,b\n1,2\n1,"' + b"x,y\n" * (LONGEST // 4 + 1)
        assert "line 3: a quoted cell holds more than" in refused(lambda: read(endless))
        assert "a quote in the header is never closed" in refused(lambda: opened(b'a,"' + endless[11:]))
    finally:
        csv.field_size_limit(before)


def test_a_line_without_end_is_no_table() -> None:
    with open(os.devnull, "rb"):
        data = b"a,b\n" + b"x" * (1 << 24) + b"x" * (1 << 20)
    assert "line 2 is longer than 16 MiB" in refused(lambda: read(data))


@pytest.mark.parametrize(
    ("header", "wanted", "separator"),
    [
        ("score,race", (), ","), ("score;race", (), ";"), ("score\trace", (), "\t"), ("score|race", (), "|"), ("score", (), ","),
        ("score;last, first", ("score",), ";"), ("score,a|b", ("score",), ","), ('"a;b",c', ("c",), ","), ("a,b;c", ("c",), ";"),
        ("score;sex,race;x", ("score", '"sex,race"'), ";"), ("a b;c d", ("a b",), ";"),
    ],
)  # fmt: skip
def test_the_separator_is_found(header: str, wanted: tuple[str, ...], separator: str) -> None:
    table = opened(f"{header}\n".encode(), wanted=wanted)
    assert table.separator == separator


def test_separators_and_decimals_that_are_said() -> None:
    assert "the header line can be split at ',' (2 columns) or ';' (2 columns); say which with --separator" in refused(
        lambda: read(b"a,b;c\n")
    )
    assert opened(b"a,b;c\n", separator=";").columns == ["a,b", "c"]
    assert opened(b"sep=;\na;b\n1;2\n").columns == ["a", "b"]
    assert opened(b"sep=;\na;b\n1;2\n", separator=";").columns == ["a", "b"]
    assert opened(b"a b\n", separator="space").columns == ["a", "b"]
    assert opened(b"a,b;c\n", decimal=",").separator == ";"
    for bad in ("", "ab", '"', "\n", "7", "é"):
        assert "separator: got" in refused(lambda bad=bad: Dialect(bad))  # type: ignore[misc]
    assert "decimal: got '.,'" in refused(lambda: Dialect(decimal=".,"))
    assert "the separator as well" in refused(lambda: Dialect(",", ","))


@pytest.mark.parametrize(
    "encoding", ["latin-1", "cp1252", "shift_jis", "gb18030", "big5", "koi8-r", "utf-16", "utf-16-be", "utf-8-sig", "ascii"]
)
def test_encodings_by_name(encoding: str) -> None:
    letter = {"shift_jis": "\u8868", "gb18030": "\u4e2d", "big5": "\u529f", "koi8-r": "\u0436", "ascii": "x"}.get(encoding, "\u00e9")
    columns, records = read(f"a,{letter}\n1,{letter}\n".encode(encoding), encoding=encoding)
    assert columns == ["a", letter]
    assert [r.cells for r in records] == [["1", letter]]


@pytest.mark.parametrize("encoding", ["hex", "rot13", "no such", "cp037", "utf-7", "idna", "", "unicode_escape", "a\0b"])
def test_what_is_no_encoding(encoding: str) -> None:
    assert "encoding: got" in refused(lambda: read(b"a,b\n", encoding=encoding))


def test_a_mark_that_contradicts_the_encoding() -> None:
    assert "byte order mark of utf-8" in refused(lambda: read("\ufeffa,b\n".encode(), encoding="latin-1"))
    assert opened("\ufeffa,b\n".encode(), encoding="UTF-8").columns == ["a", "b"]
    assert opened("a,b\n".encode("utf-16"), encoding="utf_16").columns == ["a", "b"]
    assert opened(b'\xef\xbb\xbf"a, b",c\n').columns == ["a, b", "c"]


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "is a folder" in refused(lambda: Delimited(str(tmp_path)))
    assert "there is no such file" in refused(lambda: Delimited(str(tmp_path / "x.csv")))
    assert "cannot be read" in refused(lambda: Delimited("a\0b"))
    assert "expected a path" in refused(lambda: Delimited("-"))


def test_a_named_pipe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    if os.fork() == 0:
        path.write_bytes(b"a,b\n1,2\n")
        os._exit(0)
    table = Delimited(str(path))
    assert table.opened.pipe
    assert [r.cells for r in table.records()] == [["1", "2"]]
    os.wait()
    table.close()


# numbers ----------------------------------------------------------------------------------------------------------------------


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_comes_back_to_the_bit(value: float) -> None:
    for text in (repr(value), f"{value:.17e}", f"{value:+.25g}"):
        assert struct.pack("d", number(text, "x")) == struct.pack("d", value)
    assert number(repr(value).replace(".", ","), "x", ",") == value


@pytest.mark.parametrize(
    "text",
    ["", " ", " 1", "1 ", "1_0", "0x1p3", "0x10", "1,5", "1.5.2", "1e", "e5", ".", "+", "--1", "1d5", "\u0661", "\uff11", "1\n", "one",
     "True", "inf", "-Infinity", "nan", "NaN", "1e400", "1/2", "5%", "\u22121", "1\u00a0000"],
)  # fmt: skip
def test_what_is_no_number(text: str) -> None:
    assert repr(text) in refused(lambda: number(text, "x")) or text == ""


@given(st.text(st.sampled_from(list("0123456789+-.,eE_ xXinfa\u0661")), max_size=6))
def test_a_number_is_what_ascii_digits_write(text: str) -> None:
    """Whatever is read is what Python's own float reads, and never with blanks, underscores or other digits."""
    try:
        value = number(text, "x")
    except InputError:
        return
    assert value == float(text)
    assert not set(text) & set("_ \u0661inafxX,")


def test_typed_values_and_truth_values() -> None:
    assert number(3, "x") == 3.0
    for bad in (None, True, float("nan"), float("inf"), 10**400, [1]):
        refused(lambda bad=bad: number(bad, "x"))  # type: ignore[misc]
    assert "; --decimal , reads it" in refused(lambda: number("0,5", "x"))
    refused(lambda: number("0.5", "x", ","))
    assert [zero_or_one(v, "x") for v in ("True", "FALSE", "1", True, 0)] == [1.0, 0.0, 1.0, 1.0, 0.0]
    refused(lambda: zero_or_one("yes", "x"))


# names ------------------------------------------------------------------------------------------------------------------------


def test_names_of_columns() -> None:
    columns = ["sex", "race", "last, first", " blank", "a b", "race,sex"]
    assert column_names("sex", columns, "o") == ("sex",)
    assert column_names("sex,race", columns, "o") == ("sex", "race")
    assert column_names("sex, race", columns, "o") == ("sex", "race")
    assert column_names("last, first", columns, "o") == ("last, first",)
    assert column_names('sex,"last, first"', columns, "o") == ("sex", "last, first")
    assert column_names(" blank", columns, "o") == (" blank",)
    assert column_names('"race,sex"', columns, "o") == ("race,sex",)
    assert "a column and a list of columns as well" in refused(lambda: column_names("race,sex", columns, "o"))
    assert "--o: f has no column 'x'; it has 'sex'" in refused(lambda: column_names("x", columns, "o", "f"))
    assert "names a column twice" in refused(lambda: column_names("sex,sex", columns, "o"))
    for nothing in ("", ",", " "):
        assert "expected a column name" in refused(lambda nothing=nothing: column_names(nothing, columns, "o"))  # type: ignore[misc]


# what is written ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["=1+1", "+x", "-x", "@sum", "\tx", "\rx", "=cmd|' /C calc'!A0", "-2+3", "\uff1d1"])
def test_no_cell_of_ours_is_run_by_a_spreadsheet(cell: str) -> None:
    assert guarded(cell) == "'" + cell
    (_, (read_back, value)) = csv.reader(io.StringIO(csv_table(["g", "v"], [[cell, -0.5]]), newline=""))
    assert (read_back, value) == ("'" + cell, "-0.5")


@pytest.mark.parametrize("cell", ["-1", "+1.5", "-1e3", "a=b", "", None, 3, -0.5, True])
def test_numbers_and_other_text_stay(cell: Any) -> None:
    assert guarded(cell) is cell


def test_words_for_the_terminal() -> None:
    assert visible("a\x1b[31mb\x07\x9b\u202ec\x7f\nd") == "a\\x1b[31mb\\x07\\x9b\\u202ec\\x7f\\nd"
    assert visible("a\nb", lines=True) == "a\nb"
    kept = "\u4e2d\u6587 \U0001f468\u200d\U0001f469 \u05d0 $x_1$ [b] \u00a0"
    assert visible(kept) == kept
    assert "\x1b" not in str(Table(("g",), (("\x1b[2J",),)))


@given(st.lists(st.none() | st.sampled_from(["missing", '"missing"', '""missing""', "a", "a & b", "b", "b & a"]), min_size=2, max_size=2))
def test_words_of_groups_are_told_apart(values: list[str | None]) -> None:
    a, b = values
    assert (group_word(a) == group_word(b)) == (a == b)
    assert group_word(None) == "missing"
    for other in (["a", "b & a"], ["a & b", "a"]):
        mine, theirs = joined_words(map(group_word, values)), joined_words(other)
        assert (mine == theirs) == (values == other)


def test_what_a_killed_process_began_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "certificate.json"
    began = os.fork()
    if began == 0:
        monkeypatch.setattr(Path, "replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        write_whole(path, "half", "report")
        os._exit(1)
    assert os.waitpid(began, 0)[1] == signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(f".{began}.part")
    kept = [left.with_name(left.name.replace(f".{began}.", f".{word}.")) for word in (os.getppid(), "x", "9" * 30)]
    kept += [tmp_path / f".other.json.{began}.part", tmp_path / f".certificate.json.another.{began}.part"]
    for other in kept:  # of a process that runs, of none, of another file, of another machine
        other.write_text("mine")
    write_whole(path, "whole", "report")
    assert set(tmp_path.iterdir()) == {path, *kept}
    assert path.read_text() == "whole"


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_whole(path, "old", "report")
    path.chmod(0o640)
    (tmp_path / "link").symlink_to(path)
    write_whole(tmp_path / "link", "new", "report")
    assert path.read_text() == "new"
    assert (tmp_path / "link").is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert "is a folder" in refused(lambda: write_whole(tmp_path, "x", "report"))
    assert "its folder is not there" in refused(lambda: write_whole(tmp_path / "no" / "x", "x", "report"))
    assert "report: " in refused(lambda: write_whole(path / "x", "x", "report"))
    write_whole(os.devnull, "x", "report")
    if os.fork() == 0:  # a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_whole(path, "x" * 5000, "report")
        except InputError as error:
            os._exit(0 if str(path) in str(error) else 2)
        os._exit(1)
    assert os.wait()[1] == 0
    assert path.read_text() == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "r.json"]


def test_no_file_is_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x")
    (tmp_path / "link").symlink_to(path)
    os.link(path, tmp_path / "hard")
    for other in ("a.csv", "link", "hard", "../" + tmp_path.name + "/a.csv"):
        assert "is the same file as input" in refused(lambda other=other: check_places({"input": path}, {"output": tmp_path / other}))  # type: ignore[misc]
    assert "the same file as output" in refused(lambda: check_places({}, {"output": tmp_path / "n", "report": tmp_path / "." / "n"}))
    assert "its folder is not there" in refused(lambda: check_places({}, {"output": tmp_path / "no" / "n"}))
    assert "is a folder" in refused(lambda: check_places({}, {"output": tmp_path}))
    check_places({"input": "-"}, {"output": "-", "report": None, "csv": tmp_path / "n"}, {"state": tmp_path / "s"})


def test_reading_loads_no_torch_and_no_pandas() -> None:
    code = "import sys, fairopt.basics.files; print({'torch', 'pandas', 'typer'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_random_bytes_raise_nothing_of_anyone_elses() -> None:
    """10,000 byte strings made of what breaks readers."""
    rng = random.Random(0)
    pieces = [
        b",",
        b";",
        b'"',
        b"\n",
        b"\r",
        b"\r\n",
        b"\0",
        b"\xff",
        b"\xc3",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\x1f\x8b",
        b"a",
        b"b",
        b"1",
        b"sep=;",
    ]
    for _ in range(10_000):
        data = b"".join(rng.choices(pieces, k=rng.randint(0, 14)))
        try:
            columns, records = read(data)
        except InputError:
            continue
        assert all(len(r.cells) == len(columns) for r in records if not r.reason)
