"""P5: merging the states of workers; what unseen samples cost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fairopt.streaming import PooledParity, parity
from fairopt.streaming.exact import Exact as ExactSum
from proofs_checks.claim import Claim, Generator, Measurement, worst
from proofs_checks.claims.p1_explicit import Rule

STATEMENT = """
The states of workers add: counts and exact sums. Merging in any order and grouping gives the same bits, and the pooled gap of
everything sent. For the rule of P1 that has not seen d_{s,g} samples of group g at time s: `|D_t| <= eps + pi_t R/(kappa sqrt N_t)
+ max_s (N_s/N_t)(J_s + R sum_g d_{s,g}/N_{s,g})`. The cost is not covered: feedback that is late by d samples runs into a limit
cycle (16 times the cost at d = 1,000) unless the gain is `min(kappa sqrt N, N pi_0 pi_1 / (e d))`, which
`PooledParity(staleness=d)` takes.
"""
PROOF = """
An exact sum is determined by the true sum alone (the nearest float, the nearest to what is left, ...), so it does not depend on the
order. The unseen samples change a group's mean by at most R d_g / N_g; P1's proof then holds with D known to that accuracy.
Linearising the delayed loop, d' = -g d(t - delay): stable without oscillation iff g * delay <= 1/e, with g = gain/(N pi_0 pi_1).
"""
Merge = Callable[[PooledParity, PooledParity], None]


def merge(into: PooledParity, other: PooledParity) -> None:
    into.merge(other)


def merge_rounded(into: PooledParity, other: PooledParity) -> None:
    """Merges and keeps the head of each sum alone: a float sum, whose rounding depends on the order."""
    into.merge(other)
    for component in into._components.values():
        for g, total in enumerate(component.sums):
            rounded: ExactSum = (total[0],)
            component.sums[g] = rounded


def merge_counts_only(into: PooledParity, other: PooledParity) -> None:
    """Forgets the other's samples."""


def sums_of(controller: PooledParity) -> dict[object, tuple[float, tuple[float, ...]]]:
    """Count and exact sum by group."""
    (state,) = controller.state_dict()["components"]
    return {g: (n, tuple(s)) for g, n, s in zip(state["groups"], state["counts"], state["sums"], strict=True)}


def check(rng: Generator, join: Merge) -> Measurement:
    """Four workers with scores of very different sizes: three orders of merging; the gap of the union; the delayed explicit rule."""
    scale = 10.0 ** float(rng.integers(0, 12))
    workers = []
    sent: list[tuple[np.typing.NDArray[np.float64], np.typing.NDArray[np.int64]]] = []
    for _ in range(4):
        n = int(rng.integers(1, 30))
        codes = rng.integers(0, 3, n)
        z = rng.uniform(-1, 1, n) * 10.0 ** rng.integers(-3, 4, n)
        workers.append((z * scale, codes))

    def fresh() -> list[PooledParity]:
        out = []
        for z, codes in workers:
            c = PooledParity(parity("g", tolerance=0.05), bounds=(-1e16, 1e16), groups=[0, 1, 2])
            y = np.asarray(c.step(z, sensitive_features=codes).scores)
            if len(sent) < 4:
                sent.append((y, codes))
            out.append(c)
        return out

    a, b, c = fresh(), fresh(), fresh()
    for k in (1, 2, 3):
        join(a[0], a[k])
    for k in (3, 1, 2):
        join(b[0], b[k])
    join(c[2], c[3])
    join(c[0], c[1])
    join(c[0], c[2])
    same = Measurement(float(not sums_of(a[0]) == sums_of(b[0]) == sums_of(c[0])), 0.0, note="the same bits in every order")
    y, codes = np.concatenate([s for s, _ in sent]), np.concatenate([g for _, g in sent])
    means = [y[codes == g].mean() for g in np.unique(codes)]
    told = a[0].report().pooled_gaps["DemographicParity(g)"]
    gap = Measurement(abs((told or 0.0) - (max(means) - min(means))), 0.0, 1e-9 * float(np.abs(y).max()), note="gap of the union")
    return worst(same, gap, Rule().run(rng, late=int(rng.choice([3, 20, 80]))))


CLAIMS = (
    Claim(
        "P5",
        "merging workers: exact, and the bound with unseen samples",
        "bound",
        "ours",
        STATEMENT,
        PROOF,
        check,
        merge,
        {"float sums": merge_rounded, "other worker forgotten": merge_counts_only},
    ),
)
