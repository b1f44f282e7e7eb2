"""Every kind of column that people have, kept once: the matrices of all doors (tests/unit, tests/streaming) read from here.

``OF_ANY``, ``OF_NUMBERS``, ``OF_WORDS``: name -> a container of a list of values. ``COLUMNS``: containers with values, as parameters.
``MISSING``: columns with a missing value at position 1. ``REFUSED``: what names no groups, and words of the error.
"""

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
FRAMES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "mapping": dict,
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
    "record batch": lambda d: pa.table(d).to_batches()[0],
    "numpy record": lambda d: pd.DataFrame(d).to_records(index=False),
}
NUMBERS: dict[str, Callable[[list[Any]], Any]] = {
    **{name: make for name, make in OF_ANY.items() if "category" not in name and "unused" not in name and name != "index"},
    "torch": lambda v: torch.tensor(v, dtype=torch.float64),
}

# two numbers that are none, and what is said of them
NO_NUMBERS: list[tuple[Any, str]] = [
    (["0.1", "0.2"], "'0.1' at position 0"),
    ([0.1, None], "position 1"),
    ([0.1, float("nan")], "position 1"),
    (np.array([0.1, np.inf]), "position 1"),
    (np.ma.array([0.1, 0.2], mask=[False, True]), "position 1"),
    (pl.Series([0.1, None]), "position 1"),
    (np.array(["2020-01-01"] * 2, dtype="datetime64[D]"), "dates or durations"),
]
