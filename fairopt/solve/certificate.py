"""What a projection hands back besides scores: a status, prices, and numbers that a reader can check."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import InputError
from fairopt.basics.sparse import SparseRows
from fairopt.contract.backend import Status
from fairopt.contract.problem import ProjectionProblem

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Certificate:
    """Numbers about one projection, recomputed from the scores that were returned.

    violation        (L + R,) signed, one per constraint of ``labels``: > 0 outside the limits; soft constraints may be outside
    rounding_bound   how far a float64 row value can be from the exact one; a violation <= -rounding_bound is proved by floats,
                     the rest were decided in exact arithmetic
    bounds_violation how far scores lie outside the box, of the very scores that are returned (0 when certified)
    kkt_residual     largest residual of the optimality conditions before rounding: how far a row's value is from where its price says,
                     over the row's own sum of |coefficients|, so in units of the scores
    kkt_bound        what kkt_residual may be at most to count as nearest; certified scores are within it
    limits           as the notion states them, also where the scores are the CLOSEST to a problem that no scores can meet
    dropped          constraints that asked nothing, for an event of theirs has no sample, each with the reason; shown by number
    distance         sqrt(sum w (y - z)^2), or sum w d(y, z) where d is a divergence (``problem.distance``), computed when
                     it is read: InputError if scores were changed in place by then
    moved_by_repair  largest move of a score that made the rows hold after rounding
    status           how it ended, with advice;  backend  the solver's name;  dtype  of the scores that were returned

    Examples:
        >>> notion = fo.DemographicParity("sex", tolerance=0.1)
        >>> found = fo.project([0.2, 0.8, 0.4, 0.9], notion, sensitive_features=["f", "f", "m", "m"], return_solution=True)
        >>> found.certificate.status.name, found.certificate.max_violation <= 0, found.certificate.labels
        ('CERTIFIED', True, ('DemographicParity(sex): f - m',))
    """

    violation: Array
    bounds_violation: float
    kkt_residual: float
    rounding_bound: float
    moved_by_repair: float
    status: Status
    backend: str
    dtype: str
    problem: ProjectionProblem = field(repr=False)
    _scores: tuple[Tensor, Tensor] | None = field(repr=False)  # (z, y), each (n,), as long as nobody changes them
    kkt_bound: float = 0.0

    def __post_init__(self) -> None:
        if self._scores is None:
            return
        z, y = self._scores
        if z.is_inference() or y.is_inference():  # these count no changes
            self.__dict__["_scores"] = z, y = z.clone(), y.clone()
        self.__dict__["_versions"] = tuple(0 if t.is_inference() else t._version for t in (z, y))

    def __repr__(self) -> str:
        shown = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr]
        shown += [f"dropped=<{len(self.dropped)} of the constraints>"] if self.dropped else []
        return f"{type(self).__name__}({', '.join(shown)})"

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy: the numbers, without the scores."""
        distance = self._distance()
        kept = {name: value for name, value in self.__dict__.items() if name not in ("_scores", "_versions")}
        unmoved = {} if distance is None or self.problem.distance == "squared" else {"unmoved": self.unmoved}
        return {**kept, "_scores": None, **({} if distance is None else {"distance": distance}), **unmoved}

    @property
    def labels(self) -> tuple[str, ...]:
        """One for each entry of ``violation``."""
        return self.problem.constraint_labels

    @cached_property
    def max_violation(self) -> float:
        """Largest violation of a hard constraint; <= 0 when certified, > 0 when closest. 0.0 where there is none."""
        hard = np.array([s.kind == "hard" for s in self.problem.softness], dtype=bool)
        return float(self.violation[hard].max(initial=-np.inf)) if hard.any() else 0.0

    @cached_property
    def distance(self) -> float:
        distance = self._distance()
        if distance is None:
            raise InputError("scores: changed in place since the projection, expected certificate.distance to be read before that")
        return distance

    def _distance(self) -> float | None:
        """The distance, or None where the scores are not what they were."""
        if "distance" in self.__dict__:
            return float(self.__dict__["distance"])
        if self._scores is None:
            return None
        if any(not t.is_inference() and t._version != v for t, v in zip(self._scores, self.__dict__["_versions"], strict=True)):
            return None
        z, y = (t.detach().to("cpu", torch.float64) for t in self._scores)
        if self.problem.distance != "squared":
            return divergence(y, z, self.problem)
        roots = 1.0 if self.problem.weights is None else self.problem.weights.sqrt()
        distance = _norm((y - z) * roots)
        if distance < float("inf"):
            return distance
        return 4.0 * _norm((0.25 * y - 0.25 * z) * roots)  # a move may be beyond float64 where its weighted square is not

    @cached_property
    def unmoved(self) -> int | None:
        """How many scores no price can move: probabilities of 0 and 1 and values of 0, which a divergence keeps where they are. 0 with the
        squared distance; None where the scores are gone."""
        if self.problem.distance == "squared":
            return 0
        if self._scores is None:
            return None
        z = self._scores[0]
        return int(((z <= 0.0) | (z >= 1.0) if self.problem.distance == "kl" else z <= 0.0).sum())

    @property
    def group_counts(self) -> dict[str, int]:
        """Samples by group."""
        return dict(self.problem.group_counts)

    @property
    def dropped(self) -> tuple[tuple[str, str], ...]:
        """Constraints that asked nothing here, each with the reason."""
        return self.problem.dropped

    @property
    def vacuous(self) -> bool:
        """Whether nothing was asked of the scores, every constraint being dropped (see ``dropped``): then nothing is certified either."""
        return self.problem.vacuous

    @property
    def used_targets(self) -> bool:
        """Whether labels entered the limits: then this is no held-out figure."""
        return self.problem.used_targets

    @property
    def limits(self) -> dict[str, tuple[float, float]]:
        """Lower and upper limit of each constraint as written; a range has lower limit 0."""
        p = self.problem.as_stated()
        pairs = [*zip(p.lower.tolist(), p.upper.tolist(), strict=True), *((0.0, w) for w in p.width.tolist())]
        return dict(zip(p.constraint_labels, pairs, strict=True))

    @cached_property
    def problem_hash(self) -> str:
        """sha256 of the rows, limits, bounds and weights."""
        return problem_hash(self.problem)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values, ready for JSON; ``format`` names the version of this layout."""
        return {
            "format": FORMAT,
            "status": self.status.name,
            "advice": self.status.advice,
            "violation": dict(zip(self.labels, self.violation.tolist(), strict=True)),
            "max_violation": self.max_violation,
            "vacuous": self.vacuous,
            "bounds_violation": self.bounds_violation,
            "kkt_residual": self.kkt_residual,
            "kkt_bound": self.kkt_bound,
            "rounding_bound": self.rounding_bound,
            "moved_by_repair": self.moved_by_repair,
            "distance": self.distance,
            "group_counts": self.group_counts,
            "dropped": [list(d) for d in self.dropped],
            "limits": {k: list(v) for k, v in self.limits.items()},
            "used_targets": self.used_targets,
            "backend": self.backend,
            "dtype": self.dtype,
            "problem_hash": self.problem_hash,
            **({} if self.problem.distance == "squared" else {"divergence": self.problem.distance, "unmoved": self.unmoved}),
        }


def divergence(y: Tensor, z: Tensor, problem: ProjectionProblem) -> float:
    """sum of w d(y, z) for scores y, z (n,) float64; infinite where a score of 0 or 1 has moved."""

    def part(a: Tensor, b: Tensor) -> Tensor:
        x: Tensor = torch.special.xlogy(a, a) - torch.special.xlogy(a, b)
        return x

    each = part(y, z) + part(1.0 - y, 1.0 - z) if problem.distance == "kl" else part(y, z) - y + z
    total = float((each if problem.weights is None else each * problem.weights).sum())
    return max(total, 0.0) if total == total else float("inf")


def problem_hash(p: ProjectionProblem) -> str:
    """sha256 of the rows, limits, bounds, weights and softness of a problem."""
    digest = hashlib.sha256()
    arrays: list[Any] = [p.rows.cell.numpy(), *_parts(p.rows.masks), *_parts(p.rows.scales), p.rows.offset]
    arrays += [p.lower, p.upper, p.width, p.range_starts]
    arrays += [t.numpy() if isinstance(t, Tensor) else np.array(t) for t in (p.lb, p.ub)]
    arrays += [t.numpy() for t in (p.weights, p.rows.dense) if t is not None]
    arrays += [p.stated.lower, p.stated.upper, p.stated.width] if p.stated is not None else []
    arrays += [p.rows.copies] if p.rows.copies is not None else []
    arrays += [p.ratio] if (p.ratio != 1.0).any() else []
    for a in arrays:
        digest.update(repr(a.shape).encode() + np.ascontiguousarray(a).tobytes())
    digest.update(b"" if p.distance == "squared" else p.distance.encode())
    digest.update(repr(p.softness).encode())
    return digest.hexdigest()


def _parts(matrix: Any) -> tuple[Any, ...]:
    """The arrays of a matrix."""
    return (matrix.starts, matrix.index, matrix.values) if isinstance(matrix, SparseRows) else (matrix,)


def _norm(v: Tensor) -> float:
    """The 2-norm of v (n,) float64, also where its square is beyond float64."""
    norm = float(v.square().sum().sqrt())
    if 1e-140 < norm < 1e140:
        return norm
    largest = float(v.abs().max())
    if not 0.0 < largest < float("inf"):
        return largest
    return largest * float((v / largest).square().sum().sqrt())


class Certified(Protocol):
    """An answer of the compiled road: its certificate is made when it is asked for."""

    def certificate(self) -> Certificate: ...


@dataclass(frozen=True, eq=False)
class Solution:
    """scores: as the input in shape, dtype, device, differentiable; prices (m,) float64, one per ``labels``; see Certificate.

    ``certificate`` says what was checked, ``status`` is its status. ``backend``, ``iterations`` and ``message`` are the solver's name,
    count and words.

    A copy or a pickle holds the numbers, not the graph: its scores are detached.

    Examples:
        >>> found = fo.project([0.2, 0.6], fo.DemographicParity("sex", tolerance=0), sensitive_features=["f", "m"], return_solution=True)
        >>> found.scores, found.prices, found.backend
        (tensor([0.4000, 0.4000], dtype=torch.float64), tensor([-0.2000], dtype=torch.float64), 'closed_form')
    """

    scores: Tensor
    prices: Tensor
    status: Status
    certificate: Certificate
    backend: str
    iterations: int
    message: str = ""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "scores": self.scores.detach()}

    @property
    def labels(self) -> tuple[str, ...]:
        """One for each price."""
        return self.certificate.problem.labels
