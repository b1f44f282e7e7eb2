"""What a guarantee of .95 takes off a tolerance of .05, and what no method could do without: the table of docs/guarantee.md.

    python tests/bench/guarantee_margins.py

Half of the groups are to have the highest mean that the tightened tolerance allows, half the lowest: the worst case. Decisions: from the
exact laws, no data are drawn. Scores: fits of drawn samples, whose variances the fit has to bound; the mean margin of ten, and the largest.

limit: what would be taken off if all rows set levels, and these erred by a normal law of known variance, all pairs at once: no interval and
no test that holds for every population can take less, where many rows calibrate.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np

import fairopt as fo
from fairopt.basics.arrays import Array
from fairopt.layer.levels import RankLaw, Wanted, design_size, tightest

TOLERANCE, ALPHA, SAMPLES = 0.05, 0.05, 10
GROUPS = ([1000, 7000], [4000, 4000], [2000] * 4, [1000] * 8)
RATES = (0.5, 0.3, 0.15)
SCORES = {0.25: (1.5, 1.5), 0.15: (5.05, 5.05)}  # deviation -> a beta law that has it
DRAWS = 200_000


def sides(units: int) -> Array:
    return np.where(np.arange(units) < units // 2, -1.0, 1.0)


def of_decisions(sizes: Sequence[int], rate: float) -> str:
    units = len(sizes)
    rows = [n - design_size(n) for n in sizes]
    left = np.array([np.eye(units)[a] - np.eye(units)[b] for a in range(units) for b in range(units) if a != b])
    pairs = Wanted(np.arange(units), left, np.full(len(left), TOLERANCE), ("pair",) * len(left))

    def laws(wanted: Array) -> list[RankLaw]:
        return [RankLaw(round(t * (n + 1)), n) for t, n in zip(wanted.tolist(), rows, strict=True)]

    found = tightest(lambda margin: rate + (TOLERANCE - margin) / 2 * sides(units), laws, pairs, ALPHA, TOLERANCE)
    return "too few" if found is None else f"{found.margin:.4f}"


def of_scores(sizes: Sequence[int], deviation: float) -> str:
    group = np.repeat(np.arange(len(sizes)), sizes)
    layer = fo.FairnessLayer(fo.DemographicParity("group", tolerance=TOLERANCE), bounds=(0, 1))
    taken = []
    for seed in range(SAMPLES):
        drawn = np.random.default_rng(seed).beta(*SCORES[deviation], len(group)) + 0.04 * sides(len(sizes))[group]
        try:
            scores = np.clip(drawn, 0.0, 1.0)
            (promise,) = layer.freeze(scores, sensitive_features={"group": group}, guarantee=1 - ALPHA, seed=seed).guarantees
        except fo.InputError:
            return "too few"
        assert promise.margin is not None
        taken.append(promise.margin)
    return f"{np.mean(taken):.4f} ({max(taken):.4f})"


def limit(sizes: Sequence[int], centre: float, deviation: Callable[[Array], Array]) -> str:
    """The least margin for which normal errors of all groups' means leave the gap within the tolerance in 95 % of samples."""
    noise = np.random.default_rng(0).normal(size=(DRAWS, len(sizes)))

    def fails(margin: float) -> bool:
        targets = centre + (TOLERANCE - margin) / 2 * sides(len(sizes))
        seen = np.ptp(targets + noise * deviation(targets) / np.sqrt(np.array(sizes)), axis=1)
        return bool((seen > TOLERANCE).mean() > ALPHA)

    if fails(TOLERANCE):
        return "too few"
    low, high = 0.0, TOLERANCE
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if fails(middle) else (low, middle)
    return f"{high:.4f}"


def main() -> None:
    for sizes in GROUPS:
        for rate in RATES:
            print(f"{sizes} decisions at {rate}: {of_decisions(sizes, rate)}, limit {limit(sizes, rate, lambda t: np.sqrt(t * (1 - t)))}")
        for deviation in SCORES:
            known = np.full(len(sizes), deviation)
            least = limit(sizes, 0.5, lambda _, known=known: known)  # type: ignore[misc]
            print(f"{sizes} scores of deviation {deviation}: {of_scores(sizes, deviation)}, limit {least}", flush=True)
    ranges = np.ptp(np.random.default_rng(0).binomial(1000, 0.5, (100_000, 8)) / 1000, axis=1)
    print(f"eight groups of 1,000 with one rate, 1/2: more than {TOLERANCE} apart in {np.mean(ranges > TOLERANCE):.2f} of samples")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
