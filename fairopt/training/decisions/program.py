"""The linear program of fair decisions: how often each group uses which threshold.

    minimise    sum over g, v of  weight_gv * (cost_fp * negatives_g * FPR_gv + cost_fn * positives_g * (1 - TPR_gv)) / n
    subject to  weight_g. >= 0, sum_v weight_gv = 1,  and the notion's rows, which are linear in the weights

v runs over the corners of the hull of group g's ROC curve. The simplex method (HiGHS) ends in a basic solution: no more weights are
positive than there are groups and binding rows, so nearly every group has one threshold. A group may need three, where equalized odds
asks for a point below its hull.

Source: Hardt, Price, Srebro 2016, section 4; relaxed: Cruz, Hardt 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.basics.errors import BackendError, InfeasibleError, UnsupportedError
from fairopt.basics.extras import missing
from fairopt.basics.sparse import same_columns
from fairopt.contract.problem import ProjectionProblem
from fairopt.contract.rows import Rows
from fairopt.training.decisions.curves import Curve

WHAT = "FairDecisions"
SMALLEST = 1e-9  # weights below are rounding
ACCURACY = 1e-10


@dataclass(frozen=True, eq=False)
class Asked:
    """What a notion asks of rates. A unit is (group g, label y), at position 2 g + y.

    values (m, 2 G): row k of the notion is values[k] @ rates + offset[k], rates (2 G,) of "yes" among the samples of each unit
    The limits are those of ``ProjectionProblem``: linear rows first, then ranges.
    """

    values: Array
    offset: Array
    lower: Array
    upper: Array
    width: Array
    ratio: Array
    ranges: tuple[slice, ...]
    labels: tuple[str, ...]

    def tightened(self, margin: float) -> Asked:
        """With every limit ``margin`` stricter; two limits meet half way at most."""
        both = np.isfinite(self.lower) & np.isfinite(self.upper)
        middle = np.where(both, (np.where(both, self.lower, 0.0) + np.where(both, self.upper, 0.0)) / 2, 0.0)
        return replace(
            self,
            lower=np.where(both, np.minimum(self.lower + margin, middle), self.lower + margin),
            upper=np.where(both, np.maximum(self.upper - margin, middle), self.upper - margin),
            width=np.where(self.ratio == 1.0, np.maximum(self.width - margin, 0.0), self.width - margin),
        )

    @property
    def most(self) -> float:
        """The largest margin that can still change something."""
        both = np.isfinite(self.lower) & np.isfinite(self.upper)
        halves = ((self.upper[both] - self.lower[both]) / 2).tolist()
        widths = np.where(self.ratio == 1.0, self.width, 1.0).tolist()
        return max([*halves, *widths, *([1.0] if not both.all() else [])], default=0.0)

    def violation(self, rates: Array) -> float:
        """How far the worst row is beyond its limit at rates (2 G,); negative where all are inside."""
        f = self.values @ rates + self.offset
        linear = f[: len(self.lower)]
        each = [*(self.lower - linear), *(linear - self.upper)]
        each += [q * f[s].max() - f[s].min() - w for s, w, q in zip(self.ranges, self.width, self.ratio, strict=True)]
        return max(map(float, each), default=-np.inf)


def asked_of_rates(
    problem: ProjectionProblem, key: IntArray, positive: Array, groups: int, *, shares: Array | BoolArray | None = None
) -> Asked:
    """What ``problem`` asks of decisions of its samples, with key (n,) their group and positive (n,) their label, 0 or 1.

    shares (n,) >= 0: how much each sample counts where a mean is over several groups or labels; None: all alike.
    UnsupportedError for prices, for weights of their own a sample, and where samples of one group and label are in different rows.
    """
    rows = problem.rows
    if rows.dense is not None:
        raise UnsupportedError(f"{WHAT}: the notion has rows with a weight of their own for each sample; expected rates of groups")
    if any(s.kind != "hard" for s in problem.softness):
        raise UnsupportedError(f"{WHAT}: the notion has prices; expected hard limits")
    unit, cell = key * 2 + (positive > 0.5), rows.cell.numpy()
    counted = np.ones(rows.n) if shares is None else np.asarray(shares, dtype=np.float64)
    coefficients = shares_of_masks(rows, np.asarray(np.bincount(cell, weights=counted, minlength=rows.masks.shape[1]), dtype=np.float64))
    values = np.zeros((rows.m, 2 * groups))
    for u in np.unique(unit):
        inside = unit == u
        cells = np.unique(cell[inside])
        if not same_columns(rows.coefficients, cells):
            raise UnsupportedError(f"{WHAT}: the notion tells samples of one group and label apart; expected rates of groups")
        values[:, u] = coefficients[:, cells[0]] * counted[inside].sum()
    return Asked(
        values, rows.offset, problem.lower, problem.upper, problem.width, problem.ratio, tuple(problem.range_slices),
        tuple(problem.constraint_labels),
    )  # fmt: skip


def shares_of_masks(rows: Rows, size: Array) -> Array:
    """(m, C): as ``rows.coefficients``, for cells of other sizes (C,) than those that were compiled."""
    masks = np.asarray(rows.masks).astype(np.float64)
    total = masks @ size
    return np.asarray((np.asarray(rows.scales) / np.where(total > 0, total, 1.0)) @ masks)


def best_weights(curves: Sequence[Curve], asked: Asked, cost: tuple[float, float]) -> list[Array]:
    """For each curve the weights (V,) of its corners, with the least expected cost. cost: of a false positive, of a false negative.

    InfeasibleError where no thresholds meet the rows, BackendError where the solver fails.
    """
    owner = _owners(curves)
    yes = np.concatenate([c.yes for c in curves], axis=1)  # (2, N)
    rows = asked.values[:, 2 * owner] * yes[0] + asked.values[:, 2 * owner + 1] * yes[1]  # (m, N)
    left, right = _as_inequalities(rows, asked)
    return _split(solved(_prices(curves, cost), left, right, owner, asked.labels), curves)


def cheapest(
    curves: Sequence[Curve], left: Sequence[Array], right: Array, cost: tuple[float, float], labels: tuple[str, ...]
) -> list[Array]:
    """As ``best_weights`` for inequalities: ``left[g]`` (I, V) on the weights of curve g, their sum at most right (I,)."""
    matrix = np.concatenate(list(left), axis=1)
    return _split(solved(_prices(curves, cost), matrix, right, _owners(curves), labels), curves)


def _owners(curves: Sequence[Curve]) -> IntArray:
    return np.repeat(np.arange(len(curves)), [len(c.thresholds) for c in curves])


def _prices(curves: Sequence[Curve], cost: tuple[float, float]) -> Array:
    """(N,) expected cost of each corner, but for a constant."""
    total = max(sum(float(c.weight.sum()) for c in curves), 1.0)
    return np.concatenate([cost[0] * c.weight[0] * c.yes[0] - cost[1] * c.weight[1] * c.yes[1] for c in curves]) / total


def _split(found: Array, curves: Sequence[Curve]) -> list[Array]:
    weights = []
    for part in np.split(found, np.cumsum([len(c.thresholds) for c in curves])[:-1]):
        kept = np.where(part > SMALLEST, part, 0.0)
        weights.append(kept / kept.sum())
    return weights


def _as_inequalities(rows: Array, asked: Asked) -> tuple[Array, Array]:
    """left (I, N + 2 R) and right (I,): two more unknowns a range, the most and the least of its rows."""
    n, linear, count = rows.shape[1], len(asked.lower), len(asked.ranges)
    blocks: list[tuple[Array, Array, Array]] = []  # on the weights (k, N), on the extremes (k, 2 R), right (k,)
    if linear:
        part, constant = rows[:linear], asked.offset[:linear]
        blocks.append((part, np.zeros((linear, 2 * count)), asked.upper - constant))
        blocks.append((-part, np.zeros((linear, 2 * count)), constant - asked.lower))
    for r, (inside, width, ratio) in enumerate(zip(asked.ranges, asked.width, asked.ratio, strict=True)):
        part, constant = rows[inside], asked.offset[inside]
        most, least, spread = (np.zeros((k, 2 * count)) for k in (len(part), len(part), 1))
        most[:, 2 * r], least[:, 2 * r + 1], spread[0, 2 * r : 2 * r + 2] = -1.0, 1.0, (ratio, -1.0)
        blocks += [(part, most, -constant), (-part, least, constant), (np.zeros((1, n)), spread, np.array([width]))]
    if not blocks:
        return np.zeros((0, n)), np.zeros(0)
    left = np.concatenate([np.concatenate([b[0], b[1]], axis=1) for b in blocks])
    right = np.concatenate([b[2] for b in blocks])
    finite = np.isfinite(right)
    return left[finite], right[finite]


def solved(price: Array, left: Array, right: Array, owner: IntArray, labels: tuple[str, ...]) -> Array:
    """(N,) weights >= 0 that sum to 1 for each owner (N,), of least price @ weights, with left @ (weights, further unknowns) <= right."""
    try:
        from scipy.optimize import linprog
        from scipy.sparse import csr_array
    except ImportError as error:
        raise missing(f"{WHAT} needs scipy, which scikit-learn brings", "sklearn") from error
    n, extra = len(price), left.shape[1] - len(price)
    one = csr_array((np.ones(n), (owner, np.arange(n))), shape=(int(owner.max()) + 1, n + extra))
    answer = linprog(
        np.concatenate([price, np.zeros(extra)]),
        A_ub=csr_array(left) if len(right) else None,
        b_ub=right if len(right) else None,
        A_eq=one,
        b_eq=np.ones(one.shape[0]),
        bounds=[(0.0, None)] * n + [(None, None)] * extra,
        method="highs-ds",
        options={"primal_feasibility_tolerance": ACCURACY, "dual_feasibility_tolerance": ACCURACY},
    )
    if answer.status == 2:
        raise InfeasibleError(f"no thresholds meet these constraints together: {'; '.join(labels)}", labels)
    if answer.status != 0 or not np.isfinite(answer.x).all():
        raise BackendError(f"{WHAT}: the linear program ended with status {answer.status}: {answer.message}")
    return np.asarray(answer.x[:n])
