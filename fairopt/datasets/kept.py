"""What is kept of a block of rows between passes: codes and scores, in memory as long as there is room, then in a scratch file a shard."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fairopt.basics.errors import InputError
from fairopt.basics.files.opened import reason

MEMORY = 64 << 20  # bytes of all shards together
NONE = np.zeros(0)


class Rows(NamedTuple):
    """code (n,) uint16, scores (n,), inverse (n,) 1 / w or (0,), targets (n,) or (0,)."""

    code: Any
    scores: Any
    inverse: Any
    targets: Any = NONE


@dataclass(eq=False)
class Room:
    """Bytes that may still be kept in memory, and the folder for the rest."""

    folder: Path
    left: int = MEMORY
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, size: int) -> bool:
        """Whether ``size`` more bytes may stay in memory."""
        with self._lock:
            if size > self.left:
                return False
            self.left -= size
            return True


@dataclass(eq=False)
class Kept:
    """The blocks of one shard, written by one thread, then read by any."""

    room: Room
    path: Path
    blocks: list[Rows | tuple[int, list[tuple[Any, int]]]] = field(default_factory=list)  # else where, and type and length of each part
    size: int = 0

    def add(self, rows: Rows) -> None:
        """InputError where the scratch file cannot be written."""
        if self.room.take(sum(part.nbytes for part in rows)):
            self.blocks.append(rows)
            return
        try:
            with self.path.open("ab") as file:
                for part in rows:
                    file.write(np.ascontiguousarray(part).data)
        except OSError as error:
            raise InputError(f"output: the scratch file {self.path} cannot be written: {reason(error)}") from error
        self.blocks.append((self.size, [(part.dtype, part.shape[0]) for part in rows]))
        self.size += sum(part.nbytes for part in rows)

    def __iter__(self) -> Iterator[Rows]:
        for block in self.blocks:
            if isinstance(block, Rows):
                yield block
                continue
            start, parts = block
            try:
                with self.path.open("rb") as file:
                    file.seek(start)
                    rows = Rows(*(np.fromfile(file, dtype, n) for dtype, n in parts))
            except OSError as error:
                raise InputError(f"output: the scratch file {self.path} cannot be read: {reason(error)}") from error
            if any(len(part) != n for part, (_, n) in zip(rows, parts, strict=True)):
                raise InputError(f"output: the scratch file {self.path} was cut during the run")
            yield rows
