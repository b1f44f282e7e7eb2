"""``fairopt demo``: the loanapp experiment with progress bars, a table and a picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fairopt.cli.show import DASH, console, figure
from fairopt.errors import InputError
from fairopt.experiments import loanapp
from fairopt.experiments.pictures import loanapp_picture
from fairopt.experiments.report import Figure, Row, remark

# Columns of the terminal from which the spread over the seeds has room beside each mean.
WIDE = 128


def demo(
    tolerance: Annotated[float, typer.Option(help="Largest gap between the mean probabilities of two races.")] = 0.05,
    seeds: Annotated[int, typer.Option(min=1, help="How many networks of each kind.")] = 5,
    picture: Annotated[Path, typer.Option(help="Where the picture goes (PNG).")] = Path("fairopt-demo.png"),
    quick: Annotated[bool, typer.Option("--quick", help="One seed, few epochs: to see that everything runs.")] = False,
) -> None:
    """Train on 1,989 real mortgage decisions, with the approval gap between races under the tolerance."""
    if picture.suffix.lower() != ".png" or not picture.parent.is_dir():
        raise InputError(f"--picture {picture}: expected a path that ends in .png, in a folder that exists")
    start = time.perf_counter()
    screen = console()
    settings = loanapp.Settings(tolerance=tolerance, seeds=tuple(range(seeds)))
    settings = settings.quick() if quick else settings
    with _bars(screen, settings) as on_progress:
        report = loanapp.run(settings, on_progress)
    _show(screen, report)
    loanapp_picture(report, picture)
    screen.print(f"picture: {picture.resolve()}", markup=False, highlight=False, soft_wrap=True)
    screen.print(f"{time.perf_counter() - start:.1f} s", highlight=False)


@contextmanager
def _bars(screen: Console, settings: loanapp.Settings) -> Iterator[Callable[[loanapp.Progress], None]]:
    """One bar for each method that trains, over the epochs of all its seeds."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"), TimeElapsedColumn())
    with Progress(*columns, console=screen) as bars:
        total = len(settings.seeds) * settings.recipe.epochs
        tasks = {method: bars.add_task(method, total=total) for method in loanapp.TRAINED}
        yield lambda now: bars.advance(tasks[now.method])


def _show(screen: Console, report: loanapp.Report) -> None:
    settings, held_out = report.settings, sum(report.counts.values())
    counts = ", ".join(f"{count} {race}" for race, count in report.counts.items())
    spread = " ± standard deviation" if screen.width >= WIDE else ""
    seeds = f"mean{spread} of {len(settings.seeds)} seeds" if len(settings.seeds) > 1 else f"seed {settings.seeds[0]}"
    table = Table(
        title=f"{held_out} held-out mortgage applications ({counts}); tolerance {settings.tolerance:g}; {seeds}",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("method")
    for name in (
        "accuracy",
        "AUC",
        "log loss",
        "gap of mean\nprobability",
        "gap of\ndecisions",
        "violation",
        "certified",
        "seconds\nan epoch",
    ):
        table.add_column(name, justify="right")
    references = tuple(row for row in report.rows if row.reference)
    for row in report.rows:
        table.add_row(*_cells(row, spreads=screen.width >= WIDE), end_section=row is references[-1])
    screen.print(table)
    for row in report.rows:
        if not row.reference and (said := remark(row, references)):
            screen.print(f"{row.method}: {said}", highlight=False, soft_wrap=True)
    for line in report.verdicts:
        screen.print(line, highlight=False, soft_wrap=True)


def _cells(row: Row, *, spreads: bool) -> list[str]:
    certified = row.certified()
    figures: tuple[Figure, ...] = ("accuracy", "auc", "log_loss", "score_gap", "decision_gap")
    return [
        row.method,
        *(figure(row.mean(name), row.spread(name) if spreads else None) for name in figures),
        f"{row.worst_violation():.2g}",
        DASH if certified is None else f"{certified[0]} of {certified[1]}",
        figure(row.mean("seconds"), digits=4),
    ]
