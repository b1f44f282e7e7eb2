"""Which groups must have one mean: the hard constraints that no margin fits into, read as relations between group means.

A row mean_a - mean_b = d (two groups), a range of width 0 (all its groups), and a row mean_a = d (one group) join masks to *ties*:

    sum of y over mask j  =  n_j mean + shift_j      for every mask j of the tie, with one mean that is free inside [low, high]

The shifts are exact whole multiples of 2**-1074, as every float64 is: sums of targets for residual rows, n_j d for rows with a constant.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from fairopt.basics.arrays import BoolArray
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.finish.check import exact_offset_parts

ONE = 1 << 1074  # the number 1 in units of the smallest float64


@dataclass(frozen=True, eq=False)
class Tie:
    """masks (G, C), one a group; counts of its samples; shifts; low, high: limits of the mean, None where open. In units of 2**-1074."""

    masks: BoolArray
    counts: list[int]
    shifts: list[int]
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
        for (a, own_a), (b, own_b) in pairwise(members):
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


Bounds = dict[int, list[tuple[Fraction | None, Fraction | None]]]


def _tie(problem: ProjectionProblem, delta: dict[int, Fraction], bounds: Bounds) -> Tie | None:
    counts = [int(problem.rows.mask_counts[j]) for j in delta]
    shifts = [d * count * ONE for d, count in zip(delta.values(), counts, strict=True)]
    if any(shift.denominator != 1 for shift in shifts):
        return None
    limits = [(low, high, delta[j]) for j in delta for low, high in bounds.get(j, [])]
    lows = [(low - d) * ONE for low, _, d in limits if low is not None]
    highs = [(high - d) * ONE for _, high, d in limits if high is not None]
    whole = [shift.numerator for shift in shifts]
    return Tie(problem.rows.masks[list(delta)], counts, whole, max(lows, default=None), min(highs, default=None))


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


def _single_rows(problem: ProjectionProblem) -> Bounds:
    """mask -> limits of its mean, from every hard row over one group."""
    found: Bounds = defaultdict(list)
    for k in range(problem.linear):
        single = _single(problem, k) if problem.softness[k].kind == "hard" else None
        if single is None:
            continue
        mask, scale = single
        constant = sum(exact_offset_parts(problem, k).values(), Fraction(0))
        limits = (float(problem.lower[k]), float(problem.upper[k]))
        low, high = ((Fraction(v) - constant) / Fraction(scale) if np.isfinite(v) else None for v in limits)
        found[mask].append((low, high) if scale > 0 else (high, low))
    return found


def without_overlaps(tie: Tie) -> Tie:
    """The tie where a group that holds others of the tie ("overall") is what they leave of it: that has the same mean, or no samples."""
    order = sorted(range(len(tie.counts)), key=lambda g: (tie.counts[g], g))  # small ones first
    masks, counts, shifts = [tie.masks[g] for g in order], [tie.counts[g] for g in order], [tie.shifts[g] for g in order]
    covered = tie.masks.sum(0)  # (C,) by how many groups
    for k in range(len(order) - 1, 0, -1):
        if int(covered.max()) <= 1:
            break
        first = [int(np.argmax(mask)) for mask in masks[:k]]
        inside = [g for g in range(k) if counts[g] < counts[k] and masks[k][first[g]] and not (masks[g] & ~masks[k]).any()]
        family = _largest_family([(masks[g], counts[g], shifts[g]) for g in inside])
        if family is not None:
            covered = covered - family[0]
            masks[k], counts[k], shifts[k] = masks[k] & ~family[0], counts[k] - family[1], shifts[k] - family[2]
    kept: dict[bytes, int] = {}
    for k, (mask, count) in enumerate(zip(masks, counts, strict=True)):
        if count > 0 or shifts[k] != 0:  # no samples and another sum than 0: left to show that there is no way
            kept.setdefault(mask.tobytes() + repr(shifts[k]).encode(), k)
    rest = sorted(kept.values())
    return Tie(np.stack([masks[k] for k in rest]), [counts[k] for k in rest], [shifts[k] for k in rest], tie.low, tie.high)


def _largest_family(groups: list[tuple[BoolArray, int, int]]) -> tuple[BoolArray, int, int] | None:
    """Disjoint groups together, as many samples as can be: their cells, count and shift. Exact for the groups of two attributes."""
    if not groups:
        return None
    masks = np.stack([mask for mask, _, _ in groups])  # (K, C)
    beside: list[set[int]] = [set() for _ in groups]
    for c in np.flatnonzero(masks.sum(0) > 1).tolist():
        here = np.flatnonzero(masks[:, c]).tolist()
        for g in here:
            beside[g].update(here)
    seen: set[int] = set()
    chosen: list[int] = []
    for root in range(len(groups)):
        if root in seen:
            continue
        sides: tuple[list[int], list[int]] = ([], [])  # groups of two attributes alternate
        todo = [(root, 0)]
        seen.add(root)
        while todo:  # every group enters once
            g, side = todo.pop()
            if not beside[g] & set(sides[side]):
                sides[side].append(g)
            for other in sorted(beside[g] - seen):
                seen.add(other)
                todo.append((other, 1 - side))
        chosen += max(sides, key=lambda side: sum(groups[g][1] for g in side))
    return np.asarray(masks[chosen].any(axis=0)), sum(groups[g][1] for g in chosen), sum(groups[g][2] for g in chosen)
