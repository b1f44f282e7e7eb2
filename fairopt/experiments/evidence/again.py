"""One finished cell of an experiment, made again: its run with all other cells given, so that nothing else is worked out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fairopt.basics.errors import InputError
from fairopt.basics.finished_cells import Record, line_of
from fairopt.experiments.reproduce import Settings, experiment
from fairopt.experiments.store import Store

A_TIME = "seconds"  # in the name of a figure: another run takes another time


def made_again(name: str, cells: Mapping[str, Record], drawn: str, data: Path | None = None) -> Record:
    """The record of the cell ``drawn``; ``cells``: key -> record of all, keys as ``line_of`` writes them.

    InputError where this code's run has no such cell, or asks for one that is not stored.
    """
    with _OneAnew(name, cells, drawn) as store:
        try:
            experiment(name)(Settings(name, data), store, lambda _: None)
        except _Made as made:
            return made.record
    raise InputError("this code has no such cell")


def distances(stored: Any, made: Any, name: str = "") -> Iterator[float]:
    """Between each stored figure and the one that was made; infinite where one is absent, or where words differ. No times."""
    if A_TIME in name:
        return
    if isinstance(stored, dict) and isinstance(made, dict) and stored.keys() == made.keys():
        for key in stored:
            yield from distances(stored[key], made[key], key)
    elif isinstance(stored, list) and isinstance(made, list) and len(stored) == len(made):
        for one, other in zip(stored, made, strict=True):
            yield from distances(one, other)
    elif _is_figure(stored) and _is_figure(made):
        yield abs(stored - made)
    else:
        yield 0.0 if type(stored) is type(made) and stored == made else float("inf")


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class _Made(Exception):
    """The drawn cell is made: the run may end."""

    def __init__(self, record: Record) -> None:
        self.record = record


class _OneAnew(Store):
    """All cells but one are finished, and the run ends with that one."""

    def __init__(self, name: str, cells: Mapping[str, Record], drawn: str) -> None:
        super().__init__(None, name)
        self.cells, self.drawn = cells, drawn

    def cell(self, key: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> Record:
        name = line_of(key)
        if name == self.drawn:
            raise _Made(json.loads(line_of(make())))
        if name not in self.cells:
            raise InputError(f"this code asks for a cell that is not stored: {name}")
        return json.loads(line_of(self.cells[name]))  # type: ignore[no-any-return]  # a copy: the caller may change it
