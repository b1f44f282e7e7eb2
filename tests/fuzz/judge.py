"""Calls fairopt on a description and judges what comes back, in rational numbers. Shares no code with fairopt.

``examine`` returns the verdict: faults as (kind, words), the status, and notes (things that are no fault but worth counting).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch

import fairopt as fo
from tests.fuzz import nearest, optimal, proofs, witness
from tests.fuzz.call import arguments_of, notion_of, scores_of
from tests.fuzz.draw import Draw
from tests.fuzz.rows import Block, F, blocks_of, box_of, looseness, violation

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}
TINY = {"float64": 5e-324, "float32": 1.5e-45, "bfloat16": 1e-40, "float16": 6e-8}  # the smallest step
SLACK_ROWS, SLACK_SUMS = 32, 256 * 2.0**-52  # WITHIN_ROUNDING: ulps of the largest score, times the row's absolute sum
NEAREST_ULPS, NEAREST_SUMS = 32, 2.0**-36  # nearest up to moves of every score by so many ulps, and by the repair's margin
NEAREST = 1e-13  # of the objective, besides
WIDEST = 1.0000001e-7  # of the scores: what an answer may state as the bound of its residual


@dataclass
class Verdict:
    faults: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    status: str = ""

    def fault(self, kind: str, words: str) -> None:
        self.faults.append((kind, words))


Project = Callable[..., Any]


def examine(d: Draw, project: Project | None = None, *, guard: Callable[[], Any] | None = None) -> Verdict:
    """Call and judge. ``project`` stands in for ``fairopt.project``; ``guard`` makes a context that limits the time of the call."""
    verdict = Verdict()
    project = project or fo.project
    scores = scores_of(d)
    before = scores.detach().clone()
    arguments = arguments_of(d)
    sides = [t.clone() for t in arguments["bounds"] or () if isinstance(t, torch.Tensor)]
    learned: list[torch.Tensor] | None = [] if d["learn"] else None
    error: Exception | None = None
    solution = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            notion = notion_of(d, learned)
            with guard() if guard else warnings.catch_warnings():
                solution = project(scores, notion, return_solution=True, **arguments)
        except Exception as e:
            error = e
    foreign = [w for w in caught if not issubclass(w.category, (fo.FairoptWarning, DeprecationWarning))]
    if foreign:
        verdict.fault(
            "foreign warning", "; ".join(dict.fromkeys(f"{w.message} ({w.filename.rsplit('/', 1)[-1]}:{w.lineno})" for w in foreign))
        )
    if not torch.equal(scores.detach().view(-1), before.view(-1)) or any(
        not torch.equal(t, s) for t, s in zip([t for t in arguments["bounds"] or () if isinstance(t, torch.Tensor)], sides, strict=True)
    ):
        verdict.fault("input modified", "the scores or the bounds that were passed have changed")
    with np.errstate(all="ignore"):
        if error is not None:
            judge_error(d, error, verdict)
        else:
            judge_solution(d, solution, scores, verdict)
            judge_gradient(solution, [*([scores] if d["grad"] else []), *(learned or [])], verdict)
    return verdict


def judge_error(d: Draw, error: Exception, verdict: Verdict) -> None:
    words = f"{type(error).__name__}: {str(error)[:300]}"
    verdict.status = type(error).__name__
    if not isinstance(error, fo.FairoptError):
        verdict.fault("foreign exception", words + origin(error))
    elif isinstance(error, fo.InfeasibleError):
        judge_infeasible(d, verdict, words)
        wrong = proofs.wrong_proof(d, error)
        if wrong:
            verdict.fault("proof", f"{wrong}; {words}")
    elif isinstance(error, fo.UnsupportedError) and d["backend"] == "closed_form":
        pass
    elif isinstance(error, fo.InputError):
        verdict.fault("valid input refused", words)
    elif "INFEASIBLE" in words:
        verdict.fault("backend says infeasible", words)
        judge_infeasible(d, verdict, words)
    else:
        verdict.fault("backend error", words)


def origin(error: Exception) -> str:
    trace, last = error.__traceback__, ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "fairopt" in name and "/tests/" not in name:
            last = f" [{name.rsplit('/', 2)[-2]}/{name.rsplit('/', 1)[-1]}:{trace.tb_lineno}]"
        trace = trace.tb_next
    return last


def judge_infeasible(d: Draw, verdict: Verdict, words: str) -> None:
    found = witness.feasible_point(d, blocks_of(d))
    if found.point is not None:
        verdict.fault("refuted infeasibility", f"{words}; yet the point of kind {found.how!r} meets every row exactly")
    elif found.proved:
        verdict.notes.append("infeasible, proved")
    else:
        verdict.notes.append("infeasible, undecided")


def judge_solution(d: Draw, solution: Any, scores: torch.Tensor, verdict: Verdict) -> None:
    status = solution.status.name
    verdict.status = status
    y_tensor = solution.scores
    if y_tensor.shape != scores.shape or y_tensor.dtype != scores.dtype:
        verdict.fault("shape or dtype", f"{tuple(y_tensor.shape)} {y_tensor.dtype} for {tuple(scores.shape)} {scores.dtype}")
        return
    y = [float(v) for v in y_tensor.detach().double().reshape(-1).tolist()]
    if not all(math.isfinite(v) for v in y):
        verdict.fault(f"not finite ({status})", f"{status}: {y[:8]}")
        return
    blocks = blocks_of(d)
    through = d["on_infeasible"] == "passthrough" and status == "INFEASIBLE"
    outside = judge_box(d, y, status, verdict) if not through else None
    worst = judge_rows(d, blocks, y, status, verdict)
    judge_certificate(d, solution, y, worst, outside, verdict)
    if status in ("CERTIFIED", "WITHIN_ROUNDING"):
        judge_nearest(d, blocks, y, solution, verdict)
    elif status in ("INFEASIBLE", "CLOSEST"):
        judge_infeasible(d, verdict, status)
        broken = max(solution.certificate.max_violation, solution.certificate.bounds_violation)
        if status == "CLOSEST" and not broken > 0:  # a dtype without a number in a box may meet the rows outside it
            verdict.fault("CLOSEST without a violation", f"max_violation {solution.certificate.max_violation}")


def judge_box(d: Draw, y: list[float], status: str, verdict: Verdict) -> float | None:
    """The exact distance outside the box, where the dtype has a number inside every sample's box; None otherwise."""
    lb, ub = box_of(d)
    eps, tiny = EPS[d["dtype"]], TINY[d["dtype"]]
    worst = F(0)
    for i, (lo, v, hi) in enumerate(zip(lb, y, ub, strict=True)):
        if lo <= v <= hi:
            continue
        out = F(lo) - F(v) if v < lo else F(v) - F(hi)
        worst = max(worst, out)
        empty = not holds_number(lo, hi, d["dtype"])
        if empty and status != "CERTIFIED" and out <= 2 * F(eps) * abs(F(v)) + F(tiny):
            continue
        verdict.fault(
            f"outside its box ({status})",
            f"score {i} is {v!r}, its box [{lo!r}, {hi!r}]{' which holds no number of the dtype' if empty else ''}",
        )
        break
    return nearest.small(worst)


