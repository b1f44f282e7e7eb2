"""Q3: levels that hold for people. Targets from a few calibration rows, levels from the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import comb, exp, log, sqrt
from typing import Any

import numpy as np
from scipy.special import betainc

from fairopt.layer import guaranteed_shifts, levels
from fairopt.training.decisions import fit as decision_fit
from fairopt.training.decisions.rule import Rule
from proofs_checks.batches import FloatArray
from proofs_checks.claim import Claim, Generator, Measurement, worst

STATEMENT = """
One unit (a group, or its positives), n level rows that are i.i.d. draws of it, a family of rules that grow along one number s, with
population mean M(s); the target was chosen without the level rows. (i) Ranks: s at the k-th largest of n scores, ties broken by
drawn numbers: M(s) has the law Beta(k, n + 1 - k), whatever the population. The same for the shift s of y = clip(z - s, lb, ub) that is
the k-th largest of z - v, v drawn evenly over the box. (ii) Means: s with mean over the level rows equal to t, y in [lb, ub] of variance
at most v: `P(M >= t + e)` is at most `exp(-n kl(k / n, p))` and `inf over x < k of E max(B - x, 0)^2 / (k - x)^2`, B binomial of n and p,
b = t + e - lb, p = v / (b^2 + v), k = n (v + b e) / (b^2 + v), and likewise downwards (`tails.tail_of_mean`).
(iii) Rows c . M <= limit over one or two units each, of independent laws: some row fails with at most the sum of its probabilities, and
`levels.failure` is at least that sum. (iv) `levels.variance_bound` is below the variance with probability at most delta. So a rule whose
targets make `failure` at most alpha meets all rows in the population at once with probability 1 - alpha over the calibration rows. Where
variances decide: targets lie on a path that the few rows chose, from the strictest rule on, and any margin may be taken whose `failure` is
at most what alpha is left after the variances, at their bounds and with each unit's largest target on the path up to there where a row
wants it small, its smallest where a row wants it large; or the strictest rule, for the limits that it meets at that risk.
"""
PROOF = """
(i) With ties broken, the share of the population that is at or above a row is uniform on [0, 1], for n rows independently; the k-th
largest score has the k-th smallest share, whose law is Beta(k, n + 1 - k). The rule says yes to exactly that share. For shifts:
P(v < clip(z - s) - lb) = (clip(z - s) - lb) / (ub - lb) for v even on the box, and v < clip(z - s) - lb is z - v - lb > s.
(ii) M is continuous and falls in s. Let s' be the largest s with M(s') = t + e: no data enter it. M(s) > t + e means s < s', and then
the rows' mean at s' is at most their mean at s, which is t: it is e below its expectation. At one fixed s' that is Hoeffding 1963,
theorem 3, and Bentkus 2004, theorem 1.1: for variables at most b below their mean no sum has a larger E max(sum - x, 0)^2 than that of
variables that are b or -v / b away, and Markov's inequality does the rest. Both bounds rise with the variance. (iii) Union bound; two
independent terms are cut into pieces, each taken at its harmful end, their laws replaced by such that dominate them. (iv) Ville's
inequality for the capital of a bettor against "the mean of (x - c)^2 is m or more", which is a supermartingale there and rises with m.
The path: M at a unit's level rises with its target, so the event E(w) that some row fails with the units' largest and smallest targets up
to the place w grows with w, and holds the failure of the rule at w. P(E(w)) knows no level row. Where the bounds of the variances hold,
`failure` at w is at least P(E(w)), so that a place that is taken has P(E(w)) at most the risk, and its failure lies in the union of all
such E(w), which grow, and whose union has at most the risk. Likewise the limits of the strictest rule, whose failures shrink as they widen.
All is conditional on the rows that chose targets and on how many rows each unit has: given these, level rows are i.i.d. in their units.
"""
LOOSE = """
The bounds here are on the sampling error of a simulation (200 draws, one in a thousand million): the laws of ranks are equalities, those
of means are up to e^2 / 2 times those of the worst population.
"""
DRAWS = 200
RARE = log(2e9)  # a simulation is off by more than what is allowed for once in a thousand million
NOISE = sqrt(RARE / (2 * DRAWS))  # of a distribution: Dvoretzky, Kiefer, Wolfowitz; Massart


def above(seen: float, bound: float, draws: int) -> float:
    """How far a share ``seen`` in draws is above the probability ``bound``, in units of what chance may add (Bernstein)."""
    return (seen - bound) / (sqrt(2 * bound * RARE / draws) + 2 * RARE / (3 * draws))


def ranked(scores: FloatArray, k: int, rng: Generator) -> Rule:
    return decision_fit.at_rank(scores, k, rng)


def ties_together(scores: FloatArray, k: int, rng: Generator) -> Rule:
    return Rule(np.array([np.sort(scores)[len(scores) - k]]), np.ones(1))


@dataclass(frozen=True)
class Part:
    """The code under check; ``size`` tells the laws of more rows than there are, ``spread`` of a smaller variance, the part ``left_out`` of
    the union is that of its worst row, bounds of variances are told too small by the part ``bold``."""

    rank: Any = field(default=ranked)
    size: float = 1.0
    spread: float = 1.0
    left_out: float = 0.0
    bold: float = 0.0


def population(rng: Generator) -> FloatArray:
    """400 atoms in [0, 1]: even, two points, skew, few values, nearly constant, lumps at the ends."""
    kind = int(rng.integers(6))
    if kind == 0:
        return rng.random(400)
    if kind == 1:
        return np.asarray((rng.random(400) < rng.uniform(0.02, 0.98)).astype(np.float64))
    if kind == 2:
        return np.asarray(rng.beta(rng.uniform(0.2, 1.0), rng.uniform(1.0, 8.0), 400))
    if kind == 3:
        return np.round(rng.random(400) * 4) / 4
    if kind == 4:
        return np.clip(rng.normal(rng.random(), 0.02, 400), 0, 1)
    return np.clip(rng.normal(0.5, 0.6, 400), 0, 1)


def check(rng: Generator, part: Part) -> Measurement:
    """Ranks of scores and of shifts against their law, tails of means against their bound, joint failure, and the bound of a variance; the
    laws against the statement's formulas."""
    return worst(_ranks(rng, part), _shifts(rng, part), _means(rng, part), _joint(rng, part), _variance(rng, part), _formulas(rng, part))


