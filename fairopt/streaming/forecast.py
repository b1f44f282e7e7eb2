"""What the pooled rule expects: the shifts that the next stretch of the stream will ask for, learned from what came lately.

Theorem B (and C, and the anchored families' bound) holds on *every* stream of scores in the box, so also on the stream of scores that are
shifted beforehand by anything known from the past. So a prediction may be taken off first, for free: the bound stays, and the rule has only
the prediction's error left to correct. Predicted is, for a stretch of ``H = STRETCH N`` samples that come as they came lately (shares p_g,
mean raw scores m_g), the cheapest constant shifts that end it inside the tolerance:

    after the stretch, unshifted:   N'_g = N_g + H p_g,   M'_g = (S_g + H p_g m_g) / N'_g
    a shift s_g moves M'_g by a_g s_g, where a_g = H p_g / N'_g
    least sum_g p_g s_g^2 with M' - a s inside the limits:   a_g s_g = the residual of M' in the metric N'_g^2 / p_g

Groups that come often from now on are moved more than the myopic rule would: under drift that is cheaper than without a prediction.
The rule itself keeps a small part, what it does at a gap of ``AIM`` beyond the tolerance: a prediction that is a little too strong would
stay unseen, since the rule never pushes the other way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from fairopt.streaming.exact import ZERO, Exact, add_many
from fairopt.streaming.families import Family
from fairopt.streaming.residuals import range_residuals, residual

STRETCH = 0.52  # of the samples so far: the stretch that is planned for
EVERY = 64  # a plan a 64th of the samples so far, and no fewer samples than that
KEEP = 0.7  # of the weight of what came before, a plan: a memory of about a 20th of the samples so far
AIM = 0.0075  # of the tolerance
LEAST = 20.0  # samples of a group before it is predicted


class Sent(Protocol):
    """What was sent in one stratum of one family: a ``Component``."""

    family: Family
    counts: list[float]
    heads: list[float]
    total: float


class Forecast:
    """Recent arrivals of one component, and the shifts expected of its groups; in the controller's units. The controller holds the lock.

    old_counts, old_sums (K,): earlier epochs, faded (exact sums: merging in any order gives the same bits); counts, sums (K,): this epoch;
    sums are of scores as they came, clipped into the box, less the target for residuals. shifts (K,): to be taken off. due: the total
    from which a new plan is made.
    """

    __slots__ = ("counts", "due", "old_counts", "old_sums", "shifts", "sums")

    def __init__(self) -> None:
        self.old_counts: list[Exact] = []
        self.old_sums: list[Exact] = []
        self.counts: list[float] = []
        self.sums: list[float] = []
        self.shifts: list[float] = []
        self.due = 0.0

    def grow(self, size: int) -> None:
        """Groups that are new."""
        more = size - len(self.counts)
        if more > 0:
            self.old_counts += [ZERO] * more
            self.old_sums += [ZERO] * more
            self.counts += [0.0] * more
            self.sums += [0.0] * more
            self.shifts += [0.0] * more

    def plan(self, component: Sent, gain: Callable[[float, Sequence[float]], float], width: float) -> None:
        """A new plan where one is due: an epoch ends, and the shifts are those of the module. gain(total, counts) is the rule's."""
        self.grow(len(component.counts))
        if component.total < self.due:
            return
        self.due = component.total + max(EVERY, component.total / EVERY)
        for g, (count, total) in enumerate(zip(self.counts, self.sums, strict=True)):
            self.old_counts[g] = (self.old_counts[g][0] * KEEP + count,)
            self.old_sums[g] = (self.old_sums[g][0] * KEEP + total,)
        size = len(self.counts)
        self.counts, self.sums, self.shifts = [0.0] * size, [0.0] * size, [0.0] * size
        present = [g for g, n in enumerate(component.counts) if n > 0.0]
        weight = sum(self.old_counts[g][0] for g in present)
        anchored = component.family.kind == "anchored"
        if weight <= 0.0 or len(present) < (1 if anchored else 2) or min(component.counts[g] for g in present) < LEAST:
            return
        for g, shift in zip(present, self._expected(component, present, weight, gain), strict=True):
            self.shifts[g] = max(-width, min(width, shift))

    def _expected(self, component: Sent, present: list[int], weight: float, gain: Callable[[float, Sequence[float]], float]) -> list[float]:
        """The shifts of the present groups."""
        family, total = component.family, component.total
        stretch = STRETCH * total
        share = [self.old_counts[g][0] / weight for g in present]
        after = [component.counts[g] + stretch * p for g, p in zip(present, share, strict=True)]
        means = [
            (component.heads[g] + stretch * self.old_sums[g][0] / weight) / n for g, n in zip(present, after, strict=True)
        ]  # unshifted, after the stretch
        effect = [stretch * p / n for p, n in zip(share, after, strict=True)]
        if family.kind == "anchored":
            half = 0.5 * (family.upper - family.lower)
            aim = AIM * half if half < float("inf") else 0.0
            left = []
            for g, m, e in zip(present, means, effect, strict=True):
                own = aim * (1.0 + 2.0 * gain(component.counts[g], ()) * e)  # and what the rule does there
                left.append(residual(m, family.lower - own, family.upper + own))
        else:
            aim = AIM * family.upper
            ends = (means.index(max(means)), means.index(min(means)))
            rule = gain(total, component.counts) * aim * sum(effect[k] * total / component.counts[present[k]] for k in ends)
            metric = [n * n / max(p, 1e-12) for n, p in zip(after, share, strict=True)]
            left = range_residuals(means, metric, family.upper + aim + rule)
        return [r / e if e > 1e-6 else 0.0 for r, e in zip(left, effect, strict=True)]

    # -- saving, merging ----------------------------------------------------------------------------------------------------------

    def save(self) -> tuple[Any, ...]:
        return self.old_counts[:], self.old_sums[:], self.counts[:], self.sums[:], self.shifts[:], self.due

    def restore(self, saved: tuple[Any, ...]) -> None:
        self.old_counts, self.old_sums, self.counts, self.sums, self.shifts = (column[:] for column in saved[:5])
        self.due = saved[5]

    def take(self, other: Forecast, places: Mapping[int, int]) -> None:
        """Add what ``other`` saw lately, its group k being our ``places[k]``; the next step plans anew. The past of a fork counts again:
        only the proportions matter."""
        for k, g in places.items():
            self.old_counts[g] = add_many(self.old_counts[g], (self.counts[g], *other.old_counts[k], other.counts[k]))
            self.old_sums[g] = add_many(self.old_sums[g], (self.sums[g], *other.old_sums[k], other.sums[k]))
            self.counts[g] = self.sums[g] = 0.0
        self.shifts = [0.0] * len(self.shifts)
        self.due = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "old_counts": [list(x) for x in self.old_counts],
            "old_sums": [list(x) for x in self.old_sums],
            "counts": list(self.counts),
            "sums": list(self.sums),
            "shifts": list(self.shifts),
            "due": self.due,
        }
