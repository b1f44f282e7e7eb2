"""``module:object`` on the command line, with the working directory on the path."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

from fairopt.basics.errors import InputError


def imported(words: str, option: str) -> Any:
    """The object that ``module:object`` names. InputError, with ``option``, where it cannot be imported."""
    module, _, name = words.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise InputError(f"{option}: cannot import {words!r}: {error}") from error
    return found
