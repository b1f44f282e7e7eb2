"""N9: three plausible statements that are false."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fairopt.streaming import PrimalDual, parity
from proofs_checks.batches import PerBatch, gap, pooled_gap
from proofs_checks.claim import Claim, Generator, Measurement, worst

STATEMENT = """
Three statements that one reads about streaming by batches, each false. (1) "At constant ratios of the groups the weighted mean of the
batch gaps is the pooled gap": signed gaps of +d and -d pool to 0, and the mean says d (it is an upper bound, B1). (2) "A larger eta_0 is
stricter": with one sample at 1 and one at 0 a batch, eps = 1/2, the mean gap of four batches is .501 at eta_0 = .8 and .530 at eta_0 =
1.5; and S3's bound stops improving at eta_0 = 1/(2 n_max). (3) "Wider bounds cure the gap": two batches with gap 0 each and pooled gap 1
- 2d (B3) are answered unchanged in every box that holds the scores.
"""
PROOF = """
(1) B1's identity with signs. (2) gap = (1 - 2p)_+ and p moves by eta_0/sqrt(t) times 2 (gap - 1/2). eta_0 = 1.5: p = 1.5, .439, 0 after
batches 1, 2, 3 with gaps 1, 0, .121, so the fourth has gap 1 again. eta_0 = .8: p = .8, .234, .263 with gaps 1, 0, .531, .474. (3) B3.
"""


@dataclass(frozen=True)
class Parts:
    """The two step lengths that (2) compares; whether (1) forgets the signs; whether batches are answered as one."""

    slow: float = 0.8
    fast: float = 1.5
    signs: bool = True
    layer: PerBatch = field(default_factory=PerBatch)


def mean_gap(eta_0: float, batches: int) -> float:
    """The mean batch gap of the paper's rule on one opposed sample a group, eps = 1/2."""
    controller = PrimalDual(parity("g", tolerance=0.5), bounds=(0, 1), eta_0=eta_0)
    codes, found = np.array([0, 1]), []
    for _ in range(batches):
        y = np.asarray(controller.step(1.0 - codes, sensitive_features=codes).scores)
        found.append(float(y[0] - y[1]))
    return float(np.mean(found))


def check(rng: Generator, part: Parts) -> Measurement:
    """All three on fairopt's layer, controller and gaps, at drawn sizes and levels."""
    d, n = float(rng.uniform(0.01, 0.5)), int(rng.integers(1, 20))
    codes = np.repeat([0, 1], n)
    level = float(rng.uniform(0, 1 - d))
    batches = [(level + d * (codes == g), codes) for g in (0, 1 if part.signs else 0)]
    sent = part.layer.send(batches, d)
    together = pooled_gap(sent, [codes] * len(sent) if len(sent) == 2 else [np.concatenate([codes, codes])])
    assert together is not None
    alone = [gap(y, codes) or 0.0 for y in sent]
    mean = float(np.mean(alone))
    slow, fast = mean_gap(part.slow, 4), mean_gap(part.fast, 4)
    few, m = 1, int(rng.integers(4, 30))
    simpson = [(np.full(m, 1.0), np.repeat([0, 1], (m - few, few))), (np.zeros(m), np.repeat([0, 1], (few, m - few)))]
    wide = float(10.0 ** rng.uniform(0, 4))
    answered = part.layer.send(simpson, 0.0, (-wide, 1 + wide))
    left = pooled_gap(answered, [c for _, c in simpson])
    assert left is not None
    return worst(
        Measurement(together, 0.0, 1e-12, note="signed gaps pool to 0"),
        Measurement(d, mean, 1e-9, note="the mean of the gaps does not"),
        Measurement(slow + 0.02, fast, 0.0, note="a larger eta_0 with a larger gap"),
        Measurement(abs(slow - 0.501) + abs(fast - 0.530), 0.002, note="the figures of the claim"),
        Measurement(1 - 2 * few / m, left, 1e-9, note="a wider box changes nothing"),
    )


CLAIMS = (
    Claim(
        "N9",
        "three plausible statements that are false",
        "counterexample",
        "ours",
        STATEMENT,
        PROOF,
        check,
        Parts(),
        {"gaps of one sign": Parts(signs=False), "step lengths exchanged": Parts(1.5, 0.8)},
        deviations={
            "tolerance of (1) narrower": lambda size: Parts(layer=PerBatch(1 - size)),
            "step length of (2)": lambda size: Parts(fast=1.5 * (1 + size)),
            "a part of the whole's answer in (3)": lambda size: Parts(layer=PerBatch(whole=size)),
        },
        instances=200,
    ),
)
