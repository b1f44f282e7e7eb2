"""``gaps``: what a notion says of given scores, pair by pair, with nothing left out.

Every pair of every range and every linear constraint is one row, absent groups included: their value and gap are None, never 0 and
never NaN. "met" is decided with the exact rational values of the means and the limit as the float64 that was given.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from fairopt.basics.arrays import Array
from fairopt.basics.columns import numbers, read_features
from fairopt.basics.errors import InputError
from fairopt.basics.exact_sums import exact_cell_sums, exact_counted_sums, exact_dot
from fairopt.basics.table import Table
from fairopt.notions.algebra import Leaf, Notion, constraints_on
from fairopt.notions.batch import Batch
from fairopt.notions.cells import combine
from fairopt.notions.events import Mask, columns_of
from fairopt.notions.functional import Constraint, Functional
from fairopt.notions.groups import Missing, declare

COLUMNS = ("notion", "attribute", "given", "group_a", "group_b", "value_a", "value_b", "gap", "limit", "n_a", "n_b", "status")


def gaps(
    scores: Any,
    notion: Notion,
    *,
    sensitive_features: Any,
    targets: Any = None,
    groups: Mapping[str, Iterable[Any]] | None = None,
    missing_group: Missing = "error",
    pos_label: Any = None,
) -> Table:
    """The gaps of ``scores`` (n,) or (n, 1) under ``notion``: one row a pair of groups or a linear constraint.

    Columns: notion, attribute, given, group_a, group_b, value_a, value_b (means), gap, limit, n_a, n_b, status (met, broken, absent).
    "met" means gap <= limit exactly. gap is abs(value_a - value_b) for pairs, abs(f) for abs(f) <= limit, f for f <= limit, and
    lower - f for f >= lower (with limit -lower, so that the sign of the test is the same everywhere). Where both limits are given and
    differ in size, gap is the distance beyond the nearer limit (negative inside) and limit is 0.

    sensitive_features, targets and groups are as in ``compile``. missing_group: "error", or "own": samples whose group is missing are a
    group of their own. pos_label: the target that counts as 1 (every other one as 0). InputError for NaN scores, wrong shapes, unknown
    groups, missing targets.

    Examples:
        >>> print(fo.gaps([0.2, 0.6], fo.DemographicParity("sex", tolerance=0.1), sensitive_features={"sex": ["f", "m"]}))
        notion             attribute  given  group_a  group_b  value_a  value_b  gap  limit  n_a  n_b  status
        -----------------  ---------  -----  -------  -------  -------  -------  ---  -----  ---  ---  ------
        DemographicParity  sex        -      f        m            0.2      0.6  0.4    0.1    1    1  broken
    """
    if not isinstance(notion, Notion):
        raise InputError(f"notion must be a notion such as DemographicParity('sex', tolerance=0.05), came {notion!r}")
    vector = read_scores(scores).detach().to("cpu", torch.float64).numpy()
    features = read_features(sensitive_features, notion.attributes)
    batch = Batch(vector.shape[0], features, targets, vocabularies=declare(groups), missing_group=missing_group, pos_label=pos_label)
    read = constraints_on(notion, batch, written_out=True)
    exact = ExactMeans(vector, batch, [c for _, c in read])
    return Table.from_records(COLUMNS, [record for leaf, constraint in read for record in records(leaf, constraint, exact)])


def read_scores(scores: Any) -> torch.Tensor:
    """Scores (n,) or (n, 1) of any container as a finite tensor (n,), n >= 1. InputError for anything else."""
    vector = numbers(scores, None, "scores")
    if vector.shape[0] < 1:
        raise InputError("scores must have shape (n,) or (n, 1) with n >= 1, came (0,)")
    return vector


class ExactMeans:
    """Exact means of the scores (n,) and of values over the masks that some constraints name.

    Where positions of the batch stand for many samples (``copies``), ``scores`` are the exact sums over those.
    """

    def __init__(self, scores: Array | Sequence[Fraction], batch: Batch, constraints: list[Constraint]) -> None:
        functionals = [f for c in constraints for f in c.functionals]
        keys = list(dict.fromkeys(m.key for f in functionals for m in _masks(f)))
        used = sorted(set().union(*(columns_of(key) for key in keys)))
        self._combinations = combine(batch.columns, used, batch.n, batch.copies)
        members = self._combinations.masks(keys)
        self._members = dict(zip(keys, members, strict=True))
        self._counts = dict(zip(keys, (np.asarray(members).astype(np.int64) @ self._combinations.counts).tolist(), strict=True))
        self._batch, self._scores = batch, scores
        self._values = [v.detach().to("cpu", torch.float64).numpy() for v in batch.values]
        self._sums: dict[int, list[Fraction]] = {}
        self._means: dict[tuple[int, tuple[Any, ...]], Fraction] = {}
        self._dense: dict[tuple[tuple[float, int], ...], Fraction] = {}

    def count(self, mask: Mask) -> int:
        return int(self._counts[mask.key])

    def mean(self, mask: Mask, values: int = -1) -> Fraction | None:
        """Mean of the scores (-1) or of values over a mask; None where nobody is in it."""
        if not self.count(mask):
            return None
        place = (values, mask.key)
        if place not in self._means:
            if values not in self._sums:
                self._sums[values] = self._summed(values)
            sums = self._sums[values]
            total = sum((sums[c] for c in np.flatnonzero(self._members[mask.key]).tolist()), Fraction(0))
            self._means[place] = total / self.count(mask)
        return self._means[place]

    def _summed(self, values: int) -> list[Fraction]:
        """The sums over each combination."""
        key, cells = self._combinations.key, len(self._combinations.counts)
        if values >= 0:
            vector, copies = self._values[values], self._batch.copies
            return exact_cell_sums(vector, key, cells) if copies is None else exact_counted_sums(vector, copies, key, cells)
        if isinstance(self._scores, np.ndarray):
            return exact_cell_sums(self._scores, key, cells)
        totals = [Fraction(0)] * cells
        for c, part in zip(key.tolist(), self._scores, strict=True):
            totals[c] += part
        return totals

    def value(self, f: Functional) -> Fraction | None:
        """The functional's exact value; None where a group is absent."""
        total = Fraction(f.constant.value())
        for scale, mask, values in [(s, m, -1) for s, m in f.means] + list(f.constants):
            mean = self.mean(mask, values)
            if mean is None:
                return None
            total += Fraction(scale) * mean
        if f.dense:
            if f.dense not in self._dense:  # a group is in many pairs
                assert isinstance(self._scores, np.ndarray)
                self._dense[f.dense] = exact_dot(self._batch.dense_weights.row((v, s) for s, v in f.dense), self._scores)
            total += self._dense[f.dense]
        return total


