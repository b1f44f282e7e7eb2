"""B1, B2 and N5: from batches to the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fairopt.testing.claims.formulas import composition_bound
from proofs_checks.batches import FloatArray, IntArray, PerBatch, gap, pooled_gap, shares
from proofs_checks.claim import Claim, Exact, Generator, Measurement, worst
from proofs_checks.solver import all_of, number, proved, reals, where

B1 = """
Two groups. If n_{t,0} / n_{t,1} is the same in every batch (for conditional notions: of the cells), gap_t <= eps in every batch
implies pooled gap <= eps.
"""
B1_PROOF = "w_{t,0} = w_{t,1} = w_t, so `M_0 - M_1 = sum_t w_t (mu_{t,0} - mu_{t,1})`: a weighted mean of numbers in [-eps, eps]."
B2 = """
Scores in a box of width R, both groups present in the whole. With w_{t,g} = n_{t,g} / N_g, gap_t = |mu_{t,0} - mu_{t,1}| (0 where a
group is absent from the batch) and TV = 1/2 sum |w_{t,0} - w_{t,1}|: `|M_0 - M_1| <= sum_t min(w_{t,0}, w_{t,1}) gap_t + R TV <= (1
- TV) eps + TV R` if all gap_t <= eps. Both are reached. The form with the range of the present means of group 1 in place of R is
false: batch 1 holds only group 0 at 1, batch 2 one of each at 0: D = 1/2 against 0.
"""
B2_PROOF = """
Let m_t = min(w_{t,0}, w_{t,1}). Then `M_0 - M_1 = sum_t m_t (mu_{t,0} - mu_{t,1}) + sum_t (w_{t,0} - m_t) mu_{t,0} - sum_t (w_{t,1}
- m_t) mu_{t,1}`; an undefined mean has weight 0. The first sum is at most sum m_t gap_t. The other two have weights that sum to TV
each, so their difference is TV times the difference of two means of scores: at most R TV. Finally sum m_t = 1 - TV.
"""
N5 = """
Pathwise, both groups in every batch: `|D| <= sum_t w_{t,0} gap_t + ||w_{.,0} - w_{.,1}||_2 ||mu_{.,1} - c||_2` for every constant
c, for instance the mean of the mu_{t,1}. For iid batches of size n this is about `eps + sd(mu_{.,1}) / sqrt(n pi_0 pi_1)`: it tells
which batch size is large enough.
"""
N5_PROOF = """
`D = sum_t w_{t,0} (mu_{t,0} - mu_{t,1}) + sum_t (w_{t,0} - w_{t,1}) (mu_{t,1} - c)`, as the differences of shares sum to 0;
Cauchy-Schwarz on the second sum.
"""

Batches = list[tuple[FloatArray, IntArray]]
Bound = Callable[[list[FloatArray], list[IntArray], float], float]


def draw_batches(rng: Generator, equal: bool = False, present: bool = False) -> Batches:
    """Up to 8 batches; sizes mixed, groups missing, scores extreme or uniform; composition drifts unless ``equal``."""
    out: Batches = []
    base = rng.integers(1, 5, 2)
    for _ in range(int(rng.integers(1, 9))):
        k = int(rng.integers(1, 6))
        counts = base * k if equal else rng.integers(1 if present else 0, rng.choice([2, 5, 30]), 2)
        if counts.sum() == 0:
            continue
        codes = rng.permutation(np.repeat([0, 1], counts)).astype(np.int64)
        level = float(rng.choice([0.0, 1.0, 0.5]))
        z = np.full(codes.size, level) if rng.uniform() < 0.4 else np.clip(rng.normal(level, 0.4, codes.size) + 0.3 * codes, 0, 1)
        out.append((z, codes))
    held = np.concatenate([c for _, c in out]) if out else np.zeros(0)
    for g in (0, 1):
        if not (held == g).any():
            out.append((np.array([0.3, 0.6]), np.array([0, 1])) if present or equal else (np.array([0.3]), np.array([g])))
    return [(z, codes) for z, codes in out if not equal or codes.size != 2 or len(out) == 1 or base.tolist() == [1, 1]]


def check_equal(rng: Generator, layer: PerBatch) -> Measurement:
    """B1 on layer outputs; the pooled gap as fo.gaps says it."""
    batches = draw_batches(rng, equal=True)
    eps = float(rng.choice([0.0, 0.02, 0.1]))
    sent = layer.send(batches, eps)
    found = pooled_gap(sent, [c for _, c in batches])
    assert found is not None
    return Measurement(found, eps, 1e-15 * 8)


def outcome(batches: Batches, eps: float, layer: PerBatch) -> tuple[list[FloatArray], list[IntArray], float]:
    sent, codes = layer.send(batches, eps), [c for _, c in batches]
    found = pooled_gap(sent, codes)
    assert found is not None
    return sent, codes, found


def composition(sent: list[FloatArray], codes: list[IntArray], width: float) -> float:
    """B2's bound from the batch gaps that fo.gaps tells."""
    gaps = [gap(y, c) or 0.0 for y, c in zip(sent, codes, strict=True)]
    return float(composition_bound(shares(codes), gaps, width))


