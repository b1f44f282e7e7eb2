"""A result as a markdown page: the command, what was run, the tables, the verdicts, the pictures.

The page is written anew by each run down to the line ``BY_HAND``; what stands below that line is kept. It is the place for why.
"""

from __future__ import annotations

import math
from pathlib import Path

from fairopt.basics.table import Table
from fairopt.experiments.report import ERROR
from fairopt.experiments.reproduce import Result, Section

LONGEST = 8  # more decimals than this are written as powers of ten
BY_HAND = "<!-- below this line by hand: kept when the page is written anew -->"


def write_page(result: Result, path: Path, command: str) -> list[Path]:
    """The page and its pictures, which lie beside it; returns all that was written."""
    kept = _by_hand(path)
    lines = [f"# {result.title}", "", f"    {command}", "", result.text, ""]
    written = [path]
    for number, section in enumerate(result.sections):
        lines += _section(section)
        if section.picture is not None:
            picture = path.with_name(picture_name(path.stem, number))
            section.picture(picture)
            written.append(picture)
            lines += [f"![{section.title}]({picture.name})", ""]
    path.write_text("\n".join(lines) + "\n" + BY_HAND + "\n" + kept, encoding="utf-8")
    return written


def picture_name(stem: str, number: int) -> str:
    """The first picture has the page's name, the others a number."""
    return f"{stem}.png" if number == 0 else f"{stem}-{number + 1}.png"


def _section(section: Section) -> list[str]:
    lines = [f"## {section.title}", "", *_markdown(section.rows), ""]
    if section.paper is not None:
        lines += [section.paper.title or "The paper's figures:", "", *_markdown(section.paper), ""]
    lines += [f"- {said}" for said in section.verdicts]
    return [*lines, ""] if section.verdicts else lines


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
