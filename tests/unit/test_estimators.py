"""FairClassifier and FairRegressor: where the groups come from, what each way to a score promises, and what is refused."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

import fairopt as fo
from fairopt.layer.frozen import FrozenLayer
from fairopt.training import FairClassifier, FairRegressor
from fairopt.training.decisions.rule import probabilities
from fairopt.training.estimators.maps import FrozenMaps

QUICK: dict[str, Any] = {"epochs": 8, "hidden": (8,), "members": 1, "random_state": 0}


def people(n=400, seed=0):
    """Features that lean on the group, a yes or no, and two attributes."""
    rng = np.random.default_rng(seed)
    sex, race = rng.choice(["f", "m"], n, p=[0.4, 0.6]), rng.choice(["a", "b", "c"], n)
    table = pd.DataFrame(rng.normal(size=(n, 3)), columns=["u", "v", "w"])
    table["u"] += (sex == "m") * 1.0 + (race == "c") * 0.5
    yes = np.where(table["u"] + table["v"] + rng.normal(0, 0.5, n) > 0.6, "yes", "no")
    amount = 100.0 + 20.0 * (table["u"] + table["v"]).to_numpy() + rng.normal(0, 5, n)
    return table.assign(sex=sex, race=race), yes, amount


TABLE, YES, AMOUNT = people()
ONE = TABLE.drop(columns="race")


@pytest.fixture(scope="module")
def fitted():
    return FairClassifier(fo.DemographicParity, tolerance=0.03, sensitive_columns="sex", **QUICK).fit(ONE, YES)


# where the groups come from ---------------------------------------------------------------------------------------------------


def test_neither_and_both_are_errors():
    x = TABLE[["u", "v", "w"]]
    model = FairClassifier(fo.DemographicParity, tolerance=0.03, **QUICK)
    with pytest.raises(fo.InputError, match="no groups"):
        model.fit(x, YES)
    model.set_params(sensitive_columns="sex")
    with pytest.raises(fo.InputError, match="both"):
        model.fit(ONE, YES, sensitive_features=TABLE["sex"])
    model.fit(ONE, YES)
    with pytest.raises(fo.InputError, match="out of X"):
        model.predict(ONE, sensitive_features=TABLE["sex"])
    beside = FairClassifier(fo.DemographicParity, tolerance=0.03, **QUICK).fit(x, YES, sensitive_features=TABLE["sex"])
    with pytest.raises(fo.InputError, match="no sensitive_features"):
        beside.predict_proba(x)


def test_no_notion_is_an_error():
    with pytest.raises(fo.InputError, match="DemographicParity"):
        FairClassifier(sensitive_columns="sex").fit(ONE, YES)
    with pytest.raises(fo.InputError, match="tolerance"):
        FairClassifier(fo.DemographicParity, sensitive_columns="sex").fit(ONE, YES)
    with pytest.raises(fo.InputError, match="has its own"):
        FairClassifier(fo.DemographicParity("sex", tolerance=0.1), tolerance=0.2, sensitive_columns="sex").fit(ONE, YES)


WAYS = {
    "series": lambda: TABLE["sex"],
    "dict": lambda: {"sex": TABLE["sex"].to_list()},
    "frame": lambda: TABLE[["sex"]],
    "array": lambda: TABLE["sex"].to_numpy(),
    "column": lambda: TABLE[["sex"]].to_numpy(),
    "list": lambda: TABLE["sex"].to_list(),
}


@pytest.mark.parametrize("way", sorted(WAYS))
def test_every_way_to_name_the_groups_gives_the_same_model(way, fitted):
    model = FairClassifier(fo.DemographicParity("sex", tolerance=0.03), **QUICK)
    model.fit(TABLE[["u", "v", "w"]], YES, sensitive_features=WAYS[way]())
    got = model.predict_proba(TABLE[["u", "v", "w"]], sensitive_features=WAYS[way]())
    assert np.array_equal(got, fitted.predict_proba(ONE))


@pytest.mark.parametrize("columns", [3, [3], {"sex": 3}, "array of objects"])
def test_positions_work_as_names_do(columns, fitted):
    x = ONE.to_numpy() if columns == "array of objects" else ONE
    model = FairClassifier(fo.DemographicParity, tolerance=0.03, sensitive_columns=3 if isinstance(columns, str) else columns, **QUICK)
    assert np.array_equal(model.fit(x, YES).predict_proba(x), fitted.predict_proba(ONE))


def test_lists_of_rows_work_as_frames_do(fitted):
    rows = ONE.to_numpy().tolist()
    model = FairClassifier(fo.DemographicParity, tolerance=0.03, sensitive_columns=3, **QUICK).fit(rows, YES.tolist())
    assert np.array_equal(model.predict_proba(rows), fitted.predict_proba(ONE))


def test_columns_that_are_not_there():
    for columns, said in [
        ("age", "expected one of the columns"),
        (4, "from 0 to 3"),
        (True, "names or positions"),
        ([], "at least one"),
        (["sex", 3], "twice"),
    ]:
        with pytest.raises(fo.InputError, match=said):
            FairClassifier(fo.DemographicParity, tolerance=0.1, sensitive_columns=columns).fit(ONE, YES)
    with pytest.raises(fo.InputError, match="no column names"):
        FairClassifier(fo.DemographicParity, tolerance=0.1, sensitive_columns="sex").fit(ONE.to_numpy(), YES)


def test_every_attribute_that_is_given_is_enforced():
    notion = fo.DemographicParity("sex", tolerance=0.1)
    with pytest.raises(fo.InputError, match="'race', which the notion does not read"):
        FairClassifier(notion, sensitive_columns=["sex", "race"]).fit(TABLE, YES)
    with pytest.raises(fo.InputError, match="reads 'sex'"):
        FairClassifier(notion, sensitive_columns="race").fit(TABLE.drop(columns="sex"), YES)


def test_the_network_sees_the_groups_only_if_it_is_told_to():
    """Without noise the label is the group: only a network that sees it can tell."""
    rng = np.random.default_rng(0)
    sex = rng.choice(["f", "m"], 300)
    x, y = rng.normal(size=(300, 1)), (sex == "m").astype(int)
    scores = {}
    for keep in (False, True):
        model = FairClassifier(fo.DemographicParity, tolerance=0.9, keep_sensitive=keep, epochs=40, learning_rate=0.03, random_state=0)
        scores[keep] = model.fit(x, y, sensitive_features=sex).score(x, y, sensitive_features=sex)
        networks: Any = model.network_.networks
        assert networks[0].mean.shape == ((3,) if keep else (1,))
    assert scores[True] > 0.99
    assert scores[False] < 0.9


def test_numbers_are_cut_into_groups():
    rng = np.random.default_rng(0)
    x = np.stack([rng.uniform(18, 80, 300), rng.normal(size=300)], 1)
    x[0, 0], x[1, 0] = 40.0, 65.0
    model = FairRegressor(fo.DemographicParity, tolerance=0.1, sensitive_columns={"age": 0}, cuts={"age": (40, 65)}, **QUICK)
    model.fit(x, x[:, 0] + x[:, 1])
    assert model.layer_.groups == {"age": ["< 40", ">= 65", "[40, 65)"]}
    counts = {(r["group_a"], r["group_b"]): (r["n_a"], r["n_b"]) for r in model.gaps(x)}
    assert counts["< 40", ">= 65"] == (int((x[:, 0] < 40).sum()), int((x[:, 0] >= 65).sum()))
    with pytest.raises(ValueError, match="NaN"):
        model.predict([[np.nan, 0.0]])
    wrong: list[tuple[Any, str]] = [
        ({"age": (65, 40)}, "ascending"),
        ({"age": ()}, "ascending"),
        ({"x": (1,)}, "one of the attributes"),
        ([40], "mapping"),
    ]
    for cuts, said in wrong:
        with pytest.raises(fo.InputError, match=said):
            FairRegressor(fo.DemographicParity, tolerance=0.1, sensitive_columns={"age": 0}, cuts=cuts).fit(x, x[:, 1])


# what serving promises ----------------------------------------------------------------------------------------------------------


def calibration(model, table):
    return table.iloc[model.shares_.calibration]


NOTIONS = {
    "parity": lambda: fo.DemographicParity("sex", tolerance=0.02),
    "two": lambda: fo.DemographicParity("sex", tolerance=0.02) & fo.DemographicParity("race", tolerance=0.03),
    "intersection": lambda: fo.DemographicParity(("sex", "race"), tolerance=0.05),
    "ratio": lambda: fo.ImpactRatio("sex", ratio=0.9),
    "opportunity": lambda: fo.EqualOpportunity("race", tolerance=0.02),
    "odds": lambda: fo.EqualizedOdds("sex", tolerance=0.02),
    "odds of two": lambda: fo.EqualizedOdds("sex", tolerance=0.03) & fo.DemographicParity("race", tolerance=0.05),
    "overall": lambda: fo.EqualizedOdds("race", tolerance=0.02, to="overall"),
    "residual": lambda: fo.MeanResidual("sex", tolerance=0.01),
}
WITH_LABELS = {"opportunity", "odds", "odds of two", "overall"}


ON_LOGITS = sorted(NOTIONS.keys() - {"residual", "ratio"})  # these two are on the scale of probabilities
CASES = [("probability", name) for name in sorted(NOTIONS)] + [("logit", name) for name in ON_LOGITS]


@pytest.mark.parametrize(("space", "name"), CASES)
def test_on_the_calibration_rows_the_frozen_scores_meet_the_notion(name, space):
    notion = NOTIONS[name]()
    table = TABLE[["u", "v", "w", *notion.attributes]]
    model = FairClassifier(notion, sensitive_columns=list(notion.attributes), space=space, **QUICK).fit(table, YES)
    rows, labels = calibration(model, table), YES[model.shares_.calibration]
    assert isinstance(model.frozen_, FrozenMaps if name in WITH_LABELS else FrozenLayer)
    found = [(r["gap"], r["limit"]) for r in model._gaps(rows, torch.from_numpy((labels == "yes") * 1.0), None)]
    assert found
    assert max(gap - limit for gap, limit in found) <= 1e-9
    for bound in model.guarantees_:
        assert bound.gap <= bound.limit + 1e-9
        assert (bound.bound is None) == (space == "logit")
    assert np.array_equal(model.predict(rows), model.classes_[model.predict_proba(rows).argmax(1)])


def test_a_row_by_itself_scores_as_it_does_among_others(fitted):
    together = fitted.predict_proba(ONE[:20])
    alone = np.concatenate([fitted.predict_proba(ONE[k : k + 1]) for k in range(20)])
    assert np.allclose(together, alone, rtol=0, atol=1e-6)  # float32 sums of the network in another order
    assert fitted.predict(ONE[:1]).tolist() == ["yes" if together[0, 1] >= 0.5 else "no"]


def test_the_population_gap_is_within_the_guarantee():
    """On 20,000 new rows; and the shift does something, for the raw scores have a wider gap."""
    table, yes, _ = people(3000, seed=1)
    new, labels, _ = people(20_000, seed=2)
    for notion in (fo.DemographicParity("sex", tolerance=0.02), fo.EqualizedOdds("sex", tolerance=0.02)):
        model = FairClassifier(notion, sensitive_columns="sex", epochs=60, random_state=0).fit(table.drop(columns="race"), yes)
        rows = new.drop(columns="race")
        allowed = {b.constraint.split(":")[0]: b.bound for b in model.guarantees_}
        assert all(bound is not None and bound < 0.5 for bound in allowed.values())
        for r in model.gaps(rows, labels):
            assert r["gap"] <= next(bound for name, bound in allowed.items() if bound is not None and r["given"] in name)
        if not notion.needs_targets:
            with torch.no_grad():
                raw = torch.sigmoid(model.network_(torch.from_numpy(rows[["u", "v", "w"]].to_numpy())))
            before = max(fo.gaps(raw, notion, sensitive_features={"sex": rows["sex"]})["gap"])
            assert max(model.gaps(rows)["gap"]) < 0.3 * before


@pytest.mark.filterwarnings("ignore:vacuous")  # a small batch may lack a group; a layer says so once
@settings(max_examples=25)
@given(st.integers(2, 200), st.integers(0, 2**32 - 1), st.sampled_from(["parity", "two", "intersection", "ratio"]))
def test_a_transduced_batch_meets_the_notion_exactly(n, seed, name):
    rows, _, _ = people(n, seed)
    model = transducer(name)
    notion = model.notion_
    rows = rows[["u", "v", "w", *notion.attributes]]
    solution = model.transduce(rows, return_solution=True)
    assert solution.status in (fo.Status.CERTIFIED, fo.Status.WITHIN_ROUNDING)
    fair = model.transduce(rows)[:, 1]
    found = fo.gaps(torch.from_numpy(fair), notion, sensitive_features={a: rows[a] for a in notion.attributes})
    broken = [r["gap"] - r["limit"] for r in found if r["status"] == "broken"]
    assert not broken if solution.status is fo.Status.CERTIFIED else max(broken, default=0.0) <= 1e-12


@functools.cache
def transducer(name):
    notion = NOTIONS[name]()
    return FairClassifier(notion, sensitive_columns=list(notion.attributes), **QUICK).fit(TABLE[["u", "v", "w", *notion.attributes]], YES)


def test_a_batch_without_labels_is_not_projected_onto_a_notion_about_labels():
    model = FairClassifier(fo.EqualizedOdds, tolerance=0.1, sensitive_columns="sex", **QUICK).fit(ONE, YES)
    with pytest.raises(fo.UnsupportedError, match="labels"):
        model.transduce(ONE)


def test_no_prediction_hears_of_targets(fitted):
    """The label column of held-out rows can be anything: nothing that scores takes it."""
    import inspect

    for model in (FairClassifier, FairRegressor):
        for method in ("predict", "transduce"):
            assert not {"y", "targets"} & set(inspect.signature(getattr(model, method)).parameters)
    assert not {"y", "targets"} & set(inspect.signature(fitted.predict_proba).parameters)


def test_decisions_keep_the_groups_rates(fitted):
    decided = fitted.decide(ONE, random_state=3)
    p = fitted.predict_proba(ONE)[:, 1]
    for value in ("f", "m"):
        inside = (ONE["sex"] == value).to_numpy()
        assert abs((decided[inside] == "yes").sum() - p[inside].sum()) < 1
    assert np.array_equal(decided, fitted.decide(ONE, random_state=3))
    assert not np.array_equal(decided, fitted.decide(ONE, random_state=4))


@pytest.mark.parametrize("name", ["parity", "two", "intersection", "ratio", "odds"])
def test_thresholds_of_the_groups_shut_the_gap_of_decisions(name):
    notion = NOTIONS[name]()
    table = TABLE[["u", "v", "w", *notion.attributes]]
    settings: dict[str, Any] = {**QUICK, "sensitive_columns": list(notion.attributes), "calibration_fraction": 0.5}
    worst = {}
    for thresholds in ("half", "groups"):
        model = FairClassifier(notion, thresholds=thresholds, **settings).fit(table, YES)
        rows = calibration(model, table)
        groups = {a: rows[a] for a in notion.attributes}
        expected = probabilities(model.rules_, model.frozen_.index(groups).numpy(), model.predict_proba(rows)[:, 1])
        decided = model.predict(rows) == "yes"
        assert (decided[expected == 1.0]).all()
        assert not (decided[expected == 0.0]).any()
        targets = (np.asarray(YES)[model.shares_.calibration] == "yes") * 1.0
        found = fo.gaps(expected, notion, sensitive_features=groups, targets=targets if notion.needs_targets else None, threshold=None)
        worst[thresholds] = max(r["gap"] - r["limit"] for r in found)
    assert worst["groups"] < 1e-9
    assert worst["half"] > 0.01


def test_a_row_alone_has_the_bits_and_the_decision_that_it_has_in_a_batch():
    model = FairClassifier(fo.EqualizedOdds("sex", tolerance=0.0), sensitive_columns="sex", thresholds="groups", **QUICK)
    model.fit(ONE, YES)
    assert any(len(rule.thresholds) > 1 for rule in model.rules_)  # some coin is tossed
    p, decided = model.predict_proba(ONE), model.predict(ONE)
    for rows in (slice(0, 1), slice(17, 18), slice(3, 140), slice(len(ONE) - 1, None)):
        assert np.array_equal(model.predict_proba(ONE[rows]), p[rows])
        assert np.array_equal(model.predict(ONE[rows]), decided[rows])
    again = np.concatenate([model.predict(ONE[k : k + 1]) for k in range(60)])
    assert np.array_equal(again, decided[:60])


def test_a_gap_of_decisions_is_told_at_fit_and_by_gaps():
    settings: dict[str, Any] = {"sensitive_columns": "sex", "calibration_fraction": 0.5, **QUICK}
    notion = fo.DemographicParity("sex", tolerance=0.0)
    with pytest.warns(fo.FairoptWarning, match=r"predict, on the calibration.*FairDecisions.*thresholds='groups'"):
        model = FairClassifier(notion, **settings).fit(ONE, YES)
    with pytest.warns(fo.FairoptWarning, match=r"decisions at 0.5: DemographicParity\(sex\): the gap of decisions is .*FairDecisions"):
        model.gaps(ONE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FairClassifier(notion, thresholds="groups", **settings).fit(ONE, YES).gaps(ONE)


# what is refused ------------------------------------------------------------------------------------------------------------------


def test_unknown_and_missing_groups_have_no_score(fitted):
    other = ONE[:4].assign(sex=["f", "m", "x", "f"])
    with pytest.raises(fo.InputError, match="unknown value 'x'"):
        fitted.predict(other)
    with pytest.raises(fo.InputError, match="missing value at position 2"):
        fitted.predict(ONE[:4].assign(sex=["f", "m", None, "f"]))
    with pytest.raises(fo.InputError, match="missing"):
        FairClassifier(fo.DemographicParity, tolerance=0.1, sensitive_columns="sex").fit(ONE.assign(sex=None), YES)


def test_a_combination_that_fit_never_saw_has_no_score():
    keep = ~((TABLE["sex"] == "f") & (TABLE["race"] == "c")).to_numpy()
    model = FairClassifier(fo.DemographicParity, tolerance=0.05, sensitive_columns=["sex", "race"], **QUICK).fit(TABLE[keep], YES[keep])
    with pytest.raises(fo.InputError, match="'f', 'race': 'c'.*no row of fit"):
        model.predict(TABLE)
    assert len(model.predict(TABLE[keep])) == keep.sum()


def test_a_group_of_one_row_is_served():
    table = ONE.assign(sex=["x", *ONE["sex"][1:]])
    model = FairClassifier(fo.DemographicParity, tolerance=0.05, sensitive_columns="sex", **QUICK).fit(table, YES)
    assert 0 in model.shares_.calibration
    assert model.predict_proba(table[:1]).shape == (1, 2)


def test_labels():
    with pytest.raises(fo.InputError, match="one class"):
        FairClassifier(fo.DemographicParity, tolerance=0.1, sensitive_columns="sex").fit(ONE, np.ones(len(ONE)))
    numbers = FairClassifier(fo.DemographicParity, tolerance=0.03, sensitive_columns="sex", **QUICK).fit(ONE, np.where(YES == "yes", 7, -2))
    assert numbers.classes_.tolist() == [-2, 7]
    assert set(numbers.predict(ONE)) <= {-2, 7}
    with pytest.raises(fo.InputError, match="label 3"):
        numbers.gaps(ONE, np.full(len(ONE), 3))


def test_lengths_that_differ():
    x = TABLE[["u", "v", "w"]]
    with pytest.raises(fo.InputError, match="got 399 values, expected 400"):
        FairClassifier(fo.DemographicParity, tolerance=0.1).fit(x, YES, sensitive_features=TABLE["sex"][1:])
    with pytest.raises(ValueError, match="inconsistent"):
        FairClassifier(fo.DemographicParity, tolerance=0.1, sensitive_columns="sex").fit(ONE, YES[1:])


BAD = [
    ({"hidden": 64}, "hidden"),
    ({"hidden": (0,)}, "hidden"),
    ({"epochs": 0}, "epochs"),
    ({"batch_size": 1.5}, "batch_size"),
    ({"learning_rate": -1.0}, "learning_rate"),
    ({"dropout": 1.0}, "dropout"),
    ({"calibration_fraction": 0.0}, "calibration_fraction"),
    ({"confidence": 1.0}, "confidence"),
    ({"space": "value"}, "space"),
    ({"thresholds": "best"}, "thresholds"),
    ({"bounds": (0.0, np.ones(400))}, "bounds"),
    ({"bounds": (0.9, 0.1)}, "lower bound"),
    ({"backend": "nobody"}, "nobody"),
    ({"notion": fo.ScoreCovariance, "tolerance": 0.1}, "weight of their own"),
    ({"notion": lambda attribute, tolerance: None}, "expected a notion"),
]


@pytest.mark.parametrize(("parameters", "said"), BAD, ids=[said for _, said in BAD])
def test_bad_parameters(parameters, said):
    model = FairClassifier(fo.DemographicParity, tolerance=0.1, sensitive_columns="sex").set_params(**parameters)
    with pytest.raises(fo.FairoptError, match=said):
        model.fit(ONE.assign(sex=(ONE["sex"] == "f") * 1), YES)


def test_what_a_notion_cannot_say_is_said():
    with pytest.warns(fo.FairoptWarning, match="is vacuous: nothing is asked"):
        FairClassifier(fo.DemographicParity, tolerance=0.1, sensitive_columns="sex", **QUICK).fit(ONE.assign(sex="f"), YES)
    with pytest.warns(fo.FairoptWarning, match="changes nothing"):
        FairClassifier(fo.DemographicParity, tolerance=1.0, sensitive_columns="sex", **QUICK).fit(ONE, YES)
    with pytest.raises(fo.InputError, match="labels 0 and 1; the values found are"):
        FairRegressor(fo.EqualOpportunity, tolerance=0.1, sensitive_columns="sex", **QUICK).fit(ONE, AMOUNT)


# the rest -------------------------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_model():
    model = FairClassifier(fo.DemographicParity, tolerance=0.03, sensitive_columns="sex", dropout=0.3, **QUICK)
    first = model.fit(ONE, YES).predict_proba(ONE)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert np.array_equal(clone(model).fit(ONE, YES).predict_proba(ONE), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not np.array_equal(clone(model).set_params(random_state=1).fit(ONE, YES).predict_proba(ONE), first)


def test_rows_are_shared_out_without_overlap(fitted):
    parts = fitted.shares_
    rows = np.concatenate([parts.train, parts.validation, parts.calibration])
    assert sorted(rows) == list(range(len(ONE)))
    for value in ("f", "m"):
        inside = (ONE["sex"] == value).to_numpy()
        assert abs(inside[parts.calibration].sum() - 0.2 * inside.sum()) < 1


def test_rows_without_weight_teach_nothing():
    flipped = np.where(YES == "yes", "no", "yes")
    half = np.arange(len(YES)) % 2
    labels, weights = np.where(half == 1, YES, flipped), half.astype(float)
    model = FairClassifier(fo.DemographicParity, tolerance=0.3, sensitive_columns="sex", epochs=60, random_state=0)
    right = model.fit(ONE, labels, sample_weight=weights).score(ONE, YES)
    wrong = model.fit(ONE, labels, sample_weight=1 - weights).score(ONE, YES)
    assert right > 0.75
    assert wrong < 0.25
    with pytest.raises(ValueError, match="[Nn]egative"):
        model.fit(ONE, YES, sample_weight=-weights)


def test_the_regressor_works_in_the_targets_units():
    model = FairRegressor(fo.DemographicParity, tolerance=2.0, sensitive_columns="sex", epochs=100, learning_rate=0.01, random_state=0)
    plain = FairRegressor(fo.DemographicParity, tolerance=1e6, sensitive_columns="sex", epochs=100, learning_rate=0.01, random_state=0)
    model.fit(ONE, AMOUNT)
    plain.fit(ONE, AMOUNT)
    assert plain.score(ONE, AMOUNT) > 0.8
    assert model.gaps(ONE)["gap"][0] < 0.6 * plain.gaps(ONE)["gap"][0]
    assert fo.gaps(torch.from_numpy(model.transduce(ONE)), model.notion_, sensitive_features={"sex": ONE["sex"]})["status"] == ("met",)
    bounded = FairRegressor(fo.MeanResidual, tolerance=1.0, sensitive_columns="sex", bounds=(0, 200), **QUICK).fit(ONE, AMOUNT)
    rows, targets = calibration(bounded, ONE), AMOUNT[bounded.shares_.calibration]
    assert max(bounded.gaps(rows, targets)["gap"]) <= 1.0 + 1e-9
    assert all(b.bound is not None for b in bounded.guarantees_)


def test_a_target_in_other_units_gives_the_same_model():
    predicted = []
    for scale, shift in [(1.0, 0.0), (1e4, 5e6)]:
        model = FairRegressor(fo.DemographicParity, tolerance=2.0 * scale, distance=0.1, sensitive_columns="sex", epochs=20, random_state=0)
        predicted.append((model.fit(ONE, AMOUNT * scale + shift).predict(ONE) - shift) / scale)
    assert np.ptp(predicted[0]) > 10
    assert np.allclose(predicted[0], predicted[1], rtol=0, atol=0.05)


def test_mean_residuals_are_served_without_targets():
    model = FairRegressor(fo.MeanResidual, tolerance=0.5, sensitive_columns="sex", **QUICK).fit(ONE, AMOUNT)
    assert isinstance(model.frozen_, FrozenLayer)
    assert model.predict(ONE[:5]).shape == (5,)


def test_the_features_scale_does_not_matter():
    scaled = ONE.assign(u=ONE["u"] * 1e6 + 3e7, v=ONE["v"] * 1e-5, k=4.0)
    a = FairClassifier(fo.DemographicParity, tolerance=0.03, sensitive_columns="sex", **QUICK).fit(ONE.assign(k=0.0), YES)
    b = FairClassifier(fo.DemographicParity, tolerance=0.03, sensitive_columns="sex", **QUICK).fit(scaled, YES)
    assert np.allclose(a.predict_proba(ONE.assign(k=0.0)), b.predict_proba(scaled), atol=1e-3)


def test_early_stopping_keeps_the_best_epoch():
    model = FairClassifier(fo.DemographicParity, tolerance=0.1, sensitive_columns="sex", patience=2, learning_rate=0.3, random_state=0)
    history = model.fit(ONE, YES).history_
    assert history.stopped
    assert history.best is not None
    assert len(history) == history.best.epoch + 3
    without = model.set_params(early_stopping=False, epochs=5).fit(ONE, YES)
    assert len(without.history_) == 5
    assert not len(without.shares_.validation)


def test_bounds_of_probabilities(fitted):
    assert fitted.layer_.bounds == (1e-4, 1 - 1e-4)  # the log loss stays finite
    narrow = FairClassifier(fo.DemographicParity, tolerance=0.1, sensitive_columns="sex", bounds=(0.4, 0.6), **QUICK).fit(ONE, YES)
    p = narrow.predict_proba(ONE)
    assert (p.min(), p.max()) == (pytest.approx(0.4), pytest.approx(0.6))


def test_the_distance_term_reaches_the_loss():
    kwargs: dict[str, Any] = {"tolerance": 0.0, "sensitive_columns": "sex", "epochs": 30, "learning_rate": 0.02, "random_state": 0}
    moved = []
    for mu in (0.0, 30.0):
        model = FairClassifier(fo.DemographicParity, distance=mu, **kwargs).fit(ONE, YES)
        with torch.no_grad():
            raw = torch.sigmoid(model.network_(torch.from_numpy(ONE[["u", "v", "w"]].to_numpy()))).numpy()
        moved.append(float(((raw - model.predict_proba(ONE)[:, 1]) ** 2).mean()))
    assert moved[1] < 0.7 * moved[0]


def test_the_distance_weighs_as_much_in_any_unit():
    """mu is against the variance of the target, so that 30 is heavy for a target of deviation 30 as well."""
    moved = []
    for mu in (0.0, 30.0):
        model = FairRegressor(
            fo.DemographicParity, tolerance=0.0, distance=mu, sensitive_columns="sex", epochs=30, learning_rate=0.02, random_state=0
        ).fit(ONE, AMOUNT)
        with torch.no_grad():
            raw = model.network_(torch.from_numpy(ONE[["u", "v", "w"]].to_numpy())).numpy()
        moved.append(float(((raw - model.predict(ONE)) ** 2).mean()))
    assert moved[1] < 0.5 * moved[0]


def test_a_progress_bar_is_shown_on_request(capsys):
    FairClassifier(fo.DemographicParity, tolerance=0.1, sensitive_columns="sex", verbose=True, epochs=2).fit(ONE, YES)
    assert "epoch 2/2" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda():
    model = FairClassifier(fo.DemographicParity, tolerance=0.03, sensitive_columns="sex", device="cuda", **QUICK).fit(ONE, YES)
    assert max(r["gap"] for r in model.gaps(calibration(model, ONE))) <= 0.03 + 1e-9


def test_words_in_a_column_are_named():
    table = ONE.assign(v=np.where(TABLE["race"] == "a", "low", "1.5"))
    with pytest.raises(fo.InputError, match="X: the column 'v' holds 'low' in row [0-9]+; expected numbers, encode words first"):
        FairClassifier(fo.DemographicParity("sex", tolerance=0.1), sensitive_columns="sex", **QUICK).fit(table, YES)
    with pytest.raises(fo.InputError, match="X: the column 'v' holds 'low'"):
        fo.FairDecisions(fo.DemographicParity("sex", tolerance=0.1), sensitive_columns="sex").fit(table[["u", "v", "sex"]], YES)
