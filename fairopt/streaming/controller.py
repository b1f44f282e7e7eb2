"""What all controllers share: steps (``Stepping``), durable state, merging of workers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Self

from fairopt.errors import InputError, UnsupportedError
from fairopt.streaming.component import Component
from fairopt.streaming.exact import add_many
from fairopt.streaming.report import Curve
from fairopt.streaming.residuals import residual
from fairopt.streaming.stepping import Spot, Stepping
from fairopt.streaming.windows import AllTime, window_to_dict

FORMAT = 1


class Controller(Stepping):
    """Base class of ``PooledParity``, ``Cumulative`` and ``PrimalDual``.

    notion       a fairopt notion of group means (pairs), or streaming families (``fairopt.streaming.parity(...)``: no torch needed)
    bounds       (lb, ub), finite; scores are clipped into them first
    groups       declared values by attribute (or, for one attribute, the values); unknown ones are then an error
    window       ``AllTime()``, ``Sliding(n)`` or ``Forget(half_life)``
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
            "extra": self._extra(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``. The notion, bounds, window and options must be those of the state; InputError names what differs."""
        if state.get("format", 0) > FORMAT:
            raise InputError(f"state: format {state['format']} is newer than this fairopt reads ({FORMAT}); upgrade fairopt")
        for what, value in self._setting().items():
            if what != "format" and _plain(state.get(what)) != _plain(value):
                raise InputError(f"state: {what} is {state.get(what)!r}, this controller has {value!r}")
        with self._lock:
            self._components = {}
            for row in state["components"]:
                f, stratum = int(row["family"]), tuple(row["stratum"])
                self._component(f, self.plan.families[f], stratum).load(row)
            self._pending = {k: (_spots(places), float(t)) for k, places, t in state["pending"]}
            self._recent = deque((_spots(places), list(values)) for places, values in state["recent"])
            self.samples, self.steps = int(state["samples"]), int(state["steps"])
            self._distortion = float(state["distortion"])
            self._proved, self._why = bool(state["proved"]), str(state["why"])
            self._origin = {}
            self._curve.load(state["curve"])
            self._load_extra(state["extra"])
            self._learn_kinds()

    def _learn_kinds(self) -> None:
        """The type of each column's values, from the groups that were loaded."""
        for (f, stratum), component in self._components.items():
            family = self.plan.families[f]
            for group in component.index:
                values = group if isinstance(group, tuple) else (group,)
                for name, v in zip((*family.attribute, *family.given), (*values, *stratum), strict=True):
                    if v is not None:
                        self.columns[name].read_one(v)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    # -- merging ------------------------------------------------------------------------------------------------------------------

    def fork(self) -> Self:
        """A worker: it starts from all that this controller has sent, and gives back only its own part when merged."""
        import copy

        with self._lock:
            twin = copy.deepcopy(self)
        twin._origin = {k: (list(c.counts), list(c.sums)) for k, c in twin._components.items()}
        twin.samples, twin.steps, twin._distortion, twin._curve = 0, 0, 0.0, Curve()
        return twin

    def merge(self, other: Controller) -> None:
        """Add what ``other`` has sent (for a fork: since it was forked). Sums are exact, so any order of merging gives the same bits.

        Between merges each worker holds the tolerance on what it has seen; d_g samples of group g that it has not seen move the true gap
        by at most ``R sum_g d_g / N_g`` (claim P5). With many unseen samples pass ``staleness=`` to PooledParity: the gap stays
        bounded either way, the *cost* does not. Only all-time sums add: UnsupportedError for windows and for ``PrimalDual``.
        """
        if other is self:
            raise InputError("merge: a controller cannot be merged into itself")
        if type(other) is not type(self) or other.plan != self.plan or (other.lb, other.ub) != (self.lb, self.ub):
            raise InputError("merge: the other controller has another class, notion or bounds")
        if not isinstance(self.window, AllTime) or not isinstance(other.window, AllTime):
            raise UnsupportedError("merge: only all-time sums add; a window's order in time is lost")
        first, second = sorted((self, other), key=id)
        with first._lock, second._lock:
            if other._pending:
                raise UnsupportedError("merge: the other controller has samples that wait for targets; observe them first")
            self._merge_sums(other)
            self.samples += other.samples
            self.steps += other.steps
            self._distortion += other._distortion
            if not other._proved:
                self._unprove(other._why)
            self._rebase()

    def _merge_sums(self, other: Controller) -> None:
        for key, theirs in other._components.items():
            mine = self._component(key[0], self.plan.families[key[0]], key[1])
            counts, sums = other._origin.get(key, ([], []))
            for group, g in theirs.index.items():
                k = mine.code(group)
                start, taken = (counts[g], sums[g]) if g < len(counts) else (0.0, (0.0,))
                mine.counts[k] += theirs.counts[g] - start
                mine.sums[k] = add_many(mine.sums[k], (*theirs.sums[g], *(-s for s in taken)))
                mine.heads[k] = mine.sums[k][0]
            mine.total = sum(mine.counts)
        for name, column in other.columns.items():
            if column.kind is not None and self.columns[name].kind is None:
                self.columns[name].kind = column.kind

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
    return [[f, list(stratum), g] for (f, stratum), g in spots]


def _spots(plain: list[Any]) -> list[Spot]:
    return [((int(f), tuple(stratum)), int(g)) for f, stratum, g in plain]


def _plain(value: Any) -> Any:
    """Tuples as lists, so that a state that went through JSON compares equal."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
