"""Equal group means exactly, in floating point: claim L12 at tolerance 0, and wherever a tolerance is finer than rounding.

Rounding leaves means a few ulps apart, and no tighter limit can help where both limits are the same. But sums are whole multiples of the
scores' ulps (``fairopt.solve.lattice``), so that a group's sum can be set exactly. With T_j = n_j mean + shift_j the wanted sum of group
j, B_j its present one and 2^k_j the finest step it can make,

    n_j mean + shift_j = B_j   modulo 2^k_j        (exactly, for a group without a score that may move)

is a congruence for the mean of each group of a tie; powers of two nest, so that they have one common class of solutions or none. The
solution next to the present mean is taken. Then disjoint groups get their sums each by itself; the groups of two attributes through a
table of cells (``fairopt.solve.two_way``).

When it is impossible: a group whose samples are all pinned (lb = ub) has one mean, an exact rational, and a group of another size may
have no sum for it (3 pinned samples of sum 1 beside 2 others: a mean of 1/3 is no binary number); pinned samples finer than every score
that may move leave sums that differ modulo its step. Scores at a bound that are not pinned move inward where nothing else is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from fairopt.arrays import Array, BoolArray, IntArray
from fairopt.problem import ProjectionProblem
from fairopt.solve.lattice import Lattice
from fairopt.solve.rounding import dtype_box
from fairopt.solve.ties import Tie, read_ties, without_unions
from fairopt.solve.two_way import Table, cell_changes


def to_grid(problem: ProjectionProblem, sorted_y: Tensor, narrow: BoolArray) -> Tensor | None:
    """(n,) scores in cell order whose tied groups have the same exact mean, or None where the structure or the box does not allow it.

    ``narrow`` (L + R,): the hard constraints whose limits are too close for a margin. Scores move by a few ulps, and no score out of
    its box.
    """
    ties = read_ties(problem, narrow)
    if not ties:
        return None
    ties = without_unions(problem, ties)
    low, high = (b.to(torch.float64).numpy() for b in dtype_box(problem, sorted_y.dtype))
    y = sorted_y.detach().to("cpu", torch.float64).numpy()
    at_bound = bool((((y <= low) | (y >= high)) & (low < high)).any())
    for clamped, coarse in ((False, False), (False, True), (True, False), (True, True)):
        if clamped and not at_bound:
            break
        moved = _moved(problem, ties, y, sorted_y.dtype, (low, high), clamped=clamped, coarse=coarse)
        if moved is not None:
            return torch.from_numpy(moved).to(sorted_y.device, sorted_y.dtype)
    return None


def _moved(
    problem: ProjectionProblem,
    ties: list[Tie],
    y: Array,
    dtype: torch.dtype,
    box: tuple[Array, Array],
    *,
    clamped: bool,
    coarse: bool,
) -> Array | None:
    masks = [j for tie in ties for j in tie.shift]
    inside = problem.rows.masks[masks]  # (groups, C)
    most = int(inside.sum(0).max())
    units = [np.flatnonzero(m) for m in inside] if most <= 1 else [np.array([c]) for c in np.flatnonzero(inside.any(0)).tolist()]
    if len(set(masks)) < len(masks) or most > 2:
        return None
    lattice = Lattice(y, dtype, box, units, problem.rows.starts, clamped=clamped, coarse=coarse)
    changes = _group_changes(problem, ties, lattice) if most <= 1 else _cell_changes(problem, ties, lattice)
    if changes is None or not all(lattice.change(u, missing) for u, missing in changes.items()):
        return None
    return lattice.y if lattice.holds() else None


@dataclass(frozen=True, eq=False)
class Group:
    """One group of a tie: samples, present sum, its shift, log2 of its finest step (None: its sum is what it is), and its sum's error."""

    count: int
    sum: int
    shift: int
    step: int | None
    error: float


def common_mean(groups: list[Group], low: Fraction | None, high: Fraction | None) -> Fraction | None:
    """The mean nearest to the present one that every group can have exactly, inside [low, high]; None where there is none.

    With g the greatest common divisor of the counts, M = g mean is a whole number: the congruences are (n_j / g) M = B_j - shift_j.
    """
    g = math.gcd(*(group.count for group in groups))
    rest, bits = 0, 0  # M = rest modulo 2^bits
    exact: int | None = None
    for group in groups:
        q, r = group.count // g, group.sum - group.shift
        if group.step is None:
            if r % q or (exact is not None and exact * q != r):
                return None
            exact = r // q
            continue
        twos = (q & -q).bit_length() - 1
        if r % (1 << min(twos, group.step)):
            return None
        own = max(group.step - twos, 0)
        value = (r >> twos) * pow(q >> twos, -1, 1 << own) % (1 << own) if own else 0
        if (value - rest) % (1 << min(bits, own)):
            return None
        rest, bits = (value, own) if own > bits else (rest, bits)
    if exact is None:
        exact = rest + (round((_present(groups) * g - rest) / (1 << bits)) << bits)
        if low is not None and exact < g * low:
            exact = rest + (math.ceil((g * low - rest) / (1 << bits)) << bits)
        if high is not None and exact > g * high:
            exact = rest + (math.floor((g * high - rest) / (1 << bits)) << bits)
    if (exact - rest) % (1 << bits) or (low is not None and exact < g * low) or (high is not None and exact > g * high):
        return None
    return Fraction(exact, g)


