"""Group values of a stream, as Python values: int, str or bool, one type an attribute. Codes are given in order of arrival.

A stream cannot sort what it has not seen; the order of arrival is kept in the state instead. Torch-free, fast for one value.
Source: DESIGN 4, "Groups".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from fairopt.errors import InputError

Value = int | str | bool | None
Missing = Literal["error", "own"]
_PLAIN = (int, str, bool)


class Column:
    """The vocabulary of one sensitive feature. ``kind`` is the type of its values once one is known, ``declared`` that of declared ones."""

    __slots__ = ("allowed", "declared", "kind", "missing", "name")

    def __init__(self, name: str, declared: Iterable[Any] | None, missing: Missing) -> None:
        self.name = name
        self.missing = missing
        self.kind: type | None = None
        self.allowed: frozenset[Value] | None = None
        if declared is not None:
            values = list(declared)
            self.allowed = frozenset(self.read_list(values))
            if not values:
                raise InputError(f"groups: attribute {name!r} is declared with no values")
        self.declared = self.kind

    def read_one(self, raw: Any) -> Value:
        """One value, checked."""
        if type(raw) is not self.kind:
            raw = self._plain(raw)
        if self.allowed is not None and raw not in self.allowed:
            raise InputError(f"sensitive_features[{self.name!r}]: unknown group {raw!r}; declared: {self._declared()}")
        return raw  # type: ignore[no-any-return]

    def read_list(self, raw: Sequence[Any]) -> list[Value]:
        """All values of a batch, checked; the common case (all of the known type) is one pass in C."""
        kinds = set(map(type, raw))
        values: list[Value] = list(raw)
        if kinds != {self.kind}:
            values = [self._plain(v) for v in raw]
        if self.allowed is not None:
            unknown = set(values) - self.allowed
            if unknown:
                raise InputError(f"sensitive_features[{self.name!r}]: unknown group {next(iter(unknown))!r}; declared: {self._declared()}")
        return values

    def _plain(self, raw: Any) -> Value:
        value = _unwrapped(raw)
        if _missing(value):
            if self.missing == "own":
                return None
            raise InputError(
                f"sensitive_features[{self.name!r}]: a value is missing; pass missing_group='own' to make that a group of its own"
            )
        if isinstance(value, float):
            if not value.is_integer():
                raise InputError(f"sensitive_features[{self.name!r}]: expected whole numbers, strings or booleans, got {value!r}")
            value = int(value)
        if isinstance(value, str):
            value = str(value)
        if type(value) not in _PLAIN:
            raise InputError(
                f"sensitive_features[{self.name!r}]: expected whole numbers, strings or booleans, got {value!r} ({type(value).__name__})"
            )
        if self.kind is None:
            self.kind = type(value)
        elif type(value) is not self.kind:
            raise InputError(
                f"sensitive_features[{self.name!r}]: mixes {self.kind.__name__} and {type(value).__name__} values; expected one type"
            )
        return value  # type: ignore[no-any-return]

    def agree(self, kind: type | None, what: str) -> None:
        """InputError where ``what`` (another controller, a state) holds values of another type: 1, "1" and True are three groups."""
        if None not in (kind, self.kind) and kind is not self.kind:
            raise InputError(f"{what}: the values of {self.name!r} are {_type_name(kind)}, here they are {_type_name(self.kind)}")

    def admits(self, value: Value, what: str) -> None:
        """InputError where a value that ``what`` holds is not declared here, or missing where that is an error."""
        if value is None and self.missing != "own":
            raise InputError(f"{what}: has samples whose {self.name!r} is missing; here missing_group is 'error'")
        if self.allowed is not None and value not in self.allowed:
            raise InputError(f"{what}: has the group {value!r} of {self.name!r}, here are declared: {self._declared()}")

    def _declared(self) -> str:
        return ", ".join(sorted(repr(v) for v in self.allowed or ()))


def _type_name(kind: type | None) -> str:
    return "unknown" if kind is None else kind.__name__


def _unwrapped(raw: Any) -> Any:
    """The Python value in a numpy or torch scalar; an array of several values stays as it is and is refused as no plain value."""
    if isinstance(raw, _PLAIN) or not hasattr(raw, "item"):
        return raw
    try:
        return raw.item()
    except (TypeError, ValueError, RuntimeError):
        return raw


def _missing(value: object) -> bool:
    """None, NaN, NaT and pandas' NA (whose comparison has no truth value)."""
    if value is None or type(value).__name__ == "NAType":
        return True
    return (isinstance(value, float) and value != value) or type(value).__name__ == "NaTType"


def columns_of(names: Sequence[str], groups: object, missing: Missing) -> dict[str, Column]:
    """One ``Column`` a name. ``groups``: None, a mapping from names to values, or, for one attribute, its values."""
    if missing not in ("error", "own"):
        raise InputError(f"missing_group: expected 'error' or 'own', got {missing!r}")
    if groups is None:
        declared: Mapping[str, Any] = {}
    elif isinstance(groups, Mapping):
        declared = groups
    elif len(names) == 1 and not isinstance(groups, str) and isinstance(groups, Iterable):
        declared = {names[0]: groups}
    else:
        raise InputError(f"groups: expected a mapping from attribute to its values, got {groups!r}")
    unknown = set(declared) - set(names)
    if unknown:
        raise InputError(f"groups: attribute {sorted(unknown)[0]!r} is not used by the notion, which reads {', '.join(names)}")
    return {name: Column(name, declared.get(name), missing) for name in names}
