"""audit(): the gaps are those of ``gaps``, of scores and of decisions; exact checks; hash; settings; bad input; without the extras."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.auditing.gap_rows import GAPS, SUMMARY
from fairopt.auditing.gap_table import COLUMNS
from fairopt.basics.errors import InputError
from fairopt.compiler import compile_problem
from fairopt.notions import Batch
from fairopt.solve.dual.structure import structure
from fairopt.solve.finish.check import exact_violations


@fo.notion
def twice_as_high(batch: Batch, attribute: str, tolerance: float) -> Any:
    """A stranger's: three means at once, and a one-sided limit on everybody."""
    for a, b in batch.pairs(attribute):
        yield abs(batch.mean(a) - 2 * batch.mean(b) + 0.5 * batch.mean(batch.targets == 1)) <= tolerance
    yield batch.mean() <= 0.5


@fo.notion
def two_limits(batch: Batch, attribute: str) -> Any:
    """The larger gap is far inside its limit, the smaller one beyond its own."""
    yield batch.mean() <= 0.99
    a, b = batch.groups(attribute)
    yield abs(batch.mean(a) - batch.mean(b)) <= 0.001


NOTIONS = [
    fo.DemographicParity("sex", tolerance=0.05),
    fo.DemographicParity(("sex", "race"), tolerance=0.1),
    fo.DemographicParity("race", tolerance=0.02, to="overall"),
    fo.DemographicParity("race", tolerance=0.02, to=fo.Reference("b")),
    fo.EqualOpportunity("sex", tolerance=0.05, given="race"),
    fo.PredictiveEquality("sex", tolerance=0.05),
    fo.EqualizedOdds("race", tolerance=0.1),
    fo.MeanResidual("sex", tolerance=0.1),
    fo.ResidualParity("race", tolerance=0.1),
    fo.ImpactRatio("race", ratio=0.8),
    fo.GroupMeanBound("sex", lower=0.3, upper=0.6),
    fo.GroupMeanBound("race", lower=0.4),
    fo.ScoreCovariance("age", tolerance=0.01),
    fo.DemographicParity("sex", tolerance=0.05) & fo.EqualizedOdds("race", tolerance=0.1).priced(2.0),
    twice_as_high("race", tolerance=0.3),
]


