"""The three bases, six recipes each; that with the least loss of the calibration rows is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.extras import missing
from fairopt.experiments.data.tabular import Part, Parts
from fairopt.experiments.methods.base import Goal, Predictor, Recipe, Sensitive
from fairopt.experiments.methods.network import loss
from fairopt.experiments.methods.plain import Plain

BOOSTING, NETWORK, LINEAR = "boosting", "network", "logistic"
BASES = (BOOSTING, NETWORK, LINEAR)
TREES = 150
# learning rate, leaves
BOOSTED = ((0.05, 7), (0.05, 15), (0.05, 31), (0.1, 7), (0.1, 15), (0.1, 31))
NETWORKS = tuple(
    Recipe(hidden, dropout, 60, 128, 3e-3, decay, patience=8)
    for hidden, dropout, decay in (
        ((32,), 0.1, 1e-3),
        ((32,), 0.5, 1e-3),
        ((32,), 0.5, 1e-1),
        ((64, 32), 0.1, 1e-3),
        ((64, 32), 0.5, 1e-3),
        ((128, 64), 0.3, 1e-2),
    )
)
# inverse of the ridge, in units of one row
INVERSE_RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Base:
    """predict: scores of the goal's space; recipe: of the network, else None; choice: which of the six."""

    predict: Predictor
    recipe: Recipe | None
    choice: int


def fit_base(name: str, parts: Parts, goal: Goal, seed: int) -> Base:
    """All six recipes on the training rows; the best on the calibration rows, which are ``parts.validation``."""
    if name == NETWORK:
        made: list[tuple[Predictor, Recipe | None]] = [(Plain().fit(parts, goal, recipe, seed), recipe) for recipe in NETWORKS]
    else:
        fits = _boosted if name == BOOSTING else _linear
        made = [(fits(parts, goal, seed, k), None) for k in range(6)]
    losses = [_loss(predict, parts.validation, goal) for predict, _ in made]
    best = int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))
    return Base(*made[best], best)


def _loss(predict: Predictor, part: Part, goal: Goal) -> float:
    return float(loss(predict(part.x, part.sensitive).double(), part.y.double(), goal.space))


def _boosted(parts: Parts, goal: Goal, seed: int, k: int) -> Predictor:
    """Stopped where the loss of the calibration rows is least."""
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    except ImportError as error:
        raise missing("gradient boosting needs scikit-learn", "experiments") from error
    rate, leaves = BOOSTED[k]
    values = goal.space == "value"
    kind = HistGradientBoostingRegressor if values else HistGradientBoostingClassifier
    options: dict[str, Any] = {"learning_rate": rate, "max_leaf_nodes": leaves, "early_stopping": False, "random_state": seed}
    x, y = parts.train.x.double().numpy(), parts.train.y.double().numpy()
    model = kind(max_iter=TREES, **options).fit(x, y)
    part = parts.validation
    xc, target = part.x.double().numpy(), part.y.double()
    staged = model.staged_predict(xc) if values else (p[:, 1] for p in model.staged_predict_proba(xc))
    losses = [float(loss(torch.from_numpy(np.asarray(p)), target, goal.space)) for p in staged]
    model = kind(max_iter=int(np.argmin(losses)) + 1, **options).fit(x, y)
    said: Callable[[Any], Any] = model.predict if values else lambda rows: model.predict_proba(rows)[:, 1]

    def predict(x: Tensor, sensitive: Sensitive) -> Tensor:
        return torch.from_numpy(np.array(said(x.double().numpy()), dtype=np.float64))

    return predict


def _linear(parts: Parts, goal: Goal, seed: int, k: int) -> Predictor:
    try:
        from sklearn.linear_model import LogisticRegression, Ridge
    except ImportError as error:
        raise missing("the linear base needs scikit-learn", "experiments") from error
    x, y = parts.train.x.double().numpy(), parts.train.y.double().numpy()
    values = goal.space == "value"
    model = Ridge(alpha=1 / INVERSE_RIDGES[k]) if values else LogisticRegression(C=INVERSE_RIDGES[k], max_iter=500)
    model.fit(x, y)

    def predict(x: Tensor, sensitive: Sensitive) -> Tensor:
        rows = x.double().numpy()
        return torch.from_numpy(np.array(model.predict(rows) if values else model.predict_proba(rows)[:, 1], dtype=np.float64))

    return predict
