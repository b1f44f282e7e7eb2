"""The page about audits: its blocks run as they stand there, in one namespace, and its command too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fairopt.auditing.ratios import SELECTION
from fairopt.cli.app import build

DOC = Path(__file__).parents[2] / "docs" / "audit.md"


def test_the_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", DOC.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["audit.html", "audit.json", "gaps.csv"]
    assert "audit of 796 samples" in capsys.readouterr().out
    audit = names["audit"]
    # what the page says of the first block
    by = {(r["quantity"], r["notion"]): r["status"] for r in audit.summary}
    assert by["score", "EqualOpportunity"] == "met"
    assert [by["score", "DemographicParity"], by["decision", "DemographicParity"], by["decision", "EqualOpportunity"]] == ["broken"] * 3
    assert names["found"].local_law["selection, intersectional"].columns == SELECTION


def test_the_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scores.csv").write_text("p,sex,race,y\n" + "".join(f"0.{k},{'fm'[k % 2]},{'ab'[k // 4]},{k // 2 % 2}\n" for k in range(8)))
    (line,) = re.findall(r"^    fairopt (audit .*)$", DOC.read_text(), re.MULTILINE)
    done = CliRunner().invoke(build(), line.split())
    assert done.exit_code == 0, done.output
    assert Path("audit.html").stat().st_size > 10_000


def test_the_page_names_every_table() -> None:
    from fairopt.auditing import Audit

    named = set(re.findall(r"^\| `audit\.(\w+)`", DOC.read_text(), re.MULTILINE))
    assert named == {"gaps", "summary", "groups", "spread", "ratios", "local_law"}
    assert named < set(Audit.__dataclass_fields__)
