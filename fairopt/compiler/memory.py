"""The last compositions that a layer compiled: the same groups in the same places compile to the same problem.

Compiling and a problem's first solution cost several times what a further solution costs. Full batches, validation sets and batches
of ``fairopt.training.StratifiedBatches`` come again and again with the same groups, and only the scores differ.

A composition is recognised by content: the bytes of every column, never an object that might have been changed since. What cannot be
recognised that way (lists, object columns, tensors that require grad, notions with tensor tolerances or written by a user, whose code may
read anything) is compiled each time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.columns import plain_array
from fairopt.basics.containers import is_wrapped
from fairopt.contract.problem import ProjectionProblem
from fairopt.notions.algebra import Notion


class Remembered(Protocol):
    """What is remembered: it has the problem that was compiled."""

    @property
    def problem(self) -> ProjectionProblem: ...


T = TypeVar("T", bound=Remembered)
ENTRIES = 64
ROWS = 1 << 20  # of all entries together; a row costs some 50 bytes


class CompiledMemory(Generic[T]):
    """At most ``entries`` compilations of at most ``rows`` samples in all; the least recently used goes first. Threads may share it."""

    def __init__(self, entries: int = ENTRIES, rows: int = ROWS) -> None:
        self._entries, self._rows = entries, rows
        self._held: OrderedDict[Hashable, T] = OrderedDict()
        self._total = 0
        self._known: object = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Hashable | None, known: object) -> T | None:
        """What was compiled under ``key`` with the vocabularies ``known``; others than the last ones empty the memory."""
        if key is None:
            return None
        with self._lock:
            if known is not self._known:
                self._held.clear()
                self._known, self._total = known, 0
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
            return found

    def put(self, key: Hashable | None, known: object, compiled: T) -> None:
        """Remember ``compiled``, unless the vocabularies changed meanwhile or it is too large."""
        n = compiled.problem.n
        if key is None or n > self._rows:
            return
        with self._lock:
            if known is not self._known or key in self._held:
                return
            self._held[key] = compiled
            self._total += n
            while len(self._held) > self._entries or self._total > self._rows:
                _, oldest = self._held.popitem(last=False)
                self._total -= oldest.problem.n


def composition(
    notion: Notion, n: int, sensitive_features: Mapping[str, Any], targets: Any, weights: Any, bounds: Any, settings: Hashable
) -> Hashable | None:
    """A key that is the same for two batches only if they compile to the same problem; None where that cannot be told."""
    words = notion.signature
    if words is None or not isinstance(sensitive_features, Mapping):
        return None
    facts = [sensitive_features.get(name) for name in notion.attributes]
    if any(fact is None for fact in facts):
        return None
    targets = targets if notion.needs_targets else None  # otherwise nothing reads them
    contents = [_content(fact) for fact in (*facts, targets, weights, *(bounds or ()))]
    return None if None in contents else (n, words, settings, bounds is None, *contents)


def _content(fact: Any) -> Hashable | None:
    """The bytes of one column with dtype and shape; a number as it is; None where neither is there."""
    if fact is None or isinstance(fact, (bool, int, float)):
        return type(fact), fact
    array = plain_array(fact)
    if array is not None:
        return array.dtype.str, array.shape, array.tobytes()
    if isinstance(fact, Tensor):
        if (
            fact.layout is not torch.strided
            or fact.device.type == "meta"
            or fact.requires_grad
            or is_wrapped(fact)
            or fact.dtype.is_complex
            or (fact.is_floating_point() and fact.element_size() < 4)
        ):
            return None
        fact = fact.cpu().numpy()
    if type(fact) is np.ndarray and fact.dtype.kind in "biufU":  # a masked array hides values from its bytes
        return fact.dtype.str, fact.shape, fact.tobytes()
    return None
