"""Bad input: fairopt's own error, which names the argument, what came and what was expected; and nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import fairopt as fo

F64 = torch.float64
Z = torch.tensor([0.1, 0.5, 0.2, 0.9], dtype=F64)
G = {"g": ["a", "b", "a", "b"]}
T = torch.tensor([0.0, 1.0, 1.0, 0.0])
PARITY = fo.DemographicParity("g", tolerance=0.05)
OPPORTUNITY = fo.EqualOpportunity("g", tolerance=0.05)


def run(scores: Any = Z, notion: Any = PARITY, **facts: Any) -> Any:
    return fo.project(scores, notion, **{"sensitive_features": G, **facts})


def through_layer(scores: Any = Z, notion: Any = PARITY, features: Any = G, **options: Any) -> Any:
    return fo.FairnessLayer(notion, **options)(scores, sensitive_features=features)


def cause(*words: str, kind: type[fo.FairoptError] = fo.InputError) -> tuple[type[fo.FairoptError], tuple[str, ...]]:
    return kind, words


def with_value(value: float, dtype: torch.dtype = F64) -> Tensor:
    return torch.tensor([0.1, 0.5, value, 0.9], dtype=dtype)


@fo.notion
def chained(batch: Any, attribute: str, tolerance: float) -> Any:
    a, b = batch.groups(attribute)
    yield -tolerance <= batch.mean(a) - batch.mean(b) <= tolerance


@fo.notion
def equal(batch: Any, attribute: str) -> Any:
    a, b = batch.groups(attribute)
    yield batch.mean(a) == batch.mean(b)


@fo.notion
def far_apart(batch: Any, attribute: str) -> Any:
    a, b = batch.groups(attribute)
    yield abs(batch.mean(a) - batch.mean(b)) >= 0.1


@fo.notion
def product(batch: Any, attribute: str) -> Any:
    a, b = batch.groups(attribute)
    yield batch.mean(a) * batch.mean(b) <= 0.1


@fo.notion
def nothing(batch: Any, attribute: str) -> Any:
    yield 3


@fo.notion
def masked_by_targets(batch: Any, attribute: str, tolerance: float) -> Any:
    yield batch.range(g & (batch.targets == 1) for g in batch.groups(attribute)) <= tolerance


NAN, INF = float("nan"), float("inf")
LEARNED_TARGETS = torch.tensor([0.0, 1.0, 1.0, 0.0], requires_grad=True)

CASES: dict[str, tuple[Callable[[], Any], tuple[type[fo.FairoptError], tuple[str, ...]]]] = {
    # scores
    "scores nan": (lambda: run(with_value(NAN)), cause("scores: got nan at position 2", "expected finite numbers")),
    "scores nan f32": (lambda: run(with_value(NAN, torch.float32)), cause("scores: got nan at position 2")),
    "scores nan bf16": (lambda: run(with_value(NAN, torch.bfloat16)), cause("scores: got nan at position 2")),
    "scores nan with a box": (lambda: run(with_value(NAN), bounds=(0, 1)), cause("scores: got nan at position 2")),
    "scores inf": (lambda: run(with_value(INF)), cause("scores: got inf at position 2", "expected finite numbers")),
    "scores -inf with a box": (lambda: run(with_value(-INF), bounds=(0, 1)), cause("scores: got -inf at position 2")),
    "logits inf": (lambda: through_layer(with_value(INF), space="probability"), cause("scores: got inf at position 2")),
    "scores nan, passthrough": (
        lambda: run(with_value(NAN), fo.GroupMeanBound("g", lower=2.0), bounds=(0, 1), on_infeasible="passthrough"),
        cause("scores: got nan at position 2"),
    ),
    "scores list": (lambda: run([0.1, 0.5, "0.2", 0.9]), cause("scores must be numbers of shape (n,)", "'0.2' at position 2")),
    "scores numpy text": (lambda: run(np.array(["0.1", "0.5", "0.2", "0.9"])), cause("scores must be numbers", "came ndarray with '0.1'")),
    "layer scores list": (lambda: through_layer([0.1, 0.5]), cause("scores: got list, expected a torch tensor of shape (n,) or (n, 1)")),
    "scores int": (lambda: run(torch.tensor([0, 1, 0, 1])), cause("scores: got dtype torch.int64, expected a float dtype (float64, ")),
    "scores complex": (lambda: run(Z.to(torch.complex128)), cause("scores: got dtype torch.complex128, expected a float dtype")),
    "logits int": (lambda: through_layer(torch.tensor([0, 1, 0, 1]), space="probability"), cause("scores: got dtype torch.int64")),
    "scores (4, 2)": (lambda: run(torch.zeros(4, 2)), cause("scores: got shape (4, 2), expected (4,) or (4, 1)")),
    "scores (1, 4)": (lambda: run(torch.zeros(1, 4)), cause("scores: got shape (1, 4), expected (4,) or (4, 1)")),
    "scores (2, 2, 1)": (lambda: run(torch.zeros(2, 2, 1)), cause("scores: got shape (2, 2, 1), expected (4,) or (4, 1)")),
    "layer scores (4, 2)": (lambda: through_layer(torch.zeros(4, 2)), cause("scores: got shape (4, 2), expected (4,) or (4, 1)")),
    "layer scores 0d": (lambda: through_layer(torch.tensor(0.5)), cause("scores: got shape (), expected (n,) or (n, 1)")),
    "scores 5": (lambda: run(torch.zeros(5)), cause("scores: got 5 scores, expected 4, one per sample of the batch")),
    "layer scores 5": (lambda: through_layer(torch.zeros(5)), cause("sensitive_features['g'] has 4 values for 5 samples")),
    "batch of scores (4,)": (
        lambda: fo.compile(PARITY, sensitive_features=G).project_batch(Z),
        cause("scores: got (4,), expected (B, 4): one row per problem"),
    ),
    "batch of scores (2, 5)": (
        lambda: fo.compile(PARITY, sensitive_features=G).project_batch(torch.zeros(2, 5)),
        cause("scores: got 5 scores, expected 4"),
    ),
    "batch of no rows": (
        lambda: fo.compile(PARITY, sensitive_features=G).project_batch(torch.zeros(0, 4)),
        cause("scores: got an empty batch, expected at least one row"),
    ),
    "empty batch": (lambda: run(torch.zeros(0), sensitive_features={"g": []}), cause("batch is empty; at least one sample is needed")),
    "layer empty batch": (lambda: through_layer(torch.zeros(0), features={"g": []}), cause("batch is empty")),
    # groups
    "unknown attribute": (
        lambda: run(sensitive_features={"h": [1, 2, 1, 2]}),
        cause("sensitive_features has no attribute 'g'; it has 'h'"),
    ),
    "features list": (
        lambda: run(notion=PARITY & fo.DemographicParity("h", tolerance=0.1), sensitive_features=["a", "b", "a", "b"]),
        cause("sensitive_features must map attribute names to n values", "came list (this notion reads 'g', 'h')"),
    ),
    "layer features text": (lambda: through_layer(features="aaaa"), cause("sensitive_features must map attribute names", "came str")),
    "features empty": (lambda: run(sensitive_features={}), cause("sensitive_features: got no attribute, expected at least one")),
    "features number": (lambda: run(sensitive_features={"g": 3}), cause("sensitive_features['g'] must be a list", "came int")),
    "features 2d": (
        lambda: run(sensitive_features={"g": np.zeros((4, 2))}),
        cause("sensitive_features['g'] must have shape (n,), came (4, 2)"),
    ),
    "unknown value": (
        lambda: run(groups={"g": ["a", "c"]}),
        cause("sensitive_features['g'] has the unknown value 'b'; the declared groups are ['a', 'c']"),
    ),
    "missing None": (
        lambda: run(sensitive_features={"g": ["a", None, "a", "b"]}),
        cause("sensitive_features['g'] has a missing value at position 1; fill it in, or pass missing_group='own'"),
    ),
    "missing nan": (lambda: run(sensitive_features={"g": [0.0, 1.0, NAN, 1.0]}), cause("has a missing value at position 2")),
    "missing pandas": (
        lambda: run(sensitive_features={"g": pd.Series(["a", pd.NA, "a", "b"], dtype="string")}),
        cause("has a missing value at position 1"),
    ),
    "missing category": (
        lambda: run(sensitive_features={"g": pd.Categorical(["a", None, "a", "b"])}),
        cause("has a missing value at position 1"),
    ),
    "mixed types": (
        lambda: run(sensitive_features={"g": ["a", 1, "a", "b"]}),
        cause("sensitive_features['g'] mixes int and str values", "a vocabulary has one type"),
    ),
    "mixed bool": (lambda: run(sensitive_features={"g": [True, 1, 0, False]}), cause("mixes bool and int values")),
    "mixed with the vocabulary": (
        lambda: run(groups={"g": [0, 1]}),
        cause("sensitive_features['g'] mixes int and str", "its vocabulary is [0, 1]"),
    ),
    "continuous": (lambda: run(sensitive_features={"g": [0.5, 1.0, 0.2, 1.0]}), cause("sensitive_features['g'] holds 0.5", "no groups")),
    "objects": (
        lambda: run(sensitive_features={"g": [(1, 2), "a", "b", "a"]}),
        cause("sensitive_features['g'] holds (1, 2) of type tuple"),
    ),
    "declared twice": (lambda: run(groups={"g": ["a", "b", "a"]}), cause("groups['g'] names a value twice")),
    "declared none": (lambda: run(groups={"g": []}), cause("groups['g'] is empty; name at least one value")),
    "declared word": (lambda: run(groups={"g": "ab"}), cause("groups['g'] must be the list of the attribute's values, came 'ab'")),
    "declared list": (lambda: run(groups=["a", "b"]), cause("groups must map attribute names to their values, came list")),
    "declared mixed": (lambda: fo.FairnessLayer(PARITY, groups={"g": ["a", 1]}), cause("groups['g'] mixes int and str values")),
    # targets, bounds, weights
    "no targets": (lambda: run(notion=OPPORTUNITY), cause("EqualOpportunity('g', tolerance=0.05) needs targets; pass targets= (4,)")),
    "layer no targets": (
        lambda: through_layer(notion=OPPORTUNITY),
        cause("targets: got None, expected one label a sample", "layer.freeze("),
    ),
    "targets shape": (lambda: run(notion=OPPORTUNITY, targets=[0, 1]), cause("targets must have shape (4,), came (2,)")),
    "targets nan": (lambda: run(notion=OPPORTUNITY, targets=[0, 1, NAN, 1]), cause("targets holds NaN or infinite values")),
    "targets words": (
        lambda: run(notion=OPPORTUNITY, targets=["y", "n", "y", "n"]),
        cause("targets must be numbers of shape (4,), came list"),
    ),
    "targets with grad in a mask": (
        lambda: run(notion=OPPORTUNITY, targets=LEARNED_TARGETS),
        cause("targets that require grad cannot be compared", "pass targets.detach()"),
    ),
    "targets with grad in a user's mask": (
        lambda: run(notion=masked_by_targets("g", tolerance=0.1), targets=LEARNED_TARGETS),
        cause("targets that require grad cannot be compared", "yield batch.range(g & (batch.targets == 1)"),
    ),
    "lb > ub": (lambda: run(bounds=(1, 0)), cause("bounds: the lower bound 1.0 is above the upper bound 0.0")),
    "lb > ub at a sample": (
        lambda: run(bounds=(torch.tensor([0.0, 0, 0.7, 0]), torch.tensor([1.0, 1, 0.5, 1]))),
        cause("bounds: the lower bound", "of sample 2 is above its upper bound 0.5"),
    ),
    "bounds number": (lambda: run(bounds=1.0), cause("bounds must be None or a pair (lower, upper), came float")),
    "bounds three": (lambda: run(bounds=(0, 1, 2)), cause("bounds must be None or a pair (lower, upper)")),
    "bounds nan": (lambda: run(bounds=(NAN, 1)), cause("the lower bound must be a number or -inf (open), came nan")),
    "bounds shape": (lambda: run(bounds=(torch.zeros(3), 1)), cause("the lower bound must be a number or have shape (4,), came (3,)")),
    "bounds word": (lambda: run(bounds=("low", 1)), cause("the lower bound must be None, a number or numbers of shape (4,), came str")),
    "bounds with grad": (
        lambda: run(bounds=(nn.Parameter(torch.tensor(0.0)), 1)),
        cause("the lower bound requires grad", "pass it detached"),
    ),
    "weights 0": (lambda: run(weights=[1, 0, 1, 1]), cause("weights must be > 0, came 0.0 at position 1")),
    "weights shape": (lambda: run(weights=[1, 1]), cause("weights must have shape (4,), came (2,)")),
    "weights nan": (lambda: run(weights=[1, NAN, 1, 1]), cause("weights holds NaN or infinite values")),
    "weights with grad": (lambda: run(weights=torch.ones(4, requires_grad=True)), cause("weights require grad", "pass them detached")),
    # notions
    "negative tolerance": (
        lambda: fo.DemographicParity("g", tolerance=-0.1),
        cause("tolerance of DemographicParity must be a finite number >= 0, came -0.1"),
    ),
    "nan tolerance": (lambda: fo.EqualizedOdds("g", tolerance=NAN), cause("tolerance of EqualizedOdds is NaN")),
    "infinite tolerance": (
        lambda: fo.MeanResidual("g", tolerance=INF),
        cause("tolerance of MeanResidual must be a finite number >= 0, came inf"),
    ),
    "tolerance word": (lambda: fo.MeanResidual("g", tolerance="0.1"), cause("tolerance of MeanResidual must be a number", "came '0.1'")),
    "tolerance vector": (
        lambda: fo.MeanResidual("g", tolerance=torch.zeros(2)),
        cause("tolerance of MeanResidual must be a number or a tensor of one"),
    ),
    "negative tolerance, own notion": (
        lambda: chained("g", tolerance=-1),
        cause("tolerance of chained must be a finite number >= 0, came -1.0"),
    ),
    "negative rho": (lambda: PARITY.priced(-1), cause("rho of .priced must be a finite number >= 0, came -1.0")),
    "gamma 0": (lambda: PARITY.penalised(0), cause("gamma of .penalised must be a finite number > 0, came 0.0")),
    "soft twice": (lambda: PARITY.priced(1).budgeted(1), cause("is soft already")),
    "ratio": (lambda: fo.ImpactRatio("g", ratio=1.2), cause("ratio of ImpactRatio must be a plain number in [0, 1], came 1.2")),
    "bound crossed": (lambda: fo.GroupMeanBound("g", lower=1, upper=0), cause("GroupMeanBound has lower 1 > upper 0")),
    "bound of nothing": (lambda: fo.GroupMeanBound("g"), cause("GroupMeanBound needs lower, upper or both")),
    "to": (
        lambda: fo.DemographicParity("g", tolerance=0.1, to="mean"),  # type: ignore[arg-type]
        cause("to must be 'pairs', 'overall' or fairopt.Reference(value), came 'mean'"),
    ),
    "attribute": (
        lambda: fo.DemographicParity(3, tolerance=0.1),  # type: ignore[arg-type]
        cause("an attribute is a name or a tuple of distinct names, came 3"),
    ),
    "unknown reference": (
        lambda: run(notion=fo.DemographicParity("g", tolerance=0.1, to=fo.Reference("z")), groups=G and {"g": ["a", "b"]}),
        cause("'z' is no declared group of 'g'; those are ['a', 'b']"),
    ),
    "chained comparison": (
        lambda: run(notion=chained("g", tolerance=0.1)),
        cause("abs(f) <= t", "a chained comparison would lose a side", "test_bad_input.py", "yield -tolerance <= batch.mean(a)"),
    ),
    "chained comparison in a layer": (lambda: through_layer(notion=chained("g", tolerance=0.1)), cause("would lose a side")),
    "equality": (lambda: run(notion=equal("g")), cause("cannot be compared with ==", "yield batch.mean(a) == batch.mean(b)")),
    "abs from below": (lambda: run(notion=far_apart("g")), cause("abs(f) >= t is not convex", ">= 0.1")),
    "product": (lambda: run(notion=product("g")), cause("a product of two functionals is not affine", "batch.mean(a) * batch.mean(b)")),
    "no constraint": (lambda: run(notion=nothing("g")), cause("the notion nothing yielded 3; it must yield constraints")),
    "and": (lambda: PARITY and OPPORTUNITY, cause("a notion has no truth value; join notions with &, not with 'and'")),
    "joined with a word": (lambda: PARITY & "g", cause("a notion can be joined with another notion, came 'g'")),
    "notion word": (lambda: run(notion="parity"), cause("notion must be a notion such as", "came 'parity'")),
    "notion undecorated call": (lambda: run(notion=chained), cause("notion must be a notion such as")),
    "layer notion": (
        lambda: fo.FairnessLayer("parity"),  # type: ignore[arg-type]
        cause("notion: got 'parity', expected a notion such as fairopt.DemographicParity("),
    ),
    # options
    "space": (
        lambda: fo.FairnessLayer(PARITY, space="odds"),  # type: ignore[arg-type]
        cause("space: got 'odds', expected 'value', 'probability' or 'logit'"),
    ),
    "gradient": (lambda: run(gradient="exact"), cause("gradient: got 'exact', expected 'implicit' or 'native'")),
    "layer gradient": (lambda: fo.FairnessLayer(PARITY, gradient="exact"), cause("gradient: got 'exact'")),  # type: ignore[arg-type]
    "backend": (lambda: run(backend="newton"), cause("backend: got 'newton', expected one of closed_form, ")),
    "layer backend": (lambda: fo.FairnessLayer(PARITY, backend="newton"), cause("backend: got 'newton', expected one of ")),
    "backend option": (
        lambda: fo.backend("qpth", max_itr=3),
        cause("backend 'qpth': got an unexpected keyword argument 'max_itr'; its options are: "),
    ),
    "solver_tol": (lambda: run(bounds=(0, 1), solver_tol=-1e-9), cause("solver_tol: got -1e-09, expected a number between 0 and 1")),
    "solver_tol word": (lambda: run(solver_tol="tight"), cause("solver_tol: got 'tight', expected a number between 0 and 1")),
    "on_missing": (lambda: run(on_missing="skip"), cause("on_missing must be one of 'drop', 'warn', 'raise', came 'skip'")),
    "on_infeasible": (
        lambda: run(on_infeasible="skip"),
        cause("on_infeasible must be one of 'raise', 'closest', 'passthrough', came 'skip'"),
    ),
    "missing_group": (lambda: run(missing_group="drop"), cause("missing_group must be one of 'error', 'own', came 'drop'")),
    "layer on_missing": (
        lambda: fo.FairnessLayer(PARITY, on_missing="skip"),  # type: ignore[arg-type]
        cause("on_missing: got 'skip', expected 'drop', 'warn' or 'raise'"),
    ),
    "layer on_infeasible": (
        lambda: fo.FairnessLayer(PARITY, on_infeasible="x"),  # type: ignore[arg-type]
        cause("on_infeasible: got 'x', expected 'raise', 'closest' or"),
    ),
    "layer missing_group": (
        lambda: fo.FairnessLayer(PARITY, missing_group="x"),  # type: ignore[arg-type]
        cause("missing_group: got 'x', expected 'error' or 'own'"),
    ),
    "layer solver_tol": (lambda: fo.FairnessLayer(PARITY, solver_tol=2), cause("solver_tol: got 2, expected a number between 0 and 1")),
    "layer bounds": (lambda: fo.FairnessLayer(PARITY, bounds=(1, 0)), cause("bounds: the lower bound 1.0 is above the upper bound 0.0")),
    "layer bounds number": (lambda: fo.FairnessLayer(PARITY, bounds=3), cause("bounds must be None or a pair (lower, upper), came int")),
    "native without one": (
        lambda: run(Z.clone().requires_grad_(), bounds=(0, 1), backend="dual_newton", gradient="native"),
        cause("backend 'dual_newton' brings no gradient of its own; use gradient='implicit'", kind=fo.UnsupportedError),
    ),
    "softness that a backend lacks": (
        lambda: run(notion=PARITY.priced(1), backend="qpth"),
        cause("backend 'qpth' does not take priced softness; backend='dual_newton' takes every problem", kind=fo.UnsupportedError),
    ),
    "closed form with an active box": (
        lambda: run(bounds=(0.3, 0.6), backend="closed_form"),
        cause("backend 'closed_form'", "backend='dual_newton' takes every problem", kind=fo.UnsupportedError),
    ),
    "infeasible": (
        lambda: run(notion=fo.GroupMeanBound("g", lower=2.0), bounds=(0, 1)),
        cause("GroupMeanBound(g)", "on_infeasible='closest'", kind=fo.InfeasibleError),
    ),
    # tables and decisions
    "gaps scores": (lambda: fo.gaps([0.1, NAN, 0.2, 0.9], PARITY, sensitive_features=G), cause("scores", "NaN")),
    "gaps no targets": (lambda: fo.gaps(Z, OPPORTUNITY, sensitive_features=G), cause("needs targets")),
    "table column": (lambda: fo.backends()["speed"], cause("the table has no column 'speed'; it has name, ")),
    "decide range": (
        lambda: fo.decide(torch.tensor([1.2]), sensitive_features={"g": ["a"]}, generator=torch.Generator()),
        cause("probabilities: expected numbers in [0, 1]"),
    ),
    "decide generator": (
        lambda: fo.decide(Z, sensitive_features=G, generator=3),  # type: ignore[arg-type]
        cause("generator: expected a torch.Generator or numpy.random.Generator, got int"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_named(name: str) -> None:
    make, (kind, words) = CASES[name]
    with pytest.raises(fo.FairoptError) as caught:
        make()
    assert type(caught.value) is kind
    message = str(caught.value)
    assert [w for w in words if w not in message] == [], message


def test_every_error_is_one_of_the_tree_and_of_the_builtin_kind() -> None:
    tree = {
        fo.InputError: ValueError,
        fo.BackendError: RuntimeError,
        fo.MissingExtraError: ImportError,
        fo.ConformanceError: AssertionError,
        fo.InfeasibleError: Exception,
        fo.UnsupportedError: Exception,
    }
    for kind, builtin in tree.items():
        assert issubclass(kind, fo.FairoptError)
        assert issubclass(kind, builtin)
    assert issubclass(fo.FairoptWarning, UserWarning)


@pytest.mark.parametrize("backend", ["auto", "closed_form", "dual_newton", "unrolled", "cvxpylayers"])
@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.float16])
def test_no_backend_sees_a_bad_score(backend: str, dtype: torch.dtype) -> None:
    for value in (NAN, INF, -INF):
        for k in range(4):
            z = Z.to(dtype, copy=True)
            z[k] = value
            with pytest.raises(fo.InputError, match=rf"scores: got {value} at position {k}, expected finite numbers"):
                run(z, backend=backend)


def test_a_layer_works_on_after_a_bad_batch() -> None:
    layer = fo.FairnessLayer(PARITY)
    good = layer(Z, sensitive_features=G)
    kept, groups = layer.certificate, layer.groups
    for scores, features in ((with_value(NAN), G), (Z, {"g": ["a", None, "a", "b"]}), (torch.zeros(3), G)):
        with pytest.raises(fo.InputError):
            layer(scores, sensitive_features=features)
        assert layer.certificate is kept
        assert layer.groups == groups
    assert torch.equal(layer(Z, sensitive_features=G), good)
