"""Scores as whole multiples of their own ulps, and how a sum is changed exactly by moving them a few ulps inside their boxes.

A score with d digits and ulp u may be any multiple of u up to 2^d u: there sums and differences are exact. The scores of one *unit* (a
cell, or the cells of a group) fall into levels by their ulps. A wanted change of the unit's sum is shared by all scores that may move, the
coarsest level first, each level in whole ulps of its own, and what that leaves over goes to the finer ones; the finest takes an exact
remainder. A level joins in only where it has room for one ulp of the next coarser one; scores below it are rounded to that ulp first.

Everything is a pass over the samples a unit or a level; no loop runs over ulps.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.basics.exact_sums import exact_cell_sums

LEAST = 1074  # sums are counted in units of 2**-1074
DIGITS = {torch.float64: (53, -1074), torch.float32: (24, -149), torch.bfloat16: (8, -133), torch.float16: (11, -24)}  # and the least ulp


class Lattice:
    """``y`` (n,) float64 in cell order, exact numbers of ``dtype``; changed by ``change``.

    low, high  (n,) the box, rounded inward to the dtype
    units      the cells of each unit, no cell twice; starts (C + 1,) where each cell begins
    clamped    whether scores at a bound may move inward; pinned ones never move
    coarse     every score that may move is rounded to two ulps of its unit's largest first: room for every score, at a larger move
    """

    def __init__(
        self,
        y: Array,
        dtype: torch.dtype,
        box: tuple[Array, Array],
        units: list[IntArray],
        starts: IntArray,
        *,
        clamped: bool,
        coarse: bool,
    ) -> None:
        self.y, self.units, self.starts = y.copy(), units, starts
        self.low, self.high = (np.broadcast_to(b, y.shape) for b in box)
        self.digits, self.least = DIGITS[dtype]
        self.most = float(torch.finfo(dtype).max)
        counts = np.diff(starts)
        place = np.full(counts.shape[0], -1, dtype=np.int64)
        for u, cells in enumerate(units):
            place[cells] = u
        self.unit = np.repeat(place, counts)  # (n,) -1: in none
        exponent = np.frexp(y)[1].astype(np.int64) - self.digits
        self.level = np.maximum(np.where(y == 0, self.least, exponent), self.least)  # (n,) log2 of each score's ulp
        inside = (y >= self.low) & (y <= self.high) & (self.low < self.high) if clamped else (y > self.low) & (y < self.high)
        self.moves: BoolArray = inside & (self.unit >= 0)
        self._choose_levels(coarse)
        self.sums = [_whole(s) for s in exact_cell_sums(self.y, np.repeat(np.arange(counts.shape[0]), counts), counts.shape[0])]

    def sum(self, u: int) -> int:
        """The exact sum of unit u, in units of 2**-1074."""
        return sum(self.sums[c] for c in self.units[u].tolist())

    def finest(self, u: int) -> int | None:
        """log2 of the finest step that unit u's sum can make, counted from 2**-1074; None where no score may move."""
        return self.levels[u][-1][0] + LEAST if self.levels[u] else None

    def movers(self, u: int) -> int:
        return sum(count for _, count in self.levels[u])

    def reach(self, u: int) -> tuple[int, int]:
        """How far the sum of unit u can fall and rise inside the box, in units of 2**-1074; never more than it can."""
        falls, rises = (math.floor(Fraction(room) * (1 << LEAST)) if room < 1e300 else 1 << 2 * LEAST for room in self.rooms[u])
        return falls, rises

    def errors(self) -> Array:
        """(units,) half an ulp of every score that may move, summed: what rounding can have done to each sum."""
        half = np.ldexp(0.5, self.level[self.moves])
        return np.asarray(np.bincount(self.unit[self.moves], weights=half, minlength=len(self.units)), dtype=np.float64)

    # -- levels --------------------------------------------------------------------------------------------------------------

    def _room(self, at: IntArray | BoolArray) -> tuple[Array, Array]:
        """How far scores can go down and up on multiples of their ulps inside the box."""
        with np.errstate(over="ignore"):
            reach = np.minimum(np.ldexp(1.0, self.digits + self.level[at]), self.most)
            return self.y[at] - np.maximum(self.low[at], -reach), np.minimum(self.high[at], reach) - self.y[at]

    def _choose_levels(self, coarse: bool) -> None:
        """The levels of each unit, coarsest first, as (log2 ulp, scores); scores of levels without room are rounded to the next."""
        self.levels: list[list[tuple[int, int]]] = [[] for _ in self.units]
        self.rooms = [[0.0, 0.0] for _ in self.units]
        moving = np.flatnonzero(self.moves)
        if moving.size == 0:
            return
        present, table, key = self._table(moving)
        down, up = self._room(moving)
        with np.errstate(over="ignore"):
            falls, rises = (np.bincount(key, weights=room, minlength=table.size).reshape(table.shape) for room in (down, up))
            self.rooms = (np.stack([falls.sum(1), rises.sum(1)], axis=1) * (1.0 - 1e-9)).tolist()
            room = np.maximum(falls, rises)  # a step may be made in either direction: a coarser one makes up for it
        target = np.tile(present, (len(self.units), 1))  # (units, P) what each level is rounded to
        level = present.tolist()
        for u, (counts, rooms) in enumerate(zip(table, room.tolist(), strict=True)):
            here = np.flatnonzero(counts)[::-1].tolist()
            if coarse and here:
                target[u, here] = level[here[0]] + 1
                continue
            step = None
            for k in here:
                if step is None or rooms[k] >= math.ldexp(1.0, step):
                    step = level[k]
                target[u, k] = step
        goal = target.reshape(-1)[key]
        finer = goal > self.level[moving]
        if finer.any():
            self._round(moving[finer], goal[finer])
            moving = np.flatnonzero(self.moves)
            if moving.size == 0:
                return
            present, table, _ = self._table(moving)
        level = present.tolist()
        self.levels = [[(level[k], int(counts[k])) for k in np.flatnonzero(counts)[::-1].tolist()] for counts in table]

    def _table(self, moving: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """(P,) the levels that occur, (units, P) scores of each, and each score's place in that table."""
        levels = self.level[moving]
        least = int(levels.min())
        seen = np.bincount(levels - least)
        present = np.flatnonzero(seen)
        key = self.unit[moving] * present.size + (np.cumsum(seen > 0) - 1)[levels - least]
        table = np.bincount(key, minlength=len(self.units) * present.size).reshape(-1, present.size)
        return present + least, table, key

    def _round(self, at: IntArray, level: IntArray) -> None:
        """Scores ``at`` to multiples of 2**level inside the box; those whose box holds none stay and move no more."""
        with np.errstate(over="ignore", under="ignore"):
            low, high = np.ceil(np.ldexp(self.low[at], -level)), np.floor(np.ldexp(self.high[at], -level))
            near = np.ldexp(np.minimum(np.maximum(np.rint(np.ldexp(self.y[at], -level)), low), high), level)
        fits = (near >= self.low[at]) & (near <= self.high[at]) & (np.abs(near) <= self.most)
        self.y[at[fits]], self.level[at[fits]] = near[fits], level[fits]
        self.moves[at[~fits]] = False

    # -- changes -------------------------------------------------------------------------------------------------------------

    def change(self, u: int, missing: int) -> bool:
        """Add ``missing`` (units of 2**-1074) to the sum of unit u. False where its scores cannot; they are then left half changed."""
        if missing == 0:
            return True
        members = np.concatenate([np.arange(self.starts[c], self.starts[c + 1]) for c in self.units[u].tolist()])
        members = members[self.moves[members]]
        levels = self.levels[u]
        left = members.size
        for k, (level, count) in enumerate(levels):
            step = 1 << (level + LEAST)
            share = _nearest(missing * count, left * step) if k < len(levels) - 1 else _towards_zero(missing, step)
            left -= count
            missing -= self._move(members, level, share) * step if share else 0
        for k in range(len(levels) - 1, 0, -1):  # what is no multiple of the next level's ulp, where a level had no room for its share
            step, above = 1 << (levels[k][0] + LEAST), 1 << (levels[k - 1][0] + LEAST)
            rest = missing % above
            if rest:
                down, up = self._space(members, levels[k][0])
                choices = [r for r in sorted((rest, rest - above), key=abs) if -down * step <= r <= up * step]
                if not choices:
                    return False
                missing -= self._move(members, levels[k][0], choices[0] // step) * step
        for level, _ in levels:
            step = 1 << (level + LEAST)
            share = _towards_zero(missing, step)
            missing -= self._move(members, level, share) * step if share else 0
        return missing == 0

    def _rooms(self, members: IntArray, level: int) -> tuple[IntArray, IntArray, IntArray]:
        """The scores of one level, and the whole ulps that each can go down and up."""
        at = members[self.level[members] == level]
        rooms = []
        for sign, room, edge in zip((-1.0, 1.0), self._room(at), (self.low[at], self.high[at]), strict=True):
            with np.errstate(over="ignore"):
                steps = np.floor(np.minimum(np.ldexp(room, -level), 2.0**53))
            steps -= sign * (self.y[at] + sign * np.ldexp(steps, level)) > sign * edge  # the room was rounded
            rooms.append(np.maximum(steps, 0.0).astype(np.int64))
        return at, rooms[0], rooms[1]

    def _space(self, members: IntArray, level: int) -> tuple[int, int]:
        """The ulps that the scores of one level can go down and up together."""
        _, down, up = self._rooms(members, level)
        return _total(down), _total(up)

    def _move(self, members: IntArray, level: int, steps: int) -> int:
        """Move the scores of one level by ``steps`` ulps together, as evenly as their room allows. Returns the steps made."""
        at, down, up = self._rooms(members, level)
        made = _evenly(up if steps > 0 else down, abs(steps))
        sign = 1 if steps > 0 else -1
        self.y[at] += sign * np.ldexp(made.astype(np.float64), level)
        return sign * _total(made)

    def holds(self) -> bool:
        """Whether every score that could move lies in its box."""
        y, low, high = (a[self.moves] for a in (self.y, self.low, self.high))
        return bool(((y >= low) & (y <= high)).all())


def _evenly(room: IntArray, steps: int) -> IntArray:
    """(k,) whole numbers <= room < 2**54 that sum to ``steps``, or to all the room, as even as can be."""
    k = room.shape[0]
    if k == 0 or steps >= _total(room):
        return room
    low, high = 0, 1 << 54  # the water level: rooms below it are filled. It is found in 54 halvings
    if steps <= k * int(room.min()):
        low = steps // k
        high = low + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _total(np.minimum(room, middle)) <= steps else (low, middle)
    made = np.minimum(room, low)
    rest = steps - _total(made)  # less than one for each score with room left
    if rest > 0:
        left = np.flatnonzero(room > made)
        made[left[(np.arange(rest) * left.size) // rest]] += 1  # spread over the unit
    return made


def _total(a: IntArray) -> int:
    """The exact sum of whole numbers >= 0 under 2**54, of which int64 could not hold many."""
    return (int((a >> 27).sum()) << 27) + int((a & ((1 << 27) - 1)).sum())


def _nearest(a: int, b: int) -> int:
    """a / b rounded to the nearest whole number; b > 0."""
    return (2 * a + b) // (2 * b)


def _towards_zero(a: int, b: int) -> int:
    return a // b if a >= 0 else -(-a // b)


def _whole(s: Fraction) -> int:
    """A sum of float64 numbers in units of 2**-1074."""
    return s.numerator << (LEAST + 1 - s.denominator.bit_length())