def variation_forgotten(sent: list[FloatArray], codes: list[IntArray], width: float) -> float:
    return composition(sent, codes, 0.0)


def range_of_present(sent: list[FloatArray], codes: list[IntArray], width: float) -> float:
    """The naive form: the range of the present means of group 1 in place of R."""
    means = [float(y[c == 1].mean()) for y, c in zip(sent, codes, strict=True) if (c == 1).any()]
    return composition(sent, codes, max(means) - min(means))


@dataclass(frozen=True)
class Whole:
    """The layer a batch, and how the bound is computed from what it sent."""

    bound: Bound
    layer: PerBatch = field(default_factory=PerBatch)


def check_bound(rng: Generator, part: Whole) -> Measurement:
    """The pooled gap of the layer's outputs, as ``fo.gaps`` tells it, against the bound with batch gaps; this against the coarse one."""
    eps = float(rng.choice([0.0, 0.02, 0.1]))
    sent, codes, found = outcome(draw_batches(rng), eps, part.layer)
    tv = sum(abs(a - b) for a, b in shares(codes)) / 2
    exact = part.bound(sent, codes, 1.0)
    coarse = Measurement(exact, (1 - tv) * eps + tv, 1e-12, note="(1 - TV) eps + TV R")
    return worst(Measurement(found, exact, 1e-12, note="with batch gaps"), coarse if part.bound is composition else Measurement(0.0, 1.0))


def reach(part: Whole) -> Measurement:
    """Two batches whose gaps the layer closes to eps, drifting shares, the levels at the ends of the box: both forms are reached."""
    eps = 0.1
    batches = [(np.r_[np.full(9, 1.0), np.full(1, 0.5)], np.r_[np.zeros(9, int), np.ones(1, int)]),
               (np.r_[np.full(1, 0.5), np.full(9, 0.0)], np.r_[np.zeros(1, int), np.ones(9, int)])]  # fmt: skip
    sent, codes, found = outcome(batches, eps, part.layer)
    alone = Measurement(max(gap(y, c) or 0.0 for y, c in zip(sent, codes, strict=True)), eps, 1e-12, note="batch gaps")
    ends = [(np.r_[np.full(9, 1.0), 0.9], batches[0][1]), (np.r_[0.1, np.zeros(9)], batches[1][1])]
    held, held_codes, held_found = outcome(ends, eps, part.layer)
    first = Measurement(found, part.bound(sent, codes, 1.0), 1e-12)
    return worst(first, Measurement(held_found, part.bound(held, held_codes, 1.0), 1e-12), alone)


def cauchy(sent: list[FloatArray], codes: list[IntArray], width: float) -> float:
    w = np.array(shares(codes))
    gaps = np.array([gap(y, c) or 0.0 for y, c in zip(sent, codes, strict=True)])
    means = np.array([y[c == 1].mean() for y, c in zip(sent, codes, strict=True)])
    return float(w[:, 0] @ gaps + np.linalg.norm(w[:, 0] - w[:, 1]) * np.linalg.norm(means - means.mean()))


def second_term_smaller(size: float) -> Whole:
    """What composition adds, less a part of it."""

    def bound(sent: list[FloatArray], codes: list[IntArray], width: float) -> float:
        return (1 - size) * cauchy(sent, codes, width) + size * _gaps_alone(sent, codes)

    return Whole(bound)


def _gaps_alone(sent: list[FloatArray], codes: list[IntArray]) -> float:
    return float(sum(w * (gap(y, c) or 0.0) for (w, _), y, c in zip(shares(codes), sent, codes, strict=True)))


def variation_smaller(size: float) -> Whole:
    return Whole(lambda sent, codes, width: composition(sent, codes, (1 - size) * width))


def looser(bound: Bound) -> Callable[[float], Whole]:
    """The layer leaves a batch gap that is larger than asked."""
    return lambda size: Whole(bound, PerBatch(1.0 + size))


