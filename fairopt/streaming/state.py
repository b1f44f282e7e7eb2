"""Reading a controller's state: everything is checked before anything is changed, and an error names what differs.

A state is plain data (JSON, ``torch.load(weights_only=True)``); it may come from a damaged file, from another run, or from a stranger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, isfinite
from typing import Any, TypeVar

from fairopt.basics.errors import InputError
from fairopt.streaming.forecast import Forecast
from fairopt.streaming.frame import Frame
from fairopt.streaming.ledger import Component, Group
from fairopt.streaming.vocabulary import Column, Value

Made = TypeVar("Made")
MOST = 2**53 - 1  # beyond it a count of floats stands still


def field(state: object, name: str, where: str = "state") -> Any:
    """``state[name]``, which must be there."""
    if not isinstance(state, Mapping):
        raise InputError(f"{where}: got {type(state).__name__}, expected a mapping")
    if name not in state:
        raise InputError(f"{where}: {name} is missing")
    return state[name]


def number(value: object, where: str, *, least: float = -inf, infinite: bool = False) -> float:
    """A float >= least; NaN never, infinity where ``infinite``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"state: {where} is {value!r}, expected a number")
    try:
        out = float(value)
    except OverflowError as error:
        raise InputError(f"state: {where} is {value!r}, which is no float") from error
    if not (out >= least and (isfinite(out) or infinite)):
        raise InputError(f"state: {where} is {value!r}, expected a number" + (f" >= {least:g}" if least > -inf else ""))
    return out


def whole(value: object, where: str, *, least: int = 0) -> int:
    """An int from ``least``, below 2^53."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
        raise InputError(f"state: {where} is {value!r}, expected a whole number from {least}, below 2^53")
    return value


def listed(value: object, where: str, length: int | None = None) -> list[Any]:
    if not isinstance(value, (list, tuple)) or (length is not None and len(value) != length):
        raise InputError(f"state: {where} is {value!r}, expected a list" + ("" if length is None else f" of {length}"))
    return list(value)


def count(value: object, where: str) -> float:
    """A whole number of samples, as a float."""
    out = number(value, where, least=0.0)
    if out > MOST or not out.is_integer():
        raise InputError(f"state: {where} is {value!r}, expected a whole number from 0, below 2^53")
    return out


def text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"state: {where} is {value!r}, expected text")
    return value


def understood(make: Callable[[], Made], where: str) -> Made:
    """``make()``, whose failures on foreign data are InputErrors."""
    try:
        return make()
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"state: {where} cannot be read ({type(error).__name__}: {error})") from error


def upgraded(state: Mapping[str, Any], frame: Frame, grain: float) -> dict[str, Any]:
    """A state of before lineages and exact fading in today's layout. Foreign data raise KeyError and the like."""
    if frame.unit != 1.0 or frame.offset != 0.0:
        raise InputError("state: it was written by an older fairopt in other units; go on with that one, or begin a new run")
    rows = []
    for row in state["components"]:
        means = [s[0] / n if n > 0.0 else 0.0 for s, n in zip(row["sums"], row["counts"], strict=True)]
        rows.append({**row, "weights": row["counts"], "means": means, "times": [0] * len(means), "clock": 0})
    return {
        **state,
        "components": rows,
        "pending": [[key, [[*spot, 0] for spot in spots], target] for key, spots, target in state["pending"]],
        "recent": [[[[*spot, 0] for spot in spots], values] for spots, values in state["recent"]],
        "grain": grain,
        "lineage": None,
    }


def fill(component: Component, row: Mapping[str, Any], where: str) -> None:
    """Bring a new, empty component to what ``row`` (``Component.to_dict``) says."""
    groups = [_group(g, component, where) for g in listed(field(row, "groups", f"state: {where}"), f"{where}.groups")]
    if len({(type(g), g) for g in groups}) != len(groups) or len(set(groups)) != len(groups):
        raise InputError(f"state: {where}.groups names a group twice: {groups!r}")
    for group in groups:
        component.code(group)
    (_fill_exact if component.exact else _fill_fading)(component, row, where, len(groups))
    bound = field(row, "bound", where)
    component.bound = None if bound is None else number(bound, f"{where}.bound")
    component.potential = number(field(row, "potential", where), f"{where}.potential", least=0.0)
    component.carry = number(field(row, "carry", where), f"{where}.carry")
    component.price = number(field(row, "price", where), f"{where}.price", least=0.0)
    if component.forecast is not None:
        _fill_forecast(component.forecast, field(row, "forecast", where), f"{where}.forecast", len(groups))


