"""The values that a layer knows of each attribute: declared, or learned from batches, by several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from fairopt.basics.errors import InputError
from fairopt.notions.groups import Vocabulary, declare


class KnownGroups:
    """groups: declared values by attribute, None for none, or "from data": an attribute of which nothing is known learns its values from
    the first batch, whatever the mode. A copy or a pickle has the values known so far and learns for itself."""

    def __init__(self, groups: Mapping[str, Iterable[Any]] | Literal["from data"] | None) -> None:
        self.from_data = isinstance(groups, str) and groups == "from data"
        self.vocabularies: dict[str, Vocabulary] = {} if isinstance(groups, str) and groups == "from data" else declare(groups)
        self._lock = threading.Lock()

    def grow(self, training: bool, attributes: Iterable[str]) -> bool:
        """Whether unknown values of a batch are learned."""
        return training or (self.from_data and not any(name in self.vocabularies for name in attributes))

    def learn(self, seen: Mapping[str, Vocabulary]) -> None:
        """Take the vocabularies of a batch."""
        known = self.vocabularies
        new = {
            name: v
            for name, v in seen.items()
            if name not in known or not (known[name].declared or v.index.keys() <= known[name].index.keys())
        }
        if not new:
            return
        with self._lock:  # another thread may have learned others meanwhile
            merged = dict(self.vocabularies)
            for name, v in new.items():
                merged[name] = merged[name].joined(v.values, name=f"sensitive_features[{name!r}]") if name in merged else v
            self.vocabularies = merged

    def take(self, groups: Mapping[str, list[Any]], declared: Mapping[str, bool]) -> None:
        """The values of a saved state. InputError where they are others than declared ones."""
        saved = {name: Vocabulary.of(values, name=f"groups[{name!r}]", declared=bool(declared[name])) for name, values in groups.items()}
        mine = {name: v for name, v in self.vocabularies.items() if v.declared}
        for name, vocabulary in mine.items():
            if name in saved and saved[name].values != vocabulary.values:
                got, expected = saved[name].to_list(), vocabulary.to_list()
                raise InputError(f"state: got groups {got} of {name!r}, expected the declared ones {expected}")
        self.vocabularies = {**saved, **mine}

    def to_lists(self) -> dict[str, list[Any]]:
        return {name: vocabulary.to_list() for name, vocabulary in self.vocabularies.items()}

    def declared(self) -> dict[str, bool]:
        return {name: vocabulary.declared for name, vocabulary in self.vocabularies.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())
