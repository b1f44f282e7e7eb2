"""``solve`` for class probabilities: one projection onto rows that sum to 1, with certificate and gradient.

A row of y sums to 1 in exact arithmetic up to the rounding of its largest entry: what rounding leaves of the sum is added to that one.
Where limits leave no room (tolerance 0) some entries are moved by ulps after that. How far sums are from 1 is told (``simplex_error``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.errors import InputError
from fairopt.contract.backend import Backend, Status
from fairopt.contract.problem import Limits, ProjectionProblem
from fairopt.solve.dual.structure import numbers, structure
from fairopt.solve.entropy.answer import BACKEND, answered, asked
from fairopt.solve.entropy.ends import ends_of
from fairopt.solve.entropy.finish import EntropyOutcome, Settle, found, pinned_problem
from fairopt.solve.entropy.search import MAX_ITER, metric_of
from fairopt.solve.finish.gate import GRANTING
from fairopt.solve.finish.rounding import to_cell_order, to_sample_order
from fairopt.solve.gradient.native import replaced
from fairopt.solve.road import fast
from fairopt.solve.simplex.dual import SimplexDual, compiled, kernels, structure_of
from fairopt.solve.simplex.gradient import Newton
from fairopt.solve.simplex.solution import ClassSolution
from fairopt.solve.simplex.summed import Summed, summed

if TYPE_CHECKING:
    from fairopt.solve.simplex.fast import Answer

ROUNDINGS = 64.0  # ulps of 1, a class, that a sum may be off by where limits left no room for it
OFF = 0.01  # what the entries of a row of scores may sum to beside 1


def check_probabilities(scores: Tensor) -> None:
    """InputError unless ``scores`` (n, C) are probabilities of two or more classes: between 0 and 1, of rows that sum to about 1."""
    if scores.dim() != 2 or scores.shape[1] < 2 or scores.shape[0] < 1:
        raise InputError(f"scores: got shape {tuple(scores.shape)}, expected (n, C): one probability for each of two or more classes")
    wide = scores.detach().to("cpu", torch.float64)
    low, high = torch.aminmax(wide)
    if not (float(low) >= 0.0 and float(high) <= 1.0 and float((wide.sum(1) - 1.0).abs().max()) <= OFF):
        bad = ~((wide >= 0.0) & (wide <= 1.0)).all(1) | ~((wide.sum(1) - 1.0).abs() <= OFF)
        k = int(torch.nonzero(bad)[0])
        shown = [round(v, 6) for v in wide[k, :6].tolist()]
        raise InputError(f"scores: got {shown} in row {k}, expected probabilities that sum to 1 (outputs='independent': no such sum)")


def solve_simplex(
    scores: Tensor,
    problem: ProjectionProblem,
    chosen: Backend,
    *,
    kl: bool,
    limits: Limits | None = None,
    certify: bool = True,
    tol: float | None = None,
) -> ClassSolution:
    """The projection of probabilities ``scores`` (n, C) onto a ``joined`` problem and rows that sum to 1."""
    plain = certify and tol is None and limits is None and chosen.name == BACKEND
    quick = _compiled(scores, problem, kl) if plain and scores.is_cpu and _as_it_comes(chosen) else None
    if quick is not None:
        return quick
    check_probabilities(scores)
    n, C = scores.shape
    given = scores.detach().T.reshape(-1).contiguous()
    ends = ends_of(problem, given.to("cpu", torch.float64).numpy()) if kl else None
    before, scores = scores.detach(), scores if ends is None else ends.put(scores, C)
    flat = scores.detach().T.reshape(-1).contiguous()
    pinned = pinned_problem(problem, flat.to("cpu", torch.float64)) if kl else problem

    def search() -> EntropyOutcome:
        dual = SimplexDual(problem, scores.detach().to("cpu", torch.float64).numpy(), kl=kl)
        st = structure_of(metric_of(dual, structure_of(structure(problem)), numbers(problem)))
        most, raw = getattr(chosen, "max_iter", None) if chosen.name == BACKEND else None, asked(chosen, flat, pinned)
        return found(flat, pinned, dual, st, certify=certify, tol=tol, max_iter=most, settle=_settle(problem, n, C), raw=raw)

    with_sums: list[Summed] = []

    def whole() -> ProjectionProblem:
        table = before.to("cpu", torch.float64).numpy()
        with_sums.append(summed(problem, table, kl=kl) if kl else problem.workspace.keep("summed", lambda: summed(problem, table, kl=kl)))
        return with_sums[-1].problem

    answer = answered(flat, problem, pinned, search, whole, chosen.name)
    outcome, verdict = answer.outcome, answer.verdict
    y = verdict.y.reshape(C, n).T.contiguous()
    error = float(left_of(y).abs().max())
    if verdict.status in GRANTING and not error <= C * torch.finfo(scores.dtype).eps:
        near = error <= ROUNDINGS * C * torch.finfo(scores.dtype).eps
        verdict.status = Status.WITHIN_ROUNDING if near else Status.INACCURATE
        verdict.message = f"the probabilities of a sample sum to 1 only up to {error:.1e}"
    if torch.is_grad_enabled() and (scores.requires_grad or (limits is not None and limits.requires_grad)):
        y = replaced(scores, y) if outcome is None else Newton.attach(scores, limits, outcome, problem, y)
    certificate = answer.certificate(given, scores.dtype)
    prices = answer.prices if ends is None else answer.prices + torch.from_numpy(ends.prices)
    proved = with_sums[-1] if verdict.status is Status.INFEASIBLE else None
    return ClassSolution(y, prices, verdict.status, certificate, chosen.name, answer.iterations, verdict.message, error, proved)


def _as_it_comes(chosen: Backend) -> bool:
    """Whether an instance of this package's own backend has no options but its defaults."""
    return getattr(chosen, "max_iter", MAX_ITER) == MAX_ITER and getattr(chosen, "solver_tol", None) is None


def _compiled(scores: Tensor, problem: ProjectionProblem, kl: bool) -> ClassSolution | None:
    """What the compiled road certifies."""
    road = fast(scores.dtype, "simplex.fast")
    found: tuple[Tensor, Answer] | None = None if road is None else road.attempt(scores, problem, kl=kl)
    return None if found is None else found[1].solution(found[0])


def left_of(y: Tensor) -> Tensor:
    """(n, 1) float64: what the rows of y (n, C) lack of 1, in more digits than float64 has."""
    wide = np.ascontiguousarray(y.detach().to("cpu", torch.float64).numpy())
    if not compiled():
        left = (1.0 - wide.astype(np.longdouble).sum(1)).astype(np.float64)
    else:
        left = np.empty(wide.shape[0])
        kernels().lacks(wide, left)
    return torch.from_numpy(left)[:, None].to(y.device)


def _settle(problem: ProjectionProblem, n: int, C: int) -> Settle:
    """What rounding leaves of each sample's sum goes to its largest entry, where it rounds to the last bit."""

    def settle(y: Tensor) -> Tensor:
        table = to_sample_order(y, problem).reshape(C, n).T.contiguous()
        wide = table.to(torch.float64)
        largest = wide.argmax(1, keepdim=True)
        mended = (wide.gather(1, largest) + left_of(table)).clamp(0.0, 1.0)
        return to_cell_order(table.scatter(1, largest, mended.to(table.dtype)).T.reshape(-1), problem)

    return settle
