"""All rows of a few files at once, for data sets that are small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairopt.basics.errors import InputError
from fairopt.basics.files import Dialect
from fairopt.datasets.find import Shard
from fairopt.datasets.reading import Wanted
from fairopt.datasets.survey import alike, bad_rows, blocks_of
from fairopt.datasets.tables import open_table


@dataclass(frozen=True, eq=False)
class Loaded:
    """scores (n,) float32 or float64; features: attribute -> n values or numbers; targets, decisions (n,) or None."""

    scores: Any
    features: dict[str, Any]
    targets: Any
    decisions: Any


def load(shards: Sequence[Shard], dialect: Dialect, wanted: Wanted) -> Loaded:
    """InputError for what cannot be read, rows that cannot be used, files that differ in columns or types, and no rows at all."""
    alike([(shard, _types(shard, dialect, wanted)) for shard in shards])
    blocks = []
    for shard in shards:
        rows = 0
        for block in blocks_of(shard, dialect, wanted):
            rows += block.n
            if block.rejects:
                raise InputError(bad_rows(shard, block.rejects, rows, may_leave_out=False))
            blocks.append(block)
    blocks = [block for block in blocks if block.n]
    if not blocks:
        raise InputError(f"{shards[0].path}: got no rows in {len(shards)} file{'s'[: len(shards) != 1]}, expected one")
    features: dict[str, Any] = {
        name: [block.values[name][k] for block in blocks for k in block.codes[name].tolist()] for name in wanted.groups
    }
    features |= {name: np.concatenate([block.numbers[name] for block in blocks]) for name in wanted.numeric}
    scores, targets, decisions = (_joined([getattr(block, name) for block in blocks]) for name in ("scores", "targets", "decisions"))
    return Loaded(scores, features, targets, decisions)


def _joined(columns: list[Any]) -> Any:
    return None if columns[0] is None else np.concatenate(columns)


def _types(shard: Shard, dialect: Dialect, wanted: Wanted) -> dict[str, str]:
    table = open_table(shard, dialect, wanted.columns)
    table.close()
    return table.types
