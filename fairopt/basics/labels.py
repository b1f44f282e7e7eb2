"""Labels as numbers: targets as they came, or 1.0 where they equal ``pos_label`` and 0.0 elsewhere. Importing this loads no torch.

Other labels than 0 and 1 are never guessed: an error shows the values found, and ``pos_label=`` says which one counts as 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.basics.columns import is_missing, real_vector
from fairopt.basics.containers import is_tensor, opened
from fairopt.basics.errors import InputError

REMEDY = "Pass pos_label= the value that counts as 1"  # callers that have no such argument name their own way
SHOWN = 6


def target_numbers(given: Any, n: int, pos_label: Any = None, *, whole: bool = True) -> Array:
    """Targets (n,) as float64; with ``pos_label``, 1.0 where they equal it and 0.0 elsewhere.

    whole: the column is all there is, so that ``pos_label`` must be one of several values; a batch of a stream need not hold it.
    Raises InputError for another length, missing or infinite values; for text without ``pos_label``; and where ``pos_label`` is of another
    kind than the values.
    """
    if pos_label is None:
        try:
            return real_vector(given, n, "targets")
        except InputError as error:
            raise explained(error, given) from error
    values = _label_values(given, n)
    if isinstance(pos_label, np.generic):
        pos_label = pos_label.item()
    found = distinct(values)
    if not isinstance(pos_label, (str, bool, int, float)) or pos_label != pos_label:
        raise InputError(f"pos_label: got {pos_label!r}, expected one of the targets' values: {shown(found)}")
    text = isinstance(pos_label, str)
    if any(isinstance(v, str) != text for v in found) or (whole and len(found) > 1 and pos_label not in found):
        raise InputError(f"pos_label: got {pos_label!r}, expected one of the targets' values: {shown(found)}")
    return np.array([float(v == pos_label) for v in values], dtype=np.float64)


def explained(error: InputError, given: Any) -> InputError:
    """The error of reading targets as numbers, with the remedy where they are text."""
    words = _words(given)
    return error if words is None else InputError(f"{error}. The values found are {shown(words)}; pass pos_label= the one that counts as 1")


def refusal(why: str, values: Any) -> InputError:
    """The error for targets (n,) whose numbers mean something else than a notion says."""
    found = np.unique(values).tolist()
    return InputError(f"targets: {why}; the values found are {shown(found)}. {REMEDY}")


def _label_values(given: Any, n: int) -> list[Any]:
    """n Python values, none missing."""
    plain = opened(given, "targets")
    if is_tensor(plain) and plain.requires_grad:
        raise InputError("targets require grad, and labels compared with pos_label have no gradient; pass targets.detach()")
    values = plain if isinstance(plain, list) else plain.tolist()
    if len(values) != n:
        raise InputError(f"targets must have shape ({n},), came ({len(values)},)")
    gap = next((i for i, v in enumerate(values) if is_missing(v)), None)
    if gap is not None:
        raise InputError(f"targets has a missing value at position {gap}")
    return [v.item() if isinstance(v, np.generic) or is_tensor(v) else v for v in values]


def _words(given: Any) -> list[Any] | None:
    """The distinct values of targets that are text (or bools and text), None where they are something else."""
    try:
        plain = opened(given, "targets")
    except InputError:
        return None
    if is_tensor(plain) or (isinstance(plain, np.ndarray) and plain.dtype.kind not in "UOT"):
        return None
    found = [v for v in (plain if isinstance(plain, list) else plain.tolist()) if isinstance(v, str)]
    return distinct(found) if found else None


def distinct(values: Sequence[Any]) -> list[Any]:
    """Each value once, in order of first arrival."""
    return list(dict.fromkeys(values))


def shown(values: Sequence[Any]) -> str:
    """The first values, for a message."""
    more = "" if len(values) <= SHOWN else f" and {len(values) - SHOWN} more"
    return ", ".join(_short(v) for v in values[:SHOWN]) + more


def _short(value: Any) -> str:
    """-1 for -1.0; what six digits would round to another number stays whole."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else repr(value)
