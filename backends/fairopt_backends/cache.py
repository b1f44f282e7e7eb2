"""A bounded, locked cache: what the adapters keep between calls (compiled layers) and nothing else."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """The last ``size`` values by key. ``made`` counts how many were built.

    A copy or a pickle of a cache is an empty cache of the same size: compiled solvers hold locks and C pointers.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.made = 0
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of ``key``, built by ``make`` when it is not there. Two threads never build the same value."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            value = make()
            self.made += 1
            self._values[key] = value
            while len(self._values) > self.size:
                self._values.popitem(last=False)
            return value

    def __len__(self) -> int:
        return len(self._values)

    def __reduce__(self) -> tuple[type[Cache[Value]], tuple[int]]:
        return type(self), (self.size,)
