"""The notebooks run from the first cell to the last, and print what they show."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def notebooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs/_site/notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_three_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["practitioner", "researcher", "theorist"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.stem))
def test_a_notebook_prints_what_it_shows(notebooks: ModuleType, path: Path) -> None:
    notebook = json.loads(path.read_text())
    printed = notebooks.outputs(notebook, path.name)
    assert sum(map(bool, printed)) >= 3
    assert printed == notebooks.shown(notebook)
    page = notebooks.page(notebook, path.name)
    assert page.startswith("# ")
    assert page.count("```python") == len(printed)
    assert page.count("```text") == sum(map(bool, printed))


def test_the_comparison_is_awake(notebooks: ModuleType) -> None:
    cell = {"cell_type": "code", "source": ["print(1 + 1)"], "outputs": [{"text": ["3\n"]}]}
    notebook = {"cells": [{"cell_type": "markdown", "source": ["# Sum"]}, cell]}
    assert notebooks.outputs(notebook, "sum") == ["2\n"]
    assert notebooks.shown(notebook) == ["3\n"]
    assert notebooks.page(notebook, "sum.ipynb").split("\n\n")[1] == "[The notebook as a file](sum.ipynb)"
