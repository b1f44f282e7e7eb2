"""Taking a step back: what it has changed so far, so that a step that fails, for whatever reason, leaves the controller as it was.

Only what is touched is copied: a step costs the same however many strata there are.
"""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from typing import Any, ClassVar, Protocol

from fairopt.streaming.ledger import Component, ComponentKey, Entry, Spot
from fairopt.streaming.report import Curve
from fairopt.streaming.vocabulary import Column


class Steps(Protocol):
    """What a step changes in a controller, beside the components."""

    _scalars: ClassVar[tuple[str, ...]]
    _scalars_of: attrgetter[tuple[Any, ...]]
    columns: dict[str, Column]
    _curve: Curve
    _components: dict[ComponentKey, Component]
    _pending: dict[str | int, tuple[list[Spot], float]]
    _recent: deque[Entry]


class Journal:
    """Noted before it moves: a component (``save``), a ``new`` one, a key that ``waits``, what ``left`` a window."""

    __slots__ = ("columns", "controller", "curve", "held", "left", "new", "saved", "scalars", "waits")

    def __init__(self, controller: Steps) -> None:
        self.controller = controller
        self.scalars = controller._scalars_of(controller)
        self.columns = [(column, column.kind) for column in controller.columns.values()]
        self.curve = controller._curve.save()
        self.saved: dict[int, tuple[Component, tuple[Any, ...]]] = {}
        self.new: list[ComponentKey] = []
        self.left: list[Entry] = []
        self.held = len(controller._recent)
        self.waits: list[str | int] = []

    def save(self, component: Component) -> None:
        if id(component) not in self.saved:
            self.saved[id(component)] = component, component.save()

    def take_back(self) -> None:
        controller = self.controller
        for component, saved in self.saved.values():
            component.restore(saved)
        for key in self.new:
            controller._components.pop(key, None)
        for name in self.waits:
            controller._pending.pop(name, None)
        recent = controller._recent
        if self.left and recent and recent[0] is self.left[-1]:
            self.left.pop()  # noted, and not yet taken
        while len(recent) > self.held - len(self.left):
            recent.pop()
        recent.extendleft(reversed(self.left))
        controller._curve.restore(self.curve)
        for column, kind in self.columns:
            column.kind = kind
        for attribute, value in zip(controller._scalars, self.scalars, strict=True):
            setattr(controller, attribute, value)
