"""The run of the evidence on a made data set: cells on disk, marks, limits, the page, and the check that makes cells again."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairopt.basics.errors import InputError, MissingExtraError, UnsupportedError
from fairopt.experiments.data.tabular import Dataset
from fairopt.experiments.evidence import cells as cells_module
from fairopt.experiments.evidence import check, parts, protocol, study, written
from fairopt.experiments.evidence.candidates import Candidate, Ground, Made, candidates
from fairopt.experiments.evidence.cells import Cell, limited, make_cell, path_of, read_cell, write_cell
from fairopt.experiments.evidence.nudges import Figures, scattered
from fairopt.experiments.evidence.protocol import Task, tasks
from fairopt.experiments.evidence.work import Job, run_job
from fairopt.experiments.methods.linear_post import NOISE, prices_of, weight
from fairopt.experiments.pages import TABLES, render, write_page
from fairopt.experiments.reproduce import Settings
from fairopt.experiments.store import Store

for package in ("sklearn", "fairlearn", "scipy"):
    pytest.importorskip(package, reason=f"the evidence needs {package}")

TASK = Task("german", ("sex",), "parity")


def _made(name: str = "german", path: Path | None = None, n: int = 700) -> Dataset:
    """A made table; the target follows the first feature and the group."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, 3))
    sex = np.array(["f", "m"])[rng.integers(0, 2, n)]
    region = np.array(["north", "south", "rare"])[rng.choice(3, n, p=[0.6, 0.38, 0.02])]
    chance = 1 / (1 + np.exp(-1.5 * x[:, 0] - (sex == "m")))
    return Dataset(name, x, ("a", "b", "c"), (rng.random(n) < chance).astype(float), {"sex": sex, "age_over_25": region})


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "dataset", _made)
    monkeypatch.setitem(protocol.DATA, "dev", ("german",))


