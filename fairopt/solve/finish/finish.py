"""From a backend's answer to certified scores: polish the prices, round, check every row, repair by tighter limits.

Scores are always recomputed from prices, y = clip(z - A'p / w, lb, ub), so that m numbers decide all n. The repair shrinks the hard
limits by a margin that covers the rounding of the returned dtype, takes the prices of the same piece there (no new
search), and doubles the margin until the rows hold exactly. Measured in DESIGN 7: 0 failures in 5,664.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.sparse import Diagonal, dense
from fairopt.contract.backend import Backend, RawSolution, Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.contract.ranges_as_pairs import as_pairs, untaken
from fairopt.solve.dual.active_piece import Piece, read_piece
from fairopt.solve.dual.bordered import Model
from fairopt.solve.dual.evaluator import Dual
from fairopt.solve.dual.make import make_dual
from fairopt.solve.dual.newton import DualSolution, SolvedDual
from fairopt.solve.dual.structure import Numbers, Structure, numbers, structure
from fairopt.solve.finish.one_row import bisected
from fairopt.solve.finish.polish import polish, sharpened
from fairopt.solve.finish.repair import far, repair, shortfall
from fairopt.solve.finish.rounding import Check, Finisher, box_holds_numbers, inside_box, largest, to_cell_order
from fairopt.solve.finish.two_rows import FewRows, few_rows, repaired_prices


@dataclass(frozen=True, eq=False)
class Outcome:
    """Everything about one solved problem that the certificate and the gradient need.

    y (n,) as returned, in the order of the samples; plain the scores before rounding and repair, in cell order: they tell which samples
    are off their bounds (rounding may put a clamped one beside its bound); p (m,) prices; proved, finite: every hard row holds for y,
    and all of y is finite; kkt_bound: what ``residual`` may be at most. What a road does not say of these is denied at the gate.
    """

    y: Tensor
    plain: Tensor
    dual: Dual
    piece: Piece
    model: Model
    p: Array
    violation: Array
    bound: float
    residual: float
    moved: float
    status: Status
    iterations: int
    message: str = ""
    proved: bool = False
    finite: bool = False
    kkt_bound: float = -1.0


def passes_unchanged(finisher: Finisher, sorted_z: Tensor) -> Check | None:
    """The check of the input itself, or None where it lies outside the box or breaks a row (soft rows included)."""
    problem = finisher.problem
    low, high = (float(v) for v in torch.aminmax(sorted_z))
    if problem.has_box and not inside_box(problem, sorted_z, low, high):
        return None
    check = finisher.check(sorted_z, max(abs(low), abs(high)))
    soft_broken = (~finisher.st.hard) & ~(check.violation <= 0)
    return check if check.holds and not soft_broken.any() else None


def finish(
    scores: Tensor, problem: ProjectionProblem, backend: Backend, extent: float, *, certify: bool, raw: RawSolution | None = None
) -> Outcome:
    """Solve for ``scores`` (n,), detached, any float dtype, and return scores in the same. ``extent``: their largest absolute value.
    ``raw``: the backend's answer, where it has it already.
    """
    working = as_working(scores)
    st, nums = structure(problem), numbers(problem)
    exact = backend.capabilities.exact
    if not exact:  # a solver would move feasible scores by its tolerance
        finisher = Finisher(scores, problem, make_dual(working, problem), extent)
        unchanged = _unchanged(finisher)
        if unchanged is not None:
            return unchanged
    raw = solved(working[None], problem, backend)[0] if raw is None else raw
    if isinstance(raw, SolvedDual):
        solution = sharpened(raw.dual, st, nums, bisected(raw.dual, st, nums, raw.solution, problem), extent)
        finisher = Finisher(scores, problem, raw.dual, extent)
        # nearly no price: perhaps none is needed, and only rounding asked for one
        if float((np.abs(solution.p) * st.metric / st.unit).max(initial=0.0)) <= 1e-6 * extent:
            unchanged = _unchanged(finisher)
            if unchanged is not None:
                return unchanged
        plan = few_rows(problem)
        quick = _finish_few(finisher, raw, solution, plan) if plan is not None and certify and raw.status is None else None
        if quick is not None:
            return quick
    else:
        if exact:
            finisher = Finisher(scores, problem, make_dual(working, problem), extent)
        solution = polish(finisher.dual, st, nums, raw, working, problem)
    return _finish_prices(finisher, raw, solution, st, nums, certify=certify)


def as_working(scores: Tensor) -> Tensor:
    """``scores`` in a dtype that passes are made in."""
    return scores if scores.dtype in (torch.float32, torch.float64) else scores.to(torch.float32)


def solved(scores: Tensor, problem: ProjectionProblem, backend: Backend) -> list[RawSolution]:
    """The backend's answers to ``scores`` (B, n); one that takes no ranges gets them as pairs."""
    z = _for_backend(scores, backend)
    others = untaken(problem, backend.capabilities)
    if not others:
        return _answers(z, problem, backend)
    pairs = as_pairs(problem, others)
    raws = _answers(z, pairs.problem, backend)
    return [replace(raw, prices=None if raw.prices is None else pairs.lift @ raw.prices) for raw in raws]


