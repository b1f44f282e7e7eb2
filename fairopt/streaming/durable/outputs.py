"""The files that a run writes, behind the commits: what is committed and not yet in a file is in the state's outbox.

A run owns what it has committed and nothing else. A file that is there before the run, one that was changed since, one that was deleted or
replaced under way: each is an error that says so, and no byte of it is touched unless ``overwrite`` was asked for.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from fairopt.basics.errors import InputError
from fairopt.basics.files.opened import reason
from fairopt.basics.files.writing import unwritable
from fairopt.streaming.durable.store import DurableStream

FLUSH_EVERY = 256
STDOUT = Path("-")


class Outputs:
    """The files by name; Path('-') is standard output. They are flushed together now and then, and looked at each time."""

    def __init__(self, store: DurableStream, paths: Mapping[str, Path], *, sync: bool = False, overwrite: bool = False) -> None:
        self._store, self._sync = store, sync
        self._waiting = 0
        self._failed = False
        self._sinks: dict[str, _File | _Standard] = {}
        for name, path in paths.items():
            if path != STDOUT:
                claim(store, name, path, overwrite=overwrite)
        for name, path in paths.items():
            self._sinks[name] = _Standard() if path == STDOUT else _File(name, path, _put_right(store, name, path))

    def write(self, writes: list[tuple[str, str]]) -> None:
        for name, text in writes:
            self._sinks[name].hold(text.encode())
        self._waiting += len(writes)
        if self._waiting >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """InputError where a file cannot be written, or is no longer the one that was opened. What it lacks is in the state."""
        self._waiting = 0
        try:
            for sink in self._sinks.values():
                sink.flush(sync=self._sync)
        except InputError:
            self._failed = True
            raise

    def close(self) -> None:
        """Flush, unless that has failed before, and let go of the files."""
        try:
            if not self._failed:
                self.flush()
        finally:
            for sink in self._sinks.values():
                sink.close()


class _File:
    """One file, appended to without a buffer of the system's library: a write that fails half-way leaves no second try behind."""

    def __init__(self, name: str, path: Path, size: int) -> None:
        self.name, self.path, self._size = name, path, size
        self._held: list[bytes] = []
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise unwritable(path, name, error) from error

    def hold(self, data: bytes) -> None:
        self._held.append(data)

    def flush(self, *, sync: bool) -> None:
        data = memoryview(b"".join(self._held))
        self._held.clear()
        try:
            while data:
                written = self._file.write(data) or 0
                data, self._size = data[written:], self._size + written
            if sync:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise InputError(
                f"{self.name}: {self.path} cannot be written: {reason(error)}; mend that and run the same command again: it goes on, and "
                "nothing that was committed is lost"
            ) from error
        self._look()

    def _look(self) -> None:
        """Whether the path still leads to this file, and all that was written is in it."""
        again = "run the same command again: it puts the file right as far as the state remembers it"
        mine = os.fstat(self._file.fileno())
        try:
            there = os.stat(self.path)
        except OSError as error:
            raise InputError(f"{self.name}: {self.path} was deleted during the run; {again}") from error
        if (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            raise InputError(f"{self.name}: {self.path} was replaced by another file during the run; {again}")
        if mine.st_size != self._size:
            raise InputError(f"{self.name}: {self.path} has {mine.st_size:,} bytes, {self._size:,} were written; {again}")

    def close(self) -> None:
        self._file.close()


class _Standard:
    """Standard output, flushed with the others."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def hold(self, data: bytes) -> None:
        self._held.append(data)

    def flush(self, *, sync: bool) -> None:
        data = b"".join(self._held)
        self._held.clear()
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except OSError as error:
            with contextlib.suppress(OSError):  # else Python tries once more at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise InputError(f"output: standard output was closed ({reason(error)}); rows were committed that did not get out") from error

    def close(self) -> None:
        """It is not ours to close."""


def claim(store: DurableStream, name: str, path: Path, *, overwrite: bool) -> None:
    """Check that the run may write to ``path``: nothing is there, or what it committed itself. InputError says which it is."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return
    except OSError as error:
        raise unwritable(path, name, error) from error
    if not path.is_file():
        raise InputError(f"{name}: {path} is no file, expected one, or '-' for standard output")
    committed = int(store.progress["files"].get(name, 0))
    if size > committed:
        _surplus(store, name, path, size, committed, overwrite=overwrite)
        size = committed
    kept = store.remembered(name)
    if kept and size > kept[0][0]:
        start, text = kept[0][0], b"".join(text for _, text in kept)
        if _read(path, name, start, size - start) != text[: size - start]:
            raise InputError(f"{name}: {path} was changed since this run wrote it (at byte {start:,} or after); put it back, or delete it")


def _surplus(store: DurableStream, name: str, path: Path, size: int, committed: int, *, overwrite: bool) -> None:
    if not overwrite:
        more = f"{path} has {size - committed:,} bytes more than this run wrote"
        there = more if committed else f"{path} is there already, and is not of this run"
        raise InputError(f"{name}: {there}; choose another name, move it away, or pass --overwrite to lose them")
    try:
        os.truncate(path, committed)
    except OSError as error:
        raise unwritable(path, name, error) from error


def _put_right(store: DurableStream, name: str, path: Path) -> int:
    """The file as it was committed, made of the outbox where it lacks something; its size."""
    try:
        store.reconcile(name, path)
    except OSError as error:
        raise unwritable(path, name, error) from error
    return int(store.progress["files"].get(name, 0))


def _read(path: Path, name: str, start: int, length: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(length)
    except OSError as error:
        raise InputError(f"{name}: {path} cannot be read: {reason(error)}") from error
