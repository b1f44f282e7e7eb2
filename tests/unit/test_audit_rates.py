"""Rates by group against fairlearn's MetricFrame; the four-fifths and Local Law 144 formats."""

from __future__ import annotations

from typing import Any

import fairlearn.metrics as theirs
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, mean_squared_error

import fairopt as fo
from fairopt.auditing import LocalLaw144
from fairopt.basics.errors import InputError

PARITY = fo.DemographicParity("sex", tolerance=0.05)
METRICS = {
    "selection_rate": theirs.selection_rate,
    "true_positive_rate": lambda t, d: theirs.true_positive_rate(t, d, pos_label=1),
    "false_positive_rate": lambda t, d: theirs.false_positive_rate(t, d, pos_label=1),
    "accuracy": accuracy_score,
}


def frames(t: Any, d: Any, s: Any, features: pd.DataFrame) -> list[theirs.MetricFrame]:
    """fairlearn's figures of decisions, and of scores."""
    common = {"y_true": t, "sensitive_features": features}
    return [
        theirs.MetricFrame(metrics=METRICS, y_pred=d, **common),
        theirs.MetricFrame(metrics={"mean_score": theirs.mean_prediction}, y_pred=s, **common),
        theirs.MetricFrame(metrics={"base_rate": theirs.mean_prediction}, y_pred=t, **common),
    ]


def draw(seed: int) -> tuple[Any, Any, Any, pd.DataFrame, float]:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    s = rng.random(n) if rng.random() < 0.5 else rng.choice([0.0, 0.3, 0.5, 1.0], n)
    t = (rng.random(n) < rng.random()).astype(int)
    features = pd.DataFrame({"sex": rng.choice(["f", "m", "x"][: rng.integers(1, 4)], n), "race": rng.integers(0, rng.integers(1, 4), n)})
    threshold = float(rng.choice([0.5, 0.3, 0.7]))
    return s, t, (s >= threshold).astype(int), features, threshold


def same(ours: float | None, their: float) -> bool:
    return ours is None or ours == pytest.approx(their, abs=1e-12, rel=1e-12)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=12)
def test_every_figure_is_that_of_the_metric_frame(seed: int) -> None:
    compare(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100))
def test_every_figure_of_more_draws_is_that_of_the_metric_frame(seed: int) -> None:
    compare(seed)


def compare(seed: int) -> None:
    """By group, overall, difference and ratio, between groups and to overall, for two attributes and their intersection."""
    s, t, d, features, threshold = draw(seed)
    attributes = {"sex": ["sex"], "race": ["race"], "sex & race": ["sex", "race"]}
    audit = fo.audit(
        s,
        PARITY,
        sensitive_features=features,
        targets=t,
        threshold=threshold,
        attributes=[tuple(c) for c in attributes.values()],
        draws=100,
    )
    ours = {(r["attribute"], r["group"], r["measure"]): r["value"] for r in audit.groups}
    spread = {(r["attribute"], r["measure"]): r for r in audit.spread}
    for attribute, columns in attributes.items():
        for frame in frames(t, d, s, features[columns]):
            ratios, ratios_to_overall = frame.ratio(), frame.ratio(method="to_overall")
            differences, to_overall = frame.difference(), frame.difference(method="to_overall")
            for measure in frame.by_group.columns:
                known: dict[str, float | None] = {}
                for group, value in frame.by_group[measure].items():
                    name = " & ".join(map(str, group)) if isinstance(group, tuple) else str(group)
                    mine = ours[attribute, name, measure]
                    if np.isnan(value):  # an empty intersection
                        assert mine is None
                        continue
                    assert same(mine, value)
                    known[name] = mine
                assert same(ours["", "overall", measure], frame.overall[measure])
                row, defined = spread[attribute, measure], [v for v in known.values() if v is not None]
                if len(defined) < max(2, len(known)):
                    continue
                assert same(row["difference"], differences[measure])
                assert same(row["difference_to_overall"], to_overall[measure])
                assert (row["ratio"] is None) == (max(defined) == 0)
                assert same(row["ratio"], ratios[measure])
                assert same(row["ratio_to_overall"], ratios_to_overall[measure])


