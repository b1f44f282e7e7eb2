"""The worked examples of docs/backends.md: one as a stranger's package, held to the kit, raced; one held to the kit as a class."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from typer.testing import CliRunner

import fairopt as fo
from fairopt.cli.app import build
from fairopt.contract import registry
from fairopt.race import compare
from fairopt.race.settings import Settings
from fairopt.testing import check_backend

DOC = Path(__file__).parents[2] / "docs" / "backends.md"


def block(language: str, number: int = 0) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", DOC.read_text(), re.DOTALL | re.MULTILINE)
    assert len(found) == {"python": 3, "toml": 1}[language]
    return str(found[number])


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The example as the documentation says: a package with an entry point."""
    folder = tmp_path_factory.mktemp("example")
    (folder / "my_package").mkdir()
    (folder / "my_package" / "my_daqp.py").write_text(block("python"))
    info = folder / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    points = block("toml").replace("[project.entry-points.", "[").replace('"', "")
    (info / "entry_points.txt").write_text(points)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    registry.installed.cache_clear()
    registry._default.cache_clear()
    yield
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.startswith("my_package")]:
        del sys.modules[name]
    registry.installed.cache_clear()
    registry._default.cache_clear()


def test_it_is_under_60_lines() -> None:
    assert len(block("python").splitlines()) < 60


def test_it_passes_the_conformance_kit(installed: None) -> None:
    check_backend("my_daqp", draws=15)


def test_it_projects_and_is_listed(installed: None) -> None:
    scores, sex = torch.rand(40, generator=torch.Generator().manual_seed(0)), [0, 1, 2, 3] * 10
    notion = fo.DemographicParity("sex", tolerance=0.01)
    ours, theirs = (fo.project(scores, notion, sensitive_features={"sex": sex}, bounds=(0.2, 0.8), backend=b) for b in ("auto", "my_daqp"))
    assert float((ours - theirs).abs().max()) < 1e-6
    assert "my_daqp" in fo.backends()["name"]


def test_it_races(installed: None) -> None:
    race = compare(["my_daqp"], n=(16,), settings=Settings(repeats=2, seconds=0.02))
    assert [r["outcome"] for r in race.records] == ["ok", "ok"]
    assert all(r["solver_y_error"] < 1e-9 for r in race.records)


def test_the_dual_of_a_picky_solver_passes_the_kit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("my_slsqp")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(block("python", 2), vars(module))
    check_backend(module.MySlsqp, draws=10)


def test_a_failing_draw_is_had_again_as_the_page_says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = ModuleType("my_daqp")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(block("python"), vars(module))
    exec(block("python", 1), vars(module))
    assert module.raw.status is None
    assert capsys.readouterr().out.startswith("None ")


@pytest.mark.parametrize(
    ("page", "words", "module"),
    [
        ("backends.md", ["--backend", "own_daqp:MyDaqp"], lambda text: _python(text)[0]),
        ("notions.md", ["--notion", "my_notions:both"], lambda text: _python(text)[1] + _line(text, "both = false")),
    ],
    ids=["backend", "notion"],
)
def test_verify_prints_the_table_of_the_page(
    page: str, words: list[str], module: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class or a notion of the working directory; the measured numbers are left out, for their last digits hang on the processor."""
    text = DOC.with_name(page).read_text()
    (tmp_path / f"{words[1].partition(':')[0]}.py").write_text(module(text))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    found = CliRunner().invoke(build(), ["verify", *words, "--claims", "L1,L8,L12", "--instances", "10"])
    assert found.exit_code == 0, found.output
    assert "verify " + " ".join(words).replace("own_daqp:MyDaqp", "my_daqp") + " --claims L1,L8,L12 --instances 10" in text
    shown, printed = ([re.sub(r"[\d.e-]{5,}", "", row) for row in rows(s)] for s in (text, found.output))
    assert len(shown) == 3
    assert [row.split() for row in shown] == [row.split() for row in printed]


def rows(text: str) -> list[str]:
    return re.findall(r"^ +(L\d+ .* holds) *$", text, re.MULTILINE)


def _python(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def _line(text: str, begins: str) -> str:
    """The code in backticks that begins so."""
    found = re.search(rf"`({re.escape(begins)}[^`]*)`", text)
    assert found is not None
    return "\n" + found[1] + "\n"


def test_a_backend_of_the_working_directory_is_raced_and_a_wrong_one_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raced.py").write_text(block("python"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    words = ["compare", "--n", "16", "--box", "none", "--repeats", "1", "--form", "csv"]
    found = CliRunner().invoke(build(), [*words, "--backend", "raced:MyDaqp"])
    assert found.exit_code == 0, found.output
    assert "my_daqp" in (tmp_path / "fairopt-race" / "cells.csv").read_text()
    assert "expected a subclass" in str(CliRunner().invoke(build(), [*words, "--backend", "raced:bound"]).exception)
    assert "module:Class" in str(CliRunner().invoke(build(), ["verify", "--backend", "raced"]).exception)