def data(n: int = 80, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    sex, race = rng.choice(["f", "m"], n), rng.choice(["a", "b", "c"], n)
    return {
        "scores": np.clip(rng.beta(2, 2, n) + 0.1 * (sex == "m"), 0, 1),
        "sensitive_features": {"sex": sex, "race": race, "age": rng.normal(40, 10, n)},
        "targets": (rng.random(n) < 0.5).astype(float),
    }


def made(notion: Any, *, draws: int = 100, **options: Any) -> fo.Audit:
    facts = {**data(), **options}
    return fo.audit(facts.pop("scores"), notion, draws=draws, **facts)


def values(audit: fo.Audit) -> list[Any]:
    return [v for table in audit.tables.values() for row in table.rows for v in row]


# gaps -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("notion", NOTIONS, ids=repr)
def test_the_gaps_are_those_of_gaps_for_scores_and_for_decisions(notion: fo.Notion) -> None:
    facts = data()
    audit = made(notion)
    for quantity, vector in (("score", facts["scores"]), ("decision", (facts["scores"] >= 0.5).astype(float))):
        expected = fo.gaps(vector, notion, sensitive_features=facts["sensitive_features"], targets=facts["targets"], threshold=None)
        rows = [row for row in audit.gaps if row["quantity"] == quantity]
        assert [tuple(row[c] for c in COLUMNS) for row in rows] == list(expected.rows)
    assert audit.gaps.columns == GAPS
    assert not any(isinstance(v, float) and math.isnan(v) for v in values(audit))


@pytest.mark.parametrize("notion", NOTIONS, ids=repr)
def test_the_interval_of_every_gap_holds_the_gap(notion: fo.Notion) -> None:
    """It need not for a bootstrap-t of a tiny group; 80 samples are enough."""
    for row in made(notion, draws=400).gaps:
        if row["low"] is None:
            assert row["interval"]
            assert row["population"] == ""
            continue
        assert row["low"] <= row["gap"] <= row["high"]
        inside = "inside" if row["high"] <= row["limit"] else "outside" if row["low"] > row["limit"] else "open"
        assert row["population"] == inside


def test_several_notions_and_a_join_are_the_same_rows() -> None:
    first, second = NOTIONS[0], NOTIONS[6]
    apart, joined = made([first, second]), made(first & second)
    key = lambda rows: sorted(map(str, rows))  # noqa: E731
    assert key(apart.gaps.rows) == key(joined.gaps.rows)
    assert len(apart.checks) == 4
    assert len(joined.checks) == 2


def test_the_summary_counts_and_picks_the_worst() -> None:
    audit = made([NOTIONS[1], NOTIONS[7], two_limits("sex")])
    assert audit.summary["status"][-1] == "broken"
    assert audit.summary.columns == SUMMARY
    for row in audit.summary:
        rows = [r for r in audit.gaps if all(r[c] == row[c] for c in ("quantity", "notion", "attribute", "given"))]
        assert row["comparisons"] == len(rows) == row["met"] + row["broken"]
        worst = max(rows, key=lambda r: r["gap"] - r["limit"])
        assert (row["gap"], row["low"], row["high"]) == (worst["gap"], worst["low"], worst["high"])
        assert row["groups"] == f"{worst['group_a']} / {worst['group_b']}"
        assert row["status"] == ("broken" if row["broken"] else "met")


# what is absent -------------------------------------------------------------------------------------------------------------


def test_an_absent_group_is_a_row_without_numbers() -> None:
    audit = made(fo.DemographicParity("race", tolerance=0.1), groups={"race": ["a", "b", "c", "z"]})
    rows = [row for row in audit.gaps if row["group_b"] == "z"]
    assert len(rows) == 6
    assert all((row["status"] == "absent" and row["gap"] is row["low"] is row["population"]) or row["population"] == "" for row in rows)
    assert all(row["interval"] == "nobody" and row["n_b"] == 0 for row in rows)
    assert {row["value"] for row in audit.groups if row["group"] == "z"} == {None}
    assert {row["note"] for row in audit.ratios if row["group"] == "z"} == {"nobody in this group"}
    assert "race: nobody in z" in audit.notes
    assert [row["absent"] for row in audit.summary] == [3, 3]


@pytest.mark.parametrize("notion", [NOTIONS[0], NOTIONS[2], NOTIONS[8], NOTIONS[9]], ids=repr)
def test_one_group_is_said_and_nothing_holds_by_silence(notion: fo.Notion) -> None:
    audit = made(notion, sensitive_features={"sex": ["f"] * 80, "race": ["b"] * 80})
    assert any("only one group" in note for note in audit.notes)
    if notion is NOTIONS[2]:  # the group is everybody: the gap is there and is 0
        assert [row["gap"] for row in audit.gaps] == [0.0, 0.0]
    else:
        assert {row["status"] for row in audit.gaps} == {"one group"}
        assert {row["status"] for row in audit.summary} == {"vacuous"}
        assert {check.checked for check in audit.checks} == {0}
        assert {check.max_violation for check in audit.checks} == {None}
    assert {row["difference"] for row in audit.spread} == {None}
    assert all("fewer than two groups" in row["note"] for row in audit.spread)


def test_a_group_of_one_is_counted_and_has_no_interval_of_its_mean() -> None:
    sex = ["f"] + ["m"] * 79
    audit = made(NOTIONS[0], sensitive_features={"sex": sex})
    score, decision = audit.gaps
    assert (score["n_a"], score["low"], score["interval"]) == (1, None, "1 sample: too few")
    assert decision["low"] is not None
    assert decision["interval"].startswith("square-and-add")
    assert "sex: groups too small for intervals of means: f (1)" in audit.notes


def test_missing_groups_are_an_error_or_a_group() -> None:
    sex = [None, *["f", "m"] * 39, "f"]
    with pytest.raises(InputError, match=r"'sex'\] has a missing value at position 0"):
        made(NOTIONS[0], sensitive_features={"sex": sex})
    audit = made(NOTIONS[0], sensitive_features={"sex": sex}, missing_group="own")
    assert "missing" in audit.groups["group"]
    assert len(audit.gaps) == 6


def test_residuals_of_decisions_need_targets_of_0_and_1() -> None:
    audit = made(NOTIONS[7], targets=np.linspace(0, 3, 80))
    assert [row["status"] for row in audit.gaps if row["quantity"] == "decision"] == ["undefined"] * 2
    assert [row["status"] for row in audit.gaps if row["quantity"] == "score"] == ["broken"] * 2
    assert [row["status"] for row in audit.summary] == ["broken", "undefined"]
    assert any("residuals of decisions are not defined" in note for note in audit.notes)
    assert {"mean_target", "mean_squared_error"} < set(audit.groups["measure"])


@pytest.mark.parametrize(("threshold", "said"), [(-9.0, "all decisions are 1"), (9.0, "all decisions are 0")])
def test_decisions_that_are_all_the_same_are_said(threshold: float, said: str) -> None:
    audit = made(NOTIONS[0], threshold=threshold)
    assert any(note.startswith(said) and "logits" in note for note in audit.notes)


def test_soft_notions_are_checked_as_hard_and_that_is_said() -> None:
    hard, soft = made(NOTIONS[0]), made(NOTIONS[0].priced(1.0))
    assert hard.gaps == soft.gaps
    assert any("as if it were hard" in note for note in soft.notes)
    assert not any("as if it were hard" in note for note in hard.notes)


# decisions ------------------------------------------------------------------------------------------------------------------


def test_the_threshold_itself_is_a_positive_decision() -> None:
    features = {"sex": ["f", "f", "m", "m"]}
    audit = fo.audit([0.3, 0.4, 0.5, 0.2], NOTIONS[0], sensitive_features=features, threshold=0.4, draws=100)
    assert [row["count"] for row in audit.groups if row["measure"] == "selection_rate"] == [2, 1, 1]
    assert audit.settings["threshold"] == 0.4


def test_given_decisions_replace_the_threshold() -> None:
    decisions = (np.arange(80) % 3 == 0).astype(int)
    audit = made(NOTIONS[0], decisions=decisions)
    sex = data()["sensitive_features"]["sex"]
    counts = {row["group"]: row["count"] for row in audit.groups if row["measure"] == "selection_rate" and row["attribute"] == "sex"}
    assert counts == {g: int(decisions[sex == g].sum()) for g in "fm"}
    assert audit.settings["threshold"] is None


# exact ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("notion", NOTIONS, ids=repr)
def test_the_exact_check_agrees_with_the_compiled_problem(notion: fo.Notion) -> None:
    facts = data()
    problem = compile_problem(
        notion, n=80, sensitive_features=facts["sensitive_features"], targets=facts["targets"], on_infeasible="passthrough"
    ).problem
    own = exact_violations(structure(problem), problem, facts["scores"], list(range(problem.linear + problem.ranges)))
    check = made(notion).checks[0]
    assert check.quantity == "score"
    assert check.max_violation == pytest.approx(float(max(own.values())), abs=1e-15)
    assert check.holds == (max(own.values()) <= 0)
    assert check.holds == all(row["status"] == "met" for row in made(notion).gaps if row["quantity"] == "score")


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_a_gap_at_its_limit_is_met_and_one_beyond_is_broken(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, sex = rng.random(6), ["f", "f", "f", "m", "m", "m"]
    exact = [Fraction(float(s)) for s in scores]
    gap = abs(sum(exact[:3], Fraction(0)) - sum(exact[3:], Fraction(0))) / 3
    limit = float(gap)
    if Fraction(limit) < gap:  # the least float64 that is not below the gap
        limit = math.nextafter(limit, math.inf)
    for tolerance, holds in ((limit, True), (math.nextafter(limit, 0.0), False)):
        audit = fo.audit(scores, fo.DemographicParity("sex", tolerance=tolerance), sensitive_features={"sex": sex}, draws=100)
        assert audit.holds is holds
        violation = audit.checks[0].max_violation
        assert violation is not None
        assert (violation <= 0) is holds


def test_a_violation_too_small_for_a_float_is_still_one() -> None:
    tiny = 5e-324
    audit = fo.audit([tiny, 0.0, 0.0, 0.0], fo.DemographicParity("sex", tolerance=0.0), sensitive_features={"sex": [0, 0, 1, 1]}, draws=100)
    assert audit.checks[0].max_violation == tiny
    assert not audit.holds


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_output_of_the_layer_holds(dtype: torch.dtype) -> None:
    facts = data()
    notion = NOTIONS[0] & NOTIONS[6]
    layer = fo.FairnessLayer(notion, bounds=(0, 1))
    scores = torch.tensor(facts["scores"], dtype=dtype, requires_grad=True)[:, None]
    fair = layer(scores, sensitive_features=facts["sensitive_features"], targets=facts["targets"])
    audit = made(notion, scores=fair)
    assert audit.holds
    assert audit.settings["dtype"] == str(dtype).removeprefix("torch.")
    assert not made(notion, scores=scores).holds


def test_the_output_of_a_frozen_layer_is_audited() -> None:
    facts = data(400)
    notion = NOTIONS[0]
    layer = fo.FairnessLayer(notion, bounds=(0, 1))
    scores = torch.tensor(facts["scores"])
    frozen = layer.freeze(scores, sensitive_features=facts["sensitive_features"])
    fair = frozen.predict(scores, sensitive_features=facts["sensitive_features"])
    before, after = (made(notion, **{**facts, "scores": s}).gaps["gap"][0] for s in (scores, fair))
    assert after <= 0.05 + 1e-9 < before


# hash, settings, output -----------------------------------------------------------------------------------------------------


def test_the_hash_does_not_know_the_container() -> None:
    facts: dict[str, Any] = {
        "scores": [0.1, 0.5, 0.9, -0.0],
        "sensitive_features": {"sex": ["f", "m", "f", "m"], "age": [1.5, 2.0, 3.0, 4.0]},
    }
    first = fo.audit(facts["scores"], NOTIONS[0], sensitive_features=facts["sensitive_features"], draws=100).data_hash
    frame = pd.DataFrame(facts["sensitive_features"])
    frame["sex"] = frame["sex"].astype("category")
    again = [
        fo.audit(torch.tensor(facts["scores"], dtype=torch.float64), NOTIONS[0], sensitive_features=frame, draws=100),
        fo.audit(
            np.array([[0.1], [0.5], [0.9], [0.0]]),
            NOTIONS[0],
            sensitive_features=dict(reversed(facts["sensitive_features"].items())),
            draws=100,
        ),
        fo.audit(facts["scores"], NOTIONS[0], sensitive_features=frame, groups={"sex": ["f", "m", "x"]}, draws=200, seed=3),
    ]
    assert {a.data_hash for a in again} == {first}


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f["scores"].__setitem__(3, np.nextafter(f["scores"][3], 1)),
        lambda f: f["targets"].__setitem__(3, 1 - f["targets"][3]),
        lambda f: f["sensitive_features"]["sex"].__setitem__(3, "m" if f["sensitive_features"]["sex"][3] == "f" else "f"),
        lambda f: f["sensitive_features"]["age"].__setitem__(3, 41.5),
        lambda f: f["sensitive_features"].update(gender=f["sensitive_features"].pop("race")),
        lambda f: f["sensitive_features"].update(sex=np.where(f["sensitive_features"]["sex"] == "f", "female", "m")),
        lambda f: f.update(targets=None),
        lambda f: f.update(threshold=0.6),
    ],
    ids=["score", "target", "group", "number", "name", "word of a group", "no targets", "decisions"],
)
def test_the_hash_sees_every_change(change: Any) -> None:
    facts = data()
    before = made(NOTIONS[0], **data()).data_hash
    assert before == made(NOTIONS[0], **data()).data_hash
    change(facts)
    assert made(NOTIONS[0], **facts).data_hash != before


