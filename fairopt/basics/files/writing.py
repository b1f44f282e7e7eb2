"""Text that is written: CSV lines, tables of ours with cells that no spreadsheet runs, whole files that appear at once or not at all."""

from __future__ import annotations

import glob
import os
import platform
import stat
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from fairopt.basics.errors import InputError
from fairopt.basics.files.numbers import is_number
from fairopt.basics.files.opened import reason

_RUN = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_line(values: Iterable[Any], separator: str = ",") -> str:
    """One line; text as it is, floats as the shortest text that reads back as the same bits, None as an empty cell."""
    cells = [v if isinstance(v, str) else "" if v is None else repr(v) if isinstance(v, float) else str(v) for v in values]
    text = separator.join(cells)
    if len(cells) == 1 and not text.strip(" \t"):
        return f'"{text}"\n'  # else a blank line
    if text.count(separator) == len(cells) - 1 and '"' not in text and "\n" not in text and "\r" not in text:
        return text + "\n"
    special = ('"', "\r", "\n", separator)
    return separator.join('"' + c.replace('"', '""') + '"' if any(s in c for s in special) else c for c in cells) + "\n"


def csv_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of ours: names that a user chose are guarded, numbers are not touched."""
    return "".join(csv_line([guarded(v) for v in row]) for row in (columns, *rows))


def guarded(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets an apostrophe before it; a plain number stays."""
    return "'" + value if isinstance(value, str) and value.startswith(_RUN) and not is_number(value) else value


def write_whole(path: str | Path, data: str | bytes, what: str) -> Path:
    """Write a file that is there in full or as it was before. InputError with the path, what failed and what to do."""
    path = Path(path)
    raw = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            if path.is_dir():
                raise InputError(f"{what}: {path} is a folder, expected the name of a file")
            path.write_bytes(raw)  # a pipe or a device
            return path
        _replace(Path(os.path.realpath(path)), raw)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise unwritable(path, what, error) from error
    return path


def unwritable(path: str | Path, what: str, error: Exception) -> InputError:
    """The error about a file that could not be written."""
    advice = "; its folder is not there" if not Path(path).parent.is_dir() else ""
    return InputError(f"{what}: {path} cannot be written: {reason(error)}{advice}")


def part_of(path: Path) -> Path:
    """Where this process writes a file that then takes its place at ``path``. What processes began that were killed is taken away."""
    machine = blake2b(platform.node().encode(), digest_size=4).hexdigest()  # where the number of a process means something
    stem = f".{path.name[:190]}.{machine}."
    for left in path.parent.glob(f"{glob.escape(stem)}*.part"):
        if not _runs(left.name[len(stem) : -len(".part")]):
            left.unlink(missing_ok=True)
    return path.with_name(f"{stem}{os.getpid()}.part")


def _runs(number: str) -> bool:
    """Whether the process of this number runs here, or may: only one that was killed leaves its part of a file behind."""
    if os.name != "posix" or not number.isascii() or not number.isdigit():
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _replace(path: Path, raw: bytes) -> None:
    part = part_of(path)
    try:
        with part.open("wb") as file:
            file.write(raw)
        if path.exists():
            if not os.access(path, os.W_OK):
                raise PermissionError(13, "the file is read-only")
            part.chmod(stat.S_IMODE(path.stat().st_mode))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
