"""Finding backends: names, classes, instances, options, and every way in which a foreign one can be broken or absent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import fairopt as fo
from fairopt.contract import registry
from fairopt.contract.problem import ProjectionProblem

FEATURES = {"g": ["a", "a", "b", "b"]}
NOTION = fo.DemographicParity("g", tolerance=0.1)
SCORES = torch.tensor([0.0, 0.2, 0.9, 1.0], dtype=torch.float64)


class Distribution:
    """What the registry reads of a distribution."""

    def __init__(self, name: str) -> None:
        self.name = name


def point(name: str, value: str, distribution: str) -> EntryPoint:
    return EntryPoint(name, value, registry.GROUP)._for(Distribution(distribution))  # type: ignore[attr-defined]


@pytest.fixture
def provide(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Replaces the entry points that are installed."""

    def clear() -> None:
        registry.installed.cache_clear()
        registry._default.cache_clear()

    def set_points(*points: EntryPoint) -> None:
        clear()
        monkeypatch.setattr(registry, "entry_points", lambda group: list(points) if group == registry.GROUP else [])

    yield set_points
    clear()


class Mine(fo.Backend):
    """A backend of the tests: the unconstrained answer, or prices that a real one found."""

    name: ClassVar[str] = "mine"
    capabilities: ClassVar[fo.Capabilities] = fo.Capabilities(ranges=True, accuracy_y=1e-8)

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def solve(self, scores: Tensor, problem: ProjectionProblem) -> fo.RawSolution:
        raw = fo.backend("dual_newton").solve(scores, problem)
        return fo.RawSolution(None, np.asarray(raw.prices) * self.factor)


class Absent(Mine):
    name: ClassVar[str] = "absent"
    requires: ClassVar[tuple[str, ...]] = ("sys", "no_such_module_of_fairopt")
    install: ClassVar[str] = "pip install no-such-module"


def test_a_name_a_class_and_an_instance_give_the_same() -> None:
    answers = [
        fo.project(SCORES, NOTION, sensitive_features=FEATURES, bounds=(0, 1), backend=b, return_solution=True)
        for b in ("dual_newton", type(fo.backend("dual_newton")), fo.backend("dual_newton", max_iter=40))
    ]
    assert {a.backend for a in answers} == {"dual_newton"}
    assert all(torch.equal(a.scores, answers[0].scores) for a in answers)


def test_a_stranger_s_class_is_used_as_it_is() -> None:
    made = fo.project(SCORES, NOTION, sensitive_features=FEATURES, backend=Mine, return_solution=True)
    assert made.backend == "mine"
    assert made.status is fo.Status.CERTIFIED
    assert torch.allclose(made.scores, fo.project(SCORES, NOTION, sensitive_features=FEATURES), atol=1e-12, rtol=0)


def test_options_reach_the_backend() -> None:
    limited = fo.backend("dual_newton", max_iter=1)
    assert limited.max_iter == 1  # type: ignore[attr-defined]
    assert fo.backend("qpsolvers:daqp", max_iter=7).max_iter == 7  # type: ignore[attr-defined]
    assert fo.backend("qpsolvers:daqp").solver == "daqp"  # type: ignore[attr-defined]


def test_solver_tol_makes_an_instance_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = type(fo.backend("dual_newton"))
    seen: list[float | None] = []
    solve = cls.solve
    monkeypatch.setattr(cls, "solve", lambda self, z, p: seen.append(self.solver_tol) or solve(self, z, p))  # type: ignore[func-returns-value]
    for backend in ("dual_newton", cls):
        fo.project(SCORES, NOTION, sensitive_features=FEATURES, bounds=(0, 1), backend=backend, solver_tol=1e-7)
    assert seen == [1e-7, 1e-7]


def test_solver_tol_beside_an_instance_would_lose_its_options() -> None:
    with pytest.raises(fo.InputError, match=r"solver_tol: got 1e-07 beside an instance of 'dual_newton', expected it among the instance's"):
        fo.project(SCORES, NOTION, sensitive_features=FEATURES, backend=fo.backend("dual_newton", max_iter=9), solver_tol=1e-7)


