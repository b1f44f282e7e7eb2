"""Adversarial streams: what a claim "for every stream, every batch size" must survive. Drawn from (structure, seed), never from arrays
of floats.

A stream is a list of batches (scores, groups); groups are tuples, one code an attribute. Group processes: independent, long runs, one group
rare or late, blocks that exclude groups. Score processes: extremes by group, extremes that flip with time, uniform, constant, beyond the
box.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ARRIVALS = ("independent", "runs", "rare", "late", "blocks")
SCORES = ("opposed", "flipping", "uniform", "constant", "outside", "mixture")
SIZES = ("one", "two", "mixed", "large")


@dataclass(frozen=True)
class Structure:
    """attributes: number of groups of each attribute; length: samples; the processes by name."""

    attributes: tuple[int, ...]
    length: int
    arrivals: str
    scores: str
    sizes: str


def batches(structure: Structure, seed: int) -> Iterator[tuple[npt.NDArray[np.float64], list[npt.NDArray[np.int64]]]]:
    """Yield (scores (n,), [codes (n,) of each attribute]) until ``length`` samples have come. Scores are meant for the box [0, 1]."""
    rng = np.random.default_rng([seed, structure.length, *structure.attributes])
    n = structure.length
    codes = [_arrivals(structure.arrivals, k, n, rng) for k in structure.attributes]
    z = _scores(structure.scores, codes[0], structure.attributes[0], n, rng)
    start = 0
    while start < n:
        size = {"one": 1, "two": 2, "mixed": int(rng.choice([1, 1, 2, 3, 5, 17, 60])), "large": int(rng.integers(20, 200))}[structure.sizes]
        stop = min(n, start + size)
        yield z[start:stop], [c[start:stop] for c in codes]
        start = stop


def _arrivals(kind: str, groups: int, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    shares = rng.dirichlet(np.full(groups, 1.0))
    if kind == "rare":
        shares = np.r_[1.0 - 0.02 * (groups - 1), np.full(groups - 1, 0.02)]
    out = rng.choice(groups, n, p=shares)
    if kind == "runs":
        length = int(rng.integers(2, max(3, n // 3)))
        out = rng.integers(0, groups, n // length + 1).repeat(length)[:n]
    elif kind == "late":
        out[: int(n * rng.uniform(0.2, 0.9))] = int(rng.integers(groups))
    elif kind == "blocks":  # each block leaves one group out
        length = max(1, n // int(rng.integers(2, 8)))
        absent = np.arange(n) // length % groups
        out = np.where(out == absent, (out + 1) % groups, out)
    return out.astype(np.int64)


def _scores(kind: str, codes: npt.NDArray[np.int64], groups: int, n: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    opposed = codes / max(1, groups - 1)
    if kind == "opposed":
        return opposed.astype(np.float64)
    if kind == "flipping":
        period = int(rng.integers(2, max(3, n)))
        return np.where(np.arange(n) // period % 2 == 0, opposed, 1.0 - opposed)
    if kind == "constant":
        return np.full(n, rng.choice([0.0, 0.3, 1.0]))
    if kind == "outside":
        return (opposed - 0.5) * 20.0 + rng.normal(0, 1, n)
    if kind == "mixture":
        return np.where(rng.random(n) < 0.5, opposed, rng.choice([0.0, 1.0], n))
    return rng.random(n)
