"""Installing wheels aside: in an environment that sees the packages beside this one, but not the editable install. Nothing is fetched."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., str]
InstallAside = Callable[..., Path]


def _run(*words: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run([str(w) for w in words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def run() -> Run:
    """Run a command without this process's paths; what it printed."""
    return _run


@pytest.fixture(scope="session")
def build_wheel() -> Callable[[Path, Path], Path]:
    """Build the wheel of a source folder into another folder."""

    def build(source: Path, folder: Path) -> Path:
        _run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, cwd=source)
        (built,) = folder.glob("*.whl")
        return built

    return build


@pytest.fixture(scope="session")
def install_aside() -> InstallAside:
    """Make a virtual environment in ``folder`` with the wheels in it; its interpreter.

    It sees the packages beside this one, but not the editable install: a path that is named in a .pth file does not have its own .pth
    files read.
    """

    def install(folder: Path, *wheels: Path) -> Path:
        _run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
        python = folder / "venv/bin/python"
        site = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
        (site / "_others.pth").write_text(sysconfig.get_path("purelib") + "\n")
        offline = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
        _run(sys.executable, "-m", "pip", "--python", python, "install", *offline, *wheels, cwd=folder)
        return python

    return install
