"""``fairopt reproduce``: the registry, the command with its files, a stopped run that goes on, pages and pictures."""

from __future__ import annotations

import gzip
import json
import sys
import types
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fairopt import cli
from fairopt.basics.errors import InputError
from fairopt.basics.table import Table
from fairopt.cli.app import build
from fairopt.experiments.marks import STUDIES, mark_of
from fairopt.experiments.pages import BY_HAND, TABLES, joined, picture_name, render, write_page
from fairopt.experiments.pareto import Curve, Panel, Point, curves, pareto_picture
from fairopt.experiments.reproduce import (
    OLDER,
    REGISTRY,
    UNDER_PROTOCOL,
    OnProgress,
    Progress,
    Result,
    Section,
    Settings,
    cells_of,
    experiment,
    reproduce,
)
from fairopt.experiments.store import Store

RUNNER = CliRunner()
# A sample of the contract. Cell 2 can be made to raise, as ctrl-C would.
WORKED: list[int] = []
STOP: list[BaseException] = []


def _sample(settings: Settings, store: Store, on_progress: OnProgress) -> Result:
    seeds = settings.seeds_or(range(4))
    store.hold({"quick": settings.quick})

    def work(seed: int) -> dict[str, float]:
        if seed == 2 and STOP:
            raise STOP.pop()
        WORKED.append(seed)
        return {"gap": seed / 10, "accuracy": 1 - seed / 7}

    runs = []
    for seed in seeds:
        runs.append({"method": "a", "tolerance": 0.1, **store.cell({"seed": seed}, partial(work, seed))})
        on_progress(Progress("networks", len(runs), len(seeds)))
    rows = Table(("method", "gap", "gap ±"), (("a", sum(r["gap"] for r in runs) / len(runs), 0.012345),))
    paper = Table(("method", "gap"), (("theirs", None),), title="the paper, table 1")
    panel = Panel("A panel", "gap", "accuracy", curves(runs, gap="gap", quality="accuracy"), (0.05,))
    sections = (
        Section("First", rows, paper, ("a loses to [nobody]",), partial(pareto_picture, (panel,))),
        Section("Second", rows),
        Section("Third", rows, None, (), partial(pareto_picture, (panel, panel))),
    )
    return Result(settings.name, "A sample", f"{len(seeds)} seeds.", sections)


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> str:
    module = types.ModuleType("fairopt_sample_experiment")
    module.run = _sample  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(REGISTRY, "sample", f"{module.__name__}:run")
    WORKED.clear()
    STOP.clear()
    return "sample"


def _invoke(*words: str) -> tuple[int, str]:
    shown = RUNNER.invoke(build(), ["reproduce", *words])
    return shown.exit_code, shown.output


def test_the_command_shows_and_saves_everything(sample: str, tmp_path: Path) -> None:
    out, page = tmp_path / "out", tmp_path / "sample.md"
    code, shown = _invoke(sample, "--out", str(out), "--page", str(page))
    assert code == 0, shown
    for said in ("A sample", "4 seeds.", "First", "0.150 ± 0.012", "the paper, table 1", "theirs", "a loses to [nobody]", "networks"):
        assert said in shown, said
    assert sorted(path.name for path in out.iterdir()) == [
        "sample-2.csv", "sample-3.csv", "sample-3.png", "sample.csv", "sample.jsonl", "sample.png",
    ]  # fmt: skip
    assert (out / "sample.csv").read_text().splitlines()[0] == "method,gap,gap ±"
    text = page.read_text()
    assert "    fairopt reproduce sample\n" in text
    assert text.count(OLDER) == 1  # a page that is not run under the protocol says so
    assert "| method | gap |\n|---|---|\n| a | 0.150 ± 0.012 |" in text
    assert "- a loses to [nobody]" in text
    assert "![First](sample.png)" in text
    assert "![Third](sample-3.png)" in text
    assert (tmp_path / "sample-3.png").read_bytes()[:4] == b"\x89PNG"
    assert str(tmp_path) not in text


def test_a_stopped_run_goes_on_and_ends_as_one_in_one_go(sample: str, tmp_path: Path) -> None:
    STOP.append(KeyboardInterrupt())
    code, shown = _invoke(sample, "--out", str(tmp_path))
    assert code == 130
    assert f"stopped; every finished cell is in {tmp_path / 'sample.jsonl'}" in shown
    assert WORKED == [0, 1]
    code, shown = _invoke(sample, "--out", str(tmp_path))
    assert code == 0
    assert WORKED == [0, 1, 2, 3]
    assert "0.150 ± 0.012" in shown
    resumed = (tmp_path / "sample.csv").read_bytes()
    assert _invoke(sample, "--out", str(tmp_path), "--fresh")[0] == 0
    assert WORKED == [0, 1, 2, 3] * 2
    assert (tmp_path / "sample.csv").read_bytes() == resumed


