"""The wheel, installed aside: an editable install hides what a wheel lacks. Nothing is fetched."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("wheel")


@pytest.fixture(scope="module")
def wheel(build_wheel: Callable[[Path, Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def aside(wheel: Path, install_aside: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aside")
    install_aside(folder, wheel)
    return folder


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
        (entry_points,) = (archive.read(n).decode() for n in archive.namelist() if n.endswith("entry_points.txt"))
    tree = {p.relative_to(ROOT) for p in ROOT.glob("fairopt/**/*") if p.is_file()}
    tree |= {p.relative_to(ROOT / "backends") for p in ROOT.glob("backends/fairopt_backends/**/*") if p.is_file()}
    assert names == {p.as_posix() for p in tree if "__pycache__" not in p.parts}
    assert {"fairopt/py.typed", "fairopt_backends/py.typed"} <= names
    assert "fairopt = fairopt.cli:main" in entry_points


def test_the_wheel_is_what_runs(aside: Path, run: Callable[..., str]) -> None:
    said = run(
        aside / "venv/bin/python", "-c", "import fairopt, fairopt_backends; print(fairopt.__file__, fairopt_backends.__file__)", cwd=aside
    )
    assert all(Path(p).is_relative_to(aside) for p in said.split())


def test_backends_from_another_folder(aside: Path, run: Callable[..., str]) -> None:
    said = run(aside / "venv/bin/fairopt", "backends", cwd=aside)
    for name in ("closed_form", "dual_newton", "cvxpylayers", "unrolled", "qpth", "theseus"):
        assert name in said
    assert "pip install --no-deps qpth" in said


def test_demo_from_another_folder(aside: Path, run: Callable[..., str]) -> None:
    said = run(aside / "venv/bin/fairopt", "demo", "--quick", "--picture", "seen.png", cwd=aside)
    picture = aside / "seen.png"
    assert str(picture) in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "1,989 applications" in said
    assert "fairness layer minus projection" in said
    assert said.count("1 of 1") >= 3  # limits met: the constant, what is projected, the layer
