"""What the conformance kit tests: a backend with the drawn problems that lie within its declared capabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.errors import BackendError, ConformanceError, InfeasibleError, UnsupportedError
from fairopt.contract.backend import Backend, Capabilities, GradientKind, RawSolution, Status
from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt.contract.ranges_as_pairs import untaken
from fairopt.solve import Solution, solve
from fairopt.testing.draws import Draw, draw, infeasible, wild, with_scores
from fairopt.testing.oracle import OracleSolution, accepted_oracle, solve_reference
from fairopt.testing.sensitivity import is_generic

MAX_N = 24
_TRIES = 60
BOXES = frozenset({"box", "narrow_box", "wide_box", "one_sided_box", "sample_box", "far"})
WEIGHTS = frozenset({"weights", "wild_weights"})


def refused_mutations(capabilities: Capabilities) -> set[str]:
    """The mutations that lead outside the declared capabilities."""
    refused = {"infeasible"}
    refused |= {kind for kind in ("priced", "budget", "quadratic") if kind not in capabilities.softness}
    if not {"priced", "budget", "quadratic"} <= capabilities.softness:
        refused.add("mixed_softness")
    if not capabilities.bounds:
        refused |= BOXES
    if not capabilities.weights:
        refused |= WEIGHTS
    return refused


def within(problem: ProjectionProblem, capabilities: Capabilities, *, boxed: bool = True) -> bool:
    """Whether a problem needs nothing beyond the declared capabilities. (The front door writes ranges as pairs where it must.) ``boxed``:
    its box is asked of the backend too, and not only what its distance says.
    """
    return (
        all(s.kind in capabilities.softness for s in problem.softness)
        and (capabilities.bounds or not problem.has_box or not boxed)
        and (capabilities.weights or problem.weights is None)
        and (capabilities.dense or problem.rows.dense is None)
    )


@dataclass(frozen=True, eq=False)
class Case:
    """A draw with its accepted reference solution."""

    draw: Draw
    reference: OracleSolution

    @property
    def problem(self) -> ProjectionProblem:
        return self.draw.problem

    @property
    def scores(self) -> Tensor:
        return self.draw.scores

    @property
    def scale(self) -> float:
        """What accuracies are relative to: the scores are of order 1, or as large as this."""
        return max(1.0, float(self.draw.scores.abs().max()))

    @cached_property
    def generic(self) -> bool:
        return is_generic(self.draw, self.reference)


@dataclass(frozen=True, eq=False)
class Subject:
    """The backend under test and its cases; ``infeasible``: draws without a solution; ``refused``: how many problems it would not take."""

    backend: Backend
    cases: tuple[Case, ...]
    refused: int
    seed: int
    infeasible: tuple[Draw, ...]
    _answers: dict[Case, Solution] = field(default_factory=dict, repr=False)

    @property
    def capabilities(self) -> Capabilities:
        return self.backend.capabilities

    @cached_property
    def generic(self) -> tuple[Case, ...]:
        """The cases at which gradients may be compared."""
        return tuple(case for case in self.cases if case.generic)

    @cached_property
    def hard(self) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.problem.all_hard)

    @cached_property
    def raw_cases(self) -> tuple[Case, ...]:
        """Cases that the backend itself takes as they are: without ranges where it declares none."""
        return tuple(case for case in self.cases if self.takes_raw(case.problem))

    def takes_raw(self, problem: ProjectionProblem) -> bool:
        return not untaken(problem, self.capabilities)

    def project(
        self, scores: Tensor, problem: ProjectionProblem, *, limits: Limits | None = None, gradient: GradientKind = "implicit"
    ) -> Solution:
        """Through the front door, like a user's call."""
        return solve(scores, problem, limits=limits, backend=self.backend, gradient=gradient)

    @cached_property
    def sample(self) -> tuple[Case, ...]:
        """A third of the cases, at least 8: for properties that ask several questions of each."""
        return _third(self.cases)

    @cached_property
    def generic_sample(self) -> tuple[Case, ...]:
        return _third(self.generic)

    def answer(self, case: Case) -> Solution:
        """The front door's answer to a case, float64, asked once."""
        if case not in self._answers:
            self._answers[case] = self.project(case.scores, case.problem)
        return self._answers[case]

    def raw(self, scores: Tensor, problem: ProjectionProblem) -> RawSolution | None:
        """The backend itself, without the front door; None where it refuses the problem."""
        try:
            return self.backend.solve(scores.contiguous(), problem)
        except UnsupportedError:
            return None


