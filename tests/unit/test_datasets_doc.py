"""The page about data sets: its code runs, and prints what the page shows."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fairopt.cli.app import build

PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()


def test_the_page_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("people")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, {})
    command, shown = re.findall(r"^    \$ fairopt (.*)\n\n((?:    .*\n|\n)+)", PAGE, re.MULTILINE)[0]
    done = CliRunner().invoke(build(), shlex.split(command))
    assert done.exit_code == 0, done.output
    assert [line.rstrip() for line in done.output.rstrip().splitlines()] == [line[4:].rstrip() for line in shown.rstrip().splitlines()]
