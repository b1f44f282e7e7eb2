"""Cells: samples that belong to the same events.

First the distinct *combinations* of the codes of the columns that the masks name, found without any (n, groups) array; the masks are
evaluated on that short table. Then combinations with the same membership in all masks merge to one cell, so that samples in no mask
share one untouched cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fairopt.basics.arrays import BoolArray, IntArray
from fairopt.basics.sparse import LARGE, SparseRows
from fairopt.notions.events import Column, columns_of, evaluate

_DENSE = 1 << 16  # combinations counted in one table


@dataclass(frozen=True, eq=False)
class Combinations:
    """key (n,) the combination of each sample, codes of each column (c,), counts (c,) >= 1."""

    key: IntArray
    table: dict[int, IntArray]
    counts: IntArray

    def masks(self, keys: Sequence[tuple[Any, ...]]) -> BoolArray | SparseRows:
        """(M, c) membership of each combination in each mask; sparse where there are many masks with few members."""
        rows = self.counts.shape[0]
        if len(keys) * rows > LARGE:
            found = self._sparse(keys)
            if found is not None:
                return found
        members = np.empty((len(keys), rows), dtype=np.bool_)
        for k, key in enumerate(keys):
            members[k] = evaluate(key, self.table, rows)
        return members

    def _sparse(self, keys: Sequence[tuple[Any, ...]]) -> SparseRows | None:
        """The members of each mask, or None where that takes more memory than the whole table."""
        most = len(keys) * self.counts.shape[0] // 8
        members: list[IntArray] = []
        total = 0
        for key in keys:
            members.append(self.members(key))
            total += members[-1].shape[0]
            if total > most:
                return None
        return SparseRows.of_lists(members, None, self.counts.shape[0])

    def members(self, key: tuple[Any, ...]) -> IntArray:
        """The combinations in one mask. Of 'code k of column j and ...' only those with the code are looked at."""
        if key[0] == "=":
            return self._with_code(key[1], key[2])
        atoms = [(part, other) for part, other in (key[1:], key[:0:-1]) if part[0] == "="] if key[0] == "&" else []
        if not atoms:
            return np.flatnonzero(evaluate(key, self.table, self.counts.shape[0]))
        atom, other = min(atoms, key=lambda pair: self._with_code(pair[0][1], pair[0][2]).shape[0])
        among = self._with_code(atom[1], atom[2])
        table = {j: self.table[j][among] for j in columns_of(other)}
        return among[evaluate(other, table, among.shape[0])]

    def _with_code(self, column: int, code: int) -> IntArray:
        """The combinations with one code, rising."""
        if column not in self._by_code:
            codes = self.table[column]
            order = np.argsort(codes, kind="stable")
            self._by_code[column] = order, np.searchsorted(codes[order], np.arange(int(codes.max(initial=0)) + 2))
        order, starts = self._by_code[column]
        return order[starts[code] : starts[code + 1]] if code + 1 < starts.shape[0] else order[:0]

    @cached_property
    def _by_code(self) -> dict[int, tuple[IntArray, IntArray]]:
        return {}


def combine(columns: Sequence[Column], used: Sequence[int], n: int, copies: IntArray | None = None) -> Combinations:
    """The distinct combinations of the codes of the columns ``used``. ``copies`` (n,): how many samples each position stands for."""
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
    if copies is not None:
        counts = np.zeros_like(counts)
        np.add.at(counts, key, copies)
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


def merge(members: BoolArray | SparseRows) -> tuple[IntArray, BoolArray | SparseRows]:
    """Cells of combinations: (c,) the cell of each combination, and (M, C) the masks' membership by cell. ``members`` (M, c)."""
    if isinstance(members, SparseRows):
        return _merge_sparse(members)
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


def _merge_sparse(members: SparseRows) -> tuple[IntArray, BoolArray | SparseRows]:
    by_combination = members.transposed
    same = alike(by_combination)
    first = np.flatnonzero(same == np.arange(members.columns))  # in the order in which they come
    cell = np.searchsorted(first, same).astype(np.int64)
    merged = members if first.shape[0] == members.columns else by_combination.take(first).transposed
    return cell, merged.toarray() if merged.shape[0] * merged.shape[1] <= LARGE else merged


def alike(rows: SparseRows) -> IntArray:
    """(k,) the first row that has the same columns as each: by a random mark, then exactly."""
    draw = np.random.default_rng(0)
    for _ in range(3):
        marks = draw.integers(0, 1 << 63, rows.columns, dtype=np.int64).astype(np.uint64)
        total = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(marks[rows.index], dtype=np.uint64)])
        mark = total[rows.starts[1:]] - total[rows.starts[:-1]]  # modulo 2^64
        _, first, inverse = np.unique(mark, return_index=True, return_inverse=True)
        same = first[inverse.reshape(-1)].astype(np.int64)
        other = rows.take(same)
        if np.array_equal(other.starts, rows.starts) and np.array_equal(other.index, rows.index):
            return same
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(rows.row(k)[0].tobytes(), k) for k in range(len(rows))], dtype=np.int64)
