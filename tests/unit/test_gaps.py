"""gaps(): every pair listed, absent ones without numbers, "met" decided exactly; and the table that holds them."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairopt.auditing.gap_table import COLUMNS, gaps
from fairopt.basics.errors import FairoptWarning, InputError
from fairopt.basics.table import Table
from fairopt.notions import (
    Batch,
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    GroupMeanBound,
    ImpactRatio,
    MeanResidual,
    Notion,
    Reference,
    ResidualParity,
    ScoreCovariance,
    notion,
)

FEATURES = {"sex": ["f", "m", "f", "m"], "race": ["b", "w", "w", "w"]}
SCORES = [0.1, 0.5, 0.3, 0.7]


def table(made: Notion, **options: Any) -> list[dict[str, Any]]:
    return list(gaps(SCORES, made, **{"sensitive_features": FEATURES, **options}))


def test_every_pair_is_listed_absent_ones_without_numbers() -> None:
    rows = table(DemographicParity("race", tolerance=0.05), groups={"race": ["b", "w", "x", "z"]})
    assert [(r["group_a"], r["group_b"]) for r in rows] == [("b", "w"), ("b", "x"), ("b", "z"), ("w", "x"), ("w", "z"), ("x", "z")]
    assert [r["status"] for r in rows] == ["broken"] + ["absent"] * 5
    assert rows[0]["gap"] == pytest.approx(0.4)
    assert rows[0]["n_a"] == 1
    assert rows[0]["n_b"] == 3
    assert all(r["gap"] is None and r["n_b"] == 0 and r["value_b"] is None for r in rows[1:])
    assert rows[1]["value_a"] == 0.1
    assert not any(isinstance(v, float) and math.isnan(v) for r in rows for v in r.values())


def test_columns_and_contexts() -> None:
    rows = table(EqualizedOdds("sex", tolerance=0.1, given="race"), targets=[1, 1, 1, 0])
    assert tuple(rows[0]) == COLUMNS
    assert {r["given"] for r in rows} == {f"race={r}, target={t}" for r in "bw" for t in (0, 1)}
    assert {(r["notion"], r["attribute"]) for r in rows} == {("EqualizedOdds", "sex")}
    assert {r["given"]: r["status"] for r in rows}["race=w, target=1"] == "broken"


def test_each_form_shows_what_it_compares() -> None:
    (residual, _) = table(MeanResidual("sex", tolerance=0.1), targets=[0, 1, 1, 1])
    assert (residual["group_a"], residual["group_b"]) == ("f", "targets")
    assert (residual["value_a"], residual["value_b"], residual["gap"]) == (pytest.approx(0.2), 0.5, pytest.approx(0.3))
    (parity,) = table(ResidualParity("sex", tolerance=0.1), targets=[0, 1, 1, 1])
    assert parity["gap"] == pytest.approx(0.1)
    first, second = table(ImpactRatio("sex", ratio=0.5))
    assert (first["value_a"], first["value_b"]) == (pytest.approx(0.2), pytest.approx(0.6))
    assert first["gap"] == pytest.approx(0.5 * 0.6 - 0.2)
    assert (first["status"], second["status"]) == ("broken", "met")
    bound = table(GroupMeanBound("sex", lower=0.3, upper=0.5))
    assert [r["gap"] for r in bound] == [pytest.approx(0.1), pytest.approx(0.1)]
    assert [r["limit"] for r in bound] == [0.0, 0.0]
    assert table(GroupMeanBound("sex", lower=0.3))[0]["limit"] == -0.3
    overall = table(DemographicParity("sex", tolerance=0.1, to="overall"))
    assert [(r["group_a"], r["group_b"], r["n_b"]) for r in overall] == [("f", "overall", 4), ("m", "overall", 4)]
    features = {"s": [0.0, 1.0, 2.0, 3.0]}
    (covariance,) = table(ScoreCovariance("s", tolerance=0.1), sensitive_features=features)
    assert covariance["gap"] == pytest.approx(float(np.mean((np.arange(4) - 1.5) * np.array(SCORES))))


def test_a_users_notion_is_shown_by_its_value() -> None:
    @notion
    def odd(batch: Batch, attribute: str) -> Any:
        a, b = batch.groups(attribute)
        yield 2 * batch.mean(a) + batch.mean(b) - 0.1 <= 0.5

    (row,) = table(odd("sex"))
    assert row["group_a"] == "2*f + m - 0.1"
    assert row["gap"] == pytest.approx(0.9)
    assert row["status"] == "broken"


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float64]))
def test_met_is_decided_exactly(seed: int, dtype: Any) -> None:
    """The limit is one of the floats around the exact gap: rounding decides nothing."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 30))
    sex = np.concatenate([[0, 1], rng.integers(0, 2, n - 2)])
    scores = rng.normal(size=n).astype(dtype)
    means = [sum((Fraction(float(v)) for v in scores[sex == g]), Fraction(0)) / int((sex == g).sum()) for g in (0, 1)]
    exact = abs(means[0] - means[1])
    for tolerance in (float(exact), math.nextafter(float(exact), math.inf), max(math.nextafter(float(exact), 0), 0.0)):
        (row,) = gaps(scores, DemographicParity("sex", tolerance=tolerance), sensitive_features={"sex": sex})
        assert row["status"] == ("met" if exact <= Fraction(tolerance) else "broken")
        assert row["gap"] == float(exact)


