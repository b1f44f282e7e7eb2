"""The contracts between the rooms (import-linter, ruff) hold for this tree, and each kind of breach is seen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def linted(root: Path) -> subprocess.CompletedProcess[str]:
    """``lint-imports`` on the tree at ``root``, whatever is installed."""
    path = os.pathsep.join([str(root), str(root / "backends")])
    code = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-logo', '--no-cache'])"
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for package in ("fairopt", "backends", "proofs_checks"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def test_this_tree_obeys() -> None:
    done = linted(ROOT)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("path", "code", "broken"),
    [
        ("fairopt/notions/parity.py", "import fairopt.solve.front", "a room imports only rooms below it"),
        ("fairopt/contract/registry.py", "def f():\n    import fairopt.layer", "a room imports only rooms below it"),
        (
            "fairopt/solve/front.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import fairopt.layer",
            "a room imports only rooms",
        ),
        ("fairopt/invented.py", "", "every room has its place"),
        ("fairopt/solve/certificate.py", "def f():\n    import fairopt.solve.front", "no circle anywhere"),
        ("fairopt/solve/front.py", "import fairopt_backends.qpth", "the library knows no solver"),
        ("fairopt/layer/decisions.py", "def f():\n    import proofs_checks.run", "the library knows no solver"),
        ("fairopt/solve/front.py", "from fairopt import InputError", "nobody imports the public names"),
        ("fairopt/solve/front.py", "from fairopt.errors import InputError", "nobody imports the public names"),
        ("backends/fairopt_backends/qpth.py", "from fairopt.notions import parity", "a backend knows the problem"),
    ],
)
def test_each_breach_is_seen(copied: Path, path: str, code: str, broken: str) -> None:
    file = copied / path
    before = file.read_text() if file.exists() else None
    file.write_text(f"{before or ''}\n{code}\n")
    done = linted(copied)
    file.unlink() if before is None else file.write_text(before)
    assert done.returncode == 1
    kinds = [line for line in done.stdout.splitlines() if line.endswith("BROKEN")] or done.stdout.splitlines()[-12:]
    assert any(broken in line for line in kinds), done.stdout


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("import pandas", True),
        ("from scipy import sparse", True),
        ("from . import certificate", True),
        ("def to_pandas():\n    import pandas", False),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas", False),
        ("import math\n\nimport numpy\nimport torch", False),
    ],
)
def test_extras_are_imported_where_they_are_used(code: str, seen: bool) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID", "--stdin-filename", "fairopt/solve/front.py", "-"]
    done = subprocess.run(command, cwd=ROOT, input=code, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == int(seen), done.stdout
