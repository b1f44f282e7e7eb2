"""A stranger's package with a backend and a notion: built, installed aside beside fairopt's wheel, found and held to the kit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = Path(__file__).parent / "third_party"
pytestmark = pytest.mark.xdist_group("wheel")


def test_a_third_partys_parts_are_found_and_pass_the_kit(
    tmp_path: Path, run: Callable[..., str], build_wheel: Callable[[Path, Path], Path], install_aside: Callable[..., Path]
) -> None:
    source = tmp_path / "source"
    shutil.copytree(EXAMPLE, source)
    python = install_aside(tmp_path, build_wheel(ROOT, tmp_path / "ours"), build_wheel(source, tmp_path / "theirs"))
    assert "both hold" in run(python, source / "check.py", cwd=tmp_path)
    assert "uzawa" in run(python.parent / "fairopt", "backends", cwd=tmp_path)
