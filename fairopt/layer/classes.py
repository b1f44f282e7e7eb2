"""Scores of several numbers a sample: class probabilities that sum to 1, and labels that do not exclude each other.

A notion speaks of one number a sample. Of class probabilities (n, C) it is asked for each class by itself, of labels (n, L) for each label:

    DemographicParity, GroupMeanBound, ImpactRatio   of the probability of class c
    EqualOpportunity                                 of the probability of class c among those whose true class is c
    PredictiveEquality                               of the probability of class c among all others
    EqualizedOdds                                    of the probability of class c among those of true class k, for each k
    MeanResidual, ResidualParity                     of the probability of class c, beside how often it is the true class

A notion that names outputs itself (``batch.mean(event, output=c)``) is asked as it is, of all classes at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.columns import numbers
from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.compiler import Compiled
from fairopt.compiler.infeasible import infeasible, infeasible_classes
from fairopt.contract.backend import Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.feasibility import infeasibility
from fairopt.notions import EqualizedOdds, EqualOpportunity, Notion
from fairopt.notions.algebra import Joined
from fairopt.notions.batch import NamesOutput
from fairopt.solve import Solution, solve
from fairopt.solve.simplex.front import ClassSolution, solve_simplex
from fairopt.solve.simplex.joined import Part, joined
from fairopt.solve.told import report
from fairopt.solve.transforms import refuse_transforms

Outputs = Literal["one", "simplex", "independent"]
Several = Literal["simplex", "independent"]
OUTPUTS: tuple[Outputs, ...] = ("one", "simplex", "independent")
CompileOne = Callable[[Notion, Any, int | None], Compiled]  # a notion and targets, for one number a sample or so many


@dataclass(frozen=True)
class Classes:
    """How several numbers a sample are meant. outputs: "simplex" or "independent"; classes: those that the notion is about (None: all)."""

    outputs: Outputs
    classes: tuple[int, ...] | None
    distance: str


def read_classes(outputs: object, classes: Any, distance: str, bounds: Any) -> Classes | None:
    """The arguments, checked; None for one number a sample. InputError for what does not go together."""
    if outputs not in OUTPUTS:
        raise InputError(f"outputs: got {outputs!r}, expected 'one', 'simplex' or 'independent'")
    if outputs == "one":
        if classes is not None:
            raise InputError(f"classes: got {classes!r} beside outputs='one', expected None")
        return None
    if outputs == "simplex" and not (bounds is None or tuple(bounds) in {(0, 1), (None, None), (0, None), (None, 1)}):
        raise InputError(f"bounds: got {bounds!r} beside outputs='simplex', expected None: probabilities that sum to 1 lie in (0, 1)")
    if outputs == "simplex" and distance == "kl_positive":
        raise InputError("distance: got 'kl_positive' beside outputs='simplex', expected 'squared' or 'kl'")
    if classes is not None:
        ints = [c for c in classes if isinstance(c, (int, np.integer)) and not isinstance(c, bool) and c >= 0]
        if not ints or len(ints) != len(classes) or len(set(ints)) != len(ints):
            raise InputError(f"classes: got {classes!r}, expected different whole numbers from 0 on, as they stand in scores (n, C)")
        classes = tuple(int(c) for c in ints)
    return Classes(outputs, classes, distance)


def refuse_unless_raised(on_infeasible: str) -> None:
    """UnsupportedError for ways to go on without fair scores, which there are for one number a sample."""
    if on_infeasible != "raise":
        raise UnsupportedError(f"on_infeasible: got {on_infeasible!r}, only 'raise' is supported for several numbers a sample")


def asked_of(notion: Notion, how: Classes, targets: Any, count: int, n: int) -> list[tuple[Part, Notion, Any]]:
    """(part, notion, targets (n,)) of one number a sample, for each problem that ``notion`` is of ``count`` numbers a sample."""
    named = range(count) if how.classes is None else how.classes
    if max(named) >= count:
        raise InputError(f"classes: got {max(named)}, expected numbers below {count}, for scores have {count} columns")
    if not notion.needs_targets:
        return [(Part(c), notion, None) for c in named]
    true = _read_targets(notion, how, targets, count, n)
    if how.outputs == "independent":
        return [(Part(c), notion, true[:, c]) for c in named]
    if isinstance(notion, EqualizedOdds):
        one = EqualOpportunity(notion.attribute, tolerance=notion.tolerance, to=notion.to, given=notion.given)
        return [
            (Part(c, f"among true class {k}"), one, (true == k).to(torch.float64))
            for c in named
            for k in range(count)
            if bool((true == k).any())
        ]
    if any(isinstance(leaf.notion, EqualizedOdds) for leaf in notion.leaves()):
        raise UnsupportedError("EqualizedOdds of several classes: not supported softened; ask for it by itself, or joined with &")
    return [(Part(c), notion, (true == c).to(torch.float64)) for c in named]


def _read_targets(notion: Notion, how: Classes, targets: Any, count: int, n: int) -> Tensor:
    """The true classes (n,), or one label a score (n, count)."""
    if targets is None:
        raise InputError(f"targets: got None, expected the true class of each sample, for {notion!r} is about labels")
    if how.outputs == "independent":
        table = torch.as_tensor(targets, device="cpu")
        if tuple(table.shape) != (n, count):
            raise InputError(
                f"targets: got shape {tuple(table.shape)}, expected ({n}, {count}): one label a score, for outputs='independent'"
            )
        return table
    true = numbers(targets, n, "targets").detach().to("cpu", torch.float64)
    if not bool(((true >= 0) & (true < count) & (true == true.round())).all()):
        raise InputError(
            f"targets: got {float(true.min())} to {float(true.max())}, expected whole numbers from 0 to {count - 1}, the true classes"
        )
    return true


def compiled_parts(notion: Notion, how: Classes, targets: Any, count: int, n: int, compile_one: CompileOne) -> list[tuple[Part, Compiled]]:
    """``notion`` compiled for each class by itself, or where it names classes, for all at once."""
    odds = any(isinstance(leaf.notion, EqualizedOdds) for leaf in notion.leaves())
    if isinstance(notion, Joined) and odds:  # which is another notion for each true class
        return _by_part(notion, how, targets, count, n, compile_one)
    try:
        return [(part, compile_one(one, own, None)) for part, one, own in asked_of(notion, how, targets, count, n)]
    except NamesOutput:
        if isinstance(notion, Joined):
            return _by_part(notion, how, targets, count, n, compile_one)
    if how.classes is not None:
        raise InputError(f"classes: got {how.classes!r} beside {notion!r}, expected None: that notion names its outputs")
    true = _read_targets(notion, how, targets, count, n) if notion.needs_targets else None
    return [(Part(None), compile_one(notion, true.T.reshape(-1) if true is not None and true.dim() == 2 else true, count))]


def _by_part(notion: Joined, how: Classes, targets: Any, count: int, n: int, compile_one: CompileOne) -> list[tuple[Part, Compiled]]:
    return [one for part in notion.parts for one in compiled_parts(part, how, targets, count, n, compile_one)]


def problem_of(parts: list[tuple[Part, Compiled]], how: Classes, count: int) -> ProjectionProblem:
    """The one problem of all classes."""
    if any(compiled.moving is not None for _, compiled in parts):
        raise UnsupportedError(f"tolerances, rho or gamma that are tensors: not supported beside outputs={how.outputs!r}")
    problems = [(c, compiled.problem) for c, compiled in parts]
    first = problems[0][1]
    if any(p.stated is not None or not p.feasible for _, p in problems):
        raise UnsupportedError(f"on_infeasible: only 'raise' is supported beside outputs={how.outputs!r}")
    if how.outputs == "simplex":
        return joined(problems, count, "kl_positive" if how.distance == "kl" else "squared")
    box = (first.lb, first.ub)
    if parts[0][0].index is None:  # a problem of all classes, whose bounds are the same for each
        box = tuple(b[: b.shape[0] // count] if isinstance(b, Tensor) else b for b in box)  # type: ignore[assignment]
    return joined(problems, count, first.distance, box)


def solve_classes(scores: Tensor, problem: ProjectionProblem, how: Classes, **options: Any) -> Solution:
    """The projection of ``scores`` (n, C) onto ``problem_of``: a Solution whose scores are (n, C). Raises and warns as ``Prepared.project``
    does."""
    backend = options.pop("backend", "auto")
    gradient = options.pop("gradient", "implicit")
    n, count = scores.shape
    if how.outputs == "simplex":
        if backend not in ("auto", "dual_newton") or gradient != "implicit":
            raise UnsupportedError(
                f"backend {backend!r}, gradient {gradient!r}: not for outputs='simplex'; 'dual_newton' with 'implicit' is"
            )
        solution: Solution = solve_simplex(scores, problem, kl=how.distance == "kl", certify=options["certify"], tol=options["solver_tol"])
    else:
        found = solve(scores.T.reshape(-1), problem, backend=backend, gradient=gradient, **options)
        fields = {name: getattr(found, name) for name in ("prices", "status", "certificate", "backend", "iterations", "message")}
        solution = ClassSolution(scores=found.scores.reshape(count, n).T, simplex_error=float("nan"), **fields)
    if solution.status is Status.INFEASIBLE:
        raise_infeasible(solution, stay=" whose zeros stay" if how.distance == "kl" else "")
    report(solution)
    return solution


def raise_infeasible(solution: Solution, stay: str) -> None:
    """InfeasibleError with the proof of an INFEASIBLE solution."""
    of = solution.summed if isinstance(solution, ClassSolution) else None
    if of is not None and of.proof is not None:
        raise infeasible_classes(of.problem, of.proof, of.facts, stay)
    proof = infeasibility(solution.certificate.problem)
    if proof is not None:
        raise infeasible(solution.certificate.problem, proof)


def check_table(scores: Any) -> None:
    """InputError unless ``scores`` are finite floats (n, C), under no transform."""
    if not isinstance(scores, Tensor):
        raise InputError(f"scores: got {type(scores).__name__}, expected a torch tensor of shape (n, C)")
    refuse_transforms(scores)
    if scores.dim() != 2 or not scores.is_floating_point():
        raise InputError(f"scores: got shape {tuple(scores.shape)}, {scores.dtype}, expected floats of shape (n, C)")
    if not bool(torch.isfinite(scores.detach()).all()):
        k = int(torch.nonzero(~torch.isfinite(scores.detach()))[0, 0])
        raise InputError(f"scores: got {scores.detach()[k].tolist()[:6]} in row {k}, expected finite numbers")


class PreparedClasses:
    """A notion compiled for one batch composition and several numbers a sample. The problem of so many columns is made when scores
    with these come, and kept."""

    def __init__(self, notion: Notion, how: Classes, compile_one: CompileOne, targets: Any, n: int) -> None:
        self.notion, self.how, self.targets, self.n = notion, how, targets, n
        self._compile_one = compile_one
        self._problems: dict[int, ProjectionProblem] = {}

    def problem_for(self, count: int) -> ProjectionProblem:
        """The problem of ``count`` numbers a sample."""
        if count not in self._problems:
            parts = compiled_parts(self.notion, self.how, self.targets, count, self.n, self._compile_one)
            self._problems[count] = problem_of(parts, self.how, count)
        return self._problems[count]

    def project(self, scores: Tensor, *, return_solution: bool = False, **how: Any) -> Any:
        """The nearest fair scores to ``scores`` (n, C), differentiable; with ``return_solution`` a ``ClassSolution``."""
        check_table(scores)
        if scores.shape[0] != self.n:
            raise InputError(f"scores: got {scores.shape[0]} rows, expected {self.n}, one per sample of the batch")
        options = {"certify": True, "solver_tol": None, **how}
        solution = solve_classes(scores, self.problem_for(scores.shape[1]), self.how, **options)
        return solution if return_solution else solution.scores
