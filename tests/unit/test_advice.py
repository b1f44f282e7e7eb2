"""Advice that leads somewhere: what a message names, the caller can do, and then it works."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fairopt as fo
from fairopt.training import FairClassifier, FairRegressor

N = 120
RNG = np.random.default_rng(0)
A = RNG.normal(size=N)
Y = (A + RNG.normal(size=N) > 0).astype(int)
NOTIONS = (fo.DemographicParity("sex", tolerance=0.05), fo.EqualizedOdds("sex", tolerance=0.1))


def table(values: list[Any]) -> dict[str, Any]:
    """X and the group of each row, every value in turn."""
    return {"X": A[:, None], "sensitive_features": {"sex": np.array([values[i % len(values)] for i in range(N)], dtype=object)}}


def classifier(notion: fo.Notion = NOTIONS[0], **settings: Any) -> FairClassifier:
    return FairClassifier(notion, epochs=2, random_state=0, **settings)


@pytest.mark.parametrize("values", [["f", "m", None], [1, 2, None], [3, 10, float("nan")], [True, None]], ids=str)
@pytest.mark.parametrize("notion", NOTIONS, ids=["means", "labels"])
def test_missing_group_own_makes_a_group(values: list[Any], notion: fo.Notion) -> None:
    with pytest.raises(fo.InputError, match="missing_group='own'"):
        classifier(notion).fit(y=Y, **table(values))
    fitted = classifier(notion, missing_group="own").fit(y=Y, **table(values))
    assert [key for (key,) in fitted.frozen_.keys] == [*values[:-1], None]
    assert set(fitted.predict(**table(values))) <= {0, 1}
    assert fitted.predict(**table(values[-1:])).shape == (N,)
    assert fitted.decide(**table(values)).sum() > 0
    assert len(fitted.gaps(y=Y, **table(values))) >= 1


def test_missing_group_with_thresholds_a_group_and_in_regression() -> None:
    fitted = classifier(missing_group="own", thresholds="groups").fit(y=Y, **table(["f", "m", None]))
    assert len(fitted.rules_) == 3
    regressor = FairRegressor(NOTIONS[0], epochs=2, random_state=0, missing_group="own").fit(y=A, **table(["f", "m", None]))
    assert np.isfinite(regressor.predict(**table(["f", "m", None]))).all()
    with pytest.raises(fo.InputError, match="missing_group: got 'drop', expected 'error' or 'own'"):
        classifier(missing_group="drop").fit(y=Y, **table(["f", "m"]))


def test_several_classes_are_named_and_one_against_the_rest_works() -> None:
    y = np.arange(N) % 3
    with pytest.raises(fo.UnsupportedError, match="about labels.*3 classes, or one estimator a class"):
        classifier(NOTIONS[1]).fit(y=y, **table(["f", "m"]))  # a notion on labels
    assert classifier(NOTIONS[1]).fit(y=(y == 2), **table(["f", "m"])).classes_.tolist() == [False, True]


def test_a_number_for_a_class_is_an_input_error() -> None:
    with pytest.raises(fo.InputError, match="y: Unknown label type: continuous"):
        classifier().fit(y=A, **table(["f", "m"]))


def test_a_regressor_names_no_pos_label() -> None:
    def fit(y: Any) -> FairRegressor:
        return FairRegressor(NOTIONS[1], bounds=(0, 1), epochs=2, random_state=0).fit(y=y, **table(["f", "m"]))

    with pytest.raises(fo.InputError, match="the values found are 1, 2. Give y as 0 and 1") as error:
        fit(Y + 1)
    assert "pos_label" not in str(error.value)
    fit((Y + 1 == 2).astype(float))


def test_gaps_of_labels_ask_for_y() -> None:
    fitted = classifier(NOTIONS[1]).fit(y=Y, **table(["f", "m"]))
    with pytest.raises(fo.InputError, match="got no y"):
        fitted.gaps(**table(["f", "m"]))


def test_an_estimator_names_no_argument_of_the_layer() -> None:
    notion = fo.GroupMeanBound("sex", lower=2.0, upper=3.0)
    with pytest.warns(fo.FairoptWarning), pytest.raises(fo.InfeasibleError, match="Widen a tolerance or the bounds") as error:
        FairRegressor(notion, bounds=(0, 1), epochs=2, random_state=0).fit(y=Y.astype(float), **table(["f", "m"]))
    assert "on_infeasible" not in str(error.value)
    assert error.value.rows
    with pytest.raises(fo.InfeasibleError, match="on_infeasible='closest'"):
        fo.project(A, notion, bounds=(0, 1), sensitive_features=table(["f", "m"])["sensitive_features"])
    with pytest.warns(fo.FairoptWarning):
        fo.project(A, notion, bounds=(0, 1), sensitive_features=table(["f", "m"])["sensitive_features"], on_infeasible="closest")


def test_decide_takes_what_its_message_names() -> None:
    p, groups = [0.2, 0.7, 0.5, 0.6], {"sex": ["a", None, "a", None]}
    with pytest.raises(fo.InputError, match="missing_group='own'"):
        fo.decide(p, sensitive_features=groups, generator=np.random.default_rng(0))
    decided = fo.decide(p, sensitive_features=groups, generator=np.random.default_rng(0), missing_group="own")
    assert abs(decided[1] + decided[3] - 1.3) < 1
    with pytest.raises(fo.InputError, match="missing_group: got 'x'"):
        fo.decide(p, sensitive_features=groups, generator=np.random.default_rng(0), missing_group="x")  # type: ignore[arg-type]
