"""What a frozen layer promises, as plain values of JSON and back; and scores that the promise does not speak of."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from math import isfinite
from typing import Any, Literal

import torch
from torch import Tensor

from fairopt.basics.errors import FairoptWarning, InputError
from fairopt.layer.population_bound import PopulationBound
from fairopt.solve.told import callers_level

Outside = Literal["pass", "warn", "error"]
OUTSIDE: tuple[Outside, ...] = ("pass", "warn", "error")


def told_of(guarantees: Sequence[PopulationBound]) -> list[dict[str, Any]]:
    """Every field; a number that JSON has no word for as text."""
    return [
        {name: repr(value) if isinstance(value, float) and not isfinite(value) else value for name, value in asdict(bound).items()}
        for bound in guarantees
    ]


def read_guarantees(told: Any) -> tuple[PopulationBound, ...]:
    """InputError for what ``told_of`` never wrote."""
    names = {field.name for field in fields(PopulationBound)}
    if not isinstance(told, list) or any(not isinstance(row, Mapping) or set(row) != names for row in told):
        raise InputError(f"state: guarantees is {told!r}, expected a list of the fields {sorted(names)}")
    return tuple(PopulationBound(**{name: _number(v) if name != "constraint" else v for name, v in row.items()}) for row in told)


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


def look_outside(scores: Tensor, lb: float, ub: float, outside: Outside, guaranteed: bool) -> None:
    """InputError or FairoptWarning for scores outside the box, where calibration had none. NaN is for others to refuse."""
    if outside == "pass":
        return
    flat = scores.detach().reshape(-1)
    beyond = torch.nonzero((flat < lb) | (flat > ub)).reshape(-1)
    if not beyond.numel():
        return
    row = int(beyond[0])
    told = f"scores: row {row} is {float(flat[row]):g}, expected numbers in [{lb:g}, {ub:g}], where all calibration scores were"
    if outside == "error":
        why = "the guarantee assumes it" if guaranteed else "outside='error' asks for it"
        raise InputError(f"{told}; {why}")
    warnings.warn(f"{told}; it is clipped", FairoptWarning, stacklevel=callers_level())


__all__ = ["OUTSIDE", "Outside", "look_outside", "read_guarantees", "told_of"]
