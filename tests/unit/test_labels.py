"""Labels are never guessed: other values than 0 and 1 are refused with the remedy, and pos_label= says which one counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fairopt as fo

GROUPS = ["a", "b"] * 6
LABELS = [0, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0]
SCORES = [k / 16 for k in (1, 14, 3, 9, 11, 2, 7, 5, 15, 4, 8, 6)]
NOTIONS = [fo.EqualOpportunity("g", tolerance=0.01), fo.PredictiveEquality("g", tolerance=0.01), fo.EqualizedOdds("g", tolerance=0.01)]


def of(negative: Any, positive: Any) -> list[Any]:
    return [positive if t else negative for t in LABELS]


def layer(targets: Any, notion: Any, **options: Any) -> Any:
    made = fo.FairnessLayer(notion, **options)
    return made(torch.tensor(SCORES, dtype=torch.float64), sensitive_features=GROUPS, targets=targets).tolist()


DOORS: dict[str, Callable[..., Any]] = {
    "project": lambda t, notion, **o: fo.project(SCORES, notion, sensitive_features=GROUPS, targets=t, **o),
    "compile": lambda t, notion, **o: fo.compile(notion, sensitive_features=GROUPS, targets=t, **o).project(SCORES),
    "layer": layer,
    "gaps": lambda t, notion, **o: fo.gaps(SCORES, notion, sensitive_features=GROUPS, targets=t, **o).rows,
    "audit": lambda t, notion, **o: fo.audit(SCORES, notion, sensitive_features=GROUPS, targets=t, draws=100, **o).gaps.rows,
}
ODD = {"-1/1": (-1, 1), "1/2": (1, 2), ".1/.9": (0.1, 0.9), "yes/no": ("no", "yes"), "0/255": (0, 255), "text": ("0", "1")}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("notion", NOTIONS, ids=repr)
@pytest.mark.parametrize("pair", ODD.values(), ids=ODD)
def test_other_labels_are_refused_with_the_values_and_the_remedy(door: Callable[..., Any], notion: Any, pair: tuple[Any, Any]) -> None:
    with pytest.raises(fo.InputError, match="pos_label") as caught:
        door(of(*pair), notion)
    assert all((f"{v:g}" if not isinstance(v, str) else repr(v)) in str(caught.value) for v in pair)


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("notion", NOTIONS, ids=repr)
@pytest.mark.parametrize("pair", [*ODD.values(), (0, 1), (False, True)], ids=str)
def test_pos_label_gives_what_0_and_1_give(door: Callable[..., Any], notion: Any, pair: tuple[Any, Any]) -> None:
    expected = door(LABELS, notion)
    made = of(*pair)
    for targets in (made, np.array(made), pd.Series(made), pd.Series(made, dtype="category")):
        assert door(targets, notion, pos_label=pair[1]) == expected


def test_a_batch_of_one_label_is_no_error() -> None:
    for targets in ([0] * 12, [1] * 12, [False] * 12):
        layer(targets, NOTIONS[2])
    assert layer(["no"] * 12, NOTIONS[0], pos_label="yes") == pytest.approx(SCORES)


@pytest.mark.parametrize(
    ("targets", "pos_label", "words"),
    [
        (of(0, 1), "1", "got '1', expected one of the targets' values: 0, 1"),
        (of("no", "yes"), 1, "got 1, expected one of the targets' values: 'no', 'yes'"),
        (of("no", "yes"), "Yes", "got 'Yes'"),
        (of(0, 1), 2, "got 2"),
        (of(0, 1), float("nan"), "got nan"),
        (of(0, 1), [1], r"got \[1\]"),
        ([*of(0, 1)[:-1], None], 1, "missing value at position 11"),
        (of(0, 1)[:-1], 1, r"shape \(12,\), came \(11,\)"),
        (torch.tensor(of(0.0, 1.0), requires_grad=True), 1, "no gradient"),
    ],
)
def test_a_wrong_pos_label_is_named(targets: Any, pos_label: Any, words: str) -> None:
    with pytest.raises(fo.InputError, match=words):
        fo.project(SCORES, NOTIONS[0], sensitive_features=GROUPS, targets=targets, pos_label=pos_label)


@fo.notion
def about_label(batch: Any, attribute: Any, tolerance: float, value: float) -> Any:
    for a, b in batch.pairs(attribute):
        yield abs(batch.mean(a & (batch.targets == value)) - batch.mean(b & (batch.targets == value))) <= tolerance


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0, 2.0, 7.0]), min_size=12, max_size=12), st.sampled_from([0.0, 1.0, 2.0, 3.0]))
def test_an_event_that_nobody_meets_is_an_error_where_the_labels_are_others(targets: list[float], value: float) -> None:
    notion = about_label("g", tolerance=0.1, value=value)
    silent = value not in targets and any(t not in (0.0, 1.0, value) for t in targets)
    if silent:
        with pytest.raises(fo.InputError, match=f"compares targets with {value:g}, which no sample has"):
            fo.gaps(SCORES, notion, sensitive_features=GROUPS, targets=targets)
    else:
        assert len(fo.gaps(SCORES, notion, sensitive_features=GROUPS, targets=targets)) == 1


def test_residual_notions_take_any_numbers() -> None:
    assert len(fo.gaps(SCORES, fo.MeanResidual("g", tolerance=1.0), sensitive_features=GROUPS, targets=of(-7.5, 3.25))) == 2
