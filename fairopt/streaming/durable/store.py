"""Durable state: a controller whose every step is one SQLite transaction, together with its answer, its outputs and the input's offset.

What is promised: when ``step``, ``observe`` or ``note`` has returned, it is on disk, and it is counted once. ``durable="normal"`` holds
that through the death of the process at any moment; ``"full"`` also through a loss of power, at the disk's speed. A call that raises
has counted nothing (an interrupt may come just after the commit: retry with the key). After any failure inside a step the controller is
read back from the disk, at once or before the next step.
One process at a time may hold a database, the one that opened it. A request ``key`` makes a retried step idempotent: the stored answer
comes back and nothing is counted.

Output files are written *after* the commit, from an outbox that the transaction holds. ``reconcile`` puts a file right after a crash:
it cuts what was never committed and writes again what was committed and did not reach the file. So each row stands once, with the same
bytes.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from fairopt.basics.errors import FairoptError, InputError, StateError
from fairopt.streaming.controller import Controller, plain_spots
from fairopt.streaming.durable.hold import Durable, Hold
from fairopt.streaming.durable.json_text import to_json
from fairopt.streaming.durable.keys import Request, digest_of, read_request
from fairopt.streaming.durable.seal import Beginning, Damage, Kept, payloads, pending_rows, read_state
from fairopt.streaming.durable.tables import Tables, Writes
from fairopt.streaming.durable.trouble import damaged, database_error, system_error
from fairopt.streaming.reading import read_scores
from fairopt.streaming.report import StreamReport, StreamStep
from fairopt.streaming.windows import Sliding

KEEP_KEYS = 100_000
_NOBODY: frozenset[str | int] = frozenset()
T = TypeVar("T")


class DurableStream:
    """A controller with its state in the database ``path``: resumes where the last committed step ended.

    durable    what a step outlives once it has returned: "normal" the death of the process, "full" also a loss of power
    keep_keys  how many request keys are remembered, the latest ones; None: all of them
    facts      what the caller wants known of the run (input, outputs, options): a JSON object, written once, with the first state.
               A resumed run has the facts of its beginning, whatever is passed; comparing them is the caller's business
    progress   what the last transactions said about input and outputs: {"offset": ..., "consumed": ..., "files": {name: bytes}}
    resumed    whether the database already held a run

    Opening raises InputError for a path that cannot serve (in use after a second of waiting, damaged, of another controller, of a newer
    format, no database), and changes nothing then. Later calls raise StateError where the database fails, in a process forked from the
    one that opened it, and after ``close``. While it is open, and after a kill, the files ``path-wal`` and ``path-commits`` belong to it.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from fairopt.streaming import DurableStream, PooledParity
        >>> path = Path(tempfile.mkdtemp()) / "stream.db"
        >>> for _ in range(2):
        ...     with DurableStream(PooledParity(fo.DemographicParity("sex", tolerance=0.1), bounds=(0, 1)), path) as stream:
        ...         step = stream.step([0.2, 0.6], sensitive_features=["f", "m"])
        ...         print(stream.resumed, step.counts)
        False {'DemographicParity(sex)': {'sex=f': 1.0, 'sex=m': 1.0}}
        True {'DemographicParity(sex)': {'sex=f': 2.0, 'sex=m': 2.0}}
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
        try:
            self.path = Path(path)
        except TypeError as error:
            raise InputError(f"path: expected a path, got {path!r}") from error
        try:
            self.facts: dict[str, Any] = json.loads(json.dumps({} if facts is None else dict(facts), allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"facts: expected an object of JSON values, got {facts!r}") from error
        self.controller = controller
        self.keep_keys = keep_keys
        self.progress: dict[str, Any] = {"offset": None, "consumed": None, "files": {}}
        self._lock = threading.RLock()
        self._commits = 0
        self._stale = False  # whether memory may be ahead of, or behind, the disk
        self._hold = Hold(self.path, self._beginning())
        self._tables = Tables(self._hold)
        self._columns = tuple(controller.columns)
        self._residual = any(f.residual for f in controller.plan.families)
        self._end = weakref.finalize(self, self._hold.close)  # where close() is forgotten
        try:
            self._load(opening=True)
            self._hold.begin(durable, self._commits)
        except BaseException:
            self._hold.close()
            raise
        self.resumed = not self._hold.created

    def _beginning(self) -> Beginning:
        """The controller as it comes, for a new database."""
        controller = self.controller
        recent = [json.dumps([plain_spots(places), values]) for places, values in controller._recent]
        curve = [json.dumps(point) for point in controller._curve.points]
        pending = [(json.dumps(k), json.dumps([plain_spots(places), t])) for k, (places, t) in controller._pending.items()]
        first = controller.samples - len(recent)
        self._kept = Kept(recent=(first, controller.samples), curve=len(curve), pending=len(pending))
        return Beginning(
            json.dumps(controller._setting()), json.dumps(self.facts), self._payload(),
            [*((first + i, row) for i, row in enumerate(recent))], [*enumerate(curve)], pending,
        )  # fmt: skip

    def _load(self, *, opening: bool) -> None:
        """Bring the controller to the last committed step."""
        db = self._hold.db
        try:
            if db.in_transaction:
                db.execute("ROLLBACK")
            row, seal = read_state(db, self._hold.run)
            told = json.loads(row.payload)
            kept = Kept.of(told["kept"])
            state = {**json.loads(row.setting), **told["controller"]}
            state["pending"] = [[json.loads(k), *json.loads(p)] for k, p in pending_rows(db, seal, kept.pending)]
            state["recent"] = [json.loads(p) for p in payloads(db, seal, "recent", kept.recent)]
            state["curve"]["points"] = [json.loads(p) for p in payloads(db, seal, "curve", (0, kept.curve))]
            self.controller.load_state_dict(state)
        except sqlite3.Error as error:
            raise database_error(error, self.path, opening=opening) from error
        except Damage as error:
            raise damaged(self.path, str(error), opening=opening) from error
        except FairoptError:
            raise
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise damaged(self.path, f"no state of a controller: {error!r}", opening=opening) from error
        self.progress, self.facts = told["progress"], json.loads(row.facts)
        self._kept, self._commits = kept, told["commits"]

    def _payload(self) -> str:
        told = {"commits": self._commits, "kept": self._kept.to_list(), "progress": self.progress, "controller": self.controller._moving()}
        try:
            return to_json(told)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"offset, consumed: expected JSON values, got {self.progress!r}") from error

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
        """``controller.step`` in one transaction. ``key``: one key for the step, or a list of keys, one a sample (needed where targets
        come later): strings or whole numbers.

        offset: where the input stands after this step (any JSON value). consumed: what the caller wants remembered of the input read
        so far, a running hash for instance (any JSON value; None keeps the last one). writes: texts for the outbox, made from the
        outcome.
        A retry, the same request under the same keys, gives the stored answer. InputError, and nothing is counted: a known key with
        other scores, groups or targets; a batch of which some keys are known and others not; a key twice in a batch.
        """
        with self._alone():
            self._agree()
            request = None if key is None else read_request(key, lambda: len(read_scores(scores).z))
            label = self.controller.pos_label
            digest = b"" if request is None else digest_of(scores, sensitive_features, targets, self._columns, request, label)
            if request is not None:
                known = self._remembered(request)
                if known is not None:
                    return self._again(scores, known, digest, key)
            late = self._residual and targets is None

            def work() -> StreamStep:
                keys = request.keys if late and request is not None else None
                outcome = self.controller.step(scores, sensitive_features=sensitive_features, targets=targets, key=keys)
                if request is not None:
                    self._remember(request, digest, outcome)
                if writes is not None:
                    self._post(writes(outcome))
                return outcome

            return self._transact(work, offset, consumed)

    def note(self, *, offset: Any, writes: Writes, consumed: Any = None) -> None:
        """A transaction that counts nothing: texts for the outbox (a rejected row), the new offset, the input consumed (as in ``step``)."""
        with self._alone():
            self._agree()
            self._transact(lambda: self._post(writes), offset, consumed)

    def observe(self, keys: Any, targets: Any) -> None:
        """``controller.observe`` in one transaction."""
        with self._alone():
            self._agree()
            self._transact(lambda: self.controller.observe(keys, targets), self.progress["offset"], None)

    def seen(self, key: Any) -> bool:
        """Whether a key is remembered; of several, whether all are."""
        self._hold.check()
        inside = self._inside()
        with self._lock:
            if not inside:
                self._agree()
            return all(row is not None for row in self._rows(read_request(key, lambda: len(key)).names))

    def report(self) -> StreamReport:
        """What the controller tells of all that is on disk. After ``close`` too."""
        self._hold.check_process()
        inside = self._inside()
        with self._lock:
            if self._stale and not inside:
                self._hold.check()
                self._agree()
            return self.controller.report()

    # -- keys ---------------------------------------------------------------------------------------------------------------------

    def _rows(self, names: Sequence[str]) -> list[tuple[bytes, bytes] | None]:
        """(digest, answer) of each key, None where it is not known."""
        try:
            return self._tables.answers(names)
        except sqlite3.Error as error:
            raise database_error(error, self.path) from error

    def _remembered(self, request: Request) -> list[tuple[bytes, bytes]] | None:
        """What is stored under the keys; None where all are new."""
        rows = self._rows(request.names)
        if rows == [None]:
            return None
        known = [row for row in rows if row is not None]
        if not known:
            return None
        if len(known) < len(rows):
            old, new = (next(k for k, row in zip(request.keys, rows, strict=True) if (row is None) == fresh) for fresh in (False, True))
            raise InputError(f"key: {old!r} was counted before and {new!r} was not; send the new samples in a step of their own")
        return known

    def _again(self, scores: Any, known: list[tuple[bytes, bytes]], digest: bytes, key: Any) -> StreamStep:
        if any(row[0] != digest for row in known):
            raise InputError(f"key: {key!r} was used before for another request")
        sent = np.frombuffer(b"".join(row[1] for row in known)).copy()
        answer, _ = read_scores(scores).hand_back(sent, self.controller.lb, self.controller.ub)
        report = self.controller.report()
        dropped = tuple(label for label, gap in report.pooled_gaps.items() if gap is None)
        return StreamStep(answer, report.prices, report.pooled_gaps, report.counts, dropped)

    def _remember(self, request: Request, digest: bytes, outcome: StreamStep) -> None:
        sent = outcome.scores
        whole = struct.pack("=d", sent) if type(sent) is float else read_scores(sent).z.tobytes()
        answers = [whole[i : i + 8] for i in range(0, len(whole), 8)] if request.each else [whole]
        self._tables.remember(self._kept, request, digest, answers, self.keep_keys)

    # -- one at a time ------------------------------------------------------------------------------------------------------------

    def _inside(self) -> bool:
        """Whether this thread is inside a step already: ``writes`` calls back. The lock knows it; a flag would outlive an interrupt."""
        return self._lock._is_owned()  # type: ignore[attr-defined,no-any-return]

    def _alone(self) -> threading.RLock:
        """The lock, for ``with``. Raises StateError: closed, another process, inside a step."""
        self._hold.check()
        if self._lock._is_owned():  # type: ignore[attr-defined]
            raise StateError(f"state: {self.path}: a call inside a transaction; let `writes` only return its texts")
        return self._lock

    # -- transactions -------------------------------------------------------------------------------------------------------------

    def _agree(self) -> None:
        """Before anything else: what an earlier failure left in memory goes, and what is on disk comes back. Raises StateError."""
        if self._stale:
            self._load(opening=False)
            self._stale = False

    def _transact(self, work: Callable[[], T], offset: Any, consumed: Any) -> T:
        """``work`` and all that it changes as one transaction: on disk when this returns, nowhere when it raises."""
        self._stale = True
        number = self._commits + 1
        waiting = set(self.controller._pending) if self._residual else _NOBODY
        committing = False
        try:
            self._tables.sql("BEGIN IMMEDIATE")
            out = work()
            self._commits = number
            self._save(waiting, offset, consumed)
            committing = True
            self._tables.sql("COMMIT")
        except BaseException as error:
            try:
                self._load(opening=False)
            except FairoptError as again:
                unknown = ". Whether the last call stands is not known before that: retry it with its key" if committing else ""
                raise StateError(f"{again}{unknown}") from error
            self._stale = False
            if not isinstance(error, sqlite3.Error):
                raise
            if not (committing and self._commits == number):
                raise database_error(error, self.path) from error
            # COMMIT reported a failure, and yet the transaction stands on the disk, and in the memory now: it is done.
        self._hold.told(number)
        self._stale = False
        return out

    def _post(self, writes: Writes) -> None:
        self.progress["files"] = self._tables.post(self._kept, self.progress["files"], writes)

    def _save(self, waiting: Set[str | int], offset: Any, consumed: Any) -> None:
        controller = self.controller
        self.progress["offset"] = offset
        if consumed is not None:
            self.progress["consumed"] = consumed
        tables, kept = self._tables, self._kept
        if waiting or controller._pending:
            tables.save_pending(kept, controller._pending, waiting)
        if isinstance(controller.window, Sliding):
            tables.save_window(kept, controller._recent, controller.samples)
        if len(controller._curve.points) != kept.curve:
            tables.save_curve(kept, controller._curve.points)
        payload = self._payload()
        tables.sql("UPDATE state SET payload = ?, digest = ? WHERE id = 1", (payload, self._hold.seal.digest(payload.encode(), 1)))

    # -- outputs ------------------------------------------------------------------------------------------------------------------

    def reconcile(self, name: str, path: str | Path) -> None:
        """Make the file say exactly what was committed for ``name``; InputError where rows are missing that are no longer remembered."""
        path = Path(path)
        with self._alone():
            self._agree()
            try:
                self._reconcile(name, path)
            except OSError as error:
                raise system_error(error, path, what="output") from error
            except sqlite3.Error as error:
                raise database_error(error, self.path) from error

    def _reconcile(self, name: str, path: Path) -> None:
        committed = int(self.progress["files"].get(name, 0))
        size = path.stat().st_size if path.exists() else 0
        with path.open("r+b" if path.exists() else "w+b") as file:
            if size > committed:
                file.truncate(committed)
                size = committed
            if size == committed:
                return
            rows = self._tables.posted(name, size)
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
        with self._alone():
            self._agree()
            try:
                rows = self._tables.posted(name)
            except sqlite3.Error as error:
                raise database_error(error, self.path) from error
            return [(start, text.encode()) for start, text in rows]

    def close(self) -> None:
        """Fold the log into the database file and let go of it. A second close does nothing; in a forked process it is refused."""
        self._hold.check_process()
        if self._inside():
            raise StateError(f"state: {self.path}: closed inside a transaction; let `writes` only return its texts")
        with self._lock:
            self._hold.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._hold.inherited:
            self.close()
