"""The finished cells of an experiment, by key, so that a run that was stopped goes on where it was.

A cell is one piece of work (a seed, a method, a tolerance). A run in pieces ends with the records that a run in one go gives: ``cell``
always returns what a reader of the file would get. Cells of other settings are refused: they are not comparable. A cell holds the mark of
the code that made it; one of other code is used, and counted as stale.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairopt.basics.errors import InputError
from fairopt.basics.finished_cells import FinishedCells, Record, line_of
from fairopt.experiments.marks import STUDIES, mark_of

KIND = "fairopt reproduce"


class Store:
    """The cells of one experiment. ``path`` None: in memory alone; ``fresh``: what the file held is dropped."""

    def __init__(self, path: Path | None, experiment: str, *, fresh: bool = False) -> None:
        self.path, self.experiment, self.fresh = path, experiment, fresh
        self._settings: Record | None = None
        self._mark = ""
        self._done: dict[str, Record] = {}
        self._code: dict[str, str | None] = {}
        self._asked: dict[str, None] = {}  # in the order of asking
        self._kept = FinishedCells(path, KIND)
        if fresh and path is not None:
            path.unlink(missing_ok=True)

    def hold(self, settings: Mapping[str, Any], made_by: Sequence[str] = STUDIES) -> None:
        """Say once, before the first cell, what all cells have in common (recipe, data, notion): InputError where the file says otherwise.

        What may differ between two runs that share cells (how many seeds) belongs into the keys. made_by: the code whose mark cells hold.
        """
        if self._settings is not None:
            raise InputError("settings: hold was called twice, expected once")
        self._settings = json.loads(line_of(settings))
        self._mark = mark_of(made_by)
        header = self._kept.header(experiment=self.experiment, settings=self._settings)
        entries = self._kept.read()
        if not entries:
            self._kept.add(header)
            return
        _check(entries[0], header, self.path)
        for number, entry in enumerate(entries[1:], 2):
            if entry.keys() not in ({"cell", "record"}, {"cell", "record", "code"}):  # older files have no mark
                raise InputError(f"{self.path}: line {number} is no finished cell")
            name = line_of(entry["cell"])
            self._done[name] = entry["record"]
            self._code[name] = entry.get("code")

    def cell(self, key: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> Record:
        """The record of ``key``: the finished one, or ``make()``, which is on disk before this returns. Plain JSON values, no NaN."""
        if self._settings is None:
            raise InputError("settings: expected a call of hold before the first cell")
        name = line_of(key)
        if name not in self._done:
            record = json.loads(line_of(make()))
            self._kept.add({"cell": json.loads(name), "record": record, "code": self._mark})
            self._done[name] = record
            self._code[name] = self._mark
        self._asked[name] = None
        return json.loads(line_of(self._done[name]))  # type: ignore[no-any-return]  # a copy: the caller may change it

    @property
    def stale(self) -> int:
        """How many cells that were asked for other code had made."""
        return sum(self._code[name] != self._mark for name in self._asked)

    def asked(self) -> Iterator[tuple[str, str]]:
        """(key, record) of every cell that this run asked for, both as one line of JSON."""
        return ((name, line_of(self._done[name])) for name in self._asked)

    def __contains__(self, key: Mapping[str, Any]) -> bool:
        return line_of(key) in self._done

    def __len__(self) -> int:
        return len(self._done)

    def __iter__(self) -> Iterator[tuple[Record, Record]]:
        """(key, record) of every finished cell, those that this run did not ask for too."""
        return ((json.loads(name), record) for name, record in self._done.items())

    def close(self) -> None:
        self._kept.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check(entry: Record, header: Record, path: Path | None) -> None:
    if entry["experiment"] != header["experiment"]:
        raise InputError(f"{path}: cells of {entry['experiment']!r}, expected {header['experiment']!r}")
    theirs, ours = entry["settings"], header["settings"]
    differs = sorted(k for k in theirs.keys() | ours.keys() if theirs.get(k) != ours.get(k))
    if differs:
        raise InputError(
            f"{path}: its cells have other settings ({ {k: theirs.get(k) for k in differs} }, now { {k: ours.get(k) for k in differs} }); "
            "begin anew (--fresh) or choose another folder (--output)"
        )