@pytest.mark.parametrize(
    "scores", [np.array(SCORES)[:, None], torch.tensor(SCORES, requires_grad=True), pd.Series(SCORES), torch.tensor(SCORES)[:, None]]
)
def test_scores_come_in_many_kinds(scores: Any) -> None:
    (row,) = gaps(scores, DemographicParity("sex", tolerance=0.1), sensitive_features=FEATURES)
    assert row["gap"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        ([0.1, float("nan"), 0.2, 0.3], {}, "scores holds NaN"),
        ([0.1, float("inf"), 0.2, 0.3], {}, "scores holds NaN or infinite"),
        ([], {}, "n >= 1"),
        (0.3, {}, "came float"),
        (np.zeros((4, 2)), {}, r"shape \(4, 2\), expected \(n,\).*simplex"),
        ([0.1, 0.2], {}, "has 4 values for 2 samples"),
        (SCORES, {"sensitive_features": {}}, "got no attribute"),
        (SCORES, {"groups": {"sex": ["f"]}}, "unknown value 'm'"),
    ],
)
def test_bad_input_is_named(scores: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        gaps(scores, DemographicParity("sex", tolerance=0.1), **{"sensitive_features": FEATURES, **options})


def test_missing_targets_and_notions_are_named() -> None:
    with pytest.raises(InputError, match="needs targets"):
        gaps(SCORES, EqualOpportunity("sex", tolerance=0.1), sensitive_features=FEATURES)
    with pytest.raises(InputError, match="notion must be"):
        gaps(SCORES, "parity", sensitive_features=FEATURES)  # type: ignore[arg-type]


def test_table_prints_and_converts() -> None:
    shown = Table.from_records(("name", "gap"), [{"name": "a", "gap": 0.25}, {"name": "long", "gap": None}], title="Gaps")
    assert str(shown) == "Gaps\nname   gap\n----  ----\na     0.25\nlong     -"
    assert shown["gap"] == (0.25, None)
    assert list(shown) == [{"name": "a", "gap": 0.25}, {"name": "long", "gap": None}]
    assert shown.to_dict() == {"name": ["a", "long"], "gap": [0.25, None]}
    frame = shown.to_pandas()
    assert frame["gap"][1] is None
    assert list(frame.columns) == ["name", "gap"]
    assert len(shown) == 2
    with pytest.raises(InputError, match="no column 'x'"):
        shown["x"]
    with pytest.raises(InputError, match="2 columns"):
        Table(("a", "b"), ((1,),))
    with pytest.raises(AttributeError):
        shown.rows = ()  # type: ignore[misc]


# decisions told apart ---------------------------------------------------------------------------------------------------------


def halves(n=40):
    """Means .52 and .5; at 1/2 all of a and half of b."""
    g = np.repeat(["a", "b"], n)
    return np.where(g == "a", 0.52, np.tile([0.4, 0.6], n)), g


def told(scores, g, notion=None, **options):
    notion = DemographicParity("g", tolerance=0.05) if notion is None else notion
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gaps(scores, notion, sensitive_features={"g": g}, **options)
    return [str(w.message) for w in caught if issubclass(w.category, FairoptWarning)]


def test_a_gap_that_the_threshold_opens_is_told_and_names_who_closes_it():
    scores, g = halves()
    (words,) = told(scores, g)
    assert "decisions at 0.5: DemographicParity(g): the gap of decisions is 0.500, that of scores 0.020" in words
    assert "fairopt.FairDecisions" in words
    for to in ("overall", Reference("b")):
        assert len(told(scores, g, DemographicParity("g", tolerance=0.05, to=to))) == 1
    y = np.tile([0, 0, 1, 1], len(g) // 4)
    (words,) = told(scores, g, EqualOpportunity("g", tolerance=0.05), targets=y)
    assert "EqualOpportunity(g)" in words
    assert len(told(10 * scores - 5, g, threshold=0.0)) == 1


def test_nothing_is_told_of_what_are_no_probabilities_of_few_rows_or_where_it_was_turned_off():
    scores, g = halves()
    assert not told(scores, g, threshold=None)
    assert not told(scores, g, threshold=0.3)
    assert not told((scores >= 0.5) * 1.0, g)  # decisions
    assert not told(10 * scores, g)  # values
    assert not told(*halves(19))
    assert not told(scores, g, DemographicParity("g", tolerance=0.6))
    assert not told(scores, g, GroupMeanBound("g", lower=0.1))
    wrong: Any
    for wrong in (True, "half", float("nan")):
        with pytest.raises(InputError, match="threshold: got"):
            gaps(scores, DemographicParity("g", tolerance=0.1), sensitive_features={"g": g}, threshold=wrong)
