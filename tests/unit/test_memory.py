"""Remembered compositions: the same answers as without, and nothing remembered that could be another problem."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fairopt as fo
from fairopt.compiler import compile_problem
from fairopt.compiler.memory import CompiledMemory, composition

SEX = torch.tensor([0, 1, 1, 0, 1, 0])
Z = torch.tensor([0.1, 0.9, 0.8, 0.2, 0.7, 0.3])


def _layer(notion: fo.Notion | None = None, **options: Any) -> fo.FairnessLayer:
    return fo.FairnessLayer(fo.DemographicParity("sex", tolerance=0.05) if notion is None else notion, **options)


def _held(layer: fo.FairnessLayer) -> int:
    return len(layer._memory)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2), st.booleans()), min_size=2, max_size=12),
    kind=st.sampled_from(["dp", "eo", "residual", "covariance"]),
    asarray=st.booleans(),
)
def test_a_layer_that_remembers_answers_as_one_that_does_not(steps: Any, kind: str, asarray: bool) -> None:
    """Features, targets and weights change independently, in place in the same memory, and come back."""
    notion: fo.Notion = {
        "dp": fo.DemographicParity("sex", tolerance=0.02),
        "eo": fo.EqualizedOdds("sex", tolerance=0.02),
        "residual": fo.MeanResidual("sex", tolerance=0.02),
        "covariance": fo.ScoreCovariance("sex", tolerance=0.01),
    }[kind]
    layer = _layer(notion, bounds=(0, 1))
    sex, targets, weights = torch.zeros(12, dtype=torch.int64), torch.zeros(12, dtype=torch.float64), torch.ones(12)
    for which_sex, which_targets, which_weights, train in steps:
        draw = torch.Generator().manual_seed(which_sex)
        sex.copy_((torch.rand(12, generator=draw) < 0.5).long())
        targets.copy_((torch.rand(12, generator=torch.Generator().manual_seed(10 + which_targets)) < 0.5).double())
        weights.copy_(1 + which_weights * torch.rand(12, generator=torch.Generator().manual_seed(20)))
        scores = torch.rand(12, generator=draw)
        layer.train(train or not layer.groups)
        facts: dict[str, Any] = {"sensitive_features": {"sex": sex.numpy() if asarray else sex}, "targets": targets, "weights": weights}
        got = layer.solution(scores, **facts)
        expected = fo.project(scores, notion, bounds=(0, 1), return_solution=True, groups=layer.groups, **facts)
        assert torch.equal(got.scores, expected.scores)
        assert got.certificate.problem_hash == expected.certificate.problem_hash
        assert got.certificate.violation.tolist() == expected.certificate.violation.tolist()


def test_the_second_call_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        return compile_problem(*arguments, **options)

    monkeypatch.setattr("fairopt.layer.fairness_layer.compile_problem", counted)
    layer = _layer(groups={"sex": [0, 1]})
    for k in range(3):
        layer(Z + k, sensitive_features={"sex": SEX.clone()})
    assert len(calls) == 1
    layer(Z, sensitive_features={"sex": 1 - SEX})
    layer(Z, sensitive_features={"sex": SEX, "unread": SEX}, targets=SEX)  # what the notion does not read does not matter
    assert len(calls) == 2
    layer(Z, sensitive_features={"sex": SEX.tolist()})  # a list is not recognised
    layer(Z, sensitive_features={"sex": SEX.bool().numpy() * 1.0})
    assert len(calls) == 4


def test_an_argument_of_the_notion_that_was_changed_counts() -> None:
    notion = fo.DemographicParity("sex", tolerance=0.05)
    layer = _layer(notion)
    for tolerance in (0.05, 0.3, 0.05):
        notion.tolerance = tolerance
        fair = layer(Z, sensitive_features={"sex": SEX})
        assert fo.gaps(fair, notion, sensitive_features={"sex": SEX})["gap"][0] == pytest.approx(tolerance, abs=1e-6)


def test_an_argument_of_a_part_that_was_changed_counts() -> None:
    part = fo.DemographicParity("sex", tolerance=0.05)
    layer = _layer(part & fo.GroupMeanBound("sex", upper=0.99))
    for tolerance in (0.05, 0.3, 0.05):
        part.tolerance = tolerance
        fair = layer(Z, sensitive_features={"sex": SEX})
        assert fo.gaps(fair, part, sensitive_features={"sex": SEX})["gap"][0] == pytest.approx(tolerance, abs=1e-6)


def test_settings_that_were_changed_count() -> None:
    layer = _layer(fo.DemographicParity("sex", tolerance=0.3))
    assert layer(Z, sensitive_features={"sex": SEX}).max() > 0.6
    layer.bounds = (0, 0.5)
    assert layer(Z, sensitive_features={"sex": SEX}).max() <= 0.5
    layer.on_missing = "raise"
    layer.groups  # noqa: B018 - reading them changes nothing
    assert layer(Z, sensitive_features={"sex": SEX}).max() <= 0.5


def test_learned_tolerances_lists_and_notions_of_users_are_compiled_each_time() -> None:
    learned = nn.Parameter(torch.tensor(0.05))

    @fo.notion
    def mine(batch: Any, attribute: Any, tolerance: float) -> Any:
        yield batch.range(batch.groups(attribute)) <= tolerance

    class Own(fo.DemographicParity):
        pass

    features: dict[str, Any] = {"sex": SEX}
    plain = fo.DemographicParity("sex", tolerance=0.05)
    assert composition(plain, 6, features, None, None, None, ()) is not None
    for notion in (
        fo.DemographicParity("sex", tolerance=learned),
        fo.DemographicParity("sex", tolerance=torch.tensor(0.05)),
        plain.priced(torch.tensor(2.0)),
        mine("sex", tolerance=0.05),
        plain & mine("sex", tolerance=0.05),
        Own("sex", tolerance=0.05),
    ):
        assert composition(notion, 6, features, None, None, None, ()) is None, notion
        layer = _layer(notion)
        layer(Z, sensitive_features=features)
        assert _held(layer) == 0
    residual = fo.MeanResidual("sex", tolerance=0.05)
    targets = torch.zeros(6, requires_grad=True)
    for column in (["a"] * 6, np.array(["a"] * 6, dtype=object), SEX.to(torch.bfloat16), None):
        assert composition(plain, 6, {"sex": column}, None, None, None, ()) is None
    assert composition(residual, 6, features, targets, None, None, ()) is None
    layer = _layer(on_missing="warn", groups={"sex": [0, 1, 2]})
    for _ in range(2):
        with pytest.warns(fo.FairoptWarning, match="absent"):
            layer(Z, sensitive_features=features)


def test_kinds_of_columns_are_kept_apart() -> None:
    plain = fo.DemographicParity("sex", tolerance=0.05)

    def key(column: Any, **more: Any) -> Any:
        return composition(plain, 6, {"sex": column}, None, more.get("weights"), more.get("bounds"), more.get("settings", ()))

    columns = [SEX, SEX.bool(), SEX.int(), SEX.double(), SEX.reshape(2, 3), SEX.numpy().astype("U"), 1 - SEX]
    keys = [key(column) for column in columns] + [key(SEX, weights=torch.ones(6)), key(SEX, bounds=(None, None)), key(SEX, bounds=(0, 1))]
    keys += [key(SEX, bounds=(False, 1)), key(SEX, bounds=(0, torch.ones(6))), key(SEX, settings=("own",))]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    assert key(SEX) == key(SEX.clone()) == key(SEX.numpy())
    assert hash(key(SEX)) == hash(key(SEX.clone()))


def test_new_groups_and_loaded_groups_empty_the_memory() -> None:
    layer = _layer()
    layer(Z, sensitive_features={"sex": SEX})
    layer(Z, sensitive_features={"sex": SEX})
    assert _held(layer) == 1
    layer(Z, sensitive_features={"sex": SEX + 1})  # group 2 is new
    layer(Z, sensitive_features={"sex": SEX})
    certificate = layer.certificate
    assert certificate is not None
    assert len(certificate.dropped) == 1 or "2" in str(certificate.group_counts)
    other = _layer(groups={"sex": [0, 1, 5]})
    other(Z, sensitive_features={"sex": SEX})
    other.load_state_dict(_layer(groups={"sex": [0, 1, 5]}).state_dict())
    other(Z, sensitive_features={"sex": SEX})
    assert _held(other) == 1


def test_copies_and_pickles_remember_nothing() -> None:
    layer = _layer(groups={"sex": [0, 1]})
    fair = layer(Z, sensitive_features={"sex": SEX})
    assert _held(layer) == 1
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert _held(other) == 0
        assert torch.equal(other(Z, sensitive_features={"sex": SEX}), fair)


def test_the_least_recently_used_goes_first_and_rows_are_bounded() -> None:
    def compiled(n: int) -> Any:
        return fo.compile(fo.DemographicParity("sex", tolerance=0.1), sensitive_features={"sex": [0, 1] * (n // 2)}).compiled

    memory: CompiledMemory[Any] = CompiledMemory(entries=3, rows=100)
    known = object()
    assert memory.get("a", known) is None
    for name in "abc":
        memory.put(name, known, compiled(10))
    assert memory.get("a", known) is not None
    memory.put("d", known, compiled(10))
    assert memory.get("b", known) is None
    assert [memory.get(name, known) is not None for name in "acd"] == [True, True, True]
    memory.put("e", known, compiled(96))
    assert len(memory) == 1
    memory.put("f", known, compiled(102))
    assert memory.get("f", known) is None
    assert memory.get("e", known) is not None
    memory.put("g", object(), compiled(4))  # made with vocabularies that are not the present ones
    assert memory.get("g", known) is None
    assert memory.get("e", object()) is None
    assert len(memory) == 0
    memory.put(None, known, compiled(4))
    assert len(memory) == 0


@pytest.mark.parametrize("kind", [fo.DemographicParity, fo.EqualizedOdds, fo.MeanResidual, fo.ResidualParity, fo.ScoreCovariance])
@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.float32])
@pytest.mark.parametrize("tensors", [False, True])
def test_what_is_compiled_shares_no_memory_with_its_columns(kind: Any, dtype: Any, tensors: bool) -> None:
    """A compilation may be used long after its owner wrote on the columns."""
    rng = np.random.default_rng(0)
    sex, targets = (np.r_[0, 1, rng.integers(0, 2, 10)].astype(dtype) for _ in range(2))
    weights = np.ones(12)
    columns = [torch.from_numpy(c) if tensors else c for c in (sex, targets, weights)]

    def compiled() -> Any:
        return fo.compile(
            kind("sex", tolerance=0.02), sensitive_features={"sex": columns[0]}, targets=columns[1], weights=columns[2], bounds=(-5, 5)
        )

    before, after = compiled(), compiled()
    z = torch.linspace(0, 1, 12, dtype=torch.float64)
    expected = before.project(z, return_solution=True)
    sex[:], targets[:], weights[:] = 1 - sex, 1 - targets, 3.0
    got = after.project(z, return_solution=True)
    assert torch.equal(got.scores, expected.scores)
    assert got.certificate.to_dict() == expected.certificate.to_dict()
