"""Tables on the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from fairopt.table import Table

DASH = "-"


def console() -> Console:
    """The terminal; a pipe or a file gets lines wide enough that no cell is folded."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=200)


def rich_table(table: Table) -> RichTable:
    """``table`` with every value as text; columns of numbers stand to the right."""
    shown = RichTable(title=escape(table.title) or None, box=box.SIMPLE_HEAD, title_justify="left")
    for column in table.columns:
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in table[column] if v is not None)
        shown.add_column(escape(column), justify="right" if numbers and len(table) else "left")
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
    return str(value)
