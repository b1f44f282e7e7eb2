"""What decides one row: for each group thresholds with weights, and the row's own coin where two thresholds disagree."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.errors import InputError

UInt = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Rule:
    """Yes where score >= threshold, the threshold drawn with ``weights``. One threshold: no draw.

    thresholds (T,) descending; inf decides no, -inf yes.  weights (T,) > 0, of sum 1
    """

    thresholds: Array
    weights: Array

    @classmethod
    def of(cls, thresholds: Array, weights: Array) -> Rule:
        """Without those that are never drawn."""
        kept = weights > 0.0
        return cls(thresholds[kept], weights[kept] / weights[kept].sum())

    def __call__(self, scores: Array) -> Array:
        """(n,) the probability of yes: a step function of the score that never falls."""
        reached = np.concatenate([[0.0], np.minimum(np.cumsum(self.weights[::-1]), 1.0)])  # ascending thresholds
        reached[-1] = 1.0
        return np.asarray(reached[np.searchsorted(self.thresholds[::-1], scores, side="right")])


def probabilities(rules: Sequence[Rule], key: IntArray, scores: Array) -> Array:
    """(n,) of yes, for rows with group key (n,)."""
    out = np.zeros(len(scores))
    for k in np.unique(key).tolist():
        inside = key == k
        out[inside] = rules[k](scores[inside])
    return out


def coins(numbers: Array, key: IntArray, seed: int, ids: Any = None) -> Array:
    """(n,) numbers in [0, 1), one a row, spread as if drawn: made of the seed, the row's group and its ``numbers``, or of its id.

    numbers (n,) or (n, d): the row's score, or its features, where a score is only known up to rounding.
    The same row has the same coin in every call, alone or among others: nobody is decided anew by asking again.
    """
    words = _of_numbers(numbers) if ids is None else _of_ids(ids, len(numbers))
    mixed = _mixed(_mixed(_mixed(np.full(len(key), seed, dtype=np.uint64)) ^ key.astype(np.uint64)) ^ words)
    return np.asarray((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _of_numbers(numbers: Array) -> UInt:
    """(n,) words of rows (n,) or (n, d); of a single number its own bits."""
    bits = (numbers.reshape(len(numbers), -1) + 0.0).view(np.uint64)  # + 0.0: -0.0 is 0.0
    words = bits[:, 0] if bits.shape[1] else np.zeros(len(bits), dtype=np.uint64)
    for column in bits[:, 1:].T:
        words = _mixed(words) ^ column
    return words


def _mixed(x: UInt) -> UInt:
    """A bijection of 64 bits in which every bit of the input moves half of the output (splitmix64; Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def _of_ids(ids: Any, n: int) -> UInt:
    listed = list(ids)
    if len(listed) != n:
        raise InputError(f"ids: got {len(listed)}, expected one a row, {n}")
    digests = [hashlib.blake2b(f"{type(i).__name__}:{i}".encode(), digest_size=8).digest() for i in listed]
    return np.array([int.from_bytes(d, "little") for d in digests], dtype=np.uint64)
