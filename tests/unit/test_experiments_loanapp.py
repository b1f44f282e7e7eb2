"""The loanapp experiment: what is promised holds on held-out applications, and no held-out target takes part in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fairopt.experiments.data.tabular import Dataset, Parts, split
from fairopt.experiments.methods.layer import Layer
from fairopt.experiments.methods.plain import Plain
from fairopt.experiments.methods.projection import Projection
from fairopt.experiments.methods.references import Constant, Linear, LinearProjected
from fairopt.experiments.report import Run, of
from fairopt.experiments.reproduce import Progress, Section, Settings, reproduce
from fairopt.experiments.store import Store
from fairopt.experiments.studies import loanapp
from fairopt.experiments.studies.loanapp import Setting

QUICK = Setting().quick()
FAIR = (LinearProjected().name, Projection().name, Layer().name)


def _run(heard: list[Progress] | None = None, path: Path | None = None) -> tuple[Section, list[Run]]:
    with Store(path, "loanapp") as store:
        section = loanapp.table(QUICK, store, (heard if heard is not None else []).append)
        return section, [{**key, **record} for key, record in store]


@pytest.fixture(scope="module")
def heard() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def section(heard: list[Progress]) -> tuple[Section, list[Run]]:
    return _run(heard)


def test_each_method_stands_once_references_first(section: tuple[Section, list[Run]], heard: list[Progress]) -> None:
    names = [Constant().name, Linear().name, LinearProjected().name, Plain().name, Projection().name, Layer().name]
    assert list(section[0].rows["method"]) == names
    assert heard == [Progress(name, 1, 1) for name in names]
    assert loanapp.counts(QUICK) == {"black": 40, "hispan": 22, "white": 336}


def test_what_is_promised_holds_exactly(section: tuple[Section, list[Run]]) -> None:
    for run in section[1]:
        promised = run["method"] in (*FAIR, Constant().name)
        assert run["met"] is promised
        assert run["violation"] == (0 if promised else pytest.approx(run["score_gap"] - QUICK.tolerance))
        assert (run["score_gap"] <= QUICK.tolerance + 1e-7) is promised


def test_the_table_has_the_figures_and_the_verdicts_their_differences(section: tuple[Section, list[Run]]) -> None:
    table, runs = section
    for row in table.rows:
        (run,) = of(runs, method=row["method"])
        assert (row["accuracy"], row["AUC"], row["gap of decisions"]) == (run["accuracy"], run["auc"], run["decision_gap"])
    (ours,), (rival,) = of(runs, method=Layer().name), of(runs, method=LinearProjected().name)
    (said,) = [line for line in table.verdicts if line.startswith(f"{Layer().name} minus {LinearProjected().name}: ")]
    for figure in loanapp.FIGURES:
        assert f"{figure.word} {ours[figure.name] - rival[figure.name]:+.4f}, of one seed" in said  # which shows nothing


def test_no_held_out_target_takes_part(section: tuple[Section, list[Run]], monkeypatch: pytest.MonkeyPatch) -> None:
    """With every held-out answer turned round, all figures that need no answer stay as they are, and the others do not."""

    def turned(data: Dataset, seed: int) -> Parts:
        parts = split(data, seed)
        return dataclasses.replace(parts, held_out=dataclasses.replace(parts.held_out, y=1 - parts.held_out.y))

    monkeypatch.setattr(loanapp, "split", turned)
    for before, after in zip(section[1], _run()[1], strict=True):
        for same in ("method", "means", "decision_gap", "score_gap", "violation"):
            assert before[same] == after[same]
        assert before["accuracy"] == pytest.approx(1 - after["accuracy"])


def test_a_second_run_takes_the_finished_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "loanapp-quick.jsonl"
    settings = Settings("loanapp", quick=True)
    first = reproduce(settings, path)
    monkeypatch.setattr(loanapp, "_figures", lambda *_: pytest.fail("a finished cell was worked out again"))
    again = reproduce(settings, path)
    assert first.sections[0].rows == again.sections[0].rows
    assert first.sections[0].verdicts == again.sections[0].verdicts
    assert again.sections[0].picture is not None
    again.sections[0].picture(tmp_path / "seen.png")
    assert (tmp_path / "seen.png").read_bytes()[:4] == b"\x89PNG"
