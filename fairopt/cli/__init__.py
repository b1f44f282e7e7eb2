"""The command line: ``fairopt COMMAND``. One file a command; the experiments hold the work, the commands only show it."""

from __future__ import annotations

import sys
from collections.abc import Callable

from fairopt.errors import FairoptError, MissingExtraError

EXTRA = "the command line needs typer and rich: pip install 'fairopt[cli]'"


def main() -> None:
    """Entry point of the ``fairopt`` script: fairopt's own errors become one line on stderr and exit code 1."""
    try:
        _app()()
    except FairoptError as error:
        print(f"fairopt: {error}", file=sys.stderr)
        raise SystemExit(1) from error


def _app() -> Callable[[], object]:
    try:
        from fairopt.cli.app import build
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        raise MissingExtraError(EXTRA) from error
    return build(sys.argv[1:])
