"""``Audit``: what an audit found, as tables; saved as JSON, CSV or one HTML page."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from fairopt.auditing.findings import Findings
from fairopt.basics.errors import InputError
from fairopt.basics.files import csv_table, write_whole
from fairopt.basics.table import Table, visible

FORMAT = 1


class Audit(Findings):
    """What an audit found: ``gaps``, ``summary``, ``groups``, ``spread``, ``ratios``, ``local_law``, ``checks``, ``distribution`` and more,
    each described at ``Findings``; and how it is saved, as JSON, CSV or one HTML page. ``notions`` are the words of those audited.

    Examples:
        >>> features = {"sex": ["f", "f", "m", "m"]}
        >>> report = fo.audit([0.2, 0.8, 0.4, 0.9], fo.DemographicParity("sex", tolerance=0.1), sensitive_features=features)
        >>> [(check.quantity, check.verdict) for check in report.checks]
        [('score', 'broken'), ('decision', 'holds')]
    """

    def to_pandas(self) -> dict[str, Any]:
        """Name -> ``pandas.DataFrame`` of every table. MissingExtraError without pandas."""
        return {name: table.to_pandas() for name, table in self.tables.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values, ready for JSON; a table is a list of records, an open limit is None."""
        return {
            "format": FORMAT,
            "n": self.n,
            "notions": list(self.notions),
            "holds": self.holds,
            "vacuous": self.vacuous,
            "checks": [check.to_dict() for check in self.checks],
            "tables": {name: [{k: _plain(v) for k, v in row.items()} for row in table] for name, table in self.tables.items()},
            "notes": list(self.notes),
            "data_hash": self.data_hash,
            "settings": dict(self.settings),
            "versions": dict(self.versions),
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """The audit as JSON text; written to ``path`` as well where one is given. ``read_json`` reads it back."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        if path is not None:
            write_whole(path, text + "\n", "json")
        return text

    def to_csv(self, path: str | Path, table: str = "gaps") -> Path:
        """Write one table, the gaps by default, to ``path`` as CSV. InputError for a table that is none.

        A name that a spreadsheet would run as a formula has an apostrophe before it.
        """
        if table not in self.tables:
            raise InputError(f"table: got {table!r}, expected one of {', '.join(self.tables)}")
        found = self.tables[table]
        return write_whole(path, csv_table(found.columns, found.rows), "csv")

    def to_html(self, path: str | Path) -> Path:
        """Write to ``path`` one page with pictures, tables and provenance that loads nothing from anywhere.

        MissingExtraError without Jinja2, matplotlib.
        """
        from fairopt.auditing.report import write_report

        return write_report(self, Path(path))

    def _verdicts(self) -> list[str]:
        words = {"holds": "every constraint holds", "vacuous": "vacuous: nothing to compare"}
        return [f"{c.quantity}s: {words.get(c.verdict, c.verdict)} ({c.notion})" for c in self.checks]

    def __str__(self) -> str:
        notes = (f"note: {note}" for note in self.notes)
        lines = "\n".join([f"audit of {self.n:,} samples", *self._verdicts(), "", str(self.summary), *notes])
        return visible(lines, lines=True)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdicts, the summary, the groups in a fold, the notes. It needs nothing; ``to_html`` is the page."""
        verdicts = "".join(f"<li>{html.escape(visible(words))}</li>" for words in self._verdicts())
        notes = "".join(f"<li>note: {html.escape(visible(note))}</li>" for note in self.notes)
        parts = [("groups", self.groups), ("gaps", self.gaps)]
        folds = "".join(f"<details><summary>{name}</summary>{table._repr_html_()}</details>" for name, table in parts)
        return f"<p>audit of {self.n:,} samples</p><ul>{verdicts}{notes}</ul>{self.summary._repr_html_()}{folds}"


def read_json(text: str | Path) -> dict[str, Any]:
    """The ``text`` that ``to_json`` wrote, with every table as a ``Table``. InputError for a newer format.

    Examples:
        >>> from fairopt.auditing import read_json
        >>> report = fo.audit([0.25, 0.75], fo.DemographicParity("sex", tolerance=0.1), sensitive_features={"sex": ["f", "m"]})
        >>> sorted(read_json(report.to_json()))
        ['checks', 'data_hash', 'format', 'holds', 'n', 'notes', 'notions', 'settings', 'tables', 'vacuous', 'versions']
    """
    data = json.loads(text.read_text(encoding="utf-8") if isinstance(text, Path) else text)
    version = data.get("format") if isinstance(data, Mapping) else None
    if not isinstance(version, int) or version > FORMAT:
        raise InputError(f"audit: got format {version!r}, expected at most {FORMAT}")
    tables = {name: Table.from_records(tuple(rows[0]) if rows else (), rows) for name, rows in data["tables"].items()}
    return {**data, "tables": tables}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value
