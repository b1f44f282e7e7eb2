"""What a release is made of: the source archive, the conda recipe, and nothing in the checkout that does not belong there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LARGEST = 2_000_000  # bytes of a file: pictures and tables are smaller
TABLES = "docs/experiments/tables/"  # stored cells, packed


def _tracked() -> set[str]:
    """The files under version control; where there is none, as in a source archive, the test has nothing to compare."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("a checkout of git is not here")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if name and (ROOT / name).exists()}


def test_no_file_is_large_or_built() -> None:
    tracked = _tracked()
    assert [name for name in tracked if (ROOT / name).stat().st_size > LARGEST] == []
    built = {".whl", ".gz", ".zip", ".so", ".pyc", ".log", ".db"}
    assert [name for name in tracked if Path(name).suffix in built and not name.startswith(TABLES)] == []
    assert [name for name in tracked if "/" not in name and (ROOT / name).suffix not in {".md", ".toml", ".yml", ".cff", ""}] == []


@pytest.mark.xdist_group("wheel")
def test_the_source_archive_holds_what_builds_tests_and_documents_it(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    kept = tuple(part.removeprefix("/") for part in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])
    assert {name for name in _tracked() if name.split("/")[0] in kept} - names == set()
    assert {"PKG-INFO", "LICENSE", "pyproject.toml", "fairopt/py.typed"} <= names
    assert archive.stat().st_size < 10_000_000


def test_the_conda_recipe_asks_for_what_the_package_asks_for() -> None:
    recipe = (ROOT / ".ci/conda/meta.yaml").read_text()
    run = recipe.partition("  run:\n")[2].partition("\n\n")[0]
    asked = {line.strip("- ").split()[0]: set(line.split()[-1].split(",")) for line in run.splitlines()}
    declared = {one.name: {str(part) for part in one.specifier} for one in map(Requirement, PROJECT["project"]["dependencies"])}
    assert asked == {
        "python": {PROJECT["project"]["requires-python"]},
        "pytorch": declared.pop("torch"),
        **declared,
    }
    assert re.findall(r'version = "(.+)"', recipe) == [PROJECT["project"]["version"]]
    (command,) = PROJECT["project"]["scripts"].items()
    assert "    - {} = {}\n".format(*command) in recipe
    assert f'summary: "{PROJECT["project"]["description"]}"' in recipe
