"""Scores, targets and groups out of a table of text or a Parquet file (which needs pandas and pyarrow)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing
from fairopt.basics.files import Delimited, Dialect, label, number, open_input, zero_or_one
from fairopt.basics.files.numbers import empty, fractional
from fairopt.basics.files.opened import Opened


@dataclass(frozen=True, eq=False)
class Frame:
    """scores, targets, decisions (n,) float64; sensitive: name -> n values: text as written, None where a cell is empty."""

    scores: Array
    sensitive: dict[str, Any]
    targets: Array | None
    decisions: Array | None


class TableFile:
    """An open table: ``columns`` first, so that options can be read with them, then ``frame``.

    wanted: names that the header must have; they tell which separator is meant where ``dialect`` names none.
    """

    def __init__(self, name: str, dialect: Dialect | None = None, *, wanted: Sequence[str] = (), stdin: IO[bytes] | None = None) -> None:
        opened = open_input(name, stdin)
        self._dialect = dialect or Dialect()
        if opened.parquet or name.lower().endswith((".parquet", ".pq")):
            self._table: _Columns = _Typed(opened)
        else:
            self._table = _Text(Delimited(opened, dialect, wanted=wanted))
        self.name, self.columns = opened.name, self._table.columns

    def frame(
        self,
        *,
        score: str,
        sensitive: Sequence[str],
        target: str | None = None,
        decision: str | None = None,
        numeric: Collection[str] = (),
        pos_label: str | None = None,
    ) -> Frame:
        """Read the named columns. Groups of a text are its cells as written ("01" is not "1"); only an empty cell is missing.

        numeric: those of ``sensitive`` that hold numbers, for notions about a continuous attribute.
        pos_label: the target that counts as 1, as written; every other one is 0. None: targets are numbers.
        InputError for a malformed row, and for a cell that is no number where one is needed, with its line; for a table without rows.
        """
        named = {"score": score, "target": target, "decision": decision}
        for option, column in [*((o, c) for o, c in named.items() if c is not None), *(("sensitive", c) for c in sensitive)]:
            if column not in self.columns:
                raise InputError(f"--{option}: {self.name} has no column {column!r}; it has {', '.join(map(repr, self.columns))}")
        needed = tuple(dict.fromkeys([c for c in (score, target, decision) if c is not None] + list(sensitive)))
        table = self._table
        try:
            table.read(needed)
        finally:
            table.close()
        if table.n == 0:
            raise InputError(f"{self.name}: got no rows, expected at least one")
        return Frame(
            scores=self._numbers(score),
            sensitive={c: self._numbers(c) if c in numeric else self._groups(c) for c in sensitive},
            targets=None if target is None else self._numbers(target, label) if pos_label is None else self._equal(target, pos_label),
            decisions=None if decision is None else self._numbers(decision, zero_or_one),
        )

    def _groups(self, column: str) -> Any:
        values = self._table.cells(column)
        if not isinstance(values, list):
            return values
        distinct = set(values) - {""}
        if len(distinct) > max(20, len(values) // 2) and any(map(fractional, distinct)) and all(map(_number, distinct)):
            raise InputError(
                f"{self.name}: column {column!r} holds {len(distinct):,} different numbers in {len(values):,} rows: "
                "a continuous attribute has no groups; cut it into ranges"
            )
        return [None if v == "" else v for v in values]

    def _equal(self, column: str, value: str) -> Array:
        """1.0 where a cell is ``value``. InputError for an empty cell, and where none is."""
        cells = self._table.listed(column)
        first = next((i for i, cell in enumerate(cells) if empty(cell)), None)
        if first is not None:
            raise InputError(f"{self.name}: column {column!r} has an empty cell in row {first + 1} ({self._table.where(first)})")
        words = [str(cell) for cell in cells]
        if value not in words:
            found = ", ".join(map(repr, sorted(set(words))[:6]))
            raise InputError(f"--pos-label: got {value!r}, expected a value of column {column!r}, such as {found}")
        return np.array([float(word == value) for word in words], dtype=np.float64)

    def _numbers(self, column: str, read: Callable[[Any, str, str], float] = number) -> Array:
        """One column as float64. InputError with the first cell that holds no finite number."""
        decimal = self._dialect.decimal
        cells = self._table.listed(column)
        out = np.empty(len(cells), dtype=np.float64)
        for i, cell in enumerate(cells):
            try:
                out[i] = read(cell, column, decimal)
            except InputError as error:
                raise InputError(f"{self.name}: {self._wrong(column, i, read, decimal)}") from error
        return out

    def _wrong(self, column: str, first: int, read: Any, decimal: str) -> str:
        """What is wrong with a column of numbers: the first bad cell, and how many there are."""
        bad, said = 0, ""
        cells = self._table.listed(column)
        for cell in cells[first:]:
            try:
                read(cell, "", decimal)
            except InputError as error:
                bad += 1
                said = said or str(error).removeprefix(": ")
        where = f"row {first + 1} ({self._table.where(first)})"
        shown = "an empty cell" if empty(cells[first]) else repr(str(cells[first]))
        more = "" if empty(cells[first]) else f": {said}"
        return f"column {column!r} has {shown} in {where}, expected a number ({bad} such rows of {len(cells)}){more}"


class _Columns:
    """Columns of a table, read once."""

    columns: list[str]
    n: int

    def read(self, needed: Sequence[str]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the file."""

    def cells(self, column: str) -> Any:
        raise NotImplementedError

    def listed(self, column: str) -> list[Any]:
        found = self.cells(column)
        return found if isinstance(found, list) else list(found.tolist())

    def where(self, row: int) -> str:
        raise NotImplementedError


