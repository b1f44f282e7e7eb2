"""All controllers side by side on one stream: pooled gap and bound, the controller's own figure, cost against the offline optimum, time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fairopt.basics.table import Table
from fairopt.streaming import Controller, Cumulative, Family, Forget, PooledParity, PrimalDual, StreamReport, parity
from fairopt.streaming.ledger import Component
from fairopt.streaming.step_solver import Touch, answer_hard

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.str_] | npt.NDArray[np.int64]
Made = Callable[[Family], Controller]
WARM = 0.2  # the worst gap is taken after this share of the stream

ENTRANTS: Mapping[str, tuple[Made, int]] = {
    "PooledParity": (lambda f: PooledParity(f, bounds=(0, 1)), 1),
    "PooledParity, batch 64": (lambda f: PooledParity(f, bounds=(0, 1)), 64),
    "PooledParity, Forget(2000)": (lambda f: PooledParity(f, bounds=(0, 1), window=Forget(2000)), 1),
    "Cumulative": (lambda f: Cumulative(f, bounds=(0, 1)), 1),
    "PrimalDual (paper)": (lambda f: PrimalDual(f, bounds=(0, 1), b_tau=65), 1),
    "PrimalDual (paper), batch 8": (lambda f: PrimalDual(f, bounds=(0, 1), b_tau=65), 8),
    "PrimalDual (paper), batch 64": (lambda f: PrimalDual(f, bounds=(0, 1), b_tau=65), 64),
}


@dataclass(frozen=True, eq=False)
class Replayed:
    """table: one row an entrant, the raw scores first; reports by entrant, for the picture."""

    table: Table
    reports: dict[str, StreamReport]


def replay(
    scores: Floats, groups: Groups, tolerance: float = 0.05, *, title: str = "", on_entrant: Callable[[str], None] = lambda name: None
) -> Replayed:
    """Send ``scores`` (n,) of ``groups`` (n,) through every entrant.

    The gap is that of everything sent, recomputed here from the scores; "own figure" is what the paper's rule bounds.
    """
    rows: list[tuple[Any, ...]] = [("raw scores", None, pooled_gap(scores, groups), worst_gap(scores, groups), None, None, 0.0, 0.0, None)]
    reports = {}
    for name, (make, batch) in ENTRANTS.items():
        on_entrant(name)
        sent, report, seconds = _send(make(parity("group", tolerance=tolerance)), scores, groups, batch)
        gap, cost = pooled_gap(sent, groups), float(((sent - scores) ** 2).mean())
        least = offline(scores, groups, gap)
        own = report.extra.get("batch_gap")
        bound = report.bound if report.window["kind"] == "all" else None  # a window's bound is on the window's gap
        rows.append((name, batch, gap, worst_gap(sent, groups), bound, own, cost, least, 1e6 * seconds / len(scores)))
        reports[name] = report
    names = ("controller", "batch", "pooled gap", "worst gap", "bound", "own figure", "distortion", "offline optimum", "us a sample")
    return Replayed(Table(names, tuple(rows), title=title), reports)


def _send(controller: Controller, scores: Floats, groups: Groups, batch: int) -> tuple[Floats, StreamReport, float]:
    z, g = scores.tolist(), groups.tolist()
    out: list[float] = []
    start = time.perf_counter()
    for at in range(0, len(z), batch):
        if batch == 1:
            out.append(controller.step(z[at], sensitive_features=g[at]).scores)
        else:
            out.extend(controller.step(z[at : at + batch], sensitive_features=g[at : at + batch]).scores)
    seconds = time.perf_counter() - start
    return np.array(out), controller.report(), seconds


def pooled_gap(scores: Floats, groups: Groups) -> float:
    """max - min of the group means."""
    means = [float(scores[groups == g].mean()) for g in np.unique(groups)]
    return max(means) - min(means)


def worst_gap(scores: Floats, groups: Groups) -> float:
    """The largest pooled gap from ``WARM`` of the stream on, over groups that have come by then."""
    means = []
    for g in np.unique(groups):
        count = np.cumsum(groups == g)
        means.append(np.where(count > 0, np.cumsum(np.where(groups == g, scores, 0.0)) / np.maximum(count, 1), np.nan))
    table = np.stack(means)[:, int(WARM * len(scores)) :]
    return float((np.nanmax(table, axis=0) - np.nanmin(table, axis=0)).max())


def offline(scores: Floats, groups: Groups, gap: float) -> float:
    """The least mean squared change, all scores known beforehand, with a pooled gap of at most ``gap``."""
    component = Component(parity("group", tolerance=gap), (), exact=False)
    codes = np.array([component.code(g) for g in groups.tolist()], dtype=np.int64)
    shifts = answer_hard(scores, Touch(component, np.arange(len(scores)), codes), 0.0, 1.0)
    table = np.array([shifts[g] for g in range(len(shifts))])
    return float(((np.clip(scores - table[codes], 0.0, 1.0) - scores) ** 2).mean())
