"""Levels that hold for people: how far a rule that was set on calibration rows may be from what it gives on their population.

One unit (a group, or the positives of a group) has a family of rules that only grow along one number s: "yes where the score is above s",
or "the score moved down by s, inside the box". A *target* for the unit's population mean M(s) is chosen first, without looking at the
unit's level rows; then these choose s. Theorem (claim Q3): with n level rows that are i.i.d. draws from the unit,

    ranks   s is the k-th largest of n values without ties (ties broken by drawn numbers): M(s) has the law Beta(k, n + 1 - k), whatever
            the population. Target k / (n + 1)                                       (Wilks 1941; the law behind conformal prediction)
    means   s makes the mean over the level rows equal the target t: P(M(s) >= t + e) is at most the chance that n scores with mean t + e
            have a mean of t or less (one s, that with M(s) = t + e, since M and the rows' mean fall together), and that is bounded from
            their box and v >= their variance by ``tails`` (Hoeffding 1963; Bentkus 2004); likewise downwards

No union over s is paid for, and nothing is held out but the few rows that choose targets. Rows of a notion are c . M <= limit over one or
two units, whose errors are independent; their laws are convolved, so that errors add like variances. All rows together fail with at most
the sum of their own probabilities: rows with room to spare cost next to nothing, which a closed test over equal shares would not give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, log, sqrt
from typing import Protocol

import numpy as np

from fairopt.basics.arrays import Array, BoolArray, IntArray
from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.basics.extras import missing
from fairopt.contract.problem import ProjectionProblem
from fairopt.layer.tails import tail_of_mean

DESIGN = 0.07  # of a unit's rows choose targets
FEWEST_DESIGN = 50  # but at least so many, or half of them
PIECES = 600  # of a law, where two are convolved; every piece counts with its worse end
MOST_ROWS = 20_000  # comparisons between two units that are still looked at one by one


class Law(Protocol):
    """What is known of one unit's population mean M once its target is set."""

    def above(self, x: Array) -> Array:
        """P(M > x), or a bound of it that never rises with x."""
        ...

    def below(self, x: Array) -> Array:
        """P(M < x), or a bound of it that never falls with x."""
        ...

    @property
    def centre(self) -> float: ...

    @property
    def spread(self) -> float:
        """A length, of the size of a standard deviation, in which the law is cut into pieces."""
        ...


@dataclass(frozen=True)
class RankLaw:
    """Of a rank k among n values: Beta(k, n + 1 - k), in a box from ``low``, ``width`` wide; 0 is nobody and n + 1 everybody."""

    k: int
    n: int
    low: float = 0.0
    width: float = 1.0

    @property
    def centre(self) -> float:
        return self.low + self.width * self.k / (self.n + 1)

    @property
    def spread(self) -> float:
        p = self.k / (self.n + 1)
        return self.width * sqrt(p * (1 - p) / (self.n + 2))

    def above(self, x: Array) -> Array:
        return 1.0 - self._cumulated(x) if not 0 < self.k <= self.n else self._tail(x, upper=True)

    def below(self, x: Array) -> Array:
        if not 0 < self.k <= self.n:
            return (np.asarray(x) > self.centre).astype(np.float64)
        return self._tail(x, upper=False)

    def _cumulated(self, x: Array) -> Array:
        return (np.asarray(x) >= self.centre).astype(np.float64)

    def _tail(self, x: Array, *, upper: bool) -> Array:
        try:
            from scipy.special import betainc, betaincc
        except ImportError as error:
            raise missing("a guarantee needs scipy", "audit") from error
        unit = np.clip((np.asarray(x) - self.low) / self.width, 0.0, 1.0)
        return np.asarray((betaincc if upper else betainc)(self.k, self.n + 1 - self.k, unit))


@dataclass(frozen=True)
class MeanLaw:
    """Of a target t for the mean of n scores in [low, high] whose variance is at most ``variance``."""

    target: float
    n: int
    variance: float
    low: float
    high: float

    @property
    def centre(self) -> float:
        return self.target

    @property
    def spread(self) -> float:
        return sqrt(self.variance / self.n)

    def above(self, x: Array) -> Array:
        return self._tail(np.asarray(x) - self.target, np.asarray(x) - self.low, self.high - np.asarray(x))

    def below(self, x: Array) -> Array:
        return self._tail(self.target - np.asarray(x), self.high - np.asarray(x), np.asarray(x) - self.low)

    def _tail(self, error: Array, reach: Array, rest: Array) -> Array:
        """``reach``: from the mean to the end of the box on the side of the rows' error; ``rest``: to the other end."""
        out = np.ones(error.shape)
        out[rest <= 0] = 0.0  # no mean lies beyond the box
        inside = (error > 0) & (reach > 0) & (rest > 0)
        e, b, r = error[inside], reach[inside], rest[inside]
        v = np.minimum(self.variance, b * r)  # the most that a mean in this place allows
        out[inside] = tail_of_mean(self.n, e, b, v)
        return out


