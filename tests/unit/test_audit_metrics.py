"""A user's metrics in an audit, against fairlearn's MetricFrame; and what a notebook shows."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, roc_auc_score

import fairopt as fo
from fairopt.auditing import Metric

PARITY = fo.DemographicParity("g", tolerance=0.1)
OFF: dict[str, Any] = {"draws": 100}


def drawn(seed: int, n: int = 120) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(seed)
    p, g = rng.random(n), rng.choice(["a", "b", "c"], n)
    return p, g, (rng.random(n) < p).astype(int), rng.integers(1, 5, n).astype(float)


def by_group(audit: fo.Audit, measure: str) -> dict[str, Any]:
    return {row["group"]: row["value"] for row in audit.groups if row["measure"] == measure}


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_they_are_those_of_fairlearn(seed: int, weighted: bool) -> None:
    fairlearn = pytest.importorskip("fairlearn.metrics")
    p, g, y, w = drawn(seed)
    weights = {"sample_weight": w} if weighted else {}
    found = fo.audit(
        p,
        PARITY,
        sensitive_features={"g": g},
        targets=y,
        metrics={"f1": f1_score, "auc": Metric(roc_auc_score, of="score")},
        **weights,
        **OFF,
    )
    for name, function, values in (("f1", f1_score, (p >= 0.5).astype(int)), ("auc", roc_auc_score, p)):
        frame = fairlearn.MetricFrame(
            metrics=function, y_true=y, y_pred=values, sensitive_features=g, sample_params=weights or None
        )  # fmt: skip
        mine = by_group(found, name)
        assert mine.pop("overall") == pytest.approx(frame.overall, abs=1e-12)
        assert mine == pytest.approx(frame.by_group.to_dict(), abs=1e-12)
        (spread,) = [row for row in found.spread if row["measure"] == name]
        assert spread["difference"] == pytest.approx(frame.difference(), abs=1e-12)
        assert spread["ratio"] == pytest.approx(frame.ratio(), abs=1e-12)


def test_a_group_of_which_it_says_nothing() -> None:
    p, g, y, _ = drawn(0)
    y[g == "b"] = 1

    def strict(targets: Any, values: Any) -> float:
        if len(set(targets)) < 2:
            raise ValueError("one label")
        return float(np.corrcoef(targets, values)[0, 1])

    metrics: dict[str, Any] = {"strict": Metric(strict, of="score"), "nan": lambda t, d: float("nan") if len(set(t)) < 2 else 1.0}
    found = fo.audit(p, PARITY, sensitive_features={"g": g}, targets=y, metrics=metrics, **OFF)
    rows = {row["measure"]: row for row in found.groups if row["group"] == "b" and row["measure"] in metrics}
    assert rows["strict"]["value"] is None
    assert rows["strict"]["interval"] == "not defined: ValueError: one label"
    assert rows["nan"]["value"] is None
    assert rows["nan"]["interval"] == "not defined: nan"
    assert by_group(found, "strict")["a"] is not None
    (spread,) = [row for row in found.spread if row["measure"] == "strict"]
    assert "not defined in b" in spread["note"]
    assert found.settings["metrics"] == {"strict": "score", "nan": "decision"}
    assert "nan" in found.to_json()  # the name; no figure is NaN, which to_json would refuse


def failing(*_: Any) -> float:
    raise KeyError("k")


BAD: list[tuple[str, dict[str, Any]]] = [
    ("expected a mapping", {"metrics": [f1_score]}),
    ("no measure of the audit's own", {"metrics": {"accuracy": f1_score}}),
    ("expected a function", {"metrics": {"f1": 3}}),
    ("failed on all samples: KeyError", {"metrics": {"x": failing}}),
    ("expected one number", {"metrics": {"x": lambda t, d: t}}),
    ("without metrics", {"sample_weight": np.ones(120)}),
    ("shape .120,", {"metrics": {"f1": f1_score}, "sample_weight": np.ones(3)}),
    (">= 0", {"metrics": {"f1": f1_score}, "sample_weight": -np.ones(120)}),
    ("no targets", {"metrics": {"f1": f1_score}, "targets": None}),
]


@pytest.mark.parametrize(("words", "options"), BAD, ids=[words for words, _ in BAD])
def test_what_is_refused(words: str, options: dict[str, Any]) -> None:
    p, g, y, _ = drawn(0)
    with pytest.raises(fo.InputError, match=words):
        fo.audit(p, PARITY, **{"sensitive_features": {"g": g}, "targets": y, **OFF, **options})


def test_a_notebook_shows_text_and_never_markup() -> None:
    p, g, y, _ = drawn(0)
    names = np.where(g == "a", "<script>alert(1)</script>", g)
    found = fo.audit(p, PARITY, sensitive_features={"g": names}, targets=y, metrics={"<b>": precision_score}, **OFF)
    shown = found._repr_html_()
    assert "<script" not in shown
    assert "<b>" not in shown
    assert "&lt;script&gt;" in shown
    assert shown.count("<tr>") == 3 + len(found.summary) + len(found.groups) + len(found.gaps)
    for tag in ("table", "tr", "td", "th", "ul", "li", "details"):
        assert len(re.findall(f"<{tag}[ >]", shown)) == shown.count(f"</{tag}>") > 0
    for check in found.checks:
        assert f"{check.quantity}s: {'every constraint holds' if check.holds else 'broken'} (" in shown
    assert fo.gaps(p, PARITY, sensitive_features={"g": names})._repr_html_().startswith("<table>")
