"""The tables of a run's database and the checks that guard them: what was not written by this run, and just so, is not read.

The state row carries a digest of all of it and of the run's own row; each other row a CRC that begins with the run's number and the
row's own, so a row of another run, or in another place, fails too. The state row says which rows the other tables have: one that is gone
is missed. The run's number stands in the header of the file (``user_version``), outside any log: a log of another run does not pass.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

APPLICATION = 0x66616972  # "fair", SQLite's application_id
STORE_FORMAT = 2  # 1 had no checks

TABLES = (
    "CREATE TABLE run (id INTEGER PRIMARY KEY CHECK (id = 1), setting TEXT, facts TEXT)",
    "CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), format INTEGER, running INTEGER, payload TEXT, digest BLOB)",
    "CREATE TABLE request (seq INTEGER PRIMARY KEY, key TEXT UNIQUE, digest BLOB, answer BLOB, crc INTEGER)",
    "CREATE TABLE outbox (seq INTEGER PRIMARY KEY, file TEXT, start INTEGER, bytes INTEGER, text TEXT, crc INTEGER)",
    "CREATE TABLE pending (key TEXT PRIMARY KEY, payload TEXT, crc INTEGER)",
    "CREATE TABLE recent (seq INTEGER PRIMARY KEY, payload TEXT, crc INTEGER)",
    "CREATE TABLE curve (seq INTEGER PRIMARY KEY, payload TEXT, crc INTEGER)",
)


class Damage(Exception):
    """Never leaves the store, which puts the path to it. The text says what is wrong."""


@dataclass
class Kept:
    """Which rows the tables hold: numbers ``first <= seq < next`` without a hole, and how many of the tables without numbers."""

    requests: tuple[int, int] = (1, 1)
    outbox: tuple[int, int] = (1, 1)
    recent: tuple[int, int] = (0, 0)
    curve: int = 0
    pending: int = 0

    def to_list(self) -> list[int]:
        return [*self.requests, *self.outbox, *self.recent, self.curve, self.pending]

    @classmethod
    def of(cls, numbers: list[int]) -> Kept:
        a, b, c, d, e, f, g, h = numbers
        return cls((a, b), (c, d), (e, f), g, h)


class State(NamedTuple):
    """The state row, checked."""

    format: int
    running: int
    setting: str
    facts: str
    payload: str


class Beginning(NamedTuple):
    """What a new database holds: the state's texts (JSON), and the rows of the tables, (seq, payload) or (key, payload)."""

    setting: str
    facts: str
    payload: str
    recent: list[tuple[int, str]]
    curve: list[tuple[int, str]]
    pending: list[tuple[str, str]]


class Seal:
    """The checks of one run's rows. run: its number, drawn when it began; setting, facts: what never changes in it (JSON)."""

    def __init__(self, run: int, setting: str, facts: str) -> None:
        self.run, self.setting, self.facts = run, setting, facts
        self._begun = [hashlib.blake2b(repr((run, STORE_FORMAT, running, setting, facts)).encode(), digest_size=16) for running in (0, 1)]

    def digest(self, payload: bytes, running: int) -> bytes:
        """Of the whole state row, and of the run's."""
        out = self._begun[running].copy()
        out.update(payload)
        return out.digest()

    def crc(self, seq: int, content: bytes) -> int:
        """Of any other row; seq is 0 where the table has no numbers."""
        return zlib.crc32(content, self.run ^ (seq & 0xFFFFFFFF))


def request_content(name: str, digest: bytes, answer: bytes) -> bytes:
    return name.encode() + digest + answer


def outbox_content(file: str, start: int, text: str) -> bytes:
    return f"{file}\0{start}\0{text}".encode()


def pending_content(key: str, payload: str) -> bytes:
    return f"{key}\0{payload}".encode()


