"""``fairopt audit``: gaps, rates and ratios of a file of scores, on the terminal and as HTML, JSON, CSV."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

import fairopt as fo
from fairopt.auditing.table_file import Frame, TableFile
from fairopt.basics.errors import InputError
from fairopt.basics.files import check_places, column_name, column_names, csv_table
from fairopt.basics.table import Table
from fairopt.cli.asked import NotionNames, attribute_of, notions_asked, parts_of
from fairopt.cli.options import (
    Decimal,
    Encoding,
    Given,
    Lower,
    MissingGroup,
    PosLabel,
    Ratio,
    Score,
    Sensitive,
    Separator,
    Target,
    Threshold,
    Tolerance,
    Upper,
    dialect,
    two_numbers,
)
from fairopt.cli.show import STDOUT, console, output, rich_table, say
from fairopt.notions.named import continuous

LONGEST = 40  # rows of a table on the terminal; the rest are in the files
SHOWN = {
    "gaps": ("quantity", "notion", "attribute", "given", "group_a", "group_b", "n_a", "n_b", "gap", "low", "high", "limit", "status"),
    "spread": ("attribute", "measure", "overall", "smallest", "smallest_group", "largest", "largest_group", "difference", "ratio"),
}


def audit(
    file: Annotated[
        str,
        typer.Argument(
            help="Table of text with a header (CSV, TSV, ..., .gz too) or Parquet, one row a sample; '-' for standard input.",
            show_default=False,
        ),
    ],
    score: Score,
    sensitive: Sensitive,
    target: Target = None,
    pos_label: PosLabel = None,
    decision: Annotated[str | None, typer.Option(help="Column of 0/1 decisions, in place of --threshold.")] = None,
    notion: NotionNames = None,
    tolerance: Tolerance = 0.05,
    ratio: Ratio = 0.8,
    lower: Lower = None,
    upper: Upper = None,
    given: Given = None,
    separator: Separator = None,
    decimal: Decimal = ".",
    encoding: Encoding = None,
    bounds: Annotated[str | None, typer.Option(help="Least and largest score, like 0,1: a score outside is an error.")] = None,
    threshold: Threshold = 0.5,
    missing_group: MissingGroup = "error",
    local_law: Annotated[
        str | None, typer.Option(help="Columns 'SEX,RACE': adds the table formats of New York City's Local Law 144.")
    ] = None,
    unknown: Annotated[list[str] | None, typer.Option(help="A value that means an unknown category there, beside an empty cell.")] = None,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    draws: Annotated[int, typer.Option(help="Of the bootstrap.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    html: Annotated[Path | None, typer.Option(help="One self-contained page with pictures.")] = None,
    json: Annotated[Path | None, typer.Option(help="Every figure, on standard output, or to a file with its name behind.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", "--output", help="The gap table; '-' for standard output.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 1 where the scores break a constraint, or nothing was asked of them.")
    ] = False,
) -> None:
    """Audit a file of scores: gaps of scores and of decisions with counts and intervals, rates, ratios, an exact check."""
    check_places({"file": file}, {"html": html, "json": json, "csv": csv})
    if pos_label is not None and target is None:
        raise InputError("--pos-label: expected --target beside it")
    if json == csv == STDOUT:
        raise InputError("json: standard output is the gap table's already; expected a file")
    wanted = [score, *sensitive, *(words for words in (target, decision, given, local_law) if words)]
    table = TableFile(file, dialect(separator, decimal, encoding), wanted=wanted, stdin=sys.stdin.buffer)

    def names(words: str, option: str) -> tuple[str, ...]:
        return column_names(words, table.columns, option, Path(table.name).name)

    def name(words: str | None, option: str) -> str | None:
        return None if words is None else column_name(words, table.columns, option, Path(table.name).name)

    attributes = [attribute_of(names(words, "sensitive")) for words in sensitive]
    strata = None if given is None else attribute_of(names(given, "given"))
    law = _law(local_law, unknown, names)
    notions = notions_asked(notion, attributes, given=strata, tolerance=tolerance, ratio=ratio, lower=lower, upper=upper)
    columns = [*dict.fromkeys([n for a in attributes for n in parts_of(a)] + list(parts_of(strata)) + ([law.sex, law.race] if law else []))]
    columns += [a for made in notions for a in made.attributes if a not in columns]
    frame = table.frame(
        score=name(score, "score") or score, sensitive=columns, target=name(target, "target"), decision=name(decision, "decision"),
        numeric=continuous(notions), pos_label=pos_label,
    )  # fmt: skip
    if bounds is not None:
        _inside(frame, two_numbers(bounds, "--bounds"))
    found = fo.audit(
        frame.scores, notions, sensitive_features=frame.sensitive, targets=frame.targets, decisions=frame.decisions, threshold=threshold,
        missing_group=missing_group, attributes=_with_groups(attributes, notions), local_law=law,  # type: ignore[arg-type]
        confidence=confidence, draws=draws, seed=seed,
    )  # fmt: skip
    screen = console(stderr=STDOUT in (json, csv))
    written = _write(found, html, json, csv)  # before anything that the terminal could refuse
    _show(found, screen)
    for what in written:
        say(screen, what)
    if strict and (found.vacuous or not found.holds):
        raise typer.Exit(1)


def _write(found: fo.Audit, html: Path | None, json: Path | None, csv: Path | None) -> list[str]:
    """The files that were asked for; a line about each."""
    written = []
    if html is not None:
        written.append(f"page: {found.to_html(html)}")
    if json == STDOUT:
        output(found.to_json() + "\n")
    elif json is not None:
        found.to_json(json)
        written.append(f"json: {json}")
    if csv == STDOUT:
        output(csv_table(found.gaps.columns, found.gaps.rows))
    elif csv is not None:
        written.append(f"csv: {found.to_csv(csv)}")
    return written


def _inside(frame: Frame, box: tuple[float, float]) -> None:
    outside = np.flatnonzero(~((frame.scores >= box[0]) & (frame.scores <= box[1])))
    if outside.size:
        first = f"{frame.scores[outside[0]]:g} in row {outside[0] + 1}"
        raise InputError(f"--bounds: got {first}, outside {box[0]:g}, {box[1]:g} ({outside.size:,} such rows of {len(frame.scores):,})")


def _show(found: fo.Audit, screen: Console) -> None:
    settings = found.settings
    decided = "decisions as given" if settings["threshold"] is None else f"decisions: score >= {settings['threshold']:g}"
    say(screen, f"{found.n:,} samples; {decided}; intervals at {settings['confidence']:g}; seed {settings['seed']}")
    for check in found.checks:
        result = "vacuous: nothing to compare" if check.vacuous else "every constraint holds exactly" if check.holds else "broken"
        say(screen, f"{check.quantity}s, {check.notion}: {result}")
    tables = {"Summary, the worst comparison of each notion": found.summary}
    tables["Gaps"] = _columns(found.gaps, SHOWN["gaps"])
    tables["Groups"] = found.groups
    tables["Between groups"] = _columns(found.spread, SHOWN["spread"])
    tables["Selection rates, four-fifths format (arithmetic, no verdict)"] = found.ratios
    tables |= {f"Local Law 144 format: {table.title}": table for table in found.local_law.values()}
    for title, table in tables.items():
        heads = tuple(c.replace("_", "\n") for c in table.columns)
        screen.print(rich_table(Table(heads, table.rows[:LONGEST], title)))
        if len(table) > LONGEST:
            say(screen, f"{len(table) - LONGEST} more rows: see --json")
    for note in found.notes:
        say(screen, f"note: {note}")
    say(screen, f"data sha256 {found.data_hash}")


def _columns(table: Table, columns: tuple[str, ...]) -> Table:
    return Table.from_records(columns, list(table))


def _with_groups(attributes: list[str | tuple[str, ...]], notions: list[fo.Notion]) -> list[str | tuple[str, ...]]:
    """What was asked for, but for the continuous attributes of covariances."""
    numeric = continuous(notions)
    return [a for a in attributes if not (isinstance(a, str) and a in numeric)]


def _law(words: str | None, unknown: list[str] | None, names: Callable[[str, str], tuple[str, ...]]) -> Any:
    if words is None:
        if unknown:
            raise InputError("--unknown: expected --local-law beside it")
        return None
    found = names(words, "local-law")
    if len(found) != 2:
        raise InputError(f"--local-law: got {words!r}, expected two columns, 'SEX,RACE'")
    return fo.auditing.LocalLaw144(*found, unknown=tuple(unknown or ()))