def test_instances_made_from_names_are_shared() -> None:
    assert registry.resolve("dual_newton") is registry.resolve("dual_newton")
    assert fo.backend("dual_newton") is not fo.backend("dual_newton")


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("no_such", {}, "backend: got 'no_such', expected one of closed_form, "),
        ("auto", {}, "backend: got 'auto', expected one of "),
        ("", {}, "backend: got '', expected one of "),
        ("dual_newton", {"max_itr": 3},
         "backend 'dual_newton': got an unexpected keyword argument 'max_itr'; its options are: max_iter, solver_tol"),
        ("dual_newton", {"max_iter": 0}, "max_iter=0: expected a whole number of at least 1"),
        ("dual_newton", {"max_iter": "ten"}, "max_iter='ten': expected a whole number of at least 1"),
        ("closed_form", {"solver_tol": -1.0}, "solver_tol=-1.0: expected a positive number"),
        ("dual_newton:fast", {}, "backend: got 'dual_newton:fast', expected 'dual_newton': there are no solvers to choose from within it"),
        ("dual_newton:", {}, "backend: got 'dual_newton:', expected 'dual_newton'"),
        ("qpsolvers", {}, "backend 'qpsolvers': missing a required argument: 'solver'"),
        ("qpsolvers:none", {}, "solver='none'"),
    ],
)  # fmt: skip
def test_what_is_unknown_is_named(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(fo.InputError) as caught:
        fo.backend(name, **options)
    assert words in str(caught.value)


def test_what_is_no_backend_is_named() -> None:
    with pytest.raises(fo.InputError, match="name: got int, expected a backend's name"):
        fo.backend(3)  # type: ignore[arg-type]
    for wrong in (3, int, None):
        with pytest.raises(fo.InputError, match="backend: got .*, expected a name, a Backend class or an instance"):
            fo.project(SCORES, NOTION, sensitive_features=FEATURES, backend=wrong)  # type: ignore[arg-type]


def test_two_distributions_with_one_name_are_an_error_that_names_both(provide: Callable[..., None]) -> None:
    provide(point("fast", "a.b:C", "zebra"), point("fast", "d.e:F", "apple"))
    with pytest.raises(fo.BackendError, match="backend 'fast' is provided by two distributions, apple and zebra; uninstall one"):
        fo.backend("fast")
    with pytest.raises(fo.BackendError, match="apple and zebra"):
        fo.backends()


def test_one_backend_seen_twice_is_no_conflict(provide: Callable[..., None]) -> None:
    """An editable install beside a wheel lists the same entry point twice."""
    value = f"{type(fo.backend('dual_newton')).__module__}:DualNewton"
    provide(point("dual_newton", value, "fairopt"), point("dual_newton", value, "fairopt"))
    assert list(registry.installed()) == ["dual_newton"]
    assert fo.backend("dual_newton").name == "dual_newton"


def test_backends_that_are_broken_are_named_and_hurt_no_other(
    provide: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "broken_of_fairopt.py").write_text("raise ValueError('no licence')")
    (tmp_path / "wrong_of_fairopt.py").write_text("Thing = 3")
    (tmp_path / "extra_of_fairopt.py").write_text(
        "from fairopt.basics.errors import MissingExtraError\nraise MissingExtraError('pip install it')"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    provide(
        point("broken", "broken_of_fairopt:Thing", "one"),
        point("wrong", "wrong_of_fairopt:Thing", "two"),
        point("gone", "gone_of_fairopt:Thing", "three"),
        point("extra", "extra_of_fairopt:Thing", "four"),
        point("dual_newton", "fairopt_backends.dual_newton:DualNewton", "fairopt"),
    )
    expected = {
        "broken": (fo.BackendError, "backend 'broken' (broken_of_fairopt:Thing) could not be imported: ValueError: no licence"),
        "wrong": (fo.BackendError, "backend 'wrong' (wrong_of_fairopt:Thing) is 3, expected a subclass of fairopt.Backend"),
        "gone": (fo.BackendError, "ModuleNotFoundError: No module named 'gone_of_fairopt'"),
        "extra": (fo.MissingExtraError, "pip install it"),
    }
    for name, (kind, words) in expected.items():
        with pytest.raises(kind) as caught:
            fo.backend(name)
        assert words in str(caught.value), name
    table = {row["name"]: row for row in fo.backends()}
    assert list(table) == sorted([*expected, "dual_newton"])
    assert table["dual_newton"]["available"] is True
    for name, (_, words) in expected.items():
        assert table[name]["available"] is False
        assert words in table[name]["reason"]
        assert table[name]["softness"] is None


def test_an_absent_solver_names_the_line_that_installs_it(provide: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    words = "no_such_module_of_fairopt not installed; install with:\n    pip install no-such-module"
    monkeypatch.setitem(sys.modules, "stranger_of_fairopt", sys.modules[__name__])
    provide(point("absent", "stranger_of_fairopt:Absent", "stranger"))
    for make in (
        lambda: fo.backend("absent"),
        lambda: fo.project(SCORES, NOTION, sensitive_features=FEATURES, backend=Absent),
        lambda: fo.FairnessLayer(NOTION, backend="absent"),
    ):
        with pytest.raises(fo.MissingExtraError) as caught:
            make()
        assert words in str(caught.value)
    (row,) = fo.backends()
    assert (row["available"], row["reason"]) == (False, words)


@pytest.mark.parametrize("name", ["cvxpylayers", "diffcp", "moreau", "proxqp", "qpsolvers:daqp", "qpth", "theseus"])
def test_every_foreign_solver_declares_what_it_needs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = registry.load(name.partition(":")[0])
    assert cls.requires
    assert "pip install" in cls.install
    for module in cls.requires:
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(registry, "find_spec", lambda module: None)
    with pytest.raises(fo.MissingExtraError) as caught:
        fo.backend(name)
    assert cls.install in str(caught.value)


def test_the_listing_tells_what_each_declares() -> None:
    table = fo.backends()
    assert table["name"] == tuple(sorted(registry.installed()))
    for row in table:
        can = registry.load(row["name"]).capabilities
        assert row["available"] is True, row["reason"]
        assert set(row["softness"].split(", ")) == set(can.softness)
        assert set(row["gradients"].split(", ")) == set(can.gradients)
        assert (row["ranges"], row["accuracy_y"]) == (can.ranges, can.accuracy_y)
