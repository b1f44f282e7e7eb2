"""Reading a notion's constraints: masks become numbers, constraints about absent groups are set aside.

A constraint that takes a mean over nobody is vacuous and dropped whole (dropping a term would break the zero sum of its row). Of a
range only the member without samples is dropped; a range left with fewer than two members is vacuous.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fairopt.basics.arrays import BoolArray, IntArray
from fairopt.basics.errors import InputError
from fairopt.basics.sparse import SparseRows, entries_of
from fairopt.compiler.cells_of_rows import Cells
from fairopt.compiler.items import Item, Row, Soft
from fairopt.notions.algebra import Leaf, Notion, constraints_on
from fairopt.notions.amount import Amount, amount
from fairopt.notions.batch import Batch
from fairopt.notions.cells import Combinations, combine, merge
from fairopt.notions.events import Mask, columns_of
from fairopt.notions.functional import Constraint, Functional


@dataclass(frozen=True, eq=False)
class Gathered:
    """Items with their masks: cell (n,), masks (M, C) by cell, counts (C,) and mask_counts (M,), names (M,), what was dropped and why."""

    items: list[Item]
    cell: IntArray
    masks: BoolArray | SparseRows
    counts: IntArray
    mask_counts: IntArray
    names: list[str]
    dropped: tuple[tuple[str, str], ...]
    combinations: Combinations

    @cached_property
    def cells(self) -> Cells:
        """What presolve knows of the cells."""
        return Cells(self.masks, self.counts, self.mask_counts, self.names)


def header_of(leaf: Leaf, constraint: Constraint) -> str:
    """'DemographicParity(sex | race=white)'."""
    inside = " | ".join(w for w in (constraint.attribute, constraint.given) if w)
    return f"{leaf.notion.name}({inside})"


def soft_of(leaf: Leaf) -> Soft:
    if leaf.kind == "hard":
        return Soft()
    return Soft(leaf.kind, amount(leaf.weight, "rho or gamma"), leaf.source if leaf.kind == "budget" else -1)


def gather(notion: Notion, batch: Batch) -> Gathered:
    """All constraints of ``notion`` on ``batch``."""
    read = constraints_on(notion, batch)
    masks: dict[tuple[object, ...], Mask] = {}
    for _, constraint in read:
        for functional in constraint.functionals:
            for mask in _masks(functional):
                masks.setdefault(mask.key, mask)
    used = sorted(set().union(*(columns_of(key) for key in masks)))
    combinations = combine(batch.columns, used, batch.n)
    members = combinations.masks(list(masks))  # (masks, combinations)
    sizes = _sizes(members, combinations.counts)
    number, kept = _number(list(masks), members, sizes)
    cell_of, by_cell = merge(members.take(np.array(kept, dtype=np.int64)) if isinstance(members, SparseRows) else members[kept])
    counts = np.zeros(by_cell.shape[1], dtype=np.int64)
    np.add.at(counts, cell_of, combinations.counts)
    identity = np.array_equal(cell_of, np.arange(cell_of.shape[0]))
    cell = combinations.key if identity else cell_of[combinations.key]
    items: list[Item] = []
    dropped: list[tuple[str, str]] = []
    softs: dict[int, Soft] = {}
    for leaf, constraint in read:
        soft = softs.setdefault(id(leaf), soft_of(leaf))
        _read(header_of(leaf, constraint), constraint, soft, number, items, dropped)
    every = list(masks.values())
    names = [every[k].name for k in kept]
    return Gathered(items, cell, by_cell, counts, sizes[kept], names, tuple(dropped), combinations)


def _sizes(members: BoolArray | SparseRows, counts: IntArray) -> IntArray:
    """(M,) samples in each mask."""
    if isinstance(members, SparseRows):
        return (members @ counts).astype(np.int64)  # exact below 2^53
    return np.asarray(members.astype(np.int64) @ counts)


def _masks(functional: Functional) -> Iterator[Mask]:
    yield from (mask for _, mask in functional.means)
    yield from (mask for _, mask, _ in functional.constants)


def _number(
    keys: list[tuple[object, ...]], members: BoolArray | SparseRows, sizes: IntArray
) -> tuple[dict[tuple[object, ...], int], list[int]]:
    """Number the masks that have samples; masks with the same members share a number, those without samples get -1."""
    packed = None if isinstance(members, SparseRows) else np.packbits(members, axis=1)
    seen: dict[bytes, int] = {}
    kept: list[int] = []
    number: dict[tuple[object, ...], int] = {}
    for k, key in enumerate(keys):
        if sizes[k] == 0:
            number[key] = -1
            continue
        word = packed[k].tobytes() if packed is not None else entries_of(members, k).tobytes()
        if word not in seen:
            seen[word] = len(kept)
            kept.append(k)
        number[key] = seen[word]
    return number, kept


def _read(
    header: str,
    constraint: Constraint,
    soft: Soft,
    number: dict[tuple[object, ...], int],
    items: list[Item],
    dropped: list[tuple[str, str]],
) -> None:
    """One constraint into ``items``, or into ``dropped``."""
    if constraint.width is None:
        functional = constraint.functionals[0]
        absent = _absent(functional, number)
        if absent:
            dropped.append((f"{header}: {functional.label()}", f"no sample in {', '.join(absent)}"))
            return
        row, moving = _row(functional, number)
        lower = () if constraint.lower is None else (constraint.lower.plus(-moving) if moving.moves else constraint.lower,)
        upper = () if constraint.upper is None else (constraint.upper.plus(-moving) if moving.moves else constraint.upper,)
        items.append(Item(header, [row], soft, lower, upper))
        return
    rows: list[Row] = []
    for functional in constraint.functionals:
        absent = _absent(functional, number)
        if absent:
            dropped.append((f"{header}: {functional.label()}", f"no sample in {', '.join(absent)}"))
            continue
        row, moving = _row(functional, number)
        if moving.moves:
            raise InputError(f"{header}: a member of a range holds a tensor as a constant; use plain numbers inside batch.range(...)")
        rows.append(row)
    if len(rows) < 2:
        dropped.append((header, "fewer than two groups have samples"))
        return
    items.append(Item(header, rows, soft, width=(constraint.width,), ratio=1.0 if constraint.ratio is None else constraint.ratio))


def _absent(functional: Functional, number: dict[tuple[object, ...], int]) -> list[str]:
    return list(dict.fromkeys(mask.name for mask in _masks(functional) if number[mask.key] < 0))


def _row(functional: Functional, number: dict[tuple[object, ...], int]) -> tuple[Row, Amount]:
    """The functional with numbered masks, and the part of its constant that moves (which belongs to the limits)."""
    scales: dict[int, float] = {}
    for scale, mask in functional.means:
        j = number[mask.key]
        scales[j] = scales.get(j, 0.0) + scale
    constants: dict[tuple[int, int], float] = {}
    for scale, mask, values in functional.constants:
        place = (number[mask.key], values)
        constants[place] = constants.get(place, 0.0) + scale
    dense: dict[int, float] = {}
    for scale, values in functional.dense:
        dense[values] = dense.get(values, 0.0) + scale
    moving = Amount(0.0, functional.constant.terms)
    row = Row(
        {j: s for j, s in scales.items() if s != 0},
        tuple((s, m, v) for (m, v), s in constants.items() if s != 0),
        functional.constant.constant,
        {v: s for v, s in dense.items() if s != 0},
        functional.label(),
    )
    return row, moving
