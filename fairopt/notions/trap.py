"""Errors that name the line of the notion in which something went wrong."""

from __future__ import annotations

import linecache
import sys
from typing import NoReturn

from fairopt.basics.errors import InputError


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


def trap(message: str) -> NoReturn:
    """Raise InputError with the notion's line under the message."""
    line = notion_line()
    raise InputError(f"{message}\n  {line}" if line else message)
