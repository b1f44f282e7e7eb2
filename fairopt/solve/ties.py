"""Which groups must have one mean: the hard constraints that no margin fits into, read as relations between group means.

A row mean_a - mean_b = d (two groups), a range of width 0 (all its groups), and a row mean_a = d (one group) join masks to *ties*:

    sum of y over mask j  =  n_j mean + shift_j      for every mask j of the tie, with one mean that is free inside [low, high]

The shifts are exact whole multiples of 2**-1074, as every float64 is: sums of targets for residual rows, n_j d for rows with a constant.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fairopt.arrays import BoolArray
from fairopt.problem import ProjectionProblem
from fairopt.solve.rows_check import exact_offset_parts

ONE = 1 << 1074  # the number 1 in units of the smallest float64


@dataclass(frozen=True, eq=False)
class Tie:
    """shift: mask -> its shift; low, high: limits of the mean, None where open. All in units of 2**-1074."""

    shift: dict[int, int]
    low: Fraction | None
    high: Fraction | None


def read_ties(problem: ProjectionProblem, narrow: BoolArray) -> list[Tie] | None:
    """The ties that the constraints ``narrow`` (L + R,) ask for. Constraints of another form are left out; None where some contradict."""
    edges: dict[int, list[tuple[int, Fraction]]] = defaultdict(list)  # a -> (b, delta_b - delta_a),  mean = common mean + delta
    start: dict[int, Fraction] = {}  # a delta that keeps the shifts whole
    bounds = _single_rows(problem)
    for c in np.flatnonzero(narrow).tolist():
        members = _members(problem, c)
        for j, own in members or []:
            start.setdefault(j, -own)
            edges[j] += []
        if not members:
            continue
        gap = _difference(problem, c, members) if c < problem.linear and len(members) == 2 else Fraction(0)
        for (a, own_a), (b, own_b) in zip(members, members[1:], strict=False):
            edges[a].append((b, own_a - own_b - gap))
            edges[b].append((a, own_b - own_a + gap))
    delta: dict[int, Fraction] = {}
    ties: list[Tie] = []
    for root in edges:
        if root in delta:
            continue
        delta[root] = start[root]
        part, todo = [root], [root]
        while todo:  # every mask enters once
            a = todo.pop()
            for b, more in edges[a]:
                if b not in delta:
                    delta[b] = delta[a] + more
                    part.append(b)
                    todo.append(b)
                elif delta[b] != delta[a] + more:
                    return None
        tie = _tie(problem, {j: delta[j] for j in part}, bounds)
        if tie is None:
            return None
        ties.append(tie)
    return ties


def _tie(problem: ProjectionProblem, delta: dict[int, Fraction], bounds: dict[int, list[tuple[Fraction | None, Fraction | None]]]) -> Tie | None:
    shift: dict[int, int] = {}
    low = high = None
    for j, d in delta.items():
        whole = d * int(problem.rows.mask_counts[j]) * ONE
        if whole.denominator != 1:
            return None
        shift[j] = whole.numerator
        for lower, upper in bounds.get(j, []):
            low = lower - d if lower is not None and (low is None or lower - d > low) else low
            high = upper - d if upper is not None and (high is None or upper - d < high) else high
    return Tie(shift, None if low is None else low * ONE, None if high is None else high * ONE)


def _members(problem: ProjectionProblem, c: int) -> list[tuple[int, Fraction]] | None:
    """(mask, constant that belongs to it) of each group of a constraint; None for a constraint that ties no means."""
    rows = problem.rows
    if c >= problem.linear:
        part = problem.range_slices[c - problem.linear]
        found: list[tuple[int, Fraction]] = []
        for k in range(part.start, part.stop):
            single = _single(problem, k)
            if single is None or single[1] != 1.0:
                return None
            found.append((single[0], sum(exact_offset_parts(problem, k).values(), Fraction(0))))
        return found
    if c in rows.dense_rows:
        return None
    masks = np.flatnonzero(rows.scales[c]).tolist()
    scales = rows.scales[c, masks].tolist()
    if len(masks) > 2 or not masks or (len(masks) == 2 and scales[0] != -scales[1]):
        return None
    parts = exact_offset_parts(problem, c)
    if len(masks) == 1:
        return [(masks[0], sum(parts.values(), Fraction(0)) / Fraction(scales[0]))]
    if not parts.keys() <= {-1, *masks}:
        return None
    return [(j, parts.get(j, Fraction(0)) / Fraction(s)) for j, s in zip(masks, scales, strict=True)]


def _single(problem: ProjectionProblem, k: int) -> tuple[int, float] | None:
    """The mask and the scale of a row over one group."""
    masks = np.flatnonzero(problem.rows.scales[k])
    return (int(masks[0]), float(problem.rows.scales[k, masks[0]])) if masks.size == 1 and k not in problem.rows.dense_rows else None


def _difference(problem: ProjectionProblem, c: int, members: list[tuple[int, Fraction]]) -> Fraction:
    """What a row over two groups asks of (mean_a + own_a) - (mean_b + own_b): 0 where its limits allow that, else the nearest limit."""
    scale = Fraction(float(problem.rows.scales[c, members[0][0]]))
    constant = exact_offset_parts(problem, c).get(-1, Fraction(0))
    low, high = float(problem.lower[c]), float(problem.upper[c])
    if np.isfinite(low) and constant < Fraction(low):
        return (Fraction(low) - constant) / scale
    if np.isfinite(high) and constant > Fraction(high):
        return (Fraction(high) - constant) / scale
    return Fraction(0)


def _single_rows(problem: ProjectionProblem) -> dict[int, list[tuple[Fraction | None, Fraction | None]]]:
    """mask -> limits of its mean, from every hard row over one group."""
    found: dict[int, list[tuple[Fraction | None, Fraction | None]]] = defaultdict(list)
    for k in range(problem.linear):
        single = _single(problem, k) if problem.softness[k].kind == "hard" else None
        if single is None:
            continue
        mask, scale = single
        constant = sum(exact_offset_parts(problem, k).values(), Fraction(0))
        low, high = (
            (Fraction(v) - constant) / Fraction(scale) if np.isfinite(v) else None for v in (float(problem.lower[k]), float(problem.upper[k]))
        )
        found[mask].append((low, high) if scale > 0 else (high, low))
    return found


def without_unions(problem: ProjectionProblem, ties: list[Tie]) -> list[Tie]:
    """The ties without masks that are the disjoint union of other masks of their tie ("overall"): these have the mean by themselves."""
    return [_reduced(problem, tie) if len(tie.shift) > 2 else tie for tie in ties]


def _reduced(problem: ProjectionProblem, tie: Tie) -> Tie:
    masks, counts = problem.rows.masks, problem.rows.mask_counts
    kept = sorted(tie.shift, key=lambda j: (-int(counts[j]), j))
    covered = masks[kept].sum(0)  # (C,) by how many masks
    first = {j: int(np.argmax(masks[j])) for j in kept}
    for whole in list(kept):
        if int(covered.max()) <= 1:
            break
        if int(covered[masks[whole]].min()) < 2:
            continue  # a cell of it is in no other mask
        inside = [j for j in kept if counts[j] < counts[whole] and masks[whole, first[j]] and not (masks[j] & ~masks[whole]).any()]
        families: list[tuple[BoolArray, int]] = []  # disjoint masks together, with the sum of their shifts
        for j in sorted(inside, key=list(tie.shift).index):
            for f, (union, total) in enumerate(families):
                if not (union & masks[j]).any():
                    families[f] = (union | masks[j], total + tie.shift[j])
                    break
            else:
                families.append((masks[j].copy(), tie.shift[j]))
        if any(np.array_equal(union, masks[whole]) and total == tie.shift[whole] for union, total in families):
            kept.remove(whole)
            covered = covered - masks[whole]
    return Tie({j: s for j, s in tie.shift.items() if j in set(kept)}, tie.low, tie.high)
