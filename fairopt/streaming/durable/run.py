"""A whole stream from rows to fair scores, durable and resumable. The command line only shows it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from fairopt.basics.errors import FairoptWarning, InputError
from fairopt.basics.files import Place, csv_line, guarded, label, legible, number
from fairopt.streaming.durable.identity import Job, facts, same_run
from fairopt.streaming.durable.outputs import STDOUT, Outputs
from fairopt.streaming.durable.sources import Row, Source
from fairopt.streaming.durable.store import DurableStream
from fairopt.streaming.durable.tally import Tally
from fairopt.streaming.report import StreamReport, StreamStep

__all__ = ["Job", "Progress", "Run", "facts"]

_REFUSED_AT_ONCE = 1000


@dataclass(frozen=True)
class Progress:
    """rows: read by this process; accepted, rejected, repeated: of them; done: share of the input, None where unknown."""

    rows: int
    accepted: int
    rejected: int
    repeated: int
    done: float | None
    gap: float | None


class _Good(NamedTuple):
    row: Row
    score: float
    target: float | None


class Run:
    """One process's share of a job: construct, then ``go``. A job that was interrupted goes on where its last commit stands.

    The store must have been made with ``facts=facts(source, job, state)``: they tell another input, option or output from the ones of its
    beginning, and Run refuses those (InputError) before it writes anything. on_warning: called at once with what a reader should not
    find out only at the end (``Tally``); by default a ``FairoptWarning``.
    """

    def __init__(
        self, source: Source, store: DurableStream, job: Job, *, sync: bool = False, on_warning: Callable[[str], None] | None = None
    ) -> None:
        job.check(source)
        same_run(store, facts(source, job, store.path))
        self.source, self.store, self.job = source, store, job
        self.tally = Tally(store.progress.get("consumed"), on_warning or _warn, clip=job.clip)
        if store.resumed:
            self._go_on()
        self._outputs = Outputs(store, {"output": job.output, "rejects": job.rejects}, sync=sync, overwrite=job.overwrite)
        if not store.progress["files"]:
            header = [("output", self._line([*source.columns, job.fair])), ("rejects", csv_line(["line", "reason", "row"]))]
            store.note(offset=None, writes=header)
            self._outputs.write(header)

    def _go_on(self) -> None:
        """Pass over what was read before, after a look at whether it is the same."""
        offset, files = self.store.progress["offset"], self.store.progress["files"]
        if self.source.pipe:
            if self.job.key is None:
                raise InputError("key-column: standard input can only be resumed with one")
        elif offset is not None:
            self.source.resume(Place(int(offset), self.tally.line, self.tally.digest))
        if self.job.output == STDOUT and files and self.tally.delivered != files.get("output"):
            raise InputError(
                "output: the run before ended early, and how much of standard output was received is not known; "
                "begin anew with another state, and with --output FILE, which is put right after an interruption"
            )

    def go(self, on_progress: Callable[[Progress], None] | None = None, every: int = 1000) -> StreamReport:
        """Read to the end (or to an interrupt, after which the job can be resumed) and return the report.

        ``tally.problems`` then says what the reader of an exit code must know. InputError for an input or an output that fails.
        """
        try:
            for batch, refused in self._batches():
                self._one(batch, refused)
                if on_progress is not None and self.tally.rows % every < len(batch) + len(refused):
                    on_progress(self.progress())
        finally:
            self._outputs.close()
        if self.job.output == STDOUT:
            self.tally.delivered = self.store.progress["files"]["output"]
            self._note([])
        self.tally.finish(self.store.report().counts)
        return self.store.report()

    def progress(self) -> Progress:
        offset, size, tally = self.store.progress["offset"], self.source.size, self.tally
        gap, _, _ = self.store.controller._worst()
        done = offset / size if offset is not None and size else None
        return Progress(tally.rows, tally.accepted, tally.rejected, tally.repeated, done, gap)

    def progress_counts(self) -> tuple[int, int, int, int]:
        """(rows read, sent, rejected, repeated) by this process."""
        return self.tally.rows, self.tally.accepted, self.tally.rejected, self.tally.repeated

    def _batches(self) -> Iterator[tuple[list[_Good], list[Row]]]:
        """(good rows, refused rows) of each step; the source stands behind both."""
        good: list[_Good] = []
        bad: list[Row] = []
        for row in self.source.rows():
            self.tally.rows += 1
            try:
                good.append(self._read(row))
            except InputError as error:
                bad.append(row._replace(reason=str(error)))
            if len(good) == self.job.batch or len(bad) >= _REFUSED_AT_ONCE:
                yield good, bad
                good, bad = [], []
        if good or bad:
            yield good, bad

    def _read(self, row: Row) -> _Good:
        """The row's numbers; InputError with the reason where it is malformed."""
        if row.reason:
            raise InputError(row.reason)
        job, fields = self.job, row.fields
        score = number(fields[job.score], job.score, self.source.decimal)
        target = None if job.target is None else label(fields[job.target], job.target, self.source.decimal, job.pos_label)
        for name in job.groups:
            value = fields[name]
            if (value is None or value == "") and not job.missing_group:
                raise InputError(f"{name}: missing")
        if job.key is not None and fields[job.key] in (None, ""):
            raise InputError(f"{job.key}: missing")
        return _Good(row, score, target)

    def _one(self, batch: list[_Good], bad: list[Row]) -> None:
        refused = [self._refuse(row) for row in bad]
        written = None
        if batch:
            try:
                written = self._step(batch, refused)
            except InputError as error:
                if len(batch) > 1:
                    first, last = batch[0].row.line, batch[-1].row.line
                    where = f"in a batch of {len(batch)} rows, lines {first} to {last}"
                    raise InputError(f"{error} ({where}; with --batch 1 the row is rejected instead)") from error
                refused.append(self._refuse(batch[0].row._replace(reason=str(error))))
        if written is None:
            self._note(refused)
        self._outputs.write(refused if written is None else written)

    def _refuse(self, row: Row) -> tuple[str, str]:
        groups = {name: row.fields.get(name) for name in self.job.groups}
        self.tally.refuse(row, groups)
        words = [row.reason, guarded(row.text)]
        return "rejects", csv_line([row.line, *map(legible, words)])

    def _step(self, batch: list[_Good], refused: list[tuple[str, str]]) -> list[tuple[str, str]] | None:
        """What was committed with these rows; None where their key was known, so that nothing was."""
        job, one = self.job, len(batch) == 1
        key = None if job.key is None else batch[0].row.fields[job.key]
        known = key is not None and self.store.seen(key)
        groups: dict[str, list[Any]] = {name: [_group(good.row.fields[name]) for good in batch] for name in job.groups}
        targets: Any = None if job.target is None else [good.target for good in batch]
        scores: Any = [good.score for good in batch]
        written: list[tuple[str, str]] = []
        place = self.source.place()
        consumed: list[Any] = []  # filled in the transaction, where it is known that the rows are sent

        def writes(step: StreamStep) -> list[tuple[str, str]]:
            self.tally.accept(scores, groups, batch[0].row.line, self.store.controller)
            if job.pos_label is not None and job.target is not None:
                self.tally.labels([good.row.fields[job.target] for good in batch], job.pos_label)
            consumed.extend(self.tally.keep(place))
            sent = [step.scores] if one else step.scores
            rows = [
                ("output", self._line([*(good.row.fields[c] for c in self.source.columns), y])) for good, y in zip(batch, sent, strict=True)
            ]
            written.extend([*refused, *rows])
            return written

        self.store.step(
            scores[0] if one else scores,
            sensitive_features={name: values[0] for name, values in groups.items()} if one else groups,
            targets=targets, key=key, offset=place.offset, consumed=consumed, writes=writes,
        )  # fmt: skip
        if known:
            self.tally.repeated += 1
            return None
        return written

    def _note(self, writes: list[tuple[str, str]]) -> None:
        """A commit that counts nothing."""
        place = self.source.place()
        self.store.note(offset=place.offset, writes=writes, consumed=self.tally.keep(place))

    def _line(self, values: list[Any]) -> str:
        """A line of the output, in the input's dialect: its own cells as they came."""
        if self.source.decimal == ",":
            values = [repr(v).replace(".", ",") if isinstance(v, float) else v for v in values]
        return csv_line(values, self.source.separator)


def _group(value: Any) -> Any:
    return None if value == "" else value


def _warn(words: str) -> None:
    warnings.warn(words, FairoptWarning, stacklevel=4)
