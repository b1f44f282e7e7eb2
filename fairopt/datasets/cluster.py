"""Shards on a Dask cluster: every pass maps over them where they are kept, sums come back, and a worker that dies costs its tasks.

Codes and scores of a shard stay with the worker that read it. Where that dies, Dask reads the shard again elsewhere: what comes out has the
same bits. Workers must see the files of the input and the output under the same paths as this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fairopt.basics.extras import missing
from fairopt.basics.files import Dialect
from fairopt.datasets.crew import Heard, counted
from fairopt.datasets.find import Shard
from fairopt.datasets.guess import Histograms, Key
from fairopt.datasets.kept import Kept, Room, Rows
from fairopt.datasets.survey import Asked, Seen, survey

T = TypeVar("T")
TOGETHER = 16  # histograms that a worker joins before they travel


class Cluster:
    """The workers of a ``distributed.Client``; ``heard`` here, when a shard is done."""

    def __init__(self, client: Any, heard: Heard) -> None:
        self._client, self._heard = client, heard
        self._kept: list[Any] = []
        self._rows: list[int] = []

    def survey(self, shards: Sequence[Shard], dialect: Dialect, asked: Asked, folder: Path, *, strict: bool) -> list[Seen]:
        submit, plain = self._client.submit, replace(asked, histograms=None)
        here = [replace(shard, path=shard.path.absolute()) for shard in shards]
        whole = [submit(_surveyed, shard, dialect, plain, strict, pure=False) for shard in here]
        facts, self._kept = ([submit(_part, one, k, pure=False) for one in whole] for k in (0, 1))
        del whole
        seen: list[Seen] = []
        for shard, future in zip(shards, facts, strict=True):
            seen.append(replace(future.result(), shard=shard))
            self._heard(seen[-1].rows)
        self._rows = [one.rows for one in seen]
        if asked.histograms is not None:
            self._count(asked.histograms, [list(one.tally.keys) for one in seen])
        return seen

    def _count(self, histograms: Histograms, keys: Sequence[list[Key]]) -> None:
        """Scores in bins, joined by the workers a few at a time."""
        submit, ends = self._client.submit, (histograms.low, histograms.high)
        level = [submit(_counted, kept, *ends, own, pure=False) for kept, own in zip(self._kept, keys, strict=True)]
        while len(level) > 1:
            level = [submit(_joined, level[k : k + TOGETHER], pure=False) for k in range(0, len(level), TOGETHER)]
        histograms.join(level[0].result())

    def each(self, function: Callable[..., T], common: tuple[Any, ...], own: Sequence[tuple[Any, ...]]) -> list[T]:
        submit = self._client.submit
        futures = [submit(_called, function, kept, common, mine, pure=False) for kept, mine in zip(self._kept, own, strict=True)]
        found = []
        for future, rows in zip(futures, self._rows, strict=True):
            found.append(future.result())
            self._heard(rows)
        return found

    def write(self, function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> Iterable[tuple[int, T]]:
        from distributed import as_completed

        shared: dict[int, Any] = {}
        futures = {}
        for k, call in enumerate(calls):
            given = [_absolute(one) if isinstance(one, (Path, Shard)) else one for one in call]
            for j, one in enumerate(given):
                if hasattr(one, "expected"):  # what makes the scores: to every worker once
                    if id(one) not in shared:
                        shared[id(one)] = self._client.scatter(one, broadcast=True, hash=False)
                    given[j] = shared[id(one)]
            futures[self._client.submit(_written, function, *given, pure=False)] = k
        for future in as_completed(list(futures)):
            answer = future.result()
            yield futures[future], answer
            self._heard(answer[1]["rows"])


def _absolute(one: Path | Shard) -> Path | Shard:
    return replace(one, path=one.path.absolute()) if isinstance(one, Shard) else one.absolute()


def _surveyed(shard: Shard, dialect: Dialect, asked: Asked, strict: bool) -> tuple[Seen, list[Rows]]:
    """A shard's facts, and what is kept of its rows: in the memory of the worker, which Dask spills."""
    kept = Kept(Room(Path(), np.iinfo(np.int64).max), Path())
    return survey(shard, dialect, asked, kept, _nobody, strict=strict), list(kept)


def _part(pair: tuple[Any, ...], k: int) -> Any:
    return pair[k]


def _counted(kept: list[Rows], low: float, high: float, keys: list[Key]) -> Histograms:
    return counted(kept, low, high, keys, _nobody)


def _joined(several: list[Histograms]) -> Histograms:
    first, *others = several
    total = Histograms(first.low, first.high)
    for one in (first, *others):
        total.join(one)
    return total


def _called(function: Callable[..., T], kept: list[Rows], common: tuple[Any, ...], own: tuple[Any, ...]) -> T:
    return function(kept, *common, *own, _nobody)


def _written(function: Callable[..., T], *call: Any) -> T:
    return function(*call, _nobody)


def _nobody(rows: int) -> None:
    """Workers report when they are done."""


def connect(address: str) -> Any:
    """A client of the scheduler at ``address``. MissingExtraError without Dask."""
    try:
        from distributed import Client
    except ImportError as error:
        raise missing("a Dask cluster needs distributed", "dask") from error
    return Client(address)
