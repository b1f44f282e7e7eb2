"""The examples of docs/postprocessing.md run, in order, and show what the page says; the example of boosting has at most eight lines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOC = Path(__file__).parents[2] / "docs" / "postprocessing.md"


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    blocks = re.findall(r"^```python\n(.*?)^```$", DOC.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 6
    assert "HistGradientBoosting" in blocks[1]
    assert len([line for line in blocks[1].splitlines() if line.strip()]) <= 8
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(DOC), "exec"), names)
    model, new, columns = names["model"], names["new"], names["columns"]
    raw = model.estimator_.predict_proba(new[columns])[:, 1]
    female = (new["sex"] == "Female").to_numpy()
    (gap,) = model.gaps(new[columns], sensitive_features=new["sex"])["gap"]
    assert gap < 0.06 < abs(raw[female].mean() - raw[~female].mean())
    assert re.search(r"0\.020 on the calibration rows, at most 0\.\d+ in the population", capsys.readouterr().out)
    assert names["crossed"].guarantees_ == ()
    assert len(names["axes"].texts) == 3
    from matplotlib import pyplot

    pyplot.close("all")
