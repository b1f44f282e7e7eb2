"""One HTML page about an audit: pictures embedded, tables, what was checked exactly, provenance. It loads nothing from anywhere."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from fairopt.auditing.findings import Findings
from fairopt.auditing.pictures import PANEL, ROWS, draw_pictures
from fairopt.basics.extras import missing
from fairopt.basics.files import write_whole
from fairopt.basics.table import Table

LONGEST = 300  # rows of a table on the page; the rest are in the JSON
CAPTIONS = {
    "gaps": f"Gap of the scores and of the decisions for each comparison, with its interval, and the limit; the {ROWS} that lie furthest "
    "beyond their limit. Where a notion bounds a mean from below, gap and limit have a minus sign.",
    "groups": f"Mean score and selection rate of each group with their intervals; the {PANEL} largest groups of an attribute.",
    "scores": "Where the scores of each group lie.",
}
MEANINGS = (
    ("gap", "abs(value_a - value_b) of two group means; of one-sided and single limits the signed distance that the limit is about"),
    (
        "status",
        "met: gap <= limit in exact arithmetic on the given numbers; broken; absent: nobody in a group; one group; undefined; "
        "vacuous: nothing to compare, so nothing is said",
    ),
    ("low, high", "the interval at the stated confidence, for data drawn like these; it takes the scores as given"),
    ("population", "where the whole interval lies: inside the limit, outside it, or open (on both sides)"),
    ("interval", "how it was made, or why there is none"),
)
TEMPLATE = Path(__file__).parent / "report.html"


def write_report(audit: Findings, path: Path) -> Path:
    """Write the page. MissingExtraError without Jinja2 and matplotlib; InputError where the file cannot be written."""
    try:
        from jinja2 import Environment
    except ImportError as error:
        raise missing("the report needs Jinja2", "audit") from error
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    pictures = [(name, base64.b64encode(data).decode(), CAPTIONS[name]) for name, data in draw_pictures(audit).items()]
    words = page.render(
        audit=audit, pictures=pictures, meanings=MEANINGS, grid=_grid, confidence=f"{audit.settings['confidence']:.4g}",
        rates=_wide(audit.groups), law=[(title, _grid(table)) for title, table in audit.local_law.items()],
        provenance={"data hash (sha256)": audit.data_hash, **audit.settings, **audit.versions},
    )  # fmt: skip
    return write_whole(path, words, "html")


def _wide(groups: Table) -> Table:
    """One row a group, one column a measure: value with its interval."""
    names = tuple(dict.fromkeys(groups["measure"]))
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in groups:
        one = found.setdefault((row["attribute"], row["group"]), {"attribute": row["attribute"], "group": row["group"]})
        one[row["measure"]] = _figure(row)
        if row["measure"] == "mean_score":
            one["n"] = row["n"]
    return Table.from_records(("attribute", "group", "n", *names), list(found.values()))


def _figure(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return "nobody"
    counted = "" if row["count"] is None else f" ({row['count']}/{row['n']})"
    interval = row["interval"] if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
    return f"{row['value']:.3f}{counted}\n{interval}"


def _grid(table: Table) -> dict[str, Any]:
    """Heads and rows of words; ``off`` marks a row that a reader looks for first."""
    left = [not any(isinstance(v, int | float) and not isinstance(v, bool) for v in table[c]) for c in table.columns]
    rows = [(_off(row), [(_word(row[c]), k) for c, k in zip(table.columns, left, strict=True)]) for row in list(table)[:LONGEST]]
    heads = [(c.replace("_", " "), k) for c, k in zip(table.columns, left, strict=True)]
    return {"title": table.title, "heads": heads, "rows": rows, "more": max(len(table) - LONGEST, 0)}


def _off(row: dict[str, Any]) -> bool:
    return row.get("status") == "broken" or row.get("below_four_fifths") is True


def _word(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "0" if value == 0 else f"{value:.4g}"
    return str(value)