def _present(groups: list[Group]) -> Fraction:
    """The mean of the groups that rounding left most certain: one far score's ulp can be more than all the others need to move."""
    errors = [group.error / group.count for group in groups]
    chosen = [group for group, error in zip(groups, errors, strict=True) if error <= 4.0 * min(errors)]
    return Fraction(sum(group.sum - group.shift for group in chosen), sum(group.count for group in chosen))


def _wanted(group: Group, mean: Fraction) -> int:
    """The group's exact sum at a common mean."""
    total = mean * group.count
    assert total.denominator == 1
    return total.numerator + group.shift


def _group_changes(problem: ProjectionProblem, ties: list[Tie], lattice: Lattice) -> dict[int, int] | None:
    """unit -> the change of its sum, where every group is a unit of its own."""
    counts, errors = problem.rows.mask_counts, lattice.errors().tolist()
    changes: dict[int, int] = {}
    u = 0
    for tie in ties:
        own = range(u, u + len(tie.shift))
        groups = [
            Group(int(counts[j]), lattice.sum(k), shift, lattice.finest(k), errors[k])
            for k, (j, shift) in zip(own, tie.shift.items(), strict=True)
        ]
        mean = common_mean(groups, tie.low, tie.high)
        if mean is None:
            return None
        changes |= {k: _wanted(group, mean) - group.sum for k, group in zip(own, groups, strict=True)}
        u += len(tie.shift)
    return changes


# -- two attributes ----------------------------------------------------------------------------------------------------------


def _cell_changes(problem: ProjectionProblem, ties: list[Tie], lattice: Lattice) -> dict[int, int] | None:
    """unit -> the change of its sum, where every cell is a unit of its own and lies in at most two groups."""
    masks = problem.rows.masks
    groups = [j for tie in ties for j in tie.shift]
    cell = [int(unit[0]) for unit in lattice.units]
    table = Table.of([[g for g, j in enumerate(groups) if masks[j, c]] for c in cell], len(groups))
    if table is None:
        return None
    steps = [lattice.finest(u) for u in range(len(cell))]
    chosen = table.spanning({u: (step, -lattice.movers(u)) for u, step in enumerate(steps) if step is not None})
    step = max((s for u in chosen if (s := steps[u]) is not None), default=0)  # every cell that moves can make whole multiples of it
    base = [lattice.sum(u) for u in range(len(cell))]
    free = {u for u, s in enumerate(steps) if s is not None and s <= step}
    for u in free:
        finest = steps[u]
        assert finest is not None
        off = (base[u] + (1 << step >> 1)) % (1 << step) - (1 << step >> 1)
        base[u] -= off >> finest << finest  # to a multiple of the step, as far as fixed samples allow
    ties = _joined(problem, ties, table, free, base)
    errors = lattice.errors()
    missing: list[int] = []
    for tie in ties:
        own = [groups.index(j) for j in tie.shift]
        parts = [table.members[g] for g in own]
        made = [
            Group(
                int(problem.rows.mask_counts[j]),
                sum(base[u] for u in part),
                shift,
                step if free & set(part) else None,
                float(errors[part].sum()),
            )
            for (j, shift), part in zip(tie.shift.items(), parts, strict=True)
        ]
        mean = common_mean(made, tie.low, tie.high)
        if mean is None:
            return None
        missing += [_wanted(group, mean) - group.sum for group in made]
    order = [groups.index(j) for tie in ties for j in tie.shift]
    wanted = [0] * len(groups)
    for g, value in zip(order, missing, strict=True):
        wanted[g] = value >> step
    weights = {u: lattice.movers(u) for u in free}
    changes = cell_changes(table, chosen, weights, wanted)
    return None if changes is None else {u: base[u] - lattice.sum(u) + (changes.get(u, 0) << step) for u in free}


def _joined(problem: ProjectionProblem, ties: list[Tie], table: Table, free: set[int], base: list[int]) -> list[Tie]:
    """Ties with one mean, where the groups of one and of the other cover the same samples: one population has one mean."""
    counts = problem.rows.mask_counts
    groups = [j for tie in ties for j in tie.shift]
    owner = {j: t for t, tie in enumerate(ties) for j in tie.shift}
    result: dict[int, Tie] = dict(enumerate(ties))
    for part in table.closed(free):
        sides = [[groups[g] for g in part if table.side[g] == s] for s in (0, 1)]
        first, second = ({owner[j] for j in side} for side in sides)
        if len(first) != 1 or len(second) != 1 or first == second:
            continue
        a, b = first.pop(), second.pop()
        totals = [sum(int(counts[j]) for j in side) for side in sides]
        if totals[0] != totals[1]:
            continue
        fixed = [sum(base[u] for j in side for u in table.members[groups.index(j)] if u not in free) for side in sides]
        gap = Fraction(
            sum(result[a].shift[j] for j in sides[0]) - fixed[0] - sum(result[b].shift[j] for j in sides[1]) + fixed[1], totals[0]
        )
        shifts = {j: s + gap * int(counts[j]) for j, s in result[b].shift.items()}
        if any(s.denominator != 1 for s in shifts.values()):
            continue
        low = [v for v in (result[a].low, None if result[b].low is None else result[b].low - gap) if v is not None]
        high = [v for v in (result[a].high, None if result[b].high is None else result[b].high - gap) if v is not None]
        merged = result[a].shift | {j: s.numerator for j, s in shifts.items()}
        result[a] = replace(result[a], shift=merged, low=max(low, default=None), high=min(high, default=None))
        del result[b]
        owner |= dict.fromkeys(shifts, a)
    return list(result.values())
