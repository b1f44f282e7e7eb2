"""Finished cells of an experiment: JSON lines, a header first, one line a cell, each on disk before the next cell starts.

A cell is one piece of work (a seed, a method, a tolerance) named by its key. A run that was stopped goes on where it was, and ends with
the records that a run in one go gives: ``cell`` always returns what a reader of the file would get. A torn last line (the power went) is
cut off. Cells of other settings are refused: they are not comparable.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fairopt.basics.errors import InputError

FORMAT = 1
KIND = "fairopt reproduce"
Record = dict[str, Any]


class Store:
    """The cells of one experiment. ``path`` None: in memory alone; ``fresh``: what the file held is dropped."""

    def __init__(self, path: Path | None, experiment: str, *, fresh: bool = False) -> None:
        self.path, self.experiment, self._fresh = path, experiment, fresh
        self._settings: Record | None = None
        self._done: dict[str, Record] = {}
        self._file: int | None = None
        if path is None:
            return
        if not path.parent.is_dir():
            raise InputError(f"finished cells: {path}: the folder does not exist")
        if fresh:
            path.unlink(missing_ok=True)

    def hold(self, settings: Mapping[str, Any]) -> None:
        """Say once, before the first cell, what all cells have in common (recipe, data, notion): InputError where the file says otherwise.

        What may differ between two runs that share cells (how many seeds) belongs into the keys.
        """
        if self._settings is not None:
            raise InputError("settings: hold was called twice, expected once")
        self._settings = json.loads(_line(settings))
        if self.path is None:
            return
        header = {"format": FORMAT, "kind": KIND, "experiment": self.experiment, "settings": self._settings}
        known = self.path.exists() and self._read(self.path, header)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        if not known:
            self._append(header)

    def cell(self, key: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> Record:
        """The record of ``key``: the finished one, or ``make()``, which is on disk before this returns. Plain JSON values, no NaN."""
        if self._settings is None:
            raise InputError("settings: expected a call of hold before the first cell")
        name = _line(key)
        if name not in self._done:
            record = json.loads(_line(make()))
            self._append({"cell": json.loads(name), "record": record})
            self._done[name] = record
        return json.loads(_line(self._done[name]))  # type: ignore[no-any-return]  # a copy: the caller may change it

    def beside(self, name: str) -> Store:
        """A store for another part of the same experiment, with settings of its own: the file beside this one, with ``name`` added."""
        path = None if self.path is None else self.path.with_name(f"{self.path.stem}.{name}{self.path.suffix}")
        return Store(path, f"{self.experiment} {name}", fresh=self._fresh)

    def __contains__(self, key: Mapping[str, Any]) -> bool:
        return _line(key) in self._done

    def __len__(self) -> int:
        return len(self._done)

    def __iter__(self) -> Iterator[tuple[Record, Record]]:
        """(key, record) of every finished cell, those that this run did not ask for too."""
        return ((json.loads(name), record) for name, record in self._done.items())

    def _read(self, path: Path, header: Record) -> bool:
        """Take the cells that are there; returns whether the file has its header."""
        whole = path.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end < len(whole):
            os.truncate(path, end)
        for number, line in enumerate(whole[:end].splitlines(), 1):
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}: line {number} is no JSON: not a file of finished cells, or damaged") from error
            if number == 1:
                _check(entry, header, path)
            elif not (isinstance(entry, dict) and entry.keys() == {"cell", "record"}):
                raise InputError(f"{path}: line {number} is no finished cell")
            else:
                self._done[_line(entry["cell"])] = entry["record"]
        return end > 0

    def _append(self, entry: Record) -> None:
        """One write of one whole line, so that no reader sees half of it unless the machine stops."""
        if self._file is not None:
            data = (_line(entry) + "\n").encode()
            if os.write(self._file, data) != len(data):
                raise OSError(f"{self.path}: could not write a whole line; is the disk full?")
            os.fsync(self._file)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _line(value: Mapping[str, Any]) -> str:
    """One text for one value, whatever the order of its keys."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"finished cells: {error}; expected plain JSON values without NaN, got {value!r}") from error


def _check(entry: object, header: Record, path: Path) -> None:
    if not isinstance(entry, dict) or entry.get("kind") != KIND:
        raise InputError(f"{path}: expected a file of finished cells (its first line says {KIND!r})")
    if entry.get("format") != FORMAT:
        raise InputError(f"{path}: format {entry.get('format')!r}, this fairopt reads {FORMAT}; update fairopt or choose another file")
    if entry["experiment"] != header["experiment"]:
        raise InputError(f"{path}: cells of {entry['experiment']!r}, expected {header['experiment']!r}")
    theirs, ours = entry["settings"], header["settings"]
    differs = sorted(k for k in theirs.keys() | ours.keys() if theirs.get(k) != ours.get(k))
    if differs:
        raise InputError(
            f"{path}: its cells have other settings ({ {k: theirs.get(k) for k in differs} }, now { {k: ours.get(k) for k in differs} }); "
            "begin anew (--fresh) or choose another folder (--output)"
        )
