"""Scores and decisions told apart: where a threshold opens a gap that the scores do not have, that is said, and who closes it.

A parity of mean scores says little of rates: groups whose scores are equally high on average may pass a threshold at very different rates.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from fractions import Fraction
from math import isfinite
from typing import Any

import numpy as np

from fairopt.auditing.exact_means import ExactMeans, against_limits
from fairopt.basics.arrays import Array
from fairopt.basics.errors import FairoptWarning, InputError
from fairopt.notions.algebra import Leaf
from fairopt.notions.batch import Batch
from fairopt.notions.functional import Constraint
from fairopt.solve.told import callers_level

FAR = 0.05  # that much more gap in decisions than in scores, and twice as much, is worth a word
FEW = 20  # rows: the rate of fewer errs by more than .11, at 1/2, and says nothing of a threshold
RATES = ("DemographicParity", "EqualOpportunity", "PredictiveEquality", "EqualizedOdds")
Read = Sequence[tuple[Leaf, Constraint]]
Key = tuple[str, str]  # notion, attribute


def notes_apart(read: Read, scores: Array | Sequence[Fraction], decisions: Array, batch: Batch) -> list[str]:
    """``told_apart`` of scores (n,), or of their exact sums at the positions of ``batch``, and decisions (n,)."""
    about = [(leaf, constraint) for leaf, constraint in read if leaf.notion.name in RATES]
    constraints = [c for _, c in about]
    return told_apart(about, ExactMeans(scores, batch, constraints), ExactMeans(decisions, batch, constraints)) if about else []


def told_apart(read: Read, scores: ExactMeans, decisions: ExactMeans) -> list[str]:
    """A sentence for each parity whose gap of decisions is beyond its limit, and far above that of the scores. Groups of few rows are
    left out of both."""
    of_scores, of_decisions, limits = widest(read, scores), widest(read, decisions), _limits(read)
    return [
        f"{notion}({attribute}): the gap of decisions is {gap:.3f}, that of scores {of_scores[notion, attribute]:.3f}; the threshold opens "
        "it. fairopt.FairDecisions decides so that the notion holds"
        for (notion, attribute), gap in of_decisions.items()
        if gap > max(limits[notion, attribute], 2.0 * of_scores[notion, attribute], of_scores[notion, attribute] + FAR)
    ]


def widest(read: Read, exact: ExactMeans) -> dict[Key, float]:
    """Of each notion the widest gap between groups of ``FEW`` rows or more."""
    found: dict[Key, float] = {}
    for leaf, constraint in read:
        enough = [f for f in constraint.functionals if all(exact.count(m) >= FEW for _, m in f.means)]
        values = [v for v in map(exact.value, enough) if v is not None]
        gap = Fraction(0)
        if constraint.width is not None and values:
            gap = max(values) - min(values)
        elif values:
            gap = against_limits(values[0], constraint)[0] or Fraction(0)
        key = leaf.notion.name, constraint.attribute
        found[key] = max(found.get(key, 0.0), float(gap))
    return found


def _limits(read: Read) -> dict[Key, float]:
    found: dict[Key, float] = {}
    for leaf, constraint in read:
        limit = constraint.width.value() if constraint.width is not None else against_limits(Fraction(0), constraint)[1]
        key = leaf.notion.name, constraint.attribute
        found[key] = max(found.get(key, 0.0), limit)
    return found


def warn_apart(read: Read, scores: Array, batch: Batch, threshold: float | None) -> None:
    """Warn of what ``told_apart`` says of scores (n,) and of decisions "yes from ``threshold`` on".

    threshold: a number; None: nothing is said. At 1/2, which is for probabilities, nothing is said of scores outside [0, 1]; nor where all
    scores are 0 or 1, which are decisions already.
    """
    if threshold is None or (threshold == 0.5 and (scores.min() < 0.0 or scores.max() > 1.0)) or bool(np.isin(scores, (0.0, 1.0)).all()):
        return
    say_apart(notes_apart(read, scores, (scores >= threshold).astype(np.float64), batch), f"decisions at {threshold:g}")


def say_apart(notes: Sequence[str], what: str, remedy: str = "") -> None:
    """Warn, at the line of the caller's that called fairopt. what: which decisions; remedy: words after the note."""
    for words in notes:
        warnings.warn(f"{what}: {words}{remedy}", FairoptWarning, stacklevel=callers_level())


def read_threshold(threshold: Any) -> float:
    """InputError for what is no finite number."""
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float, np.number)) or not isfinite(threshold):
        raise InputError(f"threshold: got {threshold!r}, expected a finite number")
    return float(threshold)
