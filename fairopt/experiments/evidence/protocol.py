"""The constants of docs/experiments/PROTOCOL.md, and the marks by which a cell says which code and which protocol made it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fairopt.basics.errors import InputError
from fairopt.experiments.marks import FITTING, LIBRARY, mark_of

VERSION = 1
SEEDS = 6
MOST_ROWS = 8_000
SHARES = {"train": 0.50, "calibration": 0.15, "validation": 0.15, "test": 0.20}
# A group with less than this share of the rows, or fewer rows, is joined into "other".
LEAST_SHARE, LEAST_ROWS = 0.02, 60
TOLERANCES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.08)
STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
TARGETS = (0.02, 0.05)
LIMIT_S = 60.0  # processor time of one setting
DRAWS = 2_000
LEVEL = 0.05
GAP_MARGIN = 0.01  # a winner's gap may be larger by this at most, at the end of its interval
LEAST_SEEDS = 3  # fewer give no interval and no verdict

Notion = Literal["parity", "odds"]
Serving = Literal["known", "unknown", "batch"]
SERVINGS: dict[Serving, str] = {
    "known": "Row by row, group known",
    "unknown": "Row by row, group unknown",
    "batch": "The batch at once, without labels",
}


@dataclass(frozen=True)
class Task:
    """A data set, whose gap is asked for and how, and whether the group is a feature.

    attributes  one, or several: their intersection
    known       the group is known at serving; rules that read it, and batches, exist there alone
    values      the target is a number, not a decision
    """

    data: str
    attributes: tuple[str, ...]
    notion: Notion
    known: bool = True
    values: bool = False

    @property
    def name(self) -> str:
        return f"{self.data} {' x '.join(self.attributes)} {self.notion}{'' if self.known else ' unknown'}"

    @property
    def servings(self) -> tuple[Serving, ...]:
        return ("known", "batch") if self.known else ("unknown",)


DATA = {
    "dev": ("loanapp", "german", "credit", "student"),
    "final": ("adult", "acs", "compas", "sba", "law", "communities", "employee"),
}
# set -> its attribute, the intersection that is asked for too, whether the target is a number
ATTRIBUTES: dict[str, tuple[str, tuple[str, ...] | None, bool]] = {
    "adult": ("sex", ("sex", "race"), False),
    "acs": ("sex", ("sex", "race"), False),
    "compas": ("race", ("race", "sex"), False),
    "sba": ("business", ("business", "place"), False),
    "loanapp": ("race", None, False),
    "german": ("sex", ("sex", "age_over_25"), False),
    "credit": ("sex", ("sex", "marriage"), False),
    "law": ("race", ("race", "sex"), True),
    "communities": ("black", None, True),
    "employee": ("sex", ("sex", "married"), True),
    "student": ("sex", ("sex", "address"), True),
}


def tasks_of(name: str) -> tuple[Task, ...]:
    """The tasks of one data set."""
    attribute, crossed, values = ATTRIBUTES[name]
    found = [Task(name, (attribute,), "parity", values=values)]
    if not values:
        found += [Task(name, (attribute,), "odds"), Task(name, (attribute,), "parity", known=False)]
    if crossed is not None:
        found.append(Task(name, crossed, "parity", values=values))
    return tuple(found)


def tasks(use: str) -> tuple[Task, ...]:
    """All tasks of "dev" or "final"."""
    if use not in DATA:
        raise InputError(f"use: got {use!r}, expected one of {', '.join(DATA)}")
    return tuple(task for name in DATA[use] for task in tasks_of(name))


# What the result of a cell depends on. Pages, the bootstrap and the command line are not part of it.
MAKES_CELLS = (*LIBRARY, *FITTING, *(f"experiments/evidence/{name}.py" for name in ("protocol", "parts", "bases", "candidates", "cells")))


def code_mark() -> str:
    """The mark of the code that makes cells, this file with the protocol's constants among it."""
    return mark_of(MAKES_CELLS)
