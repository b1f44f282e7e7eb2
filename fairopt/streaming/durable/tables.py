"""The rows that a run keeps beside its state: answered requests, texts on their way to output files, what moves with the controller.

Every call writes inside the transaction that is open, sealed row by row, and enters in ``Kept`` what the tables hold then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from typing import Any

from fairopt.basics.errors import InputError
from fairopt.streaming.controller import plain_spots
from fairopt.streaming.durable.hold import Hold
from fairopt.streaming.durable.keys import Request
from fairopt.streaming.durable.seal import Kept, outbox_content, pending_content, request_content

Writes = Sequence[tuple[str, str]]  # (file name in the outbox, text)
OUTBOX_ROWS = 10_000  # far more than a writer may have in its buffers
_SLACK = 1000  # so many rows more may stand before old ones are deleted, a tenth of what is kept at most


class Tables:
    """The tables of an open database. ``sql`` runs one statement, on one cursor: making one a statement costs."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self.sql = hold.db.cursor().execute

    def answers(self, names: Sequence[str]) -> list[tuple[bytes, bytes] | None]:
        """(digest, answer) of each key, None where it is not known."""
        return [self.sql("SELECT digest, answer FROM request WHERE key = ?", (name,)).fetchone() for name in names]

    def remember(self, kept: Kept, request: Request, digest: bytes, answers: Sequence[bytes], keep: int | None) -> None:
        """The answers to a request's keys; of all, the latest ``keep`` stay."""
        seal = self._hold.seal
        first, seq = kept.requests
        for name, answer in zip(request.names, answers, strict=True):
            row = (seq, name, digest, answer, seal.crc(seq, request_content(name, digest, answer)))
            self.sql("INSERT INTO request VALUES (?, ?, ?, ?, ?)", row)
            seq += 1
        kept.requests = self._purge("request", first, seq, keep)

    def post(self, kept: Kept, files: Mapping[str, int], writes: Writes) -> dict[str, int]:
        """Texts into the outbox; how many bytes of each file are committed with them."""
        after = dict(files)
        seal = self._hold.seal
        first, seq = kept.outbox
        for name, text in writes:
            start = after.get(name, 0)
            try:
                size, content = len(text.encode()), outbox_content(name, start, text)
            except UnicodeEncodeError as error:
                raise InputError(f"writes: {text!r} is no text that UTF-8 can hold") from error
            self.sql("INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?)", (seq, name, start, size, text, seal.crc(seq, content)))
            after[name] = start + size
            seq += 1
        kept.outbox = self._purge("outbox", first, seq, OUTBOX_ROWS)
        return after

    def posted(self, name: str, beyond: int = -1) -> list[tuple[int, str]]:
        """(first byte, text) of what the outbox holds of the file ``name`` and ends after the byte ``beyond``, one after the other."""
        found = self.sql("SELECT start, text FROM outbox WHERE file = ? AND start + bytes > ? ORDER BY seq", (name, beyond)).fetchall()
        return [(start, text) for start, text in found]

    def save_pending(self, kept: Kept, pending: Mapping[Any, Any], before: Set[str | int]) -> None:
        """The samples whose labels are awaited, of which ``before`` stand already."""
        for k in before - pending.keys():
            self.sql("DELETE FROM pending WHERE key = ?", (json.dumps(k),))
        for k in pending:
            if k not in before:
                places, target = pending[k]
                name, row = json.dumps(k), json.dumps([plain_spots(places), target])
                self.sql("INSERT INTO pending VALUES (?, ?, ?)", (name, row, self._hold.seal.crc(0, pending_content(name, row))))
        kept.pending = len(pending)

    def save_window(self, kept: Kept, recent: Sequence[Any], samples: int) -> None:
        """The last samples of a sliding window: entry j has the number samples - len + j."""
        first = samples - len(recent)
        self.sql("DELETE FROM recent WHERE seq < ?", (first,))
        for seq in range(max(first, kept.recent[1]), samples):
            places, values = recent[seq - first]
            self._insert("recent", seq, json.dumps([plain_spots(places), values]))
        kept.recent = first, samples

    def save_curve(self, kept: Kept, points: Sequence[Any]) -> None:
        """The points of the report's curve."""
        old = kept.curve
        if len(points) < old:  # thinned
            self.sql("DELETE FROM curve")
            old = 0
        for seq in range(old, len(points)):
            self._insert("curve", seq, json.dumps(points[seq]))
        kept.curve = len(points)

    def _insert(self, table: str, seq: int, payload: str) -> None:
        self.sql(f"INSERT INTO {table} VALUES (?, ?, ?)", (seq, payload, self._hold.seal.crc(seq, payload.encode())))

    def _purge(self, table: str, first: int, following: int, keep: int | None) -> tuple[int, int]:
        """Delete the oldest rows where there are too many; (first, next) of what stands."""
        if keep is None or following - first <= keep or following - first <= keep + min(_SLACK, keep // 10):
            return first, following
        self.sql(f"DELETE FROM {table} WHERE seq < ?", (following - keep,))
        return following - keep, following
