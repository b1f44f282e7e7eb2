"""The finished cells of a race, so that one that was stopped goes on where it was.

Cells of other settings, another machine or other versions are refused: they are not comparable.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fairopt.basics.errors import InputError
from fairopt.basics.finished_cells import FinishedCells, Record
from fairopt.race.cells import Cell
from fairopt.race.settings import Settings

KIND = "fairopt race"


class Store:
    """Finished cells by ``Cell``. ``path`` None: in memory alone."""

    def __init__(self, path: Path | None, settings: Settings, machine: dict[str, str], versions: dict[str, str]) -> None:
        self.path = path
        self._kept = FinishedCells(path, KIND)
        self.header: Record = self._kept.header(settings=settings.to_dict(), machine=machine, versions=versions)
        self.records: dict[Cell, Record] = {}
        latest: Record | None = None
        for entry in self._kept.read():
            if "kind" in entry:
                self._check(entry)
                latest = entry
            else:
                self.records[Cell.from_dict(entry)] = entry
        if latest != self.header:
            self._kept.add(self.header)

    def _check(self, header: Record) -> None:
        for part in ("settings", "machine"):
            differs = sorted(k for k, v in header[part].items() if self.header[part].get(k, v) != v)
            if differs:
                ours, theirs = ({k: h[part].get(k) for k in differs} for h in (self.header, header))
                raise InputError(
                    f"{self.path}: its cells have other {part} ({theirs}, now {ours}); choose another file, or delete this one"
                )
        for name, number in header["versions"].items():
            now = self.header["versions"].get(name, number)
            if now != number:
                raise InputError(
                    f"{self.path}: its cells were measured with {name} {number}, now it is {now}; choose another file, or delete this one"
                )

    def add(self, cell: Cell, record: Record) -> None:
        self.records[cell] = record
        self._kept.add(record)

    def close(self) -> None:
        self._kept.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records.values())
