"""A small frozen table that prints itself: what ``gaps`` and ``backends`` return."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairopt.basics.errors import InputError, MissingExtraError

_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Table:
    """``rows`` (tuples) under named columns, with a ``title`` or none. ``None`` is an absent value and prints as a dash.

    InputError for a row of another length than ``columns``, and for a column that is not there.

    Examples:
        >>> table = fo.Table(("group", "mean"), (("f", 0.25), ("m", None)))
        >>> print(table)
        group  mean
        -----  ----
        f      0.25
        m         -
        >>> table["mean"]
        (0.25, None)
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...] = ()
    title: str = ""

    def __post_init__(self) -> None:
        wrong = next((r for r in self.rows if len(r) != len(self.columns)), None)
        if wrong is not None:
            raise InputError(f"a row of {len(wrong)} values in a table of {len(self.columns)} columns")

    @classmethod
    def from_records(cls, columns: Sequence[str], records: Sequence[Mapping[str, Any]], title: str = "") -> Table:
        """A table of ``records``, each a mapping with every one of ``columns``."""
        return cls(tuple(columns), tuple(tuple(record[c] for c in columns) for record in records), title)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Row by row, as dictionaries."""
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def __getitem__(self, column: str) -> tuple[Any, ...]:
        """One column."""
        if column not in self.columns:
            raise InputError(f"the table has no column {column!r}; it has {', '.join(self.columns)}")
        k = self.columns.index(column)
        return tuple(row[k] for row in self.rows)

    def to_dict(self) -> dict[str, list[Any]]:
        """Column name to list of values."""
        return {c: [row[k] for row in self.rows] for k, c in enumerate(self.columns)}

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``; absent values stay None. MissingExtraError without pandas."""
        try:
            import pandas
        except ImportError as error:
            raise MissingExtraError("Table.to_pandas needs pandas: pip install pandas") from error
        columns = {c: pandas.Series(v, dtype=_column_dtype(v)) for c, v in self.to_dict().items()}
        return pandas.DataFrame(columns, columns=list(self.columns))

    def __str__(self) -> str:
        cells = [list(self.columns), *([_word(v) for v in row] for row in self.rows)]
        widths = [max(len(line[k]) for line in cells) for k in range(len(self.columns))]
        right = [any(isinstance(row[k], (int, float)) and not isinstance(row[k], bool) for row in self.rows) for k in range(len(widths))]
        lines = [
            "  ".join(w.rjust(width) if r else w.ljust(width) for w, width, r in zip(line, widths, right, strict=True)).rstrip()
            for line in cells
        ]
        rule = "  ".join("-" * width for width in widths)
        return "\n".join([*([self.title] if self.title else []), lines[0], rule, *lines[1:]])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """The table in a notebook; every name is text there, never markup."""
        heads = "".join(f"<th>{_html(c)}</th>" for c in self.columns)
        rows = "".join(f"<tr>{''.join(f'<td>{_html(_word(v))}</td>' for v in row)}</tr>" for row in self.rows)
        title = f"<caption>{_html(self.title)}</caption>" if self.title else ""
        return f"<table>{title}<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _html(text: str) -> str:
    return html.escape(visible(text))


def visible(text: str, *, lines: bool = False) -> str:
    """``text`` for a terminal: control characters (escape sequences, backspaces) and marks that turn the direction of writing come as
    ``\\x1b`` or ``\\u202e``; so do line ends, but where ``lines`` are allowed. Everything else stays, whatever its script."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or (lines and c == "\n") or not _steers(c) else _escaped(c) for c in text)


def _steers(c: str) -> bool:
    return unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in _DIRECTIONS


def _escaped(c: str) -> str:
    return c.encode("unicode_escape").decode("ascii")


MISSING = "missing"


def group_word(value: object) -> str:
    """A group's value as a word. None is ``missing``; a group that is itself called so is in quotes, and so is one called that."""
    if value is None:
        return MISSING
    word = str(value)
    return f'"{word}"' if word.strip('"') == MISSING else word


def joined_words(words: Iterable[str]) -> str:
    """The word of an intersection; a part that holds the joint itself is in quotes: "a & b" with "c" is not "a" with "b & c"."""
    return " & ".join(f'"{word}"' if " & " in word else word for word in words)


def _word(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return visible(str(value))


def _column_dtype(values: Sequence[Any]) -> Any:
    """None keeps pandas' own choice; object where None stands among values that are no numbers."""
    return object if any(v is None for v in values) else None