@dataclass(frozen=True, eq=False)
class Wanted:
    """What a notion asks of units' population means: ``left[i] @ M <= right[i]``, with at most two units a row.

    cells (U,) of the compiled problem, one a unit; left (I, U); right (I,); names (I,) of the constraints
    """

    cells: IntArray
    left: Array
    right: Array
    names: tuple[str, ...]


def wanted(problem: ProjectionProblem, key: IntArray, what: str) -> Wanted:
    """Of a compiled problem whose samples have the combination of groups key (n,).

    UnsupportedError where a group mean mixes several combinations (their shares in the population are not known), or residuals.
    """
    rows = problem.rows
    if rows.dense is not None or rows.offset_terms or any(s.kind != "hard" for s in problem.softness):
        raise UnsupportedError(f"{what}: a guarantee is for hard limits on means of groups; this notion has prices, weights or residuals")
    scales = np.asarray(rows.scales)
    masks = np.asarray(rows.masks)[:, rows.cell.numpy()]  # (M, n)
    used = np.flatnonzero(np.abs(scales).sum(0))
    if any(len(np.unique(key[masks[j]])) > 1 or len(np.unique(rows.cell.numpy()[masks[j]])) > 1 for j in used):
        raise UnsupportedError(
            f"{what}: a guarantee is for groups that do not overlap; compare the groups of one attribute, or of several together "
            "(their intersection: intersect=True, or a tuple of attributes), in pairs or with a reference"
        )
    values = np.asarray(rows.coefficients) * rows.counts  # (m, C): on the cells' means
    left: list[Array] = []
    right: list[float] = []
    names: list[str] = []
    for k in range(problem.linear):
        for sign, limit in ((1.0, problem.upper[k]), (-1.0, -problem.lower[k])):
            if np.isfinite(limit):
                left.append(sign * values[k])
                right.append(float(limit - sign * rows.offset[k]))
                names.append(problem.constraint_labels[k])
    for r, part in enumerate(problem.range_slices):
        members = range(part.start, part.stop)
        if len(members) ** 2 > MOST_ROWS:
            raise UnsupportedError(f"{what}: a guarantee looks at every pair of groups, and {len(members)} groups have too many")
        for a in members:
            for b in members:
                if a != b:
                    ratio = float(problem.ratio[r])
                    left.append(ratio * values[a] - values[b])
                    right.append(float(problem.width[r] - ratio * rows.offset[a] + rows.offset[b]))
                    names.append(problem.constraint_labels[problem.linear + r])
    matrix = np.array(left).reshape(len(left), values.shape[1])
    cells = np.flatnonzero(np.abs(matrix).sum(0))
    return Wanted(cells.astype(np.int64), matrix[:, cells], np.array(right), tuple(names))


def failure(laws: Sequence[Law], rows: Wanted) -> float:
    """A bound of the probability that some row of ``rows`` does not hold in the population."""
    cache: dict[tuple[int, float], Pieces] = {}
    return float(sum(_beyond(rows.left[i], float(rows.right[i]), laws, cache) for i in range(len(rows.right))))


@dataclass(frozen=True, eq=False)
class Pieces:
    """A law of c * M, or one that dominates it, cut at ``ends`` (P,): ``mass`` (P,) of the pieces up to each end, ``beyond`` (P,) it."""

    ends: Array
    mass: Array
    beyond: Array

    def above(self, x: Array) -> Array:
        """P(c * M > x), as at the nearest end that is no larger."""
        at = np.searchsorted(self.ends, x, side="right")
        return np.concatenate([[1.0], self.beyond])[at]


def _beyond(left: Array, right: float, laws: Sequence[Law], cache: dict[tuple[int, float], Pieces]) -> float:
    """P(left @ M > right) for independent M of one or two units."""
    units = np.flatnonzero(left).tolist()
    if len(units) == 1:
        return float(_above(left[units[0]], laws[units[0]], np.array([right]))[0])
    if len(units) > 2:
        raise UnsupportedError("a guarantee compares two groups at a time, and a row has more")
    first, second = (_pieces(u, float(left[u]), laws[u], cache) for u in units)
    rest = right - first.ends  # what is left for the other unit where this one is at the end of a piece
    return min(1.0, float(first.mass @ second.above(rest)))


def _above(weight: float, law: Law, x: Array) -> Array:
    """P(weight * M > x)."""
    return law.above(x / weight) if weight > 0 else law.below(x / weight)


def _pieces(unit: int, weight: float, law: Law, cache: dict[tuple[int, float], Pieces]) -> Pieces:
    """The law of weight * M in pieces, each with its worse end; those of a dominating law where the tails are bounds."""
    if (unit, weight) not in cache:
        steps = np.concatenate([np.linspace(-2.0, 7.0, PIECES), [9.0, 12.0]])
        ends = weight * law.centre + abs(weight) * law.spread * steps
        beyond = np.minimum.accumulate(_above(weight, law, ends))  # what bounds the chance of more than x bounds that of more than y > x
        far = ends[-1] + 1e9  # what is beyond the last end is as harmful as can be
        mass = np.concatenate([[1.0], beyond]) - np.concatenate([beyond, [0.0]])
        cache[unit, weight] = Pieces(np.append(ends, far), mass, np.append(beyond, 0.0))
    return cache[unit, weight]


