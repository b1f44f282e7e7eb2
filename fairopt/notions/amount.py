"""A number in a limit: constant, or hanging on tensors that an optimiser changes.

``value()`` is read at each call. A plain float is kept as the float64 that was given, so that certificates compare with it exactly.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.errors import InputError


@dataclass(frozen=True, eq=False)
class Amount:
    """constant + sum of factor * tensor, every tensor of one element."""

    constant: float = 0.0
    terms: tuple[tuple[float, Tensor], ...] = ()

    def value(self) -> float:
        """The present value as float64."""
        if not self.terms:
            return self.constant
        moving = sum(factor * float(t.detach()) for factor, t in self.terms)
        return self.constant + moving if self.constant else moving

    def tensor(self) -> Tensor:
        """The present value as a float64 scalar on the CPU, connected to the tensors."""
        total = torch.tensor(self.constant, dtype=torch.float64, device="cpu")
        for factor, t in self.terms:
            total = total + factor * t.reshape(()).to(device="cpu", dtype=torch.float64)
        return total

    @property
    def moves(self) -> bool:
        """Whether the value can change after compilation."""
        return bool(self.terms)

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal keys mean the same number for ever."""
        return (self.constant, *((factor, id(t)) for factor, t in self.terms))

    def __neg__(self) -> Amount:
        return self.times(-1.0)

    def plus(self, other: Amount) -> Amount:
        return Amount(self.constant + other.constant, self.terms + other.terms)

    def times(self, factor: float) -> Amount:
        return Amount(self.constant * factor if self.constant else 0.0, tuple((f * factor, t) for f, t in self.terms))


def is_number(value: object) -> bool:
    """A real number, or a tensor of one element; not a bool."""
    if isinstance(value, (bool, np.bool_)):
        return False
    return isinstance(value, (numbers.Real, np.integer, np.floating)) or (isinstance(value, Tensor) and value.numel() == 1)


def amount(value: Any, what: str) -> Amount:
    """An Amount from a number or a tensor of one element; InputError, naming ``what``, for anything else and for NaN."""
    if isinstance(value, Amount):
        return value
    if not is_number(value):
        raise InputError(f"{what} must be a number or a tensor of one element, came {value!r}")
    if isinstance(value, Tensor):
        if not value.dtype.is_floating_point:
            value = value.detach().to(torch.float64)
        result = Amount(0.0, ((1.0, value),))
    else:
        result = Amount(float(value))
    if math.isnan(result.value()):
        raise InputError(f"{what} is NaN")
    return result


def check_at_least(value: Any, low: float, what: str, *, open_end: bool = False) -> None:
    """InputError unless ``value`` is a finite number >= ``low`` (> ``low`` where ``open_end``)."""
    present = amount(value, what).value()
    if not math.isfinite(present) or present < low or (open_end and present == low):
        raise InputError(f"{what} must be a finite number {'>' if open_end else '>='} {low:g}, came {present!r}")
