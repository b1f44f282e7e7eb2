"""What a solver must provide: one class with a name, declared capabilities and ``solve``. Everything else is the front door's.

A backend knows nothing of fairness: it sees a ``ProjectionProblem`` and returns scores, prices if it has them, and a status.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError, UnsupportedError
from fairopt.contract.problem import Distance, Kind, Limits, ProjectionProblem, SoftnessKind

GradientKind = Literal["implicit", "native"]
ALL_SOFTNESS: frozenset[SoftnessKind] = frozenset({"hard", "priced", "budget", "quadratic"})


class Status(Enum):
    """How a projection ended. Each value is the advice to the user. Scores are finite and inside their box whatever the status, but those
    that on_infeasible="passthrough" returns as they came.

    Examples:
        >>> found = fo.project([0.2, 0.6], fo.DemographicParity("sex", tolerance=0), sensitive_features=["f", "m"], return_solution=True)
        >>> found.status is fo.Status.CERTIFIED, fo.Status.ITERATION_LIMIT.advice
        (True, "the backend stopped at its iteration limit; raise max_iter or try backend='dual_newton'")
    """

    CERTIFIED = (
        "every hard row and bound holds exactly, in rational arithmetic, for the numbers returned, and they are the nearest such scores "
        "within the stated bound (certificate.kkt_residual <= certificate.kkt_bound)"
    )
    WITHIN_ROUNDING = "solved; rows hold up to rounding (certificate.max_violation: how far); no nearer scores were found in this dtype"
    CLOSEST = (
        "no scores inside the bounds meet all hard rows; these break them least (on_infeasible='closest'): see certificate.violation, "
        "against the limits as written"
    )
    INACCURATE = "the backend's answer is off: see certificate.kkt_residual; try backend='dual_newton' or a smaller solver_tol"
    ITERATION_LIMIT = "the backend stopped at its iteration limit; raise max_iter or try backend='dual_newton'"
    INFEASIBLE = "no scores inside the bounds meet all hard rows; widen the tolerance or the bounds, or pass on_infeasible='closest'"
    FAILED = "the backend failed: see the message; try another backend"

    @property
    def advice(self) -> str:
        """What to do about it, in a sentence."""
        return self.value


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do and how well. The conformance kit holds it to every word.

    softness          kinds it solves itself
    ranges            takes range constraints as they are (else the front door hands it pairs)
    ratio_ranges      also those with a ratio below 1 (else pairs for these)
    bounds, weights   takes a box / distance weights
    dense             takes rows with weights of their own a sample
    devices, dtypes   torch device types and dtype names; anything else is converted before and after
    prices            returns prices
    gradients         "implicit" (always, through the front door) and perhaps "native"
    accuracy_y        declared max |y - y*| for scores of order 1, as returned through the front door (polished)
    accuracy_gradient declared relative error of the implicit gradient
    accuracy_native_y, accuracy_native_gradient  the same for gradient="native", without polish
    exact             solves to machine precision without polish
    distances         the distances it solves for (``fairopt.contract.problem.Distance``)
    outputs           "one" score a sample, and "simplex": class probabilities that sum to 1 (``ProjectionProblem.classes``), with each
                      of the distances (``ProjectionProblem.nearest_in``)

    Beside another distance than "squared", and on the simplex, prices are needed: the front door goes on from them.

    Examples:
        >>> can = fo.backend("closed_form").capabilities
        >>> can.exact, can.dense, can.gradients
        (True, True, ('implicit',))
    """

    softness: frozenset[SoftnessKind] = frozenset({"hard"})
    ranges: bool = False
    ratio_ranges: bool = False
    bounds: bool = True
    weights: bool = True
    dense: bool = True
    devices: tuple[str, ...] = ("cpu",)
    dtypes: tuple[str, ...] = ("float64",)
    prices: bool = True
    gradients: tuple[GradientKind, ...] = ("implicit",)
    accuracy_y: float = 1e-8
    accuracy_gradient: float = 1e-8
    accuracy_native_y: float | None = None
    accuracy_native_gradient: float | None = None
    exact: bool = False
    distances: frozenset[Distance] = frozenset({"squared"})
    outputs: frozenset[Kind] = frozenset({"one"})


