"""The race on tiny grids: what it measures is right, whatever a backend does is told, and a stopped race goes on."""

from __future__ import annotations

import importlib
import json
import platform
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.container import ErrorbarContainer
from typer.testing import CliRunner

import fairopt as fo
from fairopt.basics.errors import BackendError, InputError
from fairopt.cli.app import build
from fairopt.contract import registry
from fairopt.race import PRESETS, Cell, Grid, Progress, compare
from fairopt.race.cells import Subject, cells
from fairopt.race.contest import everyone
from fairopt.race.draw import BOUNDS, draw
from fairopt.race.judge import Judge, make_reference
from fairopt.race.machine import machine, without_paths
from fairopt.race.measure import Measured, measure
from fairopt.race.settings import Settings
from fairopt.race.store import Store

pytestmark = pytest.mark.xdist_group("race")  # one process: the race that most tests look at is run once
QUICK = Settings(repeats=3, seconds=0.05)
TINY = Subject("demographic_parity", 16, 2, "float64", "none")

# A stranger's backends, each wrong in its own way. They stand in a module on the path, as an installed package would.
STRANGERS = '''
import os, time, torch
from typing import ClassVar
from fairopt.contract.backend import Backend, Capabilities, RawSolution

class Base(Backend):
    capabilities: ClassVar[Capabilities] = Capabilities()
    def solve(self, scores, problem):
        raise NotImplementedError

class Raises(Base):
    name = "raises"
    def solve(self, scores, problem):
        raise ZeroDivisionError("the pivot is 0")

class Dies(Base):
    name = "dies"
    def solve(self, scores, problem):
        if problem.n > 8:
            print("pivot overflow", flush=True)
            os._exit(3)
        raise RuntimeError("too small")

class Sleeps(Base):
    name = "sleeps"
    def solve(self, scores, problem):
        if problem.n > 8:
            time.sleep(600)
        raise RuntimeError("too small")

class Hungry(Base):
    name = "hungry"
    def solve(self, scores, problem):
        return RawSolution(torch.zeros((4 << 30) if problem.n > 8 else 8, dtype=torch.uint8)[: problem.n].double())

class Off(Base):
    """Moves the scores 1 % too far, sleeps 30 ms and takes 80 MB."""
    name = "off"
    def solve(self, scores, problem):
        if problem.n > 8:
            time.sleep(0.03)
            torch.ones(10_000_000, dtype=torch.float64).sum()
        from fairopt.contract.registry import backend
        raw = backend("dual_newton").solve(scores, problem)
        return RawSolution(scores - 1.01 * torch.from_numpy(raw.prices @ problem.rows.coefficients)[problem.rows.cell], raw.prices)
'''
POINTS = """[fairopt.backends]
stranger_absent = strangers_absent:Solver
stranger_broken = strangers_broken:Solver
stranger_raises = strangers:Raises
"""
ABSENT = """
from strangers import Base
class Solver(Base):
    name = "stranger_absent"
    requires = ("a_module_that_nobody_has",)
    install = "pip install it"
"""


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The module of strangers; three of them are installed through entry points."""
    folder = tmp_path_factory.mktemp("strangers")
    (folder / "strangers.py").write_text(textwrap.dedent(STRANGERS))
    (folder / "strangers_absent.py").write_text(ABSENT)
    (folder / "strangers_broken.py").write_text("raise OSError('libpivot.so.3: cannot open')")
    info = folder / "strangers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    sys.path.insert(0, str(folder))
    registry.installed.cache_clear()
    yield importlib.import_module("strangers")
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.startswith("strangers")]:
        del sys.modules[name]
    registry.installed.cache_clear()


@pytest.fixture(scope="module")
def race(strangers: Any) -> fo.Race:
    """One race that most tests look at: three bad backends and two good ones, two sizes, two boxes."""
    backends = ["stranger_absent", "stranger_broken", "stranger_raises", "closed_form", "dual_newton"]
    return compare(backends, n=(16, 64), dtypes=("float64", "float32"), settings=QUICK)


def records(race: fo.Race, backend: str) -> list[dict[str, Any]]:
    return [record for record in race.records if record["backend"] == backend]


def test_a_backend_that_is_absent_broken_or_raises_is_told_as_that_and_stops_nothing(race: fo.Race) -> None:
    found = {name: records(race, name) for name in dict.fromkeys(r["backend"] for r in race.records)}
    assert {name: {r["outcome"] for r in these} for name, these in found.items()} == {
        "stranger_absent": {"absent"}, "stranger_broken": {"broken"}, "stranger_raises": {"error"},
        "closed_form": {"ok", "unsupported"}, "dual_newton": {"ok"},
    }  # fmt: skip
    assert all(len(these) == 8 for these in found.values())
    assert "a_module_that_nobody_has" in found["stranger_absent"][0]["message"]
    assert "pip install it" in found["stranger_absent"][0]["message"]
    assert "libpivot.so.3" in found["stranger_broken"][0]["message"]
    assert re.search(r"ZeroDivisionError: the pivot is 0 \(strangers.py:\d+\)", found["stranger_raises"][0]["message"])
    assert sorted((row["backend"], row["what"], row["cells"]) for row in race.failures()) == [
        ("closed_form", "unsupported", 4), ("stranger_absent", "absent", 8), ("stranger_broken", "broken", 8),
        ("stranger_raises", "error", 8),
    ]  # fmt: skip


def test_death_time_and_memory_end_a_cell_but_not_the_race(strangers: Any) -> None:
    limits = replace(QUICK, time_limit=3.0, memory_limit=512 << 20)
    race = compare([strangers.Dies, strangers.Sleeps, strangers.Hungry], n=(16, 32), boxes=("none",), settings=limits)
    assert [(r["backend"], r["n"], r["outcome"]) for r in race.records] == [
        ("dies", 16, "crashed"), ("dies", 32, "crashed"), ("sleeps", 16, "time"), ("sleeps", 32, "skipped"),
        ("hungry", 16, "memory"), ("hungry", 32, "skipped"),
    ]  # fmt: skip
    assert records(race, "dies")[0]["message"] == "the process ended with exit code 3; its last words: pivot overflow"
    assert "more than 3 s" in records(race, "sleeps")[0]["message"]


def test_a_slow_fat_and_wrong_solver_shows_as_that(strangers: Any) -> None:
    """The front door polishes what comes back; the race must show the solver's own error too."""
    race = compare([strangers.Off], n=(32,), boxes=("none",), settings=QUICK)
    (record,) = race.records
    assert record["outcome"] == "ok"
    assert record["solver_y_error"] > 1e-4
    assert record["y_error"] < 1e-12
    (row,) = race.table()
    assert row["forward_s"] > 0.03
    assert row["solver_s"] > 0.03
    assert row["setup_s"] > 0.03
    assert row["backward_s"] < 0.03
    assert 75 < row["memory_mb"] < 130


