"""The settings of a layer, held against what they may be before the first batch comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from fairopt.basics.errors import InputError
from fairopt.compiler.compile import CHOICES as OF_COMPILING
from fairopt.compiler.facts import read_bounds, read_distance
from fairopt.contract.problem import Distance
from fairopt.layer.classes import refuse_unless_raised
from fairopt.notions.several import Classes, read_classes

Space = Literal["value", "probability", "logit"]
CHOICES: dict[str, tuple[str, ...]] = {
    "space": ("value", "probability", "logit"),
    "gradient": ("implicit", "native"),
    **OF_COMPILING,
}


@dataclass(frozen=True)
class Near:
    """What is projected to where: the box, what "nearest" means, and of several numbers a sample which ones (None: there is one)."""

    bounds: Any
    distance: Distance
    classes: Classes | None


def check_choices(chosen: Mapping[str, str]) -> None:
    """InputError where a setting with few values has another."""
    for name, value in chosen.items():
        allowed = CHOICES[name]
        if value not in allowed:
            *others, last = map(repr, allowed)
            raise InputError(f"{name}: got {value!r}, expected {', '.join(others)} or {last}")


def read_near(space: str, bounds: Any, distance: str, outputs: str, classes: Any, on_infeasible: str) -> Near:
    """Box, distance and outputs of a layer. InputError where they do not go together."""
    given = bounds
    bounds = (0.0, 1.0) if bounds is None and space == "probability" else bounds
    read_bounds(bounds, _samples(bounds))
    near, bounds = read_distance(distance, bounds)
    several = read_classes(outputs, classes, near, given)
    if several is not None:
        refuse_unless_raised(on_infeasible)
        bounds = (0.0, 1.0) if several.outputs == "simplex" else bounds
    if near != "squared" and space == "logit":
        raise InputError(f"space: got 'logit' beside distance={near!r}, expected 'probability' (logits in) or 'value': logits are below 0")
    return Near(bounds, near, several)


def _samples(bounds: Any) -> int:
    """n of bounds that are given for each sample; 1 where they are numbers."""
    sides = bounds if isinstance(bounds, (tuple, list)) else ()
    shapes = [np.shape(side.detach() if isinstance(side, Tensor) else side) for side in sides if side is not None]
    return max((shape[0] for shape in shapes if shape), default=1)
