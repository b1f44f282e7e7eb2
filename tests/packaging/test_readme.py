"""The examples of the documents run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import fairopt as fo

ROOT = Path(__file__).parents[2]


def _block(document: str, opening: str) -> str:
    """The indented block that starts with ``opening``, as code."""
    lines = (ROOT / document).read_text().splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith(f"    {opening}"))
    stop = next((k for k, line in enumerate(lines[start:], start) if line and not line.startswith("    ")), len(lines))
    return "\n".join(line[4:] for line in lines[start:stop])


def test_the_first_example_of_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(_block("README.md", "import torch, fairopt as fo"), names)
    fair, scores, how = names["fair"], names["scores"], {"sensitive_features": names["race"]}
    before, after = (max(fo.gaps(y, names["notion"], **how)["gap"]) for y in (scores, fair))
    assert before > 0.19
    assert after <= 0.05
    shown = capsys.readouterr().out
    printed = re.findall(r"^```text\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)[0]
    assert len(shown.split()) == len(printed.split()) > 40
    for came, expected in zip(shown.split(), printed.split(), strict=True):
        if re.fullmatch(r"[\d.e-]*\d[\d.e-]*", expected):
            assert float(came) == pytest.approx(float(expected), abs=1e-6)
        else:
            assert came == expected


def test_the_network_example_of_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    race = ["white", "black", "hispan", "white"] * 250
    names: dict[str, Any] = {"fo": fo, "torch": torch, "notion": fo.DemographicParity("race", tolerance=0.05), "race": race}
    exec(_block("README.md", "x, y = torch.randn"), names)
    assert names["layer"].certificate.status is fo.Status.CERTIFIED
    assert names["layer"].certificate.max_violation <= 0
    assert names["network"][0].weight.grad.abs().sum() > 0
    assert "CERTIFIED" in capsys.readouterr().out


def test_the_notion_of_contributing() -> None:
    names: dict[str, Any] = {}
    exec(_block("CONTRIBUTING.md", "import fairopt as fo"), names)
    notion = names["equal_opportunity"]("sex", tolerance=0.05)
    sex, targets = [0, 0, 1, 1, 1], torch.tensor([1, 0, 1, 1, 0])
    fair = fo.project(torch.tensor([0.9, 0.1, 0.2, 0.4, 0.3]), notion, sensitive_features={"sex": sex}, targets=targets)
    assert abs(fair[0] - (fair[2] + fair[3]) / 2) <= 0.05 + 1e-6
    assert torch.equal(fair[[1, 4]], torch.tensor([0.1, 0.3]))


def test_every_make_target_that_a_document_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for document in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", (ROOT / document).read_text(), re.MULTILINE))
        assert named
        assert named <= targets


def test_every_file_that_the_readme_shows_exists() -> None:
    shown = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert shown
    assert all((ROOT / path).exists() for path in shown)
