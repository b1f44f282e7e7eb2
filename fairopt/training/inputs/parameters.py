"""Checks of the estimators' parameters: an InputError names the parameter, what came and what was expected."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

from fairopt.basics.errors import InputError


def check_hidden(widths: Any) -> None:
    """The widths of hidden layers."""
    if isinstance(widths, (str, int)) or not all(isinstance(w, (int, np.integer)) and w > 0 for w in widths):
        raise InputError(f"hidden: got {widths!r}, expected the widths of the hidden layers, e.g. (64, 32); () is a linear model")


def check_bounds(ends: Any) -> None:
    """None, or a pair of numbers, either of them None."""
    pair = isinstance(ends, (tuple, list)) and len(ends) == 2 and all(e is None or np.ndim(e) == 0 for e in ends)
    if ends is not None and not pair:
        raise InputError(f"bounds: got {ends!r}, expected None or a pair of numbers; bounds of their own for samples cannot be frozen")


def check_missing_group(missing: Any) -> None:
    if missing not in ("error", "own"):
        raise InputError(f"missing_group: got {missing!r}, expected 'error' or 'own'")


def check_counts(**counts: tuple[Any, int]) -> None:
    """name=(value, least): whole numbers that are at least so large."""
    for name, (value, least) in counts.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise InputError(f"{name}: got {value!r}, expected a whole number >= {least}")


def check_amount(name: str, value: Any, below: float = inf) -> None:
    """A number in [0, below)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 <= value < below:
        raise InputError(f"{name}: got {value!r}, expected a number >= 0{'' if below == inf else f' and < {below:g}'}")


def check_share(name: str, value: Any) -> None:
    """A number strictly between 0 and 1."""
    if not isinstance(value, (float, np.floating)) or not 0 < value < 1:
        raise InputError(f"{name}: got {value!r}, expected a number between 0 and 1")


FEW = 2000  # training rows; under these one split says too little of when to stop
MEMBERS = 5


def chosen_members(given: Any, rows: int) -> int:
    """How many networks; "auto": five under 2,000 training rows, where a tenth of them says little of when to stop, else one."""
    if given == "auto":
        return MEMBERS if MEMBERS * 4 <= rows < FEW else 1
    return int(given)


def chosen_batch(given: Any, rows: int) -> int:
    """Rows of a batch; None: all. "auto": an eighth of the training rows, from 64 to 1,024: few rows want several steps an epoch, and a
    batch some rows of each group."""
    if given == "auto":
        return min(rows, max(64, min(1024, -(-rows // 8))))
    return rows if given is None else int(given)
