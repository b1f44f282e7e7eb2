"""A small file beside a database in use: how many transactions were acknowledged, and a lock.

SQLite reads a log up to its first bad page and takes the rest for unwritten: a log that was cut, damaged or taken away gives an older
state without a word. So the number of the last commit is kept here as well, written after each commit; a database that stands before it
has lost something, and is refused. The file lives while the database is open, and after a kill; a clean close removes it.
"""

from __future__ import annotations

import os
import struct
import time
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: SQLite's own lock is the only one
    fcntl = None  # type: ignore[assignment]

_RECORD = struct.Struct("=8sqq40s")  # magic, run, commits, boot
_COUNT = struct.Struct("=q")
_MAGIC = b"fairopt1"


class InUse(Exception):
    """Never leaves the store."""


class Witness:
    """The open and locked file. left: (run, commits, boot) that an earlier process left behind, None where it closed cleanly."""

    def __init__(self, path: Path, wait: float) -> None:
        """Raises InUse after ``wait`` seconds, and OSError."""
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            _lock(self._fd, wait)
            self.left = _read(self._fd)
        except BaseException:
            os.close(self._fd)
            raise

    def begin(self, run: int, commits: int) -> None:
        """From now on the file speaks of this run. Raises OSError."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        os.write(self._fd, _RECORD.pack(_MAGIC, run, commits, boot()))

    def tell(self, commits: int) -> None:
        """One more commit. The commit stands already, so a failing write only leaves the witness behind: it is no failure of the step."""
        try:
            os.pwrite(self._fd, _COUNT.pack(commits), 16)
        except OSError:
            return

    def release(self, *, remove: bool) -> None:
        """Let go of the lock. remove: the database says all itself."""
        if self._fd < 0:
            return
        if remove:
            with suppress(OSError):  # a folder that has become read-only: the file agrees with the database, and hinders nobody
                self.path.unlink()
        self.abandon()

    def abandon(self) -> None:
        """Close this process's handle; a parent's lock stays."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def boot() -> bytes:
    """Tells one start of the machine from another, where the system says so; else empty."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()[:40]
    except OSError:
        return b""


def _read(fd: int) -> tuple[int, int, bytes] | None:
    raw = os.read(fd, _RECORD.size)
    if len(raw) < _RECORD.size or raw[:8] != _MAGIC:
        return None
    _, run, commits, started = _RECORD.unpack(raw)
    return run, commits, started.rstrip(b"\0")


def _lock(fd: int, wait: float) -> None:
    if fcntl is None:
        return
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise InUse from error
        except OSError:  # a file system without such locks: SQLite's own is the only one
            return
        time.sleep(0.02)
