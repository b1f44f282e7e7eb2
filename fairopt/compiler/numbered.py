"""The masks that constraints name, as a matrix over the combinations of codes, and their numbers.

Masks without samples have none, and masks with the same members share one. Means over the groups of an attribute (``GroupMeans``) are
read as a block: thousands of groups in thousands of strata are two arrays, found by one sort of the combinations a stratum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fairopt.basics.arrays import BoolArray, IntArray
from fairopt.basics.sparse import LARGE, SparseRows, entries_of
from fairopt.notions.batch import Batch
from fairopt.notions.cells import Combinations, alike, combine
from fairopt.notions.events import Mask, columns_of
from fairopt.notions.functional import Constraint, Functional, GroupMeans

MANY = 1024  # means over groups from which they are read as blocks
Key = tuple[object, ...]


@dataclass(frozen=True, eq=False)
class Numbered:
    """members (K, c) of the K numbered masks in the combinations, sizes (K,), names (K,); number: of each mask by its key, -1 without
    samples; blocks: of the means over groups by ``block_key``, (groups,) numbers."""

    combinations: Combinations
    members: BoolArray | SparseRows
    sizes: IntArray
    names: list[str]
    number: dict[Key, int]
    blocks: dict[Key, IntArray]


def masks_of(functional: Functional) -> Iterator[Mask]:
    yield from (mask for _, mask in functional.means)
    yield from (mask for _, mask, _ in functional.constants)


def block_key(means: GroupMeans) -> Key:
    """Equal keys: the same masks."""
    return means.groups[0].key, len(means.groups), means.event.key


def numbered(constraints: Sequence[Constraint], batch: Batch) -> Numbered:
    """The masks of ``constraints``."""
    several = [c.functionals for c in constraints if isinstance(c.functionals, GroupMeans)]
    if sum(map(len, several)) >= max(MANY, 1):
        return _in_blocks(constraints, batch)
    masks: dict[Key, Mask] = {}
    for constraint in constraints:
        for functional in constraint.functionals:
            for mask in masks_of(functional):
                masks.setdefault(mask.key, mask)
    combinations = combine(batch.columns, sorted(set().union(*(columns_of(key) for key in masks))), batch.positions, batch.copies)
    members = combinations.masks(list(masks))  # (masks, combinations)
    sizes = _sizes(members, combinations.counts)
    number, kept = _number(list(masks), members, sizes)
    names = [mask.name for mask in masks.values()]
    return Numbered(combinations, _taken(members, kept), sizes[kept], [names[k] for k in kept], number, {})


def _in_blocks(constraints: Sequence[Constraint], batch: Batch) -> Numbered:
    """As ``numbered``, with the means over groups as blocks."""
    blocks: dict[Key, GroupMeans | Mask] = {}  # in the order in which they come, like the masks that they stand for
    for constraint in constraints:
        if isinstance(constraint.functionals, GroupMeans):
            if constraint.functionals.groups:
                blocks.setdefault(block_key(constraint.functionals), constraint.functionals)
            continue
        for functional in constraint.functionals:
            for mask in masks_of(functional):
                blocks.setdefault(mask.key, mask)
    used = sorted(set().union(*(_columns(block) for block in blocks.values())))
    combinations = combine(batch.columns, used, batch.positions, batch.copies)
    parts = [_members(block, combinations) for block in blocks.values()]
    members = SparseRows(
        np.concatenate([[0], np.cumsum(np.concatenate([size for size, _ in parts]))]).astype(np.int64),
        np.concatenate([index for _, index in parts]),
        np.ones(sum(index.size for _, index in parts), dtype=np.bool_),
        combinations.counts.shape[0],
    )
    sizes = _sizes(members, combinations.counts)
    first = alike(members)
    kept = np.flatnonzero((first == np.arange(first.size)) & (sizes > 0))
    place = np.searchsorted(kept, first)
    number = np.where(sizes > 0, place, -1)
    ends = np.cumsum([size.size for size, _ in parts])
    numbers = dict(zip(blocks, np.split(number, ends[:-1]), strict=True))
    names = [name for block in blocks.values() for name in (_names(block))]
    chosen = members.take(kept)
    few = len(members) * members.columns <= LARGE or members.index.size > len(members) * members.columns // 8
    return Numbered(
        combinations,
        chosen.toarray() if few else chosen,
        sizes[kept],
        [names[k] for k in kept.tolist()],
        {key: int(found[0]) for key, found in numbers.items() if isinstance(blocks[key], Mask)},
        {key: found for key, found in numbers.items() if isinstance(blocks[key], GroupMeans)},
    )


def _columns(block: GroupMeans | Mask) -> set[int]:
    return columns_of(block.key) if isinstance(block, Mask) else columns_of(block.groups[0].key) | columns_of(block.event.key)


def _names(block: GroupMeans | Mask) -> Iterable[str]:
    return (block.name,) if isinstance(block, Mask) else (group.name for group in block.groups)


def _members(block: GroupMeans | Mask, combinations: Combinations) -> tuple[IntArray, IntArray]:
    """(masks,) the number of members of each mask of a block, and the members, mask by mask, each rising."""
    if isinstance(block, Mask):
        held = combinations.members(block.key)
        return np.array([held.size], dtype=np.int64), held
    inside = combinations.members(block.event.key)
    codes = combinations.table[block.groups[0].key[1]][inside]
    order = np.argsort(codes, kind="stable")
    return np.bincount(codes, minlength=len(block.groups)), inside[order]


def _sizes(members: BoolArray | SparseRows, counts: IntArray) -> IntArray:
    """(M,) samples in each mask."""
    if isinstance(members, SparseRows):
        return (members @ counts).astype(np.int64)  # exact below 2^53
    return np.asarray(members.astype(np.int64) @ counts)


def _number(keys: list[Key], members: BoolArray | SparseRows, sizes: IntArray) -> tuple[dict[Key, int], list[int]]:
    """Number the masks that have samples; masks with the same members share a number, those without samples get -1."""
    packed = None if isinstance(members, SparseRows) else np.packbits(members, axis=1)
    seen: dict[bytes, int] = {}
    kept: list[int] = []
    number: dict[Key, int] = {}
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


def _taken(members: BoolArray | SparseRows, kept: list[int]) -> BoolArray | SparseRows:
    return members.take(np.array(kept, dtype=np.int64)) if isinstance(members, SparseRows) else members[kept]
