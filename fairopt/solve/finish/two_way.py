"""Integer cell sums with given sums for the groups of two attributes: a two-way table.

Groups of two attributes are the rows and columns of a table whose entries are the cells. The changes that give every group its sum are
first spread over all cells as evenly as they go (least squares, rounded), and what rounding leaves is repaired on a spanning forest of the
table's bipartite graph: there the changes follow from the leaves inward, and they are integers because the matrix of such a table is
totally unimodular (claim L12).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

FREE = -1  # the node of "no group": it takes up any sum
DENSE = 1200  # groups up to which the even spread is worked out


@dataclass(frozen=True, eq=False)
class Table:
    """ends: cell -> its (row group, column group), FREE where it is in none; side: group -> 0 (a row) or 1; members: group -> its cells."""

    ends: list[tuple[int, int]]
    side: list[int]
    members: list[list[int]]

    @classmethod
    def of(cls, groups: list[list[int]], count: int) -> Table | None:
        """From the one or two groups of each cell; None where the groups cannot be told into rows and columns."""
        beside: list[set[int]] = [set() for _ in range(count)]
        members: list[list[int]] = [[] for _ in range(count)]
        for u, pair in enumerate(groups):
            for g in pair:
                members[g].append(u)
                beside[g] |= set(pair) - {g}
        side = [-1] * count
        for root in range(count):
            if side[root] >= 0:
                continue
            side[root], todo = 0, [root]
            while todo:  # every group enters once
                g = todo.pop()
                for other in beside[g]:
                    if side[other] == side[g]:
                        return None
                    if side[other] < 0:
                        side[other] = 1 - side[g]
                        todo.append(other)
        ends = []
        for pair in groups:
            by_side = {side[g]: g for g in pair}
            ends.append((by_side.get(0, FREE), by_side.get(1, FREE)))
        return cls(ends, side, members)

    def spanning(self, preference: dict[int, Any]) -> list[int]:
        """A forest of cells that joins all groups that the cells of ``preference`` can join, the least first (Kruskal)."""
        forest = _Sets()
        return [u for u in sorted(preference, key=lambda u: (preference[u], u)) if forest.join(*self.ends[u])]

    def closed(self, cells: set[int]) -> list[list[int]]:
        """The groups of each part that ``cells`` join and that no cell opens: its rows and its columns have the same sum."""
        sets = _Sets()
        for u in sorted(cells):
            sets.join(*self.ends[u])
        parts: dict[int, list[int]] = defaultdict(list)
        for g in range(len(self.side)):
            parts[sets.find(g)].append(g)
        return [part for root, part in parts.items() if root != sets.find(FREE) and len(part) > 1]


class _Sets:
    """Disjoint sets."""

    def __init__(self) -> None:
        self.parent: dict[int, int] = {}

    def find(self, a: int) -> int:
        path = []
        while (above := self.parent.get(a, a)) != a:  # upwards in a tree
            path.append(a)
            a = above
        for b in path:
            self.parent[b] = a
        return a

    def join(self, a: int, b: int) -> bool:
        """Whether they were apart."""
        a, b = self.find(a), self.find(b)
        if a != b:
            self.parent[a] = b
        return a != b


def cell_changes(table: Table, forest: list[int], weights: dict[int, int], wanted: list[int]) -> dict[int, int] | None:
    """Changes of the cells of ``weights`` that add ``wanted`` (groups,) to the groups' sums; None where the sums contradict each other.

    ``forest``: cells of a spanning forest; ``weights``: cell -> what it should take of a change (its scores that may move).
    """
    missing = list(wanted)
    changes: dict[int, int] = defaultdict(int)
    for u, change in _even(table, weights, missing).items():
        changes[u] += change
        for g in table.ends[u]:
            if g != FREE:
                missing[g] -= change
    beside: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for u in forest:
        a, b = table.ends[u]
        beside[a].append((u, b))
        beside[b].append((u, a))
    seen: set[int] = set()
    for root in (FREE, *range(len(missing))):  # FREE first: it absorbs what its part has left over
        if root in seen:
            continue
        order: list[tuple[int, int, int]] = []  # group, the cell that leads to it, its parent
        todo = [root]
        seen.add(root)
        while todo:
            g = todo.pop()
            for u, other in beside[g]:
                if other not in seen:
                    seen.add(other)
                    order.append((other, u, g))
                    todo.append(other)
        for g, u, parent in reversed(order):
            changes[u] += missing[g]
            if parent != FREE:
                missing[parent] -= missing[g]
            missing[g] = 0
        if root != FREE and missing[root] != 0:
            return None
    return {u: change for u, change in changes.items() if change}


def _even(table: Table, weights: dict[int, int], wanted: list[int]) -> dict[int, int]:
    """Whole changes near those of least  sum change^2 / weight  with the wanted sums; none for very large tables."""
    count = len(wanted)
    if not any(wanted) or count > DENSE or max(map(abs, wanted)).bit_length() > 900:
        return {}
    laplacian = np.zeros((count, count))
    for u, weight in weights.items():
        inner = [g for g in table.ends[u] if g != FREE]
        laplacian[np.ix_(inner, inner)] += float(weight)
    size = float(max(map(abs, wanted)))
    potential = np.linalg.lstsq(laplacian, np.array([w / size for w in map(float, wanted)]), rcond=1e-12)[0]
    return {u: round(size * weight * float(sum(potential[g] for g in table.ends[u] if g != FREE))) for u, weight in weights.items()}
