"""Does it keep the contract? Batches, statuses, dtypes, refusals, and inputs that stay as they were."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import BackendError, InfeasibleError, InputError, UnsupportedError
from fairopt.contract.backend import ALL_SOFTNESS, Backend
from fairopt.contract.problem import ProjectionProblem
from fairopt.testing.draws import Draw, wild
from fairopt.testing.oracle import accepted_oracle
from fairopt.testing.properties.accuracy import RAW, SOLVED
from fairopt.testing.subject import MAX_N, Subject, fail, slack, targeted, within

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
LIMIT_NAMES = ("max_iter", "max_iters", "max_iterations", "maxIter", "iterations", "steps")


def capabilities(subject: Subject) -> None:
    """The declarations are well formed, and everything declared is taken at least once."""
    declared = subject.capabilities
    if not (isinstance(subject.backend.name, str) and subject.backend.name):
        fail("capabilities", subject, None, "name: expected a non-empty string")
    if not declared.softness <= ALL_SOFTNESS or "implicit" not in declared.gradients or not declared.dtypes or not declared.devices:
        fail("capabilities", subject, None, f"not well formed: {declared}")
    if not 0.0 < declared.accuracy_y < 1.0 or not 0.0 < declared.accuracy_gradient < 1.0:
        fail("capabilities", subject, None, "accuracies: expected numbers between 0 and 1")
    offered: dict[str, list[Draw]] = {}
    for ability, d in targeted(declared, subject.seed + 1000, each=12):
        offered.setdefault(ability, []).append(d)
    for ability, tries in offered.items():
        if not any(_takes(subject, d.scores, d.problem) for d in tries):
            fail("capabilities", subject, tries[0], f"{ability} declared, but refused {len(tries)} times")


def undeclared(subject: Subject) -> None:
    """A problem outside the capabilities is refused with UnsupportedError or solved right; never answered wrongly."""
    checked = 0
    for d in wild(200, subject.seed + 7, max_n=MAX_N, avoid=("infeasible", "huge", "tiny")):
        if checked == 10:
            return
        reference = accepted_oracle(d)
        if within(d.problem, subject.capabilities) or reference is None:
            continue
        checked += 1
        try:
            solution = subject.project(d.scores, d.problem)
        except UnsupportedError:
            continue
        error = float(np.abs(solution.scores.double().numpy() - reference.y).max())
        if solution.status in SOLVED and error > subject.capabilities.accuracy_y * max(1.0, float(d.scores.abs().max())):
            fail("undeclared", subject, d, f"neither refused nor right: |y - y*| = {error:.2e}")


def batch_is_loop(subject: Subject) -> None:
    """solve_batch of (B, n) is solve of each row."""
    for number, case in enumerate(subject.raw_cases[:10]):
        rng = np.random.default_rng([subject.seed, number, 3])
        others = [case.scores + torch.from_numpy(rng.normal(size=case.problem.n)) * case.draw.scale for _ in range(2)]
        scores = torch.stack([case.scores, *others])
        try:
            batch = subject.backend.solve_batch(scores.clone(), case.problem)
        except UnsupportedError:
            continue
        if len(batch) != 3:
            fail("batch_is_loop", subject, case.draw, f"{len(batch)} answers to 3 problems")
        for row, answer in zip(scores, batch, strict=True):
            alone = subject.raw(row, case.problem)
            if alone is None or alone.status is not None or answer.status is not None:
                continue
            ours, theirs = (_scores_of(case.problem, row, a.y, a.prices) for a in (alone, answer))
            error = float((ours - theirs).abs().max())
            if not error <= max(slack(subject, case), 1e-6 if not subject.capabilities.exact else 0.0):
                fail("batch_is_loop", subject, case.draw, f"the batch differs from the loop by {error:.2e}")


def infeasible_status(subject: Subject) -> None:
    """Rows that no scores meet: the backend itself says so (INFEASIBLE, or at least not solved), and so does the front door."""
    for d in subject.infeasible:
        try:
            solution = subject.project(d.scores, d.problem)
        except (InfeasibleError, BackendError):
            solution = None
        except UnsupportedError:
            continue
        if solution is not None and solution.status in SOLVED:
            fail("infeasible_status", subject, d, f"an infeasible problem came back {solution.status.name}")
        if not subject.takes_raw(d.problem):
            continue
        try:
            raw = subject.raw(d.scores, d.problem)
        except (InfeasibleError, BackendError):
            continue
        if raw is not None and raw.status is None:
            fail("infeasible_status", subject, d, "the backend's own status says that it solved an infeasible problem")


def not_finite(subject: Subject) -> None:
    """NaN and infinite scores are an InputError."""
    case = subject.cases[0]
    for bad in (float("nan"), float("inf"), -float("inf")):
        scores = case.scores.clone()
        scores[-1] = bad
        try:
            solution = subject.project(scores, case.problem)
        except InputError:
            continue
        fail("not_finite", subject, case.draw, f"a score of {bad} was answered with status {solution.status.name}")


def iteration_limit(subject: Subject) -> None:
    """One iteration is not enough: the backend says so. For backends with an option of that kind."""
    kind = type(subject.backend)
    names = [name for name in LIMIT_NAMES if name in inspect.signature(kind.__init__).parameters]
    if not names:
        return
    try:
        short: Backend = kind(**{names[0]: 1})
    except (InputError, TypeError, ValueError):
        return
    for case in subject.raw_cases[:10]:
        try:
            raw = short.solve(case.scores, case.problem)
        except (UnsupportedError, BackendError):
            continue
        if raw.status is None:
            y = _scores_of(case.problem, case.scores, raw.y, raw.prices)
            error = float(np.abs(y.double().numpy() - case.reference.y).max()) / case.scale
            if not error <= RAW:
                fail("iteration_limit", subject, case.draw, f"{names[0]}=1 left |y - y*| = {error:.1e}, with no status")


def dtype_round_trip(subject: Subject) -> None:
    """Scores come back in the shape, dtype and device they had; float32 agrees with float64; strided input is as good as contiguous."""
    for case in subject.sample:
        exact = subject.answer(case).scores.double()
        for dtype in DTYPES:
            scores = case.scores.to(dtype)
            if not bool(torch.isfinite(scores).all()):
                continue
            y = subject.project(scores, case.problem).scores
            if y.dtype != dtype or y.shape != scores.shape or y.device != scores.device:
                fail(
                    "dtype_round_trip",
                    subject,
                    case.draw,
                    f"{dtype} {tuple(scores.shape)} came back {y.dtype} {tuple(y.shape)} on {y.device}",
                )
            if dtype == torch.float32:
                error = float((y.double() - exact).abs().max())
                spread = 1.0 if case.problem.weights is None else float(case.problem.weights.max() / case.problem.weights.min()) ** 0.5
                if not error <= 2e-5 * spread * case.scale:
                    fail("dtype_round_trip", subject, case.draw, f"float32 differs from float64 by {error:.2e}")
        wide = torch.stack([case.scores, case.scores], dim=1)[:, 0]
        if not torch.equal(subject.project(wide, case.problem).scores.double(), exact):
            fail("dtype_round_trip", subject, case.draw, "a strided tensor gives other scores than a contiguous one")
    _raw_dtype(subject)


def _raw_dtype(subject: Subject) -> None:
    """The backend itself keeps the dtypes that it declares."""
    for name in subject.capabilities.dtypes:
        dtype = getattr(torch, name)
        for case in subject.raw_cases[:5]:
            raw = subject.raw(case.scores.to(dtype), case.problem)
            if raw is not None and raw.y is not None and raw.y.dtype != dtype:
                fail("dtype_round_trip", subject, case.draw, f"declares {name}, but its own answer to {name} is {raw.y.dtype}")


def unknown_options(subject: Subject) -> None:
    """An option that does not exist is an error, not ignored."""
    kind = type(subject.backend)
    try:
        kind(no_such_option_of_this_backend=1)  # type: ignore[call-arg]
    except (TypeError, InputError):
        return
    fail("unknown_options", subject, None, f"{kind.__name__}(no_such_option_of_this_backend=1) was accepted")


def inputs_untouched(subject: Subject) -> None:
    """Neither the scores nor anything in the problem is modified, by the front door or by the backend itself."""
    for case in subject.sample:
        for through in ("front door", "backend itself"):
            scores = case.scores.clone()
            before = [(name, value.copy()) for name, value in _arrays(case.problem)]
            if through == "front door":
                subject.project(scores, case.problem)
            elif subject.takes_raw(case.problem):
                subject.raw(scores, case.problem)
            if not torch.equal(scores, case.scores):
                fail("inputs_untouched", subject, case.draw, f"the scores were modified by the {through}")
            for (name, old), (_, new) in zip(before, _arrays(case.problem), strict=True):
                if not np.array_equal(old, new, equal_nan=old.dtype.kind == "f"):
                    fail("inputs_untouched", subject, case.draw, f"{name} was modified by the {through}")


def _arrays(holder: object, prefix: str = "problem") -> Iterator[tuple[str, np.typing.NDArray[np.generic]]]:
    """All arrays and tensors in the fields of a problem, named."""
    assert is_dataclass(holder)
    for field in fields(holder):
        value = getattr(holder, field.name)
        for k, item in enumerate(value if isinstance(value, tuple) else (value,)):
            name = f"{prefix}.{field.name}" + (f"[{k}]" if isinstance(value, tuple) else "")
            if isinstance(item, Tensor):
                yield name, item.numpy()
            elif isinstance(item, np.ndarray):
                yield name, item
            elif field.name == "rows":
                yield from _arrays(item, name)


def _takes(subject: Subject, scores: Tensor, problem: ProjectionProblem) -> bool:
    try:
        subject.project(scores, problem)
    except UnsupportedError:
        return False
    return True


def _scores_of(problem: ProjectionProblem, scores: Tensor, y: Tensor | None, prices: Array | None) -> Tensor:
    """The scores of a raw answer; from its prices where it has none."""
    if y is not None:
        return y.detach().double()
    assert prices is not None
    z = scores.double() - (problem.rows.matrix().T @ torch.from_numpy(prices)) / (1.0 if problem.weights is None else problem.weights)
    low, high = (torch.as_tensor(b, dtype=torch.float64, device="cpu") for b in (problem.lb, problem.ub))
    return torch.minimum(torch.maximum(z, low), high)
