"""Audits of data sets in files: of sums, the figures of all rows at once; what sums do not tell is refused by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import fairopt as fo
from fairopt.auditing.intervals import ADDED, BOOTSTRAP, BY_SUMS, EXACT
from fairopt.cli.app import build


def people(n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "race": rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1]),
            "sex": rng.choice(["f", "m"], n),
            "code": rng.integers(3, 6, n),
            "y": rng.integers(0, 2, n),
            "stars": rng.integers(1, 6, n),
            "income": rng.normal(0.4, 0.2, n),
            "age": rng.normal(40.0, 9.0, n),
            "chosen": rng.integers(0, 2, n),
        }
    )
    frame["p"] = np.clip(rng.beta(2, 3, n) + 0.2 * (frame.race == "a") - 0.1 * (frame.sex == "f"), 0.0, 1.0)
    return frame


def write(frame: pd.DataFrame, folder: Path, cuts: list[int], kind: str) -> Path:
    folder.mkdir(parents=True)
    for k, (a, b) in enumerate(zip([0, *cuts], [*cuts, len(frame)], strict=True)):
        part, path = frame.iloc[a:b], folder / f"part-{k:03}.{kind}"
        part.to_parquet(path, row_group_size=97) if kind == "parquet" else part.to_csv(path, index=False)
    return folder


def figures(found: fo.Audit) -> dict[str, Any]:
    """All of it but intervals that only rows can have."""
    return cut(found.to_dict())


def cut(told: dict[str, Any]) -> dict[str, Any]:
    told["notes"] = [note for note in told["notes"] if "rows_at_once" not in note]
    for rows in told["tables"].values():
        for row in rows:
            of_rows = row.get("quantity") == "score" or row.get("measure") in ("mean_score", "mean_residual", "mean_squared_error")
            rates = (EXACT, ADDED) if of_rows else ()  # where scores happen to be 0 or 1
            ends = ("too few", "no spread in a group", "too few distinct values", "beyond float64")
            if row.get("interval") in (BOOTSTRAP, BY_SUMS, *rates) or row.get("interval", "").endswith(ends):
                row.update(low=None, high=None, interval=BY_SUMS, **({"population": ""} if "population" in row else {}))
    for row in told["tables"]["summary"]:
        if row["quantity"] == "score" or "esidual" in row["notion"]:
            row.update(low=None, high=None)
    return told


CASES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "parity": (lambda: fo.DemographicParity("race", tolerance=0.03), {}),
    "several": (lambda: [fo.DemographicParity(("sex", "race"), tolerance=0.05), fo.ImpactRatio("code", ratio=0.9)], {}),
    "overall": (lambda: fo.DemographicParity("race", tolerance=0.02, to="overall"), {"threshold": 0.6}),
    "strata": (lambda: fo.DemographicParity("sex", tolerance=0.02, given="race"), {"decision": "chosen"}),
    "odds": (lambda: fo.EqualizedOdds("race", tolerance=0.03), {"target": "y"}),
    "odds of a word": (lambda: fo.EqualizedOdds("race", tolerance=0.03), {"target": "sex", "pos_label": "f"}),
    "residuals": (lambda: fo.MeanResidual("race", tolerance=0.02), {"target": "y", "decision": "chosen"}),
    "residuals of few": (lambda: fo.ResidualParity("race", tolerance=0.02), {"target": "stars"}),
    "residuals of many": (lambda: fo.MeanResidual("race", tolerance=0.02) & fo.GroupMeanBound("sex", lower=0.4), {"target": "income"}),
    "groups that are shown": (
        lambda: fo.DemographicParity("race", tolerance=0.03),
        {"attributes": ["code", ("race", "sex")], "target": "y"},
    ),
}


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("case", CASES)
def test_sums_give_the_figures_of_all_rows(case: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, kw = CASES[case]
    if case == "residuals of many":
        monkeypatch.setattr("fairopt.datasets.survey.MOST", 40)  # too many targets to tell rows apart by them
    source = write(people(900), tmp_path / "in", [100, 633], kind)
    by_sums, by_rows = (fo.audit_dataset(source, make(), score="p", draws=200, rows_at_once=limit, **kw) for limit in (899, 900))
    assert any("rows_at_once" in note for note in by_sums.notes)
    assert not any("rows_at_once" in note for note in by_rows.notes)
    assert figures(by_sums) == figures(by_rows)
    assert str(by_sums).splitlines()[0] == "audit of 900 samples"


@pytest.mark.parametrize("case", ["parity", "strata", "odds"])
def test_scores_that_are_rates_have_their_intervals_on_both_roads(case: str, tmp_path: Path) -> None:
    """Scores of 0 and 1 are counts: the sums tell them, but where a group's decisions are others than its scores."""
    make, kw = CASES[case]
    frame = people(900)
    frame["p"] = (frame.p > 0.5).astype(float)
    source = write(frame, tmp_path / "in", [100, 633], "parquet")
    by_sums, by_rows = (fo.audit_dataset(source, make(), score="p", draws=200, rows_at_once=limit, **kw) for limit in (899, 900))
    assert figures(by_sums) == figures(by_rows)
    told = [[row for row in found.to_dict()["tables"]["gaps"] if row["quantity"] == "score"] for found in (by_sums, by_rows)]
    if case == "strata":  # decisions of their own
        assert {row["interval"] for row in told[0]} == {BY_SUMS}
    else:
        assert told[0] == told[1]
        assert {row["interval"] for row in told[0]} == {ADDED}


