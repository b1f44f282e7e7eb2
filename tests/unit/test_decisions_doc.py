"""The pages about decisions and guarantees: their blocks run in order, in one namespace a page, and say what the pages say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy")
DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


def test_decisions(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    assert len(blocks("decisions.md")) == 2
    for block in blocks("decisions.md"):
        exec(block, names)
    said = capsys.readouterr().out
    assert "threshold" in said
    assert "audit of 2,000 samples" in said or "audit of 2000 samples" in said
    rule, where = names["rule"], names["calibration"]
    gaps = rule.gaps(names["score"][where], names["repaid"][where], {"sex": names["sex"][where]})
    assert max(gaps["gap"]) <= 0.03 + 1e-9


def test_guarantee(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    assert len(blocks("guarantee.md")) == 3
    for block in blocks("guarantee.md"):
        exec(block, names)
    said = capsys.readouterr().out
    assert "gap in the population <= 0.05, with probability 0.95" in said
    assert re.search(r"the group sex='f' has \d+ calibration rows that count, and about [\d,]+ calibration rows", said)
    assert names["promise"].limit - names["promise"].margin >= 0.02
    assert 0.05 < names["strict"].guarantees[0].bound < 0.5


@pytest.mark.parametrize("page", ["decisions", "guarantee"])
def test_the_pictures_are_there(page: str) -> None:
    assert f"]({page}.png)" in (DOCS / f"{page}.md").read_text()
    assert (DOCS / f"{page}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
