"""The loanapp experiment: what is promised holds on held-out applications, and no held-out target takes part in it."""

from __future__ import annotations

import dataclasses

import pytest

from fairopt.experiments import loanapp
from fairopt.experiments.data.tabular import Dataset, Parts, split
from fairopt.experiments.loanapp import AFTERWARDS, CONSTANT, INSIDE, LOGISTIC, LOGISTIC_PROJECTED, PLAIN, Progress, Report, Settings
from fairopt.experiments.report import Figure, Row

QUICK = Settings().quick()
FIGURES: dict[str, Figure] = {"log loss": "log_loss", "accuracy": "accuracy", "AUC": "auc", "decision gap": "decision_gap"}


@pytest.fixture(scope="module")
def heard() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def report(heard: list[Progress]) -> Report:
    return loanapp.run(QUICK, heard.append)


def test_each_row_stands_once_references_first(report: Report) -> None:
    assert [row.method for row in report.rows] == [CONSTANT, LOGISTIC, LOGISTIC_PROJECTED, PLAIN, AFTERWARDS, INSIDE]
    assert [row.reference for row in report.rows] == [True] * 3 + [False] * 3
    assert report.counts == {"white": 336, "black": 40, "hispan": 22}


@pytest.mark.parametrize("method", [LOGISTIC_PROJECTED, AFTERWARDS, INSIDE])
def test_what_is_promised_is_certified_and_holds(report: Report, method: str) -> None:
    row = report.row(method)
    assert row.certified() == (1, 1)
    assert row.worst_violation() == 0
    (gap,) = row.values("score_gap")
    assert gap <= QUICK.tolerance + 1e-12


def test_without_a_promise_the_gap_itself_is_the_violation(report: Report) -> None:
    for method in (LOGISTIC, PLAIN):
        row = report.row(method)
        assert row.certified() is None
        assert row.worst_violation() == pytest.approx(row.values("score_gap")[0] - QUICK.tolerance)
        assert not row.fair()
    assert report.row(CONSTANT).values("score_gap") == (0.0,)


def test_every_epoch_of_every_network_is_reported_once(report: Report, heard: list[Progress]) -> None:
    assert heard == [Progress(method, 0, done, 50) for method in loanapp.TRAINED for done in range(1, 51)]


def test_the_verdicts_carry_the_differences(report: Report) -> None:
    inside = report.row(INSIDE)
    for said, rival in zip(report.verdicts, (AFTERWARDS, LOGISTIC_PROJECTED), strict=True):
        assert said.startswith(f"{INSIDE} minus {rival}: ")
        for name, figure in FIGURES.items():
            difference = inside.values(figure)[0] - report.row(rival).values(figure)[0]
            assert f"{name} {difference:+.3f} (not clear)" in said  # one seed shows nothing


@pytest.mark.parametrize(
    ("figure", "shift", "said"),
    [
        ("accuracy", 0.1, "accuracy +0.100 ± 0.000 (wins)"),
        ("accuracy", -0.1, "accuracy -0.100 ± 0.000 (loses)"),
        ("log_loss", -0.1, "log loss -0.100 ± 0.000 (wins)"),
        ("decision_gap", 0.1, "decision gap +0.100 ± 0.000 (loses)"),
        ("auc", 0.0, "AUC +0.000 ± 0.000 (not clear)"),
    ],
)
def test_who_wins_is_read_off_the_figures(report: Report, figure: str, shift: float, said: str) -> None:
    run = report.row(AFTERWARDS).runs[0]
    moved = dataclasses.replace(run, **{figure: getattr(run, figure) + shift})
    rows = [report.row(LOGISTIC_PROJECTED), Row(AFTERWARDS, (run, run)), Row(INSIDE, (moved, moved))]
    assert said in loanapp._verdicts(rows)[0]


def test_no_held_out_target_takes_part(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every held-out answer turned round, all figures that need no answer stay as they are, and the others do not."""

    def turned(data: Dataset, seed: int) -> Parts:
        parts = split(data, seed)
        return dataclasses.replace(parts, held_out=dataclasses.replace(parts.held_out, y=1 - parts.held_out.y))

    monkeypatch.setattr(loanapp, "split", turned)
    other = loanapp.run(QUICK)
    for before, after in zip(report.rows, other.rows, strict=True):
        assert before.runs[0].means == after.runs[0].means
        assert before.values("decision_gap") == after.values("decision_gap")
        assert before.values("accuracy")[0] == pytest.approx(1 - after.values("accuracy")[0])
