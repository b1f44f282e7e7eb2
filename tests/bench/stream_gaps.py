"""The gap of everything that was sent, under fairopt's rule and the paper's, on the kinds of stream with two groups; tolerance 0.05.

    python tests/bench/stream_gaps.py [--sizes 1 64] [--seeds 3] [--kinds drift]

Means over the seeds. The paper's rule keeps the mean of the gaps within batches, which the last column shows.
"""

from __future__ import annotations

import argparse
import statistics

from fairopt.basics.table import Table
from fairopt.experiments.data.streams import KINDS, TOLERANCE, stream
from fairopt.streaming import PooledParity, PrimalDual, StreamReport, parity

TWO_GROUPS = tuple(kind for kind in KINDS if kind != "three")


def sent(controller: PooledParity | PrimalDual, kind: str, seed: int, size: int) -> StreamReport:
    """The report of ``controller`` once the whole stream has been sent in batches of ``size``."""
    scores, groups = (column.tolist() for column in stream(kind, seed))
    for k in range(0, len(scores), size):
        z, g = scores[k : k + size], groups[k : k + size]
        controller.step(z[0] if size == 1 else z, sensitive_features=g[0] if size == 1 else g)
    return controller.report()


def row(kind: str, size: int, seeds: int) -> tuple[str, int, float, float, float]:
    """Kind, batch size, gap at the end under both rules, and the mean gap of batches under the paper's."""
    family = parity("g", tolerance=TOLERANCE)
    ours = [sent(PooledParity(family, bounds=(0, 1)), kind, seed, size).pooled_gap or 0.0 for seed in range(seeds)]
    theirs = [sent(PrimalDual(family, bounds=(0, 1), b_tau=65), kind, seed, size) for seed in range(seeds)]
    means = (ours, [told.pooled_gap or 0.0 for told in theirs], [told.extra["batch_gap"] for told in theirs])
    end, paper, batch = (round(statistics.mean(values), 4) for values in means)
    return kind, size, end, paper, batch


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=list(TWO_GROUPS), choices=TWO_GROUPS)
    asked = parser.parse_args()
    rows = tuple(row(kind, size, asked.seeds) for kind in asked.kinds for size in asked.sizes)
    print(Table(("stream", "batch", "PooledParity", "PrimalDual", "PrimalDual, mean gap of batches"), rows))


if __name__ == "__main__":
    main()
