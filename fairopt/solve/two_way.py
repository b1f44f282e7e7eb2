"""Integer cell sums with given sums for the groups of two attributes: a two-way table repaired along a spanning forest.

Groups of two attributes are the rows and columns of a table whose entries are the cells. To give every group a wanted sum, each cell's
sum changes by an integer; on a spanning forest of the table's bipartite graph these changes follow from the leaves inward, and they
are integers because the matrix of such a table is totally unimodular (claim L12).
"""

from __future__ import annotations


def cell_changes(cells: dict[int, tuple[int, int]], row_missing: list[int], column_missing: list[int]) -> dict[int, int] | None:
    """The change of each cell (absent: 0) that adds ``row_missing`` and ``column_missing`` to the groups' sums, or None.

    ``cells``: cell -> (row, column), -1 where a cell belongs to no group of that attribute: such cells can change freely on that side.
    None where the sums of a connected part of the table contradict each other.
    """
    missing: dict[tuple[str, int], int] = {("row", r): v for r, v in enumerate(row_missing)}
    missing |= {("column", c): v for c, v in enumerate(column_missing)}
    free = ("row", -1), ("column", -1)
    edges: dict[tuple[str, int], list[tuple[int, tuple[str, int]]]] = {node: [] for node in (*missing, *free)}
    for cell, (r, c) in cells.items():
        if r < 0 and c < 0:
            continue
        edges["row", r].append((cell, ("column", c)))
        edges["column", c].append((cell, ("row", r)))
    changes: dict[int, int] = {}
    seen: set[tuple[str, int]] = set()
    for root in (*free, *missing):  # the free nodes first: they absorb what their part has left over
        if root in seen:
            continue
        order: list[tuple[tuple[str, int], int, tuple[str, int]]] = []  # node, the cell that leads to it, its parent
        stack = [root]
        seen.add(root)
        while stack:
            node = stack.pop()
            for cell, other in edges[node]:
                if other not in seen:
                    seen.add(other)
                    order.append((other, cell, node))
                    stack.append(other)
        for node, cell, parent in reversed(order):
            change = missing.get(node, 0) if node not in free else 0
            if change:
                changes[cell] = changes.get(cell, 0) + change
                if parent in missing:
                    missing[parent] -= change
                missing[node] = 0
        if root in missing and missing[root] != 0:
            return None
    return changes