def test_figures_of_measured_cells(race: fo.Race) -> None:
    good = [row for row in race.table() if row["outcome"] == "ok"]
    assert len(good) == 12
    for row in good:
        single = row["dtype"] == "float32"
        assert (row["status"], row["violation"], row["reference"]) == ("CERTIFIED", 0.0, "oracle")
        assert 0 < row["y_error"] < (1e-6 if single else 1e-12)
        assert row["gradient_error"] < (1e-5 if single else 1e-12)
        assert row["calls"] == 3
        assert 0 < row["forward_s"] < row["total_s"] < 1
        assert row["total_q1_s"] <= row["total_s"] <= row["total_q3_s"]
        assert row["setup_s"] > 0
        assert 0 <= row["memory_mb"] < 200
        assert row["import_s"] > 0


def test_the_judge_sees_a_small_error_of_each_kind() -> None:
    subject = replace(TINY, box="active", n=40)
    prepared, drawn = draw(subject, 0).prepare(), draw(subject, 0)
    x = drawn.scores[0].clone().requires_grad_(True)
    y = prepared.project(x)
    torch.autograd.backward(y, drawn.cotangent)
    assert x.grad is not None
    scores, gradient = y.detach().numpy(), x.grad.numpy()
    good, judge = Measured("ok", y=scores, gradient=gradient, raw=scores, fingerprint=drawn.fingerprint), Judge(0)
    right = judge.judge(subject, good)
    assert (right.violation, right.reference) == (0.0, "oracle")
    assert right.y_error < 1e-12
    assert right.gradient_error is not None
    assert right.gradient_error < 1e-12
    with pytest.raises(BackendError, match="drew other numbers"):
        judge.judge(subject, replace(good, fingerprint="another"))
    first = drawn.problem(prepared).rows.cell.numpy() == 0
    apart = np.where(first == (scores[first].mean() < scores[~first].mean()), -1e-6, 1e-6)  # the groups move apart by 2e-6
    off = judge.judge(subject, replace(good, y=scores + apart, gradient=1.01 * gradient, raw=scores + 1e-3))
    assert off.violation == pytest.approx(2e-6, rel=0.6)
    assert off.y_error == pytest.approx(1e-6, rel=1e-3)
    assert off.solver_y_error == pytest.approx(1e-3, rel=1e-3)
    assert off.gradient_error == pytest.approx(0.01, rel=1e-6)


