"""The file of finished cells: JSON lines, a header first, one line a cell, each on disk before the next cell starts.

A race that was stopped goes on where it was. A torn last line (the power went) is cut off. Cells of other settings, another machine or
other versions are refused: they are not comparable.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from fairopt.basics.errors import InputError
from fairopt.race.cells import Cell
from fairopt.race.settings import Settings

FORMAT = 1
KIND = "fairopt race"
Record = dict[str, Any]


class Store:
    """Finished cells by ``Cell``. ``path`` None: in memory alone."""

    def __init__(self, path: Path | None, settings: Settings, machine: dict[str, str], versions: dict[str, str]) -> None:
        self.path = path
        self.header: Record = {
            "format": FORMAT, "kind": KIND, "settings": settings.to_dict(), "machine": machine, "versions": versions
        }  # fmt: skip
        self.records: dict[Cell, Record] = {}
        self._file: TextIO | None = None
        if path is None:
            return
        if not path.parent.is_dir():
            raise InputError(f"finished cells: {path}: the folder does not exist")
        known = path.exists() and path.stat().st_size > 0 and self._read(path)
        self._file = path.open("a", encoding="utf-8")
        if not known:
            self._write(self.header)

    def _read(self, path: Path) -> bool:
        """Take what is there; returns whether its header is the present one."""
        whole = path.read_bytes()
        end = whole.rfind(b"\n") + 1
        latest: Record | None = None
        for number, line in enumerate(whole[:end].splitlines(), 1):
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}: line {number} is no JSON: not a file of finished cells, or damaged") from error
            if number == 1 and not (isinstance(entry, dict) and entry.get("kind") == KIND):
                raise InputError(f"{path}: expected a file of finished cells (its first line says {KIND!r})")
            if "kind" in entry:
                self._check(entry, path)
                latest = entry
            else:
                self.records[Cell.from_dict(entry)] = entry
        if end < len(whole):
            os.truncate(path, end)
        return latest == self.header

    def _check(self, header: Record, path: Path) -> None:
        if header.get("format") != FORMAT:
            raise InputError(f"{path}: format {header.get('format')!r}, this fairopt reads {FORMAT}; update fairopt or choose another file")
        for part in ("settings", "machine"):
            differs = sorted(k for k, v in header[part].items() if self.header[part].get(k, v) != v)
            if differs:
                ours, theirs = ({k: h[part].get(k) for k in differs} for h in (self.header, header))
                raise InputError(f"{path}: its cells have other {part} ({theirs}, now {ours}); choose another file, or delete this one")
        for name, number in header["versions"].items():
            now = self.header["versions"].get(name, number)
            if now != number:
                raise InputError(
                    f"{path}: its cells were measured with {name} {number}, now it is {now}; choose another file, or delete this one"
                )

    def add(self, cell: Cell, record: Record) -> None:
        self.records[cell] = record
        self._write(record)

    def _write(self, entry: Record) -> None:
        if self._file is not None:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records.values())
