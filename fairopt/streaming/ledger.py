"""What has been sent so far in one stratum of one family: a count and a sum a group, and the potential on the means.

``N_g`` and ``S_g`` count what was *sent* (claims P1-P6), ``M_g = S_g / N_g``. The potential is ``sum_g c_g / 2 dist_g^2``, dist the
distance of the means to the allowed set: {max - min <= eps} for a range family, [lower, upper] for an anchored one. Its slope in
``M_g`` is ``c_g r_g`` with ``r`` the residual of the projection onto that set in the metric c.

A fading component (``Forget``) keeps for each group its mean, its weight when it was last counted and the time of that (the component's
samples so far). So no mean moves by fading, and groups that are absent together keep the ratio of their weights, however long.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum
from typing import Any

from fairopt.basics.table import group_word, joined_words
from fairopt.streaming.exact import ZERO, Exact, add_many, add_one
from fairopt.streaming.families import Family
from fairopt.streaming.forecast import Forecast
from fairopt.streaming.vocabulary import Value

Group = Value | tuple[Value, ...]
ComponentKey = tuple[int, tuple[Value, ...]]  # the family's number, the stratum
Spot = tuple[ComponentKey, int, int]  # where one sample counts: component, group, and the component's clock then (``Forget``)
Entry = tuple[list[Spot], list[float]]  # one sample of a window: where it counts, and as what
FADED = 2.0**-600  # the least weight that is computed with: beside a sample's weight 1 it moves no float, and its powers are floats


class Component:
    """Counts and sums of one stratum of one family. Not thread-safe: the controller holds the lock.

    counts (K,) floats (whole unless fading); heads (K,) the rounded sums; sums (K,) the exact ones (unused when fading < 1).
    total: sum of the counts. bound: the proved bound on ``gap`` now in force, or None. potential: Theorem D's running sum A_t.
    carry: what is left of the gap at the last merge (0 without one). forecast: the pooled rule's, where it has one.
    fading: the weight that a sample keeps when another one arrives; 1 for all time. means_, weights, times (K,) are used below 1 only.
    All numbers are in the controller's units (``Frame``).
    """

    __slots__ = ("bound", "carry", "clock", "counts", "exact", "fading", "family", "forecast", "heads", "index", "label", "means_", "names",
                 "potential", "price", "sums", "times", "total", "weights")  # fmt: skip

    def __init__(self, family: Family, stratum: tuple[Value, ...], *, exact: bool, fading: float = 1.0) -> None:
        self.family = family
        where = " & ".join(f"{n}={v}" for n, v in zip(family.given, stratum, strict=True))
        self.label = f"{family.label} [{where}]" if where else family.label
        self.index: dict[Group, int] = {}
        self.names: list[str] = []
        self.counts: list[float] = []
        self.heads: list[float] = []
        self.sums: list[Exact] = []
        self.means_: list[float] = []
        self.weights: list[float] = []
        self.times: list[int] = []
        self.exact = exact
        self.fading = fading
        self.clock = 0
        self.total = 0.0
        self.bound: float | None = None
        self.potential = 0.0
        self.carry = 0.0
        self.price = 0.0
        self.forecast: Forecast | None = None

    def code(self, group: Group) -> int:
        """The index of a group, made on first sight."""
        g = self.index.get(group)
        if g is None:
            g = self.index[group] = len(self.counts)
            self.names.append(group_name(self.family.attribute, group))
            self.counts.append(0.0)
            self.heads.append(0.0)
            self.sums.append(ZERO)
            self.means_.append(0.0)
            self.weights.append(0.0)
            self.times.append(self.clock)
        return g

    # -- taking back --------------------------------------------------------------------------------------------------------------

    def save(self) -> tuple[Any, ...]:
        """All that ``restore`` needs to bring the component back to this moment."""
        expected = None if self.forecast is None else self.forecast.save()
        scalars = self.clock, self.total, self.bound, self.potential, self.carry, self.price, expected
        if self.exact:
            return scalars, self.counts[:], self.heads[:], self.sums[:]
        return scalars, self.counts[:], self.heads[:], self.means_[:], self.weights[:], self.times[:]

    def restore(self, saved: tuple[Any, ...]) -> None:
        self.clock, self.total, self.bound, self.potential, self.carry, self.price, expected = saved[0]
        if self.forecast is not None:
            self.forecast.restore(expected)
        size = len(saved[1])
        for group in list(self.index)[size:]:
            del self.index[group]
        for column in (self.names, self.sums, self.means_, self.weights, self.times):
            del column[size:]
        if self.exact:
            self.counts, self.heads, self.sums = saved[1][:], saved[2][:], saved[3][:]
        else:
            self.counts, self.heads, self.means_, self.weights, self.times = (column[:] for column in saved[1:])

    # -- counting -----------------------------------------------------------------------------------------------------------------

    def fade(self, arriving: int) -> None:
        """Let ``arriving`` samples of time pass: no mean moves."""
        if self.fading == 1.0:
            return
        self.clock += arriving
        self.refresh()

    def refresh(self) -> None:
        """Counts and sums at the present time, of a fading component."""
        f, now = self.fading, self.clock
        self.counts = [max(w * f ** (now - t), FADED) if w > 0.0 else 0.0 for w, t in zip(self.weights, self.times, strict=True)]
        self.heads = [m * c for m, c in zip(self.means_, self.counts, strict=True)]
        self.total = fsum(self.counts)

    def add(self, g: int, value: float) -> None:
        """One sent value (score, or score minus target)."""
        if not self.exact:
            self.correct(g, (value,), 1)
            return
        self.counts[g] += 1.0
        self.total += 1.0
        s = self.sums[g] = add_one(self.sums[g], value)
        self.heads[g] = s[0]

    def correct(self, g: int, values: Iterable[float], count: int) -> None:
        """Add ``values`` to the sum and ``count`` (negative when samples leave) to the count."""
        if self.exact:
            self.counts[g] += count
            self.total += count
            s = self.sums[g] = add_many(self.sums[g], values)
            self.heads[g] = s[0]
            return
        # By the mean's own change, never by sum / count: a mean that all values share stays, and old rounding fades with the old samples.
        weight = self.counts[g] + count
        mean = self.means_[g]
        mean += fsum([v - mean for v in values]) / weight
        self.means_[g], self.counts[g], self.weights[g], self.times[g] = mean, weight, weight, self.clock
        self.heads[g] = mean * weight
        self.total += count

    def amend(self, g: int, old: float, new: float, when: int) -> None:
        """A value that was counted as ``-old`` at the time ``when`` counts as ``-new``: a target has come, late."""
        if self.exact:
            self.correct(g, (old, -new), 0)
            if self.forecast is not None:
                self.forecast.grow(len(self.counts))
                self.forecast.sums[g] += old - new
            return
        self.means_[g] += (old - new) * (self.fading ** (self.times[g] - when) / self.weights[g])
        self.heads[g] = self.means_[g] * self.counts[g]

    # -- telling ------------------------------------------------------------------------------------------------------------------

    @property
    def present(self) -> list[int]:
        return [g for g, c in enumerate(self.counts) if c > 0.0]

    def mean(self, g: int) -> float:
        """The mean of a present group."""
        return self.heads[g] / self.counts[g] if self.exact else self.means_[g]

    def means(self) -> list[float]:
        """Means of the present groups."""
        if self.exact:
            return [s / c for s, c in zip(self.heads, self.counts, strict=True) if c > 0.0]
        return [m for m, c in zip(self.means_, self.counts, strict=True) if c > 0.0]

    def gap(self) -> float | None:
        """The figure that the tolerance limits: max - min of the means, or their largest distance from the middle of the interval.

        An anchored family with one open side has the signed distance beyond the other one, and limit 0; with limits [-t, t] it is
        max |M_g| and t. None while vacuous (fewer than two groups for a range, none for an anchored family).
        """
        means = self.means()
        lower, upper = self.family.lower, self.family.upper
        if self.family.kind == "range":
            return max(means) - min(means) if len(means) > 1 else None
        if upper - lower == float("inf"):
            return max((max(m - upper, lower - m) for m in means), default=None)
        return max((abs(m - (lower + upper) / 2) for m in means), default=None)

    @property
    def limit(self) -> float:
        """What ``gap`` must not exceed."""
        return self.family.limit_of_gap

    def parts(self) -> dict[Group, tuple[float, Exact]]:
        """Count and exact sum of each group: what a merge adds."""
        return {group: (self.counts[g], self.sums[g]) for group, g in self.index.items()}

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "groups": [list(g) if isinstance(g, tuple) else g for g in self.index],
            "bound": self.bound,
            "potential": self.potential,
            "carry": self.carry,
            "price": self.price,
        }
        if self.forecast is not None:
            out["forecast"] = self.forecast.to_dict()
        if self.exact:
            return {**out, "counts": list(self.counts), "sums": [list(s) for s in self.sums]}
        return {**out, "weights": list(self.weights), "means": list(self.means_), "times": list(self.times), "clock": self.clock}


def group_name(attribute: Sequence[str], group: Group) -> str:
    """'sex=female', 'sex=female & race=black'."""
    values = group if isinstance(group, tuple) else (group,)
    if len(values) == 1:
        return f"{attribute[0]}={group_word(values[0])}"
    return " & ".join(f"{a}={joined_words([group_word(v)])}" for a, v in zip(attribute, values, strict=True))
