"""Equal group means exactly, in floating point: claim L12 at tolerance 0, and wherever a tolerance is finer than rounding.

Rounding leaves means a few ulps apart, and no tighter limit can help where both limits are the same. But sums are whole multiples of the
scores' ulps (``lattice``), so that a group's sum can be set exactly. With T_j = n_j mean + shift_j the wanted sum of group j, B_j its
present one and 2^k_j the finest step it can make,

    n_j mean + shift_j = B_j   modulo 2^k_j        (exactly, for a group without a score that may move)

is a congruence for the mean of each group of a tie; powers of two nest, so that they have one common class of solutions or none. The
solution next to the present mean is taken. Then disjoint groups get their sums each by itself; the groups of two attributes through a
table of cells (``two_way``).

When it is impossible: a group whose samples are all pinned (lb = ub) has one mean, an exact rational, and a group of another size may
have no sum for it (3 pinned samples of sum 1 beside 2 others: a mean of 1/3 is no binary number); pinned samples finer than every score
that may move leave sums that differ modulo its step. Scores at a bound that are not pinned move inward where nothing else is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import BoolArray
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.finish.lattice import Lattice
from fairopt.solve.finish.rounding import dtype_box
from fairopt.solve.finish.ties import Tie, read_ties, without_overlaps
from fairopt.solve.finish.two_way import Table, cell_changes


@dataclass(frozen=True, eq=False)
class Snapped:
    """y (n,) in cell order; exact: whether all tied groups have exactly the mean that their tie asks for."""

    y: Tensor
    exact: bool


def to_grid(problem: ProjectionProblem, sorted_y: Tensor, narrow: BoolArray) -> Snapped | None:
    """Scores (n,) in cell order whose tied groups have the same mean; None where the structure does not allow it.

    ``narrow`` (L + R,): the hard constraints whose limits are too close for a margin. Scores move by a few ulps, and no score out of
    its box. Where equal means do not exist every group gets the nearest sum that it can have: a tolerance may excuse the rest.
    """
    ties = read_ties(problem, narrow)
    if not ties:
        return None
    ties = [without_overlaps(tie) for tie in ties]
    inside = np.concatenate([tie.masks for tie in ties])  # (groups, C)
    most = int(inside.sum(0).max())
    units = [np.flatnonzero(m) for m in inside] if most <= 1 else [np.array([c]) for c in np.flatnonzero(inside.any(0)).tolist()]
    if most > 2 or min(len(unit) for unit in units) == 0:
        return None
    low, high = (b.to(torch.float64).numpy() for b in dtype_box(problem, sorted_y.dtype))
    y = sorted_y.detach().to("cpu", torch.float64).numpy()
    if not np.isfinite(y).all():  # rounded to infinity: there is no grid to stand on
        return None
    at_bound = bool((((y <= low) | (y >= high)) & (low < high)).any())
    changes_of = _group_changes if most <= 1 else _cell_changes
    for exact, clamped, coarse in _WAYS:
        if clamped and not at_bound:
            continue
        lattice = Lattice(y, sorted_y.dtype, (low, high), units, problem.rows.starts, clamped=clamped, coarse=coarse)
        changes = changes_of(ties, lattice, exact=exact)
        if changes is not None and all(lattice.change(u, missing) for u, missing in changes.items()) and lattice.holds():
            return Snapped(torch.from_numpy(lattice.y).to(sorted_y.device, sorted_y.dtype), exact)
    return None


# exact means or the nearest ones; whether scores at a bound move too; whether on the coarsest grid. What moves least comes first
_WAYS = (
    (True, False, False),
    (True, False, True),
    (True, True, False),
    (True, True, True),
    (False, False, False),
    (False, True, False),
)


@dataclass(frozen=True, eq=False)
class Group:
    """One group of a tie: samples, present sum, its shift, log2 of its finest step (None: its sum is what it is), its sum's error, and
    how far its sum can fall and rise.
    """

    count: int
    sum: int
    shift: int
    step: int | None
    error: float
    reach: tuple[int, int]


def wanted_sums(groups: list[Group], low: Fraction | None, high: Fraction | None, *, exact: bool) -> list[int] | None:
    """The sum of each group at the common mean inside [low, high] that is nearest to the present one; None where there is none.

    Not ``exact``: the nearest sums that the groups can have.
    """
    ends = [(Fraction(g.sum - g.shift - g.reach[0], g.count), Fraction(g.sum - g.shift + g.reach[1], g.count)) for g in groups]
    low = max(end[0] for end in ends) if low is None else max(low, *(end[0] for end in ends))
    high = min(end[1] for end in ends) if high is None else min(high, *(end[1] for end in ends))
    if exact:
        mean = common_mean(groups, low, high)
        return None if mean is None else [int(mean * g.count) + g.shift for g in groups]
    mean = min(max(_present(groups), low), high)
    return [g.sum if g.step is None else g.sum + (round((mean * g.count + g.shift - g.sum) / (1 << g.step)) << g.step) for g in groups]


def common_mean(groups: list[Group], low: Fraction, high: Fraction) -> Fraction | None:
    """The mean nearest to the present one that every group can have exactly, inside [low, high]; None where there is none.

    With g the greatest common divisor of the counts, M = g mean is a whole number: the congruences are (n_j / g) M = B_j - shift_j.
    """
    g = math.gcd(*(group.count for group in groups))
    rest, bits = 0, 0  # M = rest modulo 2^bits
    for group in groups:
        q, r = group.count // g, group.sum - group.shift
        twos = (q & -q).bit_length() - 1
        if group.step is None:
            continue  # low and high leave only r / q, and M is whole
        if r % (1 << min(twos, group.step)):
            return None
        own = max(group.step - twos, 0)
        value = (r >> twos) * pow(q >> twos, -1, 1 << own) % (1 << own) if own else 0
        if (value - rest) % (1 << min(bits, own)):
            return None
        rest, bits = (value, own) if own > bits else (rest, bits)
    M = rest + (round((min(max(_present(groups), low), high) * g - rest) / (1 << bits)) << bits)
    if g * low > M:
        M = rest + (math.ceil((g * low - rest) / (1 << bits)) << bits)
    if g * high < M:
        M = rest + (math.floor((g * high - rest) / (1 << bits)) << bits)
    return Fraction(M, g) if g * low <= M <= g * high else None


def _present(groups: list[Group]) -> Fraction:
    """The mean of the groups that rounding left most certain: one far score's ulp can be more than all the others need to move."""
    errors = [group.error / group.count for group in groups]
    chosen = [group for group, error in zip(groups, errors, strict=True) if error <= 4.0 * min(errors)]
    return Fraction(sum(group.sum - group.shift for group in chosen), sum(group.count for group in chosen))


