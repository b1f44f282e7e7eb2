"""The estimators on few rows: several networks that begin at the linear model, and leave it only where that is better than noise."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge

import fairopt as fo
from fairopt.training import FairClassifier, FairRegressor
from fairopt.training.estimators.network import Members, Network
from fairopt.training.estimators.recipe import kept_epochs
from fairopt.training.estimators.start import PENALTIES, linear_model, penalty
from fairopt.training.inputs.parameters import chosen_batch, chosen_members
from fairopt.training.inputs.split import Shares, members_of

LOOSE: dict[str, Any] = {"tolerance": 0.9, "random_state": 0, "epochs": 25}


def rows(n: int, seed: int = 0, d: int = 6) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * np.arange(1, d + 1), rng.choice(["f", "m"], n), rng.normal(size=n)


# what is chosen by the number of rows ------------------------------------------------------------------------------------------


def test_what_the_number_of_rows_chooses() -> None:
    assert [chosen_members("auto", n) for n in (5, 19, 20, 1999, 2000, 10**6)] == [1, 1, 5, 5, 1, 1]
    assert chosen_members(3, 10**6) == 3
    assert [chosen_batch("auto", n) for n in (30, 64, 512, 800, 8192, 10**6)] == [30, 64, 64, 100, 1024, 1024]
    assert chosen_batch(None, 77) == 77
    assert chosen_batch(50, 77) == 50


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(30, 80))
def test_every_row_of_training_stops_one_member_and_trains_the_others(seed: int, members: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    strata, part = rng.integers(0, 3, n), rng.integers(0, 3, n)
    parts = Shares(*(np.flatnonzero(part == k) for k in range(3)))
    each = members_of(parts, strata, members, rng, validates=True)
    rest = np.sort(np.concatenate([parts.train, parts.validation]))
    assert len(each) == members
    assert np.array_equal(np.sort(np.concatenate([one.validation for one in each])), rest)
    for one in each:
        assert np.array_equal(np.sort(np.concatenate([one.train, one.validation])), rest)
        assert np.array_equal(one.calibration, parts.calibration)
        for code in range(3):
            share = (strata[rest] == code).sum() / members
            assert abs((strata[one.validation] == code).sum() - share) < 1
    for one in members_of(parts, strata, members, rng, validates=False):
        assert np.array_equal(one.train, rest)
        assert not len(one.validation)


def test_too_many_members() -> None:
    parts = Shares(np.arange(3), np.arange(3, 4), np.arange(4, 6))
    with pytest.raises(fo.InputError, match="members: got 5 for 4"):
        members_of(parts, np.zeros(6, dtype=np.int64), 5, np.random.default_rng(0), validates=True)
    with pytest.raises(fo.InputError, match="members"):
        FairRegressor(fo.DemographicParity, members=0, **LOOSE).fit(rows(40)[0], rows(40)[2], sensitive_features=rows(40)[1])


def test_an_epoch_is_kept_where_it_is_better_than_noise() -> None:
    clear = [[1.0, 0.5, 0.6], [1.1, 0.6, 0.5], [0.9, 0.3, 0.7]]
    assert kept_epochs(clear, from_linear=True) == 1
    noisy = [[1.0, 0.9, 1.4], [1.0, 1.08, 1.2], [1.0, 0.97, 1.2]]  # better by 0.017 on average, of an error of 0.05
    assert kept_epochs(noisy, from_linear=True) == 0
    assert kept_epochs(noisy, from_linear=False) == 1
    assert kept_epochs([[1.0, 0.5, 0.1], [1.0, 0.4]], from_linear=True) == 1  # both had no more epochs
    assert kept_epochs([[1.0, 2.0]], from_linear=True) == 0
    assert kept_epochs([[1.0, 0.9]], from_linear=True) == 1
    assert kept_epochs([[1.0, 2.0]], from_linear=False) == 1
    assert kept_epochs([[], []], from_linear=True) == 0


# the linear model --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("hidden", [(), (8,)])
@pytest.mark.parametrize("classes", [False, True])
def test_where_nothing_is_learnt_it_is_the_linear_model_of_all_rows(classes: bool, hidden: Any, weighted: bool) -> None:
    """All rows but those that calibrate: those that say when to stop too."""
    x, g, noise = rows(150)
    y = x @ np.arange(6) * 0.05 + noise
    weight = np.random.default_rng(1).uniform(0.5, 2.0, 150) if weighted else None
    options: dict[str, Any] = {**LOOSE, "tolerance": 0.9 if classes else 90.0, "hidden": hidden, "learning_rate": 0.0, "epochs": 2}
    target = (y > 0).astype(float) if classes else y
    model = (FairClassifier if classes else FairRegressor)(fo.DemographicParity, **options)
    model.fit(x, target, sensitive_features=g, sample_weight=weight)
    assert model.epochs_ == 0
    inside = np.setdiff1d(np.arange(150), model.shares_.calibration)
    z = (x - x[inside].mean(0)) / x[inside].std(0)
    own = None if weight is None else weight[inside]
    location, scale = (0.0, 1.0) if classes else (target.mean(), target.std())
    goal = (target[inside] - location) / scale
    strength = penalty(z[inside], goal, own, classes=classes)
    assert strength is not None
    if classes:
        expected = LogisticRegression(C=1 / strength, max_iter=1000).fit(z[inside], goal, sample_weight=own).predict_proba(z)[:, 1]
        found = model.predict_proba(x, g)[:, 1]
    else:
        expected = location + scale * Ridge(alpha=strength).fit(z[inside], goal, sample_weight=own).predict(z)
        found = model.predict(x, g)
    assert found == pytest.approx(expected, abs=1e-4 * (1.0 if classes else scale))


def test_the_penalty_predicts_best() -> None:
    x, _, noise = rows(200)
    z = x / x.std(0)
    pure = np.sign(noise)
    assert penalty(z, noise / noise.std(), None, classes=False) == PENALTIES[-1]  # nothing to learn
    weak = penalty(z, (pure > 0).astype(float), None, classes=True)
    assert weak is not None
    assert weak >= 10.0
    strong = penalty(z, (z[:, 0] * 20 + noise > 0).astype(float), None, classes=True)
    assert strong is not None
    assert strong <= 1.0
    assert penalty(z, np.r_[np.ones(4), np.zeros(196)], None, classes=True) is None  # four of a class
    assert penalty(z, noise, np.zeros(200), classes=False) is None
    assert linear_model(z, np.ones(200), None, 1.0, classes=True).constant == 0.0


def test_what_is_not_linear_is_learnt() -> None:
    x, g, _ = rows(400, d=2)
    y = np.sign(x[:, 0] * x[:, 1])
    model = FairRegressor(fo.DemographicParity, **{**LOOSE, "tolerance": 9.0, "epochs": 120}).fit(
        x[:300], y[:300], sensitive_features=g[:300]
    )
    assert model.epochs_ > 5
    assert ((model.predict(x[300:], g[300:]) - y[300:]) ** 2).mean() < 0.6 * ((y[300:] - y.mean()) ** 2).mean()


# several members ---------------------------------------------------------------------------------------------------------------


def test_the_score_is_the_mean_of_the_members() -> None:
    x, g, noise = rows(120)
    model = FairRegressor(fo.DemographicParity, **{**LOOSE, "tolerance": 90.0, "members": 3, "epochs": 4, "hidden": (4,)})
    model.fit(x, x[:, 0] * x[:, 1] + noise, sensitive_features=g)
    assert isinstance(model.network_, Members)
    assert len(model.network_) == len(model.histories_) == 3
    assert model.histories_[0] is model.history_
    assert [any(done.gaps for done in one.epochs) for one in model.histories_] == [True, False, False]
    features = torch.from_numpy(x)
    with torch.no_grad():
        each = [network(features) for network in model.network_.networks]
    assert not torch.equal(each[0], each[1])
    assert model.predict(x, g) == pytest.approx(torch.stack(each).mean(0).numpy(), abs=1e-5)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(x, g), model.predict(x, g))
    again = model.fit(x, x[:, 0] * x[:, 1] + noise, sensitive_features=g).predict(x, g)
    assert np.array_equal(again, pickle.loads(pickle.dumps(model)).predict(x, g))
    one = FairRegressor(fo.DemographicParity, **{**LOOSE, "tolerance": 90.0, "members": 1, "epochs": 2}).fit(x, noise, sensitive_features=g)
    assert isinstance(one.network_, Network)
    assert len(one.shares_.validation)


def test_members_that_never_stop() -> None:
    x, g, noise = rows(60)
    model = FairRegressor(fo.DemographicParity, **{**LOOSE, "tolerance": 90.0, "members": 2, "epochs": 3, "early_stopping": False})
    model.fit(x, noise, sensitive_features=g)
    assert [len(one) for one in model.histories_] == [3, 3]
    assert model.epochs_ == 3
    assert not len(model.shares_.validation)
