"""Tables of text by pages: the rows, reasons and bytes that come of reading them record by record."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.basics.files import Dialect
from fairopt.datasets import text
from fairopt.datasets.find import Shard
from fairopt.datasets.reading import Wanted, read_block

WORDS = st.sampled_from(["a", "b", "é", "", " ", "NA", "01", '"', '"a"', '"a,b"', '"a\nb"', "\0", "x;y", "\u2028", "\x0b", "\xa0"])
ODD = ["0.5", "1", ".5", "5.", "1e-3", "+1", "-0", "nan", "inf", "1e999", "1_0", "0x1", "1,5", "True", "E", "1e", "--1", "007"]
ODD += ["4.9e-324", "1e-400", "", " 1", "1 "]
NUMBERS = st.one_of(st.floats(allow_nan=False, allow_infinity=False).map(repr), st.sampled_from(ODD))


def found(path: Path, wanted: Wanted) -> tuple[Any, ...]:
    """Everything that is read of a file, and what is written of it."""
    shard, dialect = Shard(path, path.name, False), Dialect(",")
    table = text.TextTable(shard, dialect, wanted.columns)
    scores: list[Any] = []
    groups: list[Any] = []
    targets: list[Any] = []
    rejects = []
    for raw in table.blocks(wanted.columns):
        block = read_block(raw, wanted)
        scores += block.scores.tolist()
        groups += [block.values["g"][k] for k in block.codes["g"].tolist()]
        targets += [] if block.targets is None else block.targets.tolist()
        rejects += block.rejects
    table.close()
    file = io.BytesIO()

    def fair(raw: Any) -> tuple[Any, Any]:
        block = read_block(raw, wanted)
        return block.scores, block.keep

    table = text.TextTable(shard, dialect, wanted.columns)
    table.write(file, wanted.columns, "fair", fair)
    table.close()
    return scores, groups, targets, rejects, file.getvalue()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_pages_are_records(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    odd = data.draw(st.booleans())
    words, numbers = (WORDS, NUMBERS) if odd else (st.sampled_from(["a", "b", "é"]), st.floats(-1e300, 1e300).map(repr))
    cells = st.tuples(words, numbers, st.sampled_from(["0", "1", "True", "-"] if odd else ["0", "1"]))
    rows = [",".join(row) for row in data.draw(st.lists(cells, max_size=12))]
    if odd:
        rows += data.draw(st.lists(st.sampled_from(["", "  ", "a,1", "a,1,2,3", "b,0.5,1"]), max_size=3))
        rows = data.draw(st.permutations(rows))
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"] if odd else ["\n", "\r\n"]))
    path = tmp_path_factory.mktemp("drawn") / "a.csv"
    last = data.draw(st.sampled_from(["", end]))
    path.write_bytes((end.join(["g,p,y", *rows]) + last).encode() + (data.draw(st.sampled_from([b"", b"\xff,1,1\n"])) if odd else b""))
    wanted = Wanted("p", ("g",), target=data.draw(st.sampled_from(["y", None])), own=data.draw(st.booleans()))
    size = data.draw(st.sampled_from([1, 7, 30, 1 << 20]))
    told = []
    for reader in (text._reader, lambda *_: None):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(text, "PAGE", size)
            patched.setattr(text, "_reader", reader)
            try:
                told.append(repr(found(path, wanted)))
            except fo.InputError as error:
                told.append(str(error))
    assert told[0] == told[1]


def test_plain_lines_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is fast stays fast: no record is made of a plain page, in any encoding of one byte."""

    def none(*_: Any) -> Iterator[Any]:
        raise AssertionError("a page was read record by record")

    monkeypatch.setattr("fairopt.basics.files.Delimited.split", none)
    monkeypatch.setattr(text, "TextRows", none)
    rng = np.random.default_rng(0)
    values = rng.normal(size=500)
    for codec in ("utf-8", "latin-1", "cp1252"):
        path = tmp_path / f"{codec}.csv"
        lines = [f"{'é' if k % 2 else 'b'};{v!r}" for k, v in enumerate(values.tolist())]
        path.write_bytes("\r\n".join(["g;p", *lines, ""]).encode(codec))
        table = text.TextTable(Shard(path, path.name, False), Dialect(";", ".", codec), ("p", "g"))
        (raw,) = table.blocks(("p", "g"))
        block = read_block(raw, Wanted("p", ("g",)))
        table.close()
        assert block.scores.tolist() == values.tolist()
        assert [block.values["g"][k] for k in block.codes["g"][:2]] == ["b", "é"]
        assert raw.lines == lines