def _ranks(rng: Generator, part: Part) -> Measurement:
    atoms, n = population(rng), int(rng.integers(2, 60))
    k = int(rng.integers(1, n + 1))
    law = levels.RankLaw(max(1, round(k * part.size)), round(n * part.size))
    found = np.array([part.rank(rng.choice(atoms, n), k, rng)(atoms).mean() for _ in range(DRAWS)])
    return Measurement(_distance(found, law), NOISE, note="ranks of scores")


def _shifts(rng: Generator, part: Part) -> Measurement:
    atoms, n = population(rng), int(rng.integers(2, 60))
    k = int(rng.integers(1, n + 1))
    law = levels.RankLaw(max(1, round(k * part.size)), round(n * part.size), 0.0, 1.0)
    data: Any = _box(atoms)
    shifts = np.array([guaranteed_shifts.at_rank(rng.choice(atoms, n), replace(law, k=k, n=n), data, rng) for _ in range(DRAWS)])
    found = np.clip(atoms - shifts[:, None], 0.0, 1.0).mean(1)
    return Measurement(_distance(found, law), NOISE, note="ranks of shifts")


def _box(z: FloatArray) -> guaranteed_shifts.Calibration:
    unused: Any = None
    return guaranteed_shifts.Calibration(z, unused, (), 0.0, 1.0, (0.0, 1.0), unused, unused)


def _distance(found: FloatArray, law: levels.RankLaw) -> float:
    """Kolmogorov's, of draws (D,) from a law."""
    ordered = np.sort(found)
    below, steps = law.below(ordered), np.arange(len(ordered) + 1) / len(ordered)
    return float(np.maximum(np.abs(below - steps[:-1]), np.abs(below - steps[1:])).max())


def _means(rng: Generator, part: Part) -> Measurement:
    atoms, n, target = population(rng), int(rng.integers(2, 60)), float(rng.uniform(0.02, 0.98))
    variance = max(float(atoms.var()), 1e-12) * part.spread
    law = levels.MeanLaw(target, round(n * part.size), variance, 0.0, 1.0)
    data = _box(atoms)
    shifts = np.array([guaranteed_shifts.at_mean(rng.choice(atoms, n), target, data) for _ in range(DRAWS)])
    found = np.clip(atoms - shifts[:, None], 0.0, 1.0).mean(1)
    at = target + np.linspace(0.0, 5.0, 40) * sqrt(variance / n)
    over = max(above(float((found > x).mean()), float(law.above(np.array([x]))[0]), DRAWS) for x in at)
    under = max(above(float((found < x).mean()), float(law.below(np.array([x]))[0]), DRAWS) for x in 2 * target - at)
    return Measurement(max(over, under), 1.0, note="tails of means")


