"""The examples of docs/distances.md print what the page says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

DOC = Path(__file__).parents[2] / "docs" / "distances.md"


def blocks(language: str) -> list[str]:
    return [str(found) for found in re.findall(rf"^```{language}\n(.*?)^```$", DOC.read_text(), re.DOTALL | re.MULTILINE)]


def test_each_example_prints_what_stands_below_it() -> None:
    codes, printed = blocks("python"), blocks("text")
    assert len(codes) == len(printed) >= 2
    names: dict[str, object] = {}
    for code, expected in zip(codes, printed, strict=True):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, str(DOC), "exec"), names)
        assert [line.split() for line in out.getvalue().splitlines()] == [line.split() for line in expected.splitlines()], out.getvalue()
