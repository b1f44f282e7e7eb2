"""What guarantee=0.95 keeps on held-out rows of real data, and what it costs in accuracy.

    FAIROPT_DATA=... python tests/bench/guarantee_held_out.py [--dev] [--splits 5]

--dev: the sets of the protocol's `dev` stage alone (docs/experiments/PROTOCOL.md).

Gradient boosting on 40 % of the rows, calibration on 35 %, 25 % held out. A fit exceeds its tolerance where the held-out gap does, and
clearly so where the whole interval of its own audit lies above: one fit in twenty may. Rules: frozen scores (demographic parity),
and FairDecisions (demographic parity, equal opportunity), tolerance .05.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

import fairopt as fo
from fairopt.experiments.data import acs, adult, compas, credit, german, loanapp
from fairopt.experiments.data.tabular import Dataset, Parts, split

SETS: dict[str, tuple[Any, str]] = {
    "compas": (partial(compas.load, two_races=True), "race"),
    "credit": (credit.load, "sex"),
    "credit, education": (credit.load, "education"),
    "german": (german.load, "sex"),
    "loanapp": (loanapp.load, "race"),
    "acs": (acs.load, "sex"),
    "adult": (adult.load, "sex"),
}
DEV = ("credit", "credit, education", "german", "loanapp")
TOLERANCE = 0.05


def one_split(parts: Parts, attribute: str) -> Iterator[tuple[str, bool, bool, float]]:
    """Rule, whether its held-out gap exceeds the tolerance, whether clearly, and its accuracy; None where the rows were too few."""
    model = HistGradientBoostingClassifier(random_state=0).fit(parts.train.x.numpy(), parts.train.y.numpy())
    (p, y, g), (q, t, h) = (
        (model.predict_proba(part.x.numpy())[:, 1], part.y.long().numpy(), part.sensitive[attribute])
        for part in (parts.validation, parts.held_out)
    )
    for guarantee in (None, 0.95):
        words = "" if guarantee is None else ", guarantee"
        parity = fo.DemographicParity(attribute, tolerance=TOLERANCE)
        try:
            layer = fo.FairnessLayer(parity, bounds=(0, 1))
            frozen = layer.freeze(torch.from_numpy(p), sensitive_features={attribute: g}, guarantee=guarantee)
            fair = np.asarray(frozen.predict(q, sensitive_features={attribute: h}))
            yield (
                f"frozen, parity{words}",
                *_exceeds(fair, (fair >= 0.5).astype(int), "score", parity, h, t),
                float(((fair >= 0.5) == t).mean()),
            )
        except fo.InputError as error:
            print("   ", error)
        for name, notion in (("parity", parity), ("opportunity", fo.EqualOpportunity(attribute, tolerance=TOLERANCE))):
            rule = fo.FairDecisions(notion, guarantee=guarantee, random_state=0)
            try:
                rule.fit(p, y, {attribute: g})
            except fo.InputError as error:
                print("   ", error)
                continue
            yes = np.asarray(rule.decide(q, {attribute: h}))
            yield f"decisions, {name}{words}", *_exceeds(q, yes, "decision", notion, h, t), float((yes == t).mean())


def _exceeds(scores: Any, yes: Any, quantity: str, notion: fo.Notion, groups: Any, y: Any) -> tuple[bool, bool]:
    (attribute,) = notion.attributes
    audit = fo.audit(scores, notion, sensitive_features={attribute: groups}, targets=y, decisions=yes, draws=300)
    rows = [r for r in audit.gaps if r["quantity"] == quantity]
    return any(r["gap"] > TOLERANCE for r in rows), any(r["low"] is not None and r["low"] > TOLERANCE for r in rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--dev", action="store_true", help="the sets that may be looked at before the final run")
    given = parser.parse_args()
    found: dict[str, list[tuple[bool, bool, float]]] = {}
    for seed in range(given.splits):
        for load, attribute in (SETS[name] for name in (DEV if given.dev else SETS)):
            data: Dataset = load()
            for name, *told in one_split(split(data, seed, (0.4, 0.35, 0.25), official=False), attribute):
                found.setdefault(name, []).append((bool(told[0]), bool(told[1]), float(told[2])))
    for name, each in found.items():
        above, clearly, accuracy = np.array(each, dtype=np.float64).mean(0)
        print(f"{name:34} {len(each):3} fits: above the tolerance {above:.2f}, clearly {clearly:.2f}; accuracy {accuracy:.4f}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main()
