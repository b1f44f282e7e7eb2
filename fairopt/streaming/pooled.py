"""``PooledParity``: the pooled rule in its implicit form, the one to use.

Each step sends ``y = argmin 1/2 ||y - z||^2 + potential of the means after the step``, in the box. The potential and its bound:

| families             | potential                                      | proved bound on the gap: every stream, any batch sizes    |
|----------------------|------------------------------------------------|-----------------------------------------------------------|
| one, two groups      | kappa N^1.5 / 2 (abs(D) - eps)_+^2             | B: eps + pi R / (kappa sqrt N)                            |
| one, K >= 3 groups   | kappa N^1.5 dist(M, {range <= eps})^2          | C: max(eps + K R / (2 kappa sqrt N), gap before)          |
| one, means in limits | sum_g kappa N_g^1.5 dist(M_g, limits)^2        | max(limit + R / (2 kappa sqrt N_g), gap before + o)       |
| several, one crowd   | 2 kappa sqrt N sum_f sum_g N_g dist_g^2        | D: eps + sqrt((1/N_a + 1/N_b) A)                          |

N counts the stratum's samples after the step, pi is the larger running share, R = ub - lb, A = sum_s n_s R^2 / (2 gamma_s) with
gamma_s = 4 kappa sqrt N_s. At K = 2 the second row is the first (dist^2 = (abs(D) - eps)_+^2 / 2), so kappa means the same for every K.

The third row (ours): if ``abs(M_g) - limit > R / (2 kappa sqrt N_g)`` after a step, the shift 2 kappa sqrt(N_g) r_g of its samples
exceeds R, so all of them sit at the bound on the other side of the interval (residuals: target in the box, so residual <= 0 or >= 0 there)
and the mean has come nearer to the interval. A target outside the box by d moves its group's mean by at most d / N_g: o is the largest
sum of these, 0 where all targets lie in the box.

With ``predict=True`` the forecast (``forecast.py``) takes off the expected shifts before the step. The theorems
hold on every stream, so on that of the scores shifted beforehand too: the bounds stay as they are, the gap ends nearer to the tolerance.
It is made where a sample counts in one family, over all time.

kappa has no unit: the price of a gap v beyond the tolerance is kappa sqrt(N) v, a score like v, whatever the box. Without a forecast
the gap ends at eps + q / (kappa sqrt N), q the price that the offline optimum pays: wide boxes and short streams show it, and no kappa
cures it, since the excess cost grows by kappa sigma^2 / (2 pi0 pi1) (claim P3). With one, q is what the forecast misses, and 0.25 does.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, sqrt
from typing import Any, ClassVar

import numpy as np

from fairopt.basics.errors import InputError
from fairopt.streaming.controller import Controller
from fairopt.streaming.exact import add_one
from fairopt.streaming.families import Family
from fairopt.streaming.forecast import Forecast
from fairopt.streaming.frame import finite
from fairopt.streaming.ledger import Component
from fairopt.streaming.report import StreamStep
from fairopt.streaming.step_solver import (
    FloatArray,
    Metric,
    Place,
    Touch,
    answer_coupled,
    answer_one,
    answer_springs,
    answer_two,
    apply_shifts,
    residuals_of,
)
from fairopt.streaming.vocabulary import Column, Missing, Value
from fairopt.streaming.windows import AllTime, Sliding, Window

E_STALENESS = 2.718281828459045  # claim P5's constant: the gain that a delay of d samples allows is N pi0 pi1 / (e d)


class PooledParity(Controller):
    """Keeps the pooled gap near the tolerance at any batch size, through drift; see the module for bounds and constants.

    Other arguments as in ``Controller``. InputError for a number out of its range.

    kappa      the gain, > 0
    staleness  at most this many samples that this controller has not seen yet (parallel workers between merges); caps the gain at
               N pi0 pi1 / (e staleness), without which delayed feedback runs into a limit cycle (claim P5). 0: sees all.
    predict    take off the expected shifts first; see the module. Off by default: a gap nearer to the tolerance costs more, 1 % on
               long stationary streams and some per cent in their first thousands of samples

    Examples:
        >>> from fairopt.streaming import PooledParity
        >>> generator = np.random.default_rng(0)
        >>> stream = PooledParity(fo.DemographicParity("sex", tolerance=0.1), bounds=(0, 1))
        >>> for _ in range(200):
        ...     sex = generator.integers(2, size=5)
        ...     step = stream.step(0.3 + 0.4 * sex, sensitive_features=sex)
        >>> report = stream.report()
        >>> report.samples, report.pooled_gap <= report.bound
        (1000, True)
    """

    _forecasts: bool = False

    name: ClassVar[str] = "PooledParity"

    def __init__(
        self,
        notion: object,
        *,
        bounds: Any,
        groups: Any = None,
        window: Window | None = None,
        missing_group: Missing = "error",
        pos_label: Any = None,
        kappa: float = 0.25,
        staleness: float = 0.0,
        predict: bool = False,
    ) -> None:
        super().__init__(notion, bounds=bounds, groups=groups, window=window, missing_group=missing_group, pos_label=pos_label)
        if not (isinstance(kappa, (int, float)) and isfinite(kappa) and kappa > 0):
            raise InputError(f"kappa: expected a number > 0, got {kappa!r}")
        if not (isinstance(staleness, (int, float)) and isfinite(staleness) and staleness >= 0):
            raise InputError(f"staleness: expected a number of samples >= 0, got {staleness!r}")
        if not isinstance(predict, bool):
            raise InputError(f"predict: expected True or False, got {predict!r}")
        self.kappa, self.staleness, self.predict = float(kappa), float(staleness), predict
        self._coupled = self.plan.coupled
        self.plan.warn_if_mixed(self.name)
        self._provable = self.plan.neutral(self.lb, self.ub) and not isinstance(self.window, Sliding)
        self._forecasts = predict and not self._coupled and isinstance(self.window, AllTime)
        if self._forecasts:
            for component in self._components.values():
                component.forecast = Forecast()
        self._column, self._single = self._fast_path()
        f = self.frame
        self._frame = f.lb, f.ub, f.unit, f.inverse, f.offset

    def _options(self) -> dict[str, Any]:
        return {"kappa": self.kappa, "staleness": self.staleness, "predict": self.predict}

    def _made(self, family: Family, stratum: tuple[Value, ...]) -> Component:
        component = super()._made(family, stratum)
        component.forecast = Forecast() if self._forecasts else None
        return component

    # -- gains --------------------------------------------------------------------------------------------------------------------

    def _gain(self, total: float, counts: Sequence[float]) -> float:
        """kappa sqrt N, capped under staleness by N times the least pi (1 - pi) over e d."""
        gain = self.kappa * sqrt(total)
        if self.staleness > 0.0:
            variety = min((c / total * (1.0 - c / total) for c in counts if 0.0 < c < total), default=0.0)
            gain = min(gain, total * variety / (E_STALENESS * self.staleness)) if variety > 0.0 else gain
        return gain

    def _metric(self, family: Family, counts: Sequence[float]) -> Metric:
        """c_g of every group, from the counts after the step."""
        total = sum(counts)
        gain = self._gain(total, counts)
        if self._coupled:
            return [4.0 * gain * c for c in counts]
        if family.kind == "anchored":
            return [2.0 * self.kappa * c**1.5 for c in counts]
        return [2.0 * total * gain if c > 0.0 else 0.0 for c in counts]

    # -- answering ----------------------------------------------------------------------------------------------------------------

    def _answer(self, z: FloatArray, touches: Sequence[Touch]) -> FloatArray:
        if self._forecasts:
            z = self._less_expected(z, touches)
        if len(z) == 1:
            return np.array([self._answer_one(float(z[0]), touches)])
        metrics = [self._metric(t.component.family, t.counts_after()) for t in touches]
        if not self._coupled:
            y = z
            for touch, metric in zip(touches, metrics, strict=True):
                shifts = answer_springs(z, touch, metric, self._low, self._high)
                touch.component.price = _price(shifts, touch)
                y = apply_shifts(y, touch, shifts)
            return np.clip(y, self._low, self._high)
        if not touches:
            return z
        y = z
        for touch, shifts in zip(touches, answer_coupled(z, touches, metrics, self._low, self._high), strict=True):
            touch.component.price = _price(shifts, touch)
            y = apply_shifts(y, touch, shifts)
        return np.clip(y, self._low, self._high)

    def _less_expected(self, z: FloatArray, touches: Sequence[Touch]) -> FloatArray:
        """z less the expected shifts, in the box; what came is noted."""
        out = z.copy()
        for touch in touches:
            component, codes = touch.component, touch.codes
            forecast = component.forecast
            assert forecast is not None
            forecast.plan(component, self._gain, self._range)
            out[touch.where] -= np.array(forecast.shifts)[codes]
            came = z[touch.where] if touch.targets is None else z[touch.where] - touch.targets
            arrived, sums = np.bincount(codes), np.bincount(codes, weights=came)
            for g in np.flatnonzero(arrived).tolist():
                forecast.counts[g] += float(arrived[g])
                forecast.sums[g] += float(sums[g])
        return np.clip(out, self._low, self._high)

    def _answer_one(self, z: float, touches: Sequence[Touch]) -> float:
        places = []
        for touch in touches:
            component, g = touch.component, int(touch.codes[0])
            if not self._coupled and component.family.kind == "range" and touch.targets is None and len(component.present) <= 2:
                alone = self._answer_two(z, component, g)
                if alone is not None:
                    return alone
            target = 0.0 if touch.targets is None else float(touch.targets[0])
            places.append(Place(component, g, target, self._metric(component.family, touch.counts_after())))
        y = answer_one(z, places, self._low, self._high) if places else z
        for place in places:
            place.component.price = _price_one(place, y)
        return y

    def _answer_two(self, z: float, component: Component, g: int) -> float | None:
        """One sample where at most one other group is present: the closed form. None where there are three groups."""
        counts = component.counts
        other = -1
        for k, c in enumerate(counts):
            if k != g and c > 0.0:
                if other >= 0:
                    return None
                other = k
        if other < 0:
            component.price = 0.0
            return z
        count = counts[g] + 1.0
        total = component.total + 1.0
        gain = self.kappa * sqrt(total) if self.staleness == 0.0 else self._gain(total, (count, counts[other]))
        y, component.price = answer_two(
            z, count, component.heads[g], component.mean(other), gain * total, component.family.upper, self._low, self._high
        )
        return y

    # -- bounds -------------------------------------------------------------------------------------------------------------------

    def _update_bounds(self, touches: Sequence[Touch], before: Sequence[tuple[float, float | None]]) -> None:
        for touch, (total, gap) in zip(touches, before, strict=True):
            c = touch.component
            beyond = self._beyond(touch) if c.family.residual else 0.0
            c.bound = self._bound(c, total, gap, len(touch.where), beyond) if self._provable and self._proved else None

    def _outside(self) -> None:
        """Limits on mean residuals: the bound carries what such targets add; elsewhere nothing is proved any more."""
        if self._coupled or any(f.residual and f.kind != "anchored" for f in self._families):
            super()._outside()

    def _beyond(self, touch: Touch) -> float:
        """The largest sum over a group's new samples of the distance of the target to the box, by its count."""
        if touch.targets is None:
            return 0.0
        away = np.abs(touch.targets - np.clip(touch.targets, self._low, self._high))
        sums = np.bincount(touch.codes, weights=away, minlength=len(touch.component.counts))
        return max(float(s) / n for s, n in zip(sums, touch.component.counts, strict=True) if n > 0.0)

    def _bound(self, c: Component, before: float, gap_before: float | None, arrived: int, beyond: float = 0.0) -> float | None:
        """The bound in force after ``arrived`` samples came on top of ``before`` (faded) ones; None while vacuous. beyond: ``_beyond``.

        The theorems are about real numbers. Rounding what is sent by at most ``grain`` moves a mean by at most that: twice for a gap.
        """
        counts = [x for x in c.counts if x > 0.0]
        gain = self._gain(c.total, counts)
        if self._coupled:  # Theorem D; the running sum fades with the past
            c.potential = self._grown(c.potential * self._fading**arrived, arrived, gain)
            counts.sort()
            if c.family.kind == "anchored":
                return finite(c.limit + sqrt(c.potential / counts[0]))
            return finite(c.limit + sqrt((1.0 / counts[0] + 1.0 / counts[1]) * c.potential)) if len(counts) > 1 else None
        if c.family.kind == "anchored":
            rule = c.limit + self._range / (2.0 * self.kappa * sqrt(min(counts))) + self._grain
            return rule + beyond if gap_before is None else max(rule, gap_before + beyond + self._grain)
        if len(counts) < 2:
            return None
        if len(counts) > 2:
            rule = c.limit + len(counts) * self._range / (2.0 * gain) + 2.0 * self._grain
            return rule if gap_before is None else max(rule, gap_before + 2.0 * self._grain)
        return self._bound_two(c, before, max(counts), gain)

    def _bound_two(self, c: Component, before: float, most: float, gain: float) -> float:
        """Theorem B's. A gap left by a merge shrinks at least by before / now while it exceeds the rule (its proof)."""
        c.carry *= before / c.total
        return max(c.limit + most / c.total * self._range / gain, c.carry) + 2.0 * self._grain

    def _grown(self, potential: float, arrived: int, gain: float) -> float:
        """Theorem D's sum after a step: plus n R^2 / (2 gamma). Its root is a norm of the means: rounding adds sqrt(n families) grains."""
        exact = potential + arrived * self._range**2 / (8.0 * gain)
        return (sqrt(exact) + self._grain * sqrt(arrived * len(self._families))) ** 2

    # -- the single-number path ---------------------------------------------------------------------------------------------------

    def _fast_path(self) -> tuple[Column | None, Component | None]:
        """The one column and component that a plain stream has (one attribute, no strata, no targets, all time)."""
        family = self.plan.families[0]
        plain = (
            len(self.plan.families) == 1
            and family.kind == "range"
            and not (family.given or family.condition is not None or family.residual)
        )
        if not plain or len(family.attribute) != 1 or not isinstance(self.window, AllTime):
            return None, None
        return self.columns[family.attribute[0]], self._components[0, ()]

    def step(self, scores: Any, *, sensitive_features: Any, targets: Any = None, key: Any = None) -> StreamStep:
        column = self._column
        if type(scores) is not float or column is None or key is not None or targets is not None or not isfinite(scores):
            return super().step(scores, sensitive_features=sensitive_features, targets=targets, key=key)
        group: Any = sensitive_features
        if type(sensitive_features) is dict:
            group = sensitive_features.get(column.name)
        component = self._single
        assert component is not None
        with self._lock:
            g = component.index.get(group) if type(group) is column.kind else None  # type: ignore[call-overload]
            if g is not None:
                told = self._single_step(scores, component, g)
                if told is not None:
                    return told
        return super().step(scores, sensitive_features=sensitive_features)

    def _single_step(self, score: float, c: Component, g: int) -> StreamStep | None:
        """What ``Stepping._step`` does, for the plain stream of at most two groups; None where there are more, and nothing is changed."""
        lb, ub, unit, inverse, offset = self._frame
        z = score if lb <= score <= ub else lb if score < lb else ub
        forecast, came = c.forecast, (z - offset) * inverse
        shift = seen = noted = 0.0
        if forecast is not None:
            if c.total >= forecast.due or g >= len(forecast.shifts):
                return None  # a plan is due: the general path
            shift, seen, noted = forecast.shifts[g], forecast.counts[g], forecast.sums[g]
        counts, heads, sums = c.counts, c.heads, c.sums
        total, count, head, s = c.total, counts[g], heads[g], sums[g]
        price, bound, carry, samples, steps, distortion = c.price, c.bound, c.carry, self.samples, self.steps, self._distortion
        try:
            x = came if shift == 0.0 else min(max(came - shift, self._low), self._high)
            found = self._answer_two(x, c, g)
            if found is None:
                return None
            x = found
            if forecast is not None:
                forecast.counts[g], forecast.sums[g] = seen + 1.0, noted + came
            y = x * unit + offset
            if offset != 0.0:
                x = (y - offset) * inverse  # what is sent is what is counted
            counts[g] = count + 1.0
            c.total = total + 1.0
            new = sums[g] = add_one(s, x)
            heads[g] = new[0]
            self.samples = samples + 1
            self.steps = steps + 1
            change = (y - score) * inverse
            self._distortion = distortion + change * change
            gap: float | None = None
            if len(counts) == 2 and counts[1 - g] > 0.0:
                gap = abs(heads[0] / counts[0] - heads[1] / counts[1]) * unit
                if self._proved:
                    gain = self.kappa * sqrt(c.total) if self.staleness == 0.0 else self._gain(c.total, counts)
                    c.bound = self._bound_two(c, total, max(counts), gain)
            elif len(counts) > 2:
                gap = self.frame.stated(c.gap())
                c.bound = self._bound(c, total, None, 1) if self._proved else None
            told = StreamStep(
                y, {c.label: c.price * unit}, {c.label: gap}, {c.label: dict(zip(c.names, counts, strict=True))},
                () if gap is not None else (c.label,),
            )  # fmt: skip
            self._draw(gap, None if c.bound is None else c.bound * unit)
            return told
        except BaseException:
            counts[g], heads[g], sums[g], c.total = count, head, s, total
            c.price, c.bound, c.carry, self.samples, self.steps, self._distortion = price, bound, carry, samples, steps, distortion
            if forecast is not None and g < len(forecast.counts):
                forecast.counts[g], forecast.sums[g] = seen, noted
            raise

    def _draw(self, gap: float | None, bound: float | None) -> None:
        """A point of the curve where one is due: all of it or none."""
        curve = self._curve
        seen = curve.seen + 1
        if seen % curve.stride:
            curve.seen = seen
            return
        saved = curve.save()
        try:
            curve.seen = seen
            curve.add(self.samples, gap, bound, self._mean_change())
        except BaseException:
            curve.restore(saved)
            raise

    def _loaded(self) -> None:
        self._column, self._single = self._fast_path()


def _price(shifts: dict[int, float], touch: Touch) -> float:
    """The price of the limit: the sum of the positive group prices N_g s_g, or of the negative ones where these are more."""
    after = touch.counts_after()
    prices = [after[g] * s for g, s in shifts.items()]
    return max(sum(p for p in prices if p > 0.0), -sum(p for p in prices if p < 0.0))


def _price_one(place: Place, y: float) -> float:
    """The same from the residuals after the step."""
    c = place.component
    present = [g for g, n in enumerate(c.counts) if n > 0.0 or g == place.code]
    means = [(c.heads[g] + y - place.target) / (c.counts[g] + 1.0) if g == place.code else c.mean(g) for g in present]
    metric = [place.metric[g] for g in present]
    prices = [w * r for w, r in zip(metric, residuals_of(c, means, metric), strict=True)]
    return max(sum(p for p in prices if p > 0.0), -sum(p for p in prices if p < 0.0))
