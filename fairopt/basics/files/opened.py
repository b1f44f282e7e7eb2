"""The bytes of an input: a file, a pipe or standard input, unpacked where they are gzip, in chunks. Every failure is an InputError."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from fairopt.basics.errors import InputError

CHUNK = 1 << 16
STDIN = "-"
_GZIP = b"\x1f\x8b"
_OTHERS = {
    b"PK\x03\x04": "a zip or Excel file: save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel file: save it as CSV",
    b"BZh": "packed with bzip2: unpack it first (gzip is read as it is)",
    b"\xfd7zXZ\x00": "packed with xz: unpack it first (gzip is read as it is)",
    b"\x28\xb5\x2f\xfd": "packed with zstd: unpack it first (gzip is read as it is)",
    b"ARROW1": "an Arrow file: save it as Parquet or CSV",
    b"FEA1": "a Feather file: save it as Parquet or CSV",
    b"SQLite format 3": "a SQLite database, expected a table of text",
}
PARQUET = b"PAR1"


@dataclass(eq=False)
class Opened:
    """An input that is open for reading. name: as errors show it; path: '' for standard input; pipe: it can be read only once.

    size: bytes of the text, None where unknown (a pipe, gzip).
    """

    name: str
    path: str
    pipe: bool
    size: int | None
    packed: bool
    head: bytes
    _raw: IO[bytes]

    @property
    def parquet(self) -> bool:
        return self.head.startswith(PARQUET)

    def chunks(self) -> Iterator[bytes]:
        """The text's bytes, once."""
        return _unpacked(self._chunks(), self.name) if self.packed else self._chunks()

    def _chunks(self) -> Iterator[bytes]:
        if self.head:
            yield self.head
        read = getattr(self._raw, "read1", self._raw.read) if self.pipe else self._raw.read
        while True:
            try:
                chunk = read(CHUNK)
            except OSError as error:
                raise InputError(f"{self.name}: cannot be read further: {reason(error)}") from error
            if not chunk:
                return
            yield chunk

    def close(self) -> None:
        if self.path:
            self._raw.close()


def open_input(name: str, stdin: IO[bytes] | None = None) -> Opened:
    """The input called ``name``; '-' is ``stdin``. InputError where it is absent, not readable, a folder, or of a kind that is no text."""
    if name == STDIN:
        if stdin is None:
            raise InputError("input: got '-' (standard input), expected a path here")
        return _opened("standard input", "", stdin, pipe=True, size=None)
    try:
        mode = os.stat(name)
        if stat.S_ISDIR(mode.st_mode):
            raise InputError(f"{name}: is a folder, expected a file")
        raw = open(name, "rb")  # noqa: SIM115
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if isinstance(error, InputError):
            raise
        absent = isinstance(error, FileNotFoundError)
        raise InputError(f"{name}: {'there is no such file' if absent else f'cannot be read: {reason(error)}'}") from error
    regular = stat.S_ISREG(mode.st_mode)
    return _opened(name, name, raw, pipe=not regular, size=mode.st_size if regular else None)


def reason(error: Exception) -> str:
    """The system's words, without the path."""
    return str(getattr(error, "strerror", None) or error)


def _opened(name: str, path: str, raw: IO[bytes], *, pipe: bool, size: int | None) -> Opened:
    """With the first bytes looked at: 16 of them, or all where there are fewer."""
    read = getattr(raw, "read1", raw.read) if pipe else raw.read
    head = b""
    try:
        while len(head) < 16:
            more = read(CHUNK if pipe else 16)
            if not more:
                break
            head += more
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {reason(error)}") from error
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            raise InputError(f"{name}: is {what}")
    packed = head.startswith(_GZIP)
    return Opened(name, path, pipe, None if packed else size, packed, head, raw)


def _unpacked(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """gzip, also of several members one after the other, as ``cat a.gz b.gz`` makes."""
    member, begun = zlib.decompressobj(31), False
    for chunk in chunks:
        rest = chunk
        while rest:
            if not begun:
                rest = rest.lstrip(b"\0")  # padding between members
                begun = bool(rest)
            try:
                out = member.decompress(rest)
            except zlib.error as error:
                raise InputError(f"{name}: is broken gzip ({error})") from error
            if out:
                yield out
            rest = member.unused_data
            if member.eof:
                member, begun = zlib.decompressobj(31), False
    if begun:
        raise InputError(f"{name}: the gzip data end early; is the file whole?")