def _group_changes(ties: list[Tie], lattice: Lattice, *, exact: bool) -> dict[int, int] | None:
    """unit -> the change of its sum, where every group is a unit of its own."""
    errors = lattice.errors().tolist()
    changes: dict[int, int] = {}
    for tie in ties:
        own = range(len(changes), len(changes) + len(tie.counts))
        groups = [
            Group(count, lattice.sum(u), shift, lattice.finest(u), errors[u], lattice.reach(u))
            for u, count, shift in zip(own, tie.counts, tie.shifts, strict=True)
        ]
        sums = wanted_sums(groups, tie.low, tie.high, exact=exact)
        if sums is None:
            return None
        changes |= {u: wanted - group.sum for u, group, wanted in zip(own, groups, sums, strict=True)}
    return changes


# -- two attributes ----------------------------------------------------------------------------------------------------------


def _cell_changes(ties: list[Tie], lattice: Lattice, *, exact: bool) -> dict[int, int] | None:
    """unit -> the change of its sum, where every cell is a unit of its own and lies in at most two groups."""
    masks = np.concatenate([tie.masks for tie in ties])  # (groups, C)
    cell = [int(unit[0]) for unit in lattice.units]
    table = Table.of([np.flatnonzero(masks[:, c]).tolist() for c in cell], len(masks))
    if table is None:
        return None
    steps = [lattice.finest(u) for u in range(len(cell))]
    reach = [lattice.reach(u) for u in range(len(cell))]
    # cells that can move both ways first, then the finest, then those of many scores
    order = {u: (0 in reach[u], step, -lattice.movers(u)) for u, step in enumerate(steps) if step is not None}
    chosen = table.spanning(order)
    step = max((s for u in chosen if (s := steps[u]) is not None), default=0)  # every cell that moves makes whole multiples of it
    base = [lattice.sum(u) for u in range(len(cell))]
    free = {u for u, s in enumerate(steps) if s is not None and s <= step and (u in chosen or 0 not in reach[u])}
    for u in free:
        finest = steps[u]
        assert finest is not None
        off = (base[u] + (1 << step >> 1)) % (1 << step) - (1 << step >> 1)
        base[u] -= off >> finest << finest  # to a multiple of the step, as far as fixed samples allow
    tie_of = [t for t, tie in enumerate(ties) for _ in tie.counts]
    counts, shifts = [n for tie in ties for n in tie.counts], [s for tie in ties for s in tie.shifts]
    limits = {t: (tie.low, tie.high) for t, tie in enumerate(ties)}
    _join(tie_of, counts, shifts, limits, table, free, base)
    errors = lattice.errors()
    wanted = [0] * len(counts)
    for t, (low, high) in limits.items():
        own = [g for g, tie in enumerate(tie_of) if tie == t]
        groups = []
        for g in own:
            part = table.members[g]
            moving = [u for u in part if u in free]
            room = sum(reach[u][0] for u in moving), sum(reach[u][1] for u in moving)
            error = float(errors[part].sum())
            groups.append(Group(counts[g], sum(base[u] for u in part), shifts[g], step if moving else None, error, room))
        sums = wanted_sums(groups, low, high, exact=exact)
        if sums is None:
            return None
        for g, group, total in zip(own, groups, sums, strict=True):
            wanted[g] = (total - group.sum) >> step
    changes = cell_changes(table, chosen, {u: lattice.movers(u) for u in sorted(free)}, wanted)
    return None if changes is None else {u: base[u] - lattice.sum(u) + (changes.get(u, 0) << step) for u in sorted(free)}


