"""Which claims hold for a user's own backend or notion, and the run behind ``fairopt verify``."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from fairopt.basics.errors import FairoptError, InputError, UnsupportedError
from fairopt.contract import BackendLike
from fairopt.notions import Notion
from fairopt.testing.claims import closed, jacobian, prices, projection, rounding, tolerance
from fairopt.testing.claims.measurement import Measurement
from fairopt.testing.claims.subject import Generator, Layer

_NUMBERS = 10
Check = Callable[[Generator, Layer], Measurement]

# name -> (what it says, check, whether it brings its own notion)
CHECKS: dict[str, tuple[str, Check, bool]] = {
    "L1": ("the answer is the one nearest feasible point", projection.check_unique, False),
    "L3": ("no two inputs are moved apart", projection.check_non_expansive, False),
    "L4": ("the derivative is the projector on the active face", jacobian.check_projector, False),
    "L5": ("backpropagation amplifies nothing", jacobian.check_stable_gradient, False),
    "L6": ("two groups: the closed form", closed.check_two_groups, True),
    "L7": ("many groups: the closed form", closed.check_many_groups, True),
    "L8": ("prices give the scores and the derivative of the cost", prices.check_prices, False),
    "L9": ("softness: violation and distance are bounded by the prices", prices.check_softness, False),
    "L11": ("the implicit gradient equals central differences", jacobian.check_implicit_gradient, False),
    "L12": ("CERTIFIED rows hold exactly", rounding.check_certified, False),
    "N3": ("the cost is convex in the tolerance", tolerance.check_cost_of_fairness, False),
}


@dataclass(frozen=True)
class Outcome:
    """One claim on one subject: how many instances, the worst of them (replayed by ``seed`` and ``number``), or why it was left out."""

    claim: str
    says: str
    instances: int
    worst: Measurement | None
    number: int
    skipped: str = ""

    @property
    def holds(self) -> bool:
        return self.worst is None or self.worst.holds


def instance_rng(claim: str, seed: int, number: int) -> Generator:
    """The random numbers of one instance: claim, seed and number rebuild it."""
    return np.random.default_rng([seed, number, *claim.encode()])


def check_claim(claim: str, layer: Layer, *, instances: int, seed: int) -> Outcome:
    """Run one claim until ``instances`` were measured. Problems that the backend refuses, or that the claim is not about, do not
    count; after ten times as many numbers the rest is left out, and ``skipped`` says why, in the words of the backend or of the claim.
    """
    says, check, _ = CHECKS[claim]
    top: Measurement | None = None
    at = done = 0
    refusal = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an inaccurate answer warns; here it is measured
        for number in range(_NUMBERS * instances):
            try:
                found = check(instance_rng(claim, seed, number), layer)
            except UnsupportedError as error:
                refusal = f"left out: {error}"
                continue
            except FairoptError as error:
                found = Measurement(float("inf"), 0.0, note=f"{type(error).__name__}: {error}")
            done += 1
            if top is None or (not found.holds, found.ratio) > (not top.holds, top.ratio):
                top, at = found, number
            if not found.holds or done == instances:
                return Outcome(claim, says, done, top, at)
    return Outcome(claim, says, done, top, at, refusal)


def verify(layer: Layer, *, claims: Collection[str] = (), instances: int = 100, seed: int = 0) -> Iterator[Outcome]:
    """All claims that apply to ``layer`` (or those named), one Outcome each. Raises InputError for an unknown name."""
    for name in applying(claims, layer.notion is not None):
        yield check_claim(name, layer, instances=instances, seed=seed)


def applying(claims: Collection[str], with_notion: bool) -> list[str]:
    """The claims of ``claims`` (all, if empty) that apply; those that bring their own notion do not apply to a given one."""
    unknown = sorted(set(claims) - set(CHECKS))
    if unknown:
        raise InputError(f"claims: got {', '.join(unknown)}, expected some of {', '.join(CHECKS)}")
    return [name for name, (_, _, own) in CHECKS.items() if (not claims or name in claims) and not (own and with_notion)]


def verify_apart(
    backend: BackendLike, notion: Notion | None, *, claims: Collection[str] = (), instances: int = 100, seed: int = 0
) -> Iterator[Outcome]:
    """As ``verify`` of a backend that can be sent, in a process of its own.

    A backend that aborts, or raises what is no error of fairopt's, fails the claim that was being measured; the finished ones are kept, and
    the rest goes on in another process.
    """
    worker: ProcessPoolExecutor | None = None
    try:
        for name in applying(claims, notion is not None):
            worker = worker or ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_start, initargs=(list(sys.path),))
            try:
                yield worker.submit(_checked_apart, name, backend, notion, instances, seed).result()
            except BrokenProcessPool:
                worker.shutdown()
                worker = None
                yield _broken(name, "the process was aborted while this claim was measured")
    finally:
        if worker is not None:
            worker.shutdown()


def _start(path: list[str]) -> None:
    """The parent's module path in the worker: a notion of the working directory is imported there too."""
    sys.path[:] = path


def _checked_apart(name: str, backend: BackendLike, notion: Notion | None, instances: int, seed: int) -> Outcome:
    try:
        return check_claim(name, Layer(backend, notion), instances=instances, seed=seed)
    except Exception as error:  # noqa: BLE001 - a stranger's code may raise anything, and the claim then fails with its words
        return _broken(name, "".join(traceback.format_exception_only(error)).strip())


def _broken(name: str, words: str) -> Outcome:
    return Outcome(name, CHECKS[name][0], 0, Measurement(float("inf"), 0.0, note=words), 0)
