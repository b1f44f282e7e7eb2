"""FairPostprocessor: which rows calibrate, what the shifts are, what is refused; and in scikit-learn's company."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import check_estimator

import fairopt as fo
from fairopt import FairPostprocessor

PARITY = fo.DemographicParity("sex", tolerance=0.02)


def people(n: int = 600, seed: int = 0) -> tuple[pd.DataFrame, Any]:
    rng = np.random.default_rng(seed)
    sex, race = rng.choice(["f", "m"], n, p=[0.4, 0.6]), rng.choice(["a", "b", "c"], n)
    table = pd.DataFrame({"u": rng.normal(size=n) + (sex == "m"), "v": rng.normal(size=n), "sex": sex, "race": race})
    return table, np.where(table["u"] + table["v"] + rng.normal(0, 0.5, n) > 0.6, "yes", "no")


TABLE, YES = people()
X, SEX = TABLE[["u", "v"]], TABLE["sex"]
WITH = TABLE[["u", "v", "sex"]]


def post(base: Any = None, notion: Any = PARITY, **options: Any) -> FairPostprocessor:
    return FairPostprocessor(LogisticRegression() if base is None else base, notion, **{"random_state": 0, **options})


def shifts(model: FairPostprocessor) -> list[float]:
    return list(model.frozen_.shifts.tolist())


# which rows calibrate, and the shifts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [LogisticRegression(), HistGradientBoostingClassifier(max_iter=5, random_state=0)])
def test_its_own_split_is_a_plain_freeze_on_rows_that_did_not_train(base: Any) -> None:
    model = post(base).fit(X, YES, sensitive_features=SEX)
    rows = model.calibration_
    assert len(rows) == pytest.approx(0.2 * len(X), abs=2)
    rest = np.setdiff1d(np.arange(len(X)), rows)
    by_hand = clone(base).fit(X.iloc[rest], YES[rest])
    layer = fo.FairnessLayer(PARITY, bounds=(0, 1))
    frozen = layer.freeze(by_hand.predict_proba(X.iloc[rows])[:, 1], sensitive_features=SEX.iloc[rows])
    assert shifts(model) == frozen.shifts.tolist()
    assert model.guarantees_ == frozen.guarantees
    expected = frozen.predict(by_hand.predict_proba(X)[:, 1], sensitive_features=SEX)
    assert np.array_equal(model.predict_proba(X, SEX)[:, 1], expected)
    assert max(model.gaps(X.iloc[rows], sensitive_features=SEX.iloc[rows])["gap"]) <= 0.02 + 1e-9
    assert max(shifts(model)) > 0.04  # it had something to do


def test_cross_fitting_scores_every_row_by_a_model_of_the_other_folds() -> None:
    folds = list(KFold(4, shuffle=True, random_state=1).split(X))
    model = post(cv=folds).fit(X, YES, sensitive_features=SEX)
    p = np.empty(len(X))
    for train, out in folds:
        p[out] = LogisticRegression().fit(X.iloc[train], YES[train]).predict_proba(X.iloc[out])[:, 1]
    frozen = fo.FairnessLayer(PARITY, bounds=(0, 1)).freeze(p, sensitive_features=SEX)
    assert shifts(model) == frozen.shifts.tolist()
    assert np.array_equal(model.estimator_.coef_, LogisticRegression().fit(X, YES).coef_)
    assert model.guarantees_ == ()  # the claim is about rows that the serving model has not seen
    assert len(model.calibration_) == len(X)
    with pytest.raises(fo.InputError, match="held out 0 times"):
        post(cv=folds[:2]).fit(X, YES, sensitive_features=SEX)
    with pytest.raises(fo.InputError, match="held out 2 times"):
        post(cv=[*folds, folds[0]]).fit(X, YES, sensitive_features=SEX)


def test_a_fitted_estimator_stays_as_it_is() -> None:
    base = LogisticRegression().fit(X[:300], YES[:300])
    model = post(base, prefit=True).fit(X[300:], sensitive_features=SEX[300:])
    assert model.estimator_ is base
    assert len(model.calibration_) == 300
    with_labels = post(base, prefit=True).fit(X[300:], YES[300:], sensitive_features=SEX[300:])
    frozen = post(FrozenEstimator(base)).fit(X[300:], YES[300:], sensitive_features=SEX[300:])
    assert shifts(model) == shifts(with_labels) == shifts(frozen)
    assert shifts(clone(frozen).fit(X[300:], YES[300:], sensitive_features=SEX[300:])) == shifts(frozen)
    with pytest.raises(fo.InputError, match="FrozenEstimator"):
        clone(model).fit(X, YES, sensitive_features=SEX)
    with pytest.raises(fo.InputError, match="prefit, cv"):
        post(base, prefit=True, cv=3).fit(X, YES, sensitive_features=SEX)
    with pytest.raises(fo.InputError, match="the label 'maybe'"):
        post(base, prefit=True).fit(X, np.full(len(X), "maybe"), sensitive_features=SEX)
    with pytest.raises(fo.InputError, match="requires y"):
        post(base, fo.MeanResidual("sex", tolerance=0.01), prefit=True).fit(X, sensitive_features=SEX)


def test_a_small_group_calibrates_with_one_row_at_least() -> None:
    rare = SEX.to_numpy().copy()
    rare[:2] = "x"
    model = post().fit(X, YES, sensitive_features=rare)
    assert {"f", "m", "x"} == {key[0] for key in model.frozen_.keys}
    with pytest.raises(fo.InputError, match="unknown|'z'"):
        model.predict(X, np.where(rare == "x", "z", rare))


def test_a_combination_that_was_not_calibrated_has_no_score() -> None:
    both = TABLE[["sex", "race"]]
    seen = ~((both["sex"] == "f") & (both["race"] == "c"))
    model = post(notion=fo.DemographicParity("sex", tolerance=0.1) & fo.DemographicParity("race", tolerance=0.1))
    model.fit(X[seen], YES[seen], sensitive_features=both[seen])
    with pytest.raises(fo.InputError, match="no row of fit had together"):
        model.predict(X, both)


# serving -----------------------------------------------------------------------------------------------------------------------


class Rowwise(DecisionTreeClassifier):  # type: ignore[misc]
    """Scores that do not depend on the other rows of a batch, to the last bit; a matrix product may."""


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.02, 0.3]), st.sampled_from(["probability", "logit"]))
def test_one_row_gets_what_it_gets_in_a_batch(seed: int, tolerance: float, space: Any) -> None:
    table, yes = people(120, seed)
    model = post(Rowwise(max_depth=4, random_state=0), fo.DemographicParity, tolerance=tolerance, sensitive_columns="sex", space=space)
    model.fit(table[["u", "v", "sex"]], yes)
    rows = table[["u", "v", "sex"]][:25]
    whole, said = model.predict_proba(rows), model.predict(rows)
    for k in range(len(rows)):
        assert np.array_equal(model.predict_proba(rows[k : k + 1]), whole[k : k + 1])
        assert model.predict(rows[k : k + 1]).tolist() == [said[k]]
    assert np.array_equal(said == "yes", whole[:, 1] > 0.5)


MAKE: dict[str, Callable[[Any], Any]] = {
    "pandas": lambda frame: frame,
    "polars": pl.from_pandas,
    "numpy": lambda frame: frame.to_numpy(),
    "lists": lambda frame: frame.to_numpy().tolist(),
}


@pytest.mark.parametrize("kind", MAKE)
def test_any_table(kind: str) -> None:
    make = MAKE[kind]
    expected = post(notion=fo.DemographicParity, tolerance=0.02).fit(X, YES, sensitive_features=SEX).predict_proba(X, SEX)
    beside = post(notion=fo.DemographicParity, tolerance=0.02).fit(make(X), YES, sensitive_features=make(WITH[["sex"]]))
    assert beside.predict_proba(make(X), make(WITH[["sex"]])) == pytest.approx(expected, abs=1e-9)
    inside = post(notion=fo.DemographicParity, tolerance=0.02, sensitive_columns=2).fit(make(WITH), YES)
    assert inside.predict_proba(make(WITH)) == pytest.approx(expected, abs=1e-9)
    assert inside.n_features_in_ == 3


def test_words_as_rows_and_sparse_tables() -> None:
    scipy_sparse = pytest.importorskip("scipy.sparse")
    texts = ["good she" if w == "yes" else "bad he" if s == "m" else "bad" for w, s in zip(YES, SEX, strict=True)]
    model = post(make_pipeline(CountVectorizer(), LogisticRegression())).fit(texts, YES, sensitive_features=SEX)
    assert model.predict_proba(texts[:3], SEX[:3]).shape == (3, 2)
    sparse = post().fit(scipy_sparse.csr_matrix(X.to_numpy()), YES, sensitive_features=SEX)
    assert shifts(sparse) == pytest.approx(shifts(post().fit(X.to_numpy(), YES, sensitive_features=SEX)), abs=1e-6)


@pytest.mark.parametrize("labels", [("no", "yes"), (-1, 1), (1, 2), (False, True), (0.0, 1.0)], ids=str)
@pytest.mark.parametrize("kind", [np.array, pd.Series, list, pl.Series])
def test_labels_of_any_kind(kind: Any, labels: tuple[Any, Any]) -> None:
    y = kind(np.array(labels)[(YES == "yes").astype(int)].tolist())
    model = post().fit(X, y, sensitive_features=SEX)
    assert model.classes_.tolist() == list(labels)
    named = post().fit(X, YES, sensitive_features=SEX)
    assert model.predict_proba(X, SEX) == pytest.approx(named.predict_proba(X, SEX), abs=1e-12)
    assert model.predict(X, SEX).tolist() == [labels[w == "yes"] for w in named.predict(X, SEX)]
    assert model.score(X, y, sensitive_features=SEX) == named.score(X, YES, sensitive_features=SEX) > 0.7


def test_the_class_that_the_notion_is_about() -> None:
    floor = fo.GroupMeanBound("sex", lower=0.6, upper=1.0)
    for label, column in (("no", 0), ("yes", 1), (None, 1)):
        model = post(notion=floor, pos_label=label).fit(X, YES, sensitive_features=SEX)
        rows = model.calibration_
        p = model.predict_proba(X.iloc[rows], SEX.iloc[rows])
        assert min(p[SEX.iloc[rows] == g, column].mean() for g in ("f", "m")) == pytest.approx(0.6, abs=1e-6)
        assert p.sum(1) == pytest.approx(1.0)
    with pytest.raises(fo.InputError, match="pos_label"):
        post(pos_label="maybe").fit(X, YES, sensitive_features=SEX)


def test_residuals_have_a_shift_a_group() -> None:
    model = post(Ridge(), fo.MeanResidual("sex", tolerance=0.0)).fit(X, TABLE["u"] * 2, sensitive_features=SEX)
    rows = model.calibration_
    assert max(model.gaps(X.iloc[rows], TABLE["u"].iloc[rows] * 2, sensitive_features=SEX.iloc[rows])["gap"]) <= 1e-9
    classifier = post(notion=fo.MeanResidual("sex", tolerance=0.01)).fit(X, YES, sensitive_features=SEX)
    rows = classifier.calibration_
    assert max(classifier.gaps(X.iloc[rows], YES[rows], sensitive_features=SEX.iloc[rows])["gap"]) <= 0.01 + 1e-9
    with pytest.raises(fo.InputError, match="got no y"):
        classifier.gaps(X, sensitive_features=SEX)
    with pytest.raises(fo.InputError, match="compares scores with labels"):
        post(LinearSVC(), fo.MeanResidual("sex", tolerance=0.01)).fit(X, YES, sensitive_features=SEX)


def test_decision_values_and_log_odds() -> None:
    plain = post(notion=fo.DemographicParity("sex", tolerance=0.1)).fit(X, YES, sensitive_features=SEX)
    assert not hasattr(plain, "decision_function")
    svm = post(LinearSVC(), fo.DemographicParity("sex", tolerance=0.1)).fit(X, YES, sensitive_features=SEX)
    assert not hasattr(svm, "predict_proba")
    odds = post(notion=fo.DemographicParity("sex", tolerance=0.1), space="logit").fit(X, YES, sensitive_features=SEX)
    p = odds.predict_proba(X, SEX)[:, 1]
    assert np.log(p / (1 - p)) == pytest.approx(odds.decision_function(X, SEX), abs=1e-9)
    for model in (svm, odds):
        d, rows = model.decision_function(X, SEX), model.calibration_
        assert np.array_equal(model.predict(X, SEX) == "yes", d > 0)
        inside = d[rows], SEX.iloc[rows]
        assert abs(inside[0][inside[1] == "f"].mean() - inside[0][inside[1] == "m"].mean()) == pytest.approx(0.1, abs=1e-6)
    other = post(LinearSVC(), fo.DemographicParity("sex", tolerance=0.1), pos_label="no").fit(X, YES, sensitive_features=SEX)
    assert other.decision_function(X, SEX) == pytest.approx(svm.decision_function(X, SEX), abs=1e-6)
    assert np.array_equal(other.predict(X, SEX), svm.predict(X, SEX))


@pytest.mark.parametrize("space", ["probability", "logit"])
def test_a_gap_of_decisions_is_told_at_fit_and_by_gaps(space: Any) -> None:
    notion = fo.DemographicParity("sex", tolerance=0.0)
    with pytest.warns(fo.FairoptWarning, match=r"predict, on the calibration rows: DemographicParity\(sex\).*FairDecisions"):
        model = post(DecisionTreeClassifier(max_depth=2), notion, space=space, calibration_fraction=0.5).fit(X, YES, sensitive_features=SEX)
    if space == "probability":
        with pytest.warns(fo.FairoptWarning, match="decisions at 0.5"):
            model.gaps(X, sensitive_features=SEX)


def test_it_is_what_it_wraps() -> None:
    assert is_classifier(post())
    assert not is_classifier(post(Ridge()))
    assert is_regressor(post(Ridge()))
    assert not hasattr(post(Ridge()), "predict_proba")
    with pytest.raises(NotFittedError):
        post().predict(X, SEX)


# refusals ----------------------------------------------------------------------------------------------------------------------

LABELS_MOVE = [
    fo.EqualOpportunity("sex", tolerance=0.1),
    fo.PredictiveEquality("sex", tolerance=0.1),
    fo.EqualizedOdds("sex", tolerance=0.1),
]


@pytest.mark.parametrize("notion", LABELS_MOVE, ids=lambda n: n.name)
def test_notions_about_labels_are_sent_to_the_tool_for_decisions(notion: fo.Notion) -> None:
    with pytest.raises(fo.InputError, match=r"label, which is not known when a row is scored.*fairopt\.FairDecisions"):
        post(notion=notion).fit(X, YES, sensitive_features=SEX)


REFUSED: list[tuple[str, Callable[[], Any]]] = [
    ("Only binary classification.*3 classes found", lambda: post().fit(X, ["a", "b", "c"] * 200, sensitive_features=SEX)),
    ("one class", lambda: post().fit(X, [1] * len(X), sensitive_features=SEX)),
    (
        "expected two of one target",
        lambda: post(LogisticRegression().fit(X, TABLE["race"]), prefit=True).fit(X, YES, sensitive_features=SEX),
    ),
    ("a classifier or a regressor", lambda: post(KMeans()).fit(X, YES, sensitive_features=SEX)),
    ("fit and predict", lambda: post(3).fit(X, YES, sensitive_features=SEX)),
    ("no groups", lambda: post().fit(X, YES)),
    ("both", lambda: post(sensitive_columns="sex").fit(WITH, YES, sensitive_features=SEX)),
    ("all of them are sensitive", lambda: post(sensitive_columns="sex").fit(WITH[["sex"]], YES)),
    ("calibration_fraction", lambda: post(calibration_fraction=1.0).fit(X, YES, sensitive_features=SEX)),
    ("space: got 'odds'", lambda: post(space="odds").fit(X, YES, sensitive_features=SEX)),
    ("space: got 'logit'", lambda: post(Ridge(), space="logit").fit(X, TABLE["u"], sensitive_features=SEX)),
    ("pos_label", lambda: post(Ridge(), pos_label=1).fit(X, TABLE["u"], sensitive_features=SEX)),
    ("bounds", lambda: post(bounds=(0, [1, 2])).fit(X, YES, sensitive_features=SEX)),
    ("does not read", lambda: post().fit(X, YES, sensitive_features=TABLE[["sex", "race"]])),
    ("expected 600", lambda: post().fit(X, YES, sensitive_features=SEX[:-1])),
    ("cv: ", lambda: post(cv=1).fit(X, YES, sensitive_features=SEX)),
    ("notion: got None", lambda: post(notion=None).fit(X, YES, sensitive_features=SEX)),
    (
        "keep_sensitive: got False",
        lambda: post(
            LogisticRegression().fit(X.assign(sex=SEX == "m"), YES), prefit=True, sensitive_columns="sex"
        ).fit(X.assign(sex=SEX == "m"), YES),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("words", "call"), REFUSED, ids=[words for words, _ in REFUSED])
def test_what_is_refused(words: str, call: Callable[[], Any]) -> None:
    with pytest.raises(fo.InputError, match=words):
        call()


def test_scores_that_are_none_are_refused() -> None:
    class Broken(LogisticRegression):  # type: ignore[misc]
        def predict_proba(self, X: Any) -> Any:
            return np.full((len(X), 2), self.C)

    with pytest.raises(fo.InputError, match="probabilities from 2"):
        post(Broken(C=2.0)).fit(X, YES, sensitive_features=SEX)
    model = post(Broken(C=0.5)).fit(X, YES, sensitive_features=SEX)
    model.estimator_.C = float("nan")
    with pytest.raises(fo.InputError, match="NaN"):
        model.predict(X, SEX)


def test_a_notion_that_asks_nothing_is_told_once() -> None:
    with pytest.warns(fo.FairoptWarning, match="vacuous") as told:
        post().fit(X, YES, sensitive_features=["f"] * len(X))
    assert [w.filename for w in told] == [__file__]


# in scikit-learn's company -----------------------------------------------------------------------------------------------------

CHECKED: dict[str, tuple[Any, dict[str, Any]]] = {
    "classifier": (LogisticRegression(), {}),
    "cross-fitted": (LogisticRegression(), {"cv": 3, "keep_sensitive": True}),
    "regressor": (Ridge(), {"keep_sensitive": True, "tolerance": 1.0}),
    "decision values": (LinearSVC(), {"keep_sensitive": True, "tolerance": 1.0}),
    "log-odds of a tree": (DecisionTreeClassifier(random_state=0), {"space": "logit", "tolerance": 1.0}),
}


@pytest.mark.parametrize("kind", CHECKED)
def test_scikit_learns_own_checks(kind: str) -> None:
    base, options = CHECKED[kind]
    model = post(base, fo.DemographicParity, **{"tolerance": 0.2, "sensitive_columns": 0, "cuts": {"x0": (0.5,)}, **options})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks fit some data with one group, of which the notion says nothing
        found = check_estimator(model, on_fail=None, on_skip=None)
    assert {r["check_name"] for r in found if r["status"] not in ("passed", "skipped")} == set()
    assert sum(r["status"] == "passed" for r in found) > 45


@pytest.mark.parametrize("routing", [False, True])
def test_a_search_with_columns_inside(routing: bool) -> None:
    model = post(notion=fo.DemographicParity, tolerance=0.1, sensitive_columns="sex")
    grid = {"tolerance": [0.0, 0.5], "estimator__C": [0.01, 1.0]}
    with sklearn.config_context(enable_metadata_routing=routing):
        search = GridSearchCV(model, grid, scoring="roc_auc", cv=2, error_score="raise").fit(WITH, YES)
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    assert (cross_val_score(model, WITH, YES, scoring="accuracy", cv=2, error_score="raise") > 0.5).all()


def test_routing_of_groups_and_weights() -> None:
    heavy = np.where(YES == "yes", 5.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        base = LogisticRegression().set_fit_request(sample_weight=True)
        model = post(base).set_fit_request(sensitive_features=True).set_predict_request(sensitive_features=True)
        model.set_score_request(sensitive_features=True, sample_weight=False)
        pipe = Pipeline([("scale", StandardScaler().set_fit_request(sample_weight=False)), ("fair", model)])
        pipe.fit(X, YES, sensitive_features=SEX, sample_weight=heavy)
        said = pipe.predict(X, sensitive_features=SEX)
        search = GridSearchCV(clone(model), {"calibration_fraction": [0.2, 0.4]}, cv=2, error_score="raise")
        search.fit(X, YES, sensitive_features=SEX, sample_weight=heavy)
        assert search.best_score_ > 0.5
    unrouted = Pipeline([("scale", StandardScaler()), ("fair", post())])
    unrouted.fit(X, YES, fair__sensitive_features=SEX, fair__sample_weight=heavy)
    assert np.array_equal(unrouted.predict(X, sensitive_features=SEX), said)
    light = Pipeline([("scale", StandardScaler()), ("fair", post())]).fit(X, YES, fair__sensitive_features=SEX)
    assert not np.array_equal(light.predict(X, sensitive_features=SEX), said)
    rows = unrouted[-1].calibration_
    rest = np.setdiff1d(np.arange(len(X)), rows)
    by_hand = LogisticRegression().fit(unrouted[0].transform(X)[rest], YES[rest], sample_weight=heavy[rest])
    assert unrouted[-1].estimator_.coef_ == pytest.approx(by_hand.coef_, abs=1e-12)


def test_copies(tmp_path: Any) -> None:
    model = post(notion=fo.DemographicParity, tolerance=0.02, sensitive_columns="sex").fit(WITH, YES)
    expected = model.predict_proba(WITH)
    joblib.dump(model, tmp_path / "model")
    for twin in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model")):
        assert np.array_equal(twin.predict_proba(WITH), expected)
    again = clone(model)
    assert again.get_params().keys() == model.get_params().keys()
    assert np.array_equal(again.fit(WITH, YES).predict_proba(WITH), expected)
    assert not np.array_equal(clone(model).set_params(random_state=1).fit(WITH, YES).predict_proba(WITH), expected)


def test_torch_is_left_as_it_was() -> None:
    state = torch.get_rng_state()
    post().fit(X, YES, sensitive_features=SEX)
    assert torch.equal(torch.get_rng_state(), state)