@pytest.mark.parametrize(
    "notion", ["demographic_parity", "equal_opportunity", "equalized_odds", "two_attributes", "mean_residual", "impact_ratio"]
)
def test_drawn_problems_bind_and_the_two_references_agree(notion: Any) -> None:
    for box in BOUNDS:
        drawn = draw(Subject(notion, 60, 3, "float64", box), 1)
        problem, z = drawn.problem(drawn.prepare()), drawn.scores[0]
        assert z.shape == (60,)
        oracle = make_reference(drawn)
        assert oracle.source == "oracle"
        assert np.abs(oracle.y - z.clamp(*(BOUNDS[box] or (-99.0, 99.0))).numpy()).max() > 1e-3, "no row binds"
        clamped = 0 if BOUNDS[box] is None else int(((oracle.y <= BOUNDS[box][0]) | (oracle.y >= BOUNDS[box][1])).sum())  # type: ignore[index]
        assert (clamped > 0) == (box == "active")
        x = z.clone().requires_grad_(True)
        y = drawn.prepare().project(x, backend="dual_newton", certify=False)
        torch.autograd.backward(y, drawn.cotangent)
        assert np.abs(y.detach().numpy() - oracle.y).max() < 1e-11
        if oracle.gradient is not None:
            assert x.grad is not None
            assert np.abs(x.grad.numpy() - oracle.gradient).max() < 1e-9 * np.abs(oracle.gradient).max()
        assert problem.n == 60


def test_the_same_numbers_for_every_dtype_and_every_process() -> None:
    first, again, single = draw(TINY, 3), draw(TINY, 3), draw(replace(TINY, dtype="float32"), 3)
    assert torch.equal(first.scores, again.scores)
    assert torch.equal(first.scores.float(), single.scores)
    assert not torch.equal(first.scores, draw(TINY, 4).scores)
    assert not torch.equal(first.scores[0], first.scores[1])


def test_a_stopped_race_goes_on_and_measures_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "finished.jsonl"

    def stop(now: Progress) -> None:
        assert len(path.read_text().splitlines()) == 1 + now.done, "a finished cell is not on disk"
        if now.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(["closed_form"], n=(16, 32, 64, 128), boxes=("none",), finished=path, settings=QUICK, on_progress=stop)
    before = path.read_text().splitlines()
    assert len(before) == 3  # a header and two cells
    path.write_text("\n".join(before) + '\n{"backend": "torn')
    seen: list[Progress] = []
    race = compare(["closed_form"], n=(16, 32, 64, 128), boxes=("none",), finished=path, settings=QUICK, on_progress=seen.append)
    after = path.read_text().splitlines()
    assert after[:3] == before
    assert len(after) == 5
    assert [r["n"] for r in race.records] == [16, 32, 64, 128]
    assert [json.loads(line) for line in after[1:]] == list(race.records)
    assert (seen[-1].done, seen[-1].total) == (4, 4)


