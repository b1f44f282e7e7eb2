"""N7: groups that are recorded wrongly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proofs_checks.batches import FloatArray, IntArray, PerBatch, gap
from proofs_checks.claim import Claim, Exact, Generator, Measurement, worst
from proofs_checks.solver import all_of, number, proved, reals

STATEMENT = """
Scores in a box of width R, two groups; A_g are the samples of group g in truth, B_g those recorded as g, all four not empty. Then `|true
gap - recorded gap| <= R sum_g (1 - |A_g & B_g| / max(|A_g|, |B_g|))`. So a layer that meets eps on the recorded groups has a true gap of
at most eps plus that. It is reached. With f_g samples of group g recorded as the other, it is at most R max(f_0, f_1) (1/m_0 + 1/m_1),
m_g = max(|A_g|, |B_g|).
"""
PROOF = """
Let a = |A| >= b = |B| (else exchange them), c = |A & B|, and let m, u, v be the means over A & B, A - B, B - A. The difference of the
means of A and B is `c (1/a - 1/b) m + (1 - c/a) u - (1 - c/b) v`, linear in each of m, u, v in [lb, ub]; adding a constant to all
changes nothing, so put lb = 0. As 1/a <= 1/b it is largest at m = v = 0, u = R: R (1 - c/a); least at m = v = R, u = 0: minus the same.
The gap moves by at most what the two means move. The last form: A_g - B_g has f_g samples, B_g - A_g has f_{1-g}, and m_g - c is the
larger of the two.
"""


@dataclass(frozen=True)
class Noise:
    """The layer, and how gaps are told: those by recorded groups too small by the part ``hidden``."""

    layer: PerBatch
    hidden: float = 0.0


def bound(true: IntArray, recorded: IntArray) -> float:
    parts = []
    for g in (0, 1):
        a, b = true == g, recorded == g
        parts.append(1 - float((a & b).sum()) / max(float(a.sum()), float(b.sum())))
    return sum(parts)


def follow(z: FloatArray, true: IntArray, recorded: IntArray, eps: float, part: Noise) -> Measurement:
    (y,) = part.layer.send([(z, recorded)], eps)
    told, real = gap(y, recorded), gap(y, true)
    assert told is not None
    assert real is not None
    told *= 1 - part.hidden
    return worst(
        Measurement(abs(real - told), bound(true, recorded), 1e-12, note="true against recorded gap"),
        Measurement(told, eps, 1e-12, note="recorded gap of the layer"),
    )


def check(rng: Generator, part: Noise) -> Measurement:
    """The layer's outputs on recorded groups, their true gap as ``fo.gaps`` tells it; any shares of wrong records."""
    n = int(rng.integers(4, 80))
    true = rng.integers(0, 2, n)
    true[:2] = 0, 1
    recorded = np.where(rng.random(n) < rng.choice([0.02, 0.2, 0.7]), 1 - true, true)
    recorded[:2] = (0, 1) if rng.integers(2) else (1, 0)
    z = rng.choice([rng.random(n), (true == recorded) * 1.0, np.where(true == recorded, recorded, 1 - recorded) * 1.0])
    return follow(z, true, recorded, float(rng.choice([0.0, 0.05])), part)


def tight(part: Noise) -> Measurement:
    """Ten of each, two of each recorded as the other: the true gap is 1, the recorded one .6; and a layer that must close its gap."""
    true = np.repeat([0, 1], 10)
    recorded = np.r_[np.zeros(8), np.ones(2), np.ones(8), np.zeros(2)].astype(np.int64)
    z = np.r_[np.ones(8), np.ones(2), np.zeros(8), np.zeros(2)]  # true gap 1, recorded gap .6
    found = follow(z, true, recorded, 1.0, part)
    opposed = np.r_[np.zeros(10), np.ones(10)]
    return worst(found, follow(opposed, true, true, 0.05, part))


def prove(broken: bool) -> bool:
    """|A| = 5, |B| = 4, |A & B| = 3, all means in [0, 1] (broken: nine tenths of the bound)."""
    m, u, v = reals("m", "u", "v")
    box = [all_of(x >= 0, x <= 1) for x in (m, u, v)]
    apart = number(3) * m * (number(1, 5) - number(1, 4)) + number(2, 5) * u - number(1, 4) * v
    limit = number(2, 5) * (number(9, 10) if broken else number(1))
    return proved(all_of(apart <= limit, -apart <= limit), *box)


CLAIMS = (
    Claim(
        "N7",
        "wrongly recorded groups",
        "bound",
        "ours",
        STATEMENT,
        PROOF,
        check,
        Noise(PerBatch()),
        {"recorded gap told at a half": Noise(PerBatch(), 0.5), "tolerance doubled": Noise(PerBatch(2.0))},
        exact=Exact("sets of 5 and 4 with 3 in common, all means in [0, 1]", prove),
        tight=tight,
        deviations={
            "recorded gap told too small": lambda size: Noise(PerBatch(), size),
            "tolerance wider": lambda size: Noise(PerBatch(1 + size)),
        },
        open="A sharper bound where the rates of wrong records are known and independent of the scores.",
    ),
)
