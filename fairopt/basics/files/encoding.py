"""Which encoding a text has: a byte order mark says it, else the user, else UTF-8. Bytes that are none of it are never guessed at."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from fairopt.basics.errors import InputError

DEFAULT = "utf-8"
_MARKS = (  # UTF-32 first: its little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le", 4),
    (codecs.BOM_UTF32_BE, "utf-32-be", 4),
    (codecs.BOM_UTF8, "utf-8", 1),
    (codecs.BOM_UTF16_LE, "utf-16-le", 2),
    (codecs.BOM_UTF16_BE, "utf-16-be", 2),
)
_WIDE = {"utf-16-le": 2, "utf-16-be": 2, "utf-32-le": 4, "utf-32-be": 4}
_ORDERED = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}  # without a mark: little-endian, as on nearly all machines
_NO_TEXT = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "utf-7"}
_SAMPLE = 'a0,;\t|".\r\n'


@dataclass(frozen=True)
class Encoding:
    """codec: Python's name; mark: bytes of the byte order mark; unit: bytes that a line end takes."""

    codec: str
    mark: int = 0
    unit: int = 1

    @property
    def errors(self) -> str:
        """Bytes that are no text come through as lone surrogates, to be told from text (``is_text``)."""
        return "surrogateescape" if self.unit == 1 else "surrogatepass"

    def raw(self, text: str) -> bytes:
        """The bytes that ``text`` was decoded from."""
        return text.encode(self.codec, self.errors)


def find_encoding(head: bytes, asked: str | None) -> Encoding:
    """The encoding of a text that begins with ``head``. InputError for a name that is no encoding of text, or that a mark contradicts."""
    marked = next(((codec, len(mark), unit) for mark, codec, unit in _MARKS if head.startswith(mark)), None)
    if asked is None:
        return Encoding(*marked) if marked else Encoding(DEFAULT)
    wanted = _codec(asked)
    if marked is None:
        wanted = _ORDERED.get(wanted, wanted)
        return Encoding(wanted, 0, _WIDE.get(wanted, 1))
    if wanted not in (marked[0], marked[0].rsplit("-", 1)[0] if marked[2] > 1 else marked[0]):
        raise InputError(f"encoding: got {asked!r}, but the text begins with the byte order mark of {marked[0]}; leave the option out")
    return Encoding(*marked)


def _codec(asked: str) -> str:
    try:
        info = codecs.lookup(asked)
        name = {"utf-8-sig": "utf-8", "ascii": "ascii"}.get(info.name, info.name)
        if name in _WIDE or name in _ORDERED:
            return name
        fits = name not in _NO_TEXT and _SAMPLE.encode(name) == _SAMPLE.encode("ascii")
    except (LookupError, ValueError, TypeError) as error:
        known = "an encoding that Python knows, such as utf-8, latin-1, cp1252, utf-16"
        raise InputError(f"encoding: got {asked!r}, expected {known}") from error
    if not fits:
        raise InputError(f"encoding: got {asked!r}, expected one that has ASCII's bytes for ASCII's characters, or UTF-16, UTF-32")
    return name


def is_text(text: str) -> bool:
    """Whether all of ``text`` was decoded: no byte came through as a lone surrogate."""
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


def legible(text: str) -> str:
    """``text`` with bytes that were no text as ``\\xff``: what is written anywhere is text."""
    if is_text(text):
        return text
    escaped = "".join(f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in text)
    return escaped.encode("utf-8", "backslashreplace").decode()


def first_bad_byte(text: str, encoding: Encoding) -> int:
    """Offset in bytes of the first character that was no text."""
    where = next(i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff")
    return len(encoding.raw(text[:where]))
