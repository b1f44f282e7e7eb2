"""The path of a run's database: what may stand there, and how a new one comes into being (all of it or nothing)."""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
import struct
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from fairopt.basics.errors import InputError
from fairopt.streaming.durable.seal import APPLICATION, Beginning, write_beginning
from fairopt.streaming.durable.trouble import database_error, system_error

_HEADER = struct.Struct(">18xBB40xI4xI")  # write and read version at byte 18, user_version at 60, application_id at 68: SQLite's format
_WAL = 2  # as write and read version
PAGE = 1024  # bytes: a step touches about five pages, and the log takes each whole
_MAGIC = b"SQLite format 3\0"


def beside(real: Path, suffix: str) -> Path:
    """The file of SQLite's or of ours that stands beside the database."""
    return real.with_name(real.name + suffix)


def uri(real: Path, mode: str) -> str:
    return f"file:{quote(os.fsencode(real))}?mode={mode}"


def resolve(path: Path) -> Path:
    """The file itself, links followed: SQLite keeps its log there. Raises InputError for a path that can hold no database."""
    try:
        real = Path(os.path.realpath(path))
        if not real.parent.is_dir():
            raise InputError(f"state: {path}: the folder {real.parent} does not exist; create it first")
        _writable(real.parent, path)
        if not os.path.lexists(real):
            return real
        mode = real.stat().st_mode
    except (OSError, ValueError) as error:
        raise system_error(error, path, opening=True) from error
    if stat.S_ISDIR(mode):
        raise InputError(f"state: {path} is a folder, expected the path of a database file")
    if not stat.S_ISREG(mode):
        raise InputError(f"state: {path} is no plain file, expected the path of a database file")
    _writable(real, path)
    return real


def _writable(real: Path, path: Path) -> None:
    """SQLite would open what it may not write, to read it, and fail later with other words."""
    if not os.access(real, os.R_OK | os.W_OK):
        raise InputError(f"state: {path}: {real} may not be read and written; give this user the right to write to the file and its folder")


def run_number(real: Path, path: Path) -> int:
    """The run's number from the header of the file, past SQLite. Raises InputError where the file is no run's database."""
    try:
        with real.open("rb") as file:
            head = file.read(_HEADER.size)
        journal = beside(real, "-journal")
        hot = journal.exists() and journal.stat().st_size > 0
    except OSError as error:
        raise system_error(error, path, opening=True) from error
    if not head:
        raise InputError(f"state: {path} is an empty file, and no run's; delete it to begin a new run there, or restore it from a copy")
    if head[: len(_MAGIC)] != _MAGIC or len(head) < _HEADER.size:
        raise InputError(f"state: {path} is no fairopt database (it does not begin like one); give another path, or restore it from a copy")
    writing, reading, run, application = _HEADER.unpack(head)
    if application != APPLICATION:
        raise InputError(f"state: {path} is no fairopt database of this kind (SQLite's application_id is {application}); give another path")
    if not writing == reading == _WAL:
        raise InputError(
            f"state: {path} has lost its journal mode: set it with sqlite3's PRAGMA journal_mode=WAL, or restore it from a copy"
        )
    if hot:
        raise InputError(f"state: {journal} is no file of fairopt's, and SQLite would write it into {path}; take it away")
    return int(run)


def create(real: Path, path: Path, new: Beginning) -> bool:
    """A new run's database, made under another name and then put in place; False where another one was faster."""
    for suffix in ("-wal", "-commits"):
        left = beside(real, suffix)
        if left.exists() and left.stat().st_size > 0:
            raise InputError(f"state: {path} is not there, but {left} is: put the database back beside it, or delete that file")
    draft = beside(real, f"-new{os.getpid()}-{secrets.token_hex(4)}")
    try:
        _write(draft, new)
        return _put(draft, real)
    except (sqlite3.Error, OSError) as error:
        if real.exists():  # another process was faster, and swept this draft away
            return False
        if isinstance(error, OSError):
            raise system_error(error, path, opening=True) from error
        raise database_error(error, path, opening=True) from error
    finally:
        with suppress(OSError):  # the first error counts
            draft.unlink()


def _write(draft: Path, new: Beginning) -> None:
    run = secrets.randbits(31)
    db = sqlite3.connect(uri(draft, "rwc"), uri=True, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode=OFF")
        db.execute(f"PRAGMA page_size={PAGE}")
        db.execute("BEGIN")
        db.execute(f"PRAGMA application_id={APPLICATION}")
        db.execute(f"PRAGMA user_version={run}")
        write_beginning(db, run, new)
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode=WAL")  # now: later SQLite would do it through a journal, which a kill leaves behind
    finally:
        db.close()
    with draft.open("rb") as file:
        os.fsync(file.fileno())


def _put(draft: Path, real: Path) -> bool:
    """Give the draft its name unless that is taken; then sweep the drafts of processes that were killed."""
    try:
        os.link(draft, real)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if real.exists():
            return False
        draft.rename(real)
    for name in os.listdir(real.parent):
        if name.startswith(f"{real.name}-new"):
            with suppress(OSError):
                (real.parent / name).unlink()
    return True
