"""Targets inside a notion: which samples have which label, and what counts as the positive one.

Shipped notions about labels mean 0 and 1. Other labels are never guessed: -1 and 1, 1 and 2, "yes" and "no" are an error that shows the
values found, and ``pos_label=`` says which one counts as 1 (every other one as 0).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.columns import is_missing, numbers
from fairopt.basics.containers import opened
from fairopt.errors import InputError
from fairopt.notions.events import Mask
from fairopt.notions.trap import trap
from fairopt.problem import BoolArray

SHOWN = 6


class Events(Protocol):
    """What targets need of their batch: making an event of a boolean array."""

    def boolean_event(self, array: BoolArray, name: str) -> Mask: ...


REMEDY = "Pass pos_label= the value that counts as 1"  # callers that have no such argument name their own way


def read_targets(given: Any, n: int, pos_label: Any = None) -> Tensor:
    """Targets (n,) as numbers; with ``pos_label``, 1.0 where they equal it and 0.0 elsewhere (float64).

    Raises InputError for another length, missing or infinite values; for text without ``pos_label``; and where ``pos_label`` is of another
    kind than the values, or none of several values.
    """
    if pos_label is None:
        try:
            return numbers(given, n, "targets")
        except InputError as error:
            words = _words(given)
            if words is None:
                raise
            raise InputError(f"{error}. The values found are {_shown(words)}; pass pos_label= the one that counts as 1") from error
    values = _label_values(given, n)
    if isinstance(pos_label, np.generic):
        pos_label = pos_label.item()
    if not isinstance(pos_label, (str, bool, int, float)) or pos_label != pos_label:
        raise InputError(f"pos_label: got {pos_label!r}, expected one of the targets' values: {_shown(_distinct(values))}")
    found = _distinct(values)
    text = isinstance(pos_label, str)
    if any(isinstance(v, str) != text for v in found) or (len(found) > 1 and pos_label not in found):
        raise InputError(f"pos_label: got {pos_label!r}, expected one of the targets' values: {_shown(found)}")
    return torch.tensor([float(v == pos_label) for v in values], dtype=torch.float64)


def _label_values(given: Any, n: int) -> list[Any]:
    """n Python values, none missing."""
    plain = opened(given, "targets")
    if isinstance(plain, Tensor) and plain.requires_grad:
        raise InputError("targets require grad, and labels compared with pos_label have no gradient; pass targets.detach()")
    values = plain if isinstance(plain, list) else plain.tolist()
    if len(values) != n:
        raise InputError(f"targets must have shape ({n},), came ({len(values)},)")
    gap = next((i for i, v in enumerate(values) if is_missing(v)), None)
    if gap is not None:
        raise InputError(f"targets has a missing value at position {gap}")
    return [v.item() if isinstance(v, (np.generic, Tensor)) else v for v in values]


def _words(given: Any) -> list[Any] | None:
    """The distinct values of targets that are text (or bools and text), None where they are something else."""
    try:
        plain = opened(given, "targets")
    except InputError:
        return None
    if isinstance(plain, Tensor) or (isinstance(plain, np.ndarray) and plain.dtype.kind not in "UOT"):
        return None
    found = [v for v in (plain if isinstance(plain, list) else plain.tolist()) if isinstance(v, str)]
    return _distinct(found) if found else None


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _shown(values: Sequence[Any]) -> str:
    more = "" if len(values) <= SHOWN else f" and {len(values) - SHOWN} more"
    return ", ".join(f"{v:g}" if isinstance(v, float) else repr(v) for v in values[:SHOWN]) + more


class Targets:
    """The targets (n,) inside a notion: comparisons give events, ``of=batch.targets`` means of them."""

    __array_ufunc__ = None
    __hash__ = object.__hash__

    def __init__(self, batch: Events, tensor: Tensor) -> None:
        self.tensor = tensor
        self._batch = batch
        self._seen: dict[tuple[str, float], Mask] = {}

    def _numbers(self) -> Any:
        return self.tensor.detach().to("cpu", torch.float64).numpy()

    def _compare(self, word: str, other: Any, compare: Callable[[Any, float], Any]) -> Mask:
        if self.tensor.requires_grad:
            trap("targets that require grad cannot be compared: an event has no gradient to its targets; pass targets.detach()")
        if isinstance(other, str):
            trap(f"targets are numbers inside a notion, came {other!r}; pass pos_label={other!r} with the batch and compare with 1")
        if not isinstance(other, (int, float, np.integer, np.floating)):
            trap(f"targets can be compared with a number, came {type(other).__name__}")
        key = (word, float(other))
        if key not in self._seen:
            self._seen[key] = self._batch.boolean_event(compare(self._numbers(), float(other)), f"target{word}{other:g}")
        return self._seen[key]

    def expect_binary(self, notion: str) -> None:
        """InputError where a target is neither 0 nor 1: then the events target=0 and target=1 mean something else than was meant."""
        values = self._numbers()
        if not bool(((values == 0) | (values == 1)).all()):
            self._refuse(f"{notion} is about the labels 0 and 1", values)

    def check_met(self) -> None:
        """InputError where a notion asks for targets of some value, and no sample has any of these, though other labels than 0, 1 came."""
        asked = sorted(value for word, value in self._seen if word == "=")
        values = self._numbers()
        if asked and not np.isin(values, [*asked, 0.0, 1.0]).all() and not np.isin(values, asked).any():
            self._refuse(f"the notion compares targets with {_shown(asked)}, which no sample has", values)

    def _refuse(self, why: str, values: Any) -> NoReturn:
        found = np.unique(values).tolist()
        raise InputError(f"targets: {why}; the values found are {_shown(found)}. {REMEDY}")

    def __eq__(self, other: object) -> Mask:  # type: ignore[override]
        return self._compare("=", other, lambda t, v: t == v)

    def __ne__(self, other: object) -> Mask:  # type: ignore[override]
        return self._compare("!=", other, lambda t, v: t != v)

    def __lt__(self, other: object) -> Mask:
        return self._compare("<", other, lambda t, v: t < v)

    def __le__(self, other: object) -> Mask:
        return self._compare("<=", other, lambda t, v: t <= v)

    def __gt__(self, other: object) -> Mask:
        return self._compare(">", other, lambda t, v: t > v)

    def __ge__(self, other: object) -> Mask:
        return self._compare(">=", other, lambda t, v: t >= v)

    def __bool__(self) -> NoReturn:
        trap("targets have no truth value")

    def __getitem__(self, key: object) -> NoReturn:
        trap("targets[...] picks samples by place; compare instead: batch.targets == 1 is an event, of=batch.targets a mean")
