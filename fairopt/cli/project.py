"""``fairopt project``: fair scores for a table or a folder of them, with a certificate and the audit before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import TextColumn, TimeRemainingColumn

from fairopt.basics.errors import InputError
from fairopt.basics.files import column_name, column_names
from fairopt.basics.table import Table
from fairopt.cli.asked import NotionNames, attribute_of, notions_asked
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
from fairopt.cli.show import console, progress, rich_table, say
from fairopt.datasets import DatasetReport, Told, project_dataset
from fairopt.datasets.cluster import connect
from fairopt.datasets.find import find
from fairopt.datasets.tables import open_table

LONGEST = 12  # rows of a table: all of it is one screen, and the rest is in the certificate


def project(
    input: Annotated[
        str,
        typer.Argument(
            help="Table of text with a header (CSV, TSV, ..., .gz too) or Parquet, a folder of them, or a pattern in quotes.",
            show_default=False,
        ),
    ],
    score: Score,
    sensitive: Sensitive,
    output: Annotated[Path, typer.Option(help="A file for a file, else a folder: the input's columns and the new one.")],
    target: Target = None,
    pos_label: PosLabel = None,
    notion: NotionNames = None,
    tolerance: Tolerance = 0.05,
    ratio: Ratio = 0.8,
    lower: Lower = None,
    upper: Upper = None,
    given: Given = None,
    bounds: Annotated[str | None, typer.Option(help="Least and largest fair score, like 0,1. By default there are none.")] = None,
    weights: Annotated[str | None, typer.Option(help="Column of weights > 0: how much it costs to move a row's score.")] = None,
    name: Annotated[str, typer.Option(help="Of the new column.")] = "fair_score",
    rejects: Annotated[Path | None, typer.Option(help="CSV for rows that cannot be used; without it one is an error.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="Where the certificate goes. By default beside the output.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew, and lose what stands at the output.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Files in flight. [default: the processors, at most 4]")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, whose workers do it (extra 'dask').")] = None,
    separator: Separator = None,
    decimal: Decimal = ".",
    encoding: Encoding = None,
    threshold: Threshold = 0.5,
    missing_group: MissingGroup = "error",
) -> None:
    """Write fair scores beside those of a table, a folder or a pattern of them: one guarantee over all rows.

    A run that was stopped goes on with the same command, and ends with the same bytes. Exit code 1 where the scores that were written are
    not certified (nothing was asked of them, or rounding is in the way), 2 for bad input.
    """
    if pos_label is not None and target is None:
        raise InputError("--pos-label: expected --target beside it")
    columns = _columns(
        input, output, certificate, dialect(separator, decimal, encoding), [score, *sensitive, *(c for c in (target, given, weights) if c)]
    )

    def one(words: str | None, option: str) -> str | None:
        return None if words is None else column_name(words, columns, option, Path(input).name)

    attributes = [attribute_of(column_names(words, columns, "sensitive", Path(input).name)) for words in sensitive]
    strata = None if given is None else attribute_of(column_names(given, columns, "given", Path(input).name))
    first, *others = notions_asked(notion, attributes, given=strata, tolerance=tolerance, ratio=ratio, lower=lower, upper=upper)
    for other in others:
        first = first & other
    with _interrupted(output), _bars(console(stderr=True)) as told, _cluster(scheduler) as client:
        report = project_dataset(
            input, output, first, score=one(score, "score") or score, target=one(target, "target"), weights=one(weights, "weights"),
            bounds=None if bounds is None else two_numbers(bounds, "--bounds"), name=name, pos_label=pos_label,
            missing_group=missing_group, rejects=rejects, certificate=certificate, overwrite=overwrite,  # type: ignore[arg-type]
            separator=separator, decimal=decimal, encoding=encoding, threshold=threshold, attributes=attributes, threads=threads, told=told,
            client=client,
        )  # fmt: skip
    screen = console()
    _show(report, screen, rejects)
    if not report.certified:
        raise typer.Exit(1)


def _columns(input: str, output: Path, certificate: Path | None, how: Any, wanted: list[str]) -> list[str]:
    """The columns of the first file."""
    table = open_table(find(input, output, certificate).shards[0], how, wanted, need=False)
    try:
        return table.columns
    finally:
        table.close()


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """A client of the scheduler, as long as the run lasts; None without one."""
    if address is None:
        yield None
        return
    with connect(address) as client:
        yield client


@contextmanager
def _interrupted(output: Path) -> Iterator[None]:
    """An interrupt ends the run with a word about how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        say(console(stderr=True), f"stopped; what was done is kept beside {output}: the same command goes on from there")
        raise typer.Exit(130) from None


@contextmanager
def _bars(screen: Console) -> Iterator[Callable[[Told], None] | None]:
    """A bar on a terminal: what is done, passes, rows, time left. Nothing anywhere else."""
    if not screen.is_terminal:
        yield None
        return
    with progress(screen, TextColumn("{task.fields[rows]}", markup=False), TimeRemainingColumn(), transient=True) as bars:
        task = bars.add_task("", total=None, rows="")

        def told(now: Told) -> None:
            rows = f"{now.rows:,}" if now.total is None else f"{now.rows:,} of {now.total:,}"
            words = f"{now.what}, pass {now.passes}" if now.what != "writing" else now.what
            if bars.tasks[task].description != words:
                bars.reset(task, total=now.total, description=words)
            bars.update(task, completed=now.rows, rows=f"{rows} rows")

        yield told


def _show(report: DatasetReport, screen: Console, rejects: Path | None) -> None:
    found, told = report.certificate, report.audited
    say(screen, str(report))
    if found["vacuous"]:
        say(screen, "vacuous: nothing is asked of these scores; " + "; ".join(": ".join(pair) for pair in found["dropped"][:3]))
    shown = ("notion", "attribute", "given", "group_a", "group_b", "n_a", "n_b", "limit", "before", "after", "status")
    for title, table in (
        ("The worst comparison of each notion, before and after", _picked(told.worst, shown)),
        ("Groups, before and after", told.groups),
    ):
        if len(table):
            heads = tuple(c.replace("_", "\n") for c in table.columns)
            screen.print(rich_table(Table(heads, table.rows[:LONGEST], title)))
        if len(table) > LONGEST:
            say(screen, f"{len(table) - LONGEST} more rows: see the certificate")
    if report.rejected:
        say(screen, f"{report.rejected:,} rows left out: {rejects}")
    say(screen, f"output: {report.places.output}")
    say(screen, f"certificate: {report.places.certificate}")


def _picked(table: Table, columns: tuple[str, ...]) -> Table:
    return Table.from_records(columns, list(table))
