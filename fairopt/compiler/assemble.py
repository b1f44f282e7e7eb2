"""From items to the arrays of a ``ProjectionProblem``: rows without unused masks, constants summed exactly, labels told apart."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import IntArray
from fairopt.basics.errors import UnsupportedError
from fairopt.basics.exact_sums import exact_cell_sums, exact_counted_sums, nearest_float
from fairopt.basics.sparse import SparseRows, entries_of
from fairopt.compiler.cells_of_rows import scales_of_items
from fairopt.compiler.gather import Gathered
from fairopt.compiler.items import Item, Members, Row, listed_rows, offsets_of, row_names
from fairopt.contract.problem import HARD, Distance, ProjectionProblem, Softness
from fairopt.contract.rows import Rows
from fairopt.notions.batch import Batch
from fairopt.notions.cells import merge


class Constants:
    """The constants of rows: means of values, each summed exactly once and rounded once."""

    def __init__(self, gathered: Gathered, values: list[Tensor], copies: IntArray | None = None) -> None:
        self._gathered, self._values, self._copies = gathered, values, copies
        self._sums: dict[int, list[Fraction]] = {}

    def fill(self, items: Iterable[Item]) -> None:
        """Set ``offset`` of each row to the float64 nearest to its exact constant; infinite where float64 ends."""
        for _, row in listed_rows(items):
            row.offset = nearest_float(self._exact(row)) if row.terms else row.constant

    def _exact(self, row: Row) -> Fraction:
        g = self._gathered
        total = Fraction(row.constant)
        for scale, mask, v in row.terms:
            if v not in self._sums:
                values, cells = self._values[v].numpy(), g.masks.shape[1]
                if self._copies is None:
                    self._sums[v] = exact_cell_sums(values, g.cell, cells)
                else:
                    self._sums[v] = exact_counted_sums(values, self._copies, g.cell, cells)
            inside = sum((self._sums[v][c] for c in entries_of(g.masks, mask).tolist()), Fraction(0))
            total += Fraction(scale) * inside / int(g.mask_counts[mask])
        return total


def rows_of(gathered: Gathered, items: list[Item], values: list[Tensor], batch: Batch) -> Rows:
    """The arrays of ``Rows``, without masks that no remaining row names."""
    named = _named(items, len(gathered.names))
    place = np.full(len(gathered.names), -1, dtype=np.int64)
    place[named] = np.arange(named.size)
    terms: list[tuple[int, float, int, int]] = []
    dense: list[Tensor] = []
    dense_rows: list[int] = []
    weights = batch.dense_weights
    if batch.copies is not None and any(row.dense for _, row in listed_rows(items)):
        raise UnsupportedError("rows with a weight of their own for each sample (batch.weighted): not supported where samples are counted")
    for k, row in listed_rows(items):
        terms += [(k, s, int(place[m]), v) for s, m, v in row.terms]
        terms += [(k, row.constant, -1, -1)] if row.constant else []
        if row.dense:
            dense.append(torch.from_numpy(weights.row(row.dense.items())))
            dense_rows.append(k)
    cell, masks, counts = gathered.cell, gathered.masks, gathered.counts
    if len(named) < masks.shape[0]:  # cells that only a removed mask told apart
        place_of, masks = merge(masks.take(named) if isinstance(masks, SparseRows) else masks[named])
        counts = np.bincount(place_of, weights=counts).astype(np.int64)
        cell = place_of[cell]
    result = Rows(
        cell=torch.from_numpy(cell),
        masks=masks,
        scales=scales_of_items(items, masks, place),
        offset=offsets_of(items),
        offset_terms=tuple(terms),
        values=tuple(values),
        dense=torch.stack(dense) if dense else None,
        dense_rows=np.array(dense_rows, dtype=np.int64),
        copies=batch.copies,
    )
    result.know({"counts": counts})
    return result


def _named(items: list[Item], masks: int) -> IntArray:
    """The masks that rows name, rising."""
    named = np.zeros(masks, dtype=np.bool_)
    for item in items:
        if isinstance(item.rows, Members):
            named[item.rows.masks] = True
    for _, row in listed_rows(items):
        named[[*row.scales, *(m for _, m, _ in row.terms)]] = True
    return np.flatnonzero(named)


def assemble(
    rows: Rows,
    linear: tuple[Item, ...],
    ranges: tuple[Item, ...],
    lb: float | Tensor,
    ub: float | Tensor,
    weights: Tensor | None,
    gathered: Gathered,
    batch: Batch,
    distance: Distance,
) -> ProjectionProblem:
    labels = [item.label for item in linear] + [f"{item.header}: {name}" for item in ranges for name in row_names(item)]
    return ProjectionProblem(
        rows=rows,
        lower=np.array([item.low() for item in linear], dtype=np.float64),
        upper=np.array([item.high() for item in linear], dtype=np.float64),
        width=np.array([item.wide() for item in ranges], dtype=np.float64),
        range_starts=np.cumsum([len(linear), *(len(item.rows) for item in ranges)]).astype(np.int64),
        lb=lb,
        ub=ub,
        weights=weights,
        softness=tuple(_softness(item) for item in (*linear, *ranges)),
        labels=_unique(labels),
        constraint_labels=_unique([item.label for item in (*linear, *ranges)]),
        dropped=gathered.dropped,
        used_targets=batch.used_targets,
        group_counts=_group_counts(gathered, batch),
        ratio=np.array([item.ratio for item in ranges], dtype=np.float64),
        vacuous=not gathered.items,
        distance=distance,
    )


def _softness(item: Item) -> Softness:
    return HARD if item.soft.kind == "hard" else Softness(item.soft.kind, item.soft.weight.value(), item.soft.block)


def _unique(labels: list[str]) -> tuple[str, ...]:
    """The labels, numbered from the second of the same."""
    seen: dict[str, int] = {}
    result: list[str] = []
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        result.append(label if seen[label] == 1 else f"{label} #{seen[label]}")
    return tuple(result)


def _group_counts(gathered: Gathered, batch: Batch) -> tuple[tuple[str, int], ...]:
    """Samples of every group of every attribute that was read, absent ones with 0."""
    counts: list[tuple[str, int]] = []
    known = gathered.combinations
    for j, column in enumerate(batch.columns):
        if not column.attribute:
            continue
        if j in known.table:
            sizes = np.bincount(known.table[j], weights=known.counts, minlength=column.size)
        else:
            sizes = np.bincount(column.codes, weights=batch.copies, minlength=column.size)
        counts += [
            (f"{column.attribute}={name}", int(size) // (batch.outputs or 1)) for name, size in zip(column.names, sizes, strict=True)
        ]
    return tuple(counts)
