"""Scores that hold every hard row exactly: limits tightened by what rounding can do, doubled until the check agrees."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.contract.backend import Status
from fairopt.solve.dual.active_piece import Piece, read_piece
from fairopt.solve.dual.bordered import Model
from fairopt.solve.dual.evaluator import Dual
from fairopt.solve.dual.newton import DualSolution, solve_dual
from fairopt.solve.dual.prox import residual
from fairopt.solve.dual.structure import Numbers, Structure
from fairopt.solve.finish.check import constraint_bound
from fairopt.solve.finish.equal_means import to_grid
from fairopt.solve.finish.rounding import Check, Finisher, largest

ATTEMPTS = 8
LEFT = 64.0  # margins that the residual after a repair may be: rounding is a share of one
ULPS, SUMS = 16.0, 128.0 * 2.0**-52  # rounding: ulps of the returned dtype, and of float64 sums, of the largest score
GRID, APART = 64.0, 2.0**-33  # ulps a sample, and a share of the scores: see ``_nearly_equal``
FARTHEST = 2.0**-38  # of the scores: a repair that moves them more is looked at again


@dataclass(frozen=True, eq=False)
class Repaired:
    """y (n,) in cell order and the returned dtype; plain before rounding; the check; how far the repair moved scores; prices.

    residual: of the optimality conditions at the prices and limits that the repair ended at, 0 where it stayed beside the solution's.
    """

    y: Tensor
    plain: Tensor
    check: Check
    moved: float
    p: Array
    residual: float = 0.0

    def worst_residual(self, before: float) -> float:
        """The larger of this residual and that of the solution that was repaired; NaN is the larger one."""
        return before if self.residual <= before else self.residual


def repair(finisher: Finisher, solution: DualSolution, piece: Piece, M: Model, *, certify: bool) -> Repaired:
    """Scores that hold every hard row, and how they came about."""
    dual, st, nums = finisher.dual, finisher.st, finisher.nums
    # large problems: one pass less, the repaired scores stand for the plain ones
    plain = None if certify and dual.large else dual.scores(solution.p)
    if not certify or not st.hard.any():
        plain = dual.scores(solution.p) if plain is None else plain
        sorted_y = finisher.rounded(plain)
        return Repaired(sorted_y, plain, finisher.check(sorted_y, largest(sorted_y)), 0.0, solution.p)
    magnitude = finisher.magnitude(solution.p, plain)
    margin = finisher.margin(magnitude, solution.p)
    p, f = solution.p, solution.evaluation.f
    nearest: Repaired | None = None
    snaps = True

    def gone(p: Array, tight: Numbers) -> tuple[float, float]:
        """How far prices p (m,) moved a score, and their residual where they are not beside the solution's."""
        moved = _moved(finisher, p, solution.p)
        beside = moved <= far(finisher, magnitude) and piece.keeps(p)
        return moved, 0.0 if beside else left_over(dual, st, tight, p, margin)

    inverse = piece.inverse(M) if piece.index.size else None
    for attempt in range(ATTEMPTS):
        tight = nums.tightened(margin * 2.0**attempt, st.hard, finisher.problem.ratio)
        if attempt == 0 and inverse is not None:
            p = replace(piece, ell=_ell(st, tight, piece)).prices(f, solution.p, M, inverse)
            if not gone(p, tight)[1] <= 10.0 * solution.residual:
                p = solution.p  # the piece was misread: search at the tighter limits
                continue
        elif attempt > 0:
            found = solve_dual(dual, st, tight, p)
            p = found.p
        made, sorted_y, check = _tried(finisher, p, magnitude)
        plain = made if plain is None else plain
        if attempt > 0 and not check.holds and check.finite:
            # the search ends at what the residual resolves, which light samples at their bounds make coarser than a margin
            on_piece = _on_piece(finisher, tight, found)
            if on_piece is not None:
                moved, left = gone(p, tight)
                nearest = _nearer(st, nearest, Repaired(sorted_y, plain, check, moved, p, left))
                p = on_piece
                made, sorted_y, check = _tried(finisher, p, magnitude)
        moved, left = gone(p, tight)
        here = Repaired(sorted_y, plain, check, moved, p, left)
        nearest = _nearer(st, nearest, here)
        if check.holds:
            return here
        if not check.finite:
            break  # beyond the dtype's largest number: the front door solves again within it
        narrow = st.hard & (room(nums, margin * 2.0**attempt, finisher.problem.ratio) <= 0)
        if narrow.any() and snaps:
            snapped = to_grid(finisher.problem, sorted_y, narrow)
            snaps = snapped is not None and snapped.exact  # other margins would give it no other structure
            if snapped is not None:
                check = finisher.check(snapped.y, largest(snapped.y))
                moved += float((snapped.y.to(torch.float64) - made.to(torch.float64)).abs().max())
                if check.holds and moved <= _nearly_equal(finisher) * magnitude:
                    return Repaired(snapped.y, plain, check, moved, p, left)
                nearest = _nearer(st, nearest, Repaired(snapped.y, plain, check, moved, p, left))
        broken = st.hard & (nearest.check.violation > -margin)
        if not snaps and broken.any() and (broken <= narrow).all():
            break
    assert nearest is not None
    assert plain is not None
    unmoved = finisher.rounded(plain)
    check = finisher.check(unmoved, magnitude)
    # no margin fits: larger ones would break the rows less, of scores that are no longer the nearest
    farther = not nearest.moved <= ULPS * torch.finfo(finisher.dtype).eps * max(magnitude, finisher.extent)
    return Repaired(unmoved, plain, check, 0.0, solution.p) if farther or excess(st, check) < excess(st, nearest.check) else nearest


