"""What a fitted scikit-learn estimator says of rows, as one vector of scores: probabilities, log-odds, decision values, predictions."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fairopt.basics.columns import real_vector
from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing

try:
    from sklearn.base import is_classifier, is_regressor
except ImportError as error:
    raise missing("the estimators need scikit-learn", "sklearn") from error

Floats = npt.NDArray[np.float64]
Kind = Literal["probability", "logit", "decision", "value"]
EDGE = 1e-6  # log-odds are those of probabilities in [EDGE, 1 - EDGE]: a tree may say 0, whose log-odds are no number


def kind_of(estimator: Any, space: str) -> Kind:
    """The kind of scores that the estimator's rows get. InputError for what is neither classifier nor regressor."""
    if is_regressor(estimator):
        return "value"
    if not is_classifier(estimator):
        raise InputError(f"estimator: got {estimator!r}, expected a classifier or a regressor of scikit-learn's kind")
    if hasattr(estimator, "predict_proba"):
        return "logit" if space == "logit" else "probability"
    if hasattr(estimator, "decision_function"):
        return "decision"
    raise InputError(f"estimator: {type(estimator).__name__} has neither predict_proba nor decision_function, expected one of them")


def scores_of(estimator: Any, X: Any, kind: Kind, classes: npt.NDArray[Any] | None, positive: int) -> Floats:
    """(n,) scores of ``classes[positive]``, or the predictions of a regressor. InputError for scores that are none."""
    what = f"the scores of {type(estimator).__name__}"
    if kind == "value":
        return real_vector(np.asarray(estimator.predict(X)), None, what)
    assert classes is not None
    known = np.asarray(estimator.classes_)
    if known.tolist() != classes.tolist():
        raise InputError(f"estimator: it was fitted with the classes {known.tolist()}, expected {classes.tolist()}")
    if kind == "decision":
        return real_vector(np.asarray(estimator.decision_function(X)), None, what) * (1.0 if positive else -1.0)
    p = real_vector(np.asarray(estimator.predict_proba(X))[:, positive], None, what)
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise InputError(f"{what}: got probabilities from {p.min():g} to {p.max():g}, expected numbers in [0, 1]")
    return log_odds(p) if kind == "logit" else p


def log_odds(p: Floats) -> Floats:
    inside = np.clip(p, EDGE, 1.0 - EDGE)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def probability(scores: Floats, kind: Kind) -> Floats:
    """(n,) probabilities out of probabilities or log-odds."""
    return np.asarray(1.0 / (1.0 + np.exp(-scores))) if kind == "logit" else scores