def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two candidates a task, so that a run takes a moment."""

    def few(task: Task) -> tuple[Candidate, ...]:
        return tuple(c for c in candidates(task) if c.method in ("constant", "FairDecisions") and c.base in ("-", "logistic"))

    for module in ("work", "collected", "check"):
        monkeypatch.setattr(f"fairopt.experiments.evidence.{module}.candidates", few)


def test_the_parts_are_cut_as_the_protocol_says(made: None) -> None:
    one = parts.cut(TASK, 0)
    sizes = {"train": len(one.fit.train), "calibration": len(one.fit.validation), "validation": len(one.validation), "test": len(one.test)}
    assert sizes == {"train": 350, "calibration": 105, "validation": 105, "test": 140}
    assert not set(one.rows["validation"]) & set(one.rows["test"])
    assert one.fit.train.x.shape[1] == 4  # the group is a feature
    assert parts.cut(replace(TASK, known=False), 0).fit.train.x.shape[1] == 3
    assert (parts.cut(TASK, 0).rows["test"] == one.rows["test"]).all()
    assert (parts.cut(TASK, 1).rows["test"] != one.rows["test"]).any()
    with pytest.raises(InputError, match="attributes: german has no shoe"):
        parts.cut(Task("german", ("shoe",), "parity"), 0)


def test_small_groups_are_joined(made: None) -> None:
    names, counts = np.unique(parts.groups_of(_made(), ("sex", "age_over_25")), return_counts=True)
    assert counts.min() >= protocol.LEAST_ROWS
    assert not any("rare" in name for name in names)
    assert counts.sum() == 700


@pytest.mark.parametrize("use", ["dev", "final"])
def test_every_task_has_its_methods(use: str) -> None:
    for task in tasks(use):
        found = candidates(task)
        assert len({c.key for c in found}) == len(found)
        by_method: dict[tuple[str, str], int] = {}
        for c in found:
            by_method[c.method, c.base] = by_method.get((c.method, c.base), 0) + 1
        for (name, _), count in by_method.items():
            assert count == (1 if name in ("constant", "plain") else 6)  # the same number of settings for all
        rules = {"ThresholdOptimizer", "FairDecisions", "linear rule", "FairPostprocessor"}
        assert bool({c.method for c in found} & rules) == task.known


class TestCells:
    def test_there_and_back(self, made: None, tmp_path: Path) -> None:
        ground = Ground(TASK, 0, parts.cut(TASK, 0))
        candidate = next(c for c in candidates(TASK) if c.key == "FairDecisions, logistic, 2")
        cell = make_cell(candidate, ground)
        assert (cell.status, cell.stale) == ("done", False)
        path = path_of(tmp_path, TASK, 0, candidate)
        write_cell(path, cell)
        again = read_cell(path)
        assert (again.status, again.why, again.seconds, again.code) == (cell.status, cell.why, cell.seconds, cell.code)
        assert again.outputs.keys() == cell.outputs.keys()
        for key, said in cell.outputs.items():
            for part, values in said.items():
                assert (again.outputs[key][part] == values).all()
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(InputError, match="no finished cell or damaged"):
            read_cell(path)

    def test_other_code_is_said(self, made: None, monkeypatch: pytest.MonkeyPatch) -> None:
        cell = make_cell(candidates(TASK)[0], Ground(TASK, 0, parts.cut(TASK, 0)))
        monkeypatch.setattr(cells_module, "code_mark", lambda: "another")
        assert cell.stale
        monkeypatch.undo()
        assert not cell.stale
        assert replace(cell, version=cell.version + 1).stale

    @pytest.mark.parametrize(
        ("error", "status"),
        [(MissingExtraError("x"), "absent"), (UnsupportedError("x"), "refused"), (InputError("x"), "failed"), (ValueError("x"), "failed")],
    )
    def test_what_a_method_raises_is_a_cell(self, made: None, error: Exception, status: str) -> None:
        def fit(ground: Ground) -> list[Made]:
            raise error

        cell = make_cell(Candidate("m", "-", 0, "", fit), Ground(TASK, 0, parts.cut(TASK, 0)))
        assert (cell.status, cell.outputs) == (status, {})
        assert "x" in cell.why

    def test_scores_that_are_not_finite_are_no_figures(self, made: None) -> None:
        def fit(ground: Ground) -> list[Made]:
            return [Made("m", "known", "score", lambda x, sensitive: x[:, 0] * float("nan"))]

        assert make_cell(Candidate("m", "-", 0, "", fit), Ground(TASK, 0, parts.cut(TASK, 0))).status == "failed"

    def test_time_is_limited(self, made: None) -> None:
        def fit(ground: Ground) -> list[Made]:
            while True:
                try:
                    sum(range(1000))
                except Exception:  # noqa: BLE001 - what a method might do
                    continue

        start = time.process_time()
        cell = make_cell(Candidate("m", "-", 0, "", fit), Ground(TASK, 0, parts.cut(TASK, 0)), limit_s=0.2)
        assert (cell.status, cell.outputs) == ("time", {})
        assert time.process_time() - start < 5
        with limited(100.0):
            pass


def test_a_job_makes_what_is_missing(made: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _few(monkeypatch)
    job = Job(TASK, 0, tmp_path)
    assert run_job(job) == 7  # the constant and six settings of the rule
    assert run_job(job) == 0
    gone = next(tmp_path.rglob("*logistic--3.npz"))
    gone.unlink()
    assert run_job(job) == 1
    assert gone.exists()


def _run(path: Path, seeds: tuple[int, ...]) -> Any:
    with Store(path, "dev") as store:
        return study.run(Settings("dev", seeds=seeds, jobs=1), store, lambda _: None)


class TestWhole:
    def test_the_page_and_the_check_agree(self, made: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        _few(monkeypatch)
        result = _run(tmp_path / "dev.jsonl", (0, 1, 2))
        page = tmp_path / "dev.md"
        write_page(result, page, "fairopt reproduce dev")
        stored = json.loads((tmp_path / TABLES / "dev.json").read_text())
        assert page.read_text() == render(stored)
        titles = [section["title"] for section in stored["sections"]]
        assert titles[0].startswith("Losses and wins")
        assert written.protocol_words() in page.read_text()
        assert "german sex parity: row by row, group known" in titles
        assert "german sex parity: the batch at once, without labels" in titles
        assert "german sex parity unknown: row by row, group unknown" in titles
        assert "[" in page.read_text().split("## german sex parity: row")[1]  # there are intervals
        assert "error-parity" not in page.read_text()
        # finished cells cost nothing, and give the same
        monkeypatch.setattr("fairopt.experiments.evidence.work.make_cell", None)
        assert _run(tmp_path / "dev.jsonl", (0, 1, 2)).sections[1].rows == result.sections[1].rows
        # what is stored can be made again
        assert check.main([str(tmp_path / TABLES), "4", "7"]) == 0
        assert "the same" in capsys.readouterr().out
        self._spoil(tmp_path / TABLES / "dev-cells.csv.gz")
        assert check.main([str(tmp_path / TABLES), "4", "7"]) == 1
        assert "ANOTHER FIGURE" in capsys.readouterr().out

    def test_a_package_that_is_not_here_neither_grants_nor_fails(
        self, made: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        _few(monkeypatch)
        write_page(_run(tmp_path / "dev.jsonl", (0,)), tmp_path / "dev.md", "fairopt reproduce dev")
        tables = str(tmp_path / TABLES)
        make = make_cell
        calls: list[Candidate] = []

        def first_absent(candidate: Candidate, ground: Ground, limit_s: float = 60.0) -> Cell:
            calls.append(candidate)
            return Cell("absent", "no such package", {}, 0.0, "", 1) if len(calls) == 1 else make(candidate, ground, limit_s)

        monkeypatch.setattr(check, "make_cell", first_absent)
        assert check.main([tables, "3", "7"]) == 0
        assert len(calls) == 4  # another was drawn in its place
        assert re.search("^-    dev .*: no such package$", capsys.readouterr().out, re.M)
        monkeypatch.setattr(check, "make_cell", lambda *_: Cell("absent", "no such package", {}, 0.0, "", 1))
        assert check.main([tables, "3", "7"]) == 1  # nothing was checked

    def test_a_training_that_rounding_decides_is_the_same_an_ulp_away(
        self, made: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        _few(monkeypatch)
        write_page(_run(tmp_path / "dev.jsonl", (0,)), tmp_path / "dev.md", "fairopt reproduce dev")
        tables = str(tmp_path / TABLES)
        make = make_cell
        moved: list[float] = []

        def bistable(candidate: Candidate, ground: Ground, limit_s: float = 60.0) -> Cell:
            plain = parts.cut(ground.task, ground.seed, None)
            moved.append(float((ground.cut.test.x.double() / plain.test.x.double()).nanmedian()) - 1.0)
            cell = make(candidate, Ground(ground.task, ground.seed, plain))
            if moved[-1] < 0.0:  # the course of the stored figures
                return cell
            return replace(cell, outputs={k: {part: 1.0 - y for part, y in said.items()} for k, said in cell.outputs.items()})

        monkeypatch.setattr(check, "make_cell", bistable)
        assert check.main([tables, "1", "7"]) == 0
        assert [round(m * 2**23) for m in moved] == [0, 1, -1]
        assert re.search("the same, .* with features -1 ulp, which decides this training .ANOTHER FIGURE", capsys.readouterr().out)
        monkeypatch.setattr(check, "NUDGES", (1, 2))
        assert check.main([tables, "1", "7"]) == 1  # no course near by has them
        assert "FAIL" in capsys.readouterr().out

    def test_figures_that_scatter_hold_one_that_lies_among_them(self) -> None:
        def run(*values: float) -> Figures:
            return {("row", "known", "score"): values}

        runs = [run(0.5, 0.1), run(0.52, 0.1), run(0.5, 0.16), run(0.51, 0.12)]
        ok, nearest, widest = scattered(runs, run(0.5, 0.2))
        assert ok
        assert (round(nearest, 9), round(widest, 9)) == (0.04, 0.06)
        assert not scattered(runs, run(0.5, 0.23))[0]  # farther from all than they are from one another
        assert not scattered(runs[:3], run(0.5, 0.2))[0]  # too few to tell
        assert not scattered([run(0.5, 0.1)] * 4, run(0.5, 0.1001))[0]
        assert not scattered(runs, run(0.5, float("nan")))[0]
        assert not scattered([run(0.5, float("nan"))] * 4, run(0.5, 0.2))[0]
        assert not scattered([{}] * 4, {})[0]

    @staticmethod
    def _spoil(path: Path) -> None:
        """Every figure a little off, every mark another."""
        with gzip.open(path, "rt", newline="") as text:
            lines = list(csv.DictReader(text))
        for line in lines:
            line["test quality"] = str(float(line["test quality"]) + 1e-4)
        with gzip.open(path, "wt", newline="") as text:
            writer = csv.DictWriter(text, lines[0].keys())
            writer.writeheader()
            writer.writerows(lines)

    def test_one_seed_has_no_interval_and_no_verdict(self, made: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _few(monkeypatch)
        result = _run(tmp_path / "dev.jsonl", (0,))
        assert "no intervals and no verdicts" in result.text
        assert result.sections[0].rows.rows == ()
        columns = result.sections[1].rows.columns
        assert {row[k] for row in result.sections[1].rows.rows for k, name in enumerate(columns) if "95 %" in name} == {None}


PROTOCOL = Path(__file__).parents[2] / "docs" / "experiments" / "PROTOCOL.md"


def test_the_protocol_is_the_one_that_pages_name() -> None:
    """Whoever changes the protocol commits it first and then says so here: ``fairopt.experiments.evidence.written``."""
    assert hashlib.sha256(PROTOCOL.read_bytes()).hexdigest() == written.SHA256
    assert written.COMMIT[:10] in written.protocol_words()
    assert re.fullmatch("[0-9a-f]{40}", written.COMMIT)


def test_the_named_commit_has_that_protocol() -> None:
    root = PROTOCOL.parents[2]
    command = ["git", "-C", str(root), "show", f"{written.COMMIT}:docs/experiments/PROTOCOL.md"]
    try:
        shown = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git, or a copy without its whole history")
    assert hashlib.sha256(shown).hexdigest() == written.SHA256


def test_the_check_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no table of cells"):
        check.main([str(tmp_path)])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), tolerance=st.sampled_from([0.0, 0.05, 0.2]), odds=st.booleans())
def test_the_linear_rule_keeps_its_limits_where_it_was_fitted(seed: int, tolerance: float, odds: bool) -> None:
    """In expectation over its noise, up to the rows at the edge; and no better than without limits."""
    rng = np.random.default_rng(seed)
    n, events = 1500, (1, 0) if odds else (None,)
    groups = np.array(["a", "b"])[rng.integers(0, 2, n)]
    p = 1 / (1 + np.exp(-1.5 * rng.normal(size=n) + (groups == "a")))
    prices = prices_of(p, groups, tolerance, events, seed)
    gain = 2 * p - 1
    for group, per in prices.items():
        own = groups == group
        gain[own] -= sum(price * weight(p[own], event) for price, event in zip(per, events, strict=True))
    decided = np.clip(0.5 + gain / (2 * NOISE), 0, 1)
    for event in events:
        w = weight(p, event)
        rates = [float((decided * w)[groups == g].sum() / w[groups == g].sum()) for g in "ab"]
        assert abs(rates[0] - rates[1]) <= tolerance + 0.05
    right = float((decided * p + (1 - decided) * (1 - p)).mean())
    assert right <= np.maximum(p, 1 - p).mean() + 1e-12
    assert right >= max(p.mean(), 1 - p.mean()) - 0.02  # a constant keeps every limit
