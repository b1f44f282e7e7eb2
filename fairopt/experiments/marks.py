"""Marks of what made a cell: a hash of the sources that its figures depend on, and the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch

# The rooms below the experiments, and what loads data and fits methods. Pages and the command line are no part of a figure.
LIBRARY = ("basics", "contract", "notions", "feasibility", "compiler", "solve", "layer", "streaming", "training")
FITTING = ("experiments/data", "experiments/methods")
STUDIES = (*LIBRARY, *FITTING, "experiments/studies", "experiments/measure.py")


def mark_of(names: Iterable[str]) -> str:
    """16 hex digits of the Python files under these names, which are folders or files below the package."""
    return _mark(tuple(names))


@cache
def _mark(names: tuple[str, ...]) -> str:
    root = Path(__file__).parents[1]
    mark = hashlib.sha256()
    for name in names:
        place = root / name
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            mark.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return mark.hexdigest()[:16]


def machine() -> str:
    """What decides the last bits of a sum, and so, in the end, digits of what networks learn: the processor's instructions, and torch."""
    return f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__.split('+')[0]}"