@dataclass(frozen=True)
class _Side:
    name: str
    value: Fraction | None
    count: int | None


def records(leaf: Leaf, constraint: Constraint, exact: ExactMeans) -> Iterable[dict[str, Any]]:
    """The rows of one constraint, as ``gaps`` lists them: a range's pairs in the order of ``itertools.combinations``."""
    fixed = {"notion": leaf.notion.name, "attribute": constraint.attribute, "given": constraint.given}
    if constraint.width is not None:
        limit = constraint.width.value()
        for a, b in itertools.combinations([_side(f, exact) for f in constraint.functionals], 2):
            gap = None if a.value is None or b.value is None else abs(a.value - b.value)
            yield {**fixed, **_shown(a, b, gap, limit)}
        return
    functional = constraint.functionals[0]
    left, right = _sides(functional, exact)
    gap, limit = against_limits(exact.value(functional), constraint)
    yield {**fixed, **_shown(left, right, gap, limit)}


def _shown(a: _Side, b: _Side, gap: Fraction | None, limit: float) -> dict[str, Any]:
    status = "absent" if gap is None else ("met" if limit == float("inf") or gap <= Fraction(limit) else "broken")
    return {
        "group_a": a.name,
        "group_b": b.name,
        "value_a": None if a.value is None else float(a.value),
        "value_b": None if b.value is None else float(b.value),
        "gap": None if gap is None else float(gap),
        "limit": limit,
        "n_a": a.count,
        "n_b": b.count,
        "status": status,
    }


def against_limits(value: Fraction | None, constraint: Constraint) -> tuple[Fraction | None, float]:
    """(gap, limit) such that the constraint is met where gap <= limit."""
    lower = float("-inf") if constraint.lower is None else constraint.lower.value()
    upper = float("inf") if constraint.upper is None else constraint.upper.value()
    if lower == -upper:
        return (None if value is None else abs(value)), upper
    if lower == float("-inf"):
        return value, upper
    if upper == float("inf"):
        return (None if value is None else -value), 0.0 - lower
    return (None if value is None else max(Fraction(lower) - value, value - Fraction(upper))), 0.0


def _side(f: Functional, exact: ExactMeans) -> _Side:
    """A functional as one side of a pair."""
    count = exact.count(f.means[0][1]) if len(f.means) == 1 else None
    return _Side(f.label(), exact.value(f), count)


def _sides(f: Functional, exact: ExactMeans) -> tuple[_Side, _Side]:
    """The two things that a linear constraint compares: two means, a mean and the targets', or one number."""
    plus, minus = [m for s, m in f.means if s > 0], [m for s, m in f.means if s < 0]
    plain = not f.constants and not f.dense
    if plain and len(plus) == 1 and len(minus) == 1:
        return _mean_side(plus[0], exact), _mean_side(minus[0], exact)
    if plain and len(plus) == 1 and not minus and f.means[0][0] == 1:
        return _mean_side(plus[0], exact), _Side("", None, None)
    if not f.dense and f.means and len(f.means) == 1 and f.means[0][0] == 1 and len(f.constants) == 1 and f.constants[0][0] == -1:
        _, mask, values = f.constants[0]
        return _mean_side(plus[0], exact, f.name), _Side("targets", exact.mean(mask, values), exact.count(mask))
    return _Side(f.label(), exact.value(f), None), _Side("", None, None)


def _mean_side(mask: Mask, exact: ExactMeans, name: str = "") -> _Side:
    return _Side(name or mask.name, exact.mean(mask), exact.count(mask))


def _masks(f: Functional) -> list[Mask]:
    return [m for _, m in f.means] + [m for _, m, _ in f.constants]