def read_state(db: sqlite3.Connection, run: int) -> tuple[State, Seal]:
    """The state row, if it is what this run wrote last. Raises Damage, ``NewerFormat``, or sqlite3's own errors."""
    try:
        first = db.execute("SELECT format FROM state").fetchone()
        if first is not None and isinstance(first[0], int) and first[0] > STORE_FORMAT:
            raise NewerFormat(first[0])
        row = db.execute("SELECT format, running, setting, facts, payload, digest FROM state JOIN run USING (id)").fetchone()
    except sqlite3.OperationalError as error:
        if "no such" not in str(error):
            raise
        raise Damage(str(error)) from error
    if row is None:
        raise Damage("it holds no state")
    if not (row[0] == STORE_FORMAT and row[1] in (0, 1) and all(isinstance(v, str) for v in row[2:5])):
        raise Damage("the state row is not what was written")
    state = State(*row[:5])
    seal = Seal(run, state.setting, state.facts)
    if seal.digest(state.payload.encode("utf-8", "surrogatepass"), state.running) != row[5]:
        raise Damage("the state row does not have its checksum")
    return state, seal


class NewerFormat(Exception):
    """Never leaves the store. ``args[0]``: the format found."""


def check_tables(db: sqlite3.Connection, seal: Seal, kept: Kept) -> None:
    """All of the file: SQLite's own integrity check, the tables, and every row. Raises Damage. About 0.3 s for 100,000 keys."""
    found = [sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")]
    if found != list(TABLES):
        raise Damage("its tables are not those of a run")
    told = db.execute("PRAGMA integrity_check(1)").fetchone()
    if told is None or told[0] != "ok":
        raise Damage(f"sqlite: {told[0] if told else 'no answer'}")
    for table, numbers in (("request", kept.requests), ("outbox", kept.outbox)):
        _check_numbers(db, table, numbers)
    good = all(crc == seal.crc(seq, request_content(key, digest, answer)) for seq, key, digest, answer, crc in _rows(db, "request"))
    good = good and all(
        crc == seal.crc(seq, outbox_content(file, start, text)) and size == len(text.encode())
        for seq, file, start, size, text, crc in _rows(db, "outbox")
    )
    if not good:
        raise Damage("a request or an output row does not have its checksum")


def payloads(db: sqlite3.Connection, seal: Seal, table: str, numbers: tuple[int, int]) -> list[str]:
    """The payloads of ``recent`` or ``curve`` in order, each checked. Raises Damage."""
    _check_numbers(db, table, numbers)
    rows = list(_rows(db, table))
    if not all(crc == seal.crc(seq, payload.encode()) for seq, payload, crc in rows):
        raise Damage(f"a row of {table} does not have its checksum")
    return [payload for _, payload, _ in rows]


def pending_rows(db: sqlite3.Connection, seal: Seal, count: int) -> list[tuple[str, str]]:
    """(key, payload) of the samples that wait for targets, in order of arrival. Raises Damage."""
    rows = list(db.execute("SELECT key, payload, crc FROM pending ORDER BY rowid"))
    if len(rows) != count or not all(crc == seal.crc(0, pending_content(key, payload)) for key, payload, crc in rows):
        raise Damage("the waiting targets are not what was written")
    return [(key, payload) for key, payload, _ in rows]


def _rows(db: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    return db.execute(f"SELECT * FROM {table} ORDER BY seq")


def _check_numbers(db: sqlite3.Connection, table: str, numbers: tuple[int, int]) -> None:
    first, following = numbers
    low, high, count = db.execute(f"SELECT MIN(seq), MAX(seq), COUNT(*) FROM {table}").fetchone()
    expected = (first, following - 1, following - first) if following > first else (None, None, 0)
    if (low, high, count) != expected:
        raise Damage(f"rows of {table} are missing: {count} found, {following - first} written")


def write_beginning(db: sqlite3.Connection, run: int, new: Beginning) -> None:
    """Tables and rows of a new run, inside a transaction."""
    seal = Seal(run, new.setting, new.facts)
    for table in TABLES:
        db.execute(table)
    db.execute("INSERT INTO run VALUES (1, ?, ?)", (new.setting, new.facts))
    row = (1, STORE_FORMAT, 0, new.payload, seal.digest(new.payload.encode(), 0))
    db.execute("INSERT INTO state VALUES (?, ?, ?, ?, ?)", row)
    for name, numbered in (("recent", new.recent), ("curve", new.curve)):
        db.executemany(f"INSERT INTO {name} VALUES (?, ?, ?)", [(seq, p, seal.crc(seq, p.encode())) for seq, p in numbered])
    db.executemany("INSERT INTO pending VALUES (?, ?, ?)", [(k, p, seal.crc(0, pending_content(k, p))) for k, p in new.pending])
