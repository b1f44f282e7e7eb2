"""Names of columns as an option gives them: ``race``, ``sex,race`` for several, ``"last, first"`` in quotes for a name with a comma."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from fairopt.basics.errors import InputError


def column_names(words: str, columns: Sequence[str], option: str, file: str = "the input") -> tuple[str, ...]:
    """The columns that ``words`` names. Text that is a column's name as a whole is that column; else it is split at commas.

    InputError for nothing, a name that is no column (with those that are), and text that could be read both ways.
    """
    words = _as_meant(words)
    whole = words in columns
    parts = _split(words)
    if not parts:
        raise InputError(f"--{option}: got {words!r}, expected a column name")
    names = tuple(_present(part, columns, option, file) for part in parts) if not whole else ()
    if not whole:
        if len(set(names)) != len(names):
            raise InputError(f"--{option}: got {words!r}, which names a column twice")
        return names
    if len(parts) > 1 and all(part in columns or part.strip() in columns for part in parts):
        raise InputError(f"--{option}: {words!r} is a column and a list of columns as well; put a name with a comma into double quotes")
    return (words,)


def column_name(words: str, columns: Sequence[str], option: str, file: str = "the input") -> str:
    """The one column that ``words`` names."""
    names = column_names(words, columns, option, file)
    if len(names) != 1:
        raise InputError(f"--{option}: got {words!r}, expected one column")
    return names[0]


def readings(words: str) -> tuple[str, ...]:
    """The texts of which at least one must be in a header: the whole, or the first name of a list."""
    words = _as_meant(words)
    return (words, *(way for part in _split(words)[:1] for way in (part, part.strip())))


def _as_meant(words: str) -> str:
    """Words of a command line as UTF-8, where the locale says ASCII: Python gives their bytes as surrogates then."""
    try:
        return words.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return words


def _split(words: str) -> list[str]:
    try:
        rows = list(csv.reader([words], strict=True, skipinitialspace=True))
    except csv.Error:
        rows = [words.split(",")]
    return [part for part in (rows[0] if rows else []) if part.strip()]


def _present(part: str, columns: Sequence[str], option: str, file: str) -> str:
    if part in columns:
        return part
    if part.strip() in columns:
        return part.strip()
    raise InputError(f"--{option}: {file} has no column {part!r}; it has {', '.join(map(repr, columns))}")
