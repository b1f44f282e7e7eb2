"""Durable state: a controller whose every step is one SQLite transaction, together with its answer, its outputs and the input's offset.

WAL with ``synchronous=NORMAL`` survives the death of the process at any moment; ``durable="full"`` also a loss of power, at the disk's
speed.
One process at a time may hold a database. A request ``key`` makes a retried step idempotent: the stored answer comes back and nothing
is counted.

Output files are written *after* the commit, from an outbox that the transaction holds. ``reconcile`` puts a file right after a crash:
it cuts what was
never committed and writes again what was committed and did not reach the file. So each row stands once, with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from fairopt.errors import InputError
from fairopt.streaming.controller import FORMAT, Controller, plain_spots
from fairopt.streaming.intake import read_keys, read_scores
from fairopt.streaming.report import StreamReport, StreamStep
from fairopt.streaming.windows import Sliding

Durable = Literal["normal", "full"]
Writes = Sequence[tuple[str, str]]  # (file name in the outbox, text)
KEEP_KEYS = 100_000
OUTBOX_ROWS = 10_000  # far more than a writer may have in its buffers
_PURGE_EVERY = 1000

_TABLES = """
CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY CHECK (id = 1), format INTEGER, setting TEXT, facts TEXT, payload TEXT);
CREATE TABLE IF NOT EXISTS request (seq INTEGER PRIMARY KEY, key TEXT UNIQUE, digest BLOB, answer BLOB);
CREATE TABLE IF NOT EXISTS outbox (seq INTEGER PRIMARY KEY, file TEXT, start INTEGER, bytes INTEGER, text TEXT);
CREATE TABLE IF NOT EXISTS pending (key TEXT PRIMARY KEY, payload TEXT);
CREATE TABLE IF NOT EXISTS recent (id INTEGER PRIMARY KEY, payload TEXT);
CREATE TABLE IF NOT EXISTS curve (id INTEGER PRIMARY KEY, point TEXT);
"""


class DurableStream:
    """A controller with its state in the database ``path``: resumes where the last committed step ended.

    keep_keys  how many request keys are remembered, the latest ones; None: all of them
    facts      what the caller wants known of the run (input, outputs, options): a JSON object, written once, with the first state.
               A resumed run has the facts of its beginning, whatever is passed; comparing them is the caller's business
    progress   what the last transactions said about input and outputs: {"offset": ..., "consumed": ..., "files": {name: bytes}}
    resumed    whether the database already held a run
    """

    def __init__(
        self,
        controller: Controller,
        path: str | Path,
        *,
        durable: Durable = "normal",
        keep_keys: int | None = KEEP_KEYS,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        if durable not in ("normal", "full"):
            raise InputError(f"durable: expected 'normal' or 'full', got {durable!r}")
        if keep_keys is not None and (isinstance(keep_keys, bool) or not isinstance(keep_keys, int) or keep_keys < 1):
            raise InputError(f"keep_keys: expected a whole number >= 1 or None for all, got {keep_keys!r}")
        self.controller = controller
        self.path = Path(path)
        self.keep_keys = keep_keys
        self._lock = threading.RLock()
        try:
            self.facts: dict[str, Any] = json.loads(json.dumps({} if facts is None else dict(facts), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise InputError(f"facts: expected an object of JSON values, got {facts!r}") from error
        self._db = self._open(durable)
        self.progress: dict[str, Any] = {"offset": None, "consumed": None, "files": {}}
        self._curve_rows = 0
        self.resumed = self._load()

    def _open(self, durable: Durable) -> sqlite3.Connection:
        db = sqlite3.connect(str(self.path), isolation_level=None, check_same_thread=False, timeout=1.0)
        try:
            db.execute("PRAGMA locking_mode=EXCLUSIVE")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(f"PRAGMA synchronous={durable.upper()}")
            db.executescript(_TABLES)
        except sqlite3.OperationalError as error:
            db.close()
            if "locked" in str(error):
                raise InputError(f"state: {self.path} is in use by another process") from error
            raise
        except sqlite3.DatabaseError as error:
            db.close()
            raise InputError(f"state: {self.path} is no fairopt database ({error})") from error
        return db

    def _load(self) -> bool:
        """Bring the controller to the last committed step; False for a new database, which is given its setting."""
        row = self._db.execute("SELECT format, setting, payload, facts FROM state").fetchone()
        if row is None:
            setting, payload = json.dumps(self.controller._setting()), self._payload()
            self._db.execute("INSERT INTO state VALUES (1, ?, ?, ?, ?)", (FORMAT, setting, json.dumps(self.facts), payload))
            return False
        if row[0] > FORMAT:
            raise InputError(f"state: {self.path} has format {row[0]}, newer than this fairopt reads ({FORMAT}); upgrade fairopt")
        self.facts = json.loads(row[3])
        moving = json.loads(row[2])
        self.progress = moving.pop("progress")
        state = {**json.loads(row[1]), **moving}
        state["pending"] = [[json.loads(k), *json.loads(p)] for k, p in self._db.execute("SELECT key, payload FROM pending ORDER BY rowid")]
        state["recent"] = [json.loads(p) for (p,) in self._db.execute("SELECT payload FROM recent ORDER BY id")]
        state["curve"]["points"] = [json.loads(p) for (p,) in self._db.execute("SELECT point FROM curve ORDER BY id")]
        self.controller.load_state_dict(state)
        self._curve_rows = len(state["curve"]["points"])
        return True

    def _payload(self) -> str:
        return json.dumps({**self.controller._moving(), "progress": self.progress})

    # -- stepping -----------------------------------------------------------------------------------------------------------------

    def step(
        self,
        scores: Any,
        *,
        sensitive_features: Any,
        targets: Any = None,
        key: Any = None,
        offset: Any = None,
        consumed: Any = None,
        writes: Callable[[StreamStep], Writes] | None = None,
    ) -> StreamStep:
        """``controller.step`` in one transaction. ``key``: one request key, or one a sample where targets come later.

        offset: where the input stands after this step (any JSON value). consumed: what the caller wants remembered of the input read
        so far, a running hash for instance (any JSON value; None keeps the last one). writes: texts for the outbox, made from the
        outcome.
        A retried key with other scores, groups or targets is an InputError.
        """
        with self._lock:
            request = None if key is None else _request(key)
            digest = b"" if request is None else _digest(scores, sensitive_features, targets)
            if request is not None:
                old = self._db.execute("SELECT digest, answer FROM request WHERE key = ?", (request,)).fetchone()
                if old is not None:
                    return self._again(scores, old, digest, key)
            late = targets is None and any(f.residual for f in self.controller.plan.families)
            return self._transact(
                lambda: self.controller.step(scores, sensitive_features=sensitive_features, targets=targets, key=key if late else None),
                request, digest, offset, consumed, writes,
            )  # fmt: skip

    def _again(self, scores: Any, old: tuple[bytes, bytes], digest: bytes, key: Any) -> StreamStep:
        if old[0] != digest:
            raise InputError(f"key: {key!r} was used before for another request")
        answer, _ = read_scores(scores).hand_back(np.frombuffer(old[1]).copy(), self.controller.lb, self.controller.ub)
        report = self.controller.report()
        dropped = tuple(label for label, gap in report.pooled_gaps.items() if gap is None)
        return StreamStep(answer, report.prices, report.pooled_gaps, report.counts, dropped)

    def _transact(
        self,
        act: Callable[[], StreamStep],
        request: str | None,
        digest: bytes,
        offset: Any,
        consumed: Any,
        writes: Callable[[StreamStep], Writes] | None,
    ) -> StreamStep:
        waiting = set(self.controller._pending)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            outcome = act()
            if request is not None:
                sent = outcome.scores
                answer = struct.pack("=d", sent) if type(sent) is float else read_scores(sent).z.tobytes()
                self._db.execute("INSERT INTO request (key, digest, answer) VALUES (?, ?, ?)", (request, digest, answer))
            self._post(writes(outcome) if writes is not None else ())
            self._save(waiting, offset, consumed)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            self._load()  # the memory may be ahead of the database: go back to it
            raise
        return outcome

    def note(self, *, offset: Any, writes: Writes, consumed: Any = None) -> None:
        """A transaction that counts nothing: texts for the outbox (a rejected row), the new offset, the input consumed (as in ``step``)."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._post(writes)
                self._save(set(self.controller._pending), offset, consumed)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                self._load()
                raise

    def observe(self, keys: Any, targets: Any) -> None:
        """``controller.observe`` in one transaction."""
        with self._lock:
            waiting = set(self.controller._pending)
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self.controller.observe(keys, targets)
                self._save(waiting, self.progress["offset"])
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                self._load()
                raise

    def seen(self, key: Any) -> bool:
        """Whether a request key is remembered."""
        with self._lock:
            return self._db.execute("SELECT 1 FROM request WHERE key = ?", (_request(key),)).fetchone() is not None

    def report(self) -> StreamReport:
        return self.controller.report()

    # -- the parts of a transaction -----------------------------------------------------------------------------------------------

    def _post(self, writes: Writes) -> None:
        files = self.progress["files"] = dict(self.progress["files"])
        for name, text in writes:
            start, size = files.get(name, 0), len(text.encode())
            self._db.execute("INSERT INTO outbox (file, start, bytes, text) VALUES (?, ?, ?, ?)", (name, start, size, text))
            files[name] = start + size

    def _save(self, waiting: set[str | int], offset: Any, consumed: Any = None) -> None:
        controller = self.controller
        self.progress["offset"] = offset
        if consumed is not None:
            self.progress["consumed"] = consumed
        for k in waiting - controller._pending.keys():
            self._db.execute("DELETE FROM pending WHERE key = ?", (json.dumps(k),))
        if controller._pending:
            for k in controller._pending.keys() - waiting:
                places, target = controller._pending[k]
                row = [plain_spots(places), target]
                self._db.execute("INSERT INTO pending VALUES (?, ?)", (json.dumps(k), json.dumps(row)))
        if isinstance(controller.window, Sliding):
            self._save_window()
        self._save_curve()
        self._db.execute("UPDATE state SET payload = ? WHERE id = 1", (self._payload(),))
        if controller.steps % _PURGE_EVERY == 0:
            for table, keep in (("request", self.keep_keys), ("outbox", OUTBOX_ROWS)):
                if keep is not None:
                    self._db.execute(f"DELETE FROM {table} WHERE seq <= (SELECT MAX(seq) FROM {table}) - ?", (keep,))

    def _save_window(self) -> None:
        """Entry j of the window has the number samples - len + j."""
        controller = self.controller
        first = controller.samples - len(controller._recent)
        last = self._db.execute("SELECT MAX(id) FROM recent").fetchone()[0]
        last = first - 1 if last is None else last
        self._db.execute("DELETE FROM recent WHERE id < ?", (first,))
        for number in range(max(first, last + 1), controller.samples):
            places, values = controller._recent[number - first]
            row = json.dumps([plain_spots(places), values])
            self._db.execute("INSERT INTO recent VALUES (?, ?)", (number, row))

    def _save_curve(self) -> None:
        points = self.controller._curve.points
        if len(points) == self._curve_rows:
            return
        if len(points) == self._curve_rows + 1:
            self._db.execute("INSERT INTO curve (point) VALUES (?)", (json.dumps(points[-1]),))
        else:
            self._db.execute("DELETE FROM curve")
            self._db.executemany("INSERT INTO curve (point) VALUES (?)", [(json.dumps(p),) for p in points])
        self._curve_rows = len(points)

    # -- outputs ------------------------------------------------------------------------------------------------------------------

    def reconcile(self, name: str, path: str | Path) -> None:
        """Make the file say exactly what was committed for ``name``; InputError where rows are missing that are no longer remembered."""
        path = Path(path)
        committed = int(self.progress["files"].get(name, 0))
        size = path.stat().st_size if path.exists() else 0
        with path.open("r+b" if path.exists() else "w+b") as file:
            if size > committed:
                file.truncate(committed)
                size = committed
            if size == committed:
                return
            rows = self._db.execute(
                "SELECT start, text FROM outbox WHERE file = ? AND start + bytes > ? ORDER BY seq", (name, size)
            ).fetchall()
            if not rows or rows[0][0] > size:
                raise InputError(
                    f"output: {path} has {size} bytes, {committed} were committed, and the missing rows are no longer remembered"
                )
            file.truncate(rows[0][0])
            file.seek(rows[0][0])
            for _, text in rows:
                file.write(text.encode())

    def remembered(self, name: str) -> list[tuple[int, bytes]]:
        """What the outbox still holds of the file ``name``: (first byte, text), one after the other."""
        rows = self._db.execute("SELECT start, text FROM outbox WHERE file = ? ORDER BY seq", (name,)).fetchall()
        return [(start, text.encode()) for start, text in rows]

    def close(self) -> None:
        """Fold the log into the database file and let go of it."""
        with self._lock:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _request(key: Any) -> str:
    if type(key) is int or type(key) is str:
        return json.dumps(key)
    keys = read_keys(key, len(key)) if isinstance(key, (list, tuple)) or hasattr(key, "tolist") else read_keys(key, 1)
    return json.dumps(keys)


def _digest(scores: Any, features: Any, targets: Any) -> bytes:
    if type(scores) is float:
        plain = (
            f"{scores!r} {features!r} {targets!r}"
            if not isinstance(features, Mapping)
            else f"{scores!r} {sorted(features.items())!r} {targets!r}"
        )
        return hashlib.blake2b(plain.encode(), digest_size=16).digest()
    parts = [read_scores(scores).z.tobytes()]
    items = sorted(features.items()) if isinstance(features, Mapping) else [("", features)]
    for name, values in items:
        parts.append(repr((str(name), values.tolist() if hasattr(values, "tolist") else values)).encode())
    parts.append(repr(targets.tolist() if hasattr(targets, "tolist") else targets).encode())
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()
