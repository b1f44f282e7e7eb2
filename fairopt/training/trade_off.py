"""``trade_off``: an estimator fitted at one tolerance after another, and what each costs on held-out rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing
from fairopt.basics.table import Table

try:
    from sklearn.base import clone
except ImportError as error:
    raise missing("the estimators need scikit-learn", "sklearn") from error


def trade_off(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    tolerances: Iterable[float],
    X_test: Any,
    y_test: Any,
    sensitive_features: Any = None,
    sensitive_features_test: Any = None,
) -> Table:
    """A row a tolerance: ``tolerance``, ``gap`` (the widest under the notion on the test rows), ``score`` (accuracy or R squared there).

    estimator  a FairClassifier, FairRegressor or FairPostprocessor whose ``notion`` is a kind of notion, such as DemographicParity; it is
               cloned, not fitted.  X, y, sensitive_features: as in ``fit``
    X_test, y_test, sensitive_features_test  the rows that are judged
    tolerances numbers, in the order of the rows

    InputError where the estimator takes no tolerance. ``fairopt.plot.trade_off`` draws the table.

    Examples:
        >>> from fairopt.training import FairRegressor, trade_off
        >>> generator = np.random.default_rng(0)
        >>> X, sex = generator.normal(size=(200, 2)), generator.choice(["f", "m"], 200)
        >>> y = X[:, 0] + (sex == "m")
        >>> model = FairRegressor(fo.DemographicParity, sensitive_columns=[2], hidden=(), members=1, epochs=5, random_state=0)
        >>> X = np.c_[X, sex == "m"]
        >>> table = trade_off(model, X[:150], y[:150], tolerances=[0.0, 0.5], X_test=X[150:], y_test=y[150:])
        >>> table.columns, table["tolerance"]
        (('tolerance', 'gap', 'score'), (0.0, 0.5))
    """
    if not hasattr(estimator, "get_params") or "tolerance" not in estimator.get_params(deep=False) or not hasattr(estimator, "gaps"):
        raise InputError(f"estimator: got {estimator!r}, expected one of fairopt's estimators, with a tolerance")
    rows = []
    for tolerance in tolerances:
        model = clone(estimator).set_params(tolerance=tolerance).fit(X, y, sensitive_features=sensitive_features)
        found = model.gaps(X_test, y_test, sensitive_features=sensitive_features_test)
        widest = max((gap for gap in found["gap"] if gap is not None), default=None)
        rows.append((float(tolerance), widest, model.score(X_test, y_test, sensitive_features=sensitive_features_test)))
    return Table(("tolerance", "gap", "score"), tuple(rows))
