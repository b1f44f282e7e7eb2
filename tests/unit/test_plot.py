"""fo.plot: what stands in the pictures is what the tables say; axes in, axes out; nothing is imported early or set for good."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fairopt as fo
from fairopt.training import EpochDone, GapDone, History, trade_off

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
from matplotlib import pyplot  # noqa: E402 - after the backend is chosen

PARITY = fo.DemographicParity("g", tolerance=0.1)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    pyplot.close("all")


def run() -> History:
    def gaps(k: int) -> tuple[GapDone, ...]:
        return (
            GapDone("training", "score", "DemographicParity($g$)", 0.3 / k, 0.1),
            GapDone("validation", "score", "DemographicParity($g$)", 0.4 / k, 0.1),
            GapDone("validation", "decision", "DemographicParity($g$)", 0.5 / k, 0.1),
        )

    figures = (0.9, 0.5, 0.7)
    return History(tuple(EpochDone(k, 1.0 / k, figures[k - 1], k != 3, 0.1, 0.0, gaps(k)) for k in (1, 2, 3)))


def legend_of(axes: Any) -> list[Any]:
    return list(axes.get_legend().get_texts())


def lines(axes: Any) -> list[list[float]]:
    return [list(map(float, line.get_ydata())) for line in axes.get_lines()]


def test_a_history_of_losses() -> None:
    axes = fo.plot.history(run())
    assert lines(axes) == [[1.0, 0.5, pytest.approx(1 / 3)], [0.9, 0.5, 0.7], [0.5]]
    assert [text.get_text() for text in legend_of(axes)] == ["training loss", "validation", "best: epoch 2"]
    assert axes.get_xlabel() == "epoch"
    blind = History(tuple(EpochDone(k, 1.0, None, False, 0.1, 0.0) for k in (1, 2)))
    assert lines(fo.plot.history(blind)) == [[1.0, 1.0]]


def test_a_history_of_gaps() -> None:
    _, given = pyplot.subplots()
    axes = fo.plot.history(run(), what="gaps", axes=given)
    assert axes is given
    assert lines(axes)[:3] == [[pytest.approx(top / k) for k in (1, 2, 3)] for top in (0.3, 0.4, 0.5)]
    assert lines(axes)[3] == [0.1, 0.1]
    words = [text.get_text() for text in legend_of(axes)]
    assert words == [f"DemographicParity($g$), {rest}" for rest in ("scores, training", "scores, validation", "decisions, validation")]
    assert not any(text.get_parse_math() for text in legend_of(axes))
    axes.figure.canvas.draw()


def audited() -> fo.Audit:
    rng = np.random.default_rng(0)
    g = np.array(["$x_", "b", "c"] * 40)
    targets = (rng.random(120) < 0.5).astype(int)
    targets[g == "c"] = 0  # nobody of whom a true positive rate could be said
    return fo.audit(rng.random(120), PARITY, sensitive_features={"g": g}, targets=targets, draws=100)


@pytest.mark.parametrize("measure", ["selection_rate", "true_positive_rate", "mean_score"])
def test_the_groups_of_an_audit(measure: str) -> None:
    audit = audited()
    axes = fo.plot.groups(audit, "g", measure=measure)
    rows = [row for row in audit.groups if row["measure"] == measure]
    shown = [row for row in rows if row["attribute"] == "g"]
    dots = [float(line.get_xdata()[0]) for line in axes.get_lines() if line.get_marker() == "o"]
    assert dots == [row["value"] for row in shown if row["value"] is not None]
    bars = [tuple(map(float, line.get_xdata())) for line in axes.get_lines() if line.get_marker() != "o"]
    assert bars == [*((row["low"], row["high"]) for row in shown if row["low"] is not None), (rows[0]["value"], rows[0]["value"])]
    ticks = [label.get_text() for label in axes.get_yticklabels()]
    assert ticks[0].startswith(f"$x_ (n = {shown[0]['n']})")
    assert ("not defined" in ticks[2]) == (measure == "true_positive_rate")
    axes.figure.canvas.draw()


def test_a_trade_off() -> None:
    points = [
        {"tolerance": 0.1, "gap": 0.08, "score": 0.9, "gap_error": 0.01, "score_error": 0.02},
        {"tolerance": 0.01, "gap": 0.02, "score": 0.8, "gap_error": 0.01, "score_error": 0.02},
    ]
    axes = fo.plot.trade_off(points)
    assert list(axes.get_lines()[0].get_xdata()) == [0.02, 0.08]
    assert list(axes.get_lines()[0].get_ydata()) == [0.8, 0.9]
    assert [text.get_text() for text in axes.texts] == ["0.01", "0.1"]
    assert len(axes.containers[0].lines[2]) == 2  # both errors
    assert len(fo.plot.trade_off([{"tolerance": 0.1, "gap": 0.1, "score": 1}]).containers[0].lines[2]) == 0


def test_a_trade_off_of_an_estimator() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    table = pd.DataFrame({"u": rng.normal(size=400), "sex": rng.choice(["f", "m"], 400)})
    table["u"] += 2 * (table["sex"] == "m")
    y = (table["u"] + rng.normal(size=400) > 1).to_numpy()
    model = fo.FairPostprocessor(LogisticRegression(), fo.DemographicParity, sensitive_columns="sex", random_state=0)
    found = trade_off(model, table[:300], y[:300], tolerances=[0.0, 0.2, 0.9], X_test=table[300:], y_test=y[300:])
    gap, score = found["gap"], found["score"]
    assert gap[0] < gap[1] < gap[2]
    assert score[0] < score[2]
    by_hand = model.set_params(tolerance=0.2).fit(table[:300], y[:300])
    assert (gap[1], score[1]) == (by_hand.gaps(table[300:])["gap"][0], by_hand.score(table[300:], y[300:]))
    assert len(fo.plot.trade_off(found).texts) == 3
    with pytest.raises(fo.InputError, match="with a tolerance"):
        trade_off(LogisticRegression(), table, y, tolerances=[0.1], X_test=table, y_test=y)


BAD: list[tuple[str, Any]] = [
    ("what: got 'all'", lambda: fo.plot.history(run(), what="all")),
    ("without an epoch", lambda: fo.plot.history(History())),
    ("without gaps", lambda: fo.plot.history(History((EpochDone(1, 0.1, None, False, 0.1, 0.0),)), what="gaps")),
    ("attribute: got 'h'", lambda: fo.plot.groups(audited(), "h")),
    ("measure: got 'f1'", lambda: fo.plot.groups(audited(), measure="f1")),
    ("points: got none", lambda: fo.plot.trade_off([])),
    ("without 'score'", lambda: fo.plot.trade_off([{"tolerance": 0.1, "gap": 0.1}])),
    ("axes: got int", lambda: fo.plot.history(run(), axes=3)),
]


@pytest.mark.parametrize(("words", "call"), BAD, ids=[words for words, _ in BAD])
def test_what_is_refused(words: str, call: Any) -> None:
    with pytest.raises(fo.InputError, match=words):
        call()


def test_it_imports_matplotlib_when_it_draws() -> None:
    code = "import sys, fairopt as fo; fo.plot.history; assert 'matplotlib' not in sys.modules and 'sklearn' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
