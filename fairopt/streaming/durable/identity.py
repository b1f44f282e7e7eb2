"""What a run is: its input's header, its options, its outputs. A state goes on with these alone; anything else is refused by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairopt.basics.errors import InputError
from fairopt.streaming.durable.outputs import STDOUT
from fairopt.streaming.durable.sources import Source
from fairopt.streaming.durable.store import DurableStream

_OPTIONS = {
    "kind": "the input's kind", "pipe": "whether the input is a pipe", "columns": "the input's header", "encoding": "--encoding",
    "separator": "--separator", "decimal": "--decimal", "score": "--score", "groups": "--sensitive", "target": "--target",
    "pos_label": "--pos-label",
    "key": "--key-column", "batch": "--batch", "missing_group": "--missing-group", "fair": "the name of the fair scores",
    "output": "--output", "rejects": "--rejects",
}  # fmt: skip


_NOT_TEXT = {".gz", ".bz2", ".xz", ".zst", ".zip", ".parquet"}


@dataclass(frozen=True)
class Job:
    """What to read and where to write. groups: the columns of sensitive features; batch: rows a step (1 where a key column is used).

    pos_label: the target that counts as 1, as written; every other one is 0. None: targets are numbers.
    output: Path('-') is standard output. overwrite: files that are in the way are lost. clip: scores outside the bounds are meant to be
    clipped, and are no problem.
    """

    output: Path
    rejects: Path
    groups: tuple[str, ...]
    score: str = "score"
    target: str | None = None
    pos_label: str | None = None
    key: str | None = None
    batch: int = 1
    fair: str = "fair_score"
    missing_group: bool = False
    overwrite: bool = False
    clip: bool = False

    def check(self, source: Source) -> None:
        """InputError for a column that the input has not, or has already, and for batches that a key column forbids."""
        for column in (self.score, *self.groups, *(c for c in (self.target, self.key) if c is not None)):
            if column not in source.columns:
                raise InputError(f"input: no column {column!r}; columns: {', '.join(source.columns)}")
        if self.fair in source.columns:
            raise InputError(f"input: it has a column {self.fair!r} already; choose another name for the fair scores")
        if self.batch < 1 or (self.key is not None and self.batch > 1):
            raise InputError(f"batch: expected 1 with a key column, else a number >= 1, got {self.batch}")
        if self.pos_label is not None and self.target is None:
            raise InputError("pos_label: expected a column of targets beside it")
        if self.rejects == STDOUT:
            raise InputError("rejects: expected a file, got '-' (standard output)")
        for option, path in (("output", self.output), ("rejects", self.rejects)):
            if path.suffix.lower() in _NOT_TEXT:
                raise InputError(
                    f"{option}: got {path}, expected the name of a text file such as {path.with_suffix('').name}: "
                    f"it is written row by row and put right after an interruption, which a {path.suffix} file cannot be"
                )


def facts(source: Source, job: Job, state: Path) -> dict[str, Any]:
    """What a state keeps of a run from its beginning on: plain JSON values. The input itself is known by a hash of what was consumed."""
    return {
        "by": "fairopt stream", "kind": source.kind, "pipe": source.pipe, "columns": list(source.columns), "encoding": source.encoding,
        "separator": source.separator, "decimal": source.decimal, "score": job.score, "groups": list(job.groups), "target": job.target,
        "pos_label": job.pos_label,
        "key": job.key, "batch": job.batch, "missing_group": job.missing_group, "fair": job.fair, "output": _names(job.output, state),
        "rejects": _names(job.rejects, state),
    }  # fmt: skip


def same_run(store: DurableStream, now: Mapping[str, Any]) -> None:
    """InputError that names the first thing in which this run is not the one that the state holds."""
    begun = store.facts
    if begun.get("by") != now["by"]:
        raise InputError(f"state: {store.path} holds a stream that was not begun by fairopt stream; choose another --state")
    for fact, words in _OPTIONS.items():
        was, is_ = begun.get(fact), now[fact]
        if was == is_ or (fact in ("output", "rejects") and set(was or ()) & set(is_)):
            continue
        shown = [_shown(fact, value) for value in (was, is_)]
        raise InputError(
            f"state: {store.path} was begun with another run: {words} was {shown[0]}, now {shown[1]}; "
            "go on with what it was begun with, or begin anew with another --state and --output"
        )


def _names(path: Path, state: Path) -> list[str]:
    """A file's name in full, and as seen from the state's folder: either may stay when folders are moved."""
    if path == STDOUT:
        return ["-"]
    full = os.path.realpath(path)
    return [full, os.path.relpath(full, os.path.dirname(os.path.realpath(state)))]


def _shown(fact: str, value: Any) -> str:
    if fact == "columns":
        return ", ".join(map(str, value or ()))
    return repr(value[0] if fact in ("output", "rejects") and value else value)
