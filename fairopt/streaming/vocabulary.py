"""Group values of a stream, as Python values: int, str or bool, one type an attribute. Codes are given in order of arrival.

A stream cannot sort what it has not seen; the order of arrival is kept in the state instead. Torch-free, fast for one value.
Source: DESIGN 4, "Groups".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from fairopt.basics.columns import Value, plain_value
from fairopt.basics.errors import InputError

Missing = Literal["error", "own"]


class Column:
    """The vocabulary of one sensitive feature. ``kind`` is the type of its values once one is known, ``declared`` that of declared ones."""

    __slots__ = ("allowed", "declared", "kind", "missing", "name")

    def __init__(self, name: str, declared: Iterable[Any] | None, missing: Missing) -> None:
        self.name = name
        self.missing = missing
        self.kind: type | None = None
        self.allowed: frozenset[Value] | None = None
        if declared is not None:
            values = self.read_list([plain_value(v, f"groups[{name!r}]") for v in declared])
            self.allowed = frozenset(values) | ({None} if missing == "own" else set())
            if not values:
                raise InputError(f"groups: attribute {name!r} is declared with no values")
        self.declared = self.kind

    def read_list(self, values: list[Value]) -> list[Value]:
        """All values of a batch (``plain_values``), checked; the common case (all of the known type) is one pass in C."""
        kinds = set(map(type, values))
        if kinds != {self.kind}:
            self._learn(kinds, values)
        if self.allowed is not None:
            unknown = [v for v in dict.fromkeys(values) if v not in self.allowed]
            if unknown:
                words = ", ".join(map(repr, unknown[:5]))
                raise InputError(f"{self.where} has the unknown value {words}; the declared groups are [{self._declared()}]")
        return values

    @property
    def where(self) -> str:
        return f"sensitive_features[{self.name!r}]"

    def _learn(self, kinds: set[type], values: list[Value]) -> None:
        """Take the type of the values as the column's; InputError for missing ones where these are an error, and for several types."""
        if type(None) in kinds and self.missing != "own":
            position = values.index(None)
            raise InputError(
                f"{self.where} has a missing value at position {position}; fill it in, or pass missing_group='own' to make it a group"
            )
        found = kinds - {type(None)}
        together = found if self.kind is None else found | {self.kind}
        if len(together) > 1:
            earlier = f"; those that came before are {self.kind.__name__}" if self.kind is not None and len(found) < 2 else ""
            raise InputError(
                f"{self.where} mixes {' and '.join(sorted(k.__name__ for k in together))} values{earlier}; a vocabulary has one type"
            )
        if found and self.kind is None:
            self.kind = next(iter(found))

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


__all__ = ["Column", "Missing", "Value", "columns_of"]