def _joint(rng: Generator, part: Part) -> Measurement:
    """Pairs of up to 12 units with ranks, in one of which a row fails."""
    units = int(rng.integers(2, 13))
    sizes = rng.integers(20, 4000, units)
    ranks = np.clip(np.rint(rng.uniform(0.3, 0.32, units) * (sizes + 1)), 1, sizes).astype(int)
    laws = [levels.RankLaw(int(k), int(n)) for k, n in zip(ranks, sizes, strict=True)]
    limit = float(rng.uniform(0.01, 0.3))
    left = np.array([np.eye(units)[a] - np.eye(units)[b] for a in range(units) for b in range(units) if a != b])
    rows = levels.Wanted(np.arange(units), left, np.full(len(left), limit), ("row",) * len(left))
    told = _told(laws, rows, part)
    drawn = rng.beta(ranks, sizes + 1 - ranks, (10 * DRAWS, units))
    seen = float((np.ptp(drawn, axis=1) > limit).mean())
    return Measurement(above(seen, min(told, 1.0), 10 * DRAWS), 1.0, note="all rows together")


def _told(laws: Sequence[levels.Law], rows: levels.Wanted, part: Part) -> float:
    told = levels.failure(laws, rows)
    return told if not part.left_out else (1 - part.left_out) * told + part.left_out * max(_alone(rows, laws))


def _formulas(rng: Generator, part: Part) -> Measurement:
    """The law of ranks as a binomial's tail, that of means as the statement has it, the union against the sum of exact probabilities, and
    the capital at the bound of a variance."""
    n = int(rng.integers(5, 60))
    k, x = int(rng.integers(1, n + 1)), float(rng.uniform(0.02, 0.98))
    law = levels.RankLaw(max(1, round(k * part.size)), round(n * part.size))
    tail = sum(comb(n, j) * x**j * (1 - x) ** (n - j) for j in range(k, n + 1))  # P(Beta(k, n + 1 - k) <= x)
    found = [Measurement(abs(float(law.below(np.array([x]))[0]) - tail), 0.0, 1e-9, note="the law of a rank")]
    t, e, v = float(rng.uniform(0.1, 0.8)), float(rng.uniform(0.001, 0.1)), float(rng.uniform(1e-3, 0.09))
    b = t + e
    told = float(levels.MeanLaw(t, round(n * part.size), v * part.spread, 0.0, 1.0).above(np.array([t + e]))[0])
    if v <= b * (1 - b):
        least, at = _mean_tail(n, e, b, v)
        found.append(Measurement(least * (1 - 1e-3), told, note="the law of a mean is no less than the statement's"))
        found.append(Measurement(abs(told - at), 0.0, 1e-7, note="the law of a mean"))  # rounded upwards
    return worst(*found, _union(rng, part), _capital(rng, part))


def _mean_tail(n: int, e: float, b: float, v: float) -> tuple[float, float]:
    """The statement's bound, its infimum by a fine grid; and with x where fairopt takes it, at the best of a normal law or far below
    (Cantelli's inequality)."""
    p, k = v / (b * b + v), n * (v + b * e) / (b * b + v)
    share = k / n
    first = exp(-n * (share * log(share / p) + ((1 - share) * log((1 - share) / (1 - p)) if share < 1 else 0.0)))
    chances = np.array([comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(n + 1)])
    deviation = sqrt(n * p * (1 - p))
    z = (k - n * p) / deviation
    gaps = np.append(np.geomspace(1e-2, 1e3, 1000), 4 / (z + sqrt(z * z + 4)))[:, None] * deviation
    second = (np.maximum(np.arange(n + 1) - k + gaps, 0.0) ** 2 @ chances) / gaps[:, 0] ** 2
    return min(first, float(second.min()), 1.0), min(first, float(second[-1]), 1 / (1 + z * z))