def test_finished_cells_of_other_settings_machines_versions_or_formats_are_refused(tmp_path: Path) -> None:
    here, packages = {"processor": "one"}, {"torch": "2"}
    cell, path = Cell("x", TINY), tmp_path / "finished.jsonl"
    with Store(path, QUICK, here, packages) as store:
        store.add(cell, {**cell.to_dict(), "outcome": "ok"})
    with Store(path, QUICK, here, {**packages, "new": "1"}) as store:
        assert list(store.records) == [cell]
    with pytest.raises(InputError, match="other settings.*seed"):
        Store(path, replace(QUICK, seed=7), here, packages)
    with pytest.raises(InputError, match="other machine"):
        Store(path, QUICK, {"processor": "two"}, packages)
    with pytest.raises(InputError, match="torch 2, now it is 3"):
        Store(path, QUICK, here, {"torch": "3"})
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(InputError, match="format 2, this fairopt reads 1"):
        Store(path, QUICK, here, packages)
    (tmp_path / "other.txt").write_text("hello\n")
    with pytest.raises(InputError, match="no JSON"):
        Store(tmp_path / "other.txt", QUICK, here, packages)


def test_results_on_disk(race: fo.Race, tmp_path: Path) -> None:
    import pandas

    table, *pictures, report = race.save(tmp_path / "out")
    frame = pandas.read_parquet(table)
    assert list(frame.columns) == list(race.table().columns)
    assert len(frame) == 40
    assert frame.total_s.notna().sum() == (frame.outcome == "ok").sum() == 12
    assert [p.name for p in pictures] == ["time.png", "accuracy.png", "outcomes.png"]
    words = report.read_text()
    assert words.count("data:image/png;base64,") == 3
    assert not re.search(r'(src|href)="(?!data:)', words)
    assert "the pivot is 0" in words
    assert "<script" not in words
    places = (str(tmp_path), sys.prefix, str(Path(fo.__file__).parent))
    assert not [place for place in places if place in words]
    assert not re.search(rf"\b{re.escape(platform.node() or 'no name')}\b", re.sub(r"base64,[^\"]*", "", words))
    assert pandas.read_csv(race.save_table(tmp_path / "cells.csv")).shape == frame.shape
    with pytest.raises(InputError, match="parquet or .csv"):
        race.save_table(tmp_path / "cells.xlsx")


def test_no_picture_is_empty(race: fo.Race, tmp_path: Path) -> None:
    """Where nothing was solved, times and accuracies have no picture; what happened has one."""
    nothing = fo.Race(tuple(records(race, "stranger_raises")), race.header)
    assert [p.name for p in nothing.save(tmp_path)] == ["cells.parquet", "outcomes.png", "report.html"]


def test_pictures_have_a_mark_for_every_answer(race: fo.Race) -> None:
    from matplotlib.figure import Figure

    from fairopt.race.pictures import PICTURES

    for name, make in PICTURES.items():
        figure = Figure()
        assert make(figure, race.table())
        lines = [box.lines[0] for axes in figure.axes for box in axes.containers if isinstance(box, ErrorbarContainer)]
        clouds = [cloud for axes in figure.axes for cloud in axes.collections if isinstance(cloud, PathCollection)]
        points = sum(len(np.asarray(line.get_xdata())) for line in lines if line is not None)
        dots = sum(len(np.asarray(cloud.get_offsets())) for cloud in clouds)
        squares = sum(len(axes.patches) for axes in figure.axes)
        expected = {"time": (12, 0, 0), "accuracy": (0, 36, 0), "outcomes": (0, 0, 40)}
        assert (points, dots, squares) == expected[name], name


