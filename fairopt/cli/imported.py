"""A notion of the user's own, named on the command line as ``module:object``."""

from __future__ import annotations

from importlib import import_module

import fairopt as fo
from fairopt.errors import InputError


def imported_notion(text: str) -> fo.Notion:
    """The notion that ``module:object`` names. Raises InputError where there is none."""
    module, _, name = text.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"--notion: cannot import {text!r}: {error}") from error
    if not isinstance(found, fo.Notion):
        raise InputError(
            f"--notion: {text!r} is a {type(found).__name__}, expected a notion such as DemographicParity('sex', tolerance=0.05)"
        )
    return found
