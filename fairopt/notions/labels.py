"""Targets inside a notion: which samples have which label, and what counts as the positive one.

Shipped notions about labels mean 0 and 1. Other labels are never guessed: -1 and 1, 1 and 2, "yes" and "no" are an error that shows the
values found, and ``pos_label=`` says which one counts as 1 (every other one as 0).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import BoolArray
from fairopt.basics.columns import numbers
from fairopt.basics.errors import InputError
from fairopt.basics.labels import explained, refusal, shown, target_numbers
from fairopt.notions.events import Mask
from fairopt.notions.trap import trap


class Events(Protocol):
    """What targets need of their batch: making an event of a boolean array."""

    def boolean_event(self, array: BoolArray, name: str) -> Mask: ...


def read_targets(given: Any, n: int, pos_label: Any = None) -> Tensor:
    """Targets (n,) as ``target_numbers``; a tensor without ``pos_label`` keeps its dtype, device and gradient."""
    if pos_label is not None:
        return torch.from_numpy(target_numbers(given, n, pos_label))
    try:
        return numbers(given, n, "targets")
    except InputError as error:
        raise explained(error, given) from error


class Targets:
    """The targets (n,) inside a notion: comparisons give events, ``of=batch.targets`` means of them."""

    __array_ufunc__ = None
    __hash__ = object.__hash__

    def __init__(self, batch: Events, tensor: Tensor) -> None:
        self.tensor = tensor
        self._batch = batch
        self._seen: dict[tuple[str, float], Mask] = {}

    @cached_property
    def as_float64(self) -> Any:
        """(n,) the targets without gradient."""
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
            self._seen[key] = self._batch.boolean_event(compare(self.as_float64, float(other)), f"target{word}{other:g}")
        return self._seen[key]

    @property
    def equalities(self) -> dict[float, Mask]:
        """The events ``targets == value`` made so far."""
        return {value: mask for (word, value), mask in self._seen.items() if word == "="}

    @cached_property
    def binary(self) -> bool:
        """Whether every target is 0 or 1."""
        values = self.as_float64
        return bool(((values == 0) | (values == 1)).all())

    def expect_binary(self, notion: str) -> None:
        """InputError where a target is neither 0 nor 1: then the events target=0 and target=1 mean something else than was meant."""
        if not self.binary:
            self._refuse(f"{notion} is about the labels 0 and 1", self.as_float64)

    def check_met(self) -> None:
        """InputError where a notion asks for targets of some value, and no sample has any of these, though other labels than 0, 1 came."""
        asked = sorted(value for word, value in self._seen if word == "=")
        values = self.as_float64
        if asked and not np.isin(values, [*asked, 0.0, 1.0]).all() and not np.isin(values, asked).any():
            self._refuse(f"the notion compares targets with {shown(asked)}, which no sample has", values)

    def _refuse(self, why: str, values: Any) -> NoReturn:
        raise refusal(why, values)

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