def _fill_forecast(forecast: Forecast, row: object, where: str, groups: int) -> None:
    columns = {name: listed(field(row, name, where), f"{where}.{name}") for name in ("old_counts", "old_sums", "counts", "sums", "shifts")}
    size = len(columns["counts"])
    if size > groups or any(len(column) != size for column in columns.values()):
        raise InputError(f"state: {where} is about {size} groups, and there are {groups}")
    forecast.grow(size)
    for g in range(size):
        forecast.old_counts[g] = tuple(number(x, f"{where}.old_counts[{g}]") for x in listed(columns["old_counts"][g], where))
        forecast.old_sums[g] = tuple(number(x, f"{where}.old_sums[{g}]") for x in listed(columns["old_sums"][g], where))
        if not forecast.old_counts[g] or not forecast.old_sums[g] or forecast.old_counts[g][0] < 0.0:
            raise InputError(f"state: {where}.old_counts[{g}] is {columns['old_counts'][g]!r}, expected a sum >= 0")
        forecast.counts[g] = number(columns["counts"][g], f"{where}.counts[{g}]", least=0.0)
        forecast.sums[g] = number(columns["sums"][g], f"{where}.sums[{g}]")
        forecast.shifts[g] = number(columns["shifts"][g], f"{where}.shifts[{g}]")
    forecast.due = number(field(row, "due", where), f"{where}.due", least=0.0)


def _fill_exact(component: Component, row: Mapping[str, Any], where: str, size: int) -> None:
    counts = listed(field(row, "counts", where), f"{where}.counts", size)
    sums = listed(field(row, "sums", where), f"{where}.sums", size)
    for g in range(size):
        component.counts[g] = count(counts[g], f"{where}.counts[{g}]")
        component.sums[g] = tuple(number(s, f"{where}.sums[{g}]") for s in listed(sums[g], f"{where}.sums[{g}]"))
        if not component.sums[g] or (component.counts[g] == 0.0 and any(component.sums[g])):
            raise InputError(f"state: {where}.sums[{g}] is {sums[g]!r} for {component.counts[g]:g} samples")
        component.heads[g] = component.sums[g][0]
    component.total = sum(component.counts)


def _fill_fading(component: Component, row: Mapping[str, Any], where: str, size: int) -> None:
    columns = {n: listed(field(row, n, where), f"{where}.{n}", size) for n in ("weights", "means", "times")}
    component.clock = whole(field(row, "clock", where), f"{where}.clock")
    for g in range(size):
        component.weights[g] = number(columns["weights"][g], f"{where}.weights[{g}]", least=0.0)
        component.means_[g] = number(columns["means"][g], f"{where}.means[{g}]")
        component.times[g] = whole(columns["times"][g], f"{where}.times[{g}]")
        if component.times[g] > component.clock:
            raise InputError(f"state: {where}.times[{g}] is {component.times[g]}, later than the clock, {component.clock}")
    component.refresh()


def _group(plain: object, component: Component, where: str) -> Group:
    several = len(component.family.attribute) > 1
    if not several:
        return group_value(plain, f"{where}.groups")
    values = listed(plain, f"{where}.groups", len(component.family.attribute))
    return tuple(group_value(v, f"{where}.groups") for v in values)


def group_value(value: object, where: str) -> Value:
    if value is None or type(value) in (int, str, bool):
        return value  # type: ignore[return-value]
    raise InputError(f"state: {where} holds {value!r} ({type(value).__name__}), expected a whole number, text, a boolean or None")


def kinds_of(columns: Mapping[str, Column], groups: list[tuple[str, Value]]) -> dict[str, type | None]:
    """The type of each column's values, from (name, value) of a state; InputError where they mix, differ from this run's or are unknown."""
    kinds: dict[str, type | None] = dict.fromkeys(columns)
    for name, value in groups:
        columns[name].admits(value, "state")
        if value is None:
            continue
        if kinds[name] not in (None, type(value)):
            raise InputError(f"state: the values of {name!r} mix {kinds[name].__name__} and {type(value).__name__}")  # type: ignore[union-attr]
        kinds[name] = type(value)
    for name, column in columns.items():
        column.agree(kinds[name], "state")
    return kinds
