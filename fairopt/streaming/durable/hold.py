"""One process's hold on a run's database: opened and checked, locked, refused to every other process, let go of without harm.

A forked child inherits the connection, and SQLite's rules forbid it to use or even to close that one: closing would fold and delete the
parent's log. So in a child the connection is never freed, and every call is refused.
"""

from __future__ import annotations

import ctypes
import json
import os
import sqlite3
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Literal

from fairopt.basics.errors import FairoptWarning, InputError, StateError
from fairopt.streaming.durable.place import PAGE, beside, create, resolve, run_number, uri
from fairopt.streaming.durable.seal import (
    STORE_FORMAT,
    Beginning,
    Damage,
    Kept,
    NewerFormat,
    Seal,
    State,
    check_tables,
    payloads,
    pending_rows,
    read_state,
)
from fairopt.streaming.durable.trouble import damaged, database_error, system_error
from fairopt.streaming.durable.witness import InUse, Witness, boot

try:
    import fcntl
except ImportError:  # Windows, which cannot fork
    fcntl = None  # type: ignore[assignment]

Durable = Literal["normal", "full"]
WAIT = 1.0  # seconds that opening waits for a lock
_LOCK_BYTES = (512, 0x40000000)  # length and start of SQLite's locks in a database file

_LOG_PAGES = 4 * 2**20 // PAGE  # 4 MiB, as SQLite has it for pages of 4 KiB

_held: dict[tuple[int, int], Hold] = {}  # by device and inode: what this process has open
_inherited: set[tuple[int, int]] = set()  # what a parent had open when it forked this process


