"""Tables of two attributes: changes of the cells that give every group its sum, small and spread."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fairopt.solve.finish.two_way import FREE, Table, cell_changes


def table_of(present: list[tuple[int, int]], rows: int, columns: int) -> Table:
    """Rows are the groups 0 .. rows - 1, columns those after them; -1: in no group of that attribute."""
    groups = [[r] * (r >= 0) + [rows + c] * (c >= 0) for r, c in present]
    table = Table.of(groups, rows + columns)
    assert table is not None
    return table


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 5))
def test_changes_give_every_group_its_sum(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    present = [(r, c) for r in range(-1, rows) for c in range(-1, columns) if (r, c) != (-1, -1) and rng.random() < 0.6]
    if not present:
        return
    table = table_of(present, rows, columns)
    size = int(10 ** rng.integers(1, 18))
    made = rng.integers(-size, size + 1, len(present)).tolist()  # changes that exist, so that the sums do not contradict each other
    movers = {u: int(rng.integers(1, 1000)) for u in range(len(present)) if rng.random() < 0.8}
    made = [change if u in movers else 0 for u, change in enumerate(made)]
    wanted = [sum(made[u] for u in cells) for cells in table.members]
    forest = table.spanning({u: -count for u, count in movers.items()})
    changes = cell_changes(table, forest, movers, list(wanted))
    assert changes is not None
    assert changes.keys() <= movers.keys()
    assert [sum(changes.get(u, 0) for u in cells) for cells in table.members] == wanted


def test_changes_are_shared_by_the_scores_that_may_move() -> None:
    table = table_of([(r, c) for r in range(3) for c in range(3)], 3, 3)
    movers = dict.fromkeys(range(9), 100)
    wanted = [900, 0, -900, 300, 300, -600]
    changes = cell_changes(table, table.spanning(dict.fromkeys(range(9), 0)), movers, wanted)
    assert changes is not None
    assert max(map(abs, changes.values())) <= 510  # 900 / 3 + 600 / 3, and a rounding: a bare spanning tree asks one cell for 1,500


def test_contradicting_sums_have_no_changes() -> None:
    table = table_of([(0, 0)], 1, 1)
    assert cell_changes(table, [0], {0: 1}, [1, 2]) is None
    assert cell_changes(table, [0], {0: 1}, [2, 2]) == {0: 2}


def test_parts_that_nothing_opens_are_closed() -> None:
    table = table_of([(0, 0), (1, 0), (2, 1), (2, FREE)], 3, 2)
    assert table.closed({0, 1, 2, 3}) == [[0, 1, 3]]
    assert table.closed({0, 2}) == [[0, 3], [2, 4]]


def test_three_attributes_are_no_table() -> None:
    assert Table.of([[0, 1], [1, 2], [0, 2]], 3) is None
