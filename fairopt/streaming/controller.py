"""What all controllers share: steps (``Stepping``), durable state, merging of workers."""

from __future__ import annotations

import copy
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.streaming.exact import ZERO, add_many
from fairopt.streaming.journal import Journal
from fairopt.streaming.ledger import Component, ComponentKey, Entry, Spot
from fairopt.streaming.lineage import BY_CONTENT, Lineage, Snapshot, since
from fairopt.streaming.report import Curve
from fairopt.streaming.residuals import residual
from fairopt.streaming.state import MOST, field, fill, group_value, kinds_of, listed, number, text, understood, upgraded, whole
from fairopt.streaming.stepping import Stepping
from fairopt.streaming.vocabulary import Value
from fairopt.streaming.windows import AllTime, Sliding, window_to_dict

FORMAT = 1


@dataclass(frozen=True, eq=False)
class _Read:
    """A state that was read: attributes of the controller, and the type of each column's values."""

    attributes: dict[str, Any]
    kinds: dict[str, type | None]


class Controller(Stepping):
    """Base class of ``PooledParity``, ``Cumulative`` and ``PrimalDual``.

    notion       a fairopt notion of group means (pairs), or streaming families (``fairopt.streaming.parity(...)``: no torch needed)
    bounds       (lb, ub), finite; scores are clipped into them first
    groups       declared values by attribute (or, for one attribute, the values); unknown ones are then an error
    window       ``AllTime()``, ``Sliding(n)`` or ``Forget(half_life)``
    missing_group  "error", or "own": samples whose group is missing are a group of their own
    pos_label    the target that counts as 1, every other one as 0; None: targets are numbers, labels 0 and 1

    Examples:
        >>> from fairopt.streaming import Controller, Cumulative, PooledParity, PrimalDual
        >>> [issubclass(kind, Controller) for kind in (PooledParity, Cumulative, PrimalDual)]
        [True, True, True]
    """

    # -- state --------------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on with the same bits, as plain numbers, strings and lists (fit for JSON and ``weights_only``)."""
        with self._lock:
            return {
                **self._setting(),
                **self._moving(),
                "curve": self._curve.to_dict(),
                "recent": [[plain_spots(spots), values] for spots, values in self._recent],
                "pending": [[k, plain_spots(spots), target] for k, (spots, target) in self._pending.items()],
            }

    def _setting(self) -> dict[str, Any]:
        """What never changes in a run."""
        return {
            "format": FORMAT,
            "controller": self.name,
            "families": self.plan.to_dict(),
            "bounds": [self.lb, self.ub],
            "window": window_to_dict(self.window),
            "options": self._options(),
            **({} if self.pos_label is None else {"pos_label": self.pos_label}),
        }

    def _moving(self) -> dict[str, Any]:
        """What a step changes, without the curve's points, the window's samples and the pending targets: a few numbers a group."""
        return {
            "components": [{"family": f, "stratum": list(s), **c.to_dict()} for (f, s), c in self._components.items()],
            "samples": self.samples,
            "steps": self.steps,
            "distortion": self._distortion,
            "proved": self._proved,
            "why": self._why,
            "curve": {"stride": self._curve.stride, "seen": self._curve.seen},
            "grain": self._grain,
            "extra": self._extra(),
            "lineage": self._lineage.to_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``. The notion, bounds, window and options must be those of the state; InputError names what differs.

        Everything is read and checked first; whatever goes wrong, nothing has changed.
        """
        with self._lock:
            new = self._read_state(state)
            before = dict(self.__dict__)
            kinds = [(column, column.kind) for column in self.columns.values()]
            try:
                for column, _ in kinds:
                    column.kind = new.kinds[column.name] or column.declared
                self.__dict__.update(new.attributes)
                self._loaded()
            except BaseException:
                for column, kind in kinds:
                    column.kind = kind
                self.__dict__.update(before)
                raise

    def _read_state(self, state: Mapping[str, Any]) -> _Read:
        """The attributes that ``state`` asks for, checked."""
        if whole(field(state, "format"), "format") != FORMAT:
            raise InputError(f"state: format {state['format']} is newer than this fairopt reads ({FORMAT}); upgrade fairopt")
        if "grain" not in state and "lineage" not in state:
            state = understood(lambda: upgraded(state, self.frame, self._grain), "the layout before lineages")
        for what, value in self._setting().items():
            if what != "format" and _plain(field(state, what)) != _plain(value):
                raise InputError(f"state: {what} is {state.get(what)!r}, this controller has {value!r}")
        if state.get("pos_label") != self.pos_label:
            raise InputError(f"state: pos_label is {state.get('pos_label')!r}, this controller has {self.pos_label!r}")
        components = self._read_components(listed(field(state, "components"), "components"))
        kinds = kinds_of(self.columns, self._values_of(components))
        samples, steps = whole(field(state, "samples"), "samples"), whole(field(state, "steps"), "steps")
        if steps > samples or (steps == 0) != (samples == 0):
            raise InputError(f"state: {samples} samples in {steps} steps")
        proved = field(state, "proved")
        if not isinstance(proved, bool):
            raise InputError(f"state: proved is {proved!r}, expected a boolean")
        plain = field(state, "lineage")
        attributes = {
            "_components": components,
            "_pending": self._read_pending(field(state, "pending"), components),
            "_recent": self._read_recent(field(state, "recent"), components),
            "samples": samples,
            "steps": steps,
            "_distortion": number(field(state, "distortion"), "distortion", least=0.0, infinite=True),
            "_proved": proved,
            "_why": text(field(state, "why"), "why"),
            "_grain": number(field(state, "grain"), "grain", least=0.0),
            "_curve": understood(lambda: Curve.of(field(state, "curve")), "curve"),
            **understood(lambda: self._read_extra(field(state, "extra")), "extra"),
        }
        read = _Read(attributes, kinds)
        if plain is not None:
            attributes["_lineage"] = understood(lambda: Lineage.of(plain), "lineage")
        elif samples:
            digest = _snapshot(components, samples, steps, attributes["_distortion"], {}).digest
            attributes["_lineage"] = Lineage(BY_CONTENT + digest)
        else:
            attributes["_lineage"] = Lineage()
        return read

    def _read_components(self, rows: list[Any]) -> dict[ComponentKey, Component]:
        out: dict[ComponentKey, Component] = {}
        for k, row in enumerate(rows):
            where = f"components[{k}]"
            f = whole(field(row, "family", where), f"{where}.family")
            if f >= len(self._families):
                raise InputError(f"state: {where}.family is {f}, the notion has {len(self._families)} families")
            family = self._families[f]
            stratum = listed(field(row, "stratum", where), f"{where}.stratum", len(family.given))
            key = f, tuple(group_value(v, f"{where}.stratum") for v in stratum)
            if key in out:
                raise InputError(f"state: {where} is the second one of family {f} and stratum {stratum!r}")
            out[key] = self._made(family, key[1])
            fill(out[key], row, where)
        for f, family in enumerate(self._families):
            if not family.given and (f, ()) not in out:
                raise InputError(f"state: components has none of family {f}, {family.label}")
        return out

    def _read_pending(self, rows: Any, components: Mapping[ComponentKey, Component]) -> dict[str | int, tuple[list[Spot], float]]:
        out: dict[str | int, tuple[list[Spot], float]] = {}
        for row in listed(rows, "pending"):
            key, places, target = listed(row, "pending", 3)
            if isinstance(key, bool) or not isinstance(key, (str, int)) or key in out:
                raise InputError(f"state: pending has the key {key!r}, expected text or whole numbers, each once")
            out[key] = _spots(places, components, "pending"), number(target, "pending")
        return out

    def _read_recent(self, rows: Any, components: Mapping[ComponentKey, Component]) -> deque[Entry]:
        out: deque[Entry] = deque()
        for row in listed(rows, "recent"):
            places, values = listed(row, "recent", 2)
            spots = _spots(places, components, "recent")
            out.append((spots, [number(v, "recent") for v in listed(values, "recent", len(spots))]))
        if isinstance(self.window, Sliding):
            counts = Counter(spot[:2] for spots, _ in out for spot in spots)
            held = {(key, g): n for key, c in components.items() for g, n in enumerate(c.counts) if n > 0.0}
            if len(out) > self.window.n or counts != held:
                raise InputError("state: recent holds other samples than components counts")
        elif out:
            raise InputError("state: recent holds samples, and this controller has no sliding window")
        return out

    def _values_of(self, components: Mapping[ComponentKey, Component]) -> list[tuple[str, Value]]:
        """(name, value) of each group and stratum."""
        out: list[tuple[str, Value]] = []
        for (_, stratum), component in components.items():
            family = component.family
            out += zip(family.given, stratum, strict=True)
            for group in component.index:
                out += zip(family.attribute, group if isinstance(group, tuple) else (group,), strict=True)
        return out

    def _loaded(self) -> None:
        """Called when the components were replaced."""

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
        if not (self.steps or self._lineage.known):
            self._lineage = Lineage()  # a copy of what has sent nothing is a controller of its own

    # -- merging ------------------------------------------------------------------------------------------------------------------

    def fork(self) -> Self:
        """A worker: it starts from all that this controller has sent, and gives back only its own part when merged.

        Targets that are awaited stay with this controller: the worker does not wait for them.
        """
        with self._lock:
            twin = copy.deepcopy(self)
            self._lineage = replace(self._lineage, known=True)
        parts = {k: c.parts() for k, c in twin._components.items()}
        twin._lineage = Lineage(known=True, base=tuple(sorted(self._lineage.holds)), origin=Snapshot(parts))
        twin.samples, twin.steps, twin._distortion, twin._curve = 0, 0, 0.0, Curve()
        twin._pending = {}
        return twin

    def merge(self, other: Controller) -> None:
        """Add what ``other`` has sent (for a fork: since it was forked). Sums are exact, so any order of merging gives the same bits.

        Each sample counts once, by the identity of who sent it: merging a worker again (or a copy of it, from a pickle or a state) changes
        nothing; a worker that went on after a merge gives the new part. What cannot be told apart is refused with InputError, and nothing
        has changed then: a copy of a worker that went another way, two controllers that hold samples of the same third one.

        Between merges each worker holds the tolerance on what it has seen; d_g samples of group g that it has not seen move the true gap
        by at most ``R sum_g d_g / N_g`` (claim P5). With many unseen samples pass ``staleness=`` to PooledParity: the gap stays
        bounded either way, the *cost* does not. Only all-time sums add: UnsupportedError for windows and for ``PrimalDual``.
        """
        if other is self:
            raise InputError("merge: a controller cannot be merged into itself")
        if type(other) is not type(self) or other.plan != self.plan or (other.lb, other.ub) != (self.lb, self.ub):
            raise InputError("merge: the other controller has another class, notion or bounds")
        if other.pos_label != self.pos_label:
            raise InputError(f"merge: the other controller has pos_label={other.pos_label!r}, this one {self.pos_label!r}")
        if not isinstance(self.window, AllTime) or not isinstance(other.window, AllTime):
            raise UnsupportedError("merge: only all-time sums add; a window's order in time is lost")
        first, second = sorted((self, other), key=id)
        with first._lock, second._lock:
            if other._pending:
                raise UnsupportedError("merge: the other controller has samples that wait for targets; observe them first")
            now = _snapshot(other._components, other.samples, other.steps, other._distortion, other._lineage.merged)
            own = _snapshot(self._components, self.samples, self.steps, self._distortion, self._lineage.merged)
            start = since(self._lineage, other._lineage, now, own)
            if start is None:
                return
            lineages = self._lineage.took(other._lineage, now), other._lineage.gave(now)
            journal, before = Journal(self), (self._lineage, other._lineage)
            try:
                self._merge_columns(other)
                self._merge_sums(now, start, journal)
                self._merge_forecasts(other)
                self.samples += now.samples - start.samples
                self.steps += now.steps - start.steps
                self._distortion += now.distortion - start.distortion if now.distortion > start.distortion else 0.0
                self._grain = max(self._grain, other._grain)
                if not other._proved:
                    self._unprove(other._why)
                self._rebase()
                self._lineage, other._lineage = lineages
            except BaseException:
                self._lineage, other._lineage = before
                journal.take_back()
                raise

    def _merge_columns(self, other: Controller) -> None:
        for name, column in other.columns.items():
            self.columns[name].agree(column.kind, "merge: the other controller")
            self.columns[name].kind = self.columns[name].kind or column.kind
        for name, value in other._values_of(other._components):
            self.columns[name].admits(value, "merge: the other controller")

    def _merge_sums(self, now: Snapshot, start: Snapshot, journal: Journal) -> None:
        for key, part in now.parts.items():
            mine = self._component(key[0], self._families[key[0]], key[1], journal)
            for group, (count, total) in part.items():
                k = mine.code(group)
                less, taken = start.parts.get(key, {}).get(group, (0.0, ZERO))
                mine.counts[k] += count - less
                if not 0.0 <= mine.counts[k] <= MOST:
                    raise InputError(f"merge: group {mine.names[k]} would count {mine.counts[k]:g} samples, expected fewer than 2^53")
                mine.sums[k] = add_many(mine.sums[k], (*total, *(-s for s in taken)))
                mine.heads[k] = mine.sums[k][0]
            mine.total = sum(mine.counts)
        for component in self._components.values():
            journal.save(component)  # the proofs start again in all of them

    def _merge_forecasts(self, other: Controller) -> None:
        for key, theirs in other._components.items():
            mine = self._components[key]
            if mine.forecast is not None and theirs.forecast is not None:
                mine.forecast.grow(len(mine.counts))
                seen = len(theirs.forecast.counts)
                mine.forecast.take(theirs.forecast, {k: mine.index[group] for group, k in theirs.index.items() if k < seen})

    def _rebase(self) -> None:
        """After a jump of the sums (a merge), the proofs start again from the gap as it stands."""
        potential: dict[object, float] = {}
        for (_, stratum), c in self._components.items():
            psi = _potential(c)
            where = (c.family.population, stratum)
            potential[where] = potential.get(where, 0.0) + psi
        for (_, stratum), c in self._components.items():
            c.potential = potential[c.family.population, stratum]
            c.carry = c.gap() or 0.0
            c.bound = c.gap() if self._proved and c.bound is not None else None


def _potential(c: Component) -> float:
    """Theorem D's potential of one component: sum_g N_g r_g^2."""
    present = c.present
    means, metric = c.means(), [c.counts[g] for g in present]
    if c.family.kind == "range":
        from fairopt.streaming.residuals import range_residuals

        r = range_residuals(means, metric, c.family.upper) if len(means) > 1 else [0.0] * len(means)
    else:
        r = [residual(m, c.family.lower, c.family.upper) for m in means]
    return sum(w * x * x for w, x in zip(metric, r, strict=True))


def plain_spots(spots: list[Spot]) -> list[Any]:
    return [[f, list(stratum), g, when] for (f, stratum), g, when in spots]


def _spots(plain: Any, components: Mapping[ComponentKey, Component], where: str) -> list[Spot]:
    out: list[Spot] = []
    for row in listed(plain, where):
        f, stratum, g, when = listed(row, where, 4)
        key = whole(f, where), tuple(group_value(v, where) for v in listed(stratum, where))
        if key not in components or whole(g, where) >= len(components[key].counts) or whole(when, where) > components[key].clock:
            raise InputError(f"state: {where} names a place that components has not: {row!r}")
        out.append((key, g, when))
    return out


def _snapshot(
    components: Mapping[ComponentKey, Component], samples: int, steps: int, distortion: float, merged: dict[str, str]
) -> Snapshot:
    return Snapshot({k: c.parts() for k, c in components.items()}, samples, steps, distortion, dict(merged))


def _plain(value: Any) -> Any:
    """Tuples as lists, so that a state that went through JSON compares equal."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
