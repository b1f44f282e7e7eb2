"""Splitting and encoding tables with categories: strata keep their shares, and nothing is learnt outside the training rows."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairopt.basics.errors import InputError
from fairopt.experiments.data.tabular import Dataset, Encoder, Part, split

LEVELS = ("a", "b", "c", "d", "seldom")


def _drawn(n: int, seed: int, task: str = "binary", official: bool = False) -> Dataset:
    """Two numbers, a category with gaps and a rare level; two attributes with small groups, a continuous one."""
    generator = np.random.default_rng(seed)
    codes = generator.choice([0, 1, 2, 3, np.nan], n)
    codes[generator.integers(n)] = 4
    features = np.column_stack([generator.normal(size=n), generator.integers(0, 9, n), codes])
    target = generator.integers(0, 2, n).astype(np.float64) if task == "binary" else generator.normal(size=n)
    sensitive = {
        "sex": generator.choice(["f", "m"], n),
        "race": generator.choice(["u", "v", "w"], n, p=[0.68, 0.3, 0.02]),
        "share": generator.random(n),
    }
    rows = generator.random(n) < 0.3 if official else None
    return Dataset("drawn", features, ("x", "y", "level"), target, sensitive, task, rows, {"level": LEVELS})  # type: ignore[arg-type]


def _order(part: Part) -> list[float]:
    """The rows of a part, known by their continuous attribute."""
    return part.sensitive["share"].tolist()


@given(n=st.integers(60, 300), seed=st.integers(0, 10_000), task=st.sampled_from(["binary", "regression"]), official=st.booleans())
@settings(max_examples=30)
def test_no_row_is_lost_or_doubled_and_strata_keep_their_shares(n: int, seed: int, task: str, official: bool) -> None:
    data = _drawn(n, seed, task, official)
    parts = split(data, seed)
    found = [parts.train, parts.validation, parts.held_out]
    assert sorted(row for part in found for row in _order(part)) == sorted(data.sensitive["share"].tolist())
    if official:
        assert data.official is not None
        assert _order(parts.held_out) == data.sensitive["share"][data.official].tolist()
        return
    whole = Counter(data.sensitive["sex"].tolist())
    for part, share in zip(found, (0.6, 0.2, 0.2), strict=True):
        shares = Counter(part.sensitive["sex"].tolist())
        assert all(abs(shares[g] - share * whole[g]) <= 8 for g in whole)  # rounding of eight strata at most


@given(n=st.integers(60, 200), seed=st.integers(0, 10_000))
@settings(max_examples=30)
def test_rows_outside_training_change_no_encoding(n: int, seed: int) -> None:
    """Other features and attributes in validation and held-out rows: the training rows, and what is learnt, stay the same to the bit."""
    data = _drawn(n, seed)
    parts = split(data, 3, stratify=())
    inside = np.isin(data.sensitive["share"], parts.train.sensitive["share"])
    generator = np.random.default_rng(seed + 1)
    other = data.features.copy()
    other[~inside, :2] = generator.normal(size=((~inside).sum(), 2)) * 1e6
    other[~inside, 2] = generator.integers(0, 5, (~inside).sum())
    again = split(dataclasses.replace(data, features=other), 3, stratify=())
    assert again.encoder.names == parts.encoder.names
    assert torch.equal(again.train.x, parts.train.x)
    assert torch.equal(again.train.y, parts.train.y)


def test_rare_levels_unknown_levels_and_gaps_count_as_other() -> None:
    column = np.repeat([0.0, 1.0, 4.0, np.nan], [60, 35, 2, 3])[:, None]
    encoder = Encoder.fit(column, ("level",), categories={"level": LEVELS}, rare=0.05)
    assert encoder.names == ("level=a", "level=b", "level=other")
    codes = encoder.encode(np.array([[0.0], [1.0], [4.0], [np.nan], [2.0]]))
    high = (codes > 0).int().tolist()
    assert high == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]]


def test_an_other_that_hardly_occurs_gets_no_column() -> None:
    column = np.repeat([0.0, 1.0, 4.0], [600, 395, 1])[:, None]
    encoder = Encoder.fit(column, ("level",), categories={"level": LEVELS})
    assert encoder.names == ("level=a", "level=b")
    assert float(encoder.encode(np.array([[4.0]])).abs().max()) < 2


def test_small_strata_are_pooled_and_strange_attributes_refused() -> None:
    data = _drawn(80, 0)
    data.sensitive["race"][:] = "u"
    data.sensitive["race"][0] = "alone"
    assert len(split(data, 0).train) == 48
    with pytest.raises(InputError, match=r"stratify: got \['share'\], expected attributes with groups, of \['sex', 'race'\]"):
        split(data, 0, stratify=("share",))
    with pytest.raises(InputError, match="shares: got"):
        split(data, 0, (0.5, 0.2, 0.2))


def test_take_keeps_rows_together() -> None:
    data = _drawn(100, 1, official=True)
    rows = np.array([5, 3, 90])
    taken = data.take(rows)
    assert data.official is not None
    assert taken.official is not None
    np.testing.assert_array_equal(taken.features, data.features[rows])
    np.testing.assert_array_equal(taken.official, data.official[rows])
    assert taken.sensitive["sex"].tolist() == data.sensitive["sex"][rows].tolist()
    part = split(data, 0, official=False).train
    some = part.take(torch.tensor([7, 0]))
    assert torch.equal(some.x, part.x[[7, 0]])
    assert torch.equal(some.y, part.y[[7, 0]])
    assert some.sensitive["race"].tolist() == part.sensitive["race"][[7, 0]].tolist()
