"""Sums of scores changed exactly by moves of a few ulps, inside every box; by arithmetic, however far a sum has to go."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairopt.basics.arrays import Array
from fairopt.solve.finish.lattice import DIGITS, LEAST, Lattice

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def exact(y: Array) -> Fraction:
    return sum((Fraction(v) for v in y.tolist()), Fraction(0))


def lattice_of(y: Array, dtype: torch.dtype, low: Array, high: Array, *, clamped: bool = False, coarse: bool = False) -> Lattice:
    return Lattice(y, dtype, (low, high), [np.array([0])], np.array([0, len(y)]), clamped=clamped, coarse=coarse)


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 10**6), dtype=st.sampled_from(DTYPES), coarse=st.booleans(), clamped=st.booleans())
def test_a_change_is_exact_representable_and_inside_the_box(seed: int, dtype: torch.dtype, coarse: bool, clamped: bool) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    spread = 4 if dtype == torch.float16 else 20
    raw = rng.normal(size=n) * 2.0 ** rng.integers(-spread, spread // 4, n) * (rng.random(n) < 0.9)
    y = torch.tensor(raw).to(dtype).double().numpy()
    up, down = (torch.tensor(rng.random(n) * np.abs(y) * rng.choice([0, 1e-3, 2])).to(dtype).double().numpy() for _ in range(2))
    low = torch.tensor(y - down).to(dtype).double().numpy()
    high = torch.tensor(y + up).to(dtype).double().numpy()
    lattice = lattice_of(y, dtype, low, high, clamped=clamped, coarse=coarse)
    rounded, finest = lattice.y.copy(), lattice.finest(0)
    assert lattice.sum(0) == exact(rounded) * 2**LEAST
    if finest is None:
        assert np.array_equal(rounded, y)
        assert not lattice.change(0, 1)
        return
    wanted = int(rng.integers(-50, 51)) << finest
    made = lattice.change(0, wanted)
    after = lattice.y
    assert np.array_equal(torch.tensor(after).to(dtype).double().numpy(), after)
    assert bool(((after >= low) & (after <= high)).all())
    assert bool((after == y)[low == high].all())
    if not clamped:
        assert bool((after == y)[(y == low) | (y == high)].all())
    if made:
        assert exact(after) - exact(rounded) == Fraction(wanted, 2**LEAST)
    else:  # only where the box has no room: both ways together were promised less
        falls, rises = lattice.rooms[0]
        assert not -falls / 4 < float(Fraction(wanted, 2**LEAST)) < rises / 4


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_open_scores_take_any_change(dtype: torch.dtype) -> None:
    digits, _ = DIGITS[dtype]
    for seed in range(50):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 200))
        y = torch.tensor(rng.normal(size=n)).to(dtype).double().numpy()
        lattice = lattice_of(y, dtype, np.array(-np.inf), np.array(np.inf), coarse=True)
        step = lattice.finest(0)
        assert step is not None
        before = lattice.y.copy()
        assert lattice.change(0, int(rng.integers(-n, n + 1)) << step)
        assert np.abs(lattice.y - before).max() <= 2 * 2.0 ** (step - LEAST)  # as even as can be
        assert np.abs(before - y).max() <= 2.0 ** (step - LEAST) <= 4 * np.abs(y).max() * 2.0**-digits * 2


def test_levels_take_what_the_coarser_ones_leave_over() -> None:
    """Half an ulp of the large score is 2^-21: the small scores share it, 2^-21 / 1000 each, and the large one stays."""
    y = np.concatenate([[2.0**33], np.full(1000, 0.75)])
    lattice = lattice_of(y, torch.float64, np.array(-np.inf), np.array(np.inf))
    assert lattice.change(0, 1 << (LEAST - 21))
    assert lattice.y[0] == 2.0**33
    assert np.abs(lattice.y[1:] - 0.75).max() <= 2.0**-21 / 1000 + 2.0**-53
    assert exact(lattice.y) == exact(y) + Fraction(1, 2**21)


def test_a_far_sum_is_reached_at_once() -> None:
    """10^15 ulps away: one step an ulp would take years."""
    rng = np.random.default_rng(0)
    y = rng.random(1000)
    lattice = lattice_of(y, torch.float64, np.array(-1e4), np.array(1e4))
    finest = lattice.finest(0)
    assert finest is not None
    start = time.perf_counter()
    assert lattice.change(0, 10**15 << finest)
    assert time.perf_counter() - start < 1.0


def test_subnormal_scores_have_a_grid_too() -> None:
    y = np.array([5e-324, 1e-320, 3e-310])
    lattice = lattice_of(y, torch.float64, np.array(-1.0), np.array(1.0))
    assert lattice.finest(0) == 0
    assert lattice.change(0, 7)
    assert exact(lattice.y) == exact(y) + Fraction(7, 2**LEAST)


def test_room_that_was_rounded_up_is_no_room() -> None:
    """-1e-20 - (-1) rounds to 1, but 0 lies outside the box; and from 1 down to 1e-20 likewise."""
    for sign in (1.0, -1.0):
        ends = sorted((-sign * 2.0, -sign * 1e-20))
        lattice = lattice_of(np.array([-sign]), torch.float64, np.array(ends[0]), np.array(ends[1]))
        assert not lattice.change(0, int(sign) << LEAST)
        assert ends[0] <= float(lattice.y[0]) <= ends[1]


def test_scores_without_room_are_no_level() -> None:
    pinned = lattice_of(np.array([0.5, 1.0]), torch.float64, np.array([0.5, 1.0]), np.array([0.5, 1.0]), clamped=True)
    assert pinned.finest(0) is None
    tiny = lattice_of(np.array([1.0, 1e-40]), torch.float64, np.array(-np.inf), np.array(np.inf))
    assert tiny.finest(0) == LEAST - 52  # 1e-40 cannot make up for an ulp of 1: it is rounded to one
    assert tiny.y.tolist() == [1.0, 0.0]
