"""Tables and lines on the terminal. Every word of the data is plain text there: no markup, no emoji codes, no control characters."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable
from rich.text import Text

from fairopt.basics.files import write_whole
from fairopt.basics.table import Table, visible

DASH = "-"
STDOUT = Path("-")


class _Screen(Console):
    """A console whose reader may leave: ``fairopt audit ... | head`` goes on in silence, and its exit code is the true one."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        hush(self.file)


def console(*, stderr: bool = False) -> Console:
    """The terminal; a pipe or a file gets lines wide enough that no cell is folded."""
    plain: dict[str, Any] = {"stderr": stderr, "markup": False, "emoji": False, "highlight": False}
    screen = _Screen(**plain)
    return screen if screen.is_terminal else _Screen(**plain, width=200)


def hush(stream: IO[str]) -> None:
    """What is still written to a stream that nobody reads goes nowhere; else Python tries once more at its end, and complains."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def output(text: str) -> None:
    """Write to standard output; one that was closed is left in silence."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        hush(sys.stdout)


def write_json(value: Any, place: Path) -> None:
    """``value`` as JSON to a file, or to standard output for ``-``."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    if place == STDOUT:
        output(text)
    else:
        write_whole(place, text, "json")


def say(screen: Console, words: str) -> None:
    """Lines of plain text: no markup, no colours, no control characters."""
    screen.print(Text(visible(words, lines=True)), soft_wrap=True)


def progress(screen: Console, *columns: ProgressColumn, transient: bool = False) -> Progress:
    """Bars with a description that is plain text; ``columns`` stand before the time, a count of work by default."""
    middle = columns or (MofNCompleteColumn(),)
    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), *middle, TimeElapsedColumn(), console=screen, transient=transient
    )


def rich_table(table: Table) -> RichTable:
    """``table`` with every value as text; columns of numbers stand to the right."""
    title = Text(visible(table.title), style="table.title") if table.title else None
    shown = RichTable(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for column in table.columns:
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in table[column] if v is not None)
        shown.add_column(Text(visible(column, lines=True)), justify="right" if numbers and len(table) else "left")
    for row in table.rows:
        shown.add_row(*(Text(word(value)) for value in row))
    return shown


def word(value: object) -> str:
    if value is None or value == "":
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return visible(str(value))