def _union(rng: Generator, part: Part) -> Measurement:
    """Four to six units of some hundred rows: at least the sum of P(M_a - M_b > limit), by quadrature."""
    units = int(rng.integers(4, 7))
    sizes = rng.integers(300, 600, units)
    ranks = np.rint(0.4 * (sizes + 1)).astype(int)
    limit = float(rng.uniform(1.0, 3.0)) * sqrt(2 * 0.24 / float(sizes.mean()))
    pairs = [(a, b) for a in range(units) for b in range(units) if a != b]
    left = np.array([np.eye(units)[a] - np.eye(units)[b] for a, b in pairs])
    rows = levels.Wanted(np.arange(units), left, np.full(len(left), limit), ("row",) * len(left))
    laws = [levels.RankLaw(max(1, round(int(k) * part.size)), round(int(n) * part.size)) for k, n in zip(ranks, sizes, strict=True)]
    grid = np.linspace(0, 1, 1001)
    mass = [np.diff(betainc(k, n + 1 - k, grid)) for k, n in zip(ranks, sizes, strict=True)]
    middle = np.clip((grid[1:] + grid[:-1]) / 2 - limit, 0, 1)
    below = [betainc(k, n + 1 - k, middle) for k, n in zip(ranks, sizes, strict=True)]
    exact = sum(float(mass[a] @ below[b]) for a, b in pairs)
    return Measurement(exact * (1 - 1e-3), _told(laws, rows, part), note="the sum of the rows' probabilities")


def _capital(rng: Generator, part: Part) -> Measurement:
    """A bettor's capital at the bound is 1/delta, bets from earlier values alone; there is no claim where the bound is the box's."""
    n, delta, centre = int(rng.integers(30, 300)), float(rng.choice([0.2, 0.05])), float(rng.uniform(0.2, 0.8))
    values = np.clip(rng.normal(centre, 0.1, n), 0, 1)
    told = (1 - part.bold) * levels.variance_bound(values, centre, 0.0, 1.0, delta)
    largest = max(centre, 1 - centre) ** 2
    capital, total, spread, m = 0.0, 0.5, 0.25, told / largest
    for i, value in enumerate(((values - centre) ** 2 / largest).tolist()):
        bet = min(sqrt(2 * log(1 / delta) / (n * spread / (i + 1))), 0.5)
        capital += log(1 + bet * (m - value))
        total += value
        spread += (value - total / (i + 2)) ** 2
    return Measurement(log(1 / delta), capital if m < 0.9 and told < 0.2499 else log(1 / delta), 1e-9, note="the capital at the bound")


def partly_tied(size: float) -> Part:
    """In the part ``size`` of the draws ties fall together."""

    def rank(scores: FloatArray, k: int, rng: Generator) -> Rule:
        return ties_together(scores, k, rng) if rng.random() < size else ranked(scores, k, rng)

    return Part(rank=rank)


def tight(part: Part) -> Measurement:
    """4,000 draws of a rank of two-valued scores against its law."""
    rng, n, k, draws = np.random.default_rng(0), 20, 10, 4_000
    atoms = np.repeat([0.0, 1.0], 200)
    found = np.array([part.rank(rng.choice(atoms, n), k, rng)(atoms).mean() for _ in range(draws)])
    law = levels.RankLaw(max(1, round(k * part.size)), round(n * part.size))
    return Measurement(_distance(found, law), sqrt(RARE / (2 * draws)), note="ranks of two-valued scores")


def _alone(rows: levels.Wanted, laws: Sequence[levels.Law]) -> list[float]:
    return [levels.failure(laws, replace(rows, left=rows.left[i : i + 1], right=rows.right[i : i + 1])) for i in range(len(rows.right))]


def _variance(rng: Generator, part: Part) -> Measurement:
    atoms, n = population(rng), int(rng.integers(5, 200))
    delta = float(rng.choice([0.2, 0.05]))
    below = [levels.variance_bound(rng.choice(atoms, n), float(rng.random()), 0.0, 1.0, delta) for _ in range(DRAWS)]
    wrong = float((np.array(below) < atoms.var() * (1 - 1e-9)).mean())
    return Measurement(above(wrong, delta, DRAWS), 1.0, note="bound of a variance")


CLAIMS = (
    Claim(
        "Q3",
        "levels that hold for people",
        "bound",
        "ours",
        STATEMENT,
        PROOF,
        check,
        Part(),
        {
            "laws of ten times the rows": Part(size=10.0),
            "ties fall together": Part(rank=ties_together),
            "a tenth of the variance": Part(spread=0.1),
            "the worst row alone": Part(left_out=1.0),
        },
        loose=LOOSE.strip(),
        tight=tight,
        deviations={
            "laws of more rows": lambda size: Part(size=1.0 + size),
            "variance smaller": lambda size: Part(spread=1.0 - size),
            "ties fall together in a part of the draws": partly_tied,
            "a part of the union left out": lambda size: Part(left_out=size),
            "bound of a variance smaller": lambda size: Part(bold=size),
        },
        instances=400,
    ),
)
