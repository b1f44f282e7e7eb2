"""What is worked out of an object once and kept with it: plans, structures, sums of the inputs."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Workspace:
    """Values by key. A copy or a pickle of the object starts with an empty one. Threads may work out an entry at the same time: all get
    equal values, and one of them stays.

    A key is a word, or a tuple that begins with one.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def keep(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of ``key``, made by ``make`` where it is not there yet. None is a value."""
        kept = self._kept
        if key not in kept:
            kept[key] = make()
        return kept[key]  # type: ignore[no-any-return]

    def get(self, key: Hashable) -> Any:
        """The value of ``key``, None where there is none."""
        return self._kept.get(key)

    def put(self, key: Hashable, value: T) -> T:
        """Keep ``value`` in the place of what was there."""
        self._kept[key] = value
        return value

    def take(self, other: Workspace, *words: str) -> None:
        """Take over what ``other`` has under keys of these words, for an object that differs from its own in nothing they depend on."""
        for key, value in list(other._kept.items()):
            if (key[0] if isinstance(key, tuple) else key) in words:
                self._kept[key] = value

    def __reduce__(self) -> tuple[type[Workspace], tuple[()]]:
        return Workspace, ()
