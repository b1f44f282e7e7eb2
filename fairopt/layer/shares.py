"""One rank's share of a batch, read: which distinct compositions its samples have, and what else a problem is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.columns import Value, group_values, length, numbers, read_features, real_vector
from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.compiler.facts import read_bounds, read_weights
from fairopt.notions import Notion
from fairopt.notions.batch import Batch
from fairopt.notions.cells import combine
from fairopt.notions.events import Column
from fairopt.notions.groups import Missing, Vocabulary
from fairopt.notions.labels import read_targets

Kind = tuple[Any, ...]  # a distinct composition: the value of each attribute, and the target where the notion reads targets
MOST_KINDS = 1 << 12


@dataclass(frozen=True, eq=False)
class Share:
    """n samples, 0 among them.

    kinds, where    their distinct compositions, and each sample's (n,). None where they are too many, or an attribute is no group
    columns         attribute -> codes (n,) with the values that they stand for, or float64 numbers (n,)
    targets, weights  (n,) or None;  lb, ub  a number, or (n,) float64
    """

    n: int
    kinds: list[Kind] | None
    where: IntArray
    columns: dict[str, tuple[IntArray, list[Value]] | Array]
    targets: Array | None
    weights: Tensor | None
    lb: float | Tensor
    ub: float | Tensor

    @property
    def by_sample(self) -> bool:
        """Whether bounds are given for each sample."""
        return isinstance(self.lb, Tensor) or isinstance(self.ub, Tensor)


@dataclass(frozen=True, eq=False)
class Reading:
    """How columns are read: the notion, the vocabularies known so far and whether they may grow, missing values, the positive label."""

    notion: Notion
    vocabularies: Mapping[str, Vocabulary]
    grow: bool
    missing_group: Missing
    pos_label: Any


def read_share(how: Reading, n: int | None, sensitive_features: Any, targets: Any, weights: Any, bounds: Any) -> Share:
    """The share of n samples; None: as many as the features have values. Raises InputError for what cannot be read."""
    notion = how.notion
    features = read_features(sensitive_features, notion.attributes)
    if n is None:
        name = next((a for a in notion.attributes if a in features), next(iter(features)))
        n = length(features[name], f"sensitive_features[{name!r}]")
    if notion.needs_targets and targets is None:
        raise InputError(f"{notion!r} needs targets; pass targets= ({n},)")
    labels = _labels(targets, n, how.pos_label) if notion.needs_targets else None
    columns, codes = _columns(how, n, features)
    lb, ub = _bounds(bounds, n)
    w = read_weights(weights, n) if n else None
    kinds, where = None, np.zeros(0, dtype=np.int64)
    if codes is not None:
        kinds, where = _kinds(codes, labels, n)
    return Share(n, kinds, where, columns, labels, w, lb, ub)


def _labels(targets: Any, n: int, pos_label: Any) -> Array:
    if n == 0:
        return np.zeros(0)
    read = read_targets(targets, n, pos_label)
    if read.requires_grad:
        raise UnsupportedError("targets that require grad: not supported on a process group; pass targets.detach()")
    labels: Array = numbers(read, n, "targets").cpu().double().numpy()
    return labels


def _bounds(bounds: Any, n: int) -> tuple[float | Tensor, float | Tensor]:
    if n:
        return read_bounds(bounds, n)
    sides = [b if b is None or np.ndim(b) == 0 else 0.0 for b in bounds] if isinstance(bounds, (tuple, list)) else bounds
    return read_bounds(sides, 1)


def _columns(
    how: Reading, n: int, features: Mapping[str, Any]
) -> tuple[dict[str, tuple[IntArray, list[Value]] | Array], list[tuple[Column, Vocabulary]] | None]:
    """The values of each attribute, and its codes; None for these where an attribute is a column of numbers."""
    batch = Batch(n, features, None, vocabularies=how.vocabularies, grow=how.grow, missing_group=how.missing_group)
    values: dict[str, tuple[IntArray, list[Value]] | Array] = {}
    codes: list[tuple[Column, Vocabulary]] | None = []
    for name in how.notion.attributes:
        if name in features and _continuous(features[name], name):
            values[name], codes = real_vector(features[name], n, f"sensitive_features[{name!r}]"), None
            continue
        batch.groups(name)
        column = next(c for c in batch.columns if c.attribute == name)
        vocabulary = batch.vocabularies[name]
        values[name] = column.codes, vocabulary.to_list()
        if codes is not None:
            codes.append((column, vocabulary))
    return values, codes


def _continuous(column: Any, name: str) -> bool:
    """Whether a column holds numbers that name no groups."""
    try:
        group_values(column, f"sensitive_features[{name!r}]")
    except InputError:
        return True
    return False


def _kinds(codes: Sequence[tuple[Column, Vocabulary]], labels: Array | None, n: int) -> tuple[list[Kind] | None, IntArray]:
    columns, tables = [c for c, _ in codes], [list(v.values) for _, v in codes]
    if labels is not None:
        present, place = np.unique(labels, return_inverse=True)
        if present.shape[0] > MOST_KINDS:
            return None, np.zeros(0, dtype=np.int64)
        columns.append(Column(place.reshape(n).astype(np.int64), max(1, present.shape[0]), (), ""))
        tables.append(present.tolist())
    if n == 0:
        return [], np.zeros(0, dtype=np.int64)
    found = combine(columns, range(len(columns)), n)
    if found.counts.shape[0] > MOST_KINDS:
        return None, np.zeros(0, dtype=np.int64)
    listed = [[table[code] for code in found.table[j].tolist()] for j, table in enumerate(tables)]
    return [tuple(part) for part in zip(*listed, strict=True)] if listed else [()], found.key
