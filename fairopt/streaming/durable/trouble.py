"""What sqlite3 and the operating system report, in fairopt's own errors: the file, what happened, what to do."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

from fairopt.basics.errors import FairoptError, InputError, StateError

_NO_ROOM = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
_ADVICE = {  # by SQLite's primary result code
    sqlite3.SQLITE_FULL: "the disk is full; free some space and call again",
    sqlite3.SQLITE_IOERR: "reading or writing failed, often for want of space or for a limit on file sizes; make room and call again",
    sqlite3.SQLITE_READONLY: "it is read-only; give this user the right to write to the file and to its folder",
    sqlite3.SQLITE_PERM: "it is not permitted; give this user the right to write to the file and to its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; see that this user may write to the file and to its folder, and that the disk has room",
    sqlite3.SQLITE_BUSY: "it is in use by another process; wait until that has closed it, or give each process a file of its own",
    sqlite3.SQLITE_LOCKED: "it is in use by another connection; close that first",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
    sqlite3.SQLITE_TOOBIG: "a value is too large for SQLite",
}

_PASSING = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM)  # no fault of the path


def database_error(error: sqlite3.Error, path: Path, *, opening: bool = False) -> FairoptError:
    """fairopt's error for one of sqlite3's: InputError for a file that cannot serve when opened, StateError where it stops serving."""
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    nonsense = opening and primary in (0, sqlite3.SQLITE_ERROR)  # all our statements are right: it is the tables that are not
    if nonsense or primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT):
        return damaged(path, str(error), opening=opening)
    advice = _ADVICE.get(primary)
    words = f"state: {path}: {advice} (sqlite: {error})" if advice else f"state: {path}: sqlite reports {error}"
    return InputError(words) if opening and primary not in _PASSING else StateError(words)


def system_error(error: OSError | ValueError, path: Path, *, opening: bool = False, what: str = "state") -> FairoptError:
    """The same for the operating system's errors (ValueError: a path that holds a null byte)."""
    number = error.errno if isinstance(error, OSError) else None
    words = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if number in _NO_ROOM:
        advice = "; free some space and call again"
    elif number in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "; give this user the right to write to the file and to its folder"
    else:
        advice = ""
    return (InputError if opening and number not in _NO_ROOM else StateError)(f"{what}: {path}: {words}{advice}")


def damaged(path: Path, what: str, *, opening: bool) -> FairoptError:
    """The file is not what was written; it is left as it is."""
    words = f"state: {path} is damaged ({what}). It is left as it is: restore it from a copy, or begin a new run in another file"
    return (InputError if opening else StateError)(words)