def test_the_comparison_compares_most_figures() -> None:
    """In the draws above: how many figures both define."""
    defined = total = 0
    for seed in range(20):
        s, t, _, features, threshold = draw(seed)
        audit = fo.audit(s, PARITY, sensitive_features=features, targets=t, threshold=threshold, draws=100)
        total += len(audit.groups)
        defined += sum(v is not None for v in audit.groups["value"])
    assert defined > 0.85 * total


def test_squared_errors_are_those_of_the_metric_frame() -> None:
    rng = np.random.default_rng(0)
    s, t, sex = rng.normal(0, 1, 50), rng.normal(0, 1, 50), rng.choice(["f", "m"], 50)
    audit = fo.audit(s, PARITY, sensitive_features={"sex": sex}, targets=t, draws=100)
    frame = theirs.MetricFrame(metrics=mean_squared_error, y_true=t, y_pred=s, sensitive_features=sex)
    ours = {r["group"]: r["value"] for r in audit.groups if r["attribute"] == "sex" and r["measure"] == "mean_squared_error"}
    assert ours == pytest.approx(dict(frame.by_group), abs=1e-12)


def test_a_rate_without_anyone_to_have_it_is_not_0() -> None:
    """fairlearn's is 0: a group without a positive target has no true positive rate."""
    audit = fo.audit([0.9, 0.1, 0.8, 0.2], PARITY, sensitive_features={"sex": list("ffmm")}, targets=[1, 0, 0, 0], draws=100)
    rows = {r["group"]: r for r in audit.groups if r["measure"] == "true_positive_rate" and r["attribute"] == "sex"}
    assert (rows["m"]["value"], rows["m"]["n"], rows["m"]["interval"]) == (None, 0, "nobody")
    (row,) = [r for r in audit.spread if r["measure"] == "true_positive_rate"]
    assert (row["difference"], row["groups"]) == (None, 1)
    assert row["note"] == "not defined in m; fewer than two groups: nothing to compare"


def test_ratios_of_signed_figures_are_left_out() -> None:
    audit = fo.audit([-1.0, 2.0, 3.0, 4.0], PARITY, sensitive_features={"sex": list("ffmm")}, targets=[0, 1, 0, 1], draws=100)
    rows = {r["measure"]: r for r in audit.spread}
    assert rows["mean_score"]["ratio"] == pytest.approx(0.5 / 3.5)
    assert (rows["mean_residual"]["ratio"], rows["mean_residual"]["note"]) == (None, "no ratio: figures with a sign")
    negative = fo.audit([-1.0, -2.0, 3.0, 4.0], PARITY, sensitive_features={"sex": list("ffmm")}, draws=100)
    assert {r["measure"]: r["ratio"] for r in negative.spread}["mean_score"] is None


# four fifths ----------------------------------------------------------------------------------------------------------------


def four_fifths(selected: dict[str, tuple[int, int]]) -> dict[str, dict[str, Any]]:
    sex = [g for g, (_, n) in selected.items() for _ in range(n)]
    decisions = [int(k < s) for s, n in selected.values() for k in range(n)]
    audit = fo.audit(decisions, PARITY, sensitive_features={"sex": sex}, draws=100)
    return {row["group"]: row for row in audit.ratios}


def test_exactly_four_fifths_is_not_below() -> None:
    rows = four_fifths({"f": (12, 30), "m": (35, 70), "x": (39, 100)})
    assert [rows[g]["below_four_fifths"] for g in "fmx"] == [False, False, True]
    assert [rows[g]["ratio"] for g in "fmx"] == [0.8, 1.0, 0.78]
    assert [(rows[g]["selected"], rows[g]["n"]) for g in "fmx"] == [(12, 30), (35, 70), (39, 100)]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)).map(lambda v: (min(v), v[1])), min_size=2, max_size=4))
@settings(max_examples=50)
def test_the_flag_is_decided_in_whole_numbers(cells: list[tuple[int, int]]) -> None:
    rows = four_fifths({str(k): cell for k, cell in enumerate(cells)})
    best = max(range(len(cells)), key=lambda k: cells[k][0] / cells[k][1])
    for k, (selected, n) in enumerate(cells):
        row = rows[str(k)]
        if cells[best][0] == 0:
            assert (row["ratio"], row["below_four_fifths"]) == (None, None)
            assert row["note"] == "nobody was selected in any group: no ratio"
        else:
            assert row["below_four_fifths"] == (5 * selected * cells[best][1] < 4 * n * cells[best][0])


