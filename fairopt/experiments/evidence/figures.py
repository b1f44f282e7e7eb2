"""Quality and gap of many predictions at once, under many weightings of the rows: what the bootstrap asks for again and again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairopt.experiments.evidence.cells import Rows
from fairopt.experiments.evidence.protocol import Notion

Floats = npt.NDArray[np.float64]
CLIP = 1e-6  # of a probability inside the log loss
BINS = 10


@dataclass(frozen=True, eq=False)
class Predictions:
    """All outputs of one task, serving and seed on one part.

    said     (n, K) probabilities of the decision 1, or values; scores that are probabilities are decided at 1/2
    scores   (n, K) the scores themselves, NaN for outputs that have none
    """

    rows: Rows
    notion: Notion
    said: Floats
    scores: Floats


def predictions(rows: Rows, notion: Notion, outputs: list[tuple[str, Floats]]) -> Predictions:
    """``outputs``: ("score" or "decision", (n,) what was said)."""
    nothing = np.full(len(rows.y), np.nan)
    said, scores = [], []
    for kind, values in outputs:
        scores.append(values if kind == "score" else nothing)
        said.append(values if rows.values or kind == "decision" else (values >= 0.5).astype(np.float64))
    return Predictions(rows, notion, np.stack(said, axis=1), np.stack(scores, axis=1))


def quality(found: Predictions, weights: Floats) -> Floats:
    """weights (B, n) -> (B, K): expected accuracy; for values minus the mean squared error. More is better."""
    y = found.rows.y[:, None]
    each = -((found.said - y) ** 2) if found.rows.values else found.said * y + (1 - found.said) * (1 - y)
    return _mean(each, weights)


def gap(found: Predictions, weights: Floats) -> Floats:
    """weights (B, n) -> (B, K): of the mean decision or value. A group without weight in a draw does not count in it."""
    return _gap(found, found.said, weights)


def score_gap(found: Predictions, weights: Floats) -> Floats:
    """As ``gap``, of the scores; NaN where there are none."""
    return _gap(found, found.scores, weights)


def log_loss(found: Predictions, weights: Floats) -> Floats:
    """weights (B, n) -> (B, K); NaN for values and where there are no scores."""
    if found.rows.values:
        return np.full((len(weights), found.said.shape[1]), np.nan)
    p = np.clip(found.scores, CLIP, 1 - CLIP)
    y = found.rows.y[:, None]
    return _mean(-(y * np.log(p) + (1 - y) * np.log(1 - p)), weights)


def auc(found: Predictions) -> Floats:
    """(K,) area under the ROC curve, unweighted; NaN for values and where there are no scores."""
    result = np.full(found.said.shape[1], np.nan)
    if found.rows.values or len(np.unique(found.rows.y)) < 2:
        return result
    from sklearn.metrics import roc_auc_score

    for k in np.flatnonzero(np.isfinite(found.scores).all(0)).tolist():
        result[k] = roc_auc_score(found.rows.y, found.scores[:, k])
    return result


def calibration_error(found: Predictions) -> Floats:
    """(K,) the largest over the groups of  sum over bins |mean of y - mean of p| * share of the bin;  NaN where ``auc`` has it."""
    result = np.full(found.said.shape[1], np.nan)
    if found.rows.values:
        return result
    for k in np.flatnonzero(np.isfinite(found.scores).all(0)).tolist():
        p = found.scores[:, k]
        bins = np.minimum((np.clip(p, 0, 1) * BINS).astype(np.int64), BINS - 1)
        worst = 0.0
        for group in np.unique(found.rows.groups):
            own = found.rows.groups == group
            off = np.bincount(bins[own], weights=(found.rows.y - p)[own], minlength=BINS)
            worst = max(worst, float(np.abs(off).sum() / own.sum()))
        result[k] = worst
    return result


def _mean(each: Floats, weights: Floats) -> Floats:
    total = weights.sum(1, keepdims=True)
    return np.asarray((weights @ each) / np.where(total > 0, total, np.nan))


def _gap(found: Predictions, values: Floats, weights: Floats) -> Floats:
    y, groups = found.rows.y, found.rows.groups
    events = [y == 1, y == 0] if found.notion == "odds" else [np.ones(len(y), dtype=bool)]
    worst = np.full((len(weights), values.shape[1]), -np.inf)
    for event in events:
        means = []
        for group in np.unique(groups):
            own = np.flatnonzero(event & (groups == group))
            if len(own):
                means.append(_mean(values[own], weights[:, own]))
        stacked = np.stack(means)  # (groups, B, K)
        here = np.isfinite(stacked)
        high = np.where(here, stacked, -np.inf).max(0)
        low = np.where(here, stacked, np.inf).min(0)
        worst = np.maximum(worst, np.where(here.any(0), high - low, np.nan))
    return worst
