"""FairClassifier beside logistic regression on 1,989 mortgage applications: the table of docs/estimators.md.

    python tests/bench/estimators_loanapp.py

Ten splits, 70 % to fit and 30 % held out. A row is a mean over the splits, with its standard error. Columns: accuracy and AUC; gap of mean
probabilities and gap of decisions, each the widest between two of three races. Held-out targets enter the figures and nothing else.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fairopt as fo
from fairopt.experiments.data import loanapp
from fairopt.training import FairClassifier

SPLITS = range(10)
NOTION = fo.DemographicParity("race", tolerance=0.05)
RECIPE: dict[str, Any] = {"hidden": (32,), "dropout": 0.5, "epochs": 200, "batch_size": None, "learning_rate": 3e-3}
COLUMNS = ("accuracy", "AUC", "gap of means", "gap of decisions")
Floats = npt.NDArray[np.float64]


def gap(values: Floats, race: npt.NDArray[Any]) -> float:
    """The widest gap of the means of ``values`` (n,) between two races."""
    return float(max(fo.gaps(values, NOTION, sensitive_features={"race": race})["gap"]))


def figures(p: Floats, yes: npt.NDArray[np.bool_], y: npt.NDArray[Any], race: npt.NDArray[Any]) -> tuple[float, ...]:
    return float((yes == y).mean()), float(roc_auc_score(y, p)), gap(p, race), gap(yes.astype(np.float64), race)


def methods(seed: int) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Each method's name and figures on one split."""
    data = loanapp.load()
    race, y = data.sensitive["race"], data.target.astype(int)
    fit, out = train_test_split(np.arange(len(y)), test_size=0.3, random_state=seed, stratify=y)
    x = SimpleImputer().fit(data.features[fit]).transform(data.features)
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x[fit], y[fit])
    p = logistic.predict_proba(x[out])[:, 1]
    yield "logistic regression", figures(p, p >= 0.5, y[out], race[out])
    bounds = (1e-4, 1 - 1e-4)
    p = fo.project(torch.from_numpy(p), NOTION, sensitive_features={"race": race[out]}, bounds=bounds).numpy()
    yield "logistic regression, projected", figures(p, p >= 0.5, y[out], race[out])
    wide = FairClassifier(fo.DemographicParity("race", tolerance=0.9), random_state=seed, **RECIPE)
    p = wide.fit(x[fit], y[fit], sensitive_features=race[fit]).predict_proba(x[out], race[out])[:, 1]
    yield "FairClassifier, tolerance 0.9", figures(p, p >= 0.5, y[out], race[out])
    for calibration in (0.2, 0.4):
        model = FairClassifier(NOTION, random_state=seed, calibration_fraction=calibration, thresholds="groups", **RECIPE)
        model.fit(x[fit], y[fit], sensitive_features=race[fit])
        p = model.predict_proba(x[out], race[out])[:, 1]
        name = f"FairClassifier, calibration {calibration}"
        yield name, figures(p, p >= 0.5, y[out], race[out])
        yield f"{name}, thresholds by group", figures(p, model.predict(x[out], race[out]) == 1, y[out], race[out])
        yield f"{name}, decide", figures(p, model.decide(x[out], race[out], random_state=0) == 1, y[out], race[out])
        p = model.transduce(x[out], race[out])[:, 1]
        yield f"{name}, transduce", figures(p, p >= 0.5, y[out], race[out])


def main() -> None:
    torch.set_num_threads(1)
    found: dict[str, list[tuple[float, ...]]] = {}
    for seed in SPLITS:
        for name, row in methods(seed):
            found.setdefault(name, []).append(row)
    print(f"| {' | '.join(('method', *COLUMNS))} |")
    print(f"|---|{'---|' * len(COLUMNS)}")
    for name, rows in found.items():
        cells = [f"{statistics.mean(c):.3f} ± {statistics.stdev(c) / len(rows) ** 0.5:.3f}" for c in zip(*rows, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