def _join(
    tie_of: list[int],
    counts: list[int],
    shifts: list[int],
    limits: dict[int, tuple[Fraction | None, Fraction | None]],
    table: Table,
    free: set[int],
    base: list[int],
) -> None:
    """Give two ties one mean, where the groups of one and of the other cover the same samples: one population has one mean."""
    for part in table.closed(free):
        sides = [[g for g in part if table.side[g] == s] for s in (0, 1)]
        first, second = ({tie_of[g] for g in side} for side in sides)
        size, other = (sum(counts[g] for g in side) for side in sides)
        if len(first) != 1 or len(second) != 1 or first == second or size != other:
            continue
        (a,), (b,) = first, second
        rest = [sum(shifts[g] for g in side) - sum(base[u] for g in side for u in table.members[g] if u not in free) for side in sides]
        gap = Fraction(rest[0] - rest[1], size)  # mean of b = mean of a + gap
        joined = {g: shifts[g] + gap * counts[g] for g, tie in enumerate(tie_of) if tie == b}
        if any(shift.denominator != 1 for shift in joined.values()):
            continue
        for g, shift in joined.items():
            tie_of[g], shifts[g] = a, shift.numerator
        pairs = [limits[a], tuple(None if v is None else v - gap for v in limits.pop(b))]
        lows, highs = ([v for pair in pairs if (v := pair[k]) is not None] for k in (0, 1))
        limits[a] = max(lows, default=None), min(highs, default=None)
