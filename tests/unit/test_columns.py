"""One reader for every column: each door reads each container alike, or refuses it with the same words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fairopt as fo
from fairopt.basics.columns import numbers, read_features, working_tensor
from fairopt.notions.groups import encode
from tests.column_kinds import BOOLS, COLUMNS, FRAMES, INTS, MISSING, NO_NUMBERS, NUMBERS, REFUSED, SCORES, TARGETS, N

PARITY = fo.DemographicParity("g", tolerance=0.05)
OPPORTUNITY = fo.EqualOpportunity("g", tolerance=0.05)


def tensor(values: Any = None) -> torch.Tensor:
    return torch.tensor(SCORES if values is None else values, dtype=torch.float64)


def through_layer(features: Any, targets: Any = None, notion: Any = PARITY) -> Any:
    return fo.FairnessLayer(notion)(tensor(), sensitive_features=features, targets=targets).tolist()


def frozen(features: Any, targets: Any = None, notion: Any = PARITY) -> Any:
    layer = fo.FairnessLayer(notion)
    return layer.freeze(tensor(), sensitive_features=features).predict(tensor(), sensitive_features=features).tolist()


DOORS: dict[str, Callable[[Any], Any]] = {
    "project": lambda g: fo.project(SCORES, PARITY, sensitive_features={"g": g}),
    "compile": lambda g: fo.compile(PARITY, sensitive_features={"g": g}).problem.group_counts,
    "layer": lambda g: through_layer({"g": g}),
    "freeze": lambda g: frozen({"g": g}),
    "gaps": lambda g: fo.gaps(SCORES, PARITY, sensitive_features={"g": g}).rows,
    "audit": lambda g: fo.audit(SCORES, PARITY, sensitive_features={"g": g}, draws=100).gaps.rows,
    "decide": lambda g: fo.decide(SCORES, sensitive_features={"g": g}, generator=np.random.default_rng(0)).tolist(),
    "bare": lambda g: fo.project(SCORES, PARITY, sensitive_features=g),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("make", "values"), COLUMNS)
def test_every_door_reads_the_same_groups_out_of_every_container(door: str, make: Callable[[list[Any]], Any], values: list[Any]) -> None:
    column = make(values)
    if door == "bare" and isinstance(column, (pd.DataFrame, pl.DataFrame)):
        with pytest.raises(fo.InputError, match="no attribute 'g'; it has 'x'"):  # a frame names its attributes
            DOORS[door](column)
        return
    assert DOORS[door](column) == DOORS[door](values)


@pytest.mark.parametrize(("make", "values"), COLUMNS)
def test_group_values_are_the_ones_that_were_given(make: Callable[[list[Any]], Any], values: list[Any]) -> None:
    codes, vocabulary = encode(make(values), name="g")
    read = [vocabulary.values[c] for c in codes]
    assert read == values
    assert {type(v) for v in read} == {type(v) for v in values}


READERS: dict[str, Callable[[Any], Any]] = {
    "project": lambda g: fo.project([0.1, 0.2, 0.3], PARITY, sensitive_features={"g": g}),
    "layer": lambda g: fo.FairnessLayer(PARITY)(torch.rand(3), sensitive_features={"g": g}),
    "gaps": lambda g: fo.gaps([0.1, 0.2, 0.3], PARITY, sensitive_features={"g": g}),
    "audit": lambda g: fo.audit([0.1, 0.2, 0.3], PARITY, sensitive_features={"g": g}),
    "decide": lambda g: fo.decide([0.1, 0.2, 0.3], sensitive_features={"g": g}, generator=np.random.default_rng(0)),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("column", MISSING.values(), ids=MISSING)
def test_a_missing_group_is_named_with_its_place_at_every_door(reader: str, column: Any) -> None:
    with pytest.raises(fo.InputError, match=r"sensitive_features\['g'\] has a missing value at position 1"):
        READERS[reader](column)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("column", "words"), REFUSED.values(), ids=REFUSED)
def test_what_names_no_groups_is_refused_alike_at_every_door(reader: str, column: Any, words: str) -> None:
    with pytest.raises(fo.InputError, match=words):
        READERS[reader](column)


def test_ids_past_2_to_the_53_stay_apart() -> None:
    near = [2**53, 2**53 + 1, 2**53]
    for column in (
        near, np.array(near), pd.Series(near), pd.Series(near, dtype="Int64"), pl.Series(near), pa.array(near),
        pd.Series([*near, None], dtype="Int64"), pl.Series([*near, None]), pa.array([*near, None]),
    ):  # fmt: skip
        codes, vocabulary = encode(column, name="id", missing="own")
        assert [vocabulary.values[c] for c in codes][:3] == near


def test_intervals_of_pandas_are_named_by_what_they_print() -> None:
    ages = pd.cut(pd.Series([3, 15, 40, 12]), [0, 10, 20, 60])
    codes, vocabulary = encode(ages, name="age")
    assert [vocabulary.values[c] for c in codes] == ["(0, 10]", "(10, 20]", "(20, 60]", "(10, 20]"]
    codes, vocabulary = encode(pd.Series(pd.arrays.IntervalArray.from_breaks([0, 1, 2])), name="age")
    assert vocabulary.values == ("(0, 1]", "(1, 2]")


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_frames_of_every_kind_are_features(frame: Callable[[dict[str, Any]], Any]) -> None:
    features = {"g": INTS, "h": BOOLS}
    notion = PARITY & fo.DemographicParity("h", tolerance=0.1)
    one = fo.project(SCORES, notion, sensitive_features=frame(features))
    assert one == fo.project(SCORES, notion, sensitive_features=features)
    assert fo.gaps(one, notion, sensitive_features=frame(features)).rows == fo.gaps(one, notion, sensitive_features=features).rows


def test_frames_that_cannot_be_read_say_why() -> None:
    twice = pd.DataFrame([[1, 2]], columns=["g", "g"])
    for frame, words in (
        (twice, "two columns 'g'"),
        (pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "g"), ("a", "h")])), "several levels"),
        (pd.DataFrame([[1, 2]]), "column name 0"),
        (pl.LazyFrame({"g": [1, 2]}), "collect"),
        (pd.DataFrame({"h": [1, 2]}), "no attribute 'g'"),
        ({}, "no attribute"),
        (None, "came NoneType"),
    ):
        with pytest.raises(fo.InputError, match=words):
            fo.project([0.1, 0.2], PARITY, sensitive_features=frame)
    assert list(read_features(["a"], ("g",))) == ["g"]


@pytest.mark.parametrize("make", NUMBERS.values(), ids=NUMBERS)
def test_scores_targets_and_weights_are_read_alike_out_of_every_container(make: Callable[[list[Any]], Any]) -> None:
    plain: dict[str, Any] = {"sensitive_features": {"g": INTS}, "targets": TARGETS, "weights": [v + 1.0 for v in SCORES]}
    expected = fo.project(tensor(), OPPORTUNITY, **plain)
    given = {**plain, "targets": make(TARGETS), "weights": make([v + 1.0 for v in SCORES])}
    assert torch.equal(fo.project(tensor(), OPPORTUNITY, **given), expected)
    came = make(SCORES)
    back = fo.project(came, OPPORTUNITY, **plain)
    assert torch.equal(numbers(back, N, "back").double(), expected)
    assert (
        type(back) is type(came)
        or isinstance(came, np.ma.MaskedArray)
        or not isinstance(came, (list, tuple, np.ndarray, pd.Series, pl.Series))
    )
    assert (
        fo.gaps(came, OPPORTUNITY, **{k: given[k] for k in ("sensitive_features", "targets")}).rows
        == fo.gaps(SCORES, OPPORTUNITY, sensitive_features={"g": INTS}, targets=TARGETS).rows
    )


def test_scores_come_back_as_they_came() -> None:
    single = np.array(SCORES, dtype=np.float32)
    back = fo.project(single[:, None], PARITY, sensitive_features=INTS)
    assert (back.dtype, back.shape) == (np.float32, (N, 1))
    series = pd.Series(SCORES, index=list("abcdefghijkl"), name="p")
    fair = fo.project(series, PARITY, sensitive_features=INTS)
    assert (list(fair.index), fair.name, fair.dtype) == (list(series.index), "p", np.float64)
    assert fo.project(pl.Series("p", SCORES), PARITY, sensitive_features=INTS).name == "p"
    assert isinstance(fo.project([[v] for v in SCORES], PARITY, sensitive_features=INTS)[0], list)
    assert working_tensor(pd.Series(SCORES, dtype="float32"))[0].dtype == torch.float32
    solution = fo.project(SCORES, PARITY, sensitive_features=INTS, return_solution=True)
    assert solution.status is fo.Status.CERTIFIED
    assert solution.scores.dtype == torch.float64


@pytest.mark.parametrize("what", ["scores", "targets", "weights"])
@pytest.mark.parametrize(
    ("column", "words"),
    [
        *NO_NUMBERS,
        (pd.Series([1, None], dtype="Int64"), "position 1"),
        (pa.array([0.1, None]), "position 1"),
        (np.array([1j, 1.0]), "complex|1j"),
        ([[0.1, 0.2], [0.3, 0.4]], "numbers"),
    ],
)
def test_what_is_no_number_is_named_with_its_place(what: str, column: Any, words: str) -> None:
    facts: dict[str, Any] = {"scores": [0.1, 0.2], "targets": [0, 1], "weights": [1.0, 1.0], what: column}
    with pytest.raises(fo.InputError, match=what) as caught:
        fo.project(facts["scores"], OPPORTUNITY, sensitive_features=["a", "b"], targets=facts["targets"], weights=facts["weights"])
    with pytest.raises(fo.InputError, match=words):
        raise caught.value


@given(st.lists(st.sampled_from(["1", "01", "1.0", " 1", "1 ", "", "nan", "None", "NA", "é", "é"]), min_size=1, max_size=9))
def test_text_is_taken_as_written(values: list[str]) -> None:
    for column in (values, np.array(values), pd.Series(values), pl.Series(values), pa.array(values), pd.Series(values, dtype="category")):
        codes, vocabulary = encode(column, name="g")
        assert [vocabulary.values[c] for c in codes] == values
