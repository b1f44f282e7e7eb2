"""The families of any notion, read off the constraints that it yields on a small made-up batch.

The batch has every combination of made-up groups of each attribute and the targets 0 and 1, so that the structure of a constraint is
plain: a range over the groups of an attribute, all pairs of groups compared, or limits on each group's mean; of scores or of score minus
target; among everyone or the samples with one target. What is something else is refused with the constraint's label. A second batch, of
another size and other groups, must give the same families.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from fairopt.basics.errors import UnsupportedError
from fairopt.notions import Notion
from fairopt.notions.batch import Batch
from fairopt.notions.events import columns_of, evaluate
from fairopt.notions.functional import Constraint, Functional
from fairopt.streaming.families import Family, anchored, parity

GROUPS = ("a", "b", "c")
OTHERS = ("p", "q", "r", "s")
_MOST = 5  # attributes: 4^5 combinations
_INFINITY = float("inf")


@dataclass(frozen=True)
class Cell:
    """A group: value by attribute, and the target of its samples (None: any)."""

    values: tuple[tuple[str, str], ...]
    target: int | None

    @property
    def attributes(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.values)


@dataclass(frozen=True)
class Mean:
    """scale * (mean of score, or of score minus target, over the cell) + constant."""

    scale: float
    cell: Cell
    residual: bool


def derived_families(notion: Notion) -> list[Family]:
    """The families of a notion without softness; UnsupportedError that names the constraint and the reason where one cannot be streamed."""
    names = notion.attributes
    if not names or len(names) > _MOST:
        raise UnsupportedError(f"{notion!r} cannot be streamed: it names {len(names)} attributes, expected 1 to {_MOST}")
    found = _Reader(notion, names, GROUPS, 2).families()
    if found != _Reader(notion, names, OTHERS, 3).families():
        raise UnsupportedError(f"{notion!r} cannot be streamed: what it asks changes with the batch's size or number of groups")
    return found


class _Reader:
    """One made-up batch and what the notion asks of it. groups: the values of each attribute; samples: how many of each combination."""

    def __init__(self, notion: Notion, names: tuple[str, ...], groups: tuple[str, ...], samples: int) -> None:
        self.notion, self.names, self.groups = notion, names, groups
        rows = list(itertools.product(*[groups] * len(names), (0.0, 1.0), range(samples)))
        self.features = {name: [row[k] for row in rows] for k, name in enumerate(names)}
        self.targets = np.array([row[-2] for row in rows])
        self.batch = Batch(len(rows), self.features, self.targets)
        self.cells = {self._members(cell): cell for cell in self._all_cells()}

    def _all_cells(self) -> list[Cell]:
        """Every group of every set of attributes, within each target and over both; larger sets first, so that a set's own name wins."""
        subsets = [s for k in range(len(self.names), 0, -1) for s in itertools.combinations(self.names, k)]
        return [
            Cell(tuple(zip(subset, values, strict=True)), target)
            for subset in subsets
            for values in itertools.product(self.groups, repeat=len(subset))
            for target in (None, 0, 1)
        ]

    def _members(self, cell: Cell) -> bytes:
        inside = np.ones(self.batch.n, dtype=np.bool_)
        for name, value in cell.values:
            inside &= np.array([v == value for v in self.features[name]])
        return (inside if cell.target is None else inside & (self.targets == cell.target)).tobytes()

    def families(self) -> list[Family]:
        try:
            found = list(self.notion.constraints(self.batch))
        except Exception as error:  # the notion's own code, on a batch that it may not expect
            raise UnsupportedError(
                f"{self.notion!r} cannot be streamed: it fails on a batch with the made-up groups {', '.join(self.groups)} "
                f"({type(error).__name__}: {error}); write its families instead, fairopt.streaming.parity(...) or anchored(...)"
            ) from error
        sides: dict[tuple[Cell, bool], list[float]] = {}
        gaps: dict[tuple[Cell, Cell, bool], float] = {}
        ranges: dict[tuple[frozenset[Cell], bool], float] = {}
        for c in found:
            self._sort(c, sides, gaps, ranges)
        out = [self._range(cells, residual, t) for (cells, residual), t in ranges.items()]
        return self._merged([*out, *self._from_gaps(gaps), *self._from_sides(sides)], len(found))

    def _sort(self, c: Constraint, sides: Any, gaps: Any, ranges: Any) -> None:
        """Put one constraint where it belongs: ranges, differences of two means, limits of one."""
        if c.width is not None:
            if c.ratio is not None:
                self._refuse(c, "a ratio of means has no proved controller")
            members = [self._means(c, f) for f in c.functionals]
            if any(len(m) != 1 or m[0].scale != 1.0 for m in members) or any(f.constant.value() for f in c.functionals):
                self._refuse(c, "its members are not plain means of groups")
            key = frozenset(m[0].cell for m in members), members[0][0].residual
            if len({m[0].residual for m in members}) != 1:
                self._refuse(c, "it compares means of scores with means of residuals")
            ranges[key] = min(ranges.get(key, _INFINITY), c.width.value())
            return
        means = self._means(c, c.functionals[0])
        shift = c.functionals[0].constant.value()
        low = -_INFINITY if c.lower is None else c.lower.value() - shift
        high = _INFINITY if c.upper is None else c.upper.value() - shift
        if len(means) == 1:
            scale = means[0].scale
            low, high = (low / scale, high / scale) if scale > 0 else (high / scale, low / scale)
            old = sides.setdefault((means[0].cell, means[0].residual), [-_INFINITY, _INFINITY])
            old[0], old[1] = max(old[0], low), min(old[1], high)
            return
        if len(means) != 2 or means[0].scale != -means[1].scale or means[0].residual != means[1].residual:
            self._refuse(c, "it is neither the mean of one group nor the difference of two")
        one, two, scale = means[0].cell, means[1].cell, means[0].scale
        low, high = (low / scale, high / scale) if scale > 0 else (high / scale, low / scale)
        for a, b, limit in ((one, two, high), (two, one, -low)):  # mean(a) - mean(b) <= limit
            key3 = a, b, means[0].residual
            gaps[key3] = min(gaps.get(key3, _INFINITY), limit)

    def _means(self, c: Constraint, f: Functional) -> list[Mean]:
        """The functional's means with scale other than 0, by group."""
        if f.dense:
            self._refuse(c, "it weighs each sample by itself, so it is no mean over groups")
        scores: dict[Cell, float] = defaultdict(float)
        offsets: dict[Cell, float] = defaultdict(float)
        for scale, event in f.means:
            scores[self._cell(c, event)] += scale
        for scale, event, k in f.constants:
            if not np.array_equal(self.batch.values[k].numpy(), self.targets):
                self._refuse(c, "it compares with the mean of other values than the targets")
            offsets[self._cell(c, event)] += scale
        out = []
        for cell, scale in scores.items():
            offset = offsets.pop(cell, 0.0)
            if offset not in (0.0, -scale):
                self._refuse(c, f"its mean of targets has the factor {offset:g}, expected {-scale:g} (score minus target)")
            out += [Mean(scale, cell, offset != 0.0)] if scale else []
        if any(offsets.values()) or not out:
            self._refuse(c, "it holds means of targets alone, or no mean of scores")
        return out

    def _cell(self, c: Constraint, event: Any) -> Cell:
        table = {k: self.batch.columns[k].codes for k in columns_of(event.key)}
        cell = self.cells.get(evaluate(event.key, table, self.batch.n).tobytes())
        if cell is None:
            self._refuse(c, f"{event.name!r} is no group of the attributes, nor one among the samples with target 0 or 1")
        return cell

    def _from_gaps(self, gaps: dict[tuple[Cell, Cell, bool], float]) -> list[tuple[Family, int]]:
        """Ranges out of differences: the groups that are compared, of which all pairs must be, at one limit."""
        near: dict[tuple[bool, Cell], set[Cell]] = defaultdict(set)
        for a, b, residual in gaps:
            near[residual, a].add(b)
        out: list[tuple[Family, int]] = []
        done: set[tuple[bool, Cell]] = set()
        for residual, a in near:
            if (residual, a) in done:
                continue
            cells = {a, *near[residual, a]}
            done |= {(residual, cell) for cell in cells}
            limits = {gaps.get((x, y, residual), _INFINITY) for x, y in itertools.permutations(cells, 2)}
            if len(limits) != 1 or not 0.0 <= min(limits) < _INFINITY:
                raise UnsupportedError(
                    f"{self.notion!r} cannot be streamed: its differences of means do not hold all pairs of groups to one limit on both "
                    "sides, and streams compare all pairs; write abs(mean(a) - mean(b)) <= t for all pairs, or batch.range(groups) <= t"
                )
            out.append(self._range(frozenset(cells), residual, limits.pop()))
        return out

    def _range(self, cells: frozenset[Cell], residual: bool, t: float) -> tuple[Family, int]:
        """One stratum's range: the attributes in which the cells differ are compared, those in which they agree are the stratum."""
        names = {cell.attributes for cell in cells}
        targets = {cell.target for cell in cells}
        if len(names) != 1 or len(targets) != 1:
            raise UnsupportedError(
                f"{self.notion!r} cannot be streamed: it compares groups of different attributes, or of different targets"
            )
        (attributes,), (target,) = names, targets
        differ = tuple(n for k, n in enumerate(attributes) if len({cell.values[k][1] for cell in cells}) > 1)
        if not differ or len(cells) != len(self.groups) ** len(differ):
            raise UnsupportedError(f"{self.notion!r} cannot be streamed: it compares some of the groups, and streams compare all of them")
        given = tuple(n for n in attributes if n not in differ)
        return parity(differ, tolerance=t, given=given, name=self.notion.name, condition=target, residual=residual), len(given)

    def _from_sides(self, sides: dict[tuple[Cell, bool], list[float]]) -> list[tuple[Family, int]]:
        """Limits on each group's mean. Which attributes are strata makes no difference to them: all are compared ones."""
        out = []
        for (cell, residual), (low, high) in sides.items():
            if cell.target is not None:
                raise UnsupportedError(
                    f"{self.notion!r} cannot be streamed: limits on means among the samples with target {cell.target} have no controller"
                )
            if not low <= high:
                raise UnsupportedError(f"{self.notion!r} cannot be streamed: its limits on a mean exclude each other ({low:g}, {high:g})")
            family = anchored(cell.attributes, lower=low, upper=high, name=self.notion.name, residual=residual)
            out.append((family, len(cell.attributes)))
        return out

    def _merged(self, parts: list[tuple[Family, int]], found: int) -> list[Family]:
        """One family where all groups or strata have the same; UnsupportedError where some are left out."""
        counts: dict[Family, int] = defaultdict(int)
        for family, _ in parts:
            counts[family] += 1
        if not counts:
            raise UnsupportedError(f"{self.notion!r} cannot be streamed: it yields {found} constraints, none on the mean of a group")
        for family, free in parts:
            if counts[family] != len(self.groups) ** free:
                raise UnsupportedError(
                    f"{self.notion!r} cannot be streamed: {family.label} is asked of {counts[family]} of {len(self.groups) ** free} "
                    "groups or strata, or not of all alike; streams ask the same of each"
                )
        return list(counts)

    def _refuse(self, c: Constraint, why: str) -> NoReturn:
        label = ", ".join(f.label() for f in c.functionals[:3])
        raise UnsupportedError(f"{self.notion!r} cannot be streamed: of its constraint on {label}, {why}")
