"""The loan experiment: parity holds exactly in the space that was asked, both gaps are figures, and no held-out target takes part."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import fairopt as fo
from fairopt.basics.errors import FairoptError, InputError
from fairopt.experiments.data import sba as data
from fairopt.experiments.data.files import present
from fairopt.experiments.data.tabular import Dataset, Part, Parts
from fairopt.experiments.methods.base import Recipe
from fairopt.experiments.report import Run, of
from fairopt.experiments.reproduce import Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies import sba
from fairopt.experiments.studies import sba_report as report

FAST = Recipe(hidden=(8,), dropout=0.0, epochs=6, batch_size=64, learning_rate=1e-2, weight_decay=0.0)
PROJECTED = (report.LINEAR_PROJECTED, report.PROJECTION, report.LAYER)


def made(n: int = 300, seed: int = 0) -> Dataset:
    """A table of the experiment's kind: two numbers, a category, the two attributes as features, a target that depends on all."""
    draw = np.random.default_rng(seed)
    numbers = draw.normal(size=(n, 2)) * [1.0, 50.0]
    kind = draw.integers(0, 3, n)
    business = np.where(draw.random(n) < 0.3, "new", "existing")
    place = np.where(draw.random(n) < 0.7, "urban", "other")
    z = numbers[:, 0] + kind - 1 + 1.5 * (business == "new") - (place == "urban")
    target = (draw.random(n) < 1 / (1 + np.exp(-z))).astype(np.float64)
    columns = [numbers, kind[:, None], (business == "new")[:, None], (place == "urban")[:, None]]
    categories = {
        "kind": ("x", "y", "z"),
        "sensitive business": ("existing", "new"),
        "sensitive place": ("other", "urban"),
    }
    names = ("small", "large", *categories)
    sensitive = {"business": business, "place": place}
    return Dataset("sba", np.concatenate(columns, axis=1).astype(np.float64), names, target, sensitive, "binary", None, categories)


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return sba.one_seed(made(), "0 and 1", FAST, 0)["runs"]


def test_one_run_a_space_and_method(runs: list[Run]) -> None:
    assert [(r["space"], r["method"]) for r in runs] == [(s, m) for s in sba.SPACES for m in report.METHODS]


@pytest.mark.parametrize("space", sba.SPACES)
@pytest.mark.parametrize("method", PROJECTED)
def test_what_is_projected_is_certified_in_its_space(runs: list[Run], space: str, method: str) -> None:
    (run,) = of(runs, space=space, method=method)
    assert run["certified"] is True
    assert run["met"]
    assert run[f"{space}_gap"] <= sba.TOLERANCE