def check_cauchy(rng: Generator, part: Whole) -> Measurement:
    """The pooled gap of the layer's outputs against the bound; the batch gaps against the tolerance."""
    eps = float(rng.choice([0.0, 0.02, 0.1]))
    sent, codes, found = outcome(draw_batches(rng, present=True), eps, part.layer)
    alone = max(gap(y, c) or 0.0 for y, c in zip(sent, codes, strict=True))
    return worst(Measurement(found, part.bound(sent, codes, 1.0), 1e-12), Measurement(alone, eps, 1e-12, note="batch gaps"))


def reach_cauchy(part: Whole) -> Measurement:
    """Shares that differ in proportion to the means of group 1: Cauchy-Schwarz holds with equality."""
    batches = [(np.r_[np.full(3, 1.0), 1.0], np.array([0, 0, 0, 1])), (np.r_[0.0, np.zeros(3)], np.array([0, 1, 1, 1]))]
    sent, codes, found = outcome(batches, 0.0, part.layer)
    return Measurement(found, part.bound(sent, codes, 1.0), 1e-12)


def prove_equal(broken: bool) -> bool:
    """Three batches of (2, 3), (4, 6), (6, 9) samples (broken: (6, 8)): gaps within eps imply pooled gap within eps, for all real means."""
    eps, *mu = reals("eps", "a0", "a1", "b0", "b1", "c0", "c1")
    counts = [(2, 3), (4, 6), (6, 9 if not broken else 8)]
    totals = [sum(c[g] for c in counts) for g in (0, 1)]
    means = [sum(number(c[g], totals[g]) * mu[2 * t + g] for t, c in enumerate(counts)) for g in (0, 1)]
    small = [all_of(mu[2 * t] - mu[2 * t + 1] <= eps, mu[2 * t + 1] - mu[2 * t] <= eps) for t in range(3)]
    return proved(all_of(means[0] - means[1] <= eps, means[1] - means[0] <= eps), *small)


def prove_composition(broken: bool) -> bool:
    """Three batches, five patterns of sizes (groups missing too), all means in [0, 1]."""
    mu = reals("a0", "a1", "b0", "b1", "c0", "c1")
    box = [all_of(m >= 0, m <= 1) for m in mu]
    for counts in (
        [(1, 2), (3, 1), (2, 2)],
        [(1, 0), (1, 1), (0, 3)],
        [(9, 1), (1, 9), (1, 1)],
        [(4, 4), (0, 1), (5, 0)],
        [(7, 2), (1, 1), (3, 8)],
    ):
        totals = [sum(c[g] for c in counts) for g in (0, 1)]
        w = [(number(a, totals[0]), number(b, totals[1])) for a, b in counts]
        gaps = [
            where(mu[2 * t] > mu[2 * t + 1], mu[2 * t] - mu[2 * t + 1], mu[2 * t + 1] - mu[2 * t]) if a and b else number(0)
            for t, (a, b) in enumerate(counts)
        ]
        d = sum(w[t][0] * mu[2 * t] - w[t][1] * mu[2 * t + 1] for t in range(3))
        bound = composition_bound(w, gaps, number(1) if not broken else number(1, 2), where)
        if not proved(all_of(d <= bound, -d <= bound), *box):
            return False
    return True


CLAIMS = (
    Claim(
        "B1",
        "equal composition carries the gap over",
        "bound",
        "textbook",
        B1,
        B1_PROOF,
        check_equal,
        PerBatch(),
        {"tolerance doubled": PerBatch(2.0)},
        deviations={"tolerance wider": lambda size: PerBatch(1.0 + size)},
        exact=Exact("three batches of (2, 3), (4, 6), (6, 9) samples, all real means", prove_equal),
    ),
    Claim(
        "B2",
        "the composition bound",
        "bound",
        "ours",
        B2,
        B2_PROOF,
        check_bound,
        Whole(composition),
        {"total variation forgotten": Whole(variation_forgotten), "range of the present means": Whole(range_of_present)},
        deviations={"total variation smaller": variation_smaller, "tolerance wider": looser(composition)},
        tight=reach,
        exact=Exact("three batches, five patterns of sizes with missing groups, all means in [0, 1]", prove_composition),
    ),
    Claim(
        "N5",
        "the batch-size law",
        "bound",
        "ours",
        N5,
        N5_PROOF,
        check_cauchy,
        Whole(cauchy),
        {"second term forgotten": Whole(lambda sent, codes, width: _gaps_alone(sent, codes))},
        tight=reach_cauchy,
        deviations={"second term smaller": second_term_smaller, "tolerance wider": looser(cauchy)},
    ),
)
