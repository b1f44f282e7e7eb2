"""The errors that fairopt raises: one tree, so that ``except FairoptError`` catches all of them."""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol


class FairoptError(Exception):
    """Base class of every error that fairopt raises on purpose."""


class InputError(FairoptError, ValueError):
    """An argument is wrong. The message names the argument, what came and what was expected."""


class Proof(Protocol):
    """A Farkas combination (``fairopt.feasibility.FarkasProof``): for scores y inside the bounds ``sum_k multiplier_k * row_k(y)`` is at
    least ``least``, and inside the limits at most ``most``, which is smaller. ``labels`` name the rows; ``check()`` computes both sides."""

    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def multipliers(self) -> tuple[Fraction, ...]: ...
    @property
    def least(self) -> Fraction: ...
    @property
    def most(self) -> Fraction: ...
    def check(self) -> bool: ...


class InfeasibleError(FairoptError):
    """No scores inside the bounds meet all hard rows.

    ``rows`` holds the labels of a minimal conflicting set of constraints: infeasible together, and without any one of them no contradiction
    was found. ``proof`` shows it in exact fractions; None where one step of a stream has no answer, which is decided by itself.
    """

    def __init__(self, message: str, rows: tuple[str, ...] = (), proof: Proof | None = None) -> None:
        super().__init__(message)
        self.rows = rows
        self.proof = proof

    def __reduce__(self) -> tuple[type[InfeasibleError], tuple[str, tuple[str, ...], Proof | None]]:
        return type(self), (str(self), self.rows, self.proof)


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


class RankError(FairoptError, RuntimeError):
    """The ranks of a process group cannot go on together: one is gone, did not answer in the group's time-out, or is out of step."""


class FairoptWarning(UserWarning):
    """Every warning of fairopt's own."""