# Local Law 144 --------------------------------------------------------------------------------------------------------------


def law(sex: list[Any], race: list[Any], scores: list[float], **options: Any) -> dict[str, Any]:
    audit = fo.audit(
        scores,
        PARITY,
        sensitive_features={"sex": sex, "race": race},
        missing_group="own",
        local_law=LocalLaw144("sex", "race", **options),
        draws=100,
    )
    return {title: {row["category"]: row for row in table} for title, table in audit.local_law.items()}


def test_the_tables_of_the_rule() -> None:
    sex = ["f", "f", "f", "f", "m", "m", "m", "m"]
    race = ["a", "a", "b", "b", "a", "a", "b", "b"]
    found = law(sex, race, [0.1, 0.6, 0.2, 0.3, 0.7, 0.8, 0.9, 0.4])
    assert list(found) == [f"{form}, {by}" for form in ("selection", "scoring") for by in ("sex", "race/ethnicity", "intersectional")]
    by_sex = found["selection, sex"]
    assert [(by_sex[g]["applicants"], by_sex[g]["selected"], by_sex[g]["selection_rate"]) for g in "fm"] == [(4, 1, 0.25), (4, 3, 0.75)]
    assert [by_sex[g]["impact_ratio"] for g in "fm"] == [pytest.approx(1 / 3), 1.0]
    assert list(found["selection, intersectional"]) == ["f & a", "f & b", "m & a", "m & b", "unknown category"]
    assert found["selection, intersectional"]["f & b"]["impact_ratio"] == 0.0
    # the median of all scores is 0.5: above it are 0.6, 0.7, 0.8, 0.9
    assert [found["scoring, race/ethnicity"][g]["scoring_rate"] for g in "ab"] == [0.75, 0.25]


def test_the_median_itself_is_not_above_it() -> None:
    found = law(["f", "m", "f"], ["a", "a", "a"], [0.2, 0.5, 0.9])
    assert [found["scoring, sex"][g]["above_median"] for g in "fm"] == [1, 0]


def test_unknown_categories_are_counted_and_left_out_but_stay_in_the_median() -> None:
    sex = ["f", "f", "m", "m", None, "declined"]
    found = law(sex, ["a", "b", "a", "b", "a", "a"], [0.1, 0.2, 0.3, 0.4, 0.9, 0.95], unknown=("declined",))
    table = found["scoring, sex"]
    assert list(table) == ["f", "m", "unknown category"]
    assert (table["unknown category"]["applicants"], table["unknown category"]["note"]) == (2, "not in the calculations above")
    # the median of six is 0.35; of the four with a known sex it would be 0.25
    assert [table[g]["above_median"] for g in "fm"] == [0, 1]
    assert sum(row["applicants"] for row in found["selection, intersectional"].values()) == 6


@pytest.mark.parametrize(("share", "left_out"), [(0.02, False), (0.0201, True), (0.0, False)])
def test_a_category_below_the_share_is_shown_and_not_compared(share: float, left_out: bool) -> None:
    race = ["a"] * 49 + ["b"] * 49 + ["c"] * 2  # c has 2 %
    scores = [0.6] * 49 + [0.6] * 10 + [0.1] * 39 + [0.9] * 2
    found = law(["f", "m"] * 50, race, scores, exclude_below=share)["selection, race/ethnicity"]
    assert (found["c"]["applicants"], found["c"]["selection_rate"]) == (2, 1.0)
    assert (found["c"]["impact_ratio"] is None) is left_out
    assert ("left out" in found["c"]["note"]) is left_out
    assert found["b"]["impact_ratio"] == pytest.approx(10 / 49)


def test_categories_without_anyone_or_without_selection_have_words() -> None:
    found = law(["f", "f", "m"], ["a", "b", "a"], [0.1, 0.2, 0.3])
    assert found["selection, intersectional"]["m & b"]["note"] == "no one in this category"
    assert found["selection, sex"]["f"]["note"] == "nobody was selected: no ratio"


@pytest.mark.parametrize(
    "bad", [{"sex": "sex", "race": "sex"}, {"sex": 1, "race": "race"}, {"sex": "a", "race": "b", "exclude_below": 1.0}]
)
def test_bad_settings_of_the_law(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        LocalLaw144(**bad)
