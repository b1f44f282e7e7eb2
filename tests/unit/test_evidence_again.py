"""Stored finished cells: one drawn is made again and no other; a figure, a word or a key that differs is seen, a time is not."""

from __future__ import annotations

import csv
import gzip
import json
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairopt.basics.errors import InputError, MissingExtraError
from fairopt.basics.finished_cells import line_of
from fairopt.basics.table import Table
from fairopt.experiments.evidence import check
from fairopt.experiments.evidence.again import distances, made_again
from fairopt.experiments.marks import machine
from fairopt.experiments.pages import TABLES, write_page
from fairopt.experiments.reproduce import REGISTRY, OnProgress, Result, Section, Settings, reproduce
from fairopt.experiments.store import Store
from fairopt.experiments.studies import class_fits, class_study

WORKED: list[int] = []
MEANWHILE: list[Callable[[], None]] = []
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)


def _study(settings: Settings, store: Store, on_progress: OnProgress) -> Result:
    store.hold({})

    def work(seed: int) -> dict[str, Any]:
        for each in MEANWHILE:
            each()
        WORKED.append(seed)
        return {"runs": [{"method": "a", "gap": seed / 7, "met": True, "seconds": float(len(WORKED))}]}

    found = [store.cell({"seed": seed}, partial(work, seed)) for seed in range(4)]
    rows = Table(("gap",), tuple((record["runs"][0]["gap"],) for record in found))
    return Result(settings.name, "A study", "Text.", (Section("One", rows),))


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the stored tables of a study with four cells."""
    module = types.ModuleType("fairopt_study_of_four")
    module.run = _study  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(REGISTRY, "four", f"{module.__name__}:run")
    WORKED.clear()
    MEANWHILE.clear()
    write_page(reproduce(Settings("four")), tmp_path / "four.md", "fairopt reproduce four")
    WORKED.clear()
    return tmp_path / TABLES


def _rewrite(tables: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    path = tables / "four-cells.csv.gz"
    with gzip.open(path, "rt", newline="") as text:
        lines = list(csv.reader(text))
    for line in lines[1:]:
        key, record = json.loads(line[0]), json.loads(line[1])
        change(key, record)
        line[:] = [line_of(key), line_of(record)]
    with gzip.open(path, "wt", newline="") as text:
        csv.writer(text).writerows(lines)


def test_the_cells_of_a_page_are_made_again_each_alone(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([str(tables), "10", "1"]) == 0
    assert sorted(WORKED) == [0, 1, 2, 3]
    said = capsys.readouterr().out
    assert said.count("the same, at most 0.0e+00 apart") == 4
    assert 'ok   four / {"seed":' in said.replace(": ", ":")


@pytest.mark.parametrize(
    "change",
    [
        lambda key, record: record["runs"][0].update(gap=record["runs"][0]["gap"] + 1e-5),
        lambda key, record: record["runs"][0].update(met=False),
        lambda key, record: record["runs"][0].update(method="b"),
        lambda key, record: record["runs"].append({}),
        lambda key, record: record.update(more=1),
        lambda key, record: record["runs"][0].pop("gap"),
        lambda key, record: key.update(seed=key["seed"] + 4),
    ],
)
def test_what_differs_is_seen(tables: Path, change: Any) -> None:
    _rewrite(tables, change)
    assert check.main([str(tables), "1", "1"]) == 1


def test_figures_of_another_machine_have_to_be_near(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = json.loads((tables / "four.json").read_text())
    assert page["machine"] == machine()
    _rewrite(tables, lambda key, record: record["runs"][0].update(gap=record["runs"][0]["gap"] + 1e-3))
    assert check.main([str(tables), "4", "1"]) == 1
    (tables / "four.json").write_text(json.dumps({**page, "machine": "an abacus"}))
    assert check.main([str(tables), "4", "1"]) == 0
    assert capsys.readouterr().out.count("near, of another machine, at most 1.0e-03 apart") == 4
    _rewrite(tables, lambda key, record: record["runs"][0].update(gap=record["runs"][0]["gap"] + 0.02))
    assert check.main([str(tables), "4", "1"]) == 1


def test_a_package_that_is_not_here_neither_grants_nor_fails(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def absent() -> None:
        if len(MEANWHILE) == 1:
            MEANWHILE.append(lambda: None)
            raise MissingExtraError("no such package")

    MEANWHILE.append(absent)
    assert check.main([str(tables), "3", "1"]) == 0
    assert capsys.readouterr().out.count("no such package") == 1
    assert len(WORKED) == 3  # another was drawn in its place


def test_a_line_of_classes_whose_package_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = class_fits.fits()[0]
    line = {"data": "student", "seed": "0", "method": fit.method, "setting": str(fit.setting), "serving": "batch"}
    monkeypatch.setattr(class_study, "_ground", lambda *_: None)
    monkeypatch.setattr(class_study, "cell", lambda *_: {"absent": "no such package"})
    found = check.check(("classes", "0"), {("classes", "0"): [line]})
    assert (found.ok, found.words) == (None, "no such package")


def test_a_cell_that_this_code_has_not_is_an_error() -> None:
    with pytest.raises(InputError, match="not stored"):
        made_again("loanapp", {}, "{}")


@given(record=plain, seconds=st.floats(0, 1e9))
def test_a_record_is_at_distance_0_from_itself_whatever_its_times(record: Any, seconds: float) -> None:
    read = json.loads(json.dumps(record))
    assert all(apart == 0 for apart in distances({"x": record, "seconds": 1.0}, {"x": read, "seconds": seconds}))


@given(record=plain, other=plain)
def test_two_records_are_at_distance_0_only_where_they_are_equal(record: Any, other: Any) -> None:
    assert (max(distances(record, other), default=0.0) > 0) == (_told(record) != _told(other))


def _told(value: Any) -> Any:
    """With its kind where Python's == would not tell: True is no 1, but 1 is 1.0."""
    if isinstance(value, dict):
        return {key: _told(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_told(inner) for inner in value]
    return (isinstance(value, bool), value)
