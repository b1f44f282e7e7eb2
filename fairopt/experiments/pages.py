"""A result as a markdown page: the command, what was run, the tables, the verdicts, the pictures; rendered from a stored table.

The page is written anew by each run down to the line ``BY_HAND``; what stands below that line is kept. It is the place for why.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairopt.basics.table import Table
from fairopt.experiments.marks import STUDIES, machine, mark_of
from fairopt.experiments.report import ERROR
from fairopt.experiments.reproduce import Result

TABLES = "tables"  # the folder of what pages are rendered from, beside them
LONGEST = 8  # more decimals than this are written as powers of ten
BY_HAND = "<!-- below this line by hand: kept when the page is written anew -->"


def write_page(result: Result, path: Path, command: str) -> list[Path]:
    """The page, its pictures beside it, and in the folder ``tables`` what it is rendered from; returns all that was written."""
    kept = _by_hand(path)
    written = [path]
    pictures: list[str | None] = []
    for number, section in enumerate(result.sections):
        pictures.append(None)
        if section.picture is not None:
            picture = path.with_name(picture_name(path.stem, number))
            section.picture(picture)
            written.append(picture)
            pictures[-1] = picture.name
    files = write_stored(stored(result, command, pictures), result.cells, path.parent / TABLES, path.stem)
    # From the file and not from the result: a page can say nothing that its table has not.
    path.write_text(render(json.loads(files[0].read_text("utf-8"))) + kept, encoding="utf-8")
    return written + files


def stored(result: Result, command: str, pictures: Sequence[str | None]) -> dict[str, Any]:
    """Everything that stands on a page, as plain JSON; numbers in full."""
    sections = [
        {
            "title": section.title,
            "rows": _plain(section.rows),
            "paper": None if section.paper is None else _plain(section.paper),
            "verdicts": list(section.verdicts),
            "picture": picture,
        }
        for section, picture in zip(result.sections, pictures, strict=True)
    ]
    made_by = {"code": mark_of(STUDIES), "machine": machine()}
    return {"title": result.title, "command": command, "text": result.text, **made_by, "sections": sections}


def write_stored(page: dict[str, Any], cells: Table | None, folder: Path, stem: str) -> list[Path]:
    """``stem``.json, and ``stem``-cells.csv.gz where there are cells; the same bytes for the same figures."""
    folder.mkdir(exist_ok=True)
    written = [folder / f"{stem}.json"]
    written[0].write_text(json.dumps(page, indent=1, sort_keys=True, default=_number) + "\n", encoding="utf-8")
    if cells is not None:
        written.append(folder / f"{stem}-cells.csv.gz")
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(cells.columns)
        writer.writerows(cells.rows)
        written[1].write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
    return written


def render(page: Mapping[str, Any]) -> str:
    """The page down to the line ``BY_HAND``, of what ``stored`` gave."""
    lines = [f"# {page['title']}", "", f"    {page['command']}", "", page["text"], ""]
    for section in page["sections"]:
        lines += _section(section)
    return "\n".join(lines) + "\n" + BY_HAND + "\n"


def _number(value: Any) -> Any:
    """A number of numpy's as one of Python's."""
    return value.item()


def _plain(table: Table) -> dict[str, Any]:
    return {"columns": list(table.columns), "rows": [list(row) for row in table.rows], "title": table.title}


def _table(plain: Mapping[str, Any]) -> Table:
    return Table(tuple(plain["columns"]), tuple(tuple(row) for row in plain["rows"]), plain["title"])


def picture_name(stem: str, number: int) -> str:
    """The first picture has the page's name, the others a number."""
    return f"{stem}.png" if number == 0 else f"{stem}-{number + 1}.png"


def _section(section: Mapping[str, Any]) -> list[str]:
    lines = [f"## {section['title']}", "", *_markdown(_table(section["rows"])), ""]
    if section["paper"] is not None:
        lines += [section["paper"]["title"] or "The paper's figures:", "", *_markdown(_table(section["paper"])), ""]
    if section["verdicts"]:
        lines += [*(f"- {said}" for said in section["verdicts"]), ""]
    if section["picture"] is not None:
        lines += [f"![{section['title']}]({section['picture']})", ""]
    return lines


def joined(table: Table, *, errors_too: bool = True) -> Table:
    """Each column of standard errors ("x ±") put behind the column x before it, rounded to two of its digits: "0.8712 ± 0.0031".

    errors_too=False leaves them out, for a narrow screen.
    """
    errors = {k for k in range(1, len(table.columns)) if table.columns[k] == table.columns[k - 1] + ERROR}
    places = [k for k in range(len(table.columns)) if k not in errors]
    rows = tuple(tuple(_with_error(row[k], row[k + 1]) if errors_too and k + 1 in errors else row[k] for k in places) for row in table.rows)
    return Table(tuple(table.columns[k] for k in places), rows, table.title)


def _with_error(mean: float | None, error: float | None) -> str | float | None:
    """An error that would not show in four digits of the mean is left out: a gap at its tolerance varies by rounding alone."""
    if mean is None or not error or error < 1e-5 * abs(mean):
        return mean
    digits = max(1 - math.floor(math.log10(error)), 0)
    return f"{mean:.{digits}f} ± {error:.{digits}f}" if digits <= LONGEST else f"{mean:.2g} ± {error:.1g}"


def _markdown(table: Table) -> list[str]:
    table = joined(table)
    head = "| " + " | ".join(_word(column) for column in table.columns) + " |"
    rule = "|" + "|".join("---" for _ in table.columns) + "|"
    return [head, rule, *("| " + " | ".join(_word(value) for value in row) + " |" for row in table.rows)]


def _word(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _by_hand(path: Path) -> str:
    """What stands below the line; all of a page that has no such line would be lost, so it is kept too."""
    if not path.exists():
        return ""
    whole = path.read_text(encoding="utf-8")
    return whole.split(BY_HAND, 1)[1].removeprefix("\n") if BY_HAND in whole else whole
