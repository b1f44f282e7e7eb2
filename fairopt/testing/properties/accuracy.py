"""Is the answer right? Against the reference, against the exact rows, against the optimality conditions, raw and through the front door."""

from __future__ import annotations

import numpy as np
import torch

from fairopt.contract.backend import Status
from fairopt.testing.exact import violation_exact
from fairopt.testing.optimality import residuals
from fairopt.testing.subject import Case, Subject, fail

RAW = 1e-3  # what any solver's own answer must reach, relative, before the front door polishes it
RAW_EXACT = 1e-9  # the same for a backend that declares ``exact``
SIGN = "y = clip(z - A'p / w, lb, ub), p > 0 where an upper limit binds, p < 0 where a lower one does"
SOLVED = (Status.CERTIFIED, Status.WITHIN_ROUNDING)


def agreement(subject: Subject) -> None:
    """max |y - y*| is within the declared ``accuracy_y``, and the status says solved."""
    for case in subject.cases:
        solution = subject.answer(case)
        if solution.status not in SOLVED:
            words = f"status {solution.status.name} on a feasible problem"
            fail("agreement", subject, case.draw, words, said=solution.message)
        error = float(np.abs(solution.scores.detach().double().numpy() - case.reference.y).max())
        bound = subject.capabilities.accuracy_y * case.scale
        if not error <= bound:
            fail("agreement", subject, case.draw, f"|y - y*| = {error:.2e}, declared {bound:.2e}", said=solution.message)


def feasibility(subject: Subject) -> None:
    """CERTIFIED means that every hard row and bound holds in rational arithmetic and that the scores are nearest within the stated bound;
    any other answer stays within the accuracy. Scores are finite and inside their box whatever the status."""
    for case in subject.cases:
        solution = subject.answer(case)
        certificate = solution.certificate
        if not bool(torch.isfinite(solution.scores).all()):
            fail("feasibility", subject, case.draw, f"scores are not finite with status {solution.status.name}")
        if solution.status is Status.CERTIFIED and not certificate.kkt_residual <= certificate.kkt_bound:
            words = f"CERTIFIED, but the optimality residual {certificate.kkt_residual:.2e} is not within {certificate.kkt_bound:.2e}"
            fail("feasibility", subject, case.draw, words)
        exact = violation_exact(case.problem, solution.scores)
        hard = [v for v, s in zip(exact.constraints, case.problem.softness, strict=True) if v is not None and s.kind == "hard"]
        if exact.bounds is not None and exact.bounds > 0:
            fail("feasibility", subject, case.draw, f"outside the bounds by {float(exact.bounds):.2e}")
        if certificate.bounds_violation != 0.0:
            fail("feasibility", subject, case.draw, f"a bounds violation of {certificate.bounds_violation:.2e} is told of scores inside")
        worst = float(max(hard, default=0))
        if solution.status is Status.CERTIFIED and worst > 0:
            fail("feasibility", subject, case.draw, f"CERTIFIED, but a row is broken by {worst:.2e}")
        reach = max(1.0, float(case.problem.rows.absolute_sum.max())) * case.scale
        if worst > subject.capabilities.accuracy_y * reach:
            fail("feasibility", subject, case.draw, f"a row is broken by {worst:.2e} with status {solution.status.name}")


def optimality(subject: Subject) -> None:
    """The scores and prices that the front door returns satisfy the optimality conditions, signs included."""
    for case in subject.cases:
        solution = subject.answer(case)
        prices = np.asarray(solution.prices.detach() if isinstance(solution.prices, torch.Tensor) else solution.prices, dtype=np.float64)
        if prices.shape != (case.problem.m,):
            fail("optimality", subject, case.draw, f"prices of shape {prices.shape}, expected ({case.problem.m},)")
        found = residuals(case.problem, case.scores.numpy(), solution.scores.detach().double().numpy(), prices)
        bound = max(1e-9, 10.0 * subject.capabilities.accuracy_y)
        if not found.worst <= bound:
            fail("optimality", subject, case.draw, f"{found}, expected at most {bound:.1e}")


def raw_answer(subject: Subject) -> None:
    """The backend's own scores and prices, before any polish: shape, dtype, bounds, and the optimality conditions."""
    for case in subject.raw_cases:
        raw = subject.raw(case.scores, case.problem)
        if raw is None:
            continue
        if raw.status is not None:
            continue  # told honestly; ``agreement`` decides whether the front door could mend it
        _check_form(subject, case, raw.y, raw.prices)
        if raw.prices is None and raw.y is None:
            fail("raw_answer", subject, case.draw, "neither scores nor prices")
        if raw.prices is None and subject.capabilities.prices:
            fail("raw_answer", subject, case.draw, "no prices, although the capabilities declare them")
        y = raw.y.detach().double().numpy() if raw.y is not None else None
        bound = RAW_EXACT if subject.capabilities.exact else RAW
        if y is not None:
            error = float(np.abs(y - case.reference.y).max()) / case.scale
            if not error <= bound:
                words = f"its own |y - y*| = {error:.2e} with no status, expected at most {bound:.0e}"
                fail("raw_answer", subject, case.draw, words, said=raw.message)


def raw_prices(subject: Subject) -> None:
    """The backend's own prices obey the sign convention y = clip(z - A^T p / w, lb, ub), p_k > 0 at an upper limit."""
    if not subject.capabilities.prices:
        return
    for case in subject.raw_cases:
        raw = subject.raw(case.scores, case.problem)
        if raw is None or raw.prices is None or raw.status is not None:
            continue
        bound = RAW_EXACT if subject.capabilities.exact else RAW
        prices, allowed = np.asarray(raw.prices, dtype=np.float64), bound * case.scale / float(case.scores.abs().max() or 1.0)
        found, turned = (residuals(case.problem, case.scores.numpy(), case.reference.y, sign * prices) for sign in (1.0, -1.0))
        if not found.worst <= allowed:
            way = f"; with the sign turned they hold: {SIGN}" if turned.worst <= allowed else ""
            words = f"{found} with the reference's scores, expected at most {allowed:.0e}{way}"
            fail("raw_prices", subject, case.draw, words, said=raw.message)


def _check_form(subject: Subject, case: Case, y: torch.Tensor | None, prices: object) -> None:
    if y is not None:
        if tuple(y.shape) != (case.problem.n,):
            fail("raw_answer", subject, case.draw, f"scores of shape {tuple(y.shape)}, expected ({case.problem.n},)")
        if not bool(torch.isfinite(y).all()):
            fail("raw_answer", subject, case.draw, "scores are not finite although no status says that it failed")
    if prices is not None:
        if not isinstance(prices, np.ndarray) or prices.shape != (case.problem.m,) or prices.dtype != np.float64:
            fail("raw_answer", subject, case.draw, f"prices: expected a float64 numpy array ({case.problem.m},), got {prices!r:.80}")
        if not np.isfinite(prices).all():
            fail("raw_answer", subject, case.draw, "prices are not finite although no status says that it failed")
