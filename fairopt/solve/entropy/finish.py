"""From prices of the divergence's dual to certified scores: rounded, every row checked, repaired by tighter limits or on the grid.

As in ``fairopt.solve.finish``, with one difference: the map bends, so that prices at tighter limits are searched for, from those found.
They change by what rounding can do, and the scores keep their order and stay inside (0, 1). Where a limit leaves no room (tolerance 0) a
few scores are moved by ulps, to sums that floats can hold (claim L12): then a score may come to lie on a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, BoolArray
from fairopt.basics.sparse import Diagonal
from fairopt.contract.backend import RawSolution, Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.solve.dual.active_piece import Piece, read_piece
from fairopt.solve.dual.bordered import Model
from fairopt.solve.dual.newton import DualSolution
from fairopt.solve.dual.structure import Structure, numbers, structure
from fairopt.solve.entropy.dual import EntropyDual
from fairopt.solve.entropy.search import MAX_ITER, metric_of, solve_entropy
from fairopt.solve.finish.equal_means import to_grid
from fairopt.solve.finish.finish import empty_piece, passes_unchanged
from fairopt.solve.finish.repair import ATTEMPTS, ULPS, Repaired, excess, far, left_over, room, shortfall
from fairopt.solve.finish.rounding import Check, Finisher, box_holds_numbers, largest

Settle = Callable[[Tensor], Tensor]
POLISH = 12  # Newton steps from another solver's prices
REFINE = 4  # Newton steps from limits to those that are tighter by rounding
FAR_UNDER = 2.0**-10  # of the size that was taken for the scores': then it is taken anew
NEARLY_NONE = 1e-6  # of the scores' size: prices that perhaps only rounding asked for


@dataclass(frozen=True, eq=False)
class EntropyOutcome:
    """What certificate and gradient need: see ``fairopt.solve.finish.finish.Outcome``. rates: (n,) dy / dz and (n,) -dy / d(A'p), in cell
    order, at prices ``p`` (m,)."""

    y: Tensor
    dual: EntropyDual
    piece: Piece
    model: Model
    p: Array
    violation: Array
    bound: float
    residual: float
    moved: float
    status: Status
    iterations: int
    proved: bool
    finite: bool
    kkt_bound: float
    message: str = ""


def pinned_problem(problem: ProjectionProblem, z: Tensor) -> ProjectionProblem:
    """``problem`` for scores z (n,) float64, in which those that no price moves have no other place."""
    fixed = (z <= 0.0) | (z >= 1.0) if problem.distance == "kl" else z <= 0.0
    if not bool(fixed.any()):
        return problem
    pinned = replace(problem, lb=torch.where(fixed, z, problem.lb), ub=torch.where(fixed, z, problem.ub))
    pinned.workspace.take(problem.workspace, "structure", "numbers")
    return pinned


def finished(
    scores: Tensor,
    problem: ProjectionProblem,
    pinned: ProjectionProblem,
    *,
    certify: bool,
    tol: float | None,
    max_iter: int | None,
    raw: RawSolution | None = None,
) -> EntropyOutcome:
    """Solve for ``scores`` (n,), detached, any float dtype, and return scores in the same. ``pinned``: ``pinned_problem``; ``raw``: a
    backend's answer."""
    z = scores.to("cpu", torch.float64).numpy()[problem.rows.order.numpy()]
    dual = EntropyDual(problem, z)
    st = metric_of(dual, structure(problem), numbers(problem))
    return found(scores, pinned, dual, st, certify=certify, tol=tol, max_iter=max_iter, raw=raw)


def found(
    scores: Tensor,
    pinned: ProjectionProblem,
    dual: EntropyDual,
    st: Structure,
    *,
    certify: bool,
    tol: float | None,
    max_iter: int | None,
    settle: Settle | None = None,
    raw: RawSolution | None = None,
) -> EntropyOutcome:
    """As ``finished``, by a ``dual`` and the structure ``st`` that its search takes. ``settle``: what is done to scores (n,), in cell order
    and rounded, before they are checked. ``raw``: a backend's answer, from whose prices the search goes on for a few steps."""
    problem, nums = dual.problem, numbers(dual.problem)
    settle = _as_they_are if settle is None else settle
    most = MAX_ITER if max_iter is None else max_iter
    start = None
    if raw is not None:
        most, start = POLISH if raw.status is None else 0, np.zeros(problem.m) if raw.prices is None else raw.prices
    extent = float(np.abs(dual.z).max())
    solution, st = _in_its_own_size(dual, st, solve_entropy(dual, st, nums, start, tol=tol, max_iter=most), tol=tol, max_iter=most)
    finisher = Finisher(scores.cpu(), pinned, dual, extent)
    kept = _unchanged(finisher, solution)
    if kept is not None:
        m = problem.m
        return EntropyOutcome(
            scores.clone(), dual, empty_piece(m), Diagonal(np.zeros(m)), np.zeros(m), kept.violation, kept.bound, 0.0, 0.0,
            Status.CERTIFIED, 0, kept.holds, kept.finite, 0.0,
        )  # fmt: skip
    finisher.extent = min(extent, dual.size)  # what counts as rounding is a share of the answer, not of what it came from
    piece, model = read_piece(st, nums, solution.evaluation.f, solution.p), dual.model(solution.evaluation)
    fixed = _repair(finisher, solution, dual, st, settle, piece, model, certify=certify)
    if not solution.converged:
        status = Status.ITERATION_LIMIT if solution.iterations >= most and raw is None else Status.INACCURATE
    elif not fixed.check.holds:
        status = shortfall(finisher, fixed.check, largest(fixed.y), fixed.p)
    else:
        status = Status.CERTIFIED if box_holds_numbers(pinned, finisher.dtype) else Status.WITHIN_ROUNDING
    return EntropyOutcome(
        finisher.unsorted(fixed.y).to(scores.device), dual, piece, model, solution.p, fixed.check.violation, fixed.check.bound,
        fixed.worst_residual(solution.residual), fixed.moved, status if raw is None or raw.status is None else raw.status,
        solution.iterations if raw is None else raw.iterations, fixed.check.holds, fixed.check.finite, solution.bound,
        "" if raw is None else raw.message,
    )  # fmt: skip


def _in_its_own_size(
    dual: EntropyDual, st: Structure, solution: DualSolution, *, tol: float | None, max_iter: int
) -> tuple[DualSolution, Structure]:
    """The solution, with its goals and metric taken from the size of its own scores where that is far under the size of the input.

    Positive values of 1e30 may end at 1e15: a residual that is a small share of 1e30 says nothing of these.
    """
    nums, used = numbers(dual.problem), solution.iterations
    while True:
        size = largest(dual.scores(solution.p))
        settled = dual.kind != "kl_positive" or size >= FAR_UNDER * dual.size
        if settled or not size > 0.0 or used >= max_iter:
            return replace(solution, iterations=used, converged=solution.converged and settled), st
        dual.size = size
        st = metric_of(dual, structure(dual.problem), nums)
        solution = solve_entropy(dual, st, nums, solution.p, tol=tol, max_iter=max_iter - used)
        used += max(solution.iterations, 1)


def _unchanged(finisher: Finisher, solution: DualSolution) -> Check | None:
    """The check of the input itself, where it needs no prices or only rounding asked for them; None where it breaks a row or the box."""
    st = finisher.st
    z = torch.from_numpy(finisher.dual.vector().z)
    if not float((np.abs(solution.p) * st.metric / st.unit).max(initial=0.0)) <= NEARLY_NONE * finisher.extent:
        return None
    return passes_unchanged(finisher, z)


def _on_the_piece(finisher: Finisher, solution: DualSolution, piece: Piece, model: Model, margin: Array) -> Array:
    """(m,) prices at limits that are tighter by ``margin`` (L + R,), by one Newton step: what rounding can do is far too little to bend
    the map."""
    inward = np.where(finisher.st.hard, margin, 0.0)[piece.owner]
    ell = piece.ell - np.where(piece.owner < finisher.st.linear, piece.signs, piece.shares) * inward
    return replace(piece, ell=ell).prices(solution.evaluation.f, solution.p, model, piece.inverse(model))


def _repair(
    finisher: Finisher,
    solution: DualSolution,
    dual: EntropyDual,
    st: Structure,
    settle: Settle,
    piece: Piece,
    model: Model,
    *,
    certify: bool,
) -> Repaired:
    """Scores that hold every hard row, or what came nearest to it."""
    plain, nums = dual.scores(solution.p), finisher.nums
    magnitude = largest(plain)
    rounded = settle(finisher.rounded(plain))
    nearest = Repaired(rounded, plain, finisher.check(rounded, magnitude), 0.0, solution.p)
    if not certify or nearest.check.holds or not solution.converged:
        return nearest
    margin = finisher.margin(magnitude, solution.p)
    if not (st.hard & (room(nums, margin, finisher.problem.ratio) <= 0)).any():
        p = _on_the_piece(finisher, solution, piece, model, margin)
        made = dual.scores(p)
        y = settle(finisher.rounded(made))
        check = finisher.check(y, max(magnitude, largest(y)))
        if check.holds:
            moved = _far(made, plain)
            beside = moved <= far(finisher, magnitude) and piece.keeps(p)
            left = 0.0 if beside else left_over(dual, st, nums.tightened(margin, st.hard, finisher.problem.ratio), p, margin)
            if left <= solution.bound:
                return Repaired(y, plain, check, moved, p, left)
    for _ in range(ATTEMPTS):
        narrow = st.hard & (room(nums, margin, finisher.problem.ratio) <= 0)
        tight = nums.tightened(margin, st.hard, finisher.problem.ratio)
        p = solve_entropy(dual, st, tight, solution.p, max_iter=REFINE).p
        made, left = dual.scores(p), left_over(dual, st, tight, p, margin)
        for y, snapped in _candidates(finisher, settle(finisher.rounded(made)), narrow):
            check, moved = finisher.check(y, max(magnitude, largest(y))), _far(made, plain) + snapped
            tried = Repaired(y, plain, check, moved, p, left)
            if check.holds:
                return tried
            if excess(st, check) < excess(st, nearest.check) and moved <= ULPS * torch.finfo(finisher.dtype).eps * finisher.extent:
                nearest = tried
        if narrow.any() and bool((narrow >= (st.hard & (nearest.check.violation > -margin))).all()):
            break  # a wider margin gives the grid no other structure
        margin = margin + np.maximum(margin, np.where(st.hard, nearest.check.violation, 0.0))  # what the search's own rounding leaves
    return nearest


def _candidates(finisher: Finisher, y: Tensor, narrow: BoolArray) -> Iterator[tuple[Tensor, float]]:
    """Scores y (n,) in the returned dtype, and where limits leave no room set to sums that it holds, with how far that moved one."""
    yield y, 0.0
    if narrow.any():
        snapped = to_grid(finisher.problem, y, narrow)
        if snapped is not None:
            yield snapped.y, _far(snapped.y, y)


def _as_they_are(y: Tensor) -> Tensor:
    return y


def _far(a: Tensor, b: Tensor) -> float:
    return float((a.to(torch.float64) - b.to(torch.float64)).abs().max())