class Hold:
    """An open database. db: the connection; run, seal: the run's number and checks; created: whether the run begins here."""

    def __init__(self, path: Path, new: Beginning) -> None:
        """Open the run at ``path``, or begin it with ``new``. Raises InputError or StateError, and changes nothing then."""
        self.path = path
        self.pid = os.getpid()
        self._closed = False
        self._own: int | None = None
        real = self._real = resolve(path)
        try:
            self.created = not real.exists() and create(real, path, new)
            self._take()
        except sqlite3.Error as error:
            raise database_error(error, path, opening=True) from error
        except UnicodeDecodeError as error:  # sqlite3 reads a message about a damaged name
            raise damaged(path, "a name in it is no UTF-8", opening=True) from error
        except OSError as error:
            raise system_error(error, path, opening=True) from error
        except Damage as error:
            raise damaged(path, str(error), opening=True) from error
        except NewerFormat as error:
            raise InputError(
                f"state: {path} has format {error.args[0]}, newer than this fairopt reads ({STORE_FORMAT}); upgrade fairopt"
            ) from error
        except InUse as error:
            raise InputError(
                f"state: {path} is in use by another process; wait until that has closed it, or give each process a file of its own"
            ) from error

    def _take(self) -> None:
        status = self._real.stat()
        self._key = (status.st_dev, status.st_ino)
        if self._key in _held:
            raise InputError(f"state: {self.path} is in use by this process already; close that stream first")
        self.run = run_number(self._real, self.path)
        self._witness = Witness(beside(self._real, "-commits"), WAIT)
        try:
            log = beside(self._real, "-wal")
            has_log = log.exists() and log.stat().st_size > 0
            state = self._look(has_log=True) if has_log else None
            self.db = self._connect("rw")
            try:
                if state is None:
                    state = self._verified(self.db, has_log=False)
                elif read_state(self.db, self.run)[0] != state:
                    raise Damage("it changed while it was opened")
                self.seal = Seal(self.run, state.setting, state.facts)
            except BaseException:
                self.db.close()
                raise
        except BaseException:
            self._witness.release(remove=self._witness.left is None)
            raise
        _held[self._key] = self

    def _connect(self, mode: str) -> sqlite3.Connection:
        """mode: 'ro' to look, 'rw' to hold it alone."""
        # SQLite remembers a parent's lock in this process's memory, takes it for one of this process, and waits for it for ever. There the
        # connection goes without SQLite's locks, and the same bytes of the file are locked here.
        inherited = self._key in _inherited
        where = uri(self._real, mode) + ("&vfs=unix-none" if inherited else "")
        db = sqlite3.connect(where, uri=True, isolation_level=None, check_same_thread=False, timeout=WAIT)
        try:
            if inherited or mode == "rw":
                db.execute("PRAGMA locking_mode=EXCLUSIVE")
            if inherited and mode == "rw":
                self._lock_bytes()
        except BaseException:
            db.close()
            raise
        return db

    def _lock_bytes(self) -> None:
        self._own = os.open(self._real, os.O_RDWR)
        try:
            fcntl.lockf(self._own, fcntl.LOCK_EX | fcntl.LOCK_NB, *_LOCK_BYTES)
        except OSError as error:
            os.close(self._own)
            self._own = None
            raise InUse from error

    # -- what is checked before anything is written ------------------------------------------------------------------------------

    def _look(self, *, has_log: bool) -> State:
        """The checked state, by a connection that cannot write: closing one that can would fold the log in, right or wrong."""
        alone = self._commits_without_log()
        db = self._connect("ro")
        try:
            state = self._verified(db, has_log=has_log)
        finally:
            db.close()
        if json.loads(state.payload)["commits"] < alone:
            raise Damage("the log beside it is older than the file")
        return state

    def _commits_without_log(self) -> int:
        """What the file alone says, -1 where a checkpoint was cut off and it says nothing whole."""
        try:
            db = sqlite3.connect(uri(self._real, "ro&immutable=1"), uri=True, isolation_level=None)
            try:
                return int(json.loads(read_state(db, self.run)[0].payload)["commits"])
            finally:
                db.close()
        except (sqlite3.Error, Damage, NewerFormat, UnicodeDecodeError):
            return -1

    def _verified(self, db: sqlite3.Connection, *, has_log: bool) -> State:
        """The state, after every check. Raises Damage, NewerFormat, sqlite3's errors."""
        if db.execute("PRAGMA user_version").fetchone()[0] != self.run:
            raise Damage("its log is that of another run")
        state, seal = read_state(db, self.run)
        told = json.loads(state.payload)
        kept, commits = Kept.of(told["kept"]), told["commits"]
        try:
            check_tables(db, seal, kept)
            payloads(db, seal, "recent", kept.recent)
            payloads(db, seal, "curve", (0, kept.curve))
            pending_rows(db, seal, kept.pending)
        except (AttributeError, TypeError, ValueError) as error:  # a value of another type than was written
            raise Damage(f"a row is not what was written: {error}") from error
        left, log = self._witness.left, beside(self.path, "-wal")
        if left is None:
            if state.running and not has_log:
                raise Damage(f"it was not closed, and its log {log} is gone; with it beside the file the run can go on")
        elif left[0] != self.run:
            raise Damage(f"{self._witness.path} is that of another run")
        elif not commits >= left[1]:
            self._lost(left[1] - commits, left[2], log)
        return state

    def _lost(self, commits: int, started: bytes, log: Path) -> None:
        what = f"{commits} acknowledged transactions are missing at its end: {log} was cut, damaged or taken away"
        if started and boot() and started != boot():
            # The machine went down, and with durable='normal' the last moments may be lost then: what is left is whole.
            warnings.warn(
                f"state: {self.path}: {what} when the machine went down; durable='full' prevents that", FairoptWarning, stacklevel=2
            )
            return
        raise Damage(f"{what}; to go on without them delete {self._witness.path}")

    # -- in use ------------------------------------------------------------------------------------------------------------------

    def begin(self, durable: Durable, commits: int) -> None:
        """Make ready for transactions: the log, and the note in the file itself that it is in use."""
        try:
            mode = self.db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            if mode != "wal":
                raise InputError(f"state: {self.path}: this file system allows no write-ahead log (sqlite's journal mode is {mode!r})")
            self.db.execute(f"PRAGMA synchronous={durable.upper()}")
            self.db.execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
            self._mark(1)
            self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            with suppress(FileNotFoundError):
                beside(self._real, "-shm").unlink()  # of the connection that only looked; nobody else can have one
            self._witness.begin(self.run, commits)
        except sqlite3.Error as error:
            raise database_error(error, self.path, opening=True) from error
        except OSError as error:
            raise system_error(error, self.path, opening=True) from error

    def _mark(self, running: int) -> None:
        (payload,) = self.db.execute("SELECT payload FROM state").fetchone()
        self.db.execute("UPDATE state SET running = ?, digest = ?", (running, self.seal.digest(payload.encode(), running)))

    def check(self) -> None:
        """Raises StateError in a process that did not open the database, and after ``close``."""
        if os.getpid() == self.pid and not self._closed:
            return
        self.check_process()
        if self._closed:
            raise StateError(f"state: {self.path} was closed; open it again")

    def check_process(self) -> None:
        """Raises StateError in a process that did not open the database."""
        if self.inherited:
            self.abandon()
            raise StateError(
                f"state: {self.path} was opened by process {self.pid}, and this is process {os.getpid()}, forked from it: a connection "
                "does not survive a fork. Open it again in this process, once the other has closed it"
            )

    def told(self, commits: int) -> None:
        """A transaction stands: the witness hears of it."""
        self._witness.tell(commits)

    @property
    def inherited(self) -> bool:
        """Whether this process did not open the database: a parent did."""
        return os.getpid() != self.pid

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Fold the log into the file, say there that nobody uses it, let go. In a child: leave all to the parent.

        Where folding fails (a full disk) the log and the witness stay, and the next opening reads them: nothing is lost.
        """
        if self._closed:
            return
        if self.inherited:
            self.abandon()
            return
        self._closed = True
        folded = False
        try:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            self._mark(0)
            folded = self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        except sqlite3.Error:
            folded = False
        finally:
            _held.pop(self._key, None)
            self.db.close()
            self._witness.release(remove=folded)
            if self._own is not None:
                os.close(self._own)

    def abandon(self) -> None:
        """In a forked child: never free the connection, nor touch it; give back the lock's handle, so that it dies with the parent."""
        if self._closed:
            return
        self._closed = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.db))
        self._witness.abandon()


def _after_fork() -> None:
    for key, hold in _held.items():
        hold.abandon()
        _inherited.add(key)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
