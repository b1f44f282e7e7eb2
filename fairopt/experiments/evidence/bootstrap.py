"""The error of the whole procedure: seeds and rows are drawn, the selection is made again, the figures are read off.

A row of the data set has one weight in a draw, in whichever seeds' validation and test parts it is. Standard errors are the draws' spread
times sqrt(m / (m - 1)), m seeds; intervals and p are of Student's t with m - 1 degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fairopt.basics.errors import InputError
from fairopt.experiments.evidence import figures
from fairopt.experiments.evidence.protocol import DRAWS, LEAST_SEEDS, LEVEL
from fairopt.experiments.evidence.selection import chosen, taken

Floats = npt.NDArray[np.float64]
CHUNK = 100
Figures = Mapping[str, Callable[[Any, Floats], Floats]]  # name -> what has (B, K) values for weights (B, n)
FIGURES: Figures = {"quality": figures.quality, "gap": figures.gap, "score gap": figures.score_gap, "log loss": figures.log_loss}


@dataclass(frozen=True, eq=False)
class Seed:
    """Validation and test predictions of one seed, the same outputs in the same order in every seed.

    validation, test  ``Predictions``, or for other figures whatever these read, with ``rows`` of its own
    there  (K,) bool: whether the output exists in this seed; one that ran out of time is no candidate
    """

    validation: Any
    test: Any
    there: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Drawn:
    """estimate: figure -> row -> mean over the seeds; draws: figure -> row -> (B,) the same in each draw."""

    estimate: dict[str, dict[str, float]]
    draws: dict[str, dict[str, Floats]]
    seeds: int


def bootstrap(
    seeds: Sequence[Seed],
    candidates: Mapping[str, Sequence[int]],
    target: float,
    *,
    rows_too: bool = True,
    draws: int = DRAWS,
    seed: int = 0,
    read: Figures = FIGURES,
) -> Drawn:
    """Draw and choose again.

    candidates  row of the table -> the places of its outputs
    rows_too    False: the rows of a part stay as they are, seeds alone are drawn (a batch that was served at once)
    read        the figures, "quality" and "gap" among them, by which is chosen
    """
    if not seeds:
        raise InputError("seeds: got none, expected at least one")
    rng = np.random.default_rng(seed)
    places = 1 + max(int(part.rows.rows.max()) for s in seeds for part in (s.validation, s.test))
    m = len(seeds)
    by_seed = _per_seed(seeds, candidates, target, np.ones((1, places)), read)
    estimate = {name: {row: float(v[0].mean()) for row, v in rows.items()} for name, rows in by_seed.items()}
    found: dict[str, dict[str, list[Floats]]] = {name: {row: [] for row in candidates} for name in read}
    for start in range(0, draws, CHUNK):
        count = min(CHUNK, draws - start)
        weights = rng.poisson(1.0, (count, places)).astype(np.float64) if rows_too else np.ones((1, places))
        once = _per_seed(seeds, candidates, target, weights, read)
        which = rng.integers(0, m, (count, m))
        for name, rows in once.items():
            for row, values in rows.items():  # (count or 1, m)
                found[name][row].append(np.take_along_axis(np.broadcast_to(values, (count, m)), which, 1).mean(1))
    return Drawn(estimate, {name: {row: np.concatenate(v) for row, v in rows.items()} for name, rows in found.items()}, m)


def _per_seed(
    seeds: Sequence[Seed], candidates: Mapping[str, Sequence[int]], target: float, weights: Floats, read: Figures
) -> dict[str, dict[str, Floats]]:
    """figure -> row -> (B, seeds): of the candidate that is chosen under these weights."""
    found: dict[str, dict[str, list[Floats]]] = {name: {row: [] for row in candidates} for name in read}
    for one in seeds:
        own = weights[:, one.validation.rows.rows]
        quality, gap = read["quality"](one.validation, own), read["gap"](one.validation, own)
        own = weights[:, one.test.rows.rows]
        test = {name: figure(one.test, own) for name, figure in read.items()}
        for row, all_places in candidates.items():
            places = [k for k in all_places if one.there[k]]
            if not places:
                for name in read:
                    found[name][row].append(np.full(len(weights), np.nan))
                continue
            picked = chosen(quality[:, places], gap[:, places], target)
            for name in read:
                found[name][row].append(taken(test[name][:, places], picked))
    return {name: {row: np.stack(v, axis=1) for row, v in rows.items()} for name, rows in found.items()}


@dataclass(frozen=True)
class Error:
    """An estimate with what is known of it. error, low, high, p: None with too few seeds, or where a draw has no value."""

    estimate: float
    error: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def error_of(estimate: float, draws: Floats, seeds: int) -> Error:
    """p: two-sided, of the estimate being 0. Where the draws do not vary nothing is shown: p is 1."""
    if seeds < LEAST_SEEDS or not math.isfinite(estimate) or not np.isfinite(draws).all():
        return Error(estimate)
    from scipy.stats import t

    error = float(draws.std(ddof=1)) * math.sqrt(seeds / (seeds - 1))
    wide = float(t.ppf(1 - LEVEL / 2, seeds - 1)) * error
    p = float(2 * t.sf(abs(estimate) / error, seeds - 1)) if error > 0 else 1.0
    return Error(estimate, error, estimate - wide, estimate + wide, p)


def difference(drawn: Drawn, figure: str, first: str, second: str) -> Error:
    """first - second, both in the same draw."""
    estimate, draws = drawn.estimate[figure], drawn.draws[figure]
    return error_of(estimate[first] - estimate[second], draws[first] - draws[second], drawn.seeds)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """p corrected for their number (Holm 1979); None, where nothing is shown, counts among them."""
    known = [(float(value), k) for k, value in enumerate(p) if value is not None]
    corrected: list[float | None] = [None] * len(p)
    largest = 0.0
    for place, (value, k) in enumerate(sorted(known)):
        largest = max(largest, min(1.0, (len(p) - place) * value))
        corrected[k] = largest
    return corrected
