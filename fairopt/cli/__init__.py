"""The command line: ``fairopt COMMAND``. One file a command; the experiments hold the work, the commands only show it."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable

from fairopt.basics.errors import FairoptError
from fairopt.basics.extras import missing
from fairopt.basics.table import visible

# What the library's messages name -> what a command takes.
REMEDIES = {
    "rejects= to": "--rejects FILE to",
    "overwrite=True": "--overwrite",
    "rows_at_once=": "--rows-at-once",
    "pass target=, the": "pass --target, the",
    "missing_group='own'": "--missing-group own",
    "pos_label= the": "--pos-label, the",
}
EXTRA = "the command line needs typer and rich"


def main() -> None:
    """Entry point of the ``fairopt`` script. Exit codes: 0 ok, 1 a broken constraint under --strict, 2 usage or bad input.

    fairopt's own errors become one line on stderr and exit code 2. What the terminal's encoding lacks is written as an escape.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        _app()()
    except FairoptError as error:
        print(f"fairopt: {visible(in_options(str(error)))}", file=sys.stderr)
        raise SystemExit(2) from error
    except OSError as error:  # standard output is full; every file of ours has an error of its own
        with contextlib.suppress(OSError, ValueError):  # else Python tries to write it once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"fairopt: {visible(str(error))}", file=sys.stderr)
        raise SystemExit(2) from error


def in_options(message: str) -> str:
    """An error of the library, with its remedies as options."""
    for argument, option in REMEDIES.items():
        message = message.replace(argument, option)
    return message


def _app() -> Callable[[], object]:
    try:
        from fairopt.cli.app import build
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        raise missing(EXTRA, "cli") from error
    return build()
