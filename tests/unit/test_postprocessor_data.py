"""FairPostprocessor on real data, where FAIROPT_DATA has it: held-out gaps beside the raw model's and a plain freeze's."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import train_test_split

import fairopt as fo
from fairopt.experiments.data import adult, compas, credit
from fairopt.experiments.data.files import Source, present

SETS: dict[str, tuple[ModuleType, str]] = {"adult": (adult, "race"), "credit": (credit, "education"), "compas": (compas, "race")}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("cv", [None, 3])
def test_held_out_gaps(name: str, cv: int | None) -> None:
    module, attribute = SETS[name]
    if not all(present(source) for source in vars(module).values() if isinstance(source, Source)):
        pytest.skip(f"FAIROPT_DATA has no {name}")
    data = module.load()
    x, y, group = data.features, data.target.astype(int), data.sensitive[attribute]
    large = np.isin(group, [g for g in np.unique(group) if (group == g).sum() >= 300])  # smaller groups say little of a mean
    x, y, group = x[large], y[large], group[large]
    fit, out = train_test_split(np.arange(len(y)), test_size=0.3, random_state=0, stratify=y)
    notion = fo.DemographicParity(attribute, tolerance=0.02)
    base = HistGradientBoostingClassifier(max_iter=20, random_state=0)

    def widest(p: Any) -> float:
        return float(max(fo.gaps(p, notion, sensitive_features=group[out])["gap"]))

    model = base.fit(x[fit], y[fit])
    raw = model.predict_proba(x[out])[:, 1]
    frozen = fo.FairnessLayer(notion, bounds=(0, 1)).freeze(model.predict_proba(x[fit])[:, 1], sensitive_features=group[fit])
    plain = frozen.predict(raw, sensitive_features=group[out])
    fair = fo.FairPostprocessor(base, notion, cv=cv, random_state=0).fit(x[fit], y[fit], sensitive_features=group[fit])
    gap = widest(fair.predict_proba(x[out], group[out])[:, 1])
    # what the mean of the smallest group's held-out rows, and of those that calibrate it, may err by: two standard errors of each
    held = min(int((group[out] == g).sum()) for g in np.unique(group))
    calibrated = min(int((group[fit][fair.calibration_] == g).sum()) for g in np.unique(group))
    noise = 2 * 0.25 * (1 / held + 1 / calibrated) ** 0.5
    assert gap < widest(raw)
    assert gap <= 0.02 + noise
    assert gap <= widest(plain) + noise
