"""Reading a notion's constraints: masks become numbers, constraints about absent groups are set aside.

A constraint that takes a mean over nobody is vacuous and dropped whole (dropping a term would break the zero sum of its row). Of a
range only the member without samples is dropped; a range left with fewer than two members is vacuous.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fairopt.basics.arrays import BoolArray, IntArray
from fairopt.basics.errors import InputError
from fairopt.basics.sparse import SparseRows
from fairopt.compiler.cells_of_rows import Cells
from fairopt.compiler.items import Item, Members, Row, Soft
from fairopt.compiler.numbered import Key, Numbered, block_key, masks_of, numbered
from fairopt.notions.algebra import Leaf, Notion, constraints_on
from fairopt.notions.amount import Amount, amount
from fairopt.notions.batch import Batch
from fairopt.notions.cells import Combinations, merge
from fairopt.notions.functional import Constraint, Functional, GroupMeans


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
    found = numbered([constraint for _, constraint in read], batch)
    cell_of, by_cell = merge(found.members)
    counts = np.zeros(by_cell.shape[1], dtype=np.int64)
    np.add.at(counts, cell_of, found.combinations.counts)
    identity = np.array_equal(cell_of, np.arange(cell_of.shape[0]))
    cell = found.combinations.key if identity else cell_of[found.combinations.key]
    items: list[Item] = []
    dropped: list[tuple[str, str]] = []
    softs: dict[int, Soft] = {}
    for leaf, constraint in read:
        soft = softs.setdefault(id(leaf), soft_of(leaf))
        _read(header_of(leaf, constraint), constraint, soft, found, items, dropped)
    return Gathered(items, cell, by_cell, counts, found.sizes, found.names, tuple(dropped), found.combinations)


def _read(
    header: str,
    constraint: Constraint,
    soft: Soft,
    found: Numbered,
    items: list[Item],
    dropped: list[tuple[str, str]],
) -> None:
    """One constraint into ``items``, or into ``dropped``."""
    number = found.number
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
    rows: Sequence[Row]
    if isinstance(constraint.functionals, GroupMeans) and block_key(constraint.functionals) in found.blocks:
        rows = _block(header, constraint.functionals, found.blocks[block_key(constraint.functionals)], dropped)
    else:
        rows = _members(header, constraint.functionals, number, dropped)
    if len(rows) < 2:
        dropped.append((header, "fewer than two groups have samples"))
        return
    items.append(Item(header, rows, soft, width=(constraint.width,), ratio=1.0 if constraint.ratio is None else constraint.ratio))


def _block(header: str, means: GroupMeans, numbers: IntArray, dropped: list[tuple[str, str]]) -> Members:
    """The means over groups that have samples."""
    groups = means.groups
    for k in np.flatnonzero(numbers < 0).tolist():
        dropped.append((f"{header}: {groups[k].name or '0'}", f"no sample in {groups[k].name}"))
    there = np.flatnonzero(numbers >= 0)
    return Members(numbers[there], [groups[k].name or "0" for k in there.tolist()])


def _members(header: str, functionals: Iterable[Functional], number: Mapping[Key, int], dropped: list[tuple[str, str]]) -> list[Row]:
    """The rows of a range whose masks have samples."""
    rows: list[Row] = []
    for functional in functionals:
        absent = _absent(functional, number)
        if absent:
            dropped.append((f"{header}: {functional.label()}", f"no sample in {', '.join(absent)}"))
            continue
        row, moving = _row(functional, number)
        if moving.moves:
            raise InputError(f"{header}: a member of a range holds a tensor as a constant; use plain numbers inside batch.range(...)")
        rows.append(row)
    return rows


def _absent(functional: Functional, number: Mapping[Key, int]) -> list[str]:
    return list(dict.fromkeys(mask.name for mask in masks_of(functional) if number[mask.key] < 0))


def _row(functional: Functional, number: Mapping[Key, int]) -> tuple[Row, Amount]:
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
