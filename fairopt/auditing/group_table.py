"""Figures by group, with counts and intervals; and how far apart the groups are in each.

Means are exact sums of the given numbers, rounded once. A figure that is not defined (nobody in the group, no positive target in it) is
None with a note, never 0 and never NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from fairopt.auditing.intervals import SCORES, Estimator
from fairopt.auditing.metrics import Metrics
from fairopt.auditing.sample import Groups, Sample, residuals_of, sizes_of
from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.basics.exact_sums import exact_cell_sums, exact_counted_sums
from fairopt.basics.table import Table

OVERALL = "overall"
COLUMNS = ("attribute", "group", "measure", "value", "low", "high", "count", "n", "interval")
SPREAD = (
    "attribute", "measure", "overall", "smallest", "smallest_group", "largest", "largest_group", "difference", "ratio",
    "difference_to_overall", "ratio_to_overall", "groups", "note",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Measure:
    """The mean of x (n,), or of sums over each position, among ``among`` (n,); ``rate``: x is 0 or 1."""

    name: str
    x: Array | Sequence[Fraction]
    among: BoolArray
    rate: bool


def measures(sample: Sample) -> list[Measure]:
    """mean_score, selection_rate; with 0/1 targets base_rate, true and false positive rate, accuracy; with others mean_target and
    mean_squared_error; with any mean_residual, the mean of score - target."""
    everyone = np.ones(sample.positions, dtype=np.bool_)
    values = sample.values
    scores = sample.summed if values is None else values
    found = [Measure("mean_score", scores, everyone, False), Measure("selection_rate", sample.decisions, everyone, True)]
    if sample.targets is None:
        return found
    t, d = sample.targets, sample.decisions
    residuals: Array | Sequence[Fraction]
    squares: Array | Sequence[Fraction]
    if values is not None:
        residuals, squares = residuals_of(values, t)
    else:
        assert sample.totals is not None
        residuals, squares = sample.totals.residuals, sample.totals.squares
    if sample.binary:
        found += [
            Measure("base_rate", t, everyone, True),
            Measure("true_positive_rate", d, t == 1, True),
            Measure("false_positive_rate", d, t == 0, True),
            Measure("accuracy", (d == t).astype(np.float64), everyone, True),
        ]
    else:
        found += [Measure("mean_target", t, everyone, False), Measure("mean_squared_error", squares, everyone, False)]
    return [*found, Measure("mean_residual", residuals, everyone, False)]


def group_table(sample: Sample, attributes: Sequence[Groups], estimator: Estimator, metrics: Metrics | None = None) -> Table:
    """One row an attribute, group and measure, the user's metrics after the audit's own; first everybody's. count: how many are 1, for
    rates."""
    listed = measures(sample)
    records: list[dict[str, Any]] = []
    everyone = np.zeros(sample.positions, dtype=np.int64)
    for words, names, codes in [("", (OVERALL,), everyone), *((g.words, g.names, g.codes) for g in attributes)]:
        means = [_means(measure, codes, len(names), sample.copies) for measure in listed]
        for k, name in enumerate(names):
            for measure, (values, sizes) in zip(listed, means, strict=True):
                records.append(
                    {"attribute": words, "group": name, **_figures(measure, (codes == k) & measure.among, values[k], sizes[k], estimator)}
                )
            records += [{"attribute": words, "group": name, **row} for row in _users(metrics, codes == k, everybody=not words)]
    return Table.from_records(COLUMNS, records)


def _users(metrics: Metrics | None, who: BoolArray, *, everybody: bool) -> Iterator[dict[str, Any]]:
    """The user's metrics among ``who`` (n,)."""
    for name in () if metrics is None else metrics.by_name:
        assert metrics is not None
        if everybody:
            metrics.overall(name)  # a function that fails there is wrong
        value, how = metrics.figure(name, who)
        yield {"measure": name, "value": value, "low": None, "high": None, "count": None, "n": int(who.sum()), "interval": how}


def _means(measure: Measure, codes: IntArray, groups: int, copies: IntArray | None) -> tuple[list[Fraction], list[int]]:
    """Exact sum and size of each group."""
    inside, x = measure.among, measure.x
    many = None if copies is None else copies[inside]
    if not isinstance(x, np.ndarray):
        sums = [Fraction(0)] * groups
        for k, part in zip(codes.tolist(), x, strict=True):
            sums[k] += part
    elif many is None:
        sums = exact_cell_sums(x[inside], codes[inside], groups)
    else:
        sums = exact_counted_sums(x[inside], many, codes[inside], groups)
    return sums, sizes_of(codes[inside], groups, many).tolist()


def _figures(measure: Measure, who: BoolArray, total: Fraction, n: int, estimator: Estimator) -> dict[str, Any]:
    x = measure.x if isinstance(measure.x, np.ndarray) else None
    interval = estimator.mean(who, x, SCORES if measure.name == "mean_score" else measure.name)
    return {
        "measure": measure.name,
        "value": float(total / n) if n else None,
        "low": interval.low,
        "high": interval.high,
        "count": int(total) if measure.rate else None,
        "n": n,
        "interval": interval.how,
    }


def spread_table(groups: Table) -> Table:
    """For each attribute and measure: smallest and largest group figure, their difference and ratio, and the same against everybody.

    ratio: smallest / largest; ratio_to_overall: the smallest of value / overall and overall / value. Ratios are of figures >= 0 only.
    """
    return Table.from_records(SPREAD, list(_spread(groups)))


def _spread(groups: Table) -> Iterator[dict[str, Any]]:
    overall = {row["measure"]: row["value"] for row in groups if row["attribute"] == ""}
    found: dict[tuple[str, str], list[tuple[float | None, str]]] = {}
    for row in groups:
        if row["attribute"]:
            found.setdefault((row["attribute"], row["measure"]), []).append((row["value"], row["group"]))
    for (attribute, measure), values in found.items():
        known = [(value, group) for value, group in values if value is not None]
        record: dict[str, Any] = dict.fromkeys(SPREAD)
        record.update(attribute=attribute, measure=measure, overall=overall[measure], groups=len(known), note="")
        missing = [group for value, group in values if value is None]
        if missing:
            record["note"] = f"not defined in {', '.join(missing)}"
        if known:
            low, high = min(known, key=lambda v: v[0]), max(known, key=lambda v: v[0])
            record.update(smallest=low[0], smallest_group=low[1], largest=high[0], largest_group=high[1])
        if len(known) < 2:
            record["note"] = "; ".join(w for w in (record["note"], "fewer than two groups: nothing to compare") if w)
        else:
            compared = _compared([value for value, _ in known], overall[measure], signed=measure == "mean_residual")
            record.update(compared, note="; ".join(w for w in (record["note"], compared["note"]) if w))
        yield record


def _compared(values: list[float], overall: float, *, signed: bool) -> dict[str, Any]:
    """Differences and ratios; ``signed``: 0 is no natural zero of a size, so that a ratio says nothing."""
    low, high = min(values), max(values)
    away = max(abs(v - overall) for v in values)
    ratios = low >= 0 and high > 0 and not signed
    to_overall = min(min(v / overall, overall / v if v else 1.0) for v in values) if ratios and overall > 0 else None
    return {
        "difference": high - low,
        "ratio": low / high if ratios else None,
        "difference_to_overall": away,
        "ratio_to_overall": to_overall,
        "note": "" if ratios else "no ratio: " + ("all are 0" if high == 0 == low else "figures with a sign"),
    }
