"""Cells: samples that belong to the same events.

First the distinct *combinations* of the codes of the columns that the masks name, found without any (n, groups) array; the masks are
evaluated on that short table. Then combinations with the same membership in all masks merge to one cell, so that samples in no mask
share one untouched cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairopt.notions.events import Column, evaluate
from fairopt.problem import BoolArray, IntArray

_DENSE = 1 << 16  # combinations counted in one table


@dataclass(frozen=True, eq=False)
class Combinations:
    """key (n,) the combination of each sample, codes of each column (c,), counts (c,) >= 1."""

    key: IntArray
    table: dict[int, IntArray]
    counts: IntArray

    def masks(self, keys: Sequence[tuple[Any, ...]]) -> BoolArray:
        """(M, c) membership of each combination in each mask."""
        rows = self.counts.shape[0]
        members = np.empty((len(keys), rows), dtype=np.bool_)
        for k, key in enumerate(keys):
            members[k] = evaluate(key, self.table, rows)
        return members


def combine(columns: Sequence[Column], used: Sequence[int], n: int) -> Combinations:
    """The distinct combinations of the codes of the columns ``used``."""
    done: list[tuple[IntArray, list[int]]] = []  # (key (n,), columns in it), the sizes of which multiply
    table: dict[int, IntArray] = {}
    key = np.zeros(n, dtype=np.int64)
    counts = np.array([n], dtype=np.int64)
    for j in used:
        column = columns[j]
        joint = key * column.size + column.codes if done else column.codes
        size = counts.shape[0] * column.size
        present, joint, counts = _compress(joint, size, n)
        table = {c: codes[present // column.size] for c, codes in table.items()}
        table[j] = present % column.size
        key = joint
        done.append((key, [j]))
    return Combinations(key, table, counts)


def _compress(joint: IntArray, size: int, n: int) -> tuple[IntArray, IntArray, IntArray]:
    """The numbers below ``size`` that occur in ``joint`` (n,), their positions (n,) and counts."""
    if size > max(4 * n, _DENSE):
        present, inverse, counts = np.unique(joint, return_inverse=True, return_counts=True)
        return present, inverse.reshape(n).astype(np.int64), counts.astype(np.int64)
    all_counts = np.bincount(joint, minlength=size)
    present = np.flatnonzero(all_counts)
    if present.shape[0] == size:
        return present, joint, all_counts
    place = np.zeros(size, dtype=np.int64)
    place[present] = np.arange(present.shape[0])
    return present, place[joint], all_counts[present]


def merge(members: BoolArray) -> tuple[IntArray, BoolArray]:
    """Cells of combinations: (c,) the cell of each combination, and (M, C) the masks' membership by cell. ``members`` (M, c)."""
    combinations = members.shape[1]
    if members.shape[0] == 0:
        return np.zeros(combinations, dtype=np.int64), np.zeros((0, 1), dtype=np.bool_)
    packed = np.ascontiguousarray(np.packbits(members, axis=0).T)  # (c, bytes)
    seen: dict[bytes, int] = {}
    cell = np.empty(combinations, dtype=np.int64)
    first: list[int] = []
    for k in range(combinations):
        word = packed[k].tobytes()
        if word not in seen:
            seen[word] = len(first)
            first.append(k)
        cell[k] = seen[word]
    return cell, np.ascontiguousarray(members[:, first])