def _nearer(st: Structure, one: Repaired | None, other: Repaired) -> Repaired:
    """Whichever breaks the rows less; ``one`` where they break them alike."""
    return other if one is None or excess(st, other.check) < excess(st, one.check) else one


def _tried(finisher: Finisher, p: Array, magnitude: float) -> tuple[Tensor, Tensor, Check]:
    """The scores at prices p (m,), the same rounded, and the check of these. Both (n,), in cell order."""
    made = finisher.dual.scores(p)
    sorted_y = finisher.rounded(made)
    return made, sorted_y, finisher.check(sorted_y, magnitude)


def _on_piece(finisher: Finisher, numbers: Numbers, found: DualSolution) -> Array | None:
    """(m,) the prices that solve the piece which a search ended on; None where that piece does not hold them."""
    piece = read_piece(finisher.st, numbers, found.evaluation.f, found.p)
    M = finisher.dual.model(found.evaluation)
    p = piece.prices(found.evaluation.f, found.p, M, piece.inverse(M))
    return p if piece.keeps(p) and bool(np.isfinite(p).all()) else None


def _nearly_equal(finisher: Finisher) -> float:
    """What equal means on the grid may move a score by, over the size of the scores: means farther apart were not equal before rounding."""
    return max(GRID * finisher.problem.n * torch.finfo(finisher.dtype).eps, APART)


def excess(st: Structure, check: Check) -> float:
    """The largest violation of a hard row."""
    return float(check.violation[st.hard].max(initial=-np.inf))


def far(finisher: Finisher, magnitude: float) -> float:
    """How far a repair may move a score of size ``magnitude`` and still be beside the solution that it started from."""
    return max(FARTHEST, 64.0 * torch.finfo(finisher.dtype).eps) * magnitude


def left_over(dual: Dual, st: Structure, tight: Numbers, p: Array, margin: Array) -> float:
    """The largest residual of prices p at limits tightened by ``margin`` (L + R,), beyond what rounding, a share of a margin, leaves."""
    left = np.abs(residual(st, tight, dual.evaluate(p).f, p))  # (m,)
    return float((left - LEFT * margin[st.owner] / st.unit).max(initial=0.0))  # NaN stays


def _moved(finisher: Finisher, p: Array, before: Array) -> float:
    """How far the repair moved a free score."""
    return finisher.shift(p - before)


def shortfall(finisher: Finisher, check: Check, magnitude: float, p: Array) -> Status:
    """What to call scores that break a hard row: within rounding, or off."""
    size = max(magnitude, finisher.extent)
    info = torch.finfo(finisher.dtype)
    row = finisher.st.unit * (ULPS * info.eps * (size + info.tiny) + SUMS * size) + SUMS * np.abs(finisher.nums.offset)
    least = constraint_bound(finisher.st, row)
    allowed = np.clip(16.0 * finisher.margin(magnitude, p), least, 2.0 * least)  # light samples, which move far, round more
    hard = finisher.st.hard
    return Status.WITHIN_ROUNDING if (check.violation[hard] <= allowed[hard]).all() else Status.INACCURATE


def room(nums: Numbers, margin: Array, ratio: Array) -> Array:
    """(L + R,) what margins leave between the limits of each constraint. With a ratio below 1 any width leaves scores."""
    L = nums.lower.shape[0]
    return np.concatenate([nums.upper - nums.lower - 2 * margin[:L], np.where(ratio < 1.0, np.inf, nums.width - margin[L:])])


def _ell(st: Structure, nums: Numbers, piece: Piece) -> Array:
    """(k,) the limits that bind on a piece, with other numbers."""
    linear = int(np.searchsorted(piece.index, st.linear))
    k = piece.index[:linear]
    ell = np.empty(piece.index.shape[0])
    ell[:linear] = np.where(piece.signs[:linear] > 0, nums.upper[k], nums.lower[k])
    ell[linear:] = piece.shares[linear:] * nums.width[st.owner[piece.index[linear:]] - st.linear]
    return ell