@pytest.mark.parametrize(
    ("scores", "interval"), [((1.0, 1.0), ADDED), ((1.5, 0.5), BY_SUMS), ((0.75, 0.75), BY_SUMS), ((0.5, 0.5), BY_SUMS)]
)
def test_sums_that_could_be_those_of_rates_are_none(scores: tuple[float, float], interval: str, tmp_path: Path) -> None:
    """1.5 and 0.5 have the sum of two ones, 0.5 and 0.5 that of 1 and 0; each group has the decision 1 alone."""
    frame = pd.DataFrame({"g": ["a", "a", "b", "b"] * 20, "p": [*scores, 1.0, 1.0] * 20})
    frame.to_parquet(tmp_path / "in.parquet")
    found = fo.audit_dataset(tmp_path / "in.parquet", fo.DemographicParity("g", tolerance=0.9), score="p", rows_at_once=0)
    assert [row["interval"] for row in found.to_dict()["tables"]["gaps"]] == [interval, ADDED]


def test_all_rows_are_those_of_the_function(tmp_path: Path) -> None:
    frame, notion = people(300), fo.EqualizedOdds(("race", "sex"), tolerance=0.03)
    source = write(frame, tmp_path / "in", [100], "csv")
    for limit, of in ((300, lambda found: found.to_dict()), (0, figures)):
        found = fo.audit_dataset(source, notion, score="p", target="y", draws=200, rows_at_once=limit)
        direct = fo.audit(frame.p, notion, sensitive_features=frame[["race", "sex"]], targets=frame.y, draws=200)
        assert of(found) == of(direct)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_drawn_tables(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Groups that are missing, absent from a file or alone, scores of any size, empty files."""
    n = data.draw(st.integers(1, 40))
    numbers = st.one_of(st.floats(-1e3, 1e3), st.sampled_from([0.0, -0.0, 0.5, 5e-324, 1e100, -1e100]))
    frame = pd.DataFrame(
        {
            "p": data.draw(st.lists(numbers, min_size=n, max_size=n)),
            "g": data.draw(st.lists(st.sampled_from(["a", "b", "é", None]), min_size=n, max_size=n)),
            "h": data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)),
            "y": data.draw(st.lists(st.integers(0, data.draw(st.integers(0, 2))), min_size=n, max_size=n)),
        }
    ).astype({"p": float, "g": object})
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=3)))
    source = write(frame, tmp_path_factory.mktemp("drawn") / "in", cuts, "csv")
    notion = data.draw(st.sampled_from([fo.DemographicParity(("g", "h"), tolerance=0.1), fo.MeanResidual("g", tolerance=0.1)]))
    kw: dict[str, Any] = {"score": "p", "target": "y", "missing_group": "own", "draws": 100, "attributes": ["g", ("g", "h")]}
    assert figures(fo.audit_dataset(source, notion, rows_at_once=0, **kw)) == figures(fo.audit_dataset(source, notion, **kw))


def test_what_sums_do_not_tell_is_refused_by_name(tmp_path: Path) -> None:
    source = write(people(200), tmp_path / "in", [100], "parquet")
    refused: list[tuple[fo.Notion, dict[str, Any], str]] = [
        (fo.ScoreCovariance("age", tolerance=0.5), {}, r"ScoreCovariance\('age', tolerance=0.5\) weighs each row by 'age'"),
        (fo.DemographicParity("sex", tolerance=0.1), {"local_law": ("sex", "race")}, "local_law needs the median of all scores"),
    ]
    for notion, kw, words in refused:
        with pytest.raises(fo.UnsupportedError, match=words + ".* more than 199 rows; pass a larger rows_at_once= to load them all"):
            fo.audit_dataset(source, notion, score="p", rows_at_once=199, **kw)
        assert fo.audit_dataset(source, notion, score="p", draws=100, rows_at_once=200, **kw).n == 200


@pytest.mark.parametrize("limit", [0, 1000])
def test_bad_input_is_named(limit: int, tmp_path: Path) -> None:
    frame = people(200)
    frame.loc[150, "p"] = np.nan
    source = write(frame, tmp_path / "in", [100], "csv")
    notion = fo.DemographicParity("race", tolerance=0.1)

    def error(**kw: Any) -> str:
        with pytest.raises(fo.InputError) as caught:
            fo.audit_dataset(source, notion, **{"score": "p", "rows_at_once": limit, **kw})
        return str(caught.value)

    assert error().endswith("part-001.csv: line 52: column 'p' is missing (1 such rows of the first 100)")
    assert "expected 0 or 1" in error(score="age", decision="stars")
    assert "has no column 'q'" in error(score="q")
    assert "outside 0, 1" in error(score="age", bounds=(0, 1))
    assert "threshold: got nan" in error(score="age", threshold=float("nan"))
    with pytest.raises(fo.InputError, match="pass target="):
        fo.audit_dataset(source, fo.EqualOpportunity("race", tolerance=0.1), score="age", rows_at_once=limit)
    people(10).drop(columns="sex").to_csv(source / "part-002.csv", index=False)
    assert "part-002.csv: other columns than" in error(score="age")


def test_the_command(tmp_path: Path) -> None:
    """A folder, a pattern, and one file of more rows than are loaded at once."""
    frame = people(300)
    frame.loc[::7, "race"] = np.nan
    source, one = write(frame, tmp_path / "in", [100], "csv"), tmp_path / "one.csv"
    frame.to_csv(one, index=False)
    asked = ["--score", "p", "--sensitive", "race", "--sensitive", "sex,race", "--target", "y", "--missing-group", "own", "--draws", "100"]
    asked += ["--notion", "equalized_odds"]
    told = {}
    files: dict[str, list[str | Path]] = {
        "loaded": [source], "pattern": [tmp_path / "in" / "*.csv", "--rows-at-once", "300"], "summed": [source, "--rows-at-once", "299"],
        "one": [one], "one summed": [one, "--rows-at-once", "0"],
    }  # fmt: skip
    for name, words in files.items():
        written = ["--json", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html")]
        done = CliRunner().invoke(build(), ["audit", *map(str, words), *asked, *written])
        assert done.exit_code == 0, done.output
        told[name] = json.loads((tmp_path / "a.json").read_text())
        assert ("larger --rows-at-once loads them all" in done.output) == name.endswith("summed")
    assert told["loaded"] == told["pattern"] == told["one"]
    assert told["summed"]["tables"] == told["one summed"]["tables"]
    assert cut(told["loaded"]) == cut(told["summed"])
    assert told["one"]["data_hash"] == told["one summed"]["data_hash"]
    done = CliRunner().invoke(build(), ["audit", str(source), *asked, "--rows-at-once", "5", "--local-law", "sex,race"])
    assert isinstance(done.exception, fo.UnsupportedError)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that memory has no room for are in a folder that goes with the audit."""
    monkeypatch.setattr("fairopt.datasets.kept.MEMORY", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("fairopt.datasets.kept.Room.take", lambda self, size: False)
    source = write(people(400), tmp_path / "in", [100], "parquet")
    kw: dict[str, Any] = {"score": "p", "target": "income", "draws": 100}
    monkeypatch.setattr("fairopt.datasets.survey.MOST", 40)
    found = fo.audit_dataset(source, fo.MeanResidual("race", tolerance=0.1), rows_at_once=0, **kw)
    assert os.listdir(tmp_path) == ["in"]
    assert figures(found) == figures(fo.audit_dataset(source, fo.MeanResidual("race", tolerance=0.1), **kw))
