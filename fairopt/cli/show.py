"""Tables and lines on the terminal. Every word of the data passes ``visible`` on its way there."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from fairopt.table import Table, visible

DASH = "-"


def console(*, stderr: bool = False) -> Console:
    """The terminal; a pipe or a file gets lines wide enough that no cell is folded."""
    screen = Console(stderr=stderr)
    return screen if screen.is_terminal else Console(stderr=stderr, width=200)


def say(screen: Console, words: str) -> None:
    """Lines of plain text: no markup, no colours, no control characters."""
    screen.print(visible(words, lines=True), markup=False, highlight=False, soft_wrap=True)


def rich_table(table: Table) -> RichTable:
    """``table`` with every value as text; columns of numbers stand to the right."""
    shown = RichTable(title=escape(visible(table.title)) or None, box=box.SIMPLE_HEAD, title_justify="left")
    for column in table.columns:
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in table[column] if v is not None)
        shown.add_column(escape(visible(column, lines=True)), justify="right" if numbers and len(table) else "left")
    for row in table.rows:
        shown.add_row(*(escape(word(value)) for value in row))
    return shown


def word(value: object) -> str:
    if value is None or value == "":
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return visible(str(value))
