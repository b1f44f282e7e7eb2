"""The errors that fairopt raises: one tree, so that ``except FairoptError`` catches all of them."""

from __future__ import annotations


class FairoptError(Exception):
    """Base class of every error that fairopt raises on purpose."""


class InputError(FairoptError, ValueError):
    """An argument is wrong. The message names the argument, what came and what was expected."""


class InfeasibleError(FairoptError):
    """No scores inside the bounds meet all hard rows.

    ``rows`` holds the labels of a minimal conflicting set: infeasible together, feasible without any one of them.
    """

    def __init__(self, message: str, rows: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.rows = rows

    def __reduce__(self) -> tuple[type[InfeasibleError], tuple[str, tuple[str, ...]]]:
        return type(self), (str(self), self.rows)


class UnsupportedError(FairoptError):
    """The chosen backend or mode cannot do what was asked; the message says which can."""


class BackendError(FairoptError, RuntimeError):
    """A solver failed, is broken, or returned something that its contract forbids."""


class MissingExtraError(FairoptError, ImportError):
    """An optional dependency is absent; the message holds the line that installs it."""


class ConformanceError(FairoptError, AssertionError):
    """A backend or a notion breaks a property of the conformance kit, named by ``property``."""

    def __init__(self, property: str, message: str) -> None:
        super().__init__(f"{property}: {message}")
        self.property = property
        self._message = message

    def __reduce__(self) -> tuple[type[ConformanceError], tuple[str, str]]:
        return type(self), (self.property, self._message)


class StateError(FairoptError, RuntimeError):
    """The database of a durable stream cannot be used now: disk full, damaged under way, closed, or opened by another process.

    The call that raises it counted nothing, unless the message says that this is not known. The message names the file and what to do.
    """


class FairoptWarning(UserWarning):
    """Every warning of fairopt's own."""