def _third(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    return cases[:: max(1, min(3, len(cases) // 8))]


def fail(name: str, subject: Subject, where: Draw | None, message: str, *, said: str = "") -> NoReturn:
    """Raises ConformanceError for a property, naming the backend and what rebuilds the case. ``said``: the solver's own words."""
    own = f"; it said: {said}" if said else ""
    raise ConformanceError(name, told(subject.backend, where, message + own))


def told(backend: Backend, where: Draw | None, message: str) -> str:
    """What went wrong with a backend at a draw, and how to have again what it was handed."""
    if where is None:
        return f"backend {backend.name!r}: {message}"
    replay = f"replay: from fairopt.testing import draw, handed_over; scores, problem = handed_over({where.description}, backend)"
    return f"backend {backend.name!r} at {where.description}: {message}\n  {replay}"


def make_subject(backend: Backend, draws: int, seed: int) -> Subject:
    """Collects ``draws`` cases that the backend takes and that have an accepted reference."""
    cases: list[Case] = []
    refused = 0
    for d in _candidates(backend.capabilities, draws, seed):
        if len(cases) == draws:
            break
        if not within(d.problem, backend.capabilities):
            continue
        reference = accepted_oracle(d)
        if reference is None:
            continue
        try:
            found = solve(d.scores, d.problem, backend=backend)
        except UnsupportedError:
            refused += 1
            continue
        except (BackendError, InfeasibleError) as error:
            raise ConformanceError("solves", told(backend, d, f"raised {type(error).__name__}: {error}")) from error
        if found.status is Status.FAILED:  # it raised, or said so
            raise ConformanceError("solves", told(backend, d, f"FAILED on a feasible problem; it said: {found.message}"))
        cases.append(Case(d, reference))
    if len(cases) < max(1, draws // 3):
        raise ConformanceError(
            "capabilities", f"backend {backend.name!r} took {len(cases)} of the draws within its capabilities, refused {refused}"
        )
    allowed = refused_mutations(backend.capabilities)
    impossible = [d for d in infeasible(max(8, draws // 3), seed, max_n=MAX_N) if within(d.problem, backend.capabilities)]
    impossible = [d for d in impossible if not d.mutations & (allowed - {"infeasible"})]
    return Subject(backend, tuple(cases), refused, seed, tuple(impossible))


def _candidates(capabilities: Capabilities, draws: int, seed: int) -> Iterator[Draw]:
    """One draw for each thing that is declared, then wild ones."""
    yield from (d for _, d in targeted(capabilities, seed))
    yield from wild(_TRIES * draws, seed, max_n=MAX_N, avoid=sorted(refused_mutations(capabilities) | {"huge"}))


def targeted(capabilities: Capabilities, seed: int, each: int = 1) -> Iterator[tuple[str, Draw]]:
    """``each`` draws for every declared ability, with its name: softness kinds, ranges, bounds, weights, dense rows."""
    wanted: list[tuple[str, str, tuple[str, ...], Callable[[ProjectionProblem], bool]]] = [
        (f"softness {kind!r}", "range", () if kind == "hard" else (kind,), partial(_has_kind, kind))
        for kind in sorted(capabilities.softness)
    ]
    if capabilities.ranges:
        wanted.append(("ranges", "range", (), lambda problem: problem.ranges > 0))
    if capabilities.ratio_ranges:
        wanted.append(("ratio ranges", "ratio_range", (), lambda problem: bool((problem.ratio < 1.0).any())))
    if capabilities.bounds:
        wanted.append(("bounds", "range", ("box", "wide_box"), lambda problem: problem.has_box))
        wanted.append(("bounds by sample", "pairs", ("sample_box",), lambda problem: not problem.uniform_box))
    if capabilities.weights:
        wanted.append(("weights", "range", ("weights",), lambda problem: problem.weights is not None))
    if capabilities.dense:
        wanted.append(("dense", "covariance", (), lambda problem: problem.rows.dense is not None))
    for name, structure, mutations, shows in wanted:
        kinds = (structure, "pairs") if structure == "range" else (structure,)  # soft ranges are not for backends of linear rows
        alternatives: list[tuple[str, ...]] = [(m,) for m in mutations] or [()]
        tried = (draw(kind, seed + k, m, max_n=MAX_N) for k in range(100) for kind in kinds for m in alternatives)
        fitting = (d for d in tried if shows(d.problem) and within(d.problem, capabilities))
        yield from ((name, d) for d in islice(fitting, each))


def _has_kind(kind: str, problem: ProjectionProblem) -> bool:
    return any(s.kind == kind for s in problem.softness)


def limit_step(case: Case, seed: int) -> tuple[Limits, float]:
    """A direction in the limits of a problem that keeps lower <= upper and width >= 0 to both sides, and a step along it."""
    limits, rng = case.problem.limits(), np.random.default_rng(seed)

    def direction(values: Tensor) -> Tensor:
        d = torch.from_numpy(rng.uniform(-1.0, 1.0, values.shape[0]))
        return torch.where(torch.isfinite(values), d, torch.zeros_like(d))

    lower, upper = direction(limits.lower), direction(limits.upper)
    upper = torch.where(limits.lower == limits.upper, lower, upper)
    width = torch.where(limits.width > 0, direction(limits.width), torch.zeros_like(limits.width))
    finite = torch.where(torch.isfinite(limits.softness_weight), limits.softness_weight, torch.zeros_like(limits.softness_weight))
    # one factor for all weights: the constraints of a budget share theirs
    return Limits(lower, upper, width, direction(limits.offset), float(rng.uniform(-1.0, 1.0)) * finite), 1e-7 * case.draw.scale


def moved(limits: Limits, direction: Limits, step: float) -> Limits:
    """limits + step * direction; open limits stay open."""
    return Limits(*(a + step * b for a, b in zip(limits.tensors(), direction.tensors(), strict=True)))


def reference_at(case: Case, limits: Limits) -> np.typing.NDArray[np.float64]:
    """The reference scores (n,) under other limits."""
    return solve_reference(case.scores.numpy(), case.problem.with_limits(limits)).y


def rescored(case: Case, scores: Tensor) -> Case:
    """The same problem at other scores, with a reference of its own. Raises BackendError where none is found."""
    moved_draw = with_scores(case.draw, scores)
    reference = accepted_oracle(moved_draw)
    if reference is None:
        raise BackendError("no accepted reference")
    return Case(moved_draw, reference)


def slack(subject: Subject, case: Case) -> float:
    """How far two answers to the same question may lie apart: each is within the declared accuracy."""
    return 2.0 * subject.capabilities.accuracy_y * case.scale
