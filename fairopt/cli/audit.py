"""``fairopt audit``: gaps, rates and ratios of a file of scores, on the terminal and as HTML, JSON, CSV."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

import fairopt as fo
from fairopt.auditing.table_file import Frame, TableFile
from fairopt.basics.errors import InputError
from fairopt.basics.files import check_places, csv_table
from fairopt.basics.table import Table
from fairopt.cli import in_options
from fairopt.cli.asked import ScoreOptions, Scores, parts_of
from fairopt.cli.files import bars, columns_of
from fairopt.cli.grouped import grouped
from fairopt.cli.options import TextOptions, two_numbers
from fairopt.cli.show import STDOUT, console, output, rich_table, say
from fairopt.datasets.audit import AT_ONCE, audit_dataset
from fairopt.datasets.find import Shard, shards_of
from fairopt.datasets.tables import few_rows
from fairopt.notions.named import continuous

LONGEST = 40  # rows of a table on the terminal; the rest are in the files
SHOWN = {
    "gaps": ("quantity", "notion", "attribute", "given", "group_a", "group_b", "n_a", "n_b", "gap", "low", "high", "limit", "status"),
    "spread": ("attribute", "measure", "overall", "smallest", "smallest_group", "largest", "largest_group", "difference", "ratio"),
}


@dataclass(frozen=True)
class MoreOptions:
    """What of the audit is said in more than one place."""

    decision: Annotated[str | None, typer.Option(help="Column of 0/1 decisions, in place of --threshold.")] = None
    bounds: Annotated[str | None, typer.Option(help="Least and largest score, like 0,1: a score outside is an error.")] = None
    local_law: Annotated[str | None, typer.Option(help="Columns 'SEX,RACE': adds the table formats of New York City's Local Law 144.")] = (
        None
    )
    unknown: Annotated[list[str] | None, typer.Option(help="A value that means an unknown category there, beside an empty cell.")] = None

    @property
    def box(self) -> tuple[float, float] | None:
        return None if self.bounds is None else two_numbers(self.bounds, "--bounds")


@dataclass(frozen=True)
class IntervalOptions:
    """How intervals are made."""

    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95
    draws: Annotated[int, typer.Option(help="Of the bootstrap.")] = 2000
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0


@dataclass(frozen=True)
class ReportOptions:
    """What is written."""

    html: Annotated[Path | None, typer.Option(help="One self-contained page with pictures.")] = None
    json: Annotated[Path | None, typer.Option(help="Every figure, on standard output, or to a file with its name behind.")] = None
    csv: Annotated[Path | None, typer.Option("--csv", "--output", help="The gap table; '-' for standard output.")] = None

    def check(self, file: str) -> None:
        """InputError where something is written twice, or over the input."""
        check_places({"file": file}, vars(self))
        if self.json == self.csv == STDOUT:
            raise InputError("json: standard output is the gap table's already; expected a file")

    def write(self, found: fo.Audit) -> list[str]:
        """The files that were asked for; a line about each."""
        written = []
        if self.html is not None:
            written.append(f"page: {found.to_html(self.html)}")
        if self.json == STDOUT:
            output(found.to_json() + "\n")
        elif self.json is not None:
            found.to_json(self.json)
            written.append(f"json: {self.json}")
        if self.csv == STDOUT:
            output(csv_table(found.gaps.columns, found.gaps.rows))
        elif self.csv is not None:
            written.append(f"csv: {found.to_csv(self.csv)}")
        return written


@grouped
def audit(
    file: Annotated[
        str,
        typer.Argument(
            help="Table of text with a header (CSV, TSV, ..., .gz too) or Parquet, one row a sample, a folder of them, or a pattern in "
            "quotes; '-' for standard input.",
            show_default=False,
        ),
    ],
    scores: ScoreOptions,
    more: MoreOptions,
    text: TextOptions,
    intervals: IntervalOptions,
    reports: ReportOptions,
    rows_at_once: Annotated[
        int, typer.Option(min=0, help="Up to so many rows are loaded together; more are summed file by file, without intervals of means.")
    ] = AT_ONCE,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 1 where the scores break a constraint, or nothing was asked of them.")
    ] = False,
) -> None:
    """Audit a file of scores: gaps of scores and of decisions with counts and intervals, rates, ratios, an exact check."""
    reports.check(file)
    screen = console(stderr=STDOUT in (reports.json, reports.csv))
    wanted = scores.wanted(more.decision, more.local_law)
    shards = _data_set(file, rows_at_once)
    if shards is None:
        found = _of_file(file, wanted, scores, more, text, intervals)
    else:
        found = _of_data_set(file, shards[0], wanted, scores, more, text, intervals, rows_at_once)
    written = reports.write(found)  # before anything that the terminal could refuse
    _show(found, screen)
    for what in written:
        say(screen, what)
    if strict and (found.vacuous or not found.holds):
        raise typer.Exit(1)


def _data_set(file: str, rows_at_once: int) -> tuple[Shard, ...] | None:
    """The files of a folder or a pattern, or one of many rows; None for a file, a pipe or standard input that is loaded as a whole."""
    path = Path(file)
    if file == "-" or (path.exists() and not path.is_dir() and not path.is_file()) or not (path.exists() or has_magic(file)):
        return None
    shards, single = shards_of(file)
    return None if single and few_rows(shards, rows_at_once) else shards


def _of_file(
    file: str, wanted: list[str], scores: ScoreOptions, more: MoreOptions, text: TextOptions, intervals: IntervalOptions
) -> fo.Audit:
    """All rows of one file."""
    table = TableFile(file, text.dialect, wanted=wanted, stdin=sys.stdin.buffer)
    read = scores.read(table.columns, Path(table.name).name)
    law = _law(more, read)
    columns = [*dict.fromkeys([n for a in read.attributes for n in parts_of(a)] + list(parts_of(read.strata)) + _of_law(law))]
    columns += [a for made in read.notions for a in made.attributes if a not in columns]
    frame = table.frame(
        score=read.score, sensitive=columns, target=read.target, decision=read.names.perhaps(more.decision, "decision"),
        numeric=continuous(read.notions), pos_label=scores.pos_label,
    )  # fmt: skip
    if more.box is not None:
        _inside(frame, more.box)
    return fo.audit(
        frame.scores, read.notions, sensitive_features=frame.sensitive, targets=frame.targets, decisions=frame.decisions,
        threshold=scores.threshold, missing_group=scores.missing_group, attributes=_with_groups(read), local_law=law,  # type: ignore[arg-type]
        **vars(intervals),
    )  # fmt: skip


def _of_data_set(
    file: str, first: Shard, wanted: list[str], scores: ScoreOptions, more: MoreOptions, text: TextOptions, intervals: IntervalOptions,
    rows_at_once: int,
) -> fo.Audit:  # fmt: skip
    """Files of any number of rows."""
    read = scores.read(columns_of(first, text.dialect, wanted), Path(file).name)
    with bars(console(stderr=True)) as told:
        return audit_dataset(
            file, read.notions, score=read.score, target=read.target, decision=read.names.perhaps(more.decision, "decision"),
            threshold=scores.threshold, bounds=more.box, pos_label=scores.pos_label, missing_group=scores.missing_group,  # type: ignore[arg-type]
            attributes=_with_groups(read), local_law=_law(more, read), rows_at_once=rows_at_once, told=told,
            **vars(text), **vars(intervals),
        )  # fmt: skip


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
        say(screen, f"note: {in_options(note)}")
    say(screen, f"data sha256 {found.data_hash}")


def _columns(table: Table, columns: tuple[str, ...]) -> Table:
    return Table.from_records(columns, list(table))


def _with_groups(read: Scores) -> list[str | tuple[str, ...]]:
    """What was asked for, but for the continuous attributes of covariances."""
    numeric = continuous(read.notions)
    return [a for a in read.attributes if not (isinstance(a, str) and a in numeric)]


def _law(more: MoreOptions, read: Scores) -> fo.auditing.LocalLaw144 | None:
    if more.local_law is None:
        if more.unknown:
            raise InputError("--unknown: expected --local-law beside it")
        return None
    found = read.names.several(more.local_law, "local-law")
    if len(found) != 2:
        raise InputError(f"--local-law: got {more.local_law!r}, expected two columns, 'SEX,RACE'")
    return fo.auditing.LocalLaw144(*found, unknown=tuple(more.unknown or ()))


def _of_law(law: fo.auditing.LocalLaw144 | None) -> list[str]:
    return [] if law is None else [law.sex, law.race]
