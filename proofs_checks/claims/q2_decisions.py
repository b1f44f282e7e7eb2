"""Q2: 0/1 decisions from fair probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import floor

import numpy as np

from fairopt.layer import decisions
from fairopt.testing.claims import formulas
from proofs_checks.batches import FloatArray, IntArray
from proofs_checks.claim import Claim, Exact, Generator, Measurement, worst
from proofs_checks.solver import all_of, proved, reals

STATEMENT = """
Probabilities y in [0, 1], systematic rounding with one uniform start a group: decisions are 0 or 1, each is 1 with its own
probability, every prefix of a group (in a stream too) and so every group sum differs from the sum of probabilities by less than 1,
exactly 0 where the sum is whole. So the gap of decision rates is below the gap of mean probabilities + 1/n_0 + 1/n_1. Two
attributes are possible (every cell, row and column off by less than 1); three are not: cells 000, 011, 101, 110 with one sample
each at 1/2: every group sums to 1, but any two of the four share a group.
"""
PROOF = """
With c_i = p_1 + ... + p_i and u uniform on [0, 1), `d_i = floor(u + c_i) - floor(u + c_{i-1})` is 0 or 1 because p_i <= 1, and is 1
with probability p_i. A prefix sums to `floor(u + c_i) - floor(u)`, less than 1 from c_i. Two attributes: the incidence of rows and
columns is bipartite, hence totally unimodular; moving along cycles and paths with a fair direction keeps every expectation.
"""
Decide = Callable[[FloatArray, list[IntArray], Generator], IntArray]


@dataclass(frozen=True)
class Rounding:
    """``decide``, and what it rounds a group by. Mutants: another ``decide``, probabilities or starts smaller by that part."""

    decide: Decide
    smaller: float = 0.0
    earlier: float = 0.0

    def decisions(self, p: FloatArray, codes: list[IntArray], rng: Generator) -> IntArray:
        return self.decide((1 - self.smaller) * p, codes, rng)

    def of_start(self, p: FloatArray, start: Fraction) -> list[int]:
        return [int(d) for d in decisions.systematic((1 - self.smaller) * p, int(start * (1 - Fraction(self.earlier)) * 2**62))]


def decide(p: FloatArray, codes: list[IntArray], rng: Generator) -> IntArray:
    features = {f"a{k}": c for k, c in enumerate(codes)}
    return np.asarray(decisions.decide(p, sensitive_features=features, generator=rng))


def at_half(p: FloatArray, codes: list[IntArray], rng: Generator) -> IntArray:
    return (p >= 0.5).astype(np.int64)


def independent(p: FloatArray, codes: list[IntArray], rng: Generator) -> IntArray:
    return (rng.random(p.size) < p).astype(np.int64)


def check(rng: Generator, part: Rounding) -> Measurement:
    """One or two attributes; prefixes of the groups; each probability over all starts; equality with the formula that z3 proves."""
    n = int(rng.integers(1, 80))
    p = np.clip(rng.choice([rng.random(n), np.round(rng.random(n) * 4) / 4, (rng.random(n) < 0.5) * 1.0, rng.random(n) ** 6]), 0, 1)
    codes = [rng.integers(0, rng.integers(1, 5), n) for _ in range(int(rng.integers(1, 3)))]
    d = part.decisions(p, codes, rng)
    off = [0.0]
    for c in codes:
        for g in np.unique(c):
            sums = np.cumsum((d - p)[c == g]) if len(codes) == 1 else (d - p)[c == g].sum()
            off.append(float(np.abs(sums).max()))
    sums_off = Measurement(max(off), 1.0, 1e-12, note="group sums and prefixes")
    small = p[:6]
    starts = [Fraction(2 * j + 1, 128) for j in range(64)]
    exact = [formulas.systematic([Fraction(int(np.rint(x * 2.0**62)), 2**62) for x in small.tolist()], s, floor) for s in starts]
    ours = [part.of_start(small, s) for s in starts]
    same = Measurement(float(exact != ours), 0.0, note="equals the formula")
    fair = Measurement(float(np.abs(np.mean(ours, axis=0) - small).max()), 1 / 64, 1e-12, note="own probability, over 64 starts")
    binary = Measurement(float(np.abs(d * (1 - d)).max()), 0.0, note="0 or 1")
    return worst(sums_off, same, fair, binary)


def prove(broken: bool) -> bool:
    """Three samples, all p in [0, 1] and u in [0, 1): decisions are 0 or 1 and every prefix is off by less than 1."""
    import z3

    p, u = reals("p1", "p2", "p3"), z3.Real("u")

    def whole(x: object) -> object:
        return z3.ToReal(z3.ToInt(x))

    d = formulas.systematic(p if not broken else [2 * x for x in p], u, whole)
    goals = [z3.Or(x == 0, x == 1) for x in d]
    for k in (1, 2, 3):
        gap = sum(d[:k]) - sum(p[:k])
        goals += [gap < 1, gap > -1]
    return proved(all_of(*goals), u >= 0, u < 1, *(all_of(x >= 0, x <= 1) for x in p))


def prove_three(broken: bool) -> bool:
    """No 0/1 decisions for 000, 011, 101, 110 give every group the sum 1; with only two of the attributes there are some."""
    import z3

    cells = [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)]
    x = [z3.Int(f"x{k}") for k in range(4)]
    groups = [[x[k] for k, c in enumerate(cells) if c[a] == g] for a in range(2 if broken else 3) for g in (0, 1)]
    meets = [z3.Sum(g) == 1 for g in groups]
    return proved(z3.BoolVal(False), *(all_of(v >= 0, v <= 1) for v in x), *meets)


def prove_both(broken: bool) -> bool:
    return prove(broken) and (prove_three(broken) if not broken else True)


CLAIMS = (
    Claim(
        "Q2",
        "systematic rounding keeps every group's sum",
        "bound",
        "textbook",
        STATEMENT,
        PROOF,
        check,
        Rounding(decide),
        {"threshold at 1/2": Rounding(at_half), "independent": Rounding(independent)},
        deviations={
            "probabilities smaller": lambda size: Rounding(decide, smaller=size),
            "start not even": lambda size: Rounding(decide, earlier=size),
        },
        exact=Exact("three samples, all probabilities and starts; and that three attributes are impossible", prove_both),
    ),
)
