"""The errors that fairopt raises: one tree, so that ``except FairoptError`` catches all of them."""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol


class FairoptError(Exception):
    """Base class of every error that fairopt raises on purpose.

    Examples:
        >>> try:
        ...     fo.backend("no such solver")
        ... except fo.FairoptError as error:
        ...     print(type(error).__name__)
        InputError
    """


class InputError(FairoptError, ValueError):
    """An argument is wrong. The message names the argument, what came and what was expected.

    Examples:
        >>> try:
        ...     fo.DemographicParity("sex", tolerance=-1)
        ... except fo.InputError as error:
        ...     print(error)
        tolerance of DemographicParity must be a finite number >= 0, came -1.0
    """


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

    Examples:
        >>> try:
        ...     fo.project([0.2, 0.6], fo.GroupMeanBound("sex", lower=0.9), sensitive_features=["f", "m"], bounds=(0, 0.5))
        ... except fo.InfeasibleError as error:
        ...     print(error.rows)
        ('GroupMeanBound(sex): f',)
    """

    def __init__(self, message: str, rows: tuple[str, ...] = (), proof: Proof | None = None) -> None:
        super().__init__(message)
        self.rows = rows
        self.proof = proof

    def __reduce__(self) -> tuple[type[InfeasibleError], tuple[str, tuple[str, ...], Proof | None]]:
        return type(self), (str(self), self.rows, self.proof)


class UnsupportedError(FairoptError):
    """The chosen backend or mode cannot do what was asked; the message says which can.

    Examples:
        >>> features = {"sex": ["f", "m"], "race": ["a", "b"], "age": ["old", "young"]}
        >>> try:
        ...     fo.decide([0.2, 0.6], sensitive_features=features, generator=torch.Generator())
        ... except fo.UnsupportedError as error:
        ...     print(type(error).__name__)
        UnsupportedError
    """


class BackendError(FairoptError, RuntimeError):
    """A solver failed, is broken, or returned something that its contract forbids.

    Examples:
        >>> class Broken(fo.Backend):
        ...     name = "broken"
        ...     capabilities = fo.Capabilities()
        ...     def solve(self, scores, problem):
        ...         raise ZeroDivisionError("1 / 0")
        >>> try:
        ...     fo.project([0.2, 0.6], fo.DemographicParity("sex", tolerance=0), sensitive_features=["f", "m"], backend=Broken())
        ... except fo.BackendError as error:
        ...     print("ZeroDivisionError: 1 / 0" in str(error))
        True
    """


class MissingExtraError(FairoptError, ImportError):
    """An optional dependency is absent; the message holds the line that installs it.

    Examples:
        >>> class Elsewhere(fo.Backend):
        ...     name = "elsewhere"
        ...     requires = ("a_solver_of_yours",)
        ...     install = "pip install a-solver-of-yours"
        ...     capabilities = fo.Capabilities()
        ...     def solve(self, scores, problem):
        ...         return fo.RawSolution(None)
        >>> try:
        ...     fo.project([0.2, 0.6], fo.DemographicParity("sex", tolerance=0), sensitive_features=["f", "m"], backend=Elsewhere)
        ... except fo.MissingExtraError as error:
        ...     print(error)
        backend 'elsewhere': a_solver_of_yours not installed; install with:
            pip install a-solver-of-yours
    """


class ConformanceError(FairoptError, AssertionError):
    """A backend or a notion breaks a property of the conformance kit, named by ``property``.

    Examples:
        >>> from fairopt.testing import check_notion
        >>> @fo.notion
        ... def first_group_lower(batch, attribute):
        ...     first, second = batch.groups(attribute)[:2]
        ...     yield batch.mean(first) <= batch.mean(second)
        >>> try:
        ...     check_notion(first_group_lower("sex"), draws=30)
        ... except fo.ConformanceError as error:
        ...     print(error.property)
        same_rows
    """

    def __init__(self, property: str, message: str) -> None:
        super().__init__(f"{property}: {message}")
        self.property = property
        self._message = message

    def __reduce__(self) -> tuple[type[ConformanceError], tuple[str, str]]:
        return type(self), (self.property, self._message)


class StateError(FairoptError, RuntimeError):
    """The database of a durable stream cannot be used now: disk full, damaged under way, closed, or opened by another process.

    The call that raises it counted nothing, unless the message says that this is not known. The message names the file and what to do.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from fairopt.streaming import DurableStream, PooledParity
        >>> path = Path(tempfile.mkdtemp()) / "stream.db"
        >>> stream = DurableStream(PooledParity(fo.DemographicParity("sex", tolerance=0.1), bounds=(0, 1)), path)
        >>> stream.close()
        >>> try:
        ...     stream.step([0.2, 0.6], sensitive_features=["f", "m"])
        ... except fo.StateError as error:
        ...     print("was closed" in str(error))
        True
    """


class RankError(FairoptError, RuntimeError):
    """The ranks of a process group cannot go on together: one is gone, did not answer in the group's time-out, or is out of step.

    Examples:
        >>> issubclass(fo.RankError, fo.FairoptError)
        True
    """


class FairoptWarning(UserWarning):
    """Every warning of fairopt's own.

    Examples:
        >>> import warnings
        >>> notion = fo.GroupMeanBound("sex", lower=0.9)
        >>> with warnings.catch_warnings(record=True) as told:
        ...     warnings.simplefilter("always")
        ...     closest = fo.project([0.2, 0.6], notion, sensitive_features=["f", "m"], bounds=(0, 0.5), on_infeasible="closest")
        >>> closest, issubclass(told[0].category, fo.FairoptWarning)
        ([0.5, 0.5], True)
    """
