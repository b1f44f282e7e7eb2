"""Scores in any container: what freezes, serves and projects them gives back the kind that came, and the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import fairopt as fo
from fairopt.basics.columns import listed
from tests.column_kinds import SCORES, WORDS, N

PARITY = fo.DemographicParity("g", tolerance=0.05)
GROUPS = {"g": WORDS}
KINDS: dict[str, Callable[[list[float]], Any]] = {
    "list": list,
    "tuple": tuple,
    "nested list": lambda v: [[x] for x in v],
    "numpy": np.array,
    "numpy (n, 1)": lambda v: np.array(v)[:, None],
    "numpy float32": lambda v: np.array(v, dtype=np.float32),
    "pandas": lambda v: pd.Series(v, index=range(100, 100 - N, -1), name="p"),
    "pandas index": lambda v: pd.Index(v, name="p"),
    "pandas frame of one": lambda v: pd.DataFrame({"p": v}, index=range(7, 7 + N)),
    "polars": lambda v: pl.Series("p", v),
    "polars frame of one": lambda v: pl.DataFrame({"p": v}),
    "pyarrow": pa.array,
    "pyarrow chunked": lambda v: pa.chunked_array([v[:5], v[5:]]),
    "pyarrow table of one": lambda v: pa.table({"p": v}),
    "torch": lambda v: torch.tensor(v, dtype=torch.float64),
    "torch (n, 1)": lambda v: torch.tensor(v, dtype=torch.float64)[:, None],
}


def frozen(scores: Any) -> Any:
    return fo.FairnessLayer(PARITY, bounds=(0, 1)).freeze(scores, sensitive_features=GROUPS).predict(scores, sensitive_features=GROUPS)


DOORS: dict[str, Callable[[Any], Any]] = {
    "freeze and predict": frozen,
    "project": lambda scores: fo.project(scores, PARITY, sensitive_features=GROUPS, bounds=(0, 1)),
    "compile": lambda scores: fo.compile(PARITY, sensitive_features=GROUPS, bounds=(0, 1)).project(scores),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_that_came_comes_back(kind: str, door: str) -> None:
    expected = DOORS[door](SCORES)
    assert expected != SCORES
    scores = KINDS[kind](SCORES)
    fair = DOORS[door](scores)
    assert type(fair) is type(scores)
    assert getattr(fair, "shape", None) == getattr(scores, "shape", None)
    assert getattr(fair, "dtype", None) == getattr(scores, "dtype", None)
    values = [v for (v,) in fair] if kind == "nested list" else listed(fair, "fair")
    assert values == pytest.approx(expected, abs=1e-6 if kind == "numpy float32" else 1e-12)
    if isinstance(fair, (pd.Series, pd.DataFrame)):
        assert fair.index.equals(scores.index)
    if isinstance(fair, (pd.Series, pd.Index, pl.Series)):
        assert fair.name == "p"
    if isinstance(fair, (pd.DataFrame, pl.DataFrame)):
        assert list(fair.columns) == ["p"]


def test_a_batch_of_numpy_problems() -> None:
    prepared = fo.compile(PARITY, sensitive_features=GROUPS, bounds=(0, 1))
    scores = np.random.default_rng(0).uniform(size=(3, N)).astype(np.float32)
    fair = prepared.project_batch(scores)
    assert fair.dtype == np.float32
    assert np.array_equal(fair, prepared.project_batch(torch.from_numpy(scores)).numpy())
    with pytest.raises(fo.InputError, match="NaN"):
        prepared.project_batch(np.full((2, N), np.nan))


@pytest.mark.parametrize("space", ["value", "probability"])
@pytest.mark.parametrize("bad", [[0.1] * (N - 1) + [float("inf")], np.array([0.1] * (N - 1) + [float("nan")]), ["a"] * N])
def test_calibration_scores_that_are_none_are_refused(bad: Any, space: Any) -> None:
    layer = fo.FairnessLayer(PARITY, space=space)
    with pytest.raises(fo.InputError, match="scores"):
        layer.freeze(bad, sensitive_features=GROUPS)
    if not isinstance(bad, list):
        with pytest.raises(fo.InputError, match="scores"):
            layer.freeze(torch.from_numpy(bad), sensitive_features=GROUPS)
