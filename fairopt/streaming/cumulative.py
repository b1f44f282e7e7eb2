"""``Cumulative``: the pooled gap never exceeds the tolerance, at any time: the nearest scores that keep it after every step.

From an empty history this never fails where the notion has a neutral reply (claims N2, P6); other notions are refused. It is dear: +76 % of
the offline optimum's cost on a stationary stream, because it clips at the other group's mean instead of shifting. Not a default.
The bound is the tolerance and what rounding the sent numbers adds (some 1e-14 of the box for float64, the dtype's own grain below).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any, ClassVar

import numpy as np

from fairopt.basics.errors import InfeasibleError, UnsupportedError
from fairopt.streaming.controller import Controller
from fairopt.streaming.ledger import Component
from fairopt.streaming.step_solver import FloatArray, Touch, answer_hard, apply_shifts
from fairopt.streaming.vocabulary import Missing
from fairopt.streaming.windows import Sliding, Window


class Cumulative(Controller):
    """Hard at every moment; see the module. With several families a batch is sent sample by sample, which is exact for one sample.

    Arguments and errors as in ``Controller``.

    Examples:
        >>> from fairopt.streaming import Cumulative
        >>> stream = Cumulative(fo.DemographicParity("sex", tolerance=0.1), bounds=(0, 1))
        >>> stream.step(torch.tensor([0.2, 0.6]), sensitive_features=["f", "m"]).scores
        tensor([0.3500, 0.4500])
        >>> stream.step(torch.tensor([0.5]), sensitive_features=["m"]).scores
        tensor([0.4500])
    """

    name: ClassVar[str] = "Cumulative"

    def __init__(
        self,
        notion: object,
        *,
        bounds: Any,
        groups: Any = None,
        window: Window | None = None,
        missing_group: Missing = "error",
        pos_label: Any = None,
    ) -> None:
        super().__init__(notion, bounds=bounds, groups=groups, window=window, missing_group=missing_group, pos_label=pos_label)
        if not self.plan.neutral(self.lb, self.ub):
            raise UnsupportedError(
                "Cumulative: this notion has no neutral reply in these bounds (marginal and conditional notions joined, a range "
                "of residuals, or limits outside the bounds), so the past can make it infeasible (claim P6); use PooledParity"
            )
        if isinstance(self.window, Sliding):
            raise UnsupportedError(
                "Cumulative: a sample that leaves a sliding window can break the tolerance whatever is sent; use AllTime or Forget"
            )

    def _answer(self, z: FloatArray, touches: Sequence[Touch]) -> FloatArray:
        if self.plan.coupled or len(z) == 1:
            y = self._one_by_one(z, touches)
            for touch in touches:  # of one sample the shift is z - y; of several families together the prices are not unique
                c = touch.component
                c.price = abs(float(z[0] - y[0])) * (c.counts[int(touch.codes[0])] + 1.0) if len(touches) == 1 and len(z) == 1 else 0.0
            return y
        y = z.copy()
        for touch in touches:
            try:
                shifts = answer_hard(z, touch, self._low, self._high)
            except InfeasibleError:  # by rounding alone: claim N2's neutral reply always exists, and is given sample by sample
                touch.component.price = 0.0
                y[touch.where] = self._one_by_one(z, [touch])[touch.where]
                continue
            after = touch.counts_after()
            touch.component.price = max((abs(s) * after[g] for g, s in shifts.items()), default=0.0)
            y = np.clip(apply_shifts(y, touch, shifts), self._low, self._high)
        return y

    def _one_by_one(self, z: FloatArray, touches: Sequence[Touch]) -> FloatArray:
        """Several families: each sample goes to the nearest point of the intersection of the families' intervals, in order of the batch.

        The neutral reply lies in the intersection, so it is never empty; the batch is not projected jointly (dearer than need be).
        """
        running = {id(t.component): (list(t.component.counts), list(t.component.heads)) for t in touches}
        y = z.copy()
        places: list[list[tuple[Touch, int]]] = [[] for _ in z]
        for touch in touches:
            for position, i in enumerate(touch.where.tolist()):
                places[i].append((touch, position))
        for i in range(len(z)):
            if not places[i]:
                continue
            low, high = self._low, self._high
            for touch, position in places[i]:
                counts, sums = running[id(touch.component)]
                target = 0.0 if touch.targets is None else float(touch.targets[position])
                a, b = allowed(touch.component, counts, sums, int(touch.codes[position]))
                low, high = max(low, a + target), min(high, b + target)
            if high - low < 1e-9 * self._range:
                # A point, up to rounding: the neutral reply. Clipping to the noisy ends instead would amplify their rounding step by step.
                touch, position = places[i][0]
                y[i] = self._neutral(touch, position, *running[id(touch.component)])
            else:
                y[i] = min(max(float(z[i]), low), high)
            y[i] = min(max(float(y[i]), self._low), self._high)
            for touch, position in places[i]:
                counts, sums = running[id(touch.component)]
                g = int(touch.codes[position])
                counts[g] += 1.0
                sums[g] += float(y[i]) - (0.0 if touch.targets is None else float(touch.targets[position]))
        return y

    def _neutral(self, touch: Touch, position: int, counts: Sequence[float], sums: Sequence[float]) -> float:
        """Claim N2: the target for residuals, the overall mean for a range, the nearest allowed point for limits on means."""
        if touch.targets is not None:
            return float(touch.targets[position])
        mean = sum(sums) / (sum(counts) or 1.0)
        if touch.component.family.kind == "range":
            return mean
        limits = [f for f in self._families if f.kind == "anchored"]
        return min(max(mean, *(f.lower for f in limits), self._low), *(f.upper for f in limits), self._high)

    def merge(self, other: Controller) -> None:
        raise UnsupportedError(
            "Cumulative: two histories inside the tolerance can together be outside it, and then no reply exists; use PooledParity"
        )

    def _update_bounds(self, touches: Sequence[Touch], before: Sequence[tuple[float, float | None]]) -> None:
        """The limit, and what rounding adds: a sent score is off by at most ``grain``, its group's mean by grain / N_g, which sums to
        grain (1 + log N_g) in each group; and the means themselves are floats."""
        del before
        for touch in touches:
            c = touch.component
            rounding = self._grain * len(c.counts) * (4.0 + log(max(1.0, c.total)))
            c.bound = c.limit + rounding if self._proved and c.gap() is not None else None


def allowed(c: Component, counts: Sequence[float], sums: Sequence[float], g: int) -> tuple[float, float]:
    """The interval of values whose arrival in group g keeps the component inside its limits, the other means standing."""
    means = [s / n for k, (s, n) in enumerate(zip(sums, counts, strict=True)) if n > 0.0 and k != g]
    if c.family.kind == "anchored":
        lower, upper = c.family.lower, c.family.upper
    elif means:
        lower, upper = max(means) - c.family.upper, min(means) + c.family.upper
    else:
        return float("-inf"), float("inf")
    n = counts[g] + 1.0
    return lower * n - sums[g], upper * n - sums[g]