def test_each_space_leaves_the_other_open() -> None:
    """Logits that are spread differently in two groups: one mean in one space, two in the other."""
    draw = np.random.default_rng(0)
    business = np.array(["new", "existing"])[np.arange(200) % 2]
    place = np.array(["urban", "other"])[np.arange(200) // 2 % 2]
    z = torch.from_numpy(np.where(business == "new", 2 + 4 * draw.normal(size=200), draw.normal(size=200) - 1))
    part = Part(torch.zeros(200, 1), torch.arange(200).remainder(3).eq(0).float(), {"business": business, "place": place})
    logit = sba.projected(z, part, sba.goal("logit"))
    probability = sba.projected(sba.in_space(z, "probability"), part, sba.goal("probability"))
    assert logit["logit_gap"] <= sba.TOLERANCE < 0.02 < logit["probability_gap"]
    assert probability["probability_gap"] <= sba.TOLERANCE < 0.2 < probability["logit_gap"]


def test_what_promises_nothing_breaks_the_tolerance_and_says_so(runs: list[Run]) -> None:
    for space in sba.SPACES:
        (plain,) = of(runs, space=space, method=report.PLAIN)
        assert plain["certified"] is None
        assert not plain["met"]
        assert plain[f"{space}_gap"] > sba.TOLERANCE
        (constant,) = of(runs, space=space, method=report.CONSTANT)
        assert constant["met"]
        assert constant["auc"] == 0.5
        assert constant["probability_gap"] == 0.0


def test_one_plain_network_is_read_in_both_spaces(runs: list[Run]) -> None:
    first, second = (of(runs, space=space, method=report.PLAIN)[0] for space in sba.SPACES)
    assert first["auc"] == pytest.approx(second["auc"], abs=1e-3)
    assert first["probability_gap"] == pytest.approx(second["probability_gap"], abs=1e-6)
    assert first["decision_gap"] == second["decision_gap"]


def test_no_held_out_target_takes_part(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """With every held-out target turned round, all figures without targets stay, and the area under the curve is one minus itself."""
    cut = sba.cut

    def turned(table: Dataset, indicators: report.Indicators, seed: int) -> Parts:
        parts = cut(table, indicators, seed)
        return dataclasses.replace(parts, held_out=dataclasses.replace(parts.held_out, y=1 - parts.held_out.y))

    monkeypatch.setattr(sba, "cut", turned)
    other = sba.one_seed(made(), "0 and 1", FAST, 0)["runs"]
    for before, after in zip(runs, other, strict=True):
        for figure in ("logit_gap", "probability_gap", "decision_gap", "met", "certified"):
            assert before[figure] == after[figure], (before["method"], figure)
        assert before["auc"] == pytest.approx(1 - after["auc"])


def test_the_figures_are_the_textbooks() -> None:
    z = torch.tensor([2.0, -1.0, 0.5, -3.0], dtype=torch.float64)
    part = Part(
        torch.zeros(4, 1),
        torch.tensor([1.0, 0.0, 0.0, 1.0]),
        {"business": np.array(["new", "new", "existing", "existing"]), "place": np.array(["urban", "other", "urban", "other"])},
    )
    found = sba.figures(z, part, sba.goal("logit"), None)
    p = torch.sigmoid(z).numpy()
    assert found["auc"] == 0.5  # of the four pairs (positive, negative) two are in order
    assert found["logit_gap"] == 3.25  # place: 1.25 against -2; business: 0.5 against -1.25
    assert found["probability_gap"] == pytest.approx(max(abs(p[:2].mean() - p[2:].mean()), abs(p[::2].mean() - p[1::2].mean())))
    assert found["decision_gap"] == 1.0  # both urban loans are decided 1, no other
    assert not found["met"]
    assert found["certified"] is None
    again = sba.figures(torch.sigmoid(z), part, sba.goal("probability"), None)
    assert again["logit_gap"] == pytest.approx(3.25)
    assert again["probability_gap"] == found["probability_gap"]


def test_plain_indicators_are_zeros_and_ones_and_numbers_stay() -> None:
    table = made()
    standardised, plain = sba.cut(table, "standardised", 0), sba.cut(table, "0 and 1", 0)
    names = plain.encoder.names
    for name in ("train", "validation", "held_out"):
        one, other = getattr(standardised, name).x, getattr(plain, name).x
        for k, label in enumerate(names):
            if "=" in label:
                assert set(other[:, k].tolist()) == {0.0, 1.0}
                assert torch.equal(other[:, k] == 1, one[:, k] == one[:, k].max())
            else:
                assert torch.allclose(other[:, k], one[:, k])
    urban = plain.train.x[:, names.index("sensitive place=urban")].numpy() == 1
    assert (urban == (plain.train.sensitive["place"] == "urban")).all()


def test_the_notion_is_both_attributes() -> None:
    sensitive = {"business": ["new", "new", "existing", "existing"], "place": ["urban", "other", "urban", "other"]}
    scores = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64)  # equal means by each attribute, not by both
    assert all(row["status"] == "met" for row in fo.gaps(scores, sba.notion(0.0), sensitive_features=sensitive))
    scores[0] = 2.0
    found = fo.gaps(scores, sba.notion(0.4), sensitive_features=sensitive)
    assert [row["status"] for row in found] == ["broken", "broken"]


def test_a_finished_cell_is_not_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data, "load", lambda path, columns: made())
    monkeypatch.setattr(sba, "QUICK_EPOCHS", 2)
    settings = Settings("sba", quick=True)

    def never(*_: object) -> dict[str, list[Run]]:
        raise AssertionError("made again")

    with Store(tmp_path / "cells.jsonl", "sba") as store:
        first = sba.run(settings, store, lambda _: None)
    for work in ("one_seed", "one_sweep"):
        monkeypatch.setattr(sba, work, never)
    with Store(tmp_path / "cells.jsonl", "sba") as store:
        second = sba.run(settings, store, lambda _: None)
    assert [s.rows for s in first.sections] == [s.rows for s in second.sections]
    assert [s.title for s in first.sections][-2] == "What a space leaves open"
    draw = first.sections[-1].picture
    assert draw is not None
    draw(tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes()[:4] == b"\x89PNG"


def runs_of(layer: list[float], projection: list[float]) -> list[Run]:
    """Runs of both spaces: two AUCs a seed; every other figure the same."""
    base = {
        "ap": 0.5,
        "logit_gap": 0.01,
        "probability_gap": 0.2,
        "decision_gap": 0.1,
        "met": True,
        "columns": "paper",
        "indicators": "0 and 1",
    }
    out: list[Run] = []
    for space in sba.SPACES:
        for seed, (ours, theirs) in enumerate(zip(layer, projection, strict=True)):
            values = {report.LAYER: ours, report.PROJECTION: theirs, report.CONSTANT: 0.5}
            out += [
                {**base, "space": space, "method": m, "seed": seed, "auc": values.get(m, 0.9), "certified": m in PROJECTED or None}
                for m in report.METHODS
            ]
    return out


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ([0.92, 0.94], "+0.0300 ± 0.0100, at least +0.010"),
        ([0.905, 0.903], "+0.0040 ± 0.0010, less than +0.010"),
        ([0.90], "+0.0000, of one seed, less than +0.010"),
    ],
)
def test_the_bar_is_read_off_the_figures(layer: list[float], words: str) -> None:
    section = report.section(("paper", "0 and 1"), runs_of(layer, [0.90] * len(layer)))
    assert any(said.startswith(f"logit parity: layer minus projection, AUC: {words}") for said in section.verdicts)
    assert (
        f"logit parity: the layer met it on {len(layer)} of {len(layer)} seeds, certified on {len(layer)} of {len(layer)}"
        in section.verdicts
    )
    marks = dict(zip(section.rows["method"], section.rows["certified"], strict=True))
    assert marks[report.LAYER] == f"{len(layer)} of {len(layer)}"
    assert marks[report.PLAIN] is None
    assert section.paper is not None
    assert report.section(("application", "0 and 1"), runs_of(layer, layer)).paper is None


