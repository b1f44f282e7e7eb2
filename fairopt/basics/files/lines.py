"""Lines of text out of chunks of bytes, each with its place: bytes so far, lines so far, and a hash of every byte that was taken.

A line ends with LF, CR or CR LF, whatever mixture a file has; no other character ends one.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from hashlib import blake2b
from itertools import pairwise

import numpy as np

from fairopt.basics.errors import InputError
from fairopt.basics.files.encoding import Encoding

LONGEST = 1 << 24  # bytes of one line; a file without line ends is no table
_LF, _CR = 10, 13
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


class Lines:
    """Iterates over decoded lines with their ends. position: bytes taken; number: lines taken; ``taken``: the lines since ``take``."""

    def __init__(self, chunks: Iterator[bytes], name: str) -> None:
        self._chunks = chunks
        self._name = name
        self._ready: deque[bytes] = deque()
        self._rest = b""
        self._hash = blake2b(digest_size=16)
        self.encoding = Encoding("utf-8")
        self._newline = b"\n"
        self._end = b""
        self.position = 0
        self.number = 0
        self.taken: list[str] = []

    def head(self) -> bytes:
        """The first bytes, still to be read: enough for a byte order mark."""
        while len(self._rest) < 4 and self._pull():
            pass
        return self._rest[:4]

    def begin(self, encoding: Encoding) -> None:
        """Pass over the byte order mark."""
        self.encoding = encoding
        self._newline = encoding.raw("\n")
        self._consume(self._rest[: encoding.mark])
        self._rest = self._rest[encoding.mark :]

    def skip(self, offset: int, number: int) -> bool:
        """Pass over what was taken before, up to byte ``offset`` and line ``number``; whether a line goes on there that
        ended the text then.

        InputError for a shorter text.
        """
        data, unit = b"".join(self._ready) + self._rest, self.encoding.unit
        self._ready.clear()
        last = b""
        while self.position + len(data) < offset:
            self._consume(data)
            last = (last + data)[-unit:]
            self._rest = b""
            if not self._pull():
                said = f"has {self.position:,} bytes, and {offset:,} were read before"
                raise InputError(f"{self._name}: this input is not the one that was read before: it {said}")
            data = self._rest
        cut = offset - self.position
        last = (last + data[:cut])[-unit:]
        self._consume(data[:cut])
        self._rest = data[cut:]
        self.number = number
        self.taken.clear()
        while len(self._rest) < 2 * unit and self._pull():
            pass
        lf, cr = self._newline, self.encoding.raw("\r")
        # what is left of the last line's end, where the text was cut before it or in it
        ends = () if last in (b"", lf) else (lf,) if last == cr else (cr + lf, cr, lf)
        self._end = next((end for end in ends if self._rest.startswith(end)), b"")
        return bool(self._rest) and bool(last) and last not in (lf, cr) and not self._end

    def join(self) -> None:
        """Pass over what is left of the last line's end: it is no line of its own."""
        self._consume(self._end)
        self._rest = self._rest[len(self._end) :]
        self._end = b""

    def page(self, size: int) -> bytes:
        """Whole lines that follow, about ``size`` bytes of them, which are not taken yet; b'' at the end. For units of one byte."""
        parts = [*self._ready, self._rest]
        self._ready.clear()
        self._rest = b""
        length = sum(map(len, parts))
        while length < size and self._pull():
            parts.append(self._rest)
            length += len(self._rest)
            self._rest = b""
        data = b"".join(parts)
        while not (cut := data.rfind(b"\n") + 1) and len(data) <= LONGEST and self._pull():
            data, self._rest = data + self._rest, b""
        cut = cut or len(data)
        self._rest = data[cut:]
        return data[:cut]

    def pass_over(self, page: bytes, lines: int) -> None:
        """What ``page`` gave is taken, its ``lines``."""
        self._consume(page)
        self.number += lines

    def put_back(self, page: bytes) -> None:
        """What ``page`` gave is to be read line by line."""
        self._rest = page + self._rest

    def digest(self) -> str:
        """Of all bytes taken so far."""
        return self._hash.hexdigest()

    def take(self) -> str:
        """The text taken since the last call."""
        text = self.taken[0] if len(self.taken) == 1 else "".join(self.taken)
        self.taken.clear()
        return text

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self._ready:
            self._fill()
        raw = self._ready.popleft()
        self._consume(raw)
        self.number += 1
        try:
            text = raw.decode(self.encoding.codec, self.encoding.errors)
        except UnicodeDecodeError:  # half a character, or one beyond Unicode: no escape stands for it
            text = raw.decode(self.encoding.codec, "replace") + "\udcff"
        self.taken.append(text)
        return text

    def _consume(self, raw: bytes) -> None:
        self.position += len(raw)
        self._hash.update(raw)

    def _pull(self) -> bool:
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        self._rest = self._rest + chunk if self._rest else chunk
        return True

    def _fill(self) -> None:
        """At least one whole line; StopIteration at the end. A CR at the end of what is there may be half of a CR LF: it waits."""
        while True:
            lines = self._split()
            if lines and not lines[-1].endswith(self._newline):
                self._rest = lines.pop()
            else:
                self._rest = b""
            if lines:
                self._ready.extend(lines)
                return
            if len(self._rest) > LONGEST:
                raise InputError(f"{self._name}: line {self.number + 1} is longer than {LONGEST >> 20} MiB; is it a table of text?")
            if not self._pull():
                if not self._rest:
                    raise StopIteration
                self._ready.append(self._rest)
                self._rest = b""
                return

    def _split(self) -> list[bytes]:
        """What is there, cut after each line end; the last piece may be incomplete."""
        if self.encoding.unit == 1:
            return self._rest.splitlines(keepends=True)
        unit = self.encoding.unit
        order = "<" if self.encoding.codec.endswith("le") else ">"
        units = np.frombuffer(self._rest, f"{order}u{unit}", len(self._rest) // unit)
        follows = np.append(units[1:], _LF if len(self._rest) % unit else 0)  # after half a unit: perhaps
        ends = np.flatnonzero((units == _LF) | ((units == _CR) & (follows != _LF)))
        cuts = [0, *(unit * (ends + 1)).tolist()]
        pieces = [self._rest[a:b] for a, b in pairwise(cuts)]
        return [*pieces, self._rest[cuts[-1] :]] if cuts[-1] < len(self._rest) else pieces


def lines_of(text: str) -> list[str]:
    """The lines of a text with their ends; nothing but LF, CR and CR LF ends one."""
    return _LINE.findall(text)
