"""FairRegressor and FairClassifier beside ridge and logistic regression on sets of fewer than 2,000 rows.

    FAIROPT_DATA=FOLDER python tests/bench/small_data.py [REPEATS]

Five-fold cross-validation, REPEATS times (2). The tolerance is so loose that the notion moves no score: what is compared is how the
estimators learn from few rows. ``error`` is the mean squared error as a share of the variance, and the log loss as a share of that of the
mean; ``difference`` is to the linear model of all training rows, on the same folds, with the corrected standard error of repeated
cross-validation (Nadeau and Bengio 2003). The estimators keep a fifth of the rows for calibration; the second line says what that alone
costs the linear model. Sets that are absent are left out, and said.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.metrics import log_loss
from sklearn.model_selection import RepeatedKFold

import fairopt as fo
from fairopt.errors import FairoptError
from fairopt.experiments.data import communities, employee, loanapp, student
from fairopt.experiments.data.tabular import Dataset, Encoder
from fairopt.training import FairClassifier, FairRegressor

FOLDS = 5
SETS: dict[str, tuple[Callable[[], Dataset], str]] = {
    "student": (student.load, "sex"),
    "employee": (employee.load, "sex"),
    "communities": (communities.load, "black"),
    "loanapp": (loanapp.load, "race"),
}
Floats = npt.NDArray[np.float64]


def error(y: Floats, predicted: Floats, mean: float, *, binary: bool) -> float:
    """Relative to always saying ``mean``, that of the training rows."""
    if binary:
        return float(log_loss(y, predicted, labels=[0, 1]) / log_loss(y, np.full(len(y), mean), labels=[0, 1]))
    return float(((y - predicted) ** 2).mean() / ((y - mean) ** 2).mean())


def linear(x: Floats, y: Floats, new: Floats, *, binary: bool) -> Floats:
    """Ridge or logistic regression, the strength chosen by cross-validation."""
    if not binary:
        return np.asarray(RidgeCV(np.logspace(-2, 4, 13)).fit(x, y).predict(new))
    model = LogisticRegressionCV(Cs=8, scoring="neg_log_loss", max_iter=1000, l1_ratios=(0.0,), use_legacy_attributes=False)
    return np.asarray(model.fit(x, y).predict_proba(new)[:, 1])


def fair(x: Floats, y: Floats, new: Floats, groups: Any, new_groups: Any, *, binary: bool, seed: int, **options: Any) -> Floats:
    if binary:
        classifier = FairClassifier(fo.DemographicParity, tolerance=0.9, random_state=seed, **options)
        return np.asarray(classifier.fit(x, y, sensitive_features=groups).predict_proba(new, new_groups)[:, 1])
    regressor = FairRegressor(fo.DemographicParity, tolerance=10.0 * float(y.std()), random_state=seed, **options)
    return np.asarray(regressor.fit(x, y, sensitive_features=groups).predict(new, new_groups))


def folds(data: Dataset, attribute: str, repeats: int, ways: dict[str, dict[str, Any]]) -> Iterator[dict[str, float]]:
    """The error of each method on each fold."""
    groups, binary = data.sensitive[attribute], data.task == "binary"
    for k, (train, out) in enumerate(RepeatedKFold(n_splits=FOLDS, n_repeats=repeats, random_state=0).split(data.features)):
        encoder = Encoder.fit(data.features[train], data.names, categories=data.categories)
        x, new = (encoder.encode(data.features[rows]).double().numpy() for rows in (train, out))
        y, truth = data.target[train], data.target[out]
        judged = {"linear": linear(x, y, new, binary=binary)}
        four_fifths = np.random.default_rng(k).permutation(len(y))[len(y) // 5 :]  # what is left beside the rows that calibrate
        judged["linear, four fifths of the rows"] = linear(x[four_fifths], y[four_fifths], new, binary=binary)
        for name, options in ways.items():
            judged[name] = fair(x, y, new, groups[train], groups[out], binary=binary, seed=k, **options)
        yield {name: error(truth, p, float(y.mean()), binary=binary) for name, p in judged.items()}


def main(repeats: int, ways: dict[str, dict[str, Any]]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)
    print("| set | rows | method | error | difference | its error |")
    print("|---|---|---|---|---|---|")
    for name, (load, attribute) in SETS.items():
        try:
            data = load()
        except FairoptError as absent:
            print(f"{name} is left out: {absent}".splitlines()[0])
            continue
        start = time.process_time()
        found = list(folds(data, attribute, repeats, ways))
        for method in found[0]:
            values, differences = (np.array([f[method] - other for f, other in zip(found, base, strict=True)]) for base in (
                [0.0] * len(found), [f["linear"] for f in found]
            ))  # fmt: skip
            spread = np.sqrt((1 / len(found) + 1 / (FOLDS - 1)) * differences.var(ddof=1))
            print(f"| {name} | {len(data)} | {method} | {values.mean():.3f} | {differences.mean():+.3f} | {spread:.3f} |", flush=True)
        print(f"{name}: {time.process_time() - start:.0f} s of processor time", file=sys.stderr)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2, {"FairRegressor or FairClassifier": {}})
