"""Streams read through the one reader of columns: each container gives the groups and numbers of the other doors, or their words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import fairopt as fo
from fairopt.streaming import Controller, Cumulative, DurableStream, PooledParity, PrimalDual, parity
from fairopt.training import FairClassifier
from tests.column_kinds import BOOLS, COLUMNS, FRAMES, INTS, MISSING, NO_NUMBERS, NUMBERS, REFUSED, SCORES, TARGETS, WORDS

OPPORTUNITY = parity("g", tolerance=0.05, name="EqualOpportunity", condition=1)
CONTROLLERS: dict[str, Callable[..., Controller]] = {
    "pooled": lambda **more: PooledParity(parity("g", tolerance=0.05), bounds=(0, 1), **more),
    "cumulative": lambda **more: Cumulative(parity("g", tolerance=0.05), bounds=(0, 1), **more),
    "paper": lambda **more: PrimalDual(parity("g", tolerance=0.05), bounds=(0, 1), b_tau=4, **more),
    "targets": lambda **more: PooledParity(OPPORTUNITY, bounds=(0, 1), **more),
}


def told(controller: Controller, scores: Any, groups: Any, targets: Any = None) -> tuple[list[float], Any]:
    step = controller.step(scores, sensitive_features=groups, targets=targets)
    answer = step.scores
    if isinstance(answer, list):
        return np.ravel(answer).tolist(), step.counts
    return np.asarray(answer, dtype=np.float64).reshape(-1).tolist(), step.counts


@pytest.mark.parametrize("name", CONTROLLERS)
@pytest.mark.parametrize(("make", "values"), COLUMNS)
def test_a_batch_with_groups_in_any_container_is_the_same_step(name: str, make: Callable[[list[Any]], Any], values: list[Any]) -> None:
    targets = TARGETS if name == "targets" else None
    expected = told(CONTROLLERS[name](), SCORES, {"g": values}, targets)
    assert {type(g) for counts in expected[1].values() for g in counts} == {str}
    assert told(CONTROLLERS[name](), SCORES, {"g": make(values)}, targets) == expected
    bare = make(values)
    if isinstance(bare, (pd.DataFrame, pl.DataFrame)):
        with pytest.raises(fo.InputError, match="no attribute 'g'; it has 'x'"):  # a frame names its attributes
            told(CONTROLLERS[name](), SCORES, bare, targets)
    else:
        assert told(CONTROLLERS[name](), SCORES, bare, targets) == expected


@pytest.mark.parametrize("name", CONTROLLERS)
@pytest.mark.parametrize("make", NUMBERS.values(), ids=NUMBERS)
def test_scores_and_targets_in_any_container_are_the_same_step(name: str, make: Callable[[list[Any]], Any]) -> None:
    targets = TARGETS if name == "targets" else None
    expected = told(CONTROLLERS[name](), SCORES, {"g": WORDS}, targets)
    assert told(CONTROLLERS[name](), make(SCORES), {"g": WORDS}, None if targets is None else make(targets)) == expected


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_frames_of_every_kind_are_features(frame: Callable[[dict[str, Any]], Any]) -> None:
    two = [parity("g", tolerance=0.05), parity("h", tolerance=0.1)]
    features = {"g": INTS, "h": BOOLS}
    expected = told(PooledParity(two, bounds=(0, 1)), SCORES, features)
    assert told(PooledParity(two, bounds=(0, 1)), SCORES, frame(features)) == expected


def test_scores_come_back_as_they_came() -> None:
    fresh = CONTROLLERS["pooled"]
    plain = fresh().step(SCORES, sensitive_features=INTS).scores
    series = fresh().step(pd.Series(SCORES, index=list("abcdefghijkl"), name="p"), sensitive_features=INTS).scores
    assert (list(series.index), series.name, series.tolist()) == (list("abcdefghijkl"), "p", plain)
    named = fresh().step(pl.Series("p", SCORES), sensitive_features=INTS).scores
    assert (named.name, named.to_list()) == ("p", plain)
    assert fresh().step(pa.array(SCORES), sensitive_features=INTS).scores.to_pylist() == plain
    assert fresh().step(tuple(SCORES), sensitive_features=INTS).scores == tuple(plain)
    single = pd.Series(np.full(2, 5.0), dtype="float32")
    low = PooledParity(parity("g", tolerance=0.05), bounds=(0.1, 0.7)).step(single, sensitive_features=["a", "b"]).scores
    assert low.dtype == np.float32
    assert (low.astype(float) <= 0.7).all()  # what is sent lies in the box, in the caller's dtype too


WRONG = {**{f"missing: {name}": (column, "missing value at position 1") for name, column in MISSING.items()}, **REFUSED}


@pytest.mark.parametrize(("column", "words"), WRONG.values(), ids=WRONG)
def test_what_names_no_groups_is_refused_as_at_the_other_doors(column: Any, words: str) -> None:
    doors: list[Callable[[], Any]] = [
        lambda: fo.gaps([0.1, 0.2, 0.3], fo.DemographicParity("g", tolerance=0.1), sensitive_features={"g": column}),
        *[lambda name=name: CONTROLLERS[name]().step([0.1, 0.2, 0.3], sensitive_features={"g": column}) for name in list(CONTROLLERS)[:3]],
    ]
    for door in doors:
        with pytest.raises(fo.InputError, match=words):
            door()


@pytest.mark.parametrize(
    ("column", "words"),
    NO_NUMBERS,
)
def test_what_is_no_number_has_the_words_of_the_other_doors(column: Any, words: str) -> None:
    notion = fo.EqualOpportunity("g", tolerance=0.1)
    for what in ("scores", "targets"):
        facts: dict[str, Any] = {"scores": [0.1, 0.2], "targets": [0, 1], what: column}
        said = []
        for door in (
            lambda f: fo.project(f["scores"], notion, sensitive_features=["a", "b"], targets=f["targets"]),
            lambda f: CONTROLLERS["targets"]().step(f["scores"], sensitive_features=["a", "b"], targets=f["targets"]),
        ):
            with pytest.raises(fo.InputError, match=words) as caught:
                door(facts)
            said.append(str(caught.value))
        assert said[0] == said[1]


def test_other_labels_than_0_and_1_are_refused_and_pos_label_is_the_remedy() -> None:
    for labels in ([-1, 1, 1, -1], [1, 2, 2, 1], [0.1, 0.9, 0.9, 0.1], ["no", "yes", "yes", "no"]):
        controller = CONTROLLERS["targets"]()
        with pytest.raises(fo.InputError, match=r"values found are .*pos_label="):
            controller.step([0.1, 0.2, 0.3, 0.4], sensitive_features=list("abab"), targets=labels)
        for name in ("pooled", "cumulative", "paper"):
            made = type(CONTROLLERS[name]())(OPPORTUNITY, bounds=(0, 1), pos_label=labels[1])
            plain = type(made)(OPPORTUNITY, bounds=(0, 1))
            one = made.step([0.1, 0.2, 0.3, 0.4], sensitive_features=list("abab"), targets=labels)
            assert one == plain.step([0.1, 0.2, 0.3, 0.4], sensitive_features=list("abab"), targets=[0, 1, 1, 0])
            assert made.step(0.5, sensitive_features="a", targets=labels[0]) == plain.step(0.5, sensitive_features="a", targets=0)


def test_pos_label_is_in_the_state() -> None:
    one, other = (PooledParity(OPPORTUNITY, bounds=(0, 1), pos_label=label) for label in ("yes", "no"))
    one.step(0.5, sensitive_features="a", targets="yes")
    for controller in (other, CONTROLLERS["targets"]()):
        with pytest.raises(fo.InputError, match="pos_label is 'yes', this controller has"):
            controller.load_state_dict(one.state_dict())
        with pytest.raises(fo.InputError, match="pos_label"):
            controller.merge(one)
    again = PooledParity(OPPORTUNITY, bounds=(0, 1), pos_label="yes")
    again.load_state_dict(one.state_dict())
    assert again.state_dict() == one.state_dict()
    with pytest.raises(fo.InputError, match="pos_label"):
        one.load_state_dict(CONTROLLERS["targets"]().state_dict())
    with pytest.raises(fo.InputError, match="pos_label"):
        PooledParity(OPPORTUNITY, bounds=(0, 1), pos_label=["yes"])


def test_requests_with_other_groups_differ_whatever_holds_them(tmp_path: Any) -> None:
    n = 40
    scores, groups = [0.5] * n, ["a", "b"] * (n // 2)
    changed = [*groups[:20], "b", *groups[21:]]
    for k, make in enumerate((list, pd.Series, pl.Series, pa.array, np.array)):
        with DurableStream(CONTROLLERS["pooled"](), tmp_path / f"{k}.state") as stream:
            sent = stream.step(scores, sensitive_features={"g": make(groups)}, key="one").scores
            assert stream.step(scores, sensitive_features={"g": groups}, key="one").scores == sent
            with pytest.raises(fo.InputError, match="another request"):
                stream.step(scores, sensitive_features={"g": make(changed)}, key="one")


def test_an_estimator_reads_tables_of_every_kind_alike() -> None:
    rng = np.random.default_rng(0)
    x = {"u": rng.normal(size=120), "v": rng.normal(size=120)}
    sex = rng.choice(["f", "m"], 120)
    y = (x["u"] + (sex == "f") + rng.normal(size=120) > 0).astype(int)
    matrix = np.column_stack([x["u"], x["v"]])

    def scored(table: Any, groups: Any, labels: Any) -> Any:
        model = FairClassifier(fo.DemographicParity, tolerance=0.05, epochs=2, hidden=(4,), random_state=0)
        model.fit(table, labels, sensitive_features=groups)
        return np.asarray(model.predict_proba(table, sensitive_features=groups)), model.frozen_.keys

    expected, keys = scored(matrix, {"sex": sex}, y)
    doors: dict[str, tuple[Any, Any, Any]] = {
        "pandas": (pd.DataFrame(x), pd.DataFrame({"sex": sex}), pd.Series(y)),
        "polars": (pl.DataFrame(x), pl.DataFrame({"sex": sex}), pl.Series(y)),
        "pyarrow": (pa.table(x), pa.table({"sex": sex}), pa.array(y)),
    }
    for name, (table, groups, labels) in doors.items():
        proba, found = scored(table, groups, labels)
        assert np.array_equal(proba, expected), name
        assert found == keys
