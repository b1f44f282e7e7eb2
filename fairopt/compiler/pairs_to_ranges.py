"""The written-out loop over all pairs of K >= 3 groups with one limit becomes one range; ranges over the same groups become one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from fairopt.compiler.cells_of_rows import Cells
from fairopt.compiler.duplicates import distinct
from fairopt.compiler.items import Item, Members, Removed, Row


def pairs_to_ranges(items: list[Item], cells: Cells, removed: Removed) -> list[Item]:
    """Every complete set of hard rows f_i - f_j in [-t, t], i < j, over K >= 3 masks becomes max f - min f <= t."""
    edges: dict[tuple[object, ...], dict[frozenset[int], tuple[Item, dict[int, Row]]]] = defaultdict(dict)
    position = {id(item): k for k, item in enumerate(items)}
    for item in items:
        ends = _ends(item, cells.names)
        if ends is not None:
            limit = tuple(sorted(map(repr, (a.key for a in item.upper))))
            edges[(item.header, limit)].setdefault(frozenset(ends), (item, ends))
    replaced: dict[int, Item | None] = {}
    for family in edges.values():
        for members in _cliques(set(family)):
            chosen = [family[frozenset(pair)] for pair in _pairs(members)]
            parts: dict[int, set[tuple[object, ...]]] = defaultdict(set)
            for _, ends in chosen:
                for j, row in ends.items():
                    parts[j].add(row.key)
            if any(len(keys) > 1 for keys in parts.values()):
                continue  # the same groups with different constants
            first = min((item for item, _ in chosen), key=lambda item: position[id(item)])
            rows_of = {j: row for _, ends in chosen for j, row in ends.items()}
            members_rows = [rows_of[j] for j in members]
            replaced.update({id(item): None for item, _ in chosen})
            replaced[id(first)] = Item(first.header, members_rows, first.soft, width=first.upper, merged=[i.label for i, _ in chosen])
            removed += [(item.label, f"one of all pairs: part of the range {first.header}") for item, _ in chosen]
    kept = [replaced.get(id(item), item) for item in items]
    return [item for item in kept if item is not None]


def _ends(item: Item, names: list[str]) -> dict[int, Row] | None:
    """The two member rows of mean_i - mean_j in [-t, t]; None for any other item."""
    if item.is_range or item.soft.kind != "hard" or not item.lower or {a.key for a in item.lower} != {(-a).key for a in item.upper}:
        return None
    row = item.rows[0]
    if row.terms or row.constant or row.dense or sorted(row.scales.values()) != [-1.0, 1.0]:
        return None
    return {j: Row({j: 1.0}, (), 0.0, {}, names[j]) for j in row.scales}


def _cliques(edges: set[frozenset[int]]) -> list[list[int]]:
    """Connected components of three or more that are complete."""
    neighbours: dict[int, set[int]] = defaultdict(set)
    for edge in edges:
        a, b = edge
        neighbours[a].add(b)
        neighbours[b].add(a)
    found: list[list[int]] = []
    seen: set[int] = set()
    for start in sorted(neighbours):
        if start in seen:
            continue
        component, todo = {start}, [start]
        while todo:
            for other in neighbours[todo.pop()] - component:
                component.add(other)
                todo.append(other)
        seen |= component
        if len(component) >= 3 and all(len(neighbours[j]) == len(component) - 1 for j in component):
            found.append(sorted(component))
    return found


def _pairs(members: list[int]) -> list[tuple[int, int]]:
    return [(a, b) for k, a in enumerate(members) for b in members[k + 1 :]]


def merge_ranges(items: list[Item], removed: Removed) -> list[Item]:
    """Hard ranges over the same members join to the least width."""
    alike: dict[tuple[int, float], list[Item]] = defaultdict(list)
    for item in items:
        if item.is_range and item.soft.kind == "hard":
            alike[len(item.rows), item.ratio].append(item)
    into = {id(item): target for several in alike.values() if len(several) > 1 for item, target in _same_members(several)}
    kept: list[Item] = []
    for item in items:
        target = into.get(id(item))
        if target is None:
            kept.append(item)
            continue
        target.width = distinct(target.width + item.width)
        removed.append((item.label, f"joined with {target.label}"))
    return kept


def _same_members(items: list[Item]) -> Iterator[tuple[Item, Item]]:
    """Each item over the same rows as an earlier one, and the first of these."""
    masks = [item.rows.masks for item in items if isinstance(item.rows, Members)]
    arrays = len(masks) == len(items)
    first: dict[object, Item] = {}
    for k, item in enumerate(items):
        key: object = np.sort(masks[k]).tobytes() if arrays else frozenset(row.key for row in item.rows)
        target = first.setdefault(key, item)
        if target is not item:
            yield item, target
