"""Labels of two classes or more, of any kind (words, -1 and 1, 1 and 2, bools), as whole numbers from 0 on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing

try:
    from sklearn.utils import column_or_1d
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
except ImportError as error:
    raise missing("the estimators need scikit-learn", "sklearn") from error


def some_classes(y: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """The two or more classes in y (n,), in their order, and the place (n,) of each label in them. InputError for one."""
    return _classes(y, several=True)


def two_classes(y: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """The two classes in y (n,), in their order, and the place (n,) of each label in them. InputError for other than two."""
    return _classes(y, several=False)


def _classes(y: Any, *, several: bool) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    labels = column_or_1d(y, warn=True)
    try:
        check_classification_targets(labels)
        kind = type_of_target(labels, input_name="y")
    except ValueError as error:
        raise InputError(f"y: {error}") from error
    if kind != "binary" and not (several and kind == "multiclass"):
        raise InputError(f"Only binary classification is supported. The type of the target is {kind}. {_several(labels)}")
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"y: got one class, {classes.tolist()}, expected two classes")
    return classes, np.asarray(codes, dtype=np.int64)


def _several(labels: npt.NDArray[Any]) -> str:
    """How many classes there are, which, and the way on; scikit-learn's checks ask for the sentences before it."""
    found = np.unique(labels).tolist()
    shown = ", ".join(map(repr, found[:6])) + (", ..." if len(found) > 6 else "")
    return f"y: {len(found)} classes found: {shown}; for one against the rest fit one estimator a class, with y = (y == {found[-1]!r})"


def codes_of(y: Any, classes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(n,) the place of each label in ``classes`` (sorted). InputError for a label that is none of them."""
    labels = column_or_1d(y, warn=True)
    unknown = [label for label in np.unique(labels).tolist() if label not in classes.tolist()]
    if unknown:
        raise InputError(f"y: got the label {unknown[0]!r}, expected those of fit, {classes.tolist()}")
    return np.asarray(np.searchsorted(classes, labels.astype(classes.dtype)), dtype=np.int64)