class _Text(_Columns):
    def __init__(self, table: Delimited) -> None:
        self._table = table
        self.columns = table.columns
        self._cells: dict[str, list[str]] = {}
        self._lines: list[int] = []

    def read(self, needed: Sequence[str]) -> None:
        places = [self.columns.index(c) for c in needed]
        taken: list[list[str]] = [[] for _ in needed]
        takers = [(column.append, k) for column, k in zip(taken, places, strict=True)]
        for cells, _, line, reason in self._table.records():
            if reason:
                raise InputError(f"{self._table.name}: line {line}: {reason}")
            for take, k in takers:
                take(cells[k])
            self._lines.append(line)
        self._cells = dict(zip(needed, taken, strict=True))
        self.n = len(self._lines)

    def close(self) -> None:
        self._table.close()

    def cells(self, column: str) -> list[str]:
        return self._cells[column]

    def where(self, row: int) -> str:
        return f"line {self._lines[row]}"


class _Typed(_Columns):
    """Parquet: values keep their types."""

    def __init__(self, opened: Opened) -> None:
        try:
            import pandas
            import pyarrow
        except ImportError as error:
            raise missing("reading Parquet needs pandas and pyarrow", "audit") from error
        opened.close()
        if opened.pipe:
            raise InputError(f"{opened.name}: Parquet cannot be read from a pipe; give the file's path")
        try:
            self._frame: Any = pandas.read_parquet(opened.path)
        except (pyarrow.ArrowException, ValueError, OSError, TypeError, KeyError) as error:
            raise InputError(f"{opened.name}: cannot be read as Parquet: {error}") from error
        self.columns = list(map(str, self._frame.columns))
        twice = [c for c in self.columns if self.columns.count(c) > 1]
        if twice:
            raise InputError(f"{opened.name}: a column's name stands twice: {twice[0]!r}")
        self._frame.columns = self.columns
        self.n = len(self._frame)

    def read(self, needed: Sequence[str]) -> None:
        """All of it is there."""

    def cells(self, column: str) -> Any:
        return self._frame[column]

    def where(self, row: int) -> str:
        return "of the Parquet file"


def _number(text: str) -> bool:
    try:
        number(text, "")
    except InputError:
        return False
    return True
