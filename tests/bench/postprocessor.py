"""FairPostprocessor around gradient boosting and a random forest: held-out gaps and accuracy on real sets, beside a plain freeze.

    FAIROPT_DATA=FOLDER python tests/bench/postprocessor.py [SPLITS]

70 % to fit, 30 % held out, SPLITS times (5); mean with standard error. ``gap`` is the widest gap of held-out mean probabilities between two
groups, the tolerance is 0.02. ``raw`` is the model alone; ``plain freeze`` fits the shifts on the rows that trained the model; then
FairPostprocessor with its own split (a fifth of the rows calibrates) and with five-fold cross-fitting. Sets that are absent are left out.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

import fairopt as fo
from fairopt.errors import FairoptError
from fairopt.experiments.data import adult, compas, credit
from fairopt.experiments.data.tabular import Dataset

SETS: dict[str, tuple[Callable[[], Dataset], str]] = {
    "adult, race": (adult.load, "race"),
    "credit, education": (credit.load, "education"),
    "compas, race": (compas.load, "race"),
}
TOLERANCE = 0.02
MODELS: dict[str, Callable[[int], Any]] = {
    "boosting": lambda seed: HistGradientBoostingClassifier(max_iter=100, random_state=seed),
    "forest": lambda seed: make_pipeline(SimpleImputer(), RandomForestClassifier(50, random_state=seed)),
}
COLUMNS = ("gap", "accuracy", "AUC")
Floats = npt.NDArray[np.float64]


def methods(data: Dataset, attribute: str, seed: int, kind: str) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Each method's name and figures on one split."""
    x, y, group = data.features, data.target.astype(int), data.sensitive[attribute]
    fit, out = train_test_split(np.arange(len(y)), test_size=0.3, random_state=seed, stratify=y)
    notion = fo.DemographicParity(attribute, tolerance=TOLERANCE)
    base = MODELS[kind](seed)

    def figures(p: Floats) -> tuple[float, ...]:
        gap = max(fo.gaps(p, notion, sensitive_features=group[out])["gap"])
        return float(gap), float(((p >= 0.5) == y[out]).mean()), float(roc_auc_score(y[out], p))

    model = base.fit(x[fit], y[fit])
    p = model.predict_proba(x[out])[:, 1]
    yield "raw", figures(p)
    layer = fo.FairnessLayer(notion, bounds=(0, 1))
    frozen = layer.freeze(model.predict_proba(x[fit])[:, 1], sensitive_features=group[fit])
    yield "plain freeze", figures(frozen.predict(p, sensitive_features=group[out]))
    ways: dict[str, dict[str, Any]] = {"FairPostprocessor": {}, "FairPostprocessor, cv=5": {"cv": 5}}
    for name, options in ways.items():
        fair = fo.FairPostprocessor(base, notion, random_state=seed, **options).fit(x[fit], y[fit], sensitive_features=group[fit])
        yield name, figures(fair.predict_proba(x[out], group[out])[:, 1])


def main(splits: int) -> None:
    torch.set_num_threads(1)
    print(f"| set | model | method | {' | '.join(COLUMNS)} |")
    print(f"|---|---|---|{'---|' * len(COLUMNS)}")
    for name, (load, attribute) in SETS.items():
        try:
            data = load()
        except FairoptError as absent:
            print(f"{name} is left out: {absent}".splitlines()[0])
            continue
        found: dict[str, list[tuple[float, ...]]] = {}
        for seed in range(splits):
            for kind in MODELS:
                for method, row in methods(data, attribute, seed, kind):
                    found.setdefault(f"{kind} | {method}", []).append(row)
        for method, rows in found.items():
            cells = [f"{statistics.mean(c):.3f} ± {statistics.stdev(c) / len(rows) ** 0.5:.3f}" for c in zip(*rows, strict=True)]
            print(f"| {name} | {method} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
