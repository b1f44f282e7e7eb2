"""Errors that name the line of the notion in which something went wrong."""

from __future__ import annotations

import linecache
import os
import re
import sys
import traceback
from typing import NoReturn

from fairopt.basics.errors import FairoptError, InputError

_HERE = os.path.dirname(__file__)


def notion_line() -> str:
    """'file:line: source' of the nearest caller outside ``fairopt.notions``; '' where there is none."""
    frame = sys._getframe(1)
    while frame is not None:
        if not str(frame.f_globals.get("__name__", "")).startswith("fairopt.notions"):
            source = linecache.getline(frame.f_code.co_filename, frame.f_lineno, frame.f_globals).strip()
            return f"{frame.f_code.co_filename}:{frame.f_lineno}: {source}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


class NoSuchName(InputError, AttributeError):
    """A name that a batch has not; also an AttributeError, so that ``hasattr`` works. The message ends with the notion's line."""

    def __init__(self, message: str, name: str) -> None:
        line = notion_line()
        super().__init__(f"{message}\n  {line}" if line else message)
        self.name = name


_OURS = re.compile(r"\b(Functional|AbsoluteValue|Range|Constraint|Mask|Targets|Batch)\b|'method' object is not subscriptable")
_WAY = (
    "a functional is made of batch.mean(event), +, -, a number times it, and division by a number; abs(f) <= t, f <= t and f >= t are "
    "constraints of it (Python's abs, no function of numpy, torch or math). The groups are batch.groups(attribute), the labels "
    "batch.targets == 1"
)


def misuse(error: Exception, notion: str) -> InputError | None:
    """What Python says of an operation that a batch, a functional or an event has not, with the way and the line; None for other errors."""
    if isinstance(error, FairoptError) or not _OURS.search(str(error)):
        return None
    line = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if not frame.filename.startswith(_HERE):
            line = f"\n  {frame.filename}:{frame.lineno}: {frame.line}"
    return InputError(f"the notion {notion}: {error}; {_WAY}{line}")


def trap(message: str) -> NoReturn:
    """Raise InputError with the notion's line under the message."""
    line = notion_line()
    raise InputError(f"{message}\n  {line}" if line else message)
