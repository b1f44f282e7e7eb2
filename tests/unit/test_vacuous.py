"""A batch in which nothing is left to ask for says so: it must not look like a good certificate."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import fairopt as fo
from fairopt.cli.app import build
from fairopt.streaming import PooledParity
from fairopt.testing.claims import Layer, check_claim
from fairopt.training import FairRegressor

PARITY = fo.DemographicParity("g", tolerance=0.05)
ODDS = fo.EqualizedOdds("g", tolerance=0.05)
Z = torch.tensor([0.1, 0.9, 0.4], dtype=torch.float64)
ONE = {"g": ["a", "a", "a"]}
TWO = {"g": ["a", "b", "a"]}


@pytest.mark.parametrize(
    ("notion", "features", "targets"),
    [
        (PARITY, ONE, None),
        (ODDS, TWO, [0, 1, 0]),  # each label has one group
        (fo.DemographicParity("g", tolerance=0.05, given="h"), {**TWO, "h": [0, 1, 0]}, None),
        (fo.DemographicParity("g", tolerance=0.05, to=fo.Reference("z")), ONE, None),
    ],
)
def test_nothing_left_to_ask_is_said_in_certificate_and_warning(notion: Any, features: Any, targets: Any) -> None:
    with pytest.warns(fo.FairoptWarning, match="vacuous: nothing is asked"):
        solution = fo.project(Z, notion, sensitive_features=features, targets=targets, return_solution=True)
    assert solution.certificate.vacuous
    assert solution.certificate.to_dict()["vacuous"] is True
    assert torch.equal(solution.scores, Z)


def test_a_constraint_that_was_checked_is_not_vacuous() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = fo.project(Z, PARITY, sensitive_features=TWO, return_solution=True)
        always_met = fo.project(Z, fo.DemographicParity("g", tolerance=2.0), sensitive_features=TWO, bounds=(0, 1), return_solution=True)
        partly = fo.project(
            Z, fo.DemographicParity("g", tolerance=0.05), sensitive_features=TWO, groups={"g": ["a", "b", "c"]}, return_solution=True
        )
    assert not kept.certificate.vacuous
    assert not always_met.certificate.vacuous
    assert not partly.certificate.vacuous
    assert partly.certificate.dropped


def test_a_layer_warns_once() -> None:
    layer = fo.FairnessLayer(PARITY)
    with pytest.warns(fo.FairoptWarning, match="vacuous"):
        layer(Z, sensitive_features=ONE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(Z, sensitive_features=ONE)
        layer(Z, sensitive_features=TWO)
    assert layer.certificate is not None
    assert not layer.certificate.vacuous
    with pytest.warns(fo.FairoptWarning, match="vacuous"):  # each layer has its own word
        fo.FairnessLayer(PARITY)(Z, sensitive_features=ONE)


def test_every_table_and_page_of_an_audit_says_it(tmp_path: Path) -> None:
    audit = fo.audit(Z, [PARITY, fo.GroupMeanBound("g", upper=2.0)], sensitive_features=ONE)
    assert audit.vacuous
    assert [(c.quantity, c.verdict, c.vacuous) for c in audit.checks] == [
        ("score", "vacuous", True),
        ("score", "holds", False),
        ("decision", "vacuous", True),
        ("decision", "holds", False),
    ]
    assert [row["status"] for row in audit.summary] == ["vacuous", "met"] * 2
    assert "scores: vacuous: nothing to compare (DemographicParity" in str(audit)
    assert any(note == "vacuous: nothing is asked of these scores by DemographicParity" for note in audit.notes)
    kept = json.loads(audit.to_json())
    assert kept["vacuous"] is True
    assert [check["verdict"] for check in kept["checks"]] == ["vacuous", "holds"] * 2
    assert "vacuous: nothing to compare" in audit.to_html(tmp_path / "page.html").read_text(encoding="utf-8").split("Exact check")[1]
    assert "vacuous" in audit.to_csv(tmp_path / "gaps.csv").read_text()
    other = fo.audit(Z, PARITY, sensitive_features=TWO)
    assert not other.vacuous
    assert "vacuous" not in str(other)


def test_the_commands_say_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.csv").write_text("score,g\n0.1,a\n0.9,a\n")
    audit = CliRunner().invoke(build(), ["audit", "one.csv", "--score", "score", "--sensitive", "g"])
    assert audit.exit_code == 0
    assert "DemographicParity('g', tolerance=0.05): vacuous: nothing to compare" in audit.stdout
    stream = CliRunner().invoke(build(), ["stream", "--input", "one.csv", "--sensitive", "g", "--state", "s.db", "--json", "r.json"])
    assert "pooled gap   vacuous" in stream.stderr
    assert json.loads(Path("r.json").read_text())["vacuous"] is True


def test_a_stream_says_it_until_two_groups_have_come() -> None:
    controller = PooledParity(PARITY, bounds=(0, 1))
    controller.step(0.3, sensitive_features="a")
    assert controller.report().vacuous
    assert "gap vacuous" in str(controller.report())
    controller.step(0.4, sensitive_features="b")
    assert not controller.report().vacuous
    assert "vacuous" not in str(controller.report())


def test_an_estimator_says_it_once() -> None:
    frame = pd.DataFrame({"x": np.linspace(0, 1, 40), "g": ["a"] * 40})
    with pytest.warns(fo.FairoptWarning, match="vacuous: nothing is asked") as told:
        FairRegressor(fo.DemographicParity, tolerance=0.1, sensitive_columns=["g"], epochs=1).fit(frame, frame["x"])
    assert [w.filename for w in told if "vacuous" in str(w.message)] == [__file__]  # once, and at the line that called fit


def test_a_claim_about_a_notion_that_asks_nothing_is_left_out_with_the_word() -> None:
    @fo.notion
    def silent(batch: Any, attribute: str, tolerance: float) -> Any:
        return iter([])

    outcome = check_claim("L12", Layer(notion=silent("a", tolerance=0.1)), instances=1, seed=0)
    assert outcome.instances == 0
    assert outcome.skipped.startswith("left out: vacuous")
