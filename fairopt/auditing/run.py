"""``audit``: everything that can be said of given scores, decisions and groups under parity notions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairopt.auditing.apart import notes_apart
from fairopt.auditing.fingerprint import data_hash, versions
from fairopt.auditing.gap_rows import Read, Values, exact_check, gap_rows, gap_table, read_constraints, summary_table
from fairopt.auditing.group_table import group_table, spread_table
from fairopt.auditing.intervals import FEWEST, NO_SCIPY, Estimator, has_scipy
from fairopt.auditing.metrics import Metric, Metrics, sample_metrics
from fairopt.auditing.ratios import LocalLaw144, four_fifths, local_law_tables, read_local_law
from fairopt.auditing.result import Audit
from fairopt.auditing.sample import Groups, Sample, audited_attributes, read_notions, read_sample
from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.extras import install_line
from fairopt.basics.table import Table
from fairopt.notions.algebra import Notion
from fairopt.notions.batch import Batch
from fairopt.notions.groups import Missing

BINS = 20
DISTRIBUTION = ("attribute", "group", "from", "to", "share")


def audit(
    scores: Any,
    notion: Notion | Sequence[Notion],
    *,
    sensitive_features: Any,
    targets: Any = None,
    decisions: Any = None,
    threshold: float = 0.5,
    groups: Mapping[str, Iterable[Any]] | None = None,
    missing_group: Missing = "error",
    pos_label: Any = None,
    attributes: Iterable[str | tuple[str, ...]] | None = None,
    local_law: LocalLaw144 | tuple[str, str] | None = None,
    metrics: Mapping[str, Callable[..., Any] | Metric] | None = None,
    sample_weight: Any = None,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Audit:
    """Audit ``scores`` (n,) or (n, 1) under one notion or several: gaps of scores *and* of decisions, with counts and intervals.

    sensitive_features  a mapping from attribute names to n values, or a data frame;  targets (n,), for notions and rates that need them
    decisions           (n,) 0 or 1; not given: 1 where score >= threshold, in the units of the scores
    groups              declared values of attributes: then an absent group is shown as absent
    missing_group       "error", or "own": missing values are a group, "missing"
    pos_label           the target that counts as 1, every other one as 0; None: targets are numbers
    attributes          names and tuples of names (intersections) that get group and ratio tables; by default every feature that has
                        groups and every tuple that a notion compares
    local_law           the names of the sex and the race column: adds the table formats of New York City's Local Law 144
    metrics             name -> function of (targets, decisions), such as scikit-learn's, or a ``fairopt.auditing.Metric`` (of scores):
                        measures of yours in the group and spread tables
    sample_weight       (n,) >= 0, handed to these functions as ``sample_weight=``; nothing else is weighted
    confidence, draws, seed   of the intervals: see ``fairopt.auditing.intervals``. They take the scores as given.

    Whether a constraint is met is decided in exact arithmetic from the numbers that came. The intervals of rates need scipy; without it
    they are left out and a note says so. Raises InputError for bad input. Reports: ``Audit.to_html``, ``to_json``, ``to_pandas``.

    Examples:
        >>> features = {"sex": ["f", "f", "m", "m"]}
        >>> report = fo.audit([0.25, 0.75, 0.5, 1.0], fo.DemographicParity("sex", tolerance=0.2), sensitive_features=features)
        >>> print(report.checks[0].verdict, report.gaps["gap"])
        broken (0.25, 0.5)
    """
    notions = read_notions(notion)
    law = read_local_law(local_law)
    sample = read_sample(
        scores, sensitive_features=sensitive_features, targets=targets, decisions=decisions, threshold=threshold, groups=groups,
        missing_group=missing_group, pos_label=pos_label, attributes=tuple(dict.fromkeys(a for one in notions for a in one.attributes)),
    )  # fmt: skip
    own = sample_metrics(sample, metrics, sample_weight)
    shown, notes = audited_attributes(sample, notions, attributes)
    intervals = Intervals(confidence, draws, seed)
    settings = settings_of(sample, pos_label, intervals)
    if own is not None:
        settings |= {"metrics": {k: m.of for k, m in own.by_name.items()}, "weighted": own.weights is not None}
    return made_of(
        sample, notions, shown, intervals, settings=settings, notes=notes, distribution=_distribution(sample, shown),
        hashed=data_hash(sample), own=own, local_law={} if law is None else local_law_tables(sample, law),
    )  # fmt: skip


@dataclass(frozen=True)
class Intervals:
    """How intervals are made: see ``fairopt.auditing.intervals``."""

    confidence: float
    draws: int
    seed: int

    def of(self, values: Array | None, batch: Batch) -> Estimator:
        """The intervals of ``values`` (n,); None: of what is known as sums alone."""
        return Estimator(values, batch, confidence=self.confidence, draws=self.draws, seed=self.seed)


def settings_of(sample: Sample, pos_label: Any, intervals: Intervals) -> dict[str, Any]:
    """What an audit says of how it was made."""
    return {
        "threshold": sample.threshold, "decisions": "given" if sample.threshold is None else "score >= threshold", "dtype": sample.dtype,
        "missing_group": sample.missing, "pos_label": pos_label,
        "confidence": intervals.confidence, "draws": intervals.draws, "seed": intervals.seed,
    }  # fmt: skip


def made_of(
    sample: Sample, notions: Sequence[Notion], shown: list[Groups], intervals: Intervals, *, settings: dict[str, Any], notes: Sequence[str],
    distribution: Table, hashed: str, own: Metrics | None = None, local_law: Mapping[str, Table] | None = None,
) -> Audit:  # fmt: skip
    """The audit of a sample, of rows at hand or of sums over them. ``notes`` come first."""
    reads = [read_constraints(sample, one) for one in notions]
    quantities: dict[str, Values] = {"score": sample.summed, "decision": sample.decisions}
    scores = intervals.of(sample.values, sample.batch)
    estimators = {"score": scores, "decision": intervals.of(sample.decisions, sample.batch)}
    gaps = gap_table(
        [
            row
            for name, values in quantities.items()
            for one, read in zip(notions, reads, strict=True)
            for row in gap_rows(name, values, sample, one, read, estimators[name])
        ]
    )
    by_group = group_table(sample, shown, scores, own)
    return Audit(
        notions=tuple(map(repr, notions)),
        n=sample.n,
        gaps=gaps,
        summary=summary_table(gaps),
        groups=by_group,
        spread=spread_table(by_group),
        ratios=four_fifths(sample, shown, scores),
        local_law=dict(local_law or {}),
        checks=tuple(
            exact_check(name, values, sample, read, one)
            for name, values in quantities.items()
            for one, read in zip(notions, reads, strict=True)
        ),
        distribution=distribution,
        data_hash=hashed,
        settings=settings,
        versions=versions(),
        notes=(*notes, *_notes(sample, shown, gaps, notions, reads)),
    )


def _notes(sample: Sample, shown: list[Groups], gaps: Table, notions: Sequence[Notion], reads: Sequence[Read]) -> list[str]:
    """What a reader would otherwise miss."""
    found = []
    share = float(sample.decisions[0])
    if (sample.decisions == share).all():
        where = "as given" if sample.threshold is None else f"at threshold {sample.threshold:g}; are the scores logits?"
        found.append(f"all decisions are {share:.0f} {where}")
    for groups in shown:
        counts = groups.counts.tolist()
        present = [name for name, count in zip(groups.names, counts, strict=True) if count]
        if len(present) == 1:
            found.append(f"{groups.words}: only one group ({present[0]}), so there is nothing to compare")
        absent = [name for name, count in zip(groups.names, counts, strict=True) if not count]
        if absent:
            found.append(f"{groups.words}: nobody in {', '.join(absent)}")
        small = [f"{name} ({count})" for name, count in zip(groups.names, counts, strict=True) if 0 < count < FEWEST]
        if small:
            found.append(f"{groups.words}: groups too small for intervals of means: {', '.join(small)}")
    for read in reads:
        found += notes_apart(read, sample.summed, sample.decisions, sample.batch)
    asked = {row["notion"] for row in gaps if row["quantity"] == "score" and row["gap"] is not None}
    silent = [row["notion"] for row in gaps if row["quantity"] == "score" and row["notion"] not in asked]
    if silent:
        found.append(f"vacuous: nothing is asked of these scores by {', '.join(dict.fromkeys(silent))}")
    if any(row["status"] == "undefined" for row in gaps):
        found.append("targets are not 0 or 1: residuals of decisions are not defined")
    if any(leaf.kind != "hard" for notion in notions for leaf in notion.leaves()):
        found.append("prices of a notion are not audited: every limit is checked as if it were hard")
    if not has_scipy():
        found.append(f"intervals of rates are left out ({NO_SCIPY}): {install_line('audit')}")
    return found


def _distribution(sample: Sample, shown: list[Groups]) -> Table:
    """Shares of each group's scores in equal bins from the least to the largest score."""
    edges = edges_of(float(sample.scores.min()), float(sample.scores.max()))
    counts = [[np.histogram(sample.scores[groups.members(k)], edges)[0] for k in range(len(groups.values))] for groups in shown]
    return distribution_table(edges, shown, counts)


def edges_of(least: float, largest: float) -> Array:
    """(BINS + 1,) the edges of the bins."""
    return np.linspace(least, largest if largest > least else least + 1.0, BINS + 1)


def distribution_table(edges: Array, shown: Sequence[Groups], counts: Sequence[Sequence[IntArray]]) -> Table:
    """``counts``: the scores of each group of each attribute in each bin; one at the last edge is in the last bin."""
    rows: list[tuple[Any, ...]] = []
    for groups, found in zip(shown, counts, strict=True):
        for name, inside in zip(groups.names, found, strict=True):
            if inside.any():
                shares = inside / inside.sum()
                rows += [(groups.words, name, float(edges[b]), float(edges[b + 1]), float(s)) for b, s in enumerate(shares)]
    return Table(DISTRIBUTION, tuple(rows))
