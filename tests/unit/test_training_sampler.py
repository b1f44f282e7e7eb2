"""Stratified batches: constant shares, exact totals, the same order again, and what becomes of remainders."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from fairopt.basics.errors import FairoptWarning, InputError
from fairopt.training import StratifiedBatches


@st.composite
def tables(draw: Any, least: int = 1) -> tuple[np.ndarray, np.ndarray, int]:
    """(codes of one attribute, of another, batch size): counts drawn by cell, rows mixed."""
    counts = draw(st.lists(st.integers(least, 40), min_size=1, max_size=6))
    seed = draw(st.integers(0, 10**6))
    cells = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    batch_size = draw(st.integers(1, cells.size + 3))
    return cells // 2, cells % 2, batch_size


def _sampler(a: np.ndarray, b: np.ndarray, batch_size: int, **options: Any) -> StratifiedBatches:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FairoptWarning)
        return StratifiedBatches({"a": a, "b": b}, batch_size, **options)


@settings(max_examples=150, deadline=None)
@given(tables(), st.integers(0, 1000), st.booleans())
def test_kept_remainders_give_each_batch_its_share_and_each_row_once(table: Any, seed: int, shuffle: bool) -> None:
    a, b, batch_size = table
    sampler = _sampler(a, b, batch_size, seed=seed, shuffle=shuffle)
    batches = list(sampler)
    m = len(sampler)
    assert len(batches) == m == math.ceil(len(a) / batch_size)
    assert sorted(row for batch in batches for row in batch) == list(range(len(a)))
    assert {len(batch) for batch in batches} <= {len(a) // m, math.ceil(len(a) / m)}
    for key, whole in Counter(zip(a, b, strict=True)).items():  # every cell, and with b alone below every group of the first attribute
        counts = [sum((a[row], b[row]) == key for row in batch) for batch in batches]
        assert sum(counts) == whole
        assert all(abs(count - whole / m) < 1 for count in counts)
    for group, whole in Counter(a).items():
        assert all(abs(sum(a[row] == group for row in batch) - whole / m) < 1 for batch in batches)


@settings(max_examples=150, deadline=None)
@given(tables(), st.integers(0, 1000), st.booleans())
def test_batches_of_one_size_leave_the_rest_to_the_last(table: Any, seed: int, shuffle: bool) -> None:
    a, b, batch_size = table
    sampler = _sampler(a, b, batch_size, remainder="last", seed=seed, shuffle=shuffle)
    n = len(a)
    for _ in range(2):  # epochs
        batches = list(sampler)
        assert len(batches) == len(sampler) == math.ceil(n / batch_size)
        assert sorted(row for batch in batches for row in batch) == list(range(n))
        sizes = [len(batch) for batch in batches]
        assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
        assert sizes[-1] == (n % batch_size or batch_size)
        for key, whole in Counter(zip(a, b, strict=True)).items():
            counts = [sum((a[row], b[row]) == key for row in batch) for batch in batches]
            assert all(abs(count - whole * size / n) < 2 for count, size in zip(counts, sizes, strict=True))
            if sizes[-1] < batch_size:
                assert abs(counts[-1] - whole * sizes[-1] / n) < 1 + 1e-9
            else:
                assert all(abs(count - whole / len(sizes)) < 1 for count in counts)


@settings(max_examples=150, deadline=None)
@given(tables(), st.integers(0, 1000))
def test_oversampling_gives_every_batch_the_same_counts(table: Any, seed: int) -> None:
    a, b, batch_size = table
    cells = len(set(zip(a, b, strict=True)))
    batch_size = max(batch_size, cells)
    sampler = _sampler(a, b, batch_size, remainder="oversample", seed=seed)
    batches = list(sampler)
    assert set().union(*map(set, batches)) == set(range(len(a)))
    assert all(len(set(batch)) == len(batch) <= batch_size for batch in batches)
    compositions = {tuple(sorted(Counter((a[row], b[row]) for row in batch).items())) for batch in batches}
    assert len(compositions) == 1
    for key, whole in Counter(zip(a, b, strict=True)).items():
        assert dict(compositions.copy().pop())[key] == math.ceil(whole / len(sampler))
    if len(sampler) > 1:  # one batch less would not do
        fewer = len(sampler) - 1
        assert sum(math.ceil(n / fewer) for n in sampler.counts) > batch_size


@settings(max_examples=150, deadline=None)
@given(tables(least=20), st.integers(0, 1000))
def test_discarding_leaves_out_fewer_than_a_row_for_each_batch_and_cell(table: Any, seed: int) -> None:
    a, b, batch_size = table
    batch_size = max(batch_size, math.ceil(len(a) / 20))
    sampler = _sampler(a, b, batch_size, remainder="discard", seed=seed)
    batches = list(sampler)
    seen = [row for batch in batches for row in batch]
    assert len(seen) == len(set(seen)) == len(a) - sampler.left_out
    compositions = {tuple(sorted(Counter((a[row], b[row]) for row in batch).items())) for batch in batches}
    assert len(compositions) == 1
    assert all(n - len(sampler) < sum((a[row], b[row]) == key for row in seen) for key, n in Counter(zip(a, b, strict=True)).items())


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(0, 100), st.integers(0, 3), st.data())
def test_a_saved_place_is_gone_on_from(table: Any, seed: int, epoch: int, data: Any) -> None:
    sampler = _sampler(*table, seed=seed)
    sampler.set_epoch(epoch)
    stop = data.draw(st.integers(0, len(sampler) - 1))
    running = iter(sampler)
    before = list(islice(running, stop))
    state = sampler.state_dict()
    rest = list(running)
    following = list(sampler)
    other = _sampler(*table, seed=seed)
    other.load_state_dict(state)
    other.set_epoch(epoch)  # as a loop says it: the place is kept
    assert list(other) == rest
    assert list(other) == following
    again = _sampler(*table, seed=seed)
    again.set_epoch(epoch)
    assert list(again) == before + rest


def test_the_order_hangs_on_seed_and_epoch_alone_and_leaves_the_global_state() -> None:
    sex = [0, 1, 1] * 40
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = list(StratifiedBatches({"sex": sex}, 30, seed=5))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(4)
    same = StratifiedBatches({"sex": sex}, 30, seed=5)
    assert list(same) == first
    assert list(same) != first  # the next epoch
    assert list(StratifiedBatches({"sex": sex}, 30, seed=6)) != first
    one, other = StratifiedBatches({"sex": sex}, 30, seed=0), StratifiedBatches({"sex": sex}, 30, seed=1)
    one.set_epoch(1)
    assert list(one) != list(other)
    still = StratifiedBatches({"sex": sex}, 30, shuffle=False)
    assert list(still) == list(still)


def test_few_compositions_with_the_groups_in_the_same_places() -> None:
    draw = np.random.default_rng(0)
    sex, label = draw.integers(0, 2, 1003), draw.integers(0, 2, 1003)
    sampler = StratifiedBatches({"sex": sex, "label": label}, 64)
    patterns = {(sex[batch].tobytes(), label[batch].tobytes()) for _ in range(3) for batch in sampler}
    assert 1 < len(patterns) <= 5  # cells + 1, over all epochs
    for batch in sampler:  # spread evenly: half of a batch has half of each cell, within one row
        half = sex[batch][: len(batch) // 2]
        assert abs(half.sum() - sex[batch].sum() / 2) <= 2


@pytest.mark.parametrize("way", ["batch_sampler", "sampler"])
def test_in_a_data_loader(way: str) -> None:
    sex = torch.tensor([0, 1, 1, 1] * 25)
    data = TensorDataset(torch.arange(100), sex)
    batches = StratifiedBatches({"sex": sex}, 20)
    loader = DataLoader(data, batch_sampler=batches) if way == "batch_sampler" else DataLoader(data, sampler=batches, batch_size=None)
    seen = []
    for rows, groups in loader:
        assert groups.sum() == 15
        assert torch.equal(groups, sex[rows])
        seen += rows.tolist()
    assert sorted(seen) == list(range(100))
    assert len(loader) == 5


def test_a_thin_group_is_named() -> None:
    race = ["white"] * 97 + ["black"] * 3
    with pytest.warns(FairoptWarning, match=r"1 of 2 cells have fewer rows than the 10 batches.*race=black \(3\)"):
        StratifiedBatches({"race": race}, 10)
    with pytest.raises(InputError, match=r"'discard' would leave out all rows of race=black \(3\)"):
        StratifiedBatches({"race": race}, 10, remainder="discard")
    batches = list(StratifiedBatches({"race": race}, 10, remainder="oversample"))
    assert all(sum(race[row] == "black" for row in batch) == 1 for batch in batches)


def test_missing_values_are_a_group_where_asked() -> None:
    with pytest.raises(InputError, match="missing value"):
        StratifiedBatches({"race": ["a", None, "b", "a"]}, 2)
    with pytest.warns(FairoptWarning):
        assert StratifiedBatches({"race": ["a", None, "b", "a"]}, 2, missing_group="own").cells == ("race=a", "race=b", "race=missing")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sensitive_features": {}}, "sensitive_features: expected a mapping"),
        ({"sensitive_features": {"a": [0, 1], "b": [0]}}, "lengths"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"batch_size": 2.0}, "batch_size: got 2.0"),
        ({"remainder": "drop"}, "remainder: got 'drop'"),
        ({"seed": -1}, "seed: got -1"),
        ({"sensitive_features": {"a": [0, 1, 2]}, "batch_size": 2, "remainder": "oversample"}, "expected at least 3"),
    ],
)
def test_bad_arguments(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        StratifiedBatches(**{"sensitive_features": {"a": [0, 1]}, "batch_size": 2, **options})


def test_bad_states_and_epochs() -> None:
    sampler = StratifiedBatches({"a": [0, 1]}, 2, seed=1)
    with pytest.raises(InputError, match="epoch: got -1"):
        sampler.set_epoch(-1)
    with pytest.raises(InputError, match="newer"):
        sampler.load_state_dict({**sampler.state_dict(), "format": 2})
    with pytest.raises(InputError, match="seed: got 1, expected 2"):
        sampler.load_state_dict({**sampler.state_dict(), "seed": 2})