def test_more_seeds_use_the_finished_ones_and_quick_has_its_own_file(sample: str, tmp_path: Path) -> None:
    assert _invoke(sample, "--out", str(tmp_path), "--seeds", "2")[0] == 0
    assert _invoke(sample, "--out", str(tmp_path), "--seeds", "5")[0] == 0
    assert WORKED == [0, 1, 2, 3, 4]
    assert _invoke(sample, "--out", str(tmp_path), "--quick")[0] == 0
    assert WORKED[5:] == [0]
    assert len((tmp_path / "sample-quick.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "sample-quick.csv").exists()
    assert (tmp_path / "sample-5-seeds.png").exists()
    assert not (tmp_path / "sample.csv").exists()  # the name of a full run


def test_a_quick_run_does_not_write_over_the_page_of_a_full_one(sample: str, tmp_path: Path) -> None:
    page, quick = tmp_path / "sample.md", tmp_path / "quick.md"
    assert _invoke(sample, "--out", str(tmp_path), "--page", str(page))[0] == 0
    code, shown = _invoke(sample, "--out", str(tmp_path), "--quick", "--page", str(page))
    assert code != 0, shown
    assert "fairopt reproduce sample\n" in page.read_text()
    for _ in range(2):
        assert _invoke(sample, "--out", str(tmp_path), "--quick", "--page", str(quick))[0] == 0


def test_a_caption_is_said_once(sample: str, tmp_path: Path) -> None:
    _, shown = _invoke(sample, "--out", str(tmp_path))
    assert shown.replace("\n", " ").count("the paper, table 1") == 1


def test_cells_of_other_code_are_said(sample: str, tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    assert reproduce(Settings(sample), path).text == f"{OLDER}\n\n4 seeds."
    mine = mark_of(STUDIES)
    whole = path.read_text()
    path.write_text(whole.replace(mine, "0" * 16, 2))
    assert reproduce(Settings(sample), path).text.startswith(f"{OLDER}\n\n4 seeds.\n\n2 of the cells were made by other code")
    path.write_text(whole.replace(f', "code": "{mine}"', "").replace(f'"code": "{mine}", ', ""))  # a file from before there were marks
    assert "4 of the cells" in reproduce(Settings(sample), path).text


def test_a_page_is_rendered_from_its_stored_table(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    table = Table(("x", "x ±", "n"), ((0.123456789, 0.0021, 3), (None, None, True)), "caption")
    cells = Table(("seed", "value"), ((0, 0.5),))
    result = Result("a", "Title", "Text.", (Section("One", table, table, ("said",)),), cells)
    assert [p.name for p in write_page(result, page, "fairopt reproduce a")] == ["a.md", "a.json", "a-cells.csv.gz"]
    stored = json.loads((tmp_path / "tables" / "a.json").read_text())
    assert page.read_text() == render(stored)
    assert stored["sections"][0]["rows"]["rows"][0][0] == 0.123456789
    assert gzip.decompress((tmp_path / "tables" / "a-cells.csv.gz").read_bytes()).decode() == "seed,value\n0,0.5\n"
    stored["sections"][0]["rows"]["rows"][0][0] = 0.13
    assert page.read_text() != render(stored)


PAGES = Path(__file__).parents[2] / "docs" / "experiments"


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_each_page_is_what_its_stored_table_says(page: Path) -> None:
    """A page of figures without a stored table has to say that it was made before there were any."""
    if page.stem in ("README", "PROTOCOL"):
        return
    text = page.read_text(encoding="utf-8")
    stored = PAGES / TABLES / f"{page.stem}.json"
    if stored.exists():
        assert text.startswith(render(json.loads(stored.read_text(encoding="utf-8"))))
    else:
        assert "older protocol" in text[:1500], page.name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "NAME: got 'nothing', expected one of employee, sba, synthetic"),
        (["law", "--page", "x.txt"], "--page x.txt: expected a path that ends in .md"),
        (["law", "--data", "nowhere"], "law_school: no law_data.csv (or .gz) in nowhere"),
    ],
)
def test_errors_are_said_before_any_work(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["fairopt", "reproduce", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[0].startswith(f"fairopt: {said}")


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_experiment_of_the_registry_is_there(name: str) -> None:
    assert callable(experiment(name))
    assert set(UNDER_PROTOCOL) <= set(REGISTRY)


def test_an_unknown_experiment_and_the_seeds() -> None:
    with pytest.raises(InputError, match="experiment: got 'no'"):
        reproduce(Settings("no"))
    assert Settings("x").seeds_or(range(3)) == (0, 1, 2)
    assert Settings("x", quick=True).seeds_or(range(3)) == (0,)
    assert Settings("x", quick=True, seeds=(4, 5)).seeds_or(range(3)) == (4, 5)
    assert cells_of(Settings("x", quick=True), Path("a")) == Path("a/x-quick.jsonl")


def test_what_is_written_by_hand_below_the_line_is_kept(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    result = Result("a", "Title", "Text.", (Section("One", Table(("x|y",), ((True,), (None,), ("p|q",)))),))
    assert write_page(result, page, "fairopt reproduce a") == [page, tmp_path / "tables" / "a.json"]
    first = page.read_text()
    assert "| x\\|y |\n|---|\n| yes |\n| - |\n| p\\|q |" in first
    page.write_text(first + "\n## Why\n\nBecause.\n")
    again = Result("a", "Other title", "Text.", ())
    write_page(again, page, "fairopt reproduce a")
    assert page.read_text().startswith("# Other title\n")
    assert page.read_text().split(BY_HAND)[1] == "\n\n## Why\n\nBecause.\n"
    write_page(again, page, "fairopt reproduce a")
    assert page.read_text().count("Because.") == 1


@given(
    mean=st.floats(-1e3, 1e3),
    error=st.floats(0.02, 10),
)
def test_a_mean_is_shown_to_two_digits_of_its_error(mean: float, error: float) -> None:
    ((shown,),) = joined(Table(("x", "x ±"), ((mean, error),))).rows
    value, margin = shown.split(" ± ")
    assert abs(float(value) - mean) <= error / 10 + 1e-12
    assert abs(float(margin) - error) <= error / 10
    assert len(margin.lstrip("0.").replace(".", "")) <= 3 or float(margin) >= 10


def test_only_a_column_right_behind_its_own_is_an_error() -> None:
    table = Table(("x", "y ±", "x ±"), ((1.0, 2.0, 3.0),))
    assert joined(table) == table
    assert joined(Table(("x", "x ±"), ((1.0, 0.0), (None, None), (0.05, 1e-9), (3.4e-18, 1.2e-18)))).rows == (
        (1.0,),
        (None,),
        (0.05,),
        ("3.4e-18 ± 1e-18",),
    )
    narrow = joined(Table(("x", "x ±", "y"), ((1.0, 0.1, 2.0),)), errors_too=False)
    assert (narrow.columns, narrow.rows) == (("x", "y"), ((1.0, 2.0),))


def test_curves_are_means_in_the_order_of_the_sweep() -> None:
    runs = [
        {"method": m, "tolerance": t, "seed": s, "gap": (t or 0) + s / 100, "acc": 0.5 + s / 10}
        for m in ("b", "a")
        for t in ((0.2, 0.1) if m == "b" else (None,))
        for s in (0, 1)
    ]
    found = curves(runs, gap="gap", quality="acc", references=("a",))
    assert [(c.method, c.reference, [p.along for p in c.points]) for c in found] == [("b", False, [0.1, 0.2]), ("a", True, [None])]
    point = found[0].points[0]
    assert [point.gap, point.quality, point.gap_error, point.quality_error] == pytest.approx([0.105, 0.55, 0.005, 0.05])
    with pytest.raises(InputError, match="expected the columns gap"):
        curves([{"method": "a", "acc": 1.0}], gap="gap", quality="acc")


def test_a_picture_without_a_point_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no point at all"):
        pareto_picture([Panel("t", "g", "q", (Curve("a", ()),))], tmp_path / "a.png")
    many = tuple(Curve(f"m{k}", (Point(None, k, k),)) for k in range(12))
    pareto_picture([Panel("t", "g", "q", many)], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000


def test_the_cells_are_plain_lines(sample: str, tmp_path: Path) -> None:
    reproduce(Settings(sample), tmp_path / "cells.jsonl")
    head, *cells = [json.loads(line) for line in (tmp_path / "cells.jsonl").read_text().splitlines()]
    assert head == {"format": 1, "kind": "fairopt reproduce", "experiment": "sample", "settings": {"quick": False}}
    assert cells[3] == {"cell": {"seed": 3}, "record": {"gap": 0.3, "accuracy": 1 - 3 / 7}, "code": mark_of(STUDIES)}
    assert picture_name("a", 0) == "a.png"
