"""What is asked of the rows of files: the notion, the columns that it reads, the box; read and checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from torch import Tensor

from fairopt.basics.errors import InputError
from fairopt.basics.files import Dialect
from fairopt.compiler.facts import read_bounds
from fairopt.datasets.find import Shard
from fairopt.datasets.reading import Wanted
from fairopt.notions.algebra import Notion
from fairopt.notions.groups import Attribute, Missing
from fairopt.notions.named import continuous


@dataclass(frozen=True)
class Question:
    """A projection of all rows of ``shards``. strict: a row that cannot be used is an error; threshold: of decisions that are counted."""

    notion: Notion
    shards: tuple[Shard, ...]
    dialect: Dialect
    wanted: Wanted
    bounds: tuple[float, float]
    missing: Missing
    threshold: float
    strict: bool


def question_of(
    notion: Notion, shards: tuple[Shard, ...], dialect: Dialect, *, score: str, target: str | None, bounds: Any, pos_label: str | None,
    missing_group: Missing, weights: str | None = None, threshold: float = 0.5, beside: Sequence[Attribute] = (), strict: bool = True,
) -> Question:  # fmt: skip
    """``beside``: attributes that are shown, beside the notion's. InputError for what is no notion, no box, or lacks its targets."""
    if not isinstance(notion, Notion):
        raise InputError(f"notion must be a notion such as DemographicParity('sex', tolerance=0.05), came {notion!r}")
    if any(isinstance(v, Tensor) for leaf in notion.leaves() for v in leaf.notion.arguments.values()):
        raise InputError(f"{notion!r}: got a tensor among its arguments, expected plain numbers: nothing is learned here")
    if missing_group not in ("error", "own"):
        raise InputError(f"missing_group must be one of 'error', 'own', came {missing_group!r}")
    if notion.needs_targets and target is None:
        raise InputError(f"{notion!r} needs targets; pass target=, the name of their column")
    numeric = tuple(a for a in notion.attributes if a in continuous([notion]))
    extra = [part for a in beside for part in ((a,) if isinstance(a, str) else a)]
    groups = tuple(dict.fromkeys(a for a in (*notion.attributes, *extra) if a not in numeric))
    targets = target if notion.needs_targets else None
    wanted = Wanted(score, groups, numeric, targets, weights, pos_label, missing_group == "own", dialect.decimal)
    return Question(notion, shards, dialect, wanted, _box(bounds), missing_group, threshold, strict)


def _box(bounds: Any) -> tuple[float, float]:
    low, high = read_bounds(bounds, 1)
    assert not isinstance(low, Tensor)
    assert not isinstance(high, Tensor)
    if low == inf or high == -inf:
        raise InputError(f"bounds: got {bounds!r}, expected a least and a largest score")
    return float(low), float(high)
