"""Where training begins on few rows: at the linear model, ridge or logistic regression, with a strength that cross-validation chose.

What a network learns from there stays only where rows that did not train say that it is better (early stopping, the start included).
Then its linear part is replaced by that of all rows, those that said when to stop too: what is left out of training costs the linear
model nothing, so that on few rows the network is not worse than it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fairopt.basics.extras import missing
from fairopt.training.estimators.network import Network

try:
    from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold
except ImportError as error:
    raise missing("the estimators need scikit-learn", "sklearn") from error

Floats = npt.NDArray[np.float64]
PENALTIES = np.logspace(-1, 4, 11)  # of squared coefficients, beside the summed loss; features and targets are standardised
FOLDS = 5


def penalty(x: Floats, y: Floats, weight: Floats | None, *, classes: bool) -> float | None:
    """The penalty that predicts best: ridge by leave-one-out, logistic regression by five folds. x (n, d) standardised, y (n,).

    None where there is nothing to choose from: fewer than five rows of a class, or none with a weight.
    """
    if not classes:
        return float(RidgeCV(PENALTIES).fit(x, y, sample_weight=weight).alpha_) if len(y) > 1 and _counts(weight) else None
    if min((y == 0).sum(), (y == 1).sum()) < FOLDS or not _counts(weight):
        return None
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(x, y))
    losses = [sum(_held_out(x, y, weight, train, out, strength) for train, out in folds) for strength in PENALTIES]
    return float(PENALTIES[int(np.argmin(losses))])


def _held_out(x: Floats, y: Floats, weight: Floats | None, train: Any, out: Any, strength: float) -> float:
    inside, outside = (None, None) if weight is None else (weight[train], weight[out])
    model = _logistic(x[train], y[train], inside, strength)
    if outside is not None and not outside.sum() > 0:
        return 0.0
    share = 1.0 if outside is None else float(outside.sum())
    return share * float(log_loss(y[out], model.predict_proba(x[out])[:, 1], labels=[0.0, 1.0], sample_weight=outside))


def _counts(weight: Floats | None) -> bool:
    return weight is None or bool((weight > 0).all())


def _logistic(x: Floats, y: Floats, weight: Floats | None, strength: float) -> Any:
    return LogisticRegression(C=1.0 / strength, max_iter=1000).fit(x, y, sample_weight=weight)


@dataclass(frozen=True)
class Linear:
    """coefficients (d,) of standardised features, and a constant."""

    coefficients: Floats
    constant: float

    def minus(self, other: Linear) -> Linear:
        return Linear(self.coefficients - other.coefficients, self.constant - other.constant)

    def added_to(self, network: Network) -> None:
        """Add it to the linear path of the network, which is its only layer where nothing is hidden."""
        last = network.perceptron[-1]
        assert isinstance(last, nn.Linear)
        path = last if network.linear is None else network.linear
        with torch.no_grad():
            path.weight.add_(torch.from_numpy(self.coefficients)[None].to(path.weight))
            last.bias.add_(self.constant)


def linear_model(x: Floats, y: Floats, weight: Floats | None, strength: float, *, classes: bool) -> Linear:
    """Ridge or logistic regression on x (n, d), y (n,); of a single class nothing but 0."""
    if classes and len(np.unique(y)) < 2:
        return Linear(np.zeros(x.shape[1]), 0.0)
    model = _logistic(x, y, weight, strength) if classes else Ridge(alpha=strength).fit(x, y, sample_weight=weight)
    return Linear(np.asarray(model.coef_, dtype=np.float64).reshape(-1), float(np.asarray(model.intercept_).reshape(-1)[0]))


class Start:
    """The starts of the networks of one fit. x (n, d) standardised, y (n,) in units of the networks' scale, weight (n,) or None."""

    def __init__(self, x: Floats, y: Floats, weight: Floats | None, *, classes: bool) -> None:
        self._data = x, y, weight
        self._classes = classes
        self._penalty = penalty(x, y, weight, classes=classes)

    def begin(self, network: Network, rows: npt.NDArray[Any]) -> Linear | None:
        """Set a network that trains on these of the n rows; what it was set to, None where no penalty could be chosen."""
        if self._penalty is None:
            return None
        begun = self._model(rows)
        begun.added_to(network)
        return begun

    def finish(self, network: Network, begun: Linear | None) -> None:
        """Put the linear model of all rows into the place of the one that the network began with; what it learnt stays."""
        if begun is not None:
            self._model(np.arange(len(self._data[0]))).minus(begun).added_to(network)

    def _model(self, rows: npt.NDArray[Any]) -> Linear:
        x, y, weight = self._data
        assert self._penalty is not None
        return linear_model(x[rows], y[rows], None if weight is None else weight[rows], self._penalty, classes=self._classes)
