"""What the author of a notion or of a backend is told: slips are named, failing draws can be had again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import fairopt as fo
from fairopt.notions.batch import Batch
from fairopt.solve import solve
from fairopt.testing import check_backend, check_notion, draw, handed_over

FACTS: dict[str, Any] = {"sensitive_features": ["f", "m"], "targets": [0, 1]}
Z = torch.tensor([0.2, 0.6])
PARITY = fo.DemographicParity("sex", tolerance=0)


@fo.notion
def fpr(batch: Batch, attribute: str, limit: float) -> Iterator[Any]:
    for group in batch.groups(attribute):
        yield batch.mean(group & (batch.targets == 0)) <= limit


UNCALLED: Any = fpr


@fo.notion
def only_sevens(batch: Batch, attribute: str) -> Iterator[Any]:
    for group in batch.groups(attribute):
        yield batch.mean(group & (batch.targets == 7)) <= 0.2


@fo.notion
def nothing(batch: Batch, attribute: str) -> list[Any]:
    return []


@fo.notion
def unbraced(batch: Batch, attribute: str) -> Iterator[Any]:
    for group in batch.groups(attribute):
        yield batch.mean(group & batch.targets == 0) <= 0.2


@fo.notion
def unbraced_before(batch: Batch, attribute: str) -> Iterator[Any]:
    for group in batch.groups(attribute):
        yield batch.mean(batch.targets == 0 & group) <= 0.2


@fo.notion
def about_nobody(batch: Batch, attribute: str) -> Iterator[Any]:
    yield batch.mean(batch.group(attribute, "x")) <= 0.2


@fo.notion
def about_nobody_joined(batch: Batch, attribute: str) -> Iterator[Any]:
    yield batch.mean((batch.targets == 0) & batch.group(attribute, "x")) <= 0.2


@pytest.mark.parametrize(("made", "why"), [(only_sevens, "no sample in group 0 & target=7"), (nothing, "it yields no constraint")])
def test_the_kit_refuses_a_notion_that_asks_nothing(made: Any, why: str) -> None:
    with pytest.raises(fo.ConformanceError, match="asked nothing on any of 8 batches") as caught:
        check_notion(made("sex"), draws=8)
    assert caught.value.property == "asks_something"
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: fo.project(Z, UNCALLED, **FACTS), lambda: fo.compile(UNCALLED, **FACTS), lambda: fo.FairnessLayer(UNCALLED),
        lambda: fo.gaps(Z, UNCALLED, **FACTS), lambda: check_notion(UNCALLED), lambda: PARITY & UNCALLED, lambda: UNCALLED & PARITY,
    ],
    ids=["project", "compile", "layer", "gaps", "kit", "joined", "joined before"],
)  # fmt: skip
def test_a_factory_in_the_place_of_a_notion_is_to_be_called(call: Callable[[], Any]) -> None:
    with pytest.raises(fo.InputError, match=re.escape("call it: fpr(attribute, limit)")):
        call()


def test_a_missing_argument_names_the_notion() -> None:
    with pytest.raises(TypeError, match=re.escape("fpr(attribute, limit): missing a required argument: 'limit'")):
        fpr("sex")


@pytest.mark.parametrize("made", [unbraced, unbraced_before])
def test_a_comparison_without_parentheses(made: Any) -> None:
    with pytest.raises(fo.InputError, match="put parentheses around batch.targets == 0"):
        fo.project(Z, made("sex"), **FACTS)


@pytest.mark.parametrize("made", [about_nobody, about_nobody_joined])
def test_an_absent_group_is_named_and_is_not_everyone(made: Any) -> None:
    with pytest.raises(fo.InputError, match=re.escape("batch.group('sex', 'x') is None")):
        fo.project(Z, made("sex"), **FACTS)


class Wrong(fo.Backend):
    """dual_newton, whose answer is spoiled."""

    name: ClassVar[str] = "wrong"
    capabilities: ClassVar[fo.Capabilities] = fo.Capabilities(accuracy_y=1e-6)

    def solve(self, scores: Tensor, problem: Any) -> Any:
        return self.spoiled(fo.backend("dual_newton").solve(scores, problem))

    def spoiled(self, raw: fo.RawSolution) -> Any:
        return raw


class Bare(Wrong):
    def spoiled(self, raw: fo.RawSolution) -> Any:
        return torch.zeros(2)


class NumpyScores(Wrong):
    def spoiled(self, raw: fo.RawSolution) -> Any:
        return fo.RawSolution(np.zeros(2), raw.prices)  # type: ignore[arg-type]


class TensorPrices(Wrong):
    def spoiled(self, raw: fo.RawSolution) -> Any:
        return fo.RawSolution(raw.y, torch.from_numpy(raw.prices))  # type: ignore[arg-type]


class WordStatus(Wrong):
    def spoiled(self, raw: fo.RawSolution) -> Any:
        return fo.RawSolution(raw.y, raw.prices, "solved")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Bare, "solve returned torch.Tensor, expected a RawSolution"),
        (NumpyScores, "RawSolution.y: got numpy.ndarray, expected a torch tensor"),
        (TensorPrices, "RawSolution.prices: got torch.Tensor, expected a float64 numpy array"),
        (WordStatus, "RawSolution.status: got 'solved'"),
    ],
)
def test_an_answer_of_another_type_is_named(kind: type[Wrong], words: str) -> None:
    with pytest.raises(fo.BackendError, match=re.escape(f"backend 'wrong': {words}")):
        fo.project(Z, PARITY, backend=kind, **FACTS)


@pytest.mark.parametrize("field", ["name", "capabilities"])
def test_a_class_that_does_not_say_what_it_is(field: str) -> None:
    declared = {"name": "mine", "capabilities": fo.Capabilities(), "solve": lambda self, scores, problem: None}
    kind: Any = type("Mine", (fo.Backend,), {k: v for k, v in declared.items() if k != field})
    for call in (
        lambda: fo.project(Z, PARITY, backend=kind, **FACTS),
        lambda: fo.project(Z, PARITY, backend=kind(), **FACTS),
        lambda: check_backend(kind, draws=1),
        lambda: fo.compare([kind]),
    ):
        with pytest.raises(fo.BackendError, match=f"{field} of the backend class Mine: has none, expected"):
            call()


class TurnedPrices(Wrong):
    def spoiled(self, raw: fo.RawSolution) -> Any:
        return fo.RawSolution(raw.y, None if raw.prices is None else -raw.prices, raw.status, message="my own words")


def test_prices_of_the_other_sign_are_told_as_that() -> None:
    with pytest.raises(fo.ConformanceError, match="with the sign turned they hold: y = clip") as caught:
        check_backend(TurnedPrices, draws=6, properties=["raw_prices"])
    assert caught.value.property == "raw_prices"
    assert "np.float64" not in str(caught.value)
    assert "it said: my own words" in str(caught.value)


class Raising(Wrong):
    def spoiled(self, raw: fo.RawSolution) -> Any:
        raise ZeroDivisionError("of mine")


def test_a_failing_draw_can_be_had_again() -> None:
    with pytest.raises(fo.ConformanceError, match=r"ZeroDivisionError: of mine \(test_authors.py:\d+\)") as caught:
        check_backend(Raising, draws=2)
    line = re.search(r"replay: (.*?); (scores, problem = handed_over\(.*, backend\))", str(caught.value))
    assert line is not None
    names: dict[str, Any] = {"backend": Raising()}
    exec("\n".join(line.groups()), names)
    with pytest.raises(ZeroDivisionError, match="of mine"):
        names["backend"].solve(names["scores"], names["problem"])


def test_what_is_handed_over_is_what_comes() -> None:
    came: list[tuple[Tensor, Any]] = []

    class Listening(Wrong):
        def solve(self, scores: Tensor, problem: Any) -> Any:
            came.append((scores, problem))
            return super().solve(scores, problem)

    for seed in range(6):
        drawn = draw("range", seed, ["weights", "box"], max_n=24)
        came.clear()
        scores, problem = handed_over(drawn, Listening)
        assert not came
        assert problem.ranges == 0
        solve(drawn.scores, drawn.problem, backend=Listening())
        for theirs in came[:1]:
            assert torch.equal(theirs[0], scores)
            assert theirs[1] is problem


def test_a_certificate_shows_how_many_constraints_were_dropped() -> None:
    groups = {"sex": ["f", "m", "x"]}
    found = fo.project([0.2, 0.6], PARITY, sensitive_features=["f", "m"], groups=groups, return_solution=True)
    assert len(found.certificate.dropped) == 1
    assert "dropped=<1 of the constraints>" in repr(found)
    whole = fo.project([0.2, 0.6], PARITY, sensitive_features=["f", "m"], return_solution=True)
    assert "dropped" not in repr(whole)


def test_one_constraint_alone_conflicts_with_the_bounds() -> None:
    with pytest.raises(fo.InfeasibleError) as caught:
        fo.project(Z, fo.GroupMeanBound("sex", lower=0.9), bounds=(0, 0.5), **FACTS)
    assert "meet this constraint: GroupMeanBound(sex): f." in str(caught.value)
    assert "make it .priced(rho)" in str(caught.value)
    both = fo.GroupMeanBound("sex", lower=0.9) & fo.GroupMeanBound("sex", upper=0.1)
    with pytest.raises(fo.InfeasibleError, match=r"together \(without any one of them there are some\)"):
        fo.project(Z, both, **FACTS)
