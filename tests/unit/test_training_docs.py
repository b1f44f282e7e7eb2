"""Every block of docs/training.md runs, in order and in one namespace, and does what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def _blocks() -> list[str]:
    """The indented blocks of the page."""
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", PAGE.read_text(), flags=re.MULTILINE)
    return ["\n".join(line[4:] for line in block.splitlines()) for block in found]


@pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::DeprecationWarning:lightning")
def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lightning", reason="the page's last part needs Lightning")
    pytest.importorskip("matplotlib", reason="the page draws a history").use("agg")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    names: dict[str, Any] = {}
    try:
        blocks = _blocks()
        assert len(blocks) == 6
        for block in blocks:
            exec(block, names)
    finally:
        torch.set_num_threads(threads)
    assert names["found"].loss > 0
    assert [one.quantity for one in names["found"].gaps] == ["score", "decision"]
    assert names["found"].gaps[0].gap <= 0.02 + 1e-6
    assert names["layer"].certificate.max_violation <= 0
    assert len(names["history"]) == 4
    assert len(names["by_cell"].cells) == 4
    metrics = names["trainer"].callback_metrics
    assert float(metrics["parity/val_gap"]) <= 0.02 + 1e-9
    assert float(metrics["parity/val_violation"]) <= 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("EpochDone", "label=1", "parity/val_distance"))
