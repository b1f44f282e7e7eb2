"""Who works on shards: a few threads here. ``cluster`` has the same for a Dask cluster; nothing else knows which it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Protocol, TypeVar

from fairopt.basics.files import Dialect
from fairopt.datasets.find import Shard
from fairopt.datasets.guess import Histograms
from fairopt.datasets.kept import Kept, Room, Rows
from fairopt.datasets.survey import Asked, Seen, survey

T = TypeVar("T")
Heard = Callable[[int], None]  # rows that were gone through


class Crew(Protocol):
    """Functions of a shard, run wherever the shard is; answers come in the order of the shards, and so does the first error."""

    def survey(self, shards: Sequence[Shard], dialect: Dialect, asked: Asked, folder: Path, *, strict: bool) -> list[Seen]:
        """The first pass; scores are counted in ``asked.histograms`` where it has some."""

    def each(self, function: Callable[..., T], common: tuple[Any, ...], own: Sequence[tuple[Any, ...]]) -> list[T]:
        """function(rows kept, *common, *own[k], heard) of each shard k; it is a function of a module."""

    def write(self, function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> Iterable[tuple[int, T]]:
        """function(*calls[k], heard) for each k, as they end."""


class Threads:
    """A pool of threads; ``heard`` by any of them."""

    def __init__(self, threads: int, heard: Heard) -> None:
        self._threads, self._heard = threads, heard
        self.kept: list[Iterable[Rows]] = []  # of each shard, once it is surveyed

    def survey(self, shards: Sequence[Shard], dialect: Dialect, asked: Asked, folder: Path, *, strict: bool) -> list[Seen]:
        room = Room(folder)
        kept = [Kept(room, folder / f"{k}.rows") for k in range(len(shards))]
        self.kept = list(kept)
        return in_threads(self._threads, lambda k: survey(shards[k], dialect, asked, kept[k], self._heard, strict=strict), len(shards))

    def each(self, function: Callable[..., T], common: tuple[Any, ...], own: Sequence[tuple[Any, ...]]) -> list[T]:
        return in_threads(self._threads, lambda k: function(self.kept[k], *common, *own[k], self._heard), len(own))

    def write(self, function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> Iterable[tuple[int, T]]:
        if self._threads == 1 or len(calls) <= 1:
            for k, call in enumerate(calls):
                yield k, function(*call, self._heard)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            futures = {pool.submit(function, *call, self._heard): k for k, call in enumerate(calls)}
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            finally:
                for future in futures:
                    future.cancel()


def in_threads(threads: int, work: Callable[[int], T], count: int) -> list[T]:
    """``work(0)``, ... of ``count``, a few at a time; the first error in that order is raised, and what has not begun is left."""
    if threads == 1 or count <= 1:
        return [work(k) for k in range(count)]
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, k) for k in range(count)]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()


def counted(rows: Iterable[Rows], low: float, high: float, keys: Sequence[Any], heard: Heard) -> Histograms:
    """The scores of a shard in bins."""
    found = Histograms(low, high)
    for part in rows:
        found.add(keys, part.scores, part.code, part.inverse)
        heard(part.code.shape[0])
    return found
