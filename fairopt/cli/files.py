"""Data sets in files, as commands open them and show how far they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import TextColumn, TimeRemainingColumn

from fairopt.basics.files import Dialect
from fairopt.cli.show import progress
from fairopt.datasets.find import Shard
from fairopt.datasets.job import Told
from fairopt.datasets.tables import open_table


def columns_of(shard: Shard, dialect: Dialect, wanted: Sequence[str]) -> list[str]:
    """The columns of a file; ``wanted``: names that tell which separator is meant."""
    table = open_table(shard, dialect, wanted, need=False)
    try:
        return table.columns
    finally:
        table.close()


@contextmanager
def bars(screen: Console) -> Iterator[Callable[[Told], None] | None]:
    """A bar on a terminal: what is done, passes, rows, time left. Nothing anywhere else."""
    if not screen.is_terminal:
        yield None
        return
    with progress(screen, TextColumn("{task.fields[rows]}", markup=False), TimeRemainingColumn(), transient=True) as shown:
        task = shown.add_task("", total=None, rows="")

        def told(now: Told) -> None:
            rows = f"{now.rows:,}" if now.total is None else f"{now.rows:,} of {now.total:,}"
            words = f"{now.what}, pass {now.passes}" if now.what != "writing" else now.what
            if shown.tasks[task].description != words:
                shown.reset(task, total=now.total, description=words)
            shown.update(task, completed=now.rows, rows=f"{rows} rows")

        yield told