def holds_number(lo: float, hi: float, dtype: str) -> bool:
    from tests.fuzz.draw import DTYPES

    if dtype == "float64" or lo == -math.inf or hi == math.inf:
        return True
    t = torch.tensor(lo, dtype=torch.float64).to(DTYPES[dtype])
    if float(t) < lo:
        t = torch.nextafter(t, torch.tensor(math.inf, dtype=DTYPES[dtype]))
    return math.isfinite(float(t)) and float(t) <= hi


def judge_rows(d: Draw, blocks: list[Block], y: list[float], status: str, verdict: Verdict) -> float:
    """The largest exact violation of a hard row."""
    eps, tiny = F(EPS[d["dtype"]]), F(TINY[d["dtype"]])
    size = max((abs(F(v)) for v in [*y, *d["scores"]]), default=F(0))
    worst: Fraction | None = None
    for b in blocks:
        if b.kind != "hard":
            continue
        for c in b.constraints:
            v = violation(c, y)
            worst = v if worst is None else max(worst, v)
            loose = sum((looseness(m, y) for m in c.members), F(0))
            if status == "CERTIFIED" and v > loose:
                verdict.fault(
                    f"CERTIFIED, broken row{', closest' if d['on_infeasible'] == 'closest' else ''}",
                    f"{c.words}: violation {nearest.small(v):.3g} (exact, > {nearest.small(loose):.2g})",
                )
                return nearest.small(worst)
            if status == "WITHIN_ROUNDING":
                total = sum((sum((abs(a) for a in m.coefficients(d["n"])), F(0)) for m in c.members), F(0))
                offset = max(abs(m.offset) for m in c.members)
                allowed = ((SLACK_ROWS * eps + F(SLACK_SUMS)) * size + SLACK_ROWS * tiny) * total + F(SLACK_SUMS) * offset + loose
                if v > allowed:
                    verdict.fault(
                        f"WITHIN_ROUNDING, broken row{', closest' if d['on_infeasible'] == 'closest' else ''}",
                        f"{c.words}: violation {nearest.small(v):.3g}, allowed {nearest.small(allowed):.3g}",
                    )
                    return nearest.small(worst)
    return -math.inf if worst is None else nearest.small(worst)


