"""What a guarantee of .95 takes off a tolerance of .05: the table of docs/guarantee.md, from the laws alone (no data are drawn).

    python tests/bench/guarantee_margins.py

Half of the groups are to have the highest mean that the tightened tolerance allows, half the lowest: the worst case. Means of scores: as
if their standard deviation were known; a fit bounds it, and lists its margins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fairopt.layer.levels import Law, MeanLaw, RankLaw, Wanted, design_size, tightest

TOLERANCE, ALPHA = 0.05, 0.05
GROUPS = ([1000, 7000], [4000, 4000], [2000] * 4, [1000] * 8)


def margin(sizes: Sequence[int], rate: float, deviation: float | None) -> str:
    """The margin for groups of these sizes; decisions where ``deviation`` is None."""
    units = len(sizes)
    rows = [n - design_size(n) for n in sizes]
    left = np.array([np.eye(units)[a] - np.eye(units)[b] for a in range(units) for b in range(units) if a != b])
    pairs = Wanted(np.arange(units), left, np.full(len(left), TOLERANCE), ("pair",) * len(left))

    def targets(margin: float) -> np.ndarray:
        return rate + (TOLERANCE - margin) / 2 * np.where(np.arange(units) < units // 2, -1.0, 1.0)

    def laws(wanted: np.ndarray) -> list[Law]:
        if deviation is None:
            return [RankLaw(round(t * (n + 1)), n) for t, n in zip(wanted.tolist(), rows, strict=True)]
        return [MeanLaw(t, n, deviation**2, 0.0, 1.0) for t, n in zip(wanted.tolist(), rows, strict=True)]

    found = tightest(targets, laws, pairs, ALPHA, TOLERANCE)
    return "too few" if found is None else f"{found.margin:.4f}"


def main() -> None:
    for sizes in GROUPS:
        decisions = [margin(sizes, rate, None) for rate in (0.5, 0.3, 0.15)]
        scores = [margin(sizes, 0.5, deviation) for deviation in (0.25, 0.15)]
        print(sizes, "decisions at .5, .3, .15:", *decisions, " scores of deviation .25, .15:", *scores)
    ranges = np.ptp(np.random.default_rng(0).binomial(1000, 0.5, (100_000, 8)) / 1000, axis=1)
    print(f"eight groups of 1,000 with one rate, 1/2: more than {TOLERANCE} apart in {np.mean(ranges > TOLERANCE):.2f} of samples")


if __name__ == "__main__":
    main()
