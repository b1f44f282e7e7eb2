"""Which rows train, which say when to stop, and which calibrate.

Calibration rows see no training: the population bound (claim Q1) is for rows that the network has not seen. Within a group they are drawn
uniformly, so that they are a sample of that group; every group gives at least one, so that every group can be served. A group of one
row calibrates and does not train.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fairopt.basics.errors import InputError

Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shares:
    """Positions of the rows of each part, ascending; they share none and leave none out."""

    train: Index
    validation: Index
    calibration: Index


def combinations(columns: Mapping[str, npt.NDArray[Any]]) -> Index:
    """(n,) a number for the combination of values of each row."""
    code: Index | None = None
    for column in columns.values():
        own = _numbered(column)
        code = own if code is None else np.unique(code * (own.max(initial=0) + 1) + own, return_inverse=True)[1].reshape(-1)
    if code is None:
        raise InputError("columns: got none, expected at least one")
    return code.astype(np.int64)


def _numbered(column: npt.NDArray[Any]) -> Index:
    """(n,) numbers of the values, in their order; None comes last."""
    if column.dtype != object:
        return np.unique(column, return_inverse=True)[1].reshape(-1)
    listed = column.tolist()
    number = {value: k for k, value in enumerate(sorted(set(listed), key=lambda v: (v is None, 0 if v is None else v)))}
    return np.array([number[v] for v in listed], dtype=np.int64)


def shares(
    groups: Index, strata: Index, calibration: float, validation: float, generator: np.random.Generator, *, by_label: bool = False
) -> Shares:
    """Split n rows. groups (n,): each gives its share and at least one row to calibration; strata (n,): groups with classes.

    by_label: calibration is drawn within the strata too, for notions on the groups of one label.
    """
    n = len(groups)
    everyone = np.arange(n)
    chosen = _drawn(strata if by_label else groups, calibration, generator)
    rest = everyone[~chosen]
    stops = _drawn(strata[rest], validation, generator) if validation else np.zeros(len(rest), dtype=bool)
    if validation and not stops.any() and len(rest) > 1:
        stops[generator.integers(len(rest))] = True
    parts = Shares(rest[~stops], rest[stops], everyone[chosen])
    if not len(parts.train):
        raise InputError(f"fit: got {n} sample(s), of which none is left for training; expected several in a group (n_samples={n})")
    return parts


def members_of(parts: Shares, strata: Index, members: int, generator: np.random.Generator, *, validates: bool) -> list[Shares]:
    """The parts of each of several networks: every row of training stops one of them and trains the others; strata (n,) as in ``shares``.

    Without ``validates`` all of them train on all these rows. InputError where a network would have nothing to train on.
    """
    rows = np.sort(np.concatenate([parts.train, parts.validation]))
    if not validates:
        return [Shares(rows, rows[:0], parts.calibration)] * members
    fold = np.empty(len(rows), dtype=np.int64)
    start = 0
    for code in np.unique(strata[rows]):  # one after another round the folds, so that all are of one size
        inside = generator.permutation(np.flatnonzero(strata[rows] == code))
        fold[inside] = (start + np.arange(len(inside))) % members
        start += len(inside)
    found = [Shares(rows[fold != k], rows[fold == k], parts.calibration) for k in range(members)]
    if not all(len(one.train) and len(one.validation) for one in found):
        raise InputError(f"members: got {members} for {len(rows)} training rows, expected fewer")
    return found


def _drawn(codes: Index, fraction: float, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """(n,) a uniform choice of ``fraction`` of the rows of each code: a whole number next to it, at least 1."""
    chosen = np.zeros(len(codes), dtype=bool)
    for code in np.unique(codes):
        rows = generator.permutation(np.flatnonzero(codes == code))
        chosen[rows[: max(1, int(len(rows) * fraction + generator.random()))]] = True
    return chosen
