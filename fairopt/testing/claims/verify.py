"""Which claims hold for a user's own backend or notion, and the run behind ``fairopt verify``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np

from fairopt.errors import FairoptError, InputError, UnsupportedError
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
    unknown = set(claims) - set(CHECKS)
    if unknown:
        raise InputError(f"claims: got {sorted(unknown)}, expected some of {', '.join(CHECKS)}")
    for name, (_, _, own) in CHECKS.items():
        if (not claims or name in claims) and not (own and layer.notion is not None):
            yield check_claim(name, layer, instances=instances, seed=seed)
