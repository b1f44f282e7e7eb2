"""The drawn problems of the kit: what a failure names rebuilds the problem, and the reference answers for zero rows too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fairopt.testing.draws import draw, wild
from fairopt.testing.oracle import solve_reference


def test_the_description_rebuilds_the_draw() -> None:
    drawn = [*wild(60, 3, max_n=24), draw("pairs", 5, ["box"], n=7)]
    for d in drawn:
        again = eval(d.description, {"draw": draw})  # what a user pastes
        assert again.problem.n == d.problem.n
        assert torch.equal(again.scores, d.scores)
        assert np.array_equal(again.problem.rows.scales, d.problem.rows.scales)
        assert np.array_equal(again.problem.lower, d.problem.lower)


@pytest.mark.parametrize("offset", [0.0, 1e-3])
def test_a_zero_row_does_not_decide_the_scale_of_the_reference(offset: float) -> None:
    """A soft row that moves with nothing but asks for something: its limits over its length would be a scale of 1e297."""
    pytest.importorskip("daqp")
    d = draw("pairs", 2, ["priced"], n=6)
    plain = solve_reference(d.scores.numpy(), d.problem)
    rows = d.problem.rows
    zero = replace(rows, scales=np.vstack([rows.scales, np.zeros(rows.masks.shape[0])]), offset=np.append(rows.offset, offset))
    p = d.problem
    more = replace(
        p, rows=zero, lower=np.append(p.lower, 0.5), upper=np.append(p.upper, np.inf), range_starts=p.range_starts + 1,
        softness=(*p.softness[: p.linear], p.softness[0], *p.softness[p.linear :]), labels=(*p.labels, "zero"),
        constraint_labels=(*p.constraint_labels, "zero"),
    )  # fmt: skip
    found = solve_reference(d.scores.numpy(), more)
    assert np.abs(found.y - plain.y).max() <= 1e-12
