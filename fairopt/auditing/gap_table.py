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

from fairopt.auditing.apart import read_threshold, warn_apart
from fairopt.auditing.exact_means import ExactMeans, against_limits
from fairopt.basics.arrays import Array
from fairopt.basics.columns import numbers, read_features
from fairopt.basics.errors import InputError
from fairopt.basics.table import Table
from fairopt.notions.algebra import Leaf, Notion, constraints_on
from fairopt.notions.batch import Batch
from fairopt.notions.events import Mask
from fairopt.notions.functional import Constraint, Functional
from fairopt.notions.groups import Missing, declare
from fairopt.notions.several import Part, parts_of, read_classes

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
    threshold: float | None = 0.5,
    outputs: str = "one",
    classes: Sequence[int] | None = None,
) -> Table:
    """The gaps of ``scores`` (n,) or (n, 1) under ``notion``: one row a pair of groups or a linear constraint.

    Columns: notion, attribute, given, group_a, group_b, value_a, value_b (means), gap, limit, n_a, n_b, status (met, broken, absent).
    "met" means gap <= limit exactly. gap is abs(value_a - value_b) for pairs, abs(f) for abs(f) <= limit, f for f <= limit, and
    lower - f for f >= lower (with limit -lower, so that the sign of the test is the same everywhere). Where both limits are given and
    differ in size, gap is the distance beyond the nearer limit (negative inside) and limit is 0.

    sensitive_features, targets and groups are as in ``compile``. missing_group: "error", or "own": samples whose group is missing are a
    group of their own. pos_label: the target that counts as 1 (every other one as 0). threshold: from it on a score is a
    yes, and where the gap of these decisions is far above that of the scores, a ``FairoptWarning`` says so (parities of rates, groups of 20
    rows or more); 1/2 is for probabilities, and nothing is said of scores outside [0, 1] there; None: nothing is said. InputError for NaN
    scores, wrong shapes, unknown groups, missing targets.

    outputs, classes are as in ``compile``: of class probabilities (n, C) ("simplex") and labels (n, L) ("independent") the gaps of each
    column, or of those in ``classes``, with a first column ``class`` that says which; "" where the notion names its outputs.

    Examples:
        >>> print(fo.gaps([0.2, 0.6], fo.DemographicParity("sex", tolerance=0.1), sensitive_features={"sex": ["f", "m"]}))
        notion             attribute  given  group_a  group_b  value_a  value_b  gap  limit  n_a  n_b  status
        -----------------  ---------  -----  -------  -------  -------  -------  ---  -----  ---  ---  ------
        DemographicParity  sex        -      f        m            0.2      0.6  0.4    0.1    1    1  broken
    """
    if not isinstance(notion, Notion):
        raise InputError(f"notion must be a notion such as DemographicParity('sex', tolerance=0.05), came {notion!r}")
    features = read_features(sensitive_features, notion.attributes)
    how = read_classes(outputs, classes, "squared", None)
    known = declare(groups)
    if how is None:
        vector = read_scores(scores).detach().to("cpu", torch.float64).numpy()
        batch = Batch(vector.shape[0], features, targets, vocabularies=known, missing_group=missing_group, pos_label=pos_label)
        return Table.from_records(COLUMNS, _listed(vector, notion, batch, threshold))
    if pos_label is not None:
        raise InputError(f"pos_label: got {pos_label!r} beside outputs={outputs!r}, expected None: targets are classes, or 0 and 1")
    table = read_table(scores)
    n, count = table.shape

    def of(part: Part, one: Notion, own: Any, several: int | None) -> list[dict[str, Any]]:
        vector = table.T.reshape(-1) if part.index is None else np.ascontiguousarray(table[:, part.index])
        batch = Batch(n, features, own, vocabularies=known, missing_group=missing_group, outputs=several)
        return [{"class": part.name, **record} for record in _listed(vector, one, batch, None)]

    found = parts_of(notion, how, targets, count, n, of)
    return Table.from_records(("class", *COLUMNS), [record for _, rows in found for record in rows])


def _listed(vector: Array, notion: Notion, batch: Batch, threshold: float | None) -> list[dict[str, Any]]:
    """The rows of scores in the positions of ``batch``."""
    read = constraints_on(notion, batch, written_out=True)
    exact = ExactMeans(vector, batch, [c for _, c in read])
    warn_apart(read, vector, batch, None if threshold is None else read_threshold(threshold))
    return [record for leaf, constraint in read for record in records(leaf, constraint, exact)]


def read_table(scores: Any) -> Array:
    """Scores (n, C) as finite float64 numbers, n >= 1. InputError for anything else."""
    plain = scores.detach().to("cpu", torch.float64).numpy() if isinstance(scores, torch.Tensor) else scores
    try:
        table = np.asarray(plain, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"scores: got {type(scores).__name__}, expected numbers (n, C): {error}") from error
    if table.ndim != 2 or table.shape[0] < 1 or table.shape[1] < 1:
        raise InputError(f"scores: got shape {table.shape}, expected (n, C): a column for each class or label")
    wrong = np.argwhere(~np.isfinite(table))
    if wrong.size:
        raise InputError(f"scores: got {table[tuple(wrong[0])]} in row {int(wrong[0][0])}, expected finite numbers")
    return table


def read_scores(scores: Any, several: str = "outputs='simplex' is for class probabilities, 'independent' for labels") -> torch.Tensor:
    """Scores (n,) or (n, 1) of any container as a finite tensor (n,), n >= 1. InputError for anything else; ``several``: what to do with
    more columns."""
    shape: tuple[int, ...] = tuple(getattr(scores, "shape", ()))
    if len(shape) == 2 and shape[1] > 1:
        raise InputError(f"scores: got shape {shape}, expected (n,) or (n, 1): {several}")
    vector = numbers(scores, None, "scores")
    if vector.shape[0] < 1:
        raise InputError("scores must have shape (n,) or (n, 1) with n >= 1, came (0,)")
    return vector


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
