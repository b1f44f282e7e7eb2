"""Options and words that several commands share: how a file of text is written, what notions are called, two numbers as bounds."""

from __future__ import annotations

from typing import Annotated

import typer

from fairopt.errors import InputError
from fairopt.files import Dialect, number

Separator = Annotated[
    str | None, typer.Option(help="What separates cells: one character, or 'tab'. By default found in the header: one of , ; tab |")
]
Decimal = Annotated[str, typer.Option(help="Decimal mark of the numbers: '.' or ','.")]
Encoding = Annotated[
    str | None,
    typer.Option(help="Of the text, such as latin-1 or cp1252. By default UTF-8, or what a byte order mark says (UTF-16, UTF-32)."),
]


def dialect(separator: str | None, decimal: str, encoding: str | None) -> Dialect:
    """InputError for what is no separator, decimal mark or encoding."""
    return Dialect(separator, decimal, encoding)


def two_numbers(text: str, option: str) -> tuple[float, float]:
    """``0,1``: the least and the largest."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2:
        raise InputError(f"{option}: expected two numbers like 0,1, got {text!r}")
    low, high = (number(part, option) for part in parts)
    if not low < high:
        raise InputError(f"{option}: expected the least score first, got {text!r}")
    return low, high
