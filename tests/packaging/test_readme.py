"""The examples of the documents run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

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
    fair, scores = names["fair"], names["scores"]
    shown = capsys.readouterr().out
    assert all(race in shown for race in ("white", "black", "hispan"))
    assert max(fo.gaps(fair, names["notion"], sensitive_features={"race": names["race"]})["gap"]) <= 0.05
    fair.sum().backward()
    assert scores.grad.abs().sum() > 0


def test_the_network_example_of_the_readme() -> None:
    torch.manual_seed(0)
    names: dict[str, Any] = {
        "fo": fo,
        "F": F,
        "notion": fo.DemographicParity("race", tolerance=0.05),
        "network": torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Flatten(0)),
        "x": torch.randn(60, 3),
        "race": ["white", "black", "hispan"] * 20,
        "y": torch.tensor([1.0, 0.0, 1.0, 1.0] * 15),
    }
    exec(_block("README.md", "layer = fo.FairnessLayer"), names)
    assert names["layer"].certificate.max_violation <= 0
    names["loss"].backward()
    assert names["network"][0].weight.grad.abs().sum() > 0


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
        named = set(re.findall(r"make ([a-z-]+)", (ROOT / document).read_text()))
        assert named
        assert named <= targets


def test_every_file_that_the_readme_shows_exists() -> None:
    shown = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert shown
    assert all((ROOT / path).exists() for path in shown)
