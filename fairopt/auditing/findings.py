"""``Findings``: what an audit found, as tables and plain values. Reports and pictures are made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fairopt.auditing.gap_rows import ExactCheck
from fairopt.basics.table import Table


@dataclass(frozen=True, eq=False)
class Findings:
    """All figures of one audit. Absent figures are None and have a word beside them; none is NaN.

    gaps          a row a comparison, first of the scores, then of the decisions: the columns of ``fairopt.gaps`` with ``quantity``, the
                  interval of the gap (low, high, how) and ``population``: the interval lies inside the limit, outside it, or open
    summary       a row a notion, attribute and stratum: how many comparisons are met, and the worst of them
    groups        a row an attribute, group and measure (mean_score, selection_rate, ...), with count, n and interval
    spread        a row an attribute and measure: difference and ratio between groups and to everybody
    ratios        the four-fifths format;  local_law: the formats of New York City's Local Law 144, by title, where asked for
    checks        exact: whether scores and decisions meet each notion
    distribution  histograms of the scores by group
    data_hash     sha256 of the audited numbers;  settings, versions: how it was made;  notes: what a reader must know
    """

    notions: tuple[str, ...]
    n: int
    gaps: Table
    summary: Table
    groups: Table
    spread: Table
    ratios: Table
    local_law: dict[str, Table]
    checks: tuple[ExactCheck, ...]
    distribution: Table
    data_hash: str
    settings: dict[str, Any]
    versions: dict[str, str]
    notes: tuple[str, ...] = field(default=())

    @property
    def holds(self) -> bool:
        """Whether the scores meet every notion exactly. The decisions are another matter: see ``checks``, and see ``vacuous``."""
        return all(check.holds for check in self.checks if check.quantity == "score")

    @property
    def vacuous(self) -> bool:
        """Whether some notion asks nothing of these scores (nobody to compare): then ``holds`` says nothing of it."""
        return any(check.vacuous for check in self.checks if check.quantity == "score")

    @property
    def tables(self) -> dict[str, Table]:
        """All tables by name."""
        own = {name: getattr(self, name) for name in ("summary", "gaps", "groups", "spread", "ratios", "distribution")}
        return {**own, **{f"local law 144: {title}": table for title, table in self.local_law.items()}}