def _answers(scores: Tensor, problem: ProjectionProblem, backend: Backend) -> list[RawSolution]:
    """One problem goes to ``solve``, several to ``solve_batch``."""
    return [backend.solve(scores[0], problem)] if len(scores) == 1 else backend.solve_batch(scores, problem)


def _unchanged(finisher: Finisher) -> Outcome | None:
    """The outcome that returns the input's own bits, where it is feasible."""
    z = finisher.dual.z  # type: ignore[attr-defined]
    sorted_z = z if isinstance(z, Tensor) else torch.from_numpy(z)
    check = passes_unchanged(finisher, sorted_z)
    if check is None:
        return None
    m = finisher.problem.m
    p, M = np.zeros(m), Diagonal(np.zeros(m))
    return Outcome(
        finisher.scores.clone(),
        sorted_z,
        finisher.dual,
        empty_piece(m),
        M,
        p,
        check.violation,
        check.bound,
        0.0,
        0.0,
        Status.CERTIFIED,
        0,
        proved=check.holds,
        finite=check.finite,
        kkt_bound=0.0,
    )


def _finish_few(finisher: Finisher, raw: RawSolution, solution: DualSolution, plan: FewRows) -> Outcome | None:
    """The outcome where one attempt in plain floats is enough; None otherwise."""
    problem, dual = finisher.problem, finisher.dual
    if not solution.converged or not box_holds_numbers(problem, finisher.dtype):
        return None
    M = solution.evaluation.model(dual.coefficients)
    magnitude = finisher.magnitude(solution.p)
    passing = dual.precision
    repaired = repaired_prices(
        plan, dense(dual.coefficients), solution.p, solution.evaluation.f, M, (magnitude, finisher.extent), (finisher.dtype, passing)
    )
    if repaired is None or not finisher.shift(repaired.p - solution.p) <= far(finisher, magnitude):
        return None
    plain = dual.scores(repaired.p)
    sorted_y = finisher.rounded(plain)
    values, error = finisher.row_values(sorted_y).tolist(), plan.error(magnitude)
    if not plan.inside(values, error):
        return None
    violation = np.array([max(v - hi, lo - v) for v, lo, hi in zip(values, plan.lower, plan.upper, strict=True)])
    moved = finisher.shift(repaired.p - solution.p)
    return Outcome(
        finisher.unsorted(sorted_y),
        plain,
        dual,
        repaired.piece,
        M,
        repaired.p,
        violation,
        max(error),
        solution.residual,
        moved,
        Status.CERTIFIED,
        raw.iterations,
        raw.message,
        proved=True,
        finite=True,
        kkt_bound=solution.bound,
    )


def _finish_prices(finisher: Finisher, raw: RawSolution, solution: DualSolution, st: Structure, nums: Numbers, *, certify: bool) -> Outcome:
    problem, dual = finisher.problem, finisher.dual
    p, ev = solution.p, solution.evaluation
    M = dual.model(ev)
    piece = read_piece(st, nums, ev.f, p)
    status = raw.status
    if not solution.converged:
        status = status or Status.INACCURATE
    elif status is Status.INACCURATE or status is Status.ITERATION_LIMIT:
        status = None  # the polish reached the optimum
    if status is not None:
        sorted_y = (
            finisher.rounded(dual.scores(p))
            if raw.y is None
            else finisher.rounded(to_cell_order(raw.y.to(finisher.dual.scores(p).device), problem))
        )
        check = finisher.check(sorted_y, largest(sorted_y))
        return Outcome(
            finisher.unsorted(sorted_y),
            dual.scores(p),
            dual,
            piece,
            M,
            p,
            check.violation,
            check.bound,
            solution.residual,
            0.0,
            status,
            raw.iterations,
            raw.message,
            finite=check.finite,
            kkt_bound=solution.bound,
        )
    fixed = repair(finisher, solution, piece, M, certify=certify)
    if not fixed.check.holds:
        status = shortfall(finisher, fixed.check, largest(fixed.y), fixed.p)
    else:
        status = Status.CERTIFIED if box_holds_numbers(problem, finisher.dtype) else Status.WITHIN_ROUNDING
    return Outcome(
        finisher.unsorted(fixed.y),
        fixed.plain,
        dual,
        piece,
        M,
        fixed.p,
        fixed.check.violation,
        fixed.check.bound,
        fixed.worst_residual(solution.residual),
        fixed.moved,
        status,
        raw.iterations,
        raw.message,
        proved=fixed.check.holds,
        finite=fixed.check.finite,
        kkt_bound=solution.bound,
    )


def empty_piece(m: int) -> Piece:
    none = np.zeros(0)
    nobody = np.zeros(0, dtype=np.int64)
    return Piece(m, nobody, none, np.zeros((0, 0)), none, (), none, None, none, none, nobody)


def _for_backend(scores: Tensor, backend: Backend) -> Tensor:
    """The scores in a dtype and on a device that the backend takes."""
    names = backend.capabilities.dtypes
    dtype = scores.dtype if str(scores.dtype).removeprefix("torch.") in names else torch.float64
    device = scores.device if scores.device.type in backend.capabilities.devices else torch.device("cpu")
    return scores.to(device, dtype).contiguous()
