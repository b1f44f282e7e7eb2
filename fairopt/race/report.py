"""One HTML file about a race: pictures embedded, figures, failures, machine, versions, settings. It loads nothing from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairopt.basics.extras import missing
from fairopt.basics.finished_cells import Record
from fairopt.basics.table import Table
from fairopt.race.rows import failure_of

CAPTIONS = {
    "time": "Time against n: forward and backward of one projection through the front door (inputs checked, certified), median of the "
    "calls, one thread; a bar goes from quartile to quartile.",
    "accuracy": "Accuracy against time. Left: the solver by itself. The front door then polishes and repairs, so that what is returned "
    "and its implicit gradient are off by about rounding whatever the solver was (float32 answers by about 1e-7).",
    "outcomes": "Every cell of the race. Green: an answer that holds, exactly or up to the rounding of its dtype.",
}
MEANINGS = (
    ("forward, backward", "median milliseconds of a call; spread: between the quartiles of the forward calls"),
    ("setup", "compiling the batch and the first forward and backward on it; the import of the solver is apart, in the tidy table"),
    ("memory", "peak of resident memory over the state after import, MB"),
    ("violation", "worst violation of any row or bound by the returned numbers, in exact rational arithmetic; 0 where all hold"),
    (
        "y error",
        "max |y - y*| of the returned scores; y* is fairopt.testing's reference up to 1,024 numbers, beyond that dual_newton in float64",
    ),
    ("solver y error", "the same for the solver's own answer, before the front door polishes it"),
    (
        "gradient error",
        "max |g - g*| / max |g*| for a random vector sent backwards, g* from the active set; absent near a kink; "
        "by class probabilities: of the part that sums to 0",
    ),
)
TEMPLATES = Path(__file__).parent  # report.html, grid.html


def write_report(path: Path, header: Record, cells: Table, shown: Table, failures: Table, pictures: Sequence[Path]) -> Path:
    """Write the report: ``cells`` the tidy table, ``shown`` and ``failures`` made of it, PNG pictures inside."""
    try:
        from jinja2 import Environment
        from markupsafe import Markup
    except ImportError as error:
        raise missing("the report needs Jinja2", "race") from error
    environment = Environment(autoescape=True)
    page, grid = (environment.from_string((TEMPLATES / f"{name}.html").read_text(encoding="utf-8")) for name in ("report", "grid"))

    def as_html(table: Table) -> Markup:
        left = [not any(isinstance(v, int | float) for v in table[c]) for c in table.columns]
        rows = [(_off(row), [_cell(row[c], c, k) for c, k in zip(table.columns, left, strict=True)]) for row in table]
        heads = [(c.replace("_", " "), k) for c, k in zip(table.columns, left, strict=True)]
        return Markup(grid.render(heads=heads, rows=rows))  # escaped by its own template

    words = page.render(
        cells=len(cells), backends=len(set(cells["backend"])),
        good=sum(not failure_of(record) for record in cells),
        pictures=[(p.stem, base64.b64encode(p.read_bytes()).decode(), CAPTIONS[p.stem]) for p in pictures],
        failures=failures, figures=shown, meanings=MEANINGS, grid=as_html,
        facts=[("Machine", header["machine"]), ("Versions", header["versions"]), ("Settings", header["settings"])],
    )  # fmt: skip
    path.write_text(words, encoding="utf-8")
    return path


def _off(row: dict[str, Any]) -> bool:
    """Whether a row of the figures is a failure. Rows of other tables are not."""
    return row.get("outcome", "certified") not in ("certified", "within rounding")


def _cell(value: object, column: str, left: bool) -> tuple[str, str]:
    """The word, and the class of its cell."""
    kind = "long" if column == "message" else ""
    if value is None or value == "":
        return "-", f"{kind} word".strip() if left else kind
    if isinstance(value, float):
        return ("0" if value == 0 else f"{value:.3g}"), kind
    return str(value), f"{kind} word".strip() if left else kind
