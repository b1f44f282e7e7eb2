"""What has been sent so far in one stratum of one family: a count and a sum a group, and the potential on the means.

``N_g`` and ``S_g`` count what was *sent* (claims P1-P6), ``M_g = S_g / N_g``. The potential is ``sum_g c_g / 2 dist_g^2``, dist the
distance of the means to the allowed set: {max - min <= eps} for a range family, [lower, upper] for an anchored one. Its slope in
``M_g`` is ``c_g r_g`` with ``r`` the residual of the projection onto that set in the metric c.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fairopt.streaming.exact import ZERO, Exact, add_many, add_one
from fairopt.streaming.families import Family
from fairopt.streaming.vocabulary import Value
from fairopt.table import group_word, joined_words

Group = Value | tuple[Value, ...]


class Component:
    """Counts and sums of one stratum of one family. Not thread-safe: the controller holds the lock.

    counts (K,) floats (whole unless fading); heads (K,) the rounded sums; sums (K,) the exact ones (unused when fading < 1).
    total: sum of the counts. bound: the proved bound on ``gap`` now in force, or None. potential: Theorem D's running sum A_t.
    carry: what is left of the gap at the last merge (0 without one).
    """

    __slots__ = ("bound", "carry", "counts", "exact", "family", "heads", "index", "label", "names", "potential", "price", "sums", "total")

    def __init__(self, family: Family, stratum: tuple[Value, ...], *, exact: bool) -> None:
        self.family = family
        where = " & ".join(f"{n}={v}" for n, v in zip(family.given, stratum, strict=True))
        self.label = f"{family.label} [{where}]" if where else family.label
        self.index: dict[Group, int] = {}
        self.names: list[str] = []
        self.counts: list[float] = []
        self.heads: list[float] = []
        self.sums: list[Exact] = []
        self.exact = exact
        self.total = 0.0
        self.bound: float | None = None
        self.potential = 0.0
        self.carry = 0.0
        self.price = 0.0

    def code(self, group: Group) -> int:
        """The index of a group, made on first sight."""
        g = self.index.get(group)
        if g is None:
            g = self.index[group] = len(self.counts)
            self.names.append(group_name(self.family.attribute, group))
            self.counts.append(0.0)
            self.heads.append(0.0)
            self.sums.append(ZERO)
        return g

    def fade(self, factor: float) -> None:
        """Multiply the past by ``factor``: no mean moves."""
        if factor != 1.0:
            self.counts = [c * factor for c in self.counts]
            self.heads = [s * factor for s in self.heads]
            self.total *= factor

    def add(self, g: int, value: float) -> None:
        """One sent value (score, or score minus target)."""
        self.counts[g] += 1.0
        self.total += 1.0
        if self.exact:
            s = self.sums[g] = add_one(self.sums[g], value)
            self.heads[g] = s[0]
        else:
            self.heads[g] += value

    def correct(self, g: int, values: Iterable[float], count: int) -> None:
        """Add ``values`` to the sum and ``count`` (negative when samples leave) to the count."""
        self.counts[g] += count
        self.total += count
        if self.exact:
            s = self.sums[g] = add_many(self.sums[g], values)
            self.heads[g] = s[0]
        else:
            self.heads[g] += sum(values)

    @property
    def present(self) -> list[int]:
        return [g for g, c in enumerate(self.counts) if c > 0.0]

    def means(self) -> list[float]:
        """Means of the present groups."""
        return [s / c for s, c in zip(self.heads, self.counts, strict=True) if c > 0.0]

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

    def to_dict(self) -> dict[str, Any]:
        return {
            "groups": [list(g) if isinstance(g, tuple) else g for g in self.index],
            "counts": list(self.counts),
            "sums": [list(s) for s in self.sums] if self.exact else [[h] for h in self.heads],
            "total": self.total,
            "bound": self.bound,
            "potential": self.potential,
            "carry": self.carry,
            "price": self.price,
        }

    def load(self, state: dict[str, Any]) -> None:
        for g, count, total in zip(state["groups"], state["counts"], state["sums"], strict=True):
            k = self.code(tuple(g) if isinstance(g, list) else g)
            self.counts[k] = float(count)
            self.sums[k] = tuple(float(s) for s in total)
            self.heads[k] = self.sums[k][0]
        self.total = float(state["total"])
        self.bound, self.potential, self.carry, self.price = state["bound"], state["potential"], state["carry"], state["price"]


def group_name(attribute: Sequence[str], group: Group) -> str:
    """'sex=female', 'sex=female & race=black'."""
    values = group if isinstance(group, tuple) else (group,)
    if len(values) == 1:
        return f"{attribute[0]}={group_word(values[0])}"
    return " & ".join(f"{a}={joined_words([group_word(v)])}" for a, v in zip(attribute, values, strict=True))
