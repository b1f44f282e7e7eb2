"""Compositions that differ from an earlier one in their counts alone.

Of a notion on a vocabulary, masks, scales, labels, limits and what presolve makes of them hang on *which* combinations of groups have
samples, and shuffled batches have nearly always the same ones. Such a batch takes all that from the earlier problem, its template, and
works out its own cells and counts: one code a sample, one table of counts. The problem is the one that compiling gives, in every number.

Presolve looks at counts in two places, and both are looked at again: whether two rows are multiples of each other (``duplicates``), and
what the bounds let a row reach (``reach``). Where rows are sums of means over disjoint masks neither answer can hang on counts: signs tell
the directions apart, and a mean reaches its bounds however many samples it has. Else both are worked out anew, and a template whose
answers differ steps aside.

A template is left to compiling where a fact is a number a sample (bounds, means of targets, dense rows), where a parameter can move, and
where presolve removed a mask, joined rows or opened a limit.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.compiler.cells_of_rows import Cells
from fairopt.compiler.duplicates import directions
from fairopt.compiler.gather import Gathered
from fairopt.compiler.items import Item, Removed, Row
from fairopt.compiler.presolve import Decided, changes
from fairopt.compiler.reach import Box, always_met, reaches, surely_open
from fairopt.contract.problem import Distance, ProjectionProblem
from fairopt.contract.rows import Rows, shares_of_cells
from fairopt.contract.workspace import Workspace
from fairopt.notions.algebra import Notion
from fairopt.notions.batch import Batch, Recipe

CODES = 1 << 12  # combinations of codes
ENTRIES = 1 << 16  # of scales and masks
NOTIONS, TEMPLATES = 32, 64  # kept: notions with their bounds, and of each the compositions of groups
UNLIKE = 1e-8  # entries so much smaller than the largest of their row still count in ``duplicates``


@dataclass(frozen=True, eq=False)
class Coded:
    """A batch by its combinations of codes: code (n,), counts of all codes, and the key of its template."""

    code: IntArray
    counts: IntArray
    key: Hashable


def coded(batch: Batch, recipe: Recipe, used: Sequence[int]) -> Coded | None:
    """The codes of ``batch``, whose columns are there; None where there are too many of them."""
    columns = batch.columns
    if math.prod(columns[j].size for j in used) > CODES:
        return None
    code, size = columns[used[0]].codes, columns[used[0]].size
    for j in used[1:]:
        code = code * columns[j].size
        code += columns[j].codes
        size *= columns[j].size
    counts = np.bincount(code, minlength=size)
    read = (batch.vocabularies[name] for name in recipe if isinstance(name, str))
    vocabularies = tuple((v.values, v.kind, v.declared) for v in read)
    return Coded(code, counts, (vocabularies, (counts != 0).tobytes()))


@dataclass(frozen=True, eq=False)
class Template:
    """A problem without its samples.

    present (p,): the codes that occur;  cell_of (codes,): the cell of each, -1 where it does not occur;  identity: it is the code
    one_to_one: each of the p codes is a cell of its own, in order;  digits: of each used column, the p codes' own codes in it
    groups: (column, labels of its groups) of every attribute column
    rows, problem: the fields that are the same;  linear (k, M) and offsets (k,): rows to be told apart, None where signs do;
    ratio: the largest over the smallest scale of a row;  reached: items to be held against the bounds again
    kin: what solvers work out of these problems and share between them
    """

    present: IntArray
    cell_of: IntArray
    identity: bool
    one_to_one: bool
    digits: dict[int, IntArray]
    groups: tuple[tuple[int, tuple[str, ...]], ...]
    rows: dict[str, Any]
    problem: dict[str, Any]
    linear: Array | None
    offsets: Array
    ratio: float
    reached: list[Item]
    names: list[str]
    removed: tuple[tuple[str, str], ...]
    kin: Workspace = field(default_factory=Workspace)

    def filled(self, coded: Coded, batch: Batch, weights: Tensor | None) -> ProjectionProblem | None:
        """The problem of a batch with these combinations; None where a decision differs."""
        cell = coded.code if self.identity else self.cell_of[coded.code]
        held = coded.counts[self.present]
        rows = Rows(cell=torch.from_numpy(cell), **self.rows)
        of_cells = held if self.one_to_one else np.bincount(self.cell_of[self.present], weights=held).astype(np.int64)
        rows.know({"counts": of_cells})
        if not self.decides_alike(rows, cell):
            return None
        problem = ProjectionProblem(rows=rows, weights=weights, group_counts=self._group_counts(held, batch), **self.problem)
        problem.workspace.put("kin", self.kin)
        return problem

    def decides_alike(self, rows: Rows, cell: IntArray) -> bool:
        """Whether presolve decides as it did for the template; ``cell`` (n,) those of ``rows``."""
        if not self.ratio * rows.n < 1.0 / UNLIKE:
            return False
        if self.linear is not None:
            keys = directions(np.asarray(shares_of_cells(self.linear, rows.masks, rows.mask_counts)), self.offsets)
            if len(set(keys)) < len(keys):
                return False
        if not self.reached:
            return True
        items = [replace(item) for item in self.reached]
        box = Box(self.problem["lb"], self.problem["ub"], cell, None)
        found = reaches(items, Cells(rows.masks, rows.counts, rows.mask_counts, self.names), box)
        return not any(changes(item, always_met(item, reach, []), old) for item, reach, old in zip(items, found, self.reached, strict=True))

    def _group_counts(self, held: IntArray, batch: Batch) -> tuple[tuple[str, int], ...]:
        counts: list[tuple[str, int]] = []
        for j, labels in self.groups:
            if j in self.digits:
                sizes = np.bincount(self.digits[j], weights=held, minlength=len(labels)).astype(np.int64)
            else:
                sizes = np.bincount(batch.columns[j].codes, minlength=len(labels))
            counts += zip(labels, sizes.tolist(), strict=True)
        return tuple(counts)


@dataclass(frozen=True, eq=False)
class Family:
    """What all batches of one notion between the same bounds have in common: how their columns come about, and which the masks name."""

    recipe: Recipe
    used: tuple[int, ...]
    templates: OrderedDict[Hashable, Template] = field(default_factory=OrderedDict)


class TemplateMemory:
    """The families of the notions that were compiled lately. Threads may share it."""

    def __init__(self) -> None:
        self._families: OrderedDict[Hashable, Family] = OrderedDict()
        self._lock = threading.Lock()

    def family(self, key: Hashable) -> Family | None:
        with self._lock:
            found = self._families.get(key)
            if found is not None:
                self._families.move_to_end(key)
            return found

    def template(self, family: Family, key: Hashable) -> Template | None:
        with self._lock:
            found = family.templates.get(key)
            if found is not None:
                family.templates.move_to_end(key)
            return found

    def put(self, key: Hashable, recipe: Recipe, used: tuple[int, ...], composition: Hashable, template: Template) -> None:
        with self._lock:
            family = self._families.setdefault(key, Family(recipe, used))
            family.templates[composition] = template
            while len(family.templates) > TEMPLATES:
                family.templates.popitem(last=False)
            while len(self._families) > NOTIONS:
                self._families.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._families.clear()


MEMORY = TemplateMemory()


def key_of(notion: Notion, lb: float | Tensor, ub: float | Tensor, distance: Distance) -> Hashable | None:
    """What a notion between bounds is remembered under; None where its problems have no template."""
    words = None if isinstance(lb, Tensor) or isinstance(ub, Tensor) else notion.signature
    return None if words is None else (words, repr(lb), repr(ub), distance)


def from_template(key: Hashable, batch: Batch) -> tuple[Template, Coded] | None:
    """The template of ``batch``, and its combinations; None where there is none for it. Errors are those of reading."""
    family = MEMORY.family(key)
    if family is None or not batch.follow(family.recipe):
        return None
    found = coded(batch, family.recipe, family.used)
    template = None if found is None else MEMORY.template(family, found.key)
    return None if found is None or template is None else (template, found)


def remember(key: Hashable, batch: Batch, gathered: Gathered, decided: Decided, problem: ProjectionProblem, removed: Removed) -> None:
    """Keep what ``problem`` shares with others, if it may be shared."""
    cells, used = gathered.cells, tuple(gathered.combinations.table)
    recipe, rows = batch.recipe(), problem.rows
    if recipe is None or not used or batch.values or decided.changed or rows.masks is not cells.masks:
        return
    scales = rows.scales
    if not isinstance(rows.masks, np.ndarray) or not isinstance(scales, np.ndarray) or max(rows.masks.size, scales.size) > ENTRIES:
        return
    found = coded(batch, recipe, used)
    if found is None:
        return
    made = _template(batch, gathered, decided, problem, removed, found)
    if made.decides_alike(rows, gathered.cell):
        MEMORY.put(key, recipe, used, found.key, made)


def _template(batch: Batch, gathered: Gathered, decided: Decided, problem: ProjectionProblem, removed: Removed, found: Coded) -> Template:
    cells, used = gathered.cells, tuple(gathered.combinations.table)
    rows = problem.rows
    present, cell_of = np.flatnonzero(found.counts), np.full(found.counts.shape[0], -1, dtype=np.int64)
    cell_of[found.code] = gathered.cell  # no mask went, and with it no cell
    digits, below = {}, 1
    for j in reversed(used):
        digits[j] = present // below % batch.columns[j].size
        below *= batch.columns[j].size
    named = [(j, column) for j, column in enumerate(batch.columns) if column.attribute]
    linear = scales_of_rows(decided.linear, len(cells.names))
    everything = np.concatenate([linear, np.asarray(rows.scales)])
    sizes = np.abs(everything[everything != 0])
    told_apart = len(decided.linear) < 2 or signs_differ(linear, cells.masks)
    lb, ub = problem.lb, problem.ub
    assert not isinstance(lb, Tensor)
    assert not isinstance(ub, Tensor)
    reached = [] if math.isinf(lb) and math.isinf(ub) else [x for x in decided.reached if not surely_open(x, cells.masks, lb, ub)]
    return Template(
        present=present,
        cell_of=cell_of,
        identity=bool((cell_of == np.arange(cell_of.shape[0])).all()),
        one_to_one=bool((cell_of[present] == np.arange(present.shape[0])).all()),
        digits=digits,
        groups=tuple((j, tuple(f"{column.attribute}={name}" for name in column.names)) for j, column in named),
        rows=_fields(rows, "cell"),
        problem=_fields(problem, "rows", "weights", "group_counts"),
        linear=None if told_apart else linear,
        offsets=np.array([row.offset for row in decided.linear]),
        ratio=float(sizes.max() / sizes.min()) if sizes.size else 1.0,
        reached=reached,
        names=cells.names,
        removed=tuple(removed),
    )


def _fields(made: Rows | ProjectionProblem, *but: str) -> dict[str, Any]:
    return {f.name: getattr(made, f.name) for f in fields(made) if f.name not in but}


def scales_of_rows(rows: list[Row], masks: int) -> Array:
    """(rows, masks) the scales, written out."""
    scales = np.zeros((len(rows), masks))
    for k, row in enumerate(rows):
        for j, s in row.scales.items():
            scales[k, j] = s
    return scales


def signs_differ(scales: Array, masks: Any) -> bool:
    """Whether rows (k, M) have no cell in two of their masks, and no two rows the same signs in all cells, or the opposite ones: then no
    counts make one a multiple of the other."""
    inside = (scales != 0).astype(np.int64) @ masks  # (k, C)
    if bool((inside > 1).any()) or not bool(inside.any(1).all()):
        return False
    signs = np.sign(scales @ masks)
    first = signs[np.arange(signs.shape[0]), (signs != 0).argmax(1)]
    return len({row.tobytes() for row in signs * first[:, None] + 0.0}) == len(scales)
