"""Which rows calibrate a model that somebody else fits, and with which scores: rows that it has not seen.

- ``own split``: a share of the rows of every group calibrates, the others fit the model;
- ``cross-fitting``: every row is scored by a model of the other folds, then one model is fitted on all rows;
- ``prefit``: the model is there, all rows calibrate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing
from fairopt.training.inputs.split import shares

try:
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError
    from sklearn.model_selection import KFold, StratifiedKFold, check_cv
    from sklearn.utils import _safe_indexing
    from sklearn.utils.validation import _check_method_params, check_is_fitted
except ImportError as error:
    raise missing("the estimators need scikit-learn", "sklearn") from error

Floats = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Scores = Callable[[Any, Any], Floats]  # a fitted estimator, rows -> scores (n,)


@dataclass(frozen=True)
class Rows:
    """X (n rows of any kind that the estimator takes), y (n,) labels as they came, what goes to its ``fit`` beside them, groups (n,)."""

    X: Any
    y: npt.NDArray[Any]
    beside: Mapping[str, Any]
    groups: Index

    def fitted(self, estimator: Any, rows: Index | None = None) -> Any:
        """A clone fitted on these rows; None: on all."""
        if rows is None:
            return clone(estimator).fit(self.X, self.y, **self.beside)
        beside = _check_method_params(self.X, self.beside, indices=rows)
        return clone(estimator).fit(_safe_indexing(self.X, rows), self.y[rows], **beside)


@dataclass(frozen=True)
class Calibration:
    """The model, the calibration rows (c,), ascending, and their scores (c,) by models that had not seen them."""

    estimator: Any
    rows: Index
    scores: Floats


def check_fitted(estimator: Any) -> None:
    """InputError where an estimator that came as fitted is not."""
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise InputError(
            f"prefit=True: {type(estimator).__name__} is not fitted, expected a fitted estimator. A clone, as a search and "
            "cross-validation make one, loses what was fitted: wrap it, sklearn.frozen.FrozenEstimator(estimator)"
        ) from error


def own_split(estimator: Any, data: Rows, scores: Scores, fraction: float, generator: np.random.Generator) -> Calibration:
    """``fraction`` of the rows of every group, and at least one of each, calibrate; the others fit."""
    parts = shares(data.groups, data.groups, fraction, 0.0, generator)
    fitted = data.fitted(estimator, parts.train)
    return Calibration(fitted, parts.calibration, scores(fitted, _safe_indexing(data.X, parts.calibration)))


def cross_fitted(estimator: Any, data: Rows, scores: Scores, cv: Any, generator: np.random.Generator, *, classes: bool) -> Calibration:
    """Every row calibrates, scored by a model that was fitted on the other folds. InputError where a row is in no fold, or in two."""
    seed = int(generator.integers(2**31))
    if isinstance(cv, (int, np.integer)) and not isinstance(cv, bool):
        kind = StratifiedKFold if classes else KFold  # shuffled: a file is often sorted by its groups
        try:
            cv = kind(int(cv), shuffle=True, random_state=seed)
        except ValueError as error:
            raise InputError(f"cv: {error}") from error
    n = len(data.groups)
    found, times = np.zeros(n), np.zeros(n, dtype=np.int64)
    for train, out in check_cv(cv, data.y, classifier=classes).split(data.X, data.y):
        found[out] = scores(data.fitted(estimator, train), _safe_indexing(data.X, out))
        np.add.at(times, out, 1)
    if (times != 1).any():
        row = int(np.flatnonzero(times != 1)[0])
        raise InputError(f"cv: row {row} is held out {times[row]} times, expected folds that hold every row out once")
    return Calibration(data.fitted(estimator), np.arange(n), found)
