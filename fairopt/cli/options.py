"""Options and words that several commands share: how a file of text is written, what notions are called, two numbers as bounds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Annotated

import typer

from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing
from fairopt.basics.files import Dialect, number

PosLabel = Annotated[
    str | None, typer.Option(help="The target that counts as 1, as written; every other one is 0. By default targets are numbers.")
]


@dataclass(frozen=True)
class TextOptions:
    """How a table of text is written."""

    separator: Annotated[
        str | None, typer.Option(help="What separates cells: one character, or 'tab'. By default found in the header: one of , ; tab |")
    ] = None
    decimal: Annotated[str, typer.Option(help="Decimal mark of the numbers: '.' or ','.")] = "."
    encoding: Annotated[
        str | None,
        typer.Option(help="Of the text, such as latin-1 or cp1252. By default UTF-8, or what a byte order mark says (UTF-16, UTF-32)."),
    ] = None

    @property
    def dialect(self) -> Dialect:
        """InputError for what is no separator, decimal mark or encoding."""
        return Dialect(self.separator, self.decimal, self.encoding)


def check_pos_label(pos_label: str | None, target: str | None) -> None:
    """InputError for --pos-label alone."""
    if pos_label is not None and target is None:
        raise InputError("--pos-label: expected --target beside it")


def two_numbers(text: str, option: str) -> tuple[float, float]:
    """``0,1``: the least and the largest."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2:
        raise InputError(f"{option}: expected two numbers like 0,1, got {text!r}")
    low, high = (number(part, option) for part in parts)
    if not low < high:
        raise InputError(f"{option}: expected the least score first, got {text!r}")
    return low, high


def folder(path: Path, option: str) -> Path:
    """A folder to write into, made where it is not there. InputError where it cannot be one."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise InputError(f"--{option}: {path} is a file, expected a folder") from error
    except (OSError, ValueError) as error:
        raise InputError(f"--{option}: {path} cannot be made: {getattr(error, 'strerror', None) or error}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"--{option}: {path} cannot be written: the folder is read-only")
    return path


def ends_in(path: Path | None, suffix: str, option: str) -> None:
    """InputError where ``path`` is no file with that suffix in a folder that is there."""
    if path is not None and (path.suffix.lower() != suffix or not path.parent.is_dir() or path.is_dir()):
        raise InputError(f"--{option} {path}: expected a path that ends in {suffix}, in a folder that exists")


def positive(value: float, option: str) -> float:
    """InputError for what is no finite number > 0."""
    if not (isfinite(value) and value > 0):
        raise InputError(f"--{option}: got {value:g}, expected a finite number > 0")
    return value


def tolerable(value: float) -> float:
    """InputError for what is no finite tolerance >= 0."""
    if not (isfinite(value) and value >= 0):
        raise InputError(f"--tolerance: got {value:g}, expected a finite number >= 0")
    return value


def need(modules: Mapping[str, str], what: str, extra: str) -> None:
    """MissingExtraError where one of ``modules`` (import name -> its name on an index) is not there: said before the work, not after it."""
    absent = [name for module, name in modules.items() if find_spec(module) is None]
    if absent:
        raise missing(f"{what} needs {', '.join(absent)}", extra)
