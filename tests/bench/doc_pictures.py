"""The pictures of docs/decisions.md and docs/guarantee.md.

    python tests/bench/doc_pictures.py

decisions.png: 1,989 mortgage applications, scores of a logistic regression out of fold; the curves of three races, and the points that
FairDecisions takes for equalized odds within .05. guarantee.png: 400 calibration samples of 4,000 rows from one known population of two
groups (600 and 3,400 rows on average); the gap that the frozen scores then have in the population itself, tolerance .05.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fairopt as fo
from fairopt.basics.figures import drawing, legend, png
from fairopt.experiments.data import loanapp
from fairopt.training.decisions.curves import curve

DOCS = Path(__file__).parents[2] / "docs"
COLOURS = ("#1b6ca8", "#d95f02", "#5a8f29")


def decisions() -> bytes:
    data = loanapp.load()
    race, y = data.sensitive["race"], data.target.astype(int)
    model = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=1000))
    p = cross_val_predict(model, data.features, y, cv=5, method="predict_proba")[:, 1]
    rule = fo.FairDecisions(fo.EqualizedOdds("race", tolerance=0.05), random_state=0).fit(p, y, {"race": race})
    yes = rule.predict_proba(p, {"race": race})[:, 1]
    with drawing("the picture needs", "audit") as canvas:
        figure = canvas(figsize=(6.4, 4.6), layout="tight")
        axes = figure.add_subplot()
        handles: list[Any] = []
        for colour, name in zip(COLOURS, np.unique(race), strict=True):
            inside = race == name
            c = curve(p[inside], y[inside].astype(float), whole=True)
            (line,) = axes.step(c.yes[0], c.yes[1], where="post", color=colour, lw=1.2)
            for values, mark in ((p >= 0.5, "o"), (yes, "*")):
                at = [values[inside & (y == label)].mean() for label in (0, 1)]
                axes.plot(*at, mark, color=colour, ms=13 if mark == "*" else 7, mec="black", mew=0.6)
            handles.append(line)
        axes.set_xlabel("share of rejected applications that the rule approves")
        axes.set_ylabel("share of approved applications that the rule approves")
        axes.set_title("circles: one threshold, 1/2; stars: equalized odds within .05")
        legend(axes, handles, [str(n) for n in np.unique(race)], loc="lower right")
        return png(figure, dpi=110)


def guarantee(samples: int = 400) -> bytes:
    rng = np.random.default_rng(0)
    atoms = [rng.beta(2.0, 3.0, 2000), rng.beta(3.0, 2.0, 2000)]
    layer = fo.FairnessLayer(fo.DemographicParity("g", tolerance=0.05), bounds=(0, 1))
    gaps: dict[str, list[float]] = {"without": [], "guarantee=0.95": []}
    for seed in range(samples):
        g = (rng.random(4000) < 0.85).astype(int)
        z = np.where(g == 0, rng.choice(atoms[0], 4000), rng.choice(atoms[1], 4000))
        for name, guarantee in (("without", None), ("guarantee=0.95", 0.95)):
            frozen = layer.freeze(torch.from_numpy(z), sensitive_features={"g": g}, guarantee=guarantee, seed=seed)
            means = [float(frozen.predict(a, sensitive_features={"g": np.full(2000, k)}).mean()) for k, a in enumerate(atoms)]
            gaps[name].append(max(means) - min(means))
    with drawing("the picture needs", "audit") as canvas:
        figure = canvas(figsize=(6.4, 3.6), layout="tight")
        axes = figure.add_subplot()
        handles: list[Any] = []
        for colour, (_, found) in zip(COLOURS, gaps.items(), strict=False):
            bars: Any = axes.hist(found, bins=np.linspace(0, 0.08, 49).tolist(), color=colour, alpha=0.6)[2]
            handles.append(bars[0])
        axes.axvline(0.05, color="black", lw=1)
        axes.set_xlabel("gap in the population (tolerance 0.05)")
        axes.set_ylabel("calibration samples")
        shares = [f"{name}: {np.mean(np.array(found) > 0.05):.1%} above" for name, found in gaps.items()]
        legend(axes, handles, shares, loc="upper left")
        return png(figure, dpi=110)


if __name__ == "__main__":
    (DOCS / "decisions.png").write_bytes(decisions())
    (DOCS / "guarantee.png").write_bytes(guarantee())
