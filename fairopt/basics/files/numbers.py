"""Cells of columns that are declared numeric. A number is what ASCII digits write, read to the nearest double; nothing else is one."""

from __future__ import annotations

import re
from math import isfinite
from typing import Any

from fairopt.basics.errors import InputError

_POINT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_COMMA = re.compile(r"[+-]?(?:[0-9]+,?[0-9]*|,[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(?:inf|infinity|nan)", re.IGNORECASE)
_LABELS = {"true": 1.0, "false": 0.0}


def number(value: Any, name: str, decimal: str = ".") -> float:
    """A finite number, correctly rounded, from a cell's text or from a typed value; InputError says what came.

    Not numbers: an empty cell, "1_0", "0x1p3", blanks, digits other than ASCII's, "1,5" (where ``decimal`` is not ','), inf and nan.
    """
    if isinstance(value, str):
        return _of_text(value, name, decimal)
    if isinstance(value, bool) or not (isinstance(value, int | float) or hasattr(value, "__float__")):
        raise InputError(f"{name}: {'missing' if value is None else repr(value) + ' is no number'}")
    try:
        out = float(value)
    except (TypeError, ValueError, OverflowError, ArithmeticError) as error:
        raise InputError(f"{name}: {value!r} is no number that a double holds") from error
    if not isfinite(out):
        raise InputError(f"{name}: {value!r} is not finite")
    return out


def zero_or_one(value: Any, name: str, decimal: str = ".") -> float:
    """A number, or a truth value as pandas and R write it: True and TRUE are 1, False and FALSE 0."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and value in ("True", "TRUE", "true", "False", "FALSE", "false"):
        return _LABELS[value.lower()]
    return number(value, name, decimal)


def label(value: Any, name: str, decimal: str = ".", pos_label: str | None = None) -> float:
    """A target: a number, or with ``pos_label`` 1.0 where the cell is that text as written and 0.0 elsewhere. InputError says what came."""
    if pos_label is not None:
        if empty(value):
            raise InputError(f"{name}: an empty cell is no label")
        return float(str(value) == pos_label)
    try:
        return zero_or_one(value, name, decimal)
    except InputError as error:
        if empty(value) or not isinstance(value, str) or _COMMA.fullmatch(value) or _NOT_FINITE.fullmatch(value):
            raise
        raise InputError(f"{error}; where targets are words, pass pos_label= the one that counts as 1") from error


def empty(value: Any) -> bool:
    """A cell of text or a typed value that holds nothing."""
    return value is None or type(value).__name__ == "NAType" or value == "" or value != value


def _of_text(text: str, name: str, decimal: str) -> float:
    pattern = _POINT if decimal == "." else _COMMA
    if not pattern.fullmatch(text):
        if text == "":
            raise InputError(f"{name}: an empty cell is no number")
        if _NOT_FINITE.fullmatch(text):
            raise InputError(f"{name}: {text!r} is not finite")
        hint = "; --decimal , reads it" if decimal == "." and _COMMA.fullmatch(text) else ""
        raise InputError(f"{name}: {text!r} is no number{hint}")
    out = float(text if decimal == "." else text.replace(",", "."))
    if not isfinite(out):
        raise InputError(f"{name}: {text!r} is not finite: it is beyond the largest double")
    return out


def is_number(text: str) -> bool:
    return bool(_POINT.fullmatch(text))


def fractional(text: str) -> bool:
    """Whether a cell's text writes a number that is not whole."""
    return is_number(text) and not float(text).is_integer()