def test_a_loss_to_a_trivial_reference_is_said() -> None:
    section = report.section(("paper", "0 and 1"), runs_of([0.88, 0.89], [0.86, 0.86]))
    assert f"logit parity: {report.LAYER}: no better than {report.LINEAR}, {report.LINEAR_PROJECTED} in AUC or AP" in section.verdicts


def test_the_spaces_are_compared_by_their_largest_gaps() -> None:
    high = {("logit", report.LAYER): 0.3, ("probability", report.PROJECTION): 0.009}
    runs = [{**r, "probability_gap": high.get((r["space"], r["method"]), 0.005)} for r in runs_of([0.9, 0.9], [0.9, 0.9])]
    section = report.spaces_section(runs)
    assert section.verdicts[0].startswith("logit parity leaves probability gaps up to 0.300 ")
    assert section.verdicts[0].endswith("probability parity up to 0.0090")
    assert section.rows["asked"] == ("nothing", *["logit parity"] * 2, *["probability parity"] * 2)


@pytest.mark.skipif(not present(data.FILE), reason="no SBA data: FAIROPT_DATA")
def test_the_columns_are_the_papers() -> None:
    tables = {columns: data.load(columns=columns) for columns in data.COLUMNS}
    paper = tables["paper"]
    assert len(paper) == 2102
    assert paper.target.sum() == 686
    assert {k: (v == w).sum() for (k, v), w in zip(paper.sensitive.items(), ("new", "urban"), strict=True)} == {
        "business": 324,
        "place": 1742,
    }
    assert set(tables["dates"].names) - set(paper.names) == {"xx"}
    assert set(paper.names) - set(tables["application"].names) == {"Term", "daysterm"}
    hidden = {"Name", "City", "Zip", "MIS_Status", "ChgOffDate", "ChgOffPrinGr", "BalanceGross", "Default", "UrbanRural"}
    assert not hidden & set(tables["dates"].names)
    levels = {name: len(values) for name, values in paper.categories.items()}
    assert (levels["BankState"], levels["RevLineCr"], levels["Bank"]) == (3, 3, 3)


def test_unknown_columns_and_an_absent_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="columns: got 'all', expected one of paper, dates, application"):
        data.load(tmp_path, columns="all")  # type: ignore[arg-type]
    with pytest.raises(FairoptError, match="curl"):
        data.load(tmp_path)
