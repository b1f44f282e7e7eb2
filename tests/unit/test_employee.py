"""The employee experiment: what is certified holds exactly, and no target of a held-out fold takes part in a prediction."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fairopt.basics.errors import FairoptError
from fairopt.experiments.data import employee as data
from fairopt.experiments.data.files import present
from fairopt.experiments.data.tabular import Dataset, Part
from fairopt.experiments.measure import gap, group_means
from fairopt.experiments.report import Run, of
from fairopt.experiments.reproduce import Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies import employee
from fairopt.experiments.studies import employee_report as report

EPOCHS = 12


def made(n: int = 240, seed: int = 0) -> Dataset:
    """A table of the experiment's kind: five binary columns that are attributes too, three numbers, a target in [0, 1]."""
    draw = np.random.default_rng(seed)
    binary = (draw.random((n, len(data.ATTRIBUTES))) < 0.4).astype(np.float64)
    numbers = draw.normal(size=(n, 3))
    target = np.clip(0.5 + 0.1 * numbers[:, 0] + 0.1 * binary[:, 0] + 0.2 * draw.normal(size=n), 0, 1)
    sensitive = {name: np.where(binary[:, k] == 1, "yes", "no") for k, name in enumerate(data.ATTRIBUTES)}
    names = (*data.ATTRIBUTES.values(), "a", "b", "c")
    return Dataset("employee", np.concatenate([binary, numbers], axis=1), names, target, sensitive, "regression")


@pytest.fixture(scope="module")
def inside() -> list[Run]:
    return employee.in_sample(made(), 0, EPOCHS)["runs"]


@pytest.mark.parametrize("method", [name + suffix for name in (report.LAYER,) for suffix in (report.SGD, report.ADAM)])
def test_in_sample_the_layer_is_certified_on_all_ten(inside: list[Run], method: str) -> None:
    (run,) = of(inside, method=method)
    assert (run["satisfied"], run["constraints"], run["certified"], run["met"]) == (10, 10, True, True)
    assert run["worst"] <= employee.TOLERANCE


def test_a_plain_network_meets_not_all_ten_and_its_projection_does(inside: list[Run]) -> None:
    (plain,) = of(inside, method=report.PLAIN + report.SGD)
    (projected,) = of(inside, method=report.PLAIN + report.SGD + report.PROJECTED)
    assert plain["satisfied"] < 10
    assert plain["certified"] is None
    assert not plain["met"]
    assert projected["satisfied"] == 10
    assert projected["certified"]


def test_least_squares_is_scikit_learns_and_has_no_mean_residual(inside: list[Run]) -> None:
    from sklearn.linear_model import LinearRegression

    table = made()
    (run,) = of(inside, method=report.LINEAR)
    features = table.features.astype(np.float32).astype(np.float64)
    target = table.target.astype(np.float32).astype(np.float64)
    theirs = LinearRegression().fit(features, target).predict(features)
    assert run["mse"] == pytest.approx(((theirs - target) ** 2).mean(), rel=1e-6)
    assert run["worst"] < 1e-12


def test_constant_is_the_variance(inside: list[Run]) -> None:
    assert of(inside, method=report.CONSTANT)[0]["mse"] == pytest.approx(made().target.var(), rel=1e-6)


def captured(monkeypatch: pytest.MonkeyPatch, table: Dataset, rest: employee.Rows, fold: employee.Rows) -> dict[str, Tensor]:
    """Method -> what it predicts for the fold."""
    values: list[Tensor] = []

    def note(said: Tensor, part: Part, certified: bool | None) -> dict[str, Any]:
        values.append(said.clone())
        return {}

    with monkeypatch.context() as patched:
        patched.setattr(employee, "figures", note)
        runs = employee.held_out(table, rest, fold, 0, EPOCHS)["runs"]
    return {run["method"]: z for run, z in zip(runs, values, strict=True)}


def test_no_target_of_the_fold_takes_part(monkeypatch: pytest.MonkeyPatch) -> None:
    table = made()
    rest, fold = next(employee.folds(len(table), 0))
    target = table.target.copy()
    target[fold] = 1 - target[fold]
    before = captured(monkeypatch, table, rest, fold)
    after = captured(monkeypatch, dataclasses.replace(table, target=target), rest, fold)
    assert before.keys() == after.keys()
    assert len(before) == 8
    for method, values in before.items():
        assert torch.equal(values, after[method]), method


