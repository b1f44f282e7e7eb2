"""Figures of class probabilities under many weightings of the rows: what the bootstrap asks for again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairopt.experiments.evidence.cells import Rows

Floats = npt.NDArray[np.float64]
LEAST = 1e-6  # of a probability inside the log loss


@dataclass(frozen=True, eq=False)
class ClassPredictions:
    """said: (n, K, C) probabilities of K outputs. rows: y (n,) holds the true classes, as numbers."""

    rows: Rows
    said: Floats


def quality(found: ClassPredictions, weights: Floats) -> Floats:
    """weights (B, n) -> (B, K): minus the log loss."""
    true = found.rows.y.astype(np.int64)
    right = np.take_along_axis(found.said, true[:, None, None], 2)[:, :, 0]
    return _mean(np.log(np.clip(right, LEAST, 1.0)), weights)


def accuracy(found: ClassPredictions, weights: Floats) -> Floats:
    """Of the likeliest class, the first of equals."""
    return _mean((found.said.argmax(2) == found.rows.y[:, None]).astype(np.float64), weights)


def gap(found: ClassPredictions, weights: Floats) -> Floats:
    """(B, K): the largest difference, over classes and pairs of groups, of the mean probability."""
    return _gap(found, found.said, weights)


def decision_gap(found: ClassPredictions, weights: Floats) -> Floats:
    """The same of the share in which a class is the likeliest."""
    return _gap(found, (found.said.argmax(2)[:, :, None] == np.arange(found.said.shape[2])).astype(np.float64), weights)


FIGURES: dict[str, Callable[[ClassPredictions, Floats], Floats]] = {
    "quality": quality,
    "gap": gap,
    "accuracy": accuracy,
    "decision gap": decision_gap,
}


def _mean(each: Floats, weights: Floats) -> Floats:
    total = weights.sum(1, keepdims=True)
    return np.asarray((weights @ each) / np.where(total > 0, total, np.nan))


def _gap(found: ClassPredictions, values: Floats, weights: Floats) -> Floats:
    """A group without weight in a draw does not count in it."""
    n, count, classes = values.shape
    flat = values.reshape(n, count * classes)
    means = []
    for group in np.unique(found.rows.groups):
        own = np.flatnonzero(found.rows.groups == group)
        means.append(_mean(flat[own], weights[:, own]))
    stacked = np.stack(means)  # (groups, B, K C)
    here = np.isfinite(stacked)
    apart = np.where(here, stacked, -np.inf).max(0) - np.where(here, stacked, np.inf).min(0)
    return np.asarray(np.where(here.any(0), apart, np.nan).reshape(-1, count, classes).max(2))
