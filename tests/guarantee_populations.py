"""Populations of which everything is known, and rules that were fitted on samples of them with a guarantee: how often does it hold?

    python tests/guarantee_populations.py [POPULATIONS]

prints it for 2,000 of them, as docs/guarantee.md has it; ``tests/unit/test_guarantee.py`` asks the same.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np

import fairopt as fo

ALPHA = 0.05


class People:
    """K groups of scores in [0, 1] with labels, as atoms: what a rule gives on them is computed, not sampled."""

    def __init__(self, rng, groups, n, tiny=False):
        self.atoms = [self._law(rng) for _ in range(groups)]
        shares = rng.dirichlet(np.full(groups, 30.0))
        if tiny:
            shares[0] = 60 / n
        self.shares = shares / shares.sum()
        self.truth = [np.clip(a * rng.uniform(0.5, 1.2) + rng.uniform(-0.1, 0.2), 0.02, 0.98) for a in self.atoms]

    @staticmethod
    def _law(rng):
        kind = rng.integers(4)
        if kind == 0:
            return np.clip(rng.beta(2, 2, 300), 0, 1)
        if kind == 1:
            return (rng.random(300) < rng.uniform(0.05, 0.95)) * rng.uniform(0.2, 0.9)  # two points
        if kind == 2:
            return rng.beta(0.4, 3.0, 300)  # skew
        return np.round(rng.random(300) * 5) / 5

    def draw(self, rng, n):
        g = rng.choice(len(self.shares), n, p=self.shares)
        at = rng.integers(0, 300, n)
        z, p = np.stack(self.atoms)[g, at], np.stack(self.truth)[g, at]
        return z, (rng.random(n) < p).astype(int), g

    def names(self, g):
        """One attribute, or the intersection of two."""
        return {"g": g} if len(self.shares) % 2 else {"u": g // 2, "v": g % 2}

    def gap(self, values, event):
        """The widest gap of means of values[k] (300,) among the rows with a label."""
        weights = [np.ones(300) if event is None else t if event == 1 else 1 - t for t in self.truth]
        means = [float(np.average(v, weights=w)) for v, w in zip(values, weights, strict=True)]
        return max(means) - min(means)


def excess(seed):
    """How far one rule that was fitted with a guarantee is beyond its tolerance in the population, and the kind of rule; None: refused."""
    rng = np.random.default_rng(seed)
    kind = int(rng.integers(4))
    groups = int(rng.choice([2, 2, 3, 4, 7, 12]))
    n = int(rng.choice([300, 1500, 5000]))
    people = People(rng, groups, n, tiny=bool(rng.random() < 0.2))
    z, y, g = people.draw(rng, n)
    names = people.names(g)
    attribute = tuple(names) if len(names) > 1 else next(iter(names))
    tolerance = float(rng.choice([0.03, 0.08, 0.15]))
    everyone = [people.names(np.full(300, k)) for k in range(groups)]
    if kind == 0:
        layer = fo.FairnessLayer(fo.DemographicParity(attribute, tolerance=tolerance), bounds=(0, 1))
        try:
            frozen = layer.freeze(z, sensitive_features=names, guarantee=1 - ALPHA, seed=seed)
        except fo.InputError:
            frozen = layer.freeze(z, sensitive_features=names, guarantee=1 - ALPHA, seed=seed, on_few="tighten as far as possible")
        bound = frozen.guarantees[0].bound if frozen.guarantees else 1.0
        values = [frozen.predict(a, sensitive_features=who) for a, who in zip(people.atoms, everyone, strict=True)]
        return people.gap(values, None) - bound, "frozen"
    notion = (fo.DemographicParity, fo.EqualOpportunity, fo.EqualizedOdds)[kind - 1]
    model = fo.FairDecisions(notion(attribute, tolerance=tolerance), guarantee=1 - ALPHA, random_state=seed)
    try:
        model.fit(z, y, names)
    except fo.InputError as error:
        if "row" not in str(error):
            raise
        try:
            model.set_params(on_few="tighten as far as possible").fit(z, y, names)
        except fo.InputError:
            return None  # a group without a row for each purpose
    values = [model.predict_proba(a, who)[:, 1] for a, who in zip(people.atoms, everyone, strict=True)]
    events = {1: (None,), 2: (1,), 3: (1, 0)}[kind]
    return max(people.gap(values, e) - b.bound for e, b in zip(events, model.guarantees_, strict=True)), notion.__name__


def covered(seeds):
    found = [f for f in map(excess, seeds) if f is not None]
    return np.array([over <= 1e-9 for over, _ in found]), [kind for _, kind in found]


def main(populations: int) -> None:
    held, kinds = covered(range(1000, 1000 + populations))
    print(f"all: held in {held.mean():.4f} of {len(held)}; {populations - len(held)} refused: a group had no row for each purpose")
    for kind in sorted(set(kinds)):
        own = held[np.array(kinds) == kind]
        print(f"{kind}: held in {own.mean():.4f} of {len(own)}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
