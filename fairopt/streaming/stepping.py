"""How any controller takes a step: reading it, counting exactly what was sent, windows, late targets, the report.

A controller answers each step by ``_answer`` (its own mathematics) and counts exactly the numbers that it hands out.
One lock a controller: steps from several threads are taken one after the other, and none is lost.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np

from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.basics.labels import refusal
from fairopt.streaming.families import Family
from fairopt.streaming.frame import Frame
from fairopt.streaming.journal import Journal
from fairopt.streaming.ledger import Component, ComponentKey, Entry, Spot
from fairopt.streaming.lineage import Lineage
from fairopt.streaming.plan import Plan, plan_of
from fairopt.streaming.reading import EPS, Scores, read_bounds, read_features, read_keys, read_pos_label, read_scores, read_targets
from fairopt.streaming.report import Curve, StreamReport, StreamStep
from fairopt.streaming.step_solver import FloatArray, Touch
from fairopt.streaming.vocabulary import Missing, Value, columns_of
from fairopt.streaming.windows import AllTime, Sliding, Window, window_to_dict


class Stepping(ABC):
    """A controller without its state on disk and its merging, which ``Controller`` adds.

    notion       a fairopt notion of group means (pairs), or streaming families (``fairopt.streaming.parity(...)``: no torch needed)
    bounds       (lb, ub), finite; scores are clipped into them first
    groups       declared values by attribute (or, for one attribute, the values); unknown ones are then an error
    window       ``AllTime()``, ``Sliding(n)`` or ``Forget(half_life)``
    pos_label    the target that counts as 1, every other one as 0; None: targets are numbers, labels 0 and 1
    """

    name: ClassVar[str]
    _scalars: ClassVar[tuple[str, ...]] = ("samples", "steps", "_distortion", "_proved", "_why", "_grain")  # what a step may change

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
        self.plan: Plan = plan_of(notion)
        self.lb, self.ub = read_bounds(bounds)
        self.range = self.ub - self.lb
        self.frame = Frame.of(self.lb, self.ub)
        self._families = tuple(self.frame.family(f) for f in self.plan.families)  # in units
        self._low, self._high, self._range = self.frame.low, self.frame.high, self.frame.range
        self.window: Window = AllTime() if window is None else window
        self.columns = columns_of(self.plan.columns, groups, missing_group)
        self.pos_label = read_pos_label(pos_label)
        self._labels = self.plan.labels
        self._scalars_of = attrgetter(*self._scalars)
        self._residual = any(f.residual for f in self.plan.families)  # whether some means are of score minus target
        self._fading = self.window.fading
        self._exact = self._fading == 1.0
        self._lock = threading.Lock()
        self._components: dict[ComponentKey, Component] = {}
        self._recent: deque[Entry] = deque()  # Sliding only: one entry a sample
        self._pending: dict[str | int, tuple[list[Spot], float]] = {}  # key -> where it counts, its provisional target
        self._curve = Curve()
        self._lineage = Lineage()
        self._proved = True  # turned off for good by what no theorem covers (late targets, targets outside the box)
        self._why = ""
        self.samples = 0
        self.steps = 0
        self._distortion = 0.0
        self._grain = 2.0 * EPS * max(abs(self.lb), abs(self.ub)) * self.frame.inverse  # rounding of a sent score: the coarsest so far
        for f, family in enumerate(self._families):
            if not family.given:
                self._components[f, ()] = self._made(family, ())

    # -- what a controller adds ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def _answer(self, z: FloatArray, touches: Sequence[Touch]) -> FloatArray:
        """The scores to send for ``z`` (n,), clipped already; called under the lock, before the batch is counted."""

    @abstractmethod
    def _update_bounds(self, touches: Sequence[Touch], before: Sequence[tuple[float, float | None]]) -> None:
        """Set ``component.bound`` after the batch was counted. before: (total count, gap) of each touched component, faded."""

    def _options(self) -> dict[str, Any]:
        """The constructor's own numbers, for the state."""
        return {}

    def _extra(self) -> dict[str, Any]:
        """State beyond counts and sums."""
        return {}

    def _read_extra(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        """The attributes that a state's ``extra`` asks for, checked."""
        if extra:
            raise InputError(f"state: extra is {extra!r}, expected nothing")
        return {}

    # -- stepping -----------------------------------------------------------------------------------------------------------------

    def step(self, scores: Any, *, sensitive_features: Any, targets: Any = None, key: Any = None) -> StreamStep:
        """Send one number or a batch. A number gives a number; arrays and tensors come back in their type, shape, dtype and device.

        targets: needed where the notion conditions on them; for residual notions they may come later through ``observe``: then
        ``key`` (one a sample) names the samples. Raises InputError, and changes nothing then.
        """
        read = read_scores(scores)
        n = len(read.z)
        if n == 0:
            raise InputError("scores: the batch is empty")
        with self._lock:
            journal = Journal(self)
            try:
                features = read_features(sensitive_features, self.columns, n)
                known = None if targets is None else self._read_targets(targets, n)
                return self._step(read, features, known, self._keys(key, known, n), journal)
            except BaseException:
                journal.take_back()
                raise

    def _read_targets(self, targets: Any, n: int) -> FloatArray:
        """(n,). InputError for other labels than 0 and 1 where the notion is about these."""
        read = read_targets(targets, n, self.pos_label)
        if self._labels and not ((read == 0.0) | (read == 1.0)).all():
            raise refusal(f"{self._labels} is about the labels 0 and 1", read)
        return read

    def _keys(self, key: Any, targets: FloatArray | None, n: int) -> list[str | int] | None:
        conditioned = [f.label for f in self.plan.families if f.condition is not None]
        if targets is None and conditioned:
            raise InputError(f"targets: {conditioned[0]} needs each sample's target with the step (it decides whether the sample counts)")
        if targets is not None or not self.plan.needs_targets:
            return None if key is None else read_keys(key, n)
        if key is None:
            raise InputError("targets: this notion needs them; pass targets=, or key= and give them later with observe(keys, targets)")
        keys = read_keys(key, n)
        again = [k for k in keys if k in self._pending]
        if again:
            raise InputError(f"key: {again[0]!r} is already waiting for its target")
        return keys

    def _step(
        self,
        read: Scores,
        features: dict[str, list[Value]],
        targets: FloatArray | None,
        keys: list[str | int] | None,
        journal: Journal,
    ) -> StreamStep:
        z = self.frame.enter(np.clip(read.z, self.lb, self.ub))
        # a target not yet known counts as the score that came
        provisional = z if targets is None or not self._residual else self.frame.enter_targets(targets)
        touches, spots = self._place(features, targets, provisional, len(z), journal)
        if isinstance(self.window, Sliding):
            self._leave(len(z), journal)
        before = [(t.component.total, t.component.gap()) for t in touches]
        y = self._answer(z, touches)
        answer, sent = read.hand_back(self.frame.leave(y), self.lb, self.ub)
        self._grain = max(self._grain, 2.0 * read.grain(self.lb, self.ub) * self.frame.inverse)
        self._count(touches, spots, self.frame.enter(sent), provisional)
        if targets is None and self.plan.needs_targets and keys is not None:
            for i, k in enumerate(keys):
                journal.waits.append(k)
                self._pending[k] = (spots[i], float(provisional[i]))
            self._unprove("targets came late")
        if targets is not None and self._residual and not ((targets >= self.lb) & (targets <= self.ub)).all():
            self._outside()
        self.samples += len(z)
        self.steps += 1
        self._distortion += _square((sent - read.z) * self.frame.inverse)
        self._update_bounds(touches, before)
        self._record()
        return self._outcome(answer, [t.component for t in touches])

    def _place(
        self, features: dict[str, list[Value]], targets: FloatArray | None, provisional: FloatArray, n: int, journal: Journal
    ) -> tuple[list[Touch], list[list[Spot]]]:
        """Where each sample counts, with the past faded. New groups and strata are made here; the journal takes them back."""
        spots: list[list[Spot]] = [[] for _ in range(n)] if self._per_sample else []
        touches: list[Touch] = []
        for f, family in enumerate(self._families):
            groups: list[Any] = _tuples(features, family.attribute)
            chosen = range(n) if family.condition is None or targets is None else np.flatnonzero(targets == family.condition).tolist()
            by_stratum: dict[tuple[Value, ...], tuple[Component, list[int], list[int]]] = {}
            strata = [_as_tuple(s) for s in _tuples(features, family.given)] if family.given else None
            for i in chosen:
                stratum = strata[i] if strata is not None else ()
                place = by_stratum.get(stratum)
                if place is None:
                    place = by_stratum[stratum] = (self._component(f, family, stratum, journal), [], [])
                place[1].append(i)
                place[2].append(place[0].code(groups[i]))
            for stratum, (component, where, codes) in by_stratum.items():
                component.fade(len(where))
                if spots:
                    for i, g in zip(where, codes, strict=True):
                        spots[i].append(((f, stratum), g, component.clock))
                index = np.array(where, dtype=np.int64)
                touches.append(Touch(component, index, np.array(codes, dtype=np.int64), provisional[index] if family.residual else None))
        return touches, spots

    @property
    def _per_sample(self) -> bool:
        """Whether each sample's place must be remembered one by one."""
        return isinstance(self.window, Sliding) or self._residual

    def _component(self, f: int, family: Family, stratum: tuple[Value, ...], journal: Journal) -> Component:
        """The component, made where it is new, with the journal's note."""
        component = self._components.get((f, stratum))
        if component is None:
            journal.new.append((f, stratum))
            component = self._components[f, stratum] = self._made(family, stratum)
        else:
            journal.save(component)
        return component

    def _made(self, family: Family, stratum: tuple[Value, ...]) -> Component:
        return Component(family, stratum, exact=self._exact, fading=self._fading)

    def _count(self, touches: Sequence[Touch], spots: list[list[Spot]], sent: FloatArray, targets: FloatArray) -> None:
        for touch in touches:
            values = sent[touch.where] if touch.targets is None else sent[touch.where] - touch.targets
            component = touch.component
            if len(values) == 1:
                component.add(int(touch.codes[0]), float(values[0]))
                continue
            for g in np.unique(touch.codes).tolist():
                part = values[touch.codes == g]
                component.correct(g, part.tolist(), len(part))
        if isinstance(self.window, Sliding):
            for i, places in enumerate(spots):
                counted = [float(sent[i] - targets[i]) if self._family(k).residual else float(sent[i]) for k, _, _ in places]
                self._recent.append((places, counted))

    def _leave(self, arriving: int, journal: Journal) -> None:
        """Take the oldest samples out, so that with the arriving ones the window is full."""
        assert isinstance(self.window, Sliding)
        if arriving > self.window.n:
            raise InputError(f"scores: a step of {arriving} samples is larger than the window of {self.window.n}")
        while len(self._recent) + arriving > self.window.n:
            places, values = self._recent[0]
            journal.left.append(self._recent[0])
            self._recent.popleft()
            for (where, g, _), value in zip(places, values, strict=True):
                journal.save(self._components[where])
                self._components[where].correct(g, (-value,), -1)

    def _family(self, key: ComponentKey) -> Family:
        return self.plan.families[key[0]]

    def _unprove(self, why: str) -> None:
        self._proved = False
        self._why = self._why or why

    def _outside(self) -> None:
        """A target lies outside the bounds, so that no score meets it."""
        self._unprove("a target lay outside the bounds")

    # -- late targets -------------------------------------------------------------------------------------------------------------

    def observe(self, keys: Any, targets: Any) -> None:
        """Targets of samples that were sent without: a key or several, with as many targets.

        Until then such a sample counts with its own incoming score as target, so that the controller feels its own correction at once
        and only the noise comes late. Raises InputError for a key that does not wait (nothing is changed then).
        """
        names = read_keys(keys)
        values = self._read_targets(targets, len(names))
        with self._lock:
            journal = Journal(self)
            try:
                self._observe(names, values, journal)
            except BaseException:
                journal.take_back()
                raise

    def _observe(self, names: list[str | int], values: FloatArray, journal: Journal) -> None:
        unknown = [k for k in names if k not in self._pending]
        if unknown:
            raise InputError(f"keys: {unknown[0]!r} does not wait for a target")
        if isinstance(self.window, Sliding):
            raise UnsupportedError(
                "late targets with a Sliding window: a sample may have left before its target comes; use AllTime or Forget"
            )
        for k, target in zip(names, self.frame.enter_targets(values).tolist(), strict=True):
            places, provisional = self._pending[k]
            for where, g, when in places:
                if self._family(where).residual:
                    journal.save(self._components[where])
                    self._components[where].amend(g, provisional, target, when)
        deque(map(self._pending.pop, names), maxlen=0)  # last, and in C: all of them or none

    # -- reporting ----------------------------------------------------------------------------------------------------------------

    def _record(self) -> None:
        if self._curve.due:
            gap, _, bound = self._worst()
            self._curve.add(self.samples, gap, bound, self._mean_change())

    def _mean_change(self) -> float:
        """Mean squared change of the scores; infinite where that is no float."""
        return self._distortion / max(1, self.samples) * self.frame.unit * self.frame.unit

    def _worst(self) -> tuple[float | None, float, float | None]:
        """(gap, limit, bound) of the component whose gap is furthest above its limit; the bound is None where any is."""
        worst: tuple[float, float, int, float | None] | None = None
        proved = True
        for (f, _), component in self._components.items():
            gap = component.gap()
            if gap is None:
                continue
            proved = proved and component.bound is not None
            if worst is None or gap - component.limit > worst[0]:
                worst = (gap - component.limit, gap, f, component.bound)
        if worst is None:
            return None, max(f.limit_of_gap for f in self.plan.families), None
        stated = self.frame.stated
        return stated(worst[1]), self.plan.families[worst[2]].limit_of_gap, stated(worst[3]) if proved else None

    def _outcome(self, answer: Any, components: Sequence[Component]) -> StreamStep:
        stated = self.frame.stated
        gaps = {c.label: stated(c.gap()) for c in components}
        return StreamStep(
            answer,
            {c.label: c.price * self.frame.unit for c in components},
            gaps,
            {c.label: dict(zip(c.names, c.counts, strict=True)) for c in components},
            tuple(label for label, gap in gaps.items() if gap is None),
        )

    def report(self) -> StreamReport:
        """Gaps, bounds, distortion, prices and curves so far; ``bound`` is None where none is proved, and ``why_no_bound`` says why."""
        with self._lock:
            gap, limit, bound = self._worst()
            components, stated = list(self._components.values()), self.frame.stated
            return StreamReport(
                controller=self.name,
                samples=self.samples,
                steps=self.steps,
                pooled_gap=gap,
                limit=limit,
                bound=bound,
                why_no_bound="" if bound is not None else self._reason(),
                pooled_gaps={c.label: stated(c.gap()) for c in components},
                limits={c.label: self.plan.families[f].limit_of_gap for (f, _), c in self._components.items()},
                bounds={c.label: stated(c.bound) for c in components},
                distortion=self._mean_change(),
                prices={c.label: c.price * self.frame.unit for c in components},
                counts={c.label: dict(zip(c.names, c.counts, strict=True)) for c in components},
                pending=len(self._pending),
                window=window_to_dict(self.window),
                curve=tuple(self._curve.points),
                extra=self._extra(),
            )

    def _reason(self) -> str:
        if self._why:
            return self._why
        if all(c.gap() is None for c in self._components.values()):
            return "fewer than two groups have come"
        if isinstance(self.window, Sliding):
            return "none is proved for a sliding window"
        return "none is proved for this notion and controller"


def _tuples(features: dict[str, list[Value]], names: tuple[str, ...]) -> list[Any]:
    """The values of one name, or the tuples of several."""
    return features[names[0]] if len(names) == 1 else list(zip(*(features[n] for n in names), strict=True))


def _square(difference: FloatArray) -> float:
    """The sum of squares; infinite where that is no float."""
    if len(difference) == 1:
        change = float(difference[0])
        return change * change
    with np.errstate(over="ignore"):
        return float(difference @ difference)


def _as_tuple(value: Any) -> tuple[Value, ...]:
    return value if isinstance(value, tuple) else (value,)
