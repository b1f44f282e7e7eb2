"""One reader for every column: each door reads each container alike, or refuses it with the same words."""

from __future__ import annotations

import datetime
import decimal
import enum
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

N = 12
WORDS = ["white", "black", "white", "hispan"] * 3
INTS = [3, 1, 3, 2] * 3
BOOLS = [True, False, False, True] * 3
SCORES = [k / 16 for k in (1, 14, 3, 9, 11, 2, 7, 5, 15, 4, 8, 6)]
TARGETS = [0, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0]


class Race(str, enum.Enum):  # noqa: UP042 - what people have
    WHITE = "white"
    BLACK = "black"
    HISPAN = "hispan"


class ArrowOnly:
    """A column that offers Arrow's C interface alone."""

    def __init__(self, values: list[Any]) -> None:
        self._array = pa.chunked_array([values])

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._array.__arrow_c_stream__(requested_schema)


class ArrayOnly:
    """A column that offers ``__array__`` alone."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self._values, dtype=dtype)


def masked(values: list[Any]) -> Any:
    return np.ma.array(values, mask=[False] * len(values))


OF_ANY: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "nested list": lambda v: [[x] for x in v],
    "numpy": np.array,
    "numpy (n, 1)": lambda v: np.array(v)[:, None],
    "numpy objects": lambda v: np.array(v, dtype=object),
    "numpy reversed view": lambda v: np.array(v[::-1])[::-1],
    "masked": masked,
    "pandas": pd.Series,
    "pandas odd index": lambda v: pd.Series(v, index=range(100, 100 - len(v), -1)),
    "pandas two-level index": lambda v: pd.Series(v, index=pd.MultiIndex.from_arrays([range(len(v)), v])),
    "pandas objects": lambda v: pd.Series(v, dtype=object),
    "pandas category": lambda v: pd.Series(v, dtype="category"),
    "pandas unused levels": lambda v: pd.Series(pd.Categorical(v, categories=[*dict.fromkeys(v), type(v[0])(77)])),
    "pandas nullable": lambda v: pd.Series(v).convert_dtypes(),
    "pandas arrow": lambda v: pd.Series(v).convert_dtypes(dtype_backend="pyarrow"),
    "pandas index": pd.Index,
    "pandas frame of one": lambda v: pd.DataFrame({"x": v}),
    "polars": pl.Series,
    "polars frame of one": lambda v: pl.DataFrame({"x": v}),
    "pyarrow": pa.array,
    "pyarrow chunked": lambda v: pa.chunked_array([v[:5], v[5:]]),
    "pyarrow dictionary": lambda v: pa.array(v).dictionary_encode(),
    "arrow interface": ArrowOnly,
    "array interface": ArrayOnly,
}
OF_NUMBERS: dict[str, Callable[[list[Any]], Any]] = {
    "torch": torch.tensor,
    "torch (n, 1)": lambda v: torch.tensor(v)[:, None],
    "torch float": lambda v: torch.tensor(v, dtype=torch.float32),
    "torch bfloat16": lambda v: torch.tensor(v).to(torch.bfloat16),
    "numpy uint8": lambda v: np.array(v, dtype=np.uint8),
    "numpy float": lambda v: np.array(v, dtype=np.float64),
    "pandas Int8": lambda v: pd.Series(v, dtype="Int8"),
    "pandas float32": lambda v: pd.Series(v, dtype="float32"),
    "polars Float32": lambda v: pl.Series(v, dtype=pl.Float32),
    "decimals": lambda v: [decimal.Decimal(x) for x in v],
}
OF_WORDS: dict[str, Callable[[list[Any]], Any]] = {
    "numpy strings": lambda v: np.array(v, dtype=np.dtypes.StringDType()),
    "pandas string": lambda v: pd.Series(v, dtype="string"),
    "polars Categorical": lambda v: pl.Series(v, dtype=pl.Categorical),
    "polars Enum": lambda v: pl.Series(v, dtype=pl.Enum(["black", "white", "hispan", "unused"])),
    "enum members": lambda v: [Race(x) for x in v],
}
COLUMNS = [
    *[pytest.param(make, values, id=f"{name}-{kind}") for name, make in OF_ANY.items() for kind, values in (("str", WORDS), ("int", INTS))],
    *[pytest.param(make, BOOLS, id=f"{name}-bool") for name, make in OF_ANY.items() if name != "pandas unused levels"],
    *[pytest.param(make, INTS, id=f"{name}-int") for name, make in OF_NUMBERS.items()],
    *[pytest.param(make, WORDS, id=f"{name}-str") for name, make in OF_WORDS.items()],
]
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


MISSING: dict[str, Any] = {
    "None": ["a", None, "b"],
    "NaN": ["a", float("nan"), "b"],
    "masked": np.ma.array(["a", "secret", "b"], mask=[False, True, False]),
    "masked numbers": np.ma.array([1, 7, 2], mask=[False, True, False]),
    "pandas": pd.Series(["a", pd.NA, "b"], dtype="string"),
    "pandas Int64": pd.Series([1, None, 2], dtype="Int64"),
    "pandas category": pd.Series(["a", None, "b"], dtype="category"),
    "pandas arrow": pd.Series([1, None, 2], dtype="int64[pyarrow]"),
    "pandas boolean": pd.Series([True, None, False], dtype="boolean"),
    "polars": pl.Series(["a", None, "b"]),
    "polars int": pl.Series([1, None, 2]),
    "polars bool": pl.Series([True, None, False]),
    "pyarrow": pa.array([1, None, 2]),
    "pyarrow words": pa.chunked_array([["a"], [None, "b"]]),
    "pyarrow dictionary": pa.array(["a", None, "b"]).dictionary_encode(),
    "decimal NaN": [decimal.Decimal(1), decimal.Decimal("NaN"), decimal.Decimal(2)],
}
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


REFUSED: dict[str, tuple[Any, str]] = {
    "datetime64": (np.array(["2020-01-01"] * 3, dtype="datetime64[D]"), "dates or durations"),
    "pandas datetime": (pd.Series(pd.to_datetime(["2020-01-01"] * 3)), "dates or durations"),
    "pandas datetime with zone": (pd.Series(pd.to_datetime(["2020-01-01"] * 3, utc=True)), "dates or durations"),
    "pandas timedelta": (pd.Series(pd.to_timedelta([1, 2, 3], unit="D")), "dates or durations"),
    "pandas period": (pd.Series(pd.period_range("2020", periods=3, freq="Y")), "dates or durations"),
    "polars date": (pl.Series([datetime.date(2020, 1, 1)] * 3), "dates or durations"),
    "pyarrow date": (pa.array([datetime.date(2020, 1, 1)] * 3), "dates or durations"),
    "date objects": ([datetime.date(2020, 1, 1)] * 3, "of type date"),
    "bytes": (np.array([b"a", b"b", b"c"]), "decode bytes"),
    "byte objects": ([b"a", b"b", b"c"], "of type bytes"),
    "multi-index": (pd.MultiIndex.from_tuples([("a", 1), ("b", 2), ("c", 3)]), "one attribute a level"),
    "frame of two": (pd.DataFrame({"x": [1, 2, 3], "y": [1, 2, 3]}), "one column, came a DataFrame with 2"),
    "a set": ({"a", "b", "c"}, "came set"),
    "a mapping": ({"a": 1}, "came dict"),
    "a generator": ((v for v in "abc"), "came generator"),
    "text": ("abc", "came str"),
    "a number": (3, "came int"),
    "nothing": (None, "came NoneType"),
    "mixed": (["a", 1, True], "mixes"),
    "1 and True": ([1, True, 0], "mixes"),
    "continuous": ([0.5, 1.0, 2.0], "continuous"),
    "too large": ([2**63, 1, 2], "does not fit int64"),
    "too large float": ([1e19, 1.0, 2.0], "continuous|int64"),
    "infinite": ([float("inf"), 1.0, 2.0], "inf"),
    "complex": (torch.tensor([1j, 2, 3]), "complex"),
    "sparse": (torch.eye(3)[0].to_sparse(), "dense tensor"),
    "meta": (torch.ones(3, device="meta"), "dense tensor"),
    "lists": ([["a", "b"], ["a"], ["b"]], "no int, string or bool"),
}


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


FRAMES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "mapping": dict,
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
    "record batch": lambda d: pa.table(d).to_batches()[0],
    "numpy record": lambda d: pd.DataFrame(d).to_records(index=False),
}


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


NUMBERS: dict[str, Callable[[list[Any]], Any]] = {
    **{name: make for name, make in OF_ANY.items() if "category" not in name and "unused" not in name and name != "index"},
    "torch": lambda v: torch.tensor(v, dtype=torch.float64),
}


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
        (["0.1", "0.2"], "'0.1' at position 0"),
        ([0.1, None], "position 1"),
        ([0.1, float("nan")], "position 1"),
        (np.array([0.1, np.inf]), "position 1"),
        (np.ma.array([0.1, 0.2], mask=[False, True]), "position 1"),
        (pd.Series([1, None], dtype="Int64"), "position 1"),
        (pl.Series([0.1, None]), "position 1"),
        (pa.array([0.1, None]), "position 1"),
        (np.array(["2020-01-01"] * 2, dtype="datetime64[D]"), "dates or durations"),
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
