"""Fair regression on a drawn data set: limits that need no target hold exactly, no held-out target takes part, finished cells are kept."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import fairopt as fo
from fairopt.experiments.data.tabular import Dataset, Parts, split
from fairopt.experiments.methods.base import Recipe
from fairopt.experiments.methods.layer import Layer
from fairopt.experiments.methods.projection import Projection
from fairopt.experiments.methods.references import Constant, Linear, LinearProjected
from fairopt.experiments.report import Run, of
from fairopt.experiments.reproduce import Progress, Result, Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies import communities, law, regression
from fairopt.experiments.studies.regression import PENALTY, Question, Study, study

MEANS = Question("Equal means", lambda t: fo.DemographicParity("g", tolerance=t), 0.1, (0.0, 0.3), "gap")
SHARE = Question("Covariance", lambda t: fo.ScoreCovariance("s", tolerance=t), 0.003, (), "covariance")
ERRORS = Question("Equal errors", lambda t: fo.ResidualParity("g", tolerance=t), 0.05, (), "gap of errors")
EXACT = (LinearProjected().name, Projection().name, Layer().name)
SEEDS = (0, 1)


def _drawn(path: Path | None) -> Dataset:
    """A target that follows the group and the share."""
    generator = np.random.default_rng(0)
    x, share = generator.normal(size=(300, 3)), generator.random(300)
    group = np.where(generator.random(300) < 0.3, "a", "b")
    target = x[:, 0] + (group == "a") + share + 0.3 * generator.normal(size=300)
    features = np.column_stack([x, share + (group == "a") + 0.1 * generator.normal(size=300)])
    return Dataset("drawn", features, ("p", "q", "r", "t"), target, {"g": group, "s": share}, "regression")


STUDY = Study(
    "Drawn", "300 rows.", _drawn, ("g",), (MEANS, SHARE, ERRORS), Recipe(hidden=(8,), dropout=0.0, epochs=4, batch_size=None), None, "0"
)


def _run(path: Path | None = None, heard: list[Progress] | None = None) -> tuple[Result, list[Run]]:
    with Store(path, "drawn") as store:
        result = study(STUDY, Settings("drawn", seeds=SEEDS), store, (heard if heard is not None else []).append)
        return result, [{**key, **record} for key, record in store]


@pytest.fixture(scope="module")
def done() -> tuple[Result, list[Run]]:
    return _run()


def test_limits_without_targets_hold_exactly_at_every_tolerance(done: tuple[Result, list[Run]]) -> None:
    for question in (MEANS, SHARE):
        for method in EXACT:
            found = of(done[1], question=question.title, method=method)
            assert {run["tolerance"] for run in found} == {question.at, *question.sweep}
            for run in found:
                assert run["met"]
                assert run["violation"] == 0
                assert run["gap"] <= run["tolerance"] + 1e-6
        for run in of(done[1], question=question.title, method=Linear().name):
            assert not run["met"]
            assert run["violation"] == pytest.approx(run["gap"] - question.at)


def test_the_table_has_every_method_once_and_its_means(done: tuple[Result, list[Run]]) -> None:
    for section, question in zip(done[0].sections, (MEANS, SHARE, ERRORS), strict=True):
        names = [Constant().name, Linear().name, LinearProjected().name, "plain network", Projection().name, PENALTY, Layer().name]
        assert list(section.rows["method"]) == names
        for row in section.rows:
            if row["method"] == PENALTY:
                continue
            runs = of(done[1], question=question.title, method=row["method"], tolerance=question.at)
            assert row["mean squared error"] == pytest.approx(np.mean([run["mse"] for run in runs]))
            assert row["limits met"] == f"{sum(run['met'] for run in runs)} of 2"
        assert any(line.startswith(f"{Layer().name} minus {LinearProjected().name}: ") for line in section.verdicts)
        assert section.picture is not None


def test_the_penalty_is_the_least_that_keeps_the_limit_on_validation(done: tuple[Result, list[Run]]) -> None:
    fallbacks = 0
    for section, question in zip(done[0].sections, (MEANS, SHARE, ERRORS), strict=True):
        chosen = []
        for seed in SEEDS:
            runs = sorted(of(done[1], question=question.title, method=PENALTY, seed=seed), key=lambda run: run["strength"])
            assert [run["strength"] for run in runs] == list(regression.STRENGTHS)
            kept = [run for run in runs if run["validation"]["met"]]
            fallbacks += not kept
            chosen.append(kept[0] if kept else min(runs, key=lambda run: run["validation"]["gap"]))
        (row,) = [row for row in section.rows if row["method"] == PENALTY]
        assert row["mean squared error"] == pytest.approx(np.mean([run["mse"] for run in chosen]))
    assert 0 < fallbacks < 6  # both ways are tried


def test_a_penalised_network_stays_in_its_box() -> None:
    x = torch.tensor([[-1.0], [0.5], [2.0]])
    raw = regression._clamped(lambda x, sensitive: x[:, 0], None)
    boxed = regression._clamped(lambda x, sensitive: x[:, 0], (0.0, 1.0))
    assert raw(x, {}).tolist() == [-1.0, 0.5, 2.0]
    assert boxed(x, {}).tolist() == [0.0, 0.5, 1.0]


def test_no_held_out_target_takes_part(done: tuple[Result, list[Run]], monkeypatch: pytest.MonkeyPatch) -> None:
    """With other held-out targets every prediction stays: gaps without targets are the same, errors are not."""

    def other(data: Dataset, seed: int, stratify: tuple[str, ...]) -> Parts:
        parts = split(data, seed, stratify=stratify)
        return dataclasses.replace(parts, held_out=dataclasses.replace(parts.held_out, y=parts.held_out.y + 1000))

    monkeypatch.setattr(regression, "split", other)
    for before, after in zip(done[1], _run()[1], strict=True):
        assert before["validation"] == after["validation"]
        assert after["mse"] > 1e5
        if before["question"] != ERRORS.title:
            assert before["gap"] == after["gap"]
        else:  # all errors move together: a gap between groups stays, up to rounding of float32 targets
            assert before["gap"] == pytest.approx(after["gap"], abs=1e-3)


def test_finished_cells_are_taken_and_progress_counts_to_the_end(
    done: tuple[Result, list[Run]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = _run(tmp_path / "a.jsonl")
    monkeypatch.setattr(regression._Work, "_figures", lambda *_: pytest.fail("a finished cell was worked out again"))
    heard: list[Progress] = []
    again, _ = _run(tmp_path / "a.jsonl", heard)
    assert [s.rows for s in again.sections] == [s.rows for s in first.sections] == [s.rows for s in done[0].sections]
    for title in (MEANS.title, SHARE.title, ERRORS.title):
        counted = [now for now in heard if now.label == title]
        assert [now.done for now in counted] == list(range(1, counted[0].total + 1))


@pytest.mark.parametrize("name", ["communities", "law"])
def test_the_two_experiments_run_on_their_data(name: str) -> None:
    if not os.environ.get("FAIROPT_DATA"):
        pytest.skip("FAIROPT_DATA is not set")
    experiment = {"communities": communities, "law": law}[name]
    with Store(None, name) as store:
        result = experiment.run(Settings(name, quick=True), store, lambda _: None)
    for section, question in zip(result.sections, experiment.STUDY.questions, strict=True):
        if question.make(question.at).needs_targets:
            continue
        met = dict(zip(section.rows["method"], section.rows["limits met"], strict=True))
        assert {met[method] for method in EXACT} == {"1 of 1"}
