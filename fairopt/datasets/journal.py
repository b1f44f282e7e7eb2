"""What a run has done so far, as lines of JSON in a hidden folder beside its output: one about the prices, one a shard.

A line is on the disk before the file that it speaks of has its name, so that every file with a name is known here. A line that was cut off
when the run was stopped is left out.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from fairopt.basics.errors import InputError
from fairopt.basics.files.writing import unwritable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FORMAT = 1


class Journal:
    """An open journal. head: what the run was asked for; solved: the line about the prices; written: shard -> its line."""

    def __init__(self, folder: Path, head: dict[str, Any], file: IO[bytes], lines: list[dict[str, Any]]) -> None:
        self.folder, self.head, self._file = folder, head, file
        self._lock = threading.Lock()
        self.resumed = bool(lines)
        self.solved: dict[str, Any] | None = next((line["solved"] for line in lines if "solved" in line), None)
        self.written: dict[int, dict[str, Any]] = {line["shard"]: line for line in lines if "shard" in line}
        if not lines:
            self._append({"head": head})

    def keep_solved(self, solved: dict[str, Any]) -> None:
        self._append({"solved": solved})
        self.solved = json.loads(json.dumps(solved))

    def keep_written(self, shard: int, facts: dict[str, Any]) -> None:
        """``facts``: digest, bytes and rows of a file that is about to get its name."""
        line = {"shard": shard, **facts}
        self._append(line)
        self.written[shard] = line

    def _append(self, line: dict[str, Any]) -> None:
        try:
            with self._lock:
                self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(self.folder, "output", error) from error

    def remove(self) -> None:
        """The run has ended: nothing of this folder is left."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def journal_in(folder: Path, head: dict[str, Any]) -> Iterator[Journal]:
    """The journal in ``folder``, a new one where there is none. InputError where it is another run's, or another process has it.

    A new one of a run that fails before it has found prices leaves no folder behind.
    """
    head = json.loads(json.dumps(head))
    new, alone = not folder.exists(), not folder.parent.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "journal").open("ab+")
    except OSError as error:
        raise unwritable(folder, "output", error) from error
    with file:
        _lock(file, folder)
        lines = _lines(file, folder)
        if lines and lines[0].get("head") != head:
            raise InputError(_other(folder, lines[0].get("head"), head))
        journal = Journal(folder, head, file, lines)
        try:
            yield journal
        except BaseException:
            if journal.solved is None and (new or not lines):
                journal.remove()
                if alone:
                    with suppress(OSError):
                        folder.parent.rmdir()
            raise


def _lock(file: IO[bytes], folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InputError(f"output: {folder} is in use by another process; wait for that run, or give another output") from error


def _lines(file: IO[bytes], folder: Path) -> list[dict[str, Any]]:
    """The whole lines; what was cut off behind them is cut off in the file too."""
    file.seek(0)
    data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        file.truncate(len(whole))
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise InputError(f"output: {folder} holds no journal that can be read; pass overwrite=True to begin anew") from error
    if lines and not (isinstance(lines[0], dict) and lines[0].get("head", {}).get("format") == FORMAT):
        raise InputError(f"output: {folder} holds no journal of this format; pass overwrite=True to begin anew")
    return lines


def _other(folder: Path, theirs: Any, ours: dict[str, Any]) -> str:
    names = [name for name in ours if not isinstance(theirs, dict) or theirs.get(name) != ours[name]]
    return (
        f"output: a run that was stopped left {folder}, and it was asked for something else ({', '.join(names) or 'its settings'} differ); "
        "give its arguments to go on with it, or pass overwrite=True to begin anew"
    )


def sync_folder(folder: Path) -> None:
    """Names in a folder reach the disk."""
    with suppress(OSError):  # not every system opens folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
