"""Groups: values to codes, vocabularies that are declared, grow or are frozen, and every bad input."""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairopt.basics.errors import InputError
from fairopt.notions.groups import Vocabulary, declare, encode

SEX = ["male", "female", "male", "female", "female"]


def decoded(codes: np.ndarray[Any, Any], vocabulary: Vocabulary) -> list[Any]:
    return [vocabulary.values[c] for c in codes]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (SEX, SEX),
        (tuple(SEX), SEX),
        (np.array(SEX), SEX),
        (np.array(SEX, dtype=object), SEX),
        (pd.Series(SEX), SEX),
        (pd.Series(SEX, dtype="string"), SEX),
        (pd.Series(SEX, dtype="category"), SEX),
        (pd.Categorical(SEX), SEX),
        ([3, 1, 3], [3, 1, 3]),
        (np.array([3, 1, 3], dtype=np.uint8), [3, 1, 3]),
        (np.array([-1.0, 1.0, -1.0], dtype=np.float32), [-1, 1, -1]),
        (torch.tensor([2, 0, 2]), [2, 0, 2]),
        (torch.tensor([2.0, 0.0], dtype=torch.bfloat16), [2, 0]),
        (torch.tensor([True, False]), [True, False]),
        ([True, False, True], [True, False, True]),
        (pd.Series([5, 7], dtype="Int64"), [5, 7]),
        ([10**12, -(10**12), 0], [10**12, -(10**12), 0]),
    ],
)
def test_values_survive_the_round_trip_as_python_values(column: Any, values: list[Any]) -> None:
    codes, vocabulary = encode(column, name="a")
    assert codes.dtype == np.int64
    assert decoded(codes, vocabulary) == values
    assert [type(v) for v in decoded(codes, vocabulary)] == [type(v) for v in values]
    assert list(vocabulary.values) == sorted(set(values))


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 12), st.sampled_from(["int", "wide", "str", "bool"]))
def test_codes_are_positions_in_the_sorted_values(seed: int, n: int, k: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    pool: list[Any] = {
        "int": rng.integers(-5, 9, k).tolist(),
        "wide": rng.integers(-(2**60), 2**60, k).tolist(),
        "str": [f"g{v}" for v in rng.integers(0, 30, k)],
        "bool": [True, False],
    }[kind]
    values = [pool[i] for i in rng.integers(0, len(pool), n)]
    codes, vocabulary = encode(values, name="a")
    expected = sorted(set(values))
    assert list(vocabulary.values) == expected
    assert codes.tolist() == [expected.index(v) for v in values]
    known = Vocabulary.of(pool, name="a", declared=True)
    again, same = encode(values, name="a", vocabulary=known)
    assert same is known
    assert decoded(again, known) == values


@pytest.mark.parametrize(
    "column",
    [
        ["a", None],
        ["a", float("nan")],
        np.array([1.0, np.nan]),
        pd.Series(["a", pd.NA], dtype="string"),
        pd.Series([1, None], dtype="Int64"),
        pd.Series(["a", None], dtype="category"),
        torch.tensor([1.0, float("nan")]),
    ],
)
def test_a_missing_value_is_an_error_unless_a_group_of_its_own(column: Any) -> None:
    with pytest.raises(InputError, match=r"sensitive_features\['a'\] has a missing value at position 1"):
        encode(column, name="a")
    codes, vocabulary = encode(column, name="a", missing="own")
    assert vocabulary.values[-1] is None
    assert codes.tolist() == [0, 1]
    assert vocabulary.names[-1] == "missing"


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["a", 1], "mixes int and str"),
        ([1, True], "mixes bool and int"),
        ([0.5, 1.0], "holds 0.5"),
        (["a", 0.5], "holds 0.5"),
        (np.zeros((3, 2)), r"must have shape \(n,\)"),
        ("male", "came str"),
        (3, "came int"),
        ([[1, 2], [2]], "no int, string or bool"),
        (np.array([1 + 1j]), "dtype complex128"),
        (np.array([np.inf]), "holds inf"),
        (np.array([2**63], dtype=np.uint64), "does not fit"),
    ],
)
def test_bad_columns_are_named(column: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        encode(column, name="a")
    assert "sensitive_features['a']" in str(caught.value)


def test_a_vocabulary_keeps_its_type() -> None:
    _, words = encode(["a", "b"], name="a")
    with pytest.raises(InputError, match="int values"):
        encode([1, 2], name="a", vocabulary=words)
    with pytest.raises(InputError, match="bool values"):
        encode([True], name="a", vocabulary=Vocabulary.of([0, 1], name="a"))
    with pytest.raises(InputError, match="mixes"):
        encode(["a"], name="a", vocabulary=Vocabulary.of([0, 1], name="a"))


def test_declared_vocabularies_are_fixed_and_others_grow_only_where_allowed() -> None:
    declared = declare({"a": ["x", "y"]})["a"]
    with pytest.raises(InputError, match=r"unknown value 'z'; the declared groups are \['x', 'y'\]"):
        encode(["x", "z"], name="a", vocabulary=declared, grow=True)
    _, first = encode(["m", "z"], name="a")
    _, grown = encode(["b"], name="a", vocabulary=first, grow=True)
    assert grown.values == ("b", "m", "z")
    assert first.values == ("m", "z")
    for column, vocabulary in ((["b"], first), ([7], Vocabulary.of([1, 2], name="a"))):
        with pytest.raises(InputError, match="unknown value"):
            encode(column, name="a", vocabulary=vocabulary, grow=False)
    for known in (Vocabulary.of([0, 2], name="a"), Vocabulary.of([0, 2**40], name="a")):  # unknown, though between two known values
        with pytest.raises(InputError, match="unknown value 1"):
            encode([0, 1], name="a", vocabulary=known, grow=False)
        assert encode([0, 1], name="a", vocabulary=known)[1].values == (0, 1, known.values[1])
    codes, _ = encode(["z"], name="a", vocabulary=grown, grow=False)
    assert codes.tolist() == [2]


def test_missing_as_a_group_joins_a_declared_vocabulary() -> None:
    codes, vocabulary = encode(["x", None], name="a", vocabulary=declare({"a": ["x", "y"]})["a"], missing="own")
    assert vocabulary.values == ("x", "y", None)
    assert codes.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": []}, "empty"),
        ({"a": ["x", "x"]}, "twice"),
        ({"a": ["x", 1]}, "mixes"),
        ({"a": "xy"}, "must be the list"),
        ([("a", 1)], "must map"),
    ],
)
def test_bad_declarations_are_named(groups: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        declare(groups)


def test_a_vocabulary_survives_weights_only_loading() -> None:
    buffer = io.BytesIO()
    _, vocabulary = encode(np.array(["b", "a"]), name="a")
    torch.save({"sex": vocabulary.to_list()}, buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=True) == {"sex": ["a", "b"]}


def test_the_input_is_neither_changed_nor_shared() -> None:
    column = np.array([0, 1, 1])
    codes, _ = encode(column, name="a")
    codes[:] = 9
    assert column.tolist() == [0, 1, 1]


def test_integers_of_a_known_vocabulary_are_cheap() -> None:
    """Bar 30 us at n = 1,024 (5 us measured); ten times that fails, so that a slow machine does not."""
    column, vocabulary = torch.randint(0, 2, (1024,)), Vocabulary.of([0, 1], name="a", declared=True)
    times = []
    for _ in range(50):
        start = time.perf_counter()
        encode(column, name="a", vocabulary=vocabulary)
        times.append(time.perf_counter() - start)
    assert sorted(times)[10] < 300e-6