def test_one_row_of_the_fold_changes_nothing_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen shifts and an encoder that saw the other rows: a prediction is a function of its own row."""
    table = made()
    rest, fold = next(employee.folds(len(table), 0))
    features = table.features.copy()
    features[fold[0]] += 3.0
    before = captured(monkeypatch, table, rest, fold)
    after = captured(monkeypatch, dataclasses.replace(table, features=features), rest, fold)
    moved = [method for method, values in before.items() if values[0] != after[method][0]]
    assert report.LAYER_SHIFTED in moved
    for method, values in before.items():
        assert torch.equal(values[1:], after[method][1:]), method


@given(n=st.integers(5, 60), seed=st.integers(0, 1000))
def test_folds_cut_all_rows_once(n: int, seed: int) -> None:
    cuts = list(employee.folds(n, seed))
    assert sorted(np.concatenate([fold for _, fold in cuts]).tolist()) == list(range(n))
    for rest, fold in cuts:
        assert sorted([*rest.tolist(), *fold.tolist()]) == list(range(n))
    for (rest, fold), (again, same) in zip(cuts, employee.folds(n, seed), strict=True):
        assert (rest == again).all()
        assert (fold == same).all()


def test_a_residual_is_judged_exactly() -> None:
    """One number in each group: at the tolerance it counts, one unit in the last place above it does not."""
    groups = np.array(["no", "yes"])
    above = np.nextafter(employee.TOLERANCE, 1.0)
    part = Part(torch.zeros(2, 1), torch.zeros(2), {"sex": groups})
    assert employee.figures(torch.tensor([employee.TOLERANCE, -employee.TOLERANCE], dtype=torch.float64), part, None)["satisfied"] == 2
    found = employee.figures(torch.tensor([above, 0.0], dtype=torch.float64), part, None)
    assert (found["satisfied"], found["met"], found["worst"]) == (1, False, above)


@given(seed=st.integers(0, 10_000), n=st.integers(2, 40))
def test_group_means_are_exact(seed: int, n: int) -> None:
    draw = np.random.default_rng(seed)
    values = torch.from_numpy(draw.normal(size=n) * 10.0 ** draw.integers(-8, 8, n))
    groups = np.array(["a", "b"])[np.r_[0, 1, draw.integers(0, 2, n - 2)]]
    means = group_means(values, groups)
    for name, mean in means.items():
        own = [Fraction(v) for v, g in zip(values.tolist(), groups, strict=True) if g == name]
        assert mean == sum(own) / len(own)
    assert gap(values, groups) == abs(means["a"] - means["b"])


def test_a_finished_cell_is_not_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data, "load", lambda path: made())
    settings = Settings("employee", quick=True)
    monkeypatch.setattr(employee, "QUICK_EPOCHS", 3)

    def never(*_: object) -> dict[str, list[Run]]:
        raise AssertionError("made again")

    with Store(tmp_path / "cells.jsonl", "employee") as store:
        first = employee.run(settings, store, lambda _: None)
    for work in ("in_sample", "held_out", "one_sweep"):
        monkeypatch.setattr(employee, work, never)
    with Store(tmp_path / "cells.jsonl", "employee") as store:
        second = employee.run(settings, store, lambda _: None)
    assert [s.rows for s in first.sections] == [s.rows for s in second.sections]
    assert first.sections[0].paper is not None
    picture = tmp_path / "sweep.png"
    assert first.sections[2].picture is not None
    first.sections[2].picture(picture)
    assert picture.read_bytes()[:4] == b"\x89PNG"


def runs_of(mine: list[float], rival: list[float]) -> list[Run]:
    """Held-out runs with two squared errors a fold; the other methods have 1."""
    base = {"worst": 0.1, "met": False, "certified": None}
    methods = [*report.HELD_OUT_REFERENCES, report.PLAIN_SHIFTED, report.LAYER_SHIFTED]
    out: list[Run] = []
    for seed, (ours, theirs) in enumerate(zip(mine, rival, strict=True)):
        values = {report.LAYER_SHIFTED: ours, report.LINEAR_SHIFTED: theirs}
        out += [{**base, "method": m, "seed": seed, "mse": values.get(m, 1.0)} for m in methods]
    return out


@pytest.mark.parametrize(
    ("mine", "words"),
    [
        ([0.10, 0.12], "+0.01000 ± 0.01000"),
        ([0.105, 0.125], "+0.01500 ± 0.01000"),
        ([0.09, 0.08], "-0.01500 ± 0.00500"),
        ([0.12], "+0.02000, of one seed"),
    ],
)
def test_the_bar_is_read_off_the_figures(mine: list[float], words: str) -> None:
    said = report.held_out_section(runs_of(mine, [0.1] * len(mine))).verdicts
    assert said[0] == f"{report.LAYER_SHIFTED} minus {report.LINEAR_SHIFTED}: {words}"


def test_a_loss_to_a_constant_is_said() -> None:
    runs = [{**run, "mse": 0.05} if run["method"] == report.CONSTANT else run for run in runs_of([0.11, 0.12], [0.1, 0.1])]
    said = report.held_out_section(runs).verdicts
    assert f"{report.LAYER_SHIFTED}: no better than {report.CONSTANT}, {report.LINEAR_SHIFTED} in squared error" in said


@pytest.mark.skipif(not present(data.FILE), reason="no employee data: FAIROPT_DATA")
def test_the_table_is_the_papers() -> None:
    table = data.load()
    assert table.features.shape == (1200, 63)
    assert [table.names[k] for k in (18, 19, 21, 27, 29)] == list(data.ATTRIBUTES.values())
    for name, column in data.ATTRIBUTES.items():
        assert ((table.sensitive[name] == "yes") == (table.features[:, table.names.index(column)] == 1)).all()
    assert (table.target.min(), table.target.max()) == (0.0, 1.0)


def test_an_absent_file_is_said_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FairoptError, match="iabac"):
        data.load(tmp_path)
