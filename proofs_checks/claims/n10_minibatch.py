"""N10: what a projection of each mini-batch gives, against that of the population."""

from __future__ import annotations

from math import sqrt

import numpy as np

from proofs_checks.batches import FloatArray, PerBatch
from proofs_checks.claim import Claim, Generator, Measurement, worst

STATEMENT = """
Two groups, no box, batches with n_0 and n_1 independent samples of the groups (a sampler that keeps the groups' numbers), n = n_0 +
n_1. The layer shifts group g of a batch by s_g; the layer on the population with the same proportions would by s*_g. Then `E |s_g -
s*_g| <= (n_{1-g}/n) sqrt(sigma_0^2/n_0 + sigma_1^2/n_1)`, sigma_g the group's standard deviation: the batch asks of each score what the
population asks, up to O(n^-1/2), in the mean and so in bias.
"""
PROOF = """
By L6 s_0 = sign(D) (|D| - eps)_+ n_1/n with D the batch's difference of means, s*_0 the same with the population's, and x -> sign(x) (|x| -
eps)_+ is 1-Lipschitz. So |s_0 - s*_0| <= (n_1/n) |D - D*|, and E |D - D*| <= sqrt(Var D) (Jensen).
"""


def measure(rng: Generator, means: tuple[float, float], spreads: tuple[float, float], sizes: tuple[int, int], eps: float, layer: PerBatch,
            batches: int = 300) -> Measurement:  # fmt: skip
    """The mean of |s_0 - s*_0| over batches, less three of its standard errors, against the bound; and the layer's answer against L6."""
    n0, n1 = sizes
    codes = np.repeat([0, 1], sizes)
    d = means[0] - means[1]
    right = np.sign(d) * max(0.0, abs(d) - eps) * n1 / (n0 + n1)
    off, wrong = [], 0.0
    for _ in range(batches):
        z: FloatArray = np.r_[rng.normal(means[0], spreads[0], n0), rng.normal(means[1], spreads[1], n1)]
        (y,) = layer.send([(z, codes)], eps, (-1e6, 1e6))
        shift = float(z[0] - y[0])
        own = float(z[:n0].mean() - z[n0:].mean())
        wrong = max(wrong, abs(shift - np.sign(own) * max(0.0, abs(own) - eps) * n1 / (n0 + n1)))
        off.append(abs(shift - right))
    least = float(np.mean(off)) - 3 * float(np.std(off)) / sqrt(batches)
    bound = n1 / (n0 + n1) * sqrt(spreads[0] ** 2 / n0 + spreads[1] ** 2 / n1)
    return worst(Measurement(least, bound, 0.0, note="mean of |s - s*|"), Measurement(wrong, 0.0, 1e-9, note="the batch's shift"))


def check(rng: Generator, layer: PerBatch) -> Measurement:
    """Normal groups, sizes 1 to 40, 60 batches each, through the layer."""
    sizes = int(rng.integers(1, 41)), int(rng.integers(1, 41))
    means = float(rng.normal()), float(rng.normal())
    spreads = float(rng.uniform(0.01, 1)), float(rng.uniform(0.01, 1))
    return measure(rng, means, spreads, sizes, float(rng.choice([0.0, 0.05, 0.5])), layer, 60)


def tight(layer: PerBatch) -> Measurement:
    """Raw gap far above the tolerance: the mean of |N(0, 1)|, .80, of the bound, less the sampling error."""
    return measure(np.random.default_rng(0), (2.0, 0.0), (0.3, 0.3), (10, 10), 0.05, layer, 400)


CLAIMS = (
    Claim(
        "N10",
        "a mini-batch asks what the population asks, up to O(n^-1/2)",
        "bound",
        "ours",
        STATEMENT,
        PROOF,
        check,
        PerBatch(),
        {"moves one group twice as far": PerBatch(uneven=1.0), "tolerance doubled": PerBatch(2.0)},
        tight=tight,
        deviations={
            "tolerance wider": lambda size: PerBatch(1 + size),
            "moves one group farther": lambda size: PerBatch(uneven=size),
        },
        instances=300,
        open="With a box the shift's slope in the batch means is 1 over the share of free samples, so no constant serves every law. That "
        "SGD through the layer tends to Clarke-stationary points of the expected batch loss is expected (the layer is piecewise linear and "
        "1-Lipschitz, L3), not proved here; nor is uniform stability.",
    ),
)
