"""FairClassifier and FairRegressor in scikit-learn's company: its own checks, pipelines, searches, routing, pickles, processes."""

from __future__ import annotations

import functools
import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import fairopt as fo
from fairopt.training import FairClassifier, FairRegressor

QUICK: dict[str, Any] = {"epochs": 5, "hidden": (8,), "members": 1, "random_state": 0}
RNG = np.random.default_rng(0)
N = 240
SEX = RNG.choice(["f", "m"], N)
X = pd.DataFrame(RNG.normal(size=(N, 2)), columns=["u", "v"]).assign(job=RNG.choice(["p", "q", "r"], N))
X["u"] += SEX == "m"
Y = (X["u"] + X["v"] > 0.5).to_numpy().astype(int)
WITH = X[["u", "v"]].assign(sex=SEX)
BESIDE = X[["u", "v"]]

# Every check that does not pass, and why.
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": (
        "rows are shared out at random between training and calibration, and group means are unweighted: a row of weight 2 is one person, "
        "not two, so that weights are no repetitions"
    )
}


@pytest.mark.parametrize(
    ("kind", "keep_sensitive", "tolerance", "epochs"), [(FairClassifier, True, 0.5, 30), (FairRegressor, True, 1.0, 30)]
)
def test_scikit_learns_own_checks(kind, keep_sensitive, tolerance, epochs):
    """Of a model that takes the first column as its group, cut in two; the checks ask for some accuracy, too."""
    model = kind(
        fo.DemographicParity,
        tolerance=tolerance,
        sensitive_columns=0,
        cuts={"x0": (0.5,)},
        keep_sensitive=keep_sensitive,
        epochs=epochs,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks fit some data with one group, of which the notion says nothing
        found = check_estimator(model, expected_failed_checks=EXPECTED, on_fail=None, on_skip=None)
    status = {r["check_name"]: r["status"] for r in found}
    assert {name for name, s in status.items() if s == "failed"} == set()
    assert {name for name, s in status.items() if s == "xfail"} == set(EXPECTED)
    assert sum(s == "passed" for s in status.values()) > 50


def test_clone_and_parameters():
    notion = fo.DemographicParity("sex", tolerance=0.1) & fo.EqualOpportunity("sex", tolerance=0.2)
    model = FairClassifier(notion, sensitive_columns="sex", cuts={"sex": (1.0,)}, **QUICK)
    twin = clone(model)
    assert twin is not model
    assert twin.get_params().keys() == model.get_params().keys()
    assert twin.notion == notion
    assert "DemographicParity" in repr(model)
    with pytest.raises(NotFittedError):
        twin.predict(WITH)


@pytest.mark.parametrize("routing", [False, True])
def test_a_search_with_string_scoring(routing):
    model = FairClassifier(fo.DemographicParity, sensitive_columns="sex", **QUICK)
    grid = {"tolerance": [0.05, 0.5], "notion": [fo.DemographicParity, fo.EqualOpportunity]}
    with sklearn.config_context(enable_metadata_routing=routing):
        search = GridSearchCV(model, grid, scoring="accuracy", cv=2, error_score="raise").fit(WITH, Y)
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(WITH).shape == (N,)
    assert {"notion", "tolerance"} == set(search.best_params_)
    scores = cross_val_score(model.set_params(tolerance=0.1), WITH, Y, scoring="roc_auc", cv=2, error_score="raise")
    assert (scores > 0.5).all()


def test_a_search_with_groups_beside():
    model = FairClassifier(fo.DemographicParity, **QUICK)
    features = pd.Series(SEX, name="sex")
    with sklearn.config_context(enable_metadata_routing=True):
        model.set_fit_request(sensitive_features=True).set_score_request(sensitive_features=True)
        search = GridSearchCV(model, {"tolerance": [0.05, 0.5]}, cv=2, error_score="raise").fit(BESIDE, Y, sensitive_features=features)
        assert search.best_score_ > 0.5
        # a string scorer does not hand the groups on to predict: an error, no unfair score
        blind = GridSearchCV(model, {"tolerance": [0.1]}, scoring="accuracy", cv=2, error_score="raise")
        with pytest.raises((fo.InputError, TypeError)):
            blind.fit(BESIDE, Y, sensitive_features=features)
    assert search.best_estimator_.predict(BESIDE, sensitive_features=features).shape == (N,)


def test_pipelines():
    prepare = make_column_transformer(
        (StandardScaler(), ["u", "v"]),
        (OneHotEncoder(sparse_output=False), ["job"]),
        ("passthrough", ["sex"]),
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    table = X.assign(sex=SEX)
    pipe = make_pipeline(prepare, FairClassifier(fo.DemographicParity, tolerance=0.1, sensitive_columns="sex", **QUICK))
    assert pipe.fit(table, Y).predict_proba(table).shape == (N, 2)
    assert pipe[-1].network_.mean.shape == (5,)  # u, v and three jobs; sex is out
    assert pipe.predict(table[:1]).shape == (1,)

    beside = Pipeline([("scale", StandardScaler()), ("fair", FairClassifier(fo.DemographicParity, tolerance=0.1, **QUICK))])
    beside.fit(BESIDE, Y, fair__sensitive_features=SEX)
    expected = beside.predict(BESIDE, sensitive_features=SEX)
    with pytest.raises(fo.InputError, match="no sensitive_features"):
        beside.predict(BESIDE)
    with sklearn.config_context(enable_metadata_routing=True):
        model = FairClassifier(fo.DemographicParity, tolerance=0.1, **QUICK)
        model.set_fit_request(sensitive_features=True).set_predict_request(sensitive_features=True)
        routed = Pipeline([("scale", StandardScaler()), ("fair", model)]).fit(BESIDE, Y, sensitive_features=SEX)
        assert np.array_equal(routed.predict(BESIDE, sensitive_features=SEX), expected)


def test_a_dict_is_not_cut_to_a_fold_and_that_is_said():
    with sklearn.config_context(enable_metadata_routing=True):
        model = FairClassifier(fo.DemographicParity("sex", tolerance=0.1), **QUICK).set_fit_request(sensitive_features=True)
        model.set_score_request(sensitive_features=True)
        with pytest.raises(fo.InputError, match="dicts it does not"):
            GridSearchCV(model, {"epochs": [5]}, cv=2, error_score="raise").fit(BESIDE, Y, sensitive_features={"sex": SEX})


@pytest.mark.parametrize("kind", [FairClassifier, FairRegressor])
@pytest.mark.parametrize("notion", [fo.DemographicParity, fo.MeanResidual, functools.partial(fo.ImpactRatio, ratio=0.9)])
def test_pickles(kind, notion):
    tolerance = None if isinstance(notion, functools.partial) else 0.05
    target = Y if kind is FairClassifier else Y + 1.0
    model = kind(notion, tolerance=tolerance, sensitive_columns="sex", **QUICK).fit(WITH, target)
    twin = pickle.loads(pickle.dumps(model))
    assert np.array_equal(twin.predict(WITH), model.predict(WITH))
    assert [(r["gap"], r["status"]) for r in twin.gaps(WITH, target)] == [(r["gap"], r["status"]) for r in model.gaps(WITH, target)]


def test_maps_for_labels_pickle():
    model = FairClassifier(fo.EqualizedOdds, tolerance=0.05, sensitive_columns="sex", **QUICK).fit(WITH, Y)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict_proba(WITH), model.predict_proba(WITH))


@pytest.mark.slow
def test_two_processes_find_what_one_finds():
    model = FairClassifier(fo.DemographicParity, sensitive_columns="sex", **QUICK)
    searches = [GridSearchCV(model, {"tolerance": [0.05, 0.5]}, cv=2, n_jobs=jobs, error_score="raise").fit(WITH, Y) for jobs in (1, 2)]
    assert np.array_equal(searches[0].cv_results_["mean_test_score"], searches[1].cv_results_["mean_test_score"])


def test_what_X_may_be():
    sparse = pytest.importorskip("scipy.sparse")
    model = FairClassifier(fo.DemographicParity, tolerance=0.1, **QUICK)
    with pytest.raises(TypeError, match="[Ss]parse"):
        model.fit(sparse.csr_matrix(BESIDE.to_numpy()), Y, sensitive_features=SEX)
    model.fit(BESIDE, Y, sensitive_features=SEX)
    assert model.feature_names_in_.tolist() == ["u", "v"]
    assert model.n_features_in_ == 2
    with pytest.raises(ValueError, match="feature names"):
        model.predict(BESIDE[["v", "u"]], sensitive_features=SEX)
    with pytest.raises(ValueError, match="NaN"):
        model.predict(BESIDE.assign(u=np.nan), sensitive_features=SEX)
    tags = model.__sklearn_tags__()
    assert tags.estimator_type == "classifier"
    assert tags.classifier_tags is not None
    assert tags.classifier_tags.multi_class
