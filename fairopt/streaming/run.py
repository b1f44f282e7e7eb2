"""A whole stream from rows to fair scores, durable and resumable. The command line only shows it."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import IO, Any

from fairopt.errors import InputError
from fairopt.streaming.report import StreamReport, StreamStep
from fairopt.streaming.rows import Row, Source
from fairopt.streaming.store import DurableStream

_FLUSH_EVERY = 256


@dataclass(frozen=True)
class Job:
    """What to read and where to write. groups: the columns of sensitive features; batch: rows a step (1 where a key column is used)."""

    output: Path
    rejects: Path
    groups: tuple[str, ...]
    score: str = "score"
    target: str | None = None
    key: str | None = None
    batch: int = 1
    fair: str = "fair_score"
    missing_group: bool = False


@dataclass(frozen=True)
class Progress:
    """rows: read by this process; accepted, rejected, repeated: of them; done: share of the input, None where unknown."""

    rows: int
    accepted: int
    rejected: int
    repeated: int
    done: float | None
    gap: float | None


class _Sinks:
    """The output files, written behind the commits and flushed together now and then: what is not yet in a file is in the outbox."""

    def __init__(self, store: DurableStream, paths: dict[str, Path], *, sync: bool) -> None:
        for name, path in paths.items():
            store.reconcile(name, path)
        self._files: dict[str, IO[bytes]] = {name: path.open("ab") for name, path in paths.items()}
        self._sync = sync
        self._waiting = 0

    def write(self, writes: list[tuple[str, str]]) -> None:
        for name, text in writes:
            self._files[name].write(text.encode())
        self._waiting += len(writes)
        if self._waiting >= _FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        self._waiting = 0
        for file in self._files.values():
            file.flush()
            if self._sync:
                os.fsync(file.fileno())

    def close(self) -> None:
        self.flush()
        for file in self._files.values():
            file.close()


class Run:
    """One process's share of a job: construct, then ``go``. A job that was interrupted goes on where its last commit stands."""

    def __init__(self, source: Source, store: DurableStream, job: Job, *, sync: bool = False) -> None:
        for column in (job.score, *job.groups, *(c for c in (job.target, job.key) if c is not None)):
            if column not in source.columns:
                raise InputError(f"input: no column {column!r}; columns: {', '.join(source.columns)}")
        if job.fair in source.columns:
            raise InputError(f"input: it has a column {job.fair!r} already; choose another name for the fair scores")
        if job.batch < 1 or (job.key is not None and job.batch > 1):
            raise InputError(f"batch: expected 1 with a key column, else a number >= 1, got {job.batch}")
        self.source, self.store, self.job = source, store, job
        if store.resumed and source.size is None and job.key is None:
            raise InputError("key-column: standard input can only be resumed with one")
        self._sinks = _Sinks(store, {"output": job.output, "rejects": job.rejects}, sync=sync)
        if not store.progress["files"]:
            header = [("output", line([*source.columns, job.fair])), ("rejects", line(["reason", "row"]))]
            store.note(offset=None, writes=header)
            self._sinks.write(header)
        self.rows = self.accepted = self.rejected = self.repeated = 0

    def go(self, on_progress: Callable[[Progress], None] | None = None, every: int = 1000) -> StreamReport:
        """Read to the end (or to an interrupt, after which the job can be resumed) and return the report."""
        try:
            for batch, refused, offset in self._batches():
                self._one(batch, refused, offset)
                if on_progress is not None and self.rows % every < len(batch) + len(refused):
                    on_progress(self.progress())
        finally:
            self._sinks.close()
        return self.store.report()

    def progress(self) -> Progress:
        offset, size = self.store.progress["offset"], self.source.size
        gap, _, _ = self.store.controller._worst()
        done = offset / size if offset is not None and size else None
        return Progress(self.rows, self.accepted, self.rejected, self.repeated, done, gap)

    def progress_counts(self) -> tuple[int, int, int, int]:
        """(rows read, sent, rejected, repeated) by this process."""
        return self.rows, self.accepted, self.rejected, self.repeated

    def _batches(self) -> Iterator[tuple[list[tuple[Row, float, float | None]], list[Row], int | None]]:
        """(good rows with score and target, refused rows, offset after both) of each step."""
        good: list[tuple[Row, float, float | None]] = []
        bad: list[Row] = []
        offset: int | None = None
        for row in self.source.rows(self.store.progress["offset"]):
            self.rows += 1
            offset = row.offset
            try:
                good.append(self._read(row))
            except InputError as error:
                bad.append(Row(row.fields, row.text, row.offset, str(error)))
            if len(good) == self.job.batch or len(bad) >= 1000:
                yield good, bad, offset
                good, bad = [], []
        if good or bad:
            yield good, bad, offset

    def _read(self, row: Row) -> tuple[Row, float, float | None]:
        """The row's numbers; InputError with the reason where it is malformed."""
        if row.reason:
            raise InputError(row.reason)
        score = number(row.fields[self.job.score], self.job.score)
        target = None if self.job.target is None else number(row.fields[self.job.target], self.job.target)
        for name in self.job.groups:
            value = row.fields[name]
            if (value is None or value == "") and not self.job.missing_group:
                raise InputError(f"{name}: missing")
        if self.job.key is not None and row.fields[self.job.key] in (None, ""):
            raise InputError(f"{self.job.key}: missing")
        return row, score, target

    def _one(self, batch: list[tuple[Row, float, float | None]], bad: list[Row], offset: int | None) -> None:
        refused = [("rejects", line([row.reason, row.text])) for row in bad]
        self.rejected += len(bad)
        if batch:
            try:
                self._step(batch, refused, offset)
                return
            except InputError as error:
                if len(batch) > 1:
                    raise InputError(f"{error} (in a batch of {len(batch)} rows; with --batch 1 the row is rejected instead)") from error
                refused.append(("rejects", line([str(error), batch[0][0].text])))
                self.rejected += 1
        self.store.note(offset=offset, writes=refused)
        self._sinks.write(refused)

    def _step(self, batch: list[tuple[Row, float, float | None]], refused: list[tuple[str, str]], offset: int | None) -> None:
        job = self.job
        key = None if job.key is None else batch[0][0].fields[job.key]
        known = key is not None and self.store.seen(key)
        groups: dict[str, list[Any]] = {name: [_group(row.fields[name]) for row, _, _ in batch] for name in job.groups}
        targets: Any = None if job.target is None else [t for _, _, t in batch]
        scores: Any = [z for _, z, _ in batch]
        one = len(batch) == 1
        written: list[tuple[str, str]] = []

        def writes(step: StreamStep) -> list[tuple[str, str]]:
            sent = [step.scores] if one else step.scores
            rows = [
                ("output", line([*(row.fields[c] for c in self.source.columns), y])) for (row, _, _), y in zip(batch, sent, strict=True)
            ]
            written.extend([*refused, *rows])
            return written

        self.store.step(
            scores[0] if one else scores,
            sensitive_features={name: values[0] for name, values in groups.items()} if one else groups,
            targets=targets, key=key, offset=offset, writes=writes,
        )  # fmt: skip
        if known:
            self.repeated += 1
            self.store.note(offset=offset, writes=refused)
            written = refused
        else:
            self.accepted += len(batch)
        self._sinks.write(written)


def number(value: Any, name: str) -> float:
    """A finite number; InputError says what came."""
    try:
        out = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: {value!r} is no number") from error
    if not isfinite(out):
        raise InputError(f"{name}: {value!r} is not finite")
    return out


def line(values: list[Any]) -> str:
    """One CSV line; floats as the shortest text that reads back as the same bits."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(["" if v is None else repr(v) if isinstance(v, float) else v for v in values])
    return text.getvalue()


def _group(value: Any) -> Any:
    return None if value == "" else value