@dataclass(frozen=True, eq=False)
class Tight:
    """margin: taken off every limit where targets are chosen; targets (U,); laws of the units; failure <= 1 - guarantee."""

    margin: float
    targets: Array
    laws: tuple[Law, ...]
    failure: float


def tightest(
    targets_at: Callable[[float], Array], laws_of: Callable[[Array], Sequence[Law]], rows: Wanted, alpha: float, most: float
) -> Tight | None:
    """The least margin in [0, most] whose targets fail with probability <= ``alpha``; None where even ``most`` does not do.

    targets_at: margin -> targets (U,), chosen without the level rows; laws_of: targets -> laws.
    """

    def at(margin: float) -> Tight:
        targets = targets_at(margin)
        laws = tuple(laws_of(targets))
        return Tight(margin, targets, laws, failure(laws, rows))

    best = at(most)
    if not best.failure <= alpha:
        return None
    low, high = 0.0, most
    for _ in range(12):
        middle = (low + high) / 2
        tried = at(middle)
        if tried.failure <= alpha:
            best, high = tried, middle
        else:
            low = middle
    return best


def design_rows(strata: IntArray, generator: np.random.Generator) -> BoolArray:
    """(n,) which rows choose targets: in each stratum a uniform choice of ``DESIGN``, at least 50, at most half."""
    chosen = np.zeros(len(strata), dtype=bool)
    for code in np.unique(strata):
        rows = generator.permutation(np.flatnonzero(strata == code))
        count = min(max(int(DESIGN * len(rows)), FEWEST_DESIGN), len(rows) // 2)
        chosen[rows[:count]] = True
    return chosen


def design_size(n: int) -> int:
    """How many of n rows ``design_rows`` takes."""
    return min(max(int(DESIGN * n), FEWEST_DESIGN), n // 2)


def rows_needed(counts: IntArray, holds: Callable[[IntArray], bool]) -> tuple[int, int] | None:
    """The smallest unit, and how many level rows it and every smaller one would take for ``holds(counts)``; None beyond 2^40."""
    smallest = int(np.argmin(counts))
    low, high = int(counts[smallest]), max(2 * int(counts[smallest]), 2)
    while not holds(np.maximum(counts, high)):
        low, high = high, 2 * high
        if high > 2**40:
            return None
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        low, high = (low, middle) if holds(np.maximum(counts, middle)) else (middle, high)
    return smallest, high


def least_excess(holds: Callable[[float], bool], most: float, steps: int = 10) -> float:
    """The least x in [0, most], to ``most`` / 2^steps, for which ``holds(x)``; ``most`` where none does."""
    low, high = 0.0, most
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def too_few(what: str, guarantee: float, group: str, have: int, need: int | None) -> InputError:
    """The error that names the group and how many rows it would take."""
    asked = "no number of rows would do" if need is None else f"about {need:,} calibration rows of it (and of every smaller group) would do"
    return InputError(
        f"{what}: guarantee={guarantee:g} cannot be kept: the group {group} has {have:,} calibration rows that count, and {asked}. Give "
        "more, widen the tolerance, lower the guarantee, or pass on_few='tighten as far as possible'"
    )


def rows_at_least(alpha: float, room: float) -> int | None:
    """How many rows tell a mean of numbers in a box of width 1 to ``room``, at the worst variance (Hoeffding 1963): what is said of a
    group of which no rows are known that could say more. None where there is no room."""
    return ceil(log(2.0 / alpha) / (2.0 * room * room)) if room > 0 else None


def variance_bound(values: Array, centre: float, low: float, high: float, delta: float) -> float:
    """A number that the variance of i.i.d. ``values`` (n,) in [low, high] exceeds with probability at most ``delta``.

    The variance is at most the mean of (value - centre)^2, for a centre that is chosen without these values; that mean is bounded by
    betting (Waudby-Smith, Ramdas 2024): the capital prod (1 + bet_i * (m - x_i)), with bets chosen from earlier values, is at most 1 on
    average where the mean is m or more, and so reaches 1 / delta with probability at most delta (Ville). It rises with m.
    """
    largest = max(high - centre, centre - low) ** 2
    if not largest > 0 or not len(values):
        return (high - low) ** 2 / 4
    x = (values - centre) ** 2 / largest  # in [0, 1]
    n = len(x)
    index = np.arange(1, n + 1)
    mean = (0.5 + np.cumsum(x)) / (index + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (index + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    bets = np.minimum(np.sqrt(2 * log(1 / delta) / (n * before)), 0.5)  # < 1 / (1 - m): no bet can be ruinous
    least, most = 0.0, 1.0
    for _ in range(50):
        m = (least + most) / 2
        least, most = (least, m) if float(np.log1p(bets * (m - x)).sum()) >= log(1 / delta) else (m, most)
    return min(most * largest, (high - low) ** 2 / 4)


__all__ = [
    "Law", "MeanLaw", "RankLaw", "Tight", "Wanted", "design_rows", "design_size", "failure", "least_excess", "rows_needed", "tightest",
    "too_few", "variance_bound", "wanted",
]  # fmt: skip
