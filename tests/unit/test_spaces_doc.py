"""The example of docs/spaces.md prints what the page says, and the three promises of its table hold."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

import fairopt as fo
from fairopt.layer.settings import Space

DOC = Path(__file__).parents[2] / "docs" / "spaces.md"


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
        assert [line.split() for line in out.getvalue().splitlines()] == [line.split() for line in expected.splitlines()]


@pytest.mark.parametrize("space", ["value", "probability", "logit"])
def test_each_space_keeps_its_own_promise(space: Space) -> None:
    """Means of what comes out are equal within the tolerance; the box is the one of the table."""
    draw = torch.Generator().manual_seed(0)
    group = ["a"] * 60 + ["b"] * 40
    raw = torch.cat([4 * torch.randn(60, generator=draw) + 2, torch.randn(40, generator=draw) - 2])
    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.01), space=space)
    fair = layer(raw, sensitive_features={"g": group})
    assert abs(fair[:60].double().mean() - fair[60:].double().mean()) <= 0.01 + 1e-9
    inside = bool(((fair >= 0) & (fair <= 1)).all())
    assert inside == (space == "probability")
    nearest = fo.project(
        raw.sigmoid() if space == "probability" else raw,
        fo.DemographicParity("g", tolerance=0.01),
        sensitive_features={"g": group},
        bounds=(0, 1) if space == "probability" else None,
    )
    assert torch.equal(fair, nearest)


def test_the_two_numbers_of_the_text() -> None:
    first, second = torch.tensor([-8.0, 4.0]), torch.tensor([-2.0, -2.0])
    assert first.mean() == second.mean() == -2
    assert (round(first.sigmoid().mean().item(), 2), round(second.sigmoid().mean().item(), 2)) == (0.49, 0.12)
