"""Frozen layers of data sets in files: by passes the shifts and bounds of all rows at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fairopt as fo
from fairopt.basics.facts import from_tensor


def people(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"race": rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1]), "code": rng.choice(["3", "4", "5"], n)})
    frame["y"], frame["income"], frame["age"] = rng.integers(0, 2, n), rng.uniform(0.2, 0.8, n), rng.normal(40, 9, n)
    frame["p"] = np.clip(rng.beta(2, 3, n) + 0.2 * (frame.race == "a"), 0.0, 1.0)
    return frame


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    frame = people(600)
    for k, (a, b) in enumerate([(0, 100), (100, 100), (100, 600)]):
        frame.iloc[a:b].to_csv(tmp_path / f"part-{k}.csv", index=False)
    return tmp_path


CASES: dict[str, tuple[Callable[[], fo.Notion], dict[str, Any]]] = {
    "parity": (lambda: fo.DemographicParity("race", tolerance=0.03), {"bounds": (0, 1)}),
    "no box": (lambda: fo.DemographicParity("race", tolerance=0.03), {}),
    "two attributes": (
        lambda: fo.DemographicParity("race", tolerance=0.03) & fo.DemographicParity("code", tolerance=0.01),
        {"bounds": (0, 1)},
    ),
    "residuals": (lambda: fo.MeanResidual("race", tolerance=0.02), {"bounds": (0, 1), "target": "y"}),
    "residuals of many": (lambda: fo.ResidualParity("race", tolerance=0.02), {"bounds": (0, 1), "target": "income"}),
    "means": (lambda: fo.GroupMeanBound("race", lower=0.4, upper=0.45), {"bounds": (0, 1), "on_unknown": "pass"}),
    "nothing to do": (lambda: fo.DemographicParity("race", tolerance=0.9), {"bounds": (0, 1)}),
}


@pytest.mark.parametrize("case", CASES)
def test_passes_find_the_shifts_of_all_rows(case: str, folder: Path) -> None:
    make, kw = CASES[case]
    by_passes, by_rows = (fo.freeze_dataset(folder, make(), score="p", confidence=0.9, rows_at_once=k, **kw) for k in (599, 600))
    frame = people(600)
    layer = fo.FairnessLayer(make(), bounds=kw.get("bounds"))
    features = {name: frame[name].tolist() for name in make().attributes}
    targets = frame[kw["target"]].to_numpy() if "target" in kw else None
    direct = layer.freeze(
        frame.p.to_numpy(), sensitive_features=features, targets=targets, confidence=0.9, on_unknown=kw.get("on_unknown", "error")
    )
    for found in (by_passes, by_rows):
        assert found.keys == direct.keys
        assert np.abs((found.shifts - direct.shifts).numpy()).max() <= 1e-12
        for mine, theirs in zip(found.guarantees, direct.guarantees, strict=True):
            one, other = vars(mine), vars(theirs)
            for name, value in other.items():
                assert one[name] == (pytest.approx(value, rel=0, abs=1e-12) if isinstance(value, float) else value), name
        settings = [from_tensor(each.setting, 1, "setting") for each in (found, direct)]
        assert len({len(one.pop("guarantees")) for one in settings}) == 1  # equal but for rounding, as above
        assert settings[0] == settings[1]
        served = [each.predict(frame.p.to_numpy(), sensitive_features=features) for each in (found, direct)]
        assert served[0] == pytest.approx(served[1], abs=1e-12)


def test_what_passes_cannot_do_is_refused_by_name(folder: Path) -> None:
    loads = "more than 599 rows; pass a larger rows_at_once= to load them all"
    parity = fo.DemographicParity("race", tolerance=0.03)
    cases: list[tuple[fo.Notion, dict[str, Any], str]] = [
        (parity, {"guarantee": 0.95}, f"guarantee: got 0.95: it draws rows, and there are {loads}"),
        (fo.DemographicParity("race", tolerance=0.0), {}, f"cannot certify this .*, and there are {loads}"),
        (fo.ScoreCovariance("age", tolerance=0.1), {}, "weight of its own a sample"),
        (fo.EqualOpportunity("race", tolerance=0.03), {"target": "y"}, "moves samples of one group by their label"),
    ]
    for notion, kw, words in cases:
        with pytest.raises(fo.UnsupportedError, match=words):
            fo.freeze_dataset(folder, notion, score="p", bounds=(0, 1), rows_at_once=599, **kw)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"confidence": 1.0}, "confidence"),
        ({"score": "q"}, "has no column 'q'"),
        ({"bounds": (1, 0)}, "bounds"),
    ]
    for kw, words in wrong:
        for limit in (0, 600):
            with pytest.raises(fo.InputError, match=words):
                fo.freeze_dataset(folder, parity, **{"score": "p", "rows_at_once": limit, **kw})
