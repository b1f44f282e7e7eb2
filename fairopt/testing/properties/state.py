"""Is it a value? Calls do not remember one another, threads do not disturb one another, and nothing global changes."""

from __future__ import annotations

import csv
import itertools
import os
import random
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.errors import BackendError, UnsupportedError
from fairopt.contract.backend import GradientKind
from fairopt.contract.problem import ProjectionProblem
from fairopt.testing.oracle import solve_reference
from fairopt.testing.properties.accuracy import SOLVED
from fairopt.testing.subject import Case, Subject, fail, limit_step, moved, slack

THREADS = 4


def same_bits(subject: Subject) -> None:
    """The same call twice gives the same bits."""
    for case in subject.sample[:10]:
        first, second = (subject.project(case.scores, case.problem).scores for _ in range(2))
        if not torch.equal(first, second):
            fail("same_bits", subject, case.draw, f"the second call differs by {float((first - second).abs().max()):.2e}")
    for case in subject.raw_cases[:8]:
        raws = [subject.raw(case.scores, case.problem) for _ in range(2)]
        ys = [raw.y for raw in raws if raw is not None and raw.y is not None]
        if len(ys) == 2 and not torch.equal(*ys):
            fail("same_bits", subject, case.draw, f"the backend's own second answer differs by {float((ys[0] - ys[1]).abs().max()):.2e}")


def stale_cache(subject: Subject) -> None:
    """Problems of one size, or one problem with other limits, are not mistaken for each other.

    Moved limits can be all but contradictory: a backend that says itself that it did not solve them has mistaken nothing.
    """
    for number, case in enumerate(subject.sample):
        subject.project(case.scores, case.problem)
        direction, _ = limit_step(case, subject.seed + number)
        for step in (0.02, -0.01):
            limits = moved(case.problem.limits(), direction, step * case.draw.scale)
            if bool((limits.lower <= limits.upper).all()) and bool((limits.width >= 0).all()):
                _agrees(subject, case, case.problem.with_limits(limits))
    by_size: dict[int, Case] = {}
    for case in subject.cases:
        known = by_size.setdefault(case.problem.n, case)
        if known is not case:
            subject.project(known.scores, known.problem)
            _agrees(subject, case, case.problem)


def _agrees(subject: Subject, case: Case, problem: ProjectionProblem) -> None:
    try:
        reference = solve_reference(case.scores.numpy(), problem)
    except BackendError:
        return  # the limits moved out of reach
    if not reference.accepted:
        return
    try:
        solution = subject.project(case.scores, problem)
    except UnsupportedError:
        return
    error = float(np.abs(solution.scores.double().numpy() - reference.y).max())
    if not error <= slack(subject, case):
        raw = subject.raw(case.scores, problem) if solution.status not in SOLVED and subject.takes_raw(problem) else None
        if raw is not None and raw.status is not None:
            return
        fail("stale_cache", subject, case.draw, f"after a call with other limits or rows of the same size, |y - y*| = {error:.2e}")


def interleaved(subject: Subject) -> None:
    """Two layers in turn give what each gives alone, gradients included: both forward passes come before either backward pass."""
    for kind in subject.capabilities.gradients:
        for pair in itertools.pairwise(subject.generic[:6]):
            alone = [_with_gradient(subject, case, kind) for case in pair]
            inputs = [case.scores.clone().requires_grad_(True) for case in pair]
            outputs = [subject.project(z, case.problem, gradient=kind).scores for z, case in zip(inputs, pair, strict=True)]
            for case, z, y, (old_y, old_g) in zip(pair, inputs, outputs, alone, strict=True):
                (g,) = torch.autograd.grad(y.sum(), z)
                if not (torch.equal(y.detach(), old_y) and torch.equal(g, old_g)):
                    fail("interleaved", subject, case.draw, f"two layers in turn disturb each other (gradient={kind!r})")


def threads(subject: Subject) -> None:
    """Four threads at once give the sequential answers, bit for bit."""
    jobs = list(subject.sample[:10]) * 2
    sequential = [subject.answer(case).scores for case in jobs]
    with ThreadPoolExecutor(THREADS) as pool:
        parallel = list(pool.map(lambda case: subject.project(case.scores, case.problem).scores, jobs))
    for case, a, b in zip(jobs, sequential, parallel, strict=True):
        if not torch.equal(a, b):
            fail("threads", subject, case.draw, f"in {THREADS} threads the answer differs by {float((a - b).abs().max()):.2e}")


def history(subject: Subject) -> None:
    """An answer does not depend on what was asked before."""
    cases = subject.sample[:10]
    forward = [subject.answer(case).scores for case in cases]
    backward = [subject.project(case.scores, case.problem).scores for case in reversed(cases)][::-1]
    for case, a, b in zip(cases, forward, backward, strict=True):
        if not torch.equal(a, b):
            fail("history", subject, case.draw, f"asked in another order the answer differs by {float((a - b).abs().max()):.2e}")


def global_state(subject: Subject) -> None:
    """Default dtype, threads, random numbers, error handling, environment and working folder are as they were."""
    for case in subject.cases[:5]:
        subject.project(case.scores, case.problem)  # a solver's first import may set things up once
        before = _snapshot()
        subject.project(case.scores, case.problem)
        for (name, old), new in zip(before.items(), _snapshot().values(), strict=True):
            if old != new:
                fail("global_state", subject, case.draw, f"a call changes {name}")


def _snapshot() -> dict[str, object]:
    return {
        "torch's default dtype": torch.get_default_dtype(),
        "torch's thread count": torch.get_num_threads(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's random state": bytes(torch.get_rng_state().numpy()),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "numpy's random state": repr(np.random.get_state()),  # noqa: NPY002 - the legacy state is global, which is the point
        "numpy's error handling": np.geterr(),
        "numpy's print options": repr(np.get_printoptions()),
        "Python's random state": random.getstate(),
        "csv's field limit": csv.field_size_limit(),
        "Python's recursion limit": sys.getrecursionlimit(),
        "the environment": dict(os.environ),
        "the working folder": os.getcwd(),
    }


def _with_gradient(subject: Subject, case: Case, kind: GradientKind) -> tuple[Tensor, Tensor]:
    z = case.scores.clone().requires_grad_(True)
    y = subject.project(z, case.problem, gradient=kind).scores
    (g,) = torch.autograd.grad(y.sum(), z)
    return y.detach(), g