def test_presets_are_as_large_as_they_say() -> None:
    names = [name for name in everyone() if not name.startswith("stranger")]
    assert {"qpsolvers:osqp", "dual_newton"} <= set(names)
    assert "qpsolvers" not in names
    assert len(cells(names, PRESETS["quick"])) <= 80
    full = cells(["x"], PRESETS["full"])
    assert len(full) == len(set(full))
    assert [c.subject.n for c in full] == sorted(c.subject.n for c in full)
    assert all(Cell.from_dict(c.to_dict()) == c for c in full)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"backends": ["nobody"]}, "backends: got 'nobody', expected some of"),
        ({"backends": "dual_newton"}, "backends: got 'dual_newton', expected a list"),
        ({"backends": ["closed_form", "closed_form"]}, "two of them are called 'closed_form'"),
        ({"backends": []}, "no cells"),
        ({"preset": "huge"}, "preset: got 'huge', expected one of quick, kinds, full"),
        ({"notions": ("parity",)}, "notions: got 'parity', expected some of demographic_parity"),
        ({"n": (2.5,)}, "n: got 2.5"),
        ({"n": (8,), "groups": (5,)}, "n: got 8, expected at least twice"),
        ({"boxes": ("tight",)}, "boxes: got 'tight'"),
        ({"finished": "/nowhere/at/all"}, "the folder does not exist"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        compare(**{"backends": ["closed_form"], **arguments})


def test_a_class_that_no_other_process_can_have_is_an_input_error() -> None:
    class Local(fo.Backend):
        name = "local"
        capabilities = fo.Capabilities()

        def solve(self, scores: torch.Tensor, problem: fo.ProjectionProblem) -> fo.RawSolution:
            raise AssertionError

    with pytest.raises(InputError, match="'local' cannot be sent to another process"):
        compare([Local], n=(16,))


def test_unsupported_and_native() -> None:
    cell = Cell("closed_form", replace(TINY, box="active"))
    assert measure(cell, "closed_form", QUICK, 0).outcome == "unsupported"
    assert measure(Cell("dual_newton", TINY, "native"), "dual_newton", QUICK, 0).outcome == "unsupported"


def test_machine_and_messages_name_no_place() -> None:
    assert {"cores", "system", "python"} <= set(machine())
    assert (
        without_paths("cannot open /home/me/lib/libx.so: File '/usr/lib/python3/a.py', line 3")
        == "cannot open libx.so: File 'a.py', line 3"
    )
    assert without_paths("1/2 of https://x.org/a/b and |y|/n") == "1/2 of https://x.org/a/b and |y|/n"


def test_the_command(tmp_path: Path) -> None:
    runner = CliRunner()
    words = ["compare", "--backend", "closed_form", "--n", "16", "--box", "none", "--repeats", "2"]
    shown = runner.invoke(build(), [*words, "--output", str(tmp_path), "--form", "csv"])
    assert shown.exit_code == 0, shown.output
    assert "certified" in shown.output
    assert {p.name for p in tmp_path.iterdir()} == {
        "finished.jsonl",
        "cells.csv",
        "time.png",
        "accuracy.png",
        "outcomes.png",
        "report.html",
    }
    refused = runner.invoke(build(), ["compare", "--preset", "quick", "--n", "16", "--output", str(tmp_path)])
    assert isinstance(refused.exception, InputError)


def test_a_grid_is_checked_and_small_problems_come_first() -> None:
    made = cells(["a", "b"], [Grid(n=(64, 16)), Grid(n=(16,))])
    assert [(c.backend, c.subject.n) for c in made] == [("a", 16)] * 2 + [("a", 64)] * 2 + [("b", 16)] * 2 + [("b", 64)] * 2
