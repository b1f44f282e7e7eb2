"""The algebra: what it accepts, every trap, the decorator, notions as values."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fairopt.basics.errors import InputError
from fairopt.compiler import compile_problem
from fairopt.notions import (
    Batch,
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    GroupMeanBound,
    ImpactRatio,
    MeanResidual,
    Notion,
    PredictiveEquality,
    Reference,
    ResidualParity,
    ScoreCovariance,
    notion,
)

FEATURES = {"sex": ["f", "m", "f", "m", "m", "f"], "race": [0, 1, 2, 0, 1, 2], "age": [0.1, 0.5, 0.2, 0.9, 0.4, 0.3]}
TARGETS = [1, 0, 1, 1, 0, 0]


@notion
def opportunity(batch: Batch, attribute: Any, tolerance: Any) -> Any:
    for a, b in batch.pairs(attribute):
        yield abs(batch.mean(a & (batch.targets == 1)) - batch.mean(b & (batch.targets == 1))) <= tolerance


@notion
def plain(batch: Batch, attribute_one: Any, attribute_two: Any = None, tolerance: Any = 0.1) -> Any:
    yield batch.range(batch.groups(attribute_one)) <= tolerance


SHIPPED: list[Notion] = [
    DemographicParity("sex", tolerance=0.05),
    DemographicParity(("sex", "race"), tolerance=0.05, to="overall"),
    DemographicParity("race", tolerance=0.05, to=Reference(1), given="sex"),
    EqualOpportunity("sex", tolerance=0.1),
    PredictiveEquality("sex", tolerance=0.1),
    EqualizedOdds("sex", tolerance=0.1),
    MeanResidual("race", tolerance=0.1),
    ResidualParity("race", tolerance=0.1, given="sex"),
    ImpactRatio("sex", ratio=0.9),
    GroupMeanBound("sex", lower=0.1, upper=0.9),
    ScoreCovariance("age", tolerance=0.01),
    opportunity("sex", tolerance=0.05),
    DemographicParity("sex", tolerance=0.05) & EqualOpportunity("race", tolerance=0.1).priced(2.0),
    (DemographicParity("sex", tolerance=0.05) & DemographicParity("race", tolerance=0.1)).budgeted(3.0),
    DemographicParity("sex", tolerance=torch.nn.Parameter(torch.tensor(0.05))).penalised(10.0),
]


@pytest.mark.parametrize("value", SHIPPED, ids=repr)
def test_notions_are_values(value: Notion) -> None:
    for other in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value)):
        assert other == value
        assert hash(other) == hash(value)
        assert repr(other) == repr(value)
        assert compile_problem(other, n=6, sensitive_features=FEATURES, targets=TARGETS).problem.labels
    assert all(value != other for other in SHIPPED if other is not value)


def test_repr_is_the_call() -> None:
    assert repr(SHIPPED[0]) == "DemographicParity('sex', tolerance=0.05)"
    assert repr(SHIPPED[2]) == "DemographicParity('race', tolerance=0.05, to=Reference(value=1), given='sex')"
    assert repr(SHIPPED[-3]) == "DemographicParity('sex', tolerance=0.05) & EqualOpportunity('race', tolerance=0.1).priced(2.0)"
    assert repr(SHIPPED[-2]).startswith("(DemographicParity('sex', tolerance=0.05) & ")


def test_needs_targets_and_attributes() -> None:
    assert not DemographicParity("sex", tolerance=0.1).needs_targets
    assert all(
        n.needs_targets
        for n in (SHIPPED[3], SHIPPED[4], SHIPPED[5], SHIPPED[6], SHIPPED[7], opportunity("sex", tolerance=0.1), SHIPPED[12])
    )
    assert not plain("sex").needs_targets
    assert SHIPPED[1].attributes == ("sex", "race")
    assert SHIPPED[2].attributes == ("race", "sex")
    assert plain("sex", ("race", "sex")).attributes == ("sex", "race")
    assert SHIPPED[12].attributes == ("sex", "race")


def test_needs_targets_can_be_said() -> None:
    @notion(needs_targets=True)
    def hidden(batch: Batch, attribute: str) -> Any:
        yield batch.range(batch.groups(attribute)) <= 0.1

    assert hidden("sex").needs_targets
    with pytest.raises(InputError, match="needs targets"):
        compile_problem(hidden("sex"), n=6, sensitive_features=FEATURES)


def test_parameters_keep_the_tensors_themselves() -> None:
    tolerance, rho = torch.nn.Parameter(torch.tensor(0.1)), torch.nn.Parameter(torch.tensor(2.0))
    joined = DemographicParity("sex", tolerance=tolerance).priced(rho) & ImpactRatio("sex")
    assert joined.parameters["tolerance_0"] is tolerance
    assert joined.parameters["rho_0"] is rho
    torch.nn.ParameterDict(joined.parameters)  # the names are fit for a module


TRAPS: list[tuple[str, str, Callable[[Batch, Any, Any], object]]] = [
    ("chained", "chained comparison", lambda b, f, g: -0.1 <= f <= 0.1),
    ("chained constraint", "compared again", lambda b, f, g: (f <= 0.1) <= 0.2),
    ("truth", "no truth value", lambda b, f, g: bool(f)),
    ("truth of a constraint", "no truth value", lambda b, f, g: (f <= 0.1) and (f >= 0)),
    ("equal", "compared with ==", lambda b, f, g: f == 0.1),
    ("not equal", "compared with !=", lambda b, f, g: f != 0.1),
    ("strict", "strict <", lambda b, f, g: f < 0.1),
    ("strict reflected", "strict <", lambda b, f, g: 0.1 > f),  # noqa: SIM300
    ("strict greater", "strict >", lambda b, f, g: f > 0.1),
    ("abs above", "not convex", lambda b, f, g: abs(f) >= 0.1),
    ("abs above reflected", "not convex", lambda b, f, g: 0.1 <= abs(f)),  # noqa: SIM300
    ("abs plus", "only be compared", lambda b, f, g: abs(f) + abs(g) <= 0.1),
    ("abs times", "only be compared", lambda b, f, g: 2 * abs(f) <= 0.1),
    ("abs below functional", "with a number", lambda b, f, g: abs(f) <= g),
    ("range above", "not convex", lambda b, f, g: b.range([f, g]) >= 0.1),
    ("range plus", "only be compared", lambda b, f, g: b.range([f, g]) - 0.1 <= 0),
    ("product", "product of two functionals", lambda b, f, g: f * g),
    ("quotient", "ratio of means", lambda b, f, g: f / g),
    ("number over", "not affine", lambda b, f, g: 1 / f),
    ("power", "not affine", lambda b, f, g: f**2),
    ("times array", "by a number only", lambda b, f, g: np.ones(6) * f),
    ("plus word", "cannot be added", lambda b, f, g: f + "a"),
    ("minus word", "cannot be added", lambda b, f, g: f - "a"),
    ("word limit", "with a number", lambda b, f, g: f <= "a"),
    ("bool limit", "with a number", lambda b, f, g: f <= True),
    ("nan limit", "NaN", lambda b, f, g: f <= float("nan")),
    ("negative abs", "must be >= 0", lambda b, f, g: abs(f) <= -0.1),
    ("negative range", "must be >= 0", lambda b, f, g: b.range([f, g]) <= -0.1),
    ("learned factor", "carries no gradient", lambda b, f, g: torch.tensor(1.0, requires_grad=True) * f),
    ("and of events", "&, | and ~", lambda b, f, g: b.groups("sex")[0] and b.groups("sex")[1]),
    ("event equal", "compared with ==", lambda b, f, g: b.groups("sex")[0] == 1),
    ("wrong mask", r"boolean array of shape \(6,\)", lambda b, f, g: b.mean(np.ones(5, dtype=bool))),
    ("float mask", "boolean array", lambda b, f, g: b.groups("sex")[0] & np.ones(6)),
    ("target with word", "with a number", lambda b, f, g: b.targets == "a"),
    ("wrong values", r"must have shape \(6,\)", lambda b, f, g: b.mean(of=np.ones(5))),
    ("nan values", "NaN", lambda b, f, g: b.mean(of=np.full(6, np.nan))),
]


@pytest.mark.parametrize(("message", "trap"), [t[1:] for t in TRAPS], ids=[t[0] for t in TRAPS])
def test_every_trap_raises_with_the_line(message: str, trap: Callable[[Batch, Any, Any], object]) -> None:
    batch = Batch(6, FEATURES, TARGETS)
    f, g = (batch.mean(m) for m in batch.groups("sex"))
    with pytest.raises(InputError, match=message) as caught:
        trap(batch, f, g)
    if message not in ("NaN", r"must have shape \(6,\)"):
        assert "test_notions.py" in str(caught.value)
        assert "lambda b, f, g" in str(caught.value)


def test_a_chained_comparison_inside_a_notion_is_an_input_error_with_its_line() -> None:
    @notion
    def careless(batch: Batch, attribute: str, tolerance: float) -> Any:
        for a, b in batch.pairs(attribute):
            yield -tolerance <= batch.mean(a) - batch.mean(b) <= tolerance

    with pytest.raises(InputError, match="yield -tolerance <= batch.mean"):
        compile_problem(careless("sex", tolerance=0.1), n=6, sensitive_features=FEATURES)


def test_learning_targets_have_no_events_but_means() -> None:
    targets = torch.tensor(TARGETS, dtype=torch.float64, requires_grad=True)
    with pytest.raises(InputError, match="require grad"):
        compile_problem(EqualOpportunity("sex", tolerance=0.1), n=6, sensitive_features=FEATURES, targets=targets)
    compiled = compile_problem(MeanResidual("sex", tolerance=0.1), n=6, sensitive_features=FEATURES, targets=targets)
    compiled.limits().offset.sum().backward()
    assert targets.grad is not None
    assert torch.allclose(targets.grad, torch.full((6,), -1 / 3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DemographicParity("sex", tolerance=-0.1), "tolerance of DemographicParity"),
        (lambda: DemographicParity("sex", tolerance=float("nan")), "NaN"),
        (lambda: DemographicParity("sex", tolerance=float("inf")), "finite"),
        (lambda: DemographicParity("sex", tolerance="0.1"), "must be a number"),
        (lambda: DemographicParity("sex", tolerance=True), "must be a number"),
        (lambda: DemographicParity("sex", tolerance=torch.tensor([0.1, 0.2])), "one element"),
        (lambda: DemographicParity("sex", tolerance=0.1, to="all"), "to must be"),  # type: ignore[arg-type]
        (lambda: DemographicParity(3, tolerance=0.1), "an attribute is a name"),  # type: ignore[arg-type]
        (lambda: DemographicParity((), tolerance=0.1), "an attribute is a name"),
        (lambda: DemographicParity(("a", "a"), tolerance=0.1), "distinct names"),
        (lambda: ImpactRatio("sex", ratio=1.1), r"in \[0, 1\]"),
        (lambda: ImpactRatio("sex", ratio=float("nan")), r"in \[0, 1\]"),
        (lambda: GroupMeanBound("sex"), "lower, upper or both"),
        (lambda: GroupMeanBound("sex", lower=0.6, upper=0.5), "lower 0.6 > upper 0.5"),
        (lambda: ScoreCovariance(("a", "b"), tolerance=0.1), "one continuous attribute"),  # type: ignore[arg-type]
        (lambda: DemographicParity("sex", tolerance=0.1).priced(-1), "rho of .priced"),
        (lambda: DemographicParity("sex", tolerance=0.1).penalised(0), "gamma of .penalised"),
        (lambda: DemographicParity("sex", tolerance=0.1).priced(1).budgeted(2), "soft already"),
        (lambda: DemographicParity("sex", tolerance=0.1) & 3, "joined with another notion"),
        (lambda: bool(DemographicParity("sex", tolerance=0.1)), "not with 'and'"),
        (lambda: opportunity("sex", tolerance=-1), "tolerance of opportunity"),
        (lambda: opportunity(3, tolerance=0.1), "an attribute is a name"),
    ],
)
def test_bad_arguments_are_input_errors(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_wrong_parameter_names_are_type_errors() -> None:
    with pytest.raises(TypeError, match="tolerence"):
        opportunity("sex", tolerence=0.1)
    with pytest.raises(TypeError, match="missing"):
        opportunity("sex")
    with pytest.raises(TypeError, match="tolerence"):
        DemographicParity("sex", tolerence=0.1)  # type: ignore[call-arg]


@pytest.mark.parametrize("produced", [None, 3, [0.1], ["a"]])
def test_a_notion_that_yields_no_constraints_is_named(produced: object) -> None:
    @notion
    def odd(batch: Batch, attribute: str) -> Any:
        return produced

    with pytest.raises(InputError, match="the notion odd"):
        compile_problem(odd("sex"), n=6, sensitive_features=FEATURES)


def test_a_local_notion_deep_copies_and_says_why_it_does_not_pickle() -> None:
    @notion
    def local(batch: Batch, attribute: str) -> Any:
        return batch.range(batch.groups(attribute)) <= 0.1

    assert copy.deepcopy(local("sex")) == local("sex")
    with pytest.raises(pickle.PicklingError, match="local"):
        pickle.dumps(local("sex"))
    assert compile_problem(local("sex"), n=6, sensitive_features=FEATURES).problem.labels == ("local(sex): f - m",)


def test_reference_and_group_names() -> None:
    batch = Batch(6, FEATURES)
    assert [m.name for m in batch.groups(("sex", "race"))][:2] == ["f & 0", "f & 1"]
    found = batch.group(("sex", "race"), ("m", 2))
    assert found is not None
    assert found.name == "m & 2"
    assert batch.group("race", 7) is None
    assert batch.group("race", True) is None  # True is not the group 1
    with pytest.raises(InputError, match="one value per attribute"):
        batch.group(("sex", "race"), ("m",))
    with pytest.raises(InputError, match="no declared group"):
        compile_problem(
            DemographicParity("race", tolerance=0.1, to=Reference(7)), n=6, sensitive_features=FEATURES, groups={"race": [0, 1, 2]}
        )


def test_functionals_print() -> None:
    batch = Batch(6, FEATURES)
    a, b = (batch.mean(m) for m in batch.groups("sex"))
    assert (a - 0.8 * b).label() == "f - 0.8*m"
    assert (-a + 2 * b - 0.5).label() == "-f + 2*m - 0.5"
    assert (a / 2 + a).label() == "0.5*f + f"
