"""What a run over a data set was asked for, and how it tells how far it is."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isinf
from pathlib import Path
from typing import Any

from fairopt.basics.errors import InputError
from fairopt.datasets.find import Places
from fairopt.datasets.question import Question
from fairopt.notions.groups import Attribute

THREADS = 4


@dataclass(frozen=True)
class Told:
    """Progress: what is being done, passes begun, rows of this pass done, and how many there are (None where nobody knows yet)."""

    what: str
    passes: int
    rows: int
    total: int | None


class Progress:
    """Tells ``told`` how far a run is, from whatever thread."""

    def __init__(self, told: Callable[[Told], None] | None) -> None:
        self._say = told
        self._lock = threading.Lock()
        self._now = Told("", 1, 0, None)

    def begin(self, what: str, passes: int, total: int | None) -> None:
        """Something else is done from here on."""
        self._set(lambda _: Told(what, passes, 0, total))

    def more(self, rows: int) -> None:
        """So many rows more were gone through."""
        self._set(lambda now: replace(now, rows=now.rows + rows))

    def _set(self, change: Callable[[Told], Told]) -> None:
        with self._lock:
            self._now = change(self._now)
            if self._say is not None:
                self._say(self._now)


def threads_of(asked: int | None, shards: int) -> int:
    """Files in flight. InputError for what is no whole number >= 1."""
    if asked is None:
        return max(1, min(THREADS, os.cpu_count() or 1, shards))
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < 1:
        raise InputError(f"threads: got {asked!r}, expected a whole number >= 1")
    return asked


@dataclass(frozen=True)
class Job:
    """What was asked for; see ``project_dataset``."""

    question: Question
    places: Places
    name: str
    rejects: Path | None
    attributes: tuple[Attribute, ...]
    threads: int

    def settings(self) -> dict[str, Any]:
        """Everything that the output depends on, but the files."""
        question, wanted, dialect = self.question, self.question.wanted, self.question.dialect
        return {
            "notion": repr(question.notion), "score": wanted.score, "target": wanted.target, "weights": wanted.weights,
            "bounds": [None if isinf(b) else b for b in question.bounds], "name": self.name, "pos_label": wanted.pos_label,
            "missing_group": question.missing, "threshold": question.threshold, "separator": dialect.separator, "decimal": wanted.decimal,
            "encoding": dialect.encoding, "rejects": self.rejects is not None,
            "attributes": [a if isinstance(a, str) else list(a) for a in self.attributes],
        }  # fmt: skip
