"""The check of the arrows between the parts holds for this tree, and sees each kind of breach."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def arrows() -> ModuleType:
    spec = importlib.util.spec_from_file_location("arrows", ROOT / ".ci" / "arrows.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_this_tree_obeys(arrows: ModuleType) -> None:
    assert arrows.breaches(ROOT) == []


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("fairopt/notions/parity.py", "from fairopt.solve import front", "notions must not import solve"),
        ("fairopt/notions/parity.py", "def f():\n    import fairopt.contract.backend", "notions must not import contract"),
        ("fairopt/notions/parity.py", "from fairopt import layer", "notions must not import layer"),
        ("fairopt/solve/front.py", "from fairopt import InputError", "solve must not import __init__"),
        ("fairopt/solve/front.py", "import fairopt_backends.qpth", "solve must not import fairopt_backends"),
        ("fairopt/solve/front.py", "import pandas", "imports pandas when loaded"),
        ("fairopt/solve/front.py", "try:\n    import scipy.sparse\nexcept ImportError:\n    scipy = None", "imports scipy when loaded"),
        ("fairopt/solve/front.py", "from . import certificate", "relative import"),
        ("fairopt/invented.py", "", "'invented' has no place"),
        ("backends/fairopt_backends/qpth.py", "from fairopt.notions import parity", "fairopt_backends must not import notions"),
        ("fairopt/layer/fairness_layer.py", "def f():\n    import proofs_checks.run", "layer must not import proofs_checks"),
    ],
)
def test_each_breach_is_seen(arrows: ModuleType, tmp_path: Path, path: str, code: str, said: str) -> None:
    for part in ("notions", "solve", "contract", "layer"):
        (tmp_path / "fairopt" / part).mkdir(parents=True)
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code)
    (found,) = arrows.breaches(tmp_path)
    assert said in found
    assert found.startswith(path)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("fairopt/solve/front.py", "from fairopt.contract.backend import Backend\nimport torch, numpy, math"),
        ("fairopt/solve/front.py", "def to_pandas():\n    import pandas"),
        ("fairopt/solve/front.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas"),
        ("fairopt/cli/demo.py", "import rich\nimport fairopt as fo\nfrom fairopt.experiments import loanapp"),
        ("backends/fairopt_backends/qpth.py", "import qpth\nfrom fairopt.contract.backend import Backend"),
    ],
)
def test_what_is_allowed_passes(arrows: ModuleType, tmp_path: Path, path: str, code: str) -> None:
    for part in ("solve", "contract", "experiments"):
        (tmp_path / "fairopt" / part).mkdir(parents=True)
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code)
    assert arrows.breaches(tmp_path) == []
