"""``fairopt reproduce NAME``: run an experiment with progress bars; tables, verdicts, pictures, a page. Ctrl-C loses no finished cell."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import TaskID

from fairopt.basics.errors import InputError
from fairopt.cli.options import ends_in, folder
from fairopt.cli.show import console, progress, rich_table, say
from fairopt.experiments.pages import joined, picture_name, write_page
from fairopt.experiments.reproduce import REGISTRY, OnProgress, Result, Settings, cells_of, stem_of
from fairopt.experiments.reproduce import Progress as Now
from fairopt.experiments.reproduce import reproduce as run

# Columns of the terminal from which standard errors have room beside the means.
WIDE = 150


def reproduce(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(REGISTRY)}.")],
    data: Annotated[Path | None, typer.Option(help="The data's file or folder; FAIROPT_DATA by default.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds, 0 and on; the experiment's own by default.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few cells: to see that everything runs.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes of dev and final; the other experiments take one.")] = 2,
    out: Annotated[Path, typer.Option("--output", "--out", help="Folder of the finished cells, the tables and the pictures.")] = Path(
        "fairopt-reproduce"
    ),
    page: Annotated[Path | None, typer.Option(help="A markdown page of the result, pictures beside it.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the finished cells of an earlier run.")] = False,
) -> None:
    """Run one of the experiments, with the paper's figures beside it. The same command goes on where a stopped run was."""
    start = time.perf_counter()
    ends_in(page, ".md", "page")
    if name not in REGISTRY:
        raise InputError(f"NAME: got {name!r}, expected one of {', '.join(REGISTRY)}")
    settings = Settings(name, data, None if seeds is None else tuple(range(seeds)), quick, jobs)
    keep_full_page(page, settings)
    screen = console()
    result = watched(screen, settings, out, fresh=fresh)
    written = save(result, out, stem_of(settings))  # before anything that the terminal could refuse
    if page is not None:
        written += write_page(result, page, command_of(settings))
    show(screen, result)
    for path in written:
        say(screen, str(path))
    say(screen, f"{time.perf_counter() - start:.1f} s")


def watched(screen: Console, settings: Settings, out: Path, *, fresh: bool = False) -> Result:
    """Run with a bar for each label of the experiment; ctrl-C says where the finished cells are."""
    cells = cells_of(settings, folder(out, "output"))
    try:
        with bars() as on_progress:
            return run(settings, cells, fresh=fresh, on_progress=on_progress)
    except KeyboardInterrupt:
        say(screen, f"stopped; every finished cell is in {cells}: the same command goes on from there")
        raise typer.Exit(130) from None


@contextmanager
def bars() -> Iterator[OnProgress]:
    """A bar on standard error for each label that is heard of."""
    tasks: dict[str, TaskID] = {}
    shown = progress(console(stderr=True))

    def hear(now: Now) -> None:
        if not tasks:
            shown.start()  # an error before any work is one line, not a line and an empty bar
        if now.label not in tasks:
            tasks[now.label] = shown.add_task(now.label, total=now.total)
        shown.update(tasks[now.label], completed=now.done, total=now.total)

    try:
        yield hear
    finally:
        if tasks:
            shown.stop()


def keep_full_page(page: Path | None, settings: Settings) -> None:
    """InputError where a quick run would write over the page of a full one."""
    if page is None or not settings.quick or not page.exists():
        return
    if f"    {command_of(settings)}" not in page.read_text(encoding="utf-8").splitlines():
        raise InputError(f"page: {page} is the page of another run, expected another name for that of a quick one")


def show(screen: Console, result: Result) -> None:
    """Text, tables and verdicts on the terminal; a narrow one gets no standard errors."""
    errors_too = screen.width >= WIDE
    say(screen, f"{result.title}\n{result.text}")
    for section in result.sections:
        say(screen, f"\n{section.title}")
        screen.print(rich_table(joined(section.rows, errors_too=errors_too)))
        if section.paper is not None:
            say(screen, section.paper.title or "the paper's figures")
            untitled = replace(section.paper, title="")  # the table would print its title once more, and break it to its own width
            screen.print(rich_table(joined(untitled, errors_too=errors_too)))
        for said in section.verdicts:
            say(screen, said)


def save(result: Result, out: Path, name: str) -> list[Path]:
    """Each section's table as CSV and its picture as PNG; returns the paths."""
    written = []
    for number, section in enumerate(result.sections):
        picture = out / picture_name(name, number)
        section.rows.to_pandas().to_csv(picture.with_suffix(".csv"), index=False)
        written.append(picture.with_suffix(".csv"))
        if section.picture is not None:
            section.picture(picture)
            written.append(picture)
    return written


def command_of(settings: Settings) -> str:
    """The command that gives the same figures on another machine; where its data lie is for FAIROPT_DATA to say."""
    words = ["fairopt reproduce", settings.name]
    if settings.seeds is not None:
        words.append(f"--seeds {len(settings.seeds)}")
    if settings.quick:
        words.append("--quick")
    return " ".join(words)