@dataclass(frozen=True, eq=False)
class RawSolution:
    """What a backend returns: ``y`` (n,), a torch tensor; ``prices`` (m,), a float64 numpy array, or None.

    The sign of the prices p: of ``minimise 1/2 sum w (y - z)^2``, y = clip(z - A^T p / w, lb, ub). p_k > 0 where an upper limit of row k
    binds, p_k < 0 where a lower one does, 0 where none does. In a range the positive prices belong to the largest rows (the top), the
    negative ones to the smallest.

    ``status``: None when the solver says that it solved the problem, else INFEASIBLE, ITERATION_LIMIT, INACCURATE or FAILED.
    ``y`` may be None where ``prices`` determine it, as above or by the map of another distance (``fairopt.contract.problem.Distance``).
    ``iterations`` as the solver counts them, ``message`` in its own words; both are shown, nothing rests on them.

    Examples:
        >>> problem = fo.compile(fo.DemographicParity("sex", tolerance=0), sensitive_features=["f", "m"]).problem
        >>> raw = fo.backend("dual_newton").solve(torch.tensor([0.2, 0.6], dtype=torch.float64), problem)
        >>> raw.status is None, raw.prices
        (True, array([-0.2]))
    """

    y: Tensor | None
    prices: Array | None = None
    status: Status | None = None
    iterations: int = 0
    message: str = ""


def _looked_at(solve: Callable[..., RawSolution]) -> Callable[..., RawSolution]:
    """``solve`` that raises BackendError where what it returns is no RawSolution of a tensor and an array."""

    @functools.wraps(solve)
    def looked_at(self: Backend, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        raw = solve(self, scores, problem)
        if not isinstance(raw, RawSolution):
            wrong, expected = f"solve returned {_kind(raw)}", "a RawSolution: return fo.RawSolution(y, prices)"
        elif raw.y is not None and not isinstance(raw.y, Tensor):
            wrong, expected = f"RawSolution.y: got {_kind(raw.y)}", "a torch tensor (n,) or None: torch.from_numpy(y)"
        elif raw.prices is not None and not isinstance(raw.prices, np.ndarray):
            wrong, expected = f"RawSolution.prices: got {_kind(raw.prices)}", "a float64 numpy array (m,) or None: prices.numpy()"
        elif raw.status is not None and not isinstance(raw.status, Status):
            wrong, expected = f"RawSolution.status: got {raw.status!r}", "None where it is solved, or a fairopt.Status"
        else:
            return raw
        raise BackendError(f"backend {self.name!r}: {wrong}, expected {expected}")

    return looked_at


def _kind(value: object) -> str:
    kind = type(value)
    return "None" if value is None else kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


class Backend(ABC):
    """A solver. Instances are immutable values: all options are constructor arguments, no state is kept between calls but caches.

    ``requires`` names the modules that must be there, ``install`` the line that brings them. Both are read without importing the solver.
    ``members`` names the solvers of a family, each asked for as "family:member".

    Examples:
        >>> class Borrowed(fo.Backend):
        ...     name = "borrowed"
        ...     capabilities = fo.Capabilities(exact=True)
        ...     def solve(self, scores, problem):
        ...         return fo.backend("dual_newton").solve(scores, problem)
        >>> fo.project([0.2, 0.6], fo.DemographicParity("sex", tolerance=0), sensitive_features=["f", "m"], backend=Borrowed())
        [0.4, 0.4]
    """

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    requires: ClassVar[tuple[str, ...]] = ()
    install: ClassVar[str] = ""
    members: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        # whoever calls it, the front door, a race or the kit, what a solve returns is looked at where it is returned
        super().__init_subclass__(**options)
        if "solve" in cls.__dict__:
            cls.solve = _looked_at(cls.solve)  # type: ignore[method-assign]

    @abstractmethod
    def solve(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution:
        """Solve for ``scores`` (n,), detached, contiguous, finite, of a declared dtype and device. Must not modify its inputs."""

    def solve_native(self, scores: Tensor, problem: ProjectionProblem, limits: Limits) -> Tensor:
        """Solve with the solver's own differentiation: (n,) float64, connected to ``scores`` and, where the solver can, ``limits``."""
        raise UnsupportedError(f"backend {self.name!r} brings no gradient of its own; use gradient='implicit'")

    def solve_batch(self, scores: Tensor, problem: ProjectionProblem) -> list[RawSolution]:
        """Solve for ``scores`` (B, n), one problem's rows and limits for all. A loop unless the solver has a batch."""
        return [self.solve(row, problem) for row in scores]
