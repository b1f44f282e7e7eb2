"""The maps of the Kullback-Leibler divergences, in numpy: from scores z and shifts s = A'p / w to y, and how fast y moves.

    kl            y = sigmoid(logit z - s) = a / (a + b),  a = z exp(-s),  b = 1 - z     dy/ds = -y (1 - y)    dy/dz = exp(-s) / (a + b)^2
    kl_positive   y = z exp(-s)                                                          dy/ds = -y            dy/dz = exp(-s)

Nothing overflows: for shifts below -TOP both parts of ``kl`` are divided by exp(-TOP - s). Probabilities of 0 and 1, and values of 0, stay.
"""

from __future__ import annotations

import numpy as np

from fairopt.basics.arrays import Array, BoolArray
from fairopt.contract.problem import Distance

TOP = 700.0  # exp(TOP) is a float64
MOST = 1400.0  # beyond it every score between 0 and 1 that float64 holds is at an end
LARGEST = float(np.finfo(np.float64).max)


def factors(s: Array) -> tuple[Array, Array]:
    """What z and 1 - z are multiplied by."""
    s = np.minimum(np.maximum(s, -MOST), MOST)
    return np.exp(np.minimum(-s, TOP)), np.exp(np.minimum(s + TOP, 0.0))


def mapped(kind: Distance, z: Array, s: Array) -> Array:
    """y for scores z and shifts s, before clipping."""
    up, down = factors(s)
    if kind == "kl_positive":
        return np.asarray(z * np.exp(np.minimum(-s, TOP)))
    a, b = z * up, (1.0 - z) * down
    with np.errstate(invalid="ignore"):
        y = a / (a + b)
    return np.where(pinned(kind, z), z, y)


def falling(kind: Distance, y: Array) -> Array:
    """-dy/ds at y."""
    return y * (1.0 - y) if kind == "kl" else y


def following(kind: Distance, z: Array, s: Array) -> Array:
    """dy/dz at fixed prices; at 0 and 1 from the inside. Finite: at most the largest float64."""
    up, down = factors(s)
    if kind == "kl_positive":
        return np.asarray(np.exp(np.minimum(-s, TOP)))
    total = z * up + (1.0 - z) * down
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        rate = (up / total) * (down / total)
    return np.where(rate < LARGEST, rate, LARGEST)


def pinned(kind: Distance, z: Array) -> BoolArray:
    """Which scores no price moves."""
    return (z <= 0.0) | (z >= 1.0) if kind == "kl" else z <= 0.0
