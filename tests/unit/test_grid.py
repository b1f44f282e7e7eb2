"""Tolerance 0: equal means exactly, for the groups of one attribute and of two overlapping ones."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fairopt as fo
from fairopt.solve.two_way import cell_changes


def exact_means(y: torch.Tensor, codes: np.ndarray) -> set[Fraction]:
    values = [Fraction(v) for v in y.to(torch.float64).tolist()]
    return {sum((v for v, c in zip(values, codes, strict=True) if c == g), Fraction(0)) / int((codes == g).sum()) for g in np.unique(codes)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(8, 300), groups=st.tuples(st.integers(2, 4), st.integers(2, 4)))
def test_means_of_two_attributes_are_exactly_equal(
    dtype: torch.dtype, bounds: tuple[float, float] | None, seed: int, n: int, groups: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, groups[0], n), rng.integers(0, groups[1], n)
    z = torch.tensor(rng.uniform(0.1, 0.9, n) + 0.1 * a - 0.05 * b, dtype=dtype)
    notion = fo.DemographicParity("a", tolerance=0.0) & fo.DemographicParity("b", tolerance=0.0)
    solution = fo.project(z, notion, sensitive_features={"a": a, "b": b}, bounds=bounds, return_solution=True)
    if solution.status is fo.Status.WITHIN_ROUNDING:
        # only where a cell that must give way has no room: nothing of the kind is drawn without a box
        assert bounds is not None
        return
    assert solution.status is fo.Status.CERTIFIED
    assert len(exact_means(solution.scores, a)) == 1
    assert len(exact_means(solution.scores, b)) == 1
    assert solution.certificate.moved_by_repair <= 64 * float(torch.finfo(dtype).eps)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4))
def test_changes_give_every_group_its_sum(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    present = [(r, c) for r in range(-1, rows) for c in range(-1, columns) if rng.random() < 0.6]
    cells = dict(enumerate(present))
    wanted = rng.integers(-5, 6, len(present))  # changes that exist, so that the sums do not contradict each other
    row = [int(sum(w for w, (r, _) in zip(wanted, present, strict=True) if r == k)) for k in range(rows)]
    column = [int(sum(w for w, (_, c) in zip(wanted, present, strict=True) if c == k)) for k in range(columns)]
    changes = cell_changes(cells, list(row), list(column))
    assert changes is not None
    for k in range(rows):
        assert sum(changes.get(cell, 0) for cell, (r, _) in cells.items() if r == k) == row[k]
    for k in range(columns):
        assert sum(changes.get(cell, 0) for cell, (_, c) in cells.items() if c == k) == column[k]


def test_contradicting_sums_have_no_changes() -> None:
    assert cell_changes({0: (0, 0)}, [1], [2]) is None
