"""Columns that stand in the names of folders, as in ``race=a/part-0.parquet``: text, the same in each row of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from fairopt.basics.errors import InputError
from fairopt.datasets.find import Shard
from fairopt.datasets.reading import Constant, Raw, Reject, Table


@dataclass(frozen=True, eq=False)
class PathRows:
    """Rows with the columns of their file's path."""

    raw: Raw
    path: dict[str, str]

    @property
    def n(self) -> int:
        return self.raw.n

    @property
    def bad(self) -> list[Reject]:
        return self.raw.bad

    def cells(self, column: str) -> Any:
        return Constant(self.path[column], self.n) if column in self.path else self.raw.cells(column)

    def number(self, row: int) -> int:
        return self.raw.number(row)

    def content(self, row: int) -> str:
        return self.raw.content(row)


class PathTable:
    """A table beside the columns of its path. What is written has its own columns: the output lies in folders of the same names."""

    def __init__(self, table: Table, shard: Shard) -> None:
        self._table, self._path = table, dict(shard.path_columns)
        twice = [name for name in self._path if name in table.columns]
        if twice:
            table.close()
            raise InputError(f"{shard.path}: column {twice[0]!r} stands in the file and in the name of its folder; rename one of them")
        self.columns = [*table.columns, *self._path]
        self.types = {**table.types, **dict.fromkeys(self._path, "text in the name of a folder")}

    def close(self) -> None:
        self._table.close()

    def blocks(self, columns: Sequence[str]) -> Iterator[PathRows]:
        for raw in self._table.blocks(self._own(columns)):
            yield PathRows(raw, self._path)

    def write(self, file: IO[bytes], columns: Sequence[str], name: str, fair: Callable[[Any], tuple[Any, Any]]) -> int:
        return self._table.write(file, self._own(columns), name, lambda raw: fair(PathRows(raw, self._path)))

    def _own(self, columns: Sequence[str]) -> list[str]:
        if columns[0] in self._path:
            raise InputError(f"score: {columns[0]!r} stands in the names of folders, expected a column of the files")
        return [c for c in columns if c not in self._path]