def test_an_audit_says_how_it_was_made() -> None:
    audit = made(NOTIONS[0], seed=7, confidence=0.9)
    assert audit.versions["fairopt"] == fo.__version__
    assert audit.versions["torch"] == torch.__version__
    assert set(audit.versions) == {"python", "fairopt", "torch", "numpy", "scipy"}
    assert {k: audit.settings[k] for k in ("seed", "confidence", "draws")} == {"seed": 7, "confidence": 0.9, "draws": 100}
    assert "audit of 80 samples" in str(audit)


def test_a_smaller_confidence_is_a_smaller_interval() -> None:
    wide, narrow = (made(NOTIONS, draws=400, confidence=c).gaps for c in (0.99, 0.8))
    for a, b in zip(wide, narrow, strict=True):
        if a["low"] is not None and b["low"] is not None:
            assert a["low"] <= b["low"] <= b["high"] <= a["high"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scores": [0.1, float("nan")] * 40}, "scores holds NaN"),
        ({"scores": []}, "scores must have shape"),
        ({"sensitive_features": "fm" * 40}, "sensitive_features must map .* came str"),
        ({"sensitive_features": {}}, "sensitive_features: got no attribute"),
        ({"sensitive_features": {"race": ["a"] * 80}}, "no attribute 'sex'"),
        ({"sensitive_features": {"sex": ["f"] * 80, "race": ["a"] * 79}}, "79 values for 80"),
        ({"decisions": [0, 2] * 40}, "decisions: got 2.0, expected 0 or 1"),
        ({"decisions": [0, 1]}, "decisions must have shape"),
        ({"threshold": float("nan")}, "threshold: got nan"),
        ({"threshold": True}, "threshold: got True"),
        ({"threshold": "0.5"}, "threshold: got '0.5'"),
        ({"missing_group": "drop"}, "missing_group: got 'drop'"),
        ({"groups": {"sexes": ["f", "m"]}}, "groups: got 'sexes', expected names of sensitive_features: 'sex'"),
        ({"groups": {"sex": ["f"]}}, "unknown value 'm'"),
        ({"attributes": ["gender"]}, "no attribute 'gender'"),
        ({"attributes": ["age"]}, "a continuous attribute has no groups"),
        ({"confidence": 95}, "confidence: got 95"),
        ({"draws": 1}, "draws: got 1"),
        ({"seed": -1}, "seed: got -1"),
        ({"targets": [0.0, float("nan")] * 40}, "targets holds NaN"),
        ({"local_law": "sex"}, "local_law: got 'sex'"),
        ({"local_law": ("sex", "sex")}, "expected two names"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_bad_input(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        made(NOTIONS[0], **options)


@pytest.mark.parametrize("notion", ["sex", [], [NOTIONS[0], "sex"], None, 3])
def test_what_is_no_notion(notion: Any) -> None:
    with pytest.raises(InputError, match="notion: got"):
        made(notion)


def test_a_notion_about_targets_needs_them() -> None:
    with pytest.raises(InputError, match=r"targets: got None, .* EqualizedOdds"):
        made(NOTIONS[6], targets=None)


def test_asked_attributes_replace_the_default() -> None:
    assert list(dict.fromkeys(made(NOTIONS[1]).ratios["attribute"])) == ["sex", "race", "sex & race"]
    assert list(dict.fromkeys(made(NOTIONS[1], attributes=[("race", "sex"), "sex"]).ratios["attribute"])) == ["race & sex", "sex"]
    assert any(note.startswith("age: a continuous attribute") for note in made(NOTIONS[1]).notes)


def test_the_core_audits_with_torch_and_numpy_alone() -> None:
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"scipy", "pandas", "matplotlib", "jinja2", "sklearn", "rich", "typer"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import json, torch, fairopt as fo
a = fo.audit(torch.linspace(0, 1, 40), fo.DemographicParity("sex", tolerance=0.01), sensitive_features={"sex": [0] * 20 + [1] * 20})
told = []
for act in (lambda: a.to_html("x.html"), a.to_pandas):
    try:
        act()
    except fo.MissingExtraError as error:
        told.append(str(error))
score, decision = a.gaps
print(json.dumps([score["low"], decision["low"], decision["interval"], list(a.notes), len(a.to_json()), told]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    low, rate, why, notes, size, told = json.loads(done.stdout.splitlines()[-1])
    assert low > 0.3
    assert rate is None
    assert why == "needs scipy"
    assert any("intervals of rates are left out" in note for note in notes)
    assert size > 1000
    assert len(told) == 2
    assert all("pip install" in line for line in told)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_no_figure_is_ever_nan(seed: int) -> None:
    """Tiny, tied, one-group, all-positive and all-negative data."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 12))
    scores = rng.choice([0.0, 0.25, 0.5, 1.0], n) if rng.random() < 0.7 else rng.normal(0, 10.0 ** rng.integers(-8, 8), n)
    features = {"sex": rng.integers(0, rng.integers(1, 4), n), "race": rng.choice(["a", "b"], n)}
    targets = rng.integers(0, 2, n).astype(float)
    notions = [NOTIONS[k] for k in (1, 5, 6, 7, 8, 9, 10)] + [fo.ScoreCovariance("sex", tolerance=0.1)]
    audit = fo.audit(scores, notions, sensitive_features=features, targets=targets, local_law=("sex", "race"), draws=100)
    assert not any(isinstance(v, float) and not math.isfinite(v) for v in values(audit))
    assert json.loads(audit.to_json())["n"] == n
    for row in audit.gaps:
        assert (row["low"] is None) == (row["high"] is None)
        assert row["interval"]
    for row in audit.groups:
        assert (row["value"] is None) == (row["n"] == 0)


@pytest.mark.parametrize(("threshold", "noted"), [(0.5, True), (0.35, False)])
def test_a_note_where_decisions_are_far_apart_and_scores_are_not(threshold, noted):
    g = np.repeat(["a", "b"], 200)
    scores = np.where(g == "a", 0.52, np.tile([0.4, 0.6], 200))  # means .52 and .5; at 1/2 all of a and half of b
    found = fo.audit(scores, fo.DemographicParity("g", tolerance=0.05), sensitive_features={"g": g}, threshold=threshold)
    assert found.holds
    notes = [n for n in found.notes if "FairDecisions" in n]
    assert bool(notes) is noted
    if noted:
        assert "decisions is 0.500, that of scores 0.020" in notes[0]
