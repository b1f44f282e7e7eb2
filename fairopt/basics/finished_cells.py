"""The file of finished cells of a long run: JSON lines, a header first, one line a cell, each on disk before the next cell starts.

A run that was stopped goes on where it was. A torn last line (the power went) is cut off. What a cell is, and which headers may share a
file, is the user's affair.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairopt.basics.errors import InputError

FORMAT = 1
Record = dict[str, Any]


class FinishedCells:
    """``kind``: the word in the header by which the file is known. ``path`` None: nothing is kept.

    Raises InputError where the folder does not exist, and from ``read`` where the file is another one or damaged.
    """

    def __init__(self, path: Path | None, kind: str) -> None:
        self.path, self.kind = path, kind
        self._file: int | None = None
        if path is not None and not path.parent.is_dir():
            raise InputError(f"finished cells: {path}: the folder does not exist")

    def read(self) -> list[Record]:
        """Every line that is there, header first; none where the file is absent or empty."""
        path = self.path
        if path is None or not path.exists():
            return []
        whole = path.read_bytes()
        end = whole.rfind(b"\n") + 1
        entries = [self._entry(line, number) for number, line in enumerate(whole[:end].splitlines(), 1)]
        if end < len(whole):
            os.truncate(path, end)
        return entries

    def _entry(self, line: bytes, number: int) -> Record:
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise InputError(f"{self.path}: line {number} is no JSON: not a file of finished cells, or damaged") from error
        if number == 1:
            if not (isinstance(entry, dict) and entry.get("kind") == self.kind):
                raise InputError(f"{self.path}: expected a file of finished cells (its first line says {self.kind!r})")
            if entry.get("format") != FORMAT:
                raise InputError(
                    f"{self.path}: format {entry.get('format')!r}, this fairopt reads {FORMAT}; update fairopt or choose another file"
                )
        elif not isinstance(entry, dict):
            raise InputError(f"{self.path}: line {number} is no finished cell")
        return entry

    def header(self, **facts: Any) -> Record:
        """The header of a file with these facts."""
        return {"format": FORMAT, "kind": self.kind, **facts}

    def add(self, entry: Mapping[str, Any]) -> None:
        """One write of one whole line, so that no reader sees half of it unless the machine stops; on disk when this returns."""
        if self.path is None:
            return
        if self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        data = (line_of(entry) + "\n").encode()
        if os.write(self._file, data) != len(data):
            raise OSError(f"{self.path}: could not write a whole line; is the disk full?")
        os.fsync(self._file)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def line_of(value: Mapping[str, Any]) -> str:
    """One text for one value, whatever the order of its keys. InputError for what is no plain JSON, NaN too."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"finished cells: {error}; expected plain JSON values without NaN, got {value!r}") from error
