"""What ``project_dataset`` hands back: the certificate, and the tables before and after."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fairopt.basics.table import Table
from fairopt.datasets.find import Places

GAPS = ("notion", "attribute", "given", "group_a", "group_b", "n_a", "n_b", "limit", "before", "after", "status_before", "status")
GROUPS = ("attribute", "group", "n", "mean_before", "mean_after", "selected_before", "selected_after")


@dataclass(frozen=True)
class Audited:
    """gaps: one row a comparison; groups: one row a group of an attribute; worst: the comparison of each notion that is worst now.

    notes: where the decisions of the new scores still break a parity of rates that the scores meet.
    """

    gaps: Table
    groups: Table
    notes: tuple[str, ...] = ()

    @property
    def worst(self) -> Table:
        """Of each notion, attribute and stratum the comparison that is farthest beyond its limit, or nearest to it; of those that lie
        at their limit to rounding the one that was widest before."""
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in self.gaps:
            place = (row["notion"], row["attribute"], row["given"])
            if row["after"] is None:
                continue
            best = found.get(place)
            if best is None or _rank(row) > _rank(best):
                found[place] = row
        return Table.from_records(GAPS, list(found.values()))

    @property
    def largest(self) -> tuple[float | None, float | None]:
        """The largest gap before and after, over its limit where that is 0 or more."""
        before, after = ([v for v in self.gaps[name] if v is not None] for name in ("before", "after"))
        return max(before, default=None), max(after, default=None)


def _rank(row: dict[str, Any]) -> tuple[bool, float, float]:
    beyond = row["after"] - row["limit"]
    at_limit = abs(beyond) <= 1e-9 * max(abs(row["after"]), abs(row["limit"]))
    return row["status"] == "broken", 0.0 if at_limit else beyond, row["before"]


@dataclass(frozen=True, eq=False)
class DatasetReport:
    """What ``project_dataset`` did. certificate: the contents of the certificate file, plain values; places: what was read and written.

    resumed: a stopped run was gone on with, or it had ended before.

    Examples:
        >>> import tempfile
        >>> import pandas as pd
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp())
        >>> pd.DataFrame({"sex": ["f", "f", "m", "m"], "p": [0.25, 0.75, 0.5, 1.0]}).to_csv(folder / "scores.csv", index=False)
        >>> report = fo.project_dataset(folder / "scores.csv", folder / "fair.csv", fo.DemographicParity("sex", tolerance=0), score="p")
        >>> report.rows, report.certified, report.resumed
        (4, True, False)
    """

    certificate: dict[str, Any]
    places: Places
    resumed: bool

    @property
    def status(self) -> str:
        """The name of a ``fairopt.Status``: CERTIFIED where every hard limit is proved for the scores that were written."""
        return str(self.certificate["status"])

    @property
    def rows(self) -> int:
        """Rows that were projected."""
        return int(self.certificate["rows"])

    @property
    def rejected(self) -> int:
        """Rows that were left out, and told in ``rejects``."""
        return int(self.certificate["rejected"])

    @property
    def passes(self) -> int:
        """Passes over the data until the scores were proved, the first reading among them, writing not."""
        return int(self.certificate["passes"])

    @property
    def certified(self) -> bool:
        """Whether something was asked of the scores, and proved."""
        return self.status == "CERTIFIED" and not self.certificate["vacuous"]

    @cached_property
    def audited(self) -> Audited:
        """The tables before and after: ``gaps``, ``groups``, ``worst``."""
        gaps, groups = (Table.from_records(names, self.certificate[word]) for names, word in ((GAPS, "gaps"), (GROUPS, "groups")))
        return Audited(gaps, groups, tuple(self.certificate.get("notes", ())))

    def __str__(self) -> str:
        before, after = self.audited.largest
        words = f"{self.rows:,} rows in {len(self.places.shards):,} file{'s'[: len(self.places.shards) != 1]}: {self.status}"
        gap = "" if before is None or after is None else f"; largest gap {before:.4g} before, {after:.4g} after"
        return f"{words}{gap}; {self.passes} passes"
