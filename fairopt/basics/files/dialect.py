"""How cells are told apart: the separator, given or found in the header line, and the decimal mark."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fairopt.basics.errors import InputError
from fairopt.basics.files.lines import lines_of

SEPARATORS = (",", ";", "\t", "|")
_WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
_HINT = re.compile(r"sep=(.)\Z", re.IGNORECASE)  # a first line that Excel writes and reads


@dataclass(frozen=True)
class Dialect:
    """separator: one character or a word for it ('tab', ...), None: found in the header; decimal: '.' or ','; encoding: None: found."""

    separator: str | None = None
    decimal: str = "."
    encoding: str | None = None

    def __post_init__(self) -> None:
        if self.separator is not None:
            one = _WORDS.get(self.separator.lower(), self.separator)
            if len(one) != 1 or one in '"\r\n\0' or one.isalnum() or ord(one) > 127:
                raise InputError(f"separator: got {self.separator!r}, expected one character such as ',', ';', '|', or 'tab'")
            object.__setattr__(self, "separator", one)
        if self.decimal not in (".", ","):
            raise InputError(f"decimal: got {self.decimal!r}, expected '.' or ','")
        if self.separator == self.decimal:
            raise InputError(f"decimal: got {self.decimal!r}, which is the separator as well")


def hinted_separator(line: str) -> str | None:
    """The separator that a line ``sep=;`` announces."""
    found = _HINT.match(line.rstrip("\r\n"))
    return found.group(1) if found else None


def find_separator(header: str, wanted: Sequence[Sequence[str]], decimal: str) -> str:
    """The separator of a header line: the one under which the names that are asked for are columns.

    wanted: for each name the ways to read it. InputError where several separators would do. Where none does: the one that gives most
    columns, so that the error about the absent column shows what is there.
    """
    columns = {s: split_line(header, s) for s in SEPARATORS if s != decimal}
    several = {s: names for s, names in columns.items() if names is not None and len(names) > 1}
    if not several:
        return ";" if decimal == "," else ","
    fits = [s for s, names in several.items() if all(any(way in names for way in ways) for ways in wanted)]
    if len(fits) == 1 or (fits and len(several) == 1):
        return fits[0]
    if fits:
        shown = " or ".join(f"{s!r} ({len(several[s])} columns)" for s in fits)
        raise InputError(f"separator: the header line can be split at {shown}; say which with --separator")
    return max(several, key=lambda s: len(several[s]))


def split_line(line: str, separator: str) -> list[str] | None:
    """The cells of one record; None where it is none."""
    try:
        rows = list(csv.reader(lines_of(line), delimiter=separator, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None
