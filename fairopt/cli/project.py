"""``fairopt project``: fair scores for a table or a folder of them, with a certificate and the audit before and after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from fairopt.basics.table import Table
from fairopt.cli import in_options
from fairopt.cli.asked import ScoreOptions
from fairopt.cli.files import bars, columns_of
from fairopt.cli.grouped import grouped
from fairopt.cli.options import TextOptions, two_numbers
from fairopt.cli.show import console, rich_table, say
from fairopt.datasets import DatasetReport, project_dataset
from fairopt.datasets.cluster import connect
from fairopt.datasets.find import find

LONGEST = 12  # rows of a table: all of it is one screen, and the rest is in the certificate


@dataclass(frozen=True)
class OutputOptions:
    """What is written, and where."""

    output: Annotated[Path, typer.Option(help="A file for a file, else a folder: the input's columns and the new one.")]
    name: Annotated[str, typer.Option(help="Of the new column.")] = "fair_score"
    rejects: Annotated[Path | None, typer.Option(help="CSV for rows that cannot be used; without it one is an error.")] = None
    certificate: Annotated[Path | None, typer.Option(help="Where the certificate goes. By default beside the output.")] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew, and lose what stands at the output.")] = False


@grouped
def project(
    input: Annotated[
        str,
        typer.Argument(
            help="Table of text with a header (CSV, TSV, ..., .gz too) or Parquet, a folder of them, or a pattern in quotes.",
            show_default=False,
        ),
    ],
    scores: ScoreOptions,
    written: OutputOptions,
    text: TextOptions,
    bounds: Annotated[str | None, typer.Option(help="Least and largest fair score, like 0,1. By default there are none.")] = None,
    weights: Annotated[str | None, typer.Option(help="Column of weights > 0: how much it costs to move a row's score.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Files in flight. [default: the processors, at most 4]")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, whose workers do it (extra 'dask').")] = None,
) -> None:
    """Write fair scores beside those of a table, a folder or a pattern of them: one guarantee over all rows.

    For example: fairopt project scores.csv --score p --sensitive race --bounds 0,1 --output fair.csv

    A run that was stopped goes on with the same command, and ends with the same bytes.

    Exit code 1: the scores that were written are not certified (nothing was asked of them, or rounding is in the way). 2: bad input.
    """
    shards = find(input, written.output, written.certificate).shards
    columns = columns_of(shards[0], text.dialect, scores.wanted(weights))
    read = scores.read(columns, Path(input).name)
    with _interrupted(written.output), bars(console(stderr=True)) as told, _cluster(scheduler) as client:
        report = project_dataset(
            input, notion=reduce(and_, read.notions), score=read.score, target=read.target, weights=read.names.perhaps(weights, "weights"),
            bounds=None if bounds is None else two_numbers(bounds, "--bounds"), pos_label=scores.pos_label,
            missing_group=scores.missing_group, threshold=scores.threshold, attributes=read.attributes,  # type: ignore[arg-type]
            threads=threads, told=told, client=client, **vars(written), **vars(text),
        )  # fmt: skip
    _show(report, console(), written.rejects)
    if not report.certified:
        raise typer.Exit(1)


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
    for note in told.notes:
        say(screen, f"note: {in_options(note)}")
    low, high = found["scores"]
    if found["settings"]["bounds"] == [None, None] and low >= 0.0 and high <= 1.0:
        say(screen, "note: all scores lie between 0 and 1; fair ones may not: --bounds 0,1 keeps them there")
    if report.rejected:
        say(screen, f"{report.rejected:,} rows left out: {rejects}")
    say(screen, f"output: {report.places.output}")
    say(screen, f"certificate: {report.places.certificate}")


def _picked(table: Table, columns: tuple[str, ...]) -> Table:
    return Table.from_records(columns, list(table))
