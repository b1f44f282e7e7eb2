"""pyproject.toml and the pinned closure agree, and no extra names a package that would break the rest."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def _pins() -> dict[str, str]:
    lines = [line for name in ("wheels", "sdists") for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()]
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), "every line pins one version"
    names = [canonicalize_name(name) for name, _ in pairs]
    assert len(names) == len(set(names)), "no package stands twice"
    return dict(zip(names, (version for _, version in pairs), strict=True))


def _declared() -> list[tuple[str, Requirement]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {"core": project["dependencies"], **project["optional-dependencies"]}
    return [(extra, Requirement(line)) for extra, lines in extras.items() for line in lines]


@pytest.mark.parametrize(("extra", "requirement"), _declared(), ids=lambda v: str(v))
def test_the_pins_satisfy_what_is_declared(extra: str, requirement: Requirement) -> None:
    assert requirement.specifier.contains(_pins()[canonicalize_name(requirement.name)]), extra


def test_no_extra_names_a_package_that_breaks_the_others() -> None:
    named = {canonicalize_name(requirement.name) for _, requirement in _declared()}
    assert not named & {"qpth", "theseus-ai", "scikit-sparse", "ecos"}


def test_the_core_needs_torch_and_numpy_alone() -> None:
    assert {requirement.name for extra, requirement in _declared() if extra == "core"} == {"torch", "numpy"}