def judge_certificate(d: Draw, solution: Any, y: list[float], worst: float, outside: float | None, verdict: Verdict) -> None:
    certificate = solution.certificate
    try:
        numbers = certificate.to_dict()
    except Exception as error:
        verdict.fault("certificate", f"to_dict: {type(error).__name__}: {error}{origin(error)}")
        return
    if outside is not None and not math.isclose(numbers["bounds_violation"], outside, rel_tol=1e-9, abs_tol=0.0):
        verdict.fault("certificate", f"bounds_violation {numbers['bounds_violation']!r}, exact {outside!r}")
    for word in ("max_violation", "kkt_residual", "rounding_bound", "moved_by_repair", "bounds_violation"):
        value = numbers[word]
        if word == "max_violation" and value == worst:  # also where both are beyond the floats
            continue
        if math.isnan(value) or (
            math.isinf(value) and not (word in ("kkt_residual",) and solution.status.name in ("INFEASIBLE", "CLOSEST"))
        ):
            kind = "certificate NaN" if math.isnan(value) else "certificate inf"
            verdict.fault(f"{kind}: {word}", f"{solution.status.name}: {word} {value!r}")
    claimed = numbers["max_violation"]
    size = max(abs(F(v)) for v in [*y, *d["scores"]])
    if solution.status.name == "CERTIFIED" and claimed > 0:
        verdict.fault("certificate", f"CERTIFIED with max_violation {claimed!r}")
    elif solution.status.name != "CERTIFIED" and worst > 1e-12 * nearest.small(size) and not claimed > 0:
        verdict.fault("certificate hides a violation", f"{solution.status.name}: max_violation {claimed:.3g}, exact {worst:.3g}")
    weights = d["weights"] or [1.0] * d["n"]
    square = sum((F(w) * (F(v) - F(z)) ** 2 for w, v, z in zip(weights, y, d["scores"], strict=True)), F(0))
    stated = numbers["distance"]
    low, high = F(1) - F(1, 10**6), F(1) + F(1, 10**6)
    if math.isfinite(stated) and not low * square <= F(stated) ** 2 <= high * square and square > F(1e-300) ** 2:
        verdict.fault("certificate: distance", f"{stated!r}, its square {nearest.small(square):.6g} (exact)")
    elif math.isinf(stated) and square < F(1.79e308) ** 2:
        verdict.fault(
            "certificate: distance",
            f"inf, where it is a float: its square has {square.numerator.bit_length() - square.denominator.bit_length()} bits",
        )


def judge_nearest(d: Draw, blocks: list[Block], y: list[float], solution: Any, verdict: Verdict) -> None:
    """CERTIFIED says: nearest within the stated bound of the residual, and that the bound is small."""
    status, stated = solution.status.name, float(solution.certificate.kkt_bound)
    size = nearest.small(max(abs(F(v)) for v in [*y, *d["scores"]]))
    share = stated / size if size > 0.0 else 0.0
    if not stated <= (WIDEST + 16 * EPS[d["dtype"]]) * size + TINY[d["dtype"]]:
        verdict.fault("certificate: bound too wide", f"{status}: kkt_bound {stated:.3g}, scores of size {size:.3g}")
        return
    if d["n"] * sum(len(c.members) for b in blocks for c in b.constraints) > 60_000:
        verdict.notes.append("nearest not judged: large")
        return
    result = optimal.is_nearest(
        d, blocks, y, NEAREST_ULPS * EPS[d["dtype"]] + max(NEAREST_SUMS, share), NEAREST_ULPS * TINY[d["dtype"]], NEAREST
    )
    if result.word == "far":
        verdict.fault(f"not nearest ({status}){', closest' if d['on_infeasible'] == 'closest' else ''}", result.words)
    elif result.word == "undecided":
        verdict.notes.append("nearest undecided")


def judge_gradient(solution: Any, leaves: list[torch.Tensor], verdict: Verdict) -> None:
    y = solution.scores
    if not leaves or not y.requires_grad or not bool(torch.isfinite(y.detach()).all()):
        if any(leaf.dim() > 0 for leaf in leaves) and not y.requires_grad:
            verdict.fault("no gradient", f"{solution.status.name}: the scores came back without a graph")
        return
    weights = torch.linspace(-1.0, 1.3, y.numel(), dtype=torch.float64).to(y.dtype).view(y.shape)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            y.backward(weights)
    except Exception as error:
        verdict.fault("backward raises", f"{type(error).__name__}: {str(error)[:200]}{origin(error)}")
        return
    for leaf in leaves:
        if leaf.grad is not None and not bool(torch.isfinite(leaf.grad).all()):
            words = "scores" if leaf.dim() else "a tolerance"
            verdict.fault("gradient not finite", f"{solution.status.name}, {words}: {leaf.grad.reshape(-1)[:6].tolist()}")
            return
