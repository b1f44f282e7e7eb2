"""Adversarial streams for the streaming claims, and what happened on them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fairopt.testing.adversary import ARRIVALS, SCORES, SIZES, Structure, batches

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
KAPPAS = (0.05, 0.25, 1.0, 20.0)


def drawn(rng: np.random.Generator, attributes: tuple[int, ...], longest: int = 250) -> Iterator[tuple[FloatArray, list[IntArray]]]:
    """The batches of a random stream: any arrivals, scores (outside the box too) and batch sizes."""
    length = int(np.exp(rng.uniform(np.log(2), np.log(longest))))
    structure = Structure(
        attributes, length, ARRIVALS[rng.integers(len(ARRIVALS))], SCORES[rng.integers(len(SCORES))], SIZES[rng.integers(len(SIZES))]
    )
    return batches(structure, int(rng.integers(2**31)))


class Totals:
    """Counts and sums by group of what was sent, kept apart from the controller's own."""

    def __init__(self, groups: int) -> None:
        self.counts = np.zeros(groups)
        self.sums = np.zeros(groups)

    def add(self, codes: IntArray, y: FloatArray) -> None:
        self.counts += np.bincount(codes, minlength=self.counts.size)
        self.sums += np.bincount(codes, weights=y, minlength=self.counts.size)

    @property
    def total(self) -> float:
        return float(self.counts.sum())

    @property
    def means(self) -> FloatArray:
        """Means of the present groups."""
        present = self.counts > 0
        return np.asarray(self.sums[present] / self.counts[present])

    @property
    def gap(self) -> float:
        return float(np.ptp(self.means)) if self.means.size else 0.0
