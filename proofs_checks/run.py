"""Running claims: instances, mutants, exact proofs, tight instances; in parallel, and the same numbers however many workers there are."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from typing import Any

from proofs_checks.claim import ERRORS, Claim, Measurement
from proofs_checks.registry import claim_named

CHUNK = 25
MUTANT_TRIES = 200
DEVIATION_TRIES = 60  # a size
SMALL = 0.5  # a bound must be reached to this share
SIZES = (0.1, 0.03, 0.01, 3e-3, 1e-3, 1e-4, 1e-6)  # of a deviation, until one is not noticed
ALIVE, BY_SEARCH = -1, -2  # a mutant that no instance kills; one that the instance of the search kills


@dataclass
class Result:
    """One claim's run. ``points``: (measured, bound) of the instances; ``mutants``: name -> instance that kills it, or ALIVE or BY_SEARCH;
    ``noticed``: deviation -> the least of ``SIZES`` that the check notices, 0 where not even a tenth is."""

    name: str
    title: str
    kind: str
    whose: str
    seed: int
    instances: int = 0
    ratio: float = 0.0
    worst: dict[str, Any] = field(default_factory=dict)
    worst_number: int = -1
    failures: list[int] = field(default_factory=list)
    tight: dict[str, Any] | None = None
    exact: str = ""
    exact_seconds: float = 0.0
    mutants: dict[str, int] = field(default_factory=dict)
    noticed: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    points: list[tuple[float, float]] = field(default_factory=list)
    loose: str = ""

    @property
    def killed(self) -> int:
        return sum(at != ALIVE for at in self.mutants.values())

    @property
    def smallest(self) -> str:
        """The smallest deviation noticed, and the one of which most is needed, in words; "" where none was tried."""
        found = {what: size for what, size in self.noticed.items() if size > 0}
        if not found:
            return ""
        least, most = (choose(found, key=lambda name: found[name]) for choose in (min, max))
        words = f"{least} {found[least]:.2g}"
        return words if found[least] == found[most] else f"{words}; {most} {found[most]:.2g}"

    @property
    def best(self) -> float:
        """The share of the bound that was reached, by search or by the instances."""
        return max(self.ratio, 0.0 if self.tight is None else float(self.tight["ratio"]))

    @property
    def troubles(self) -> list[str]:
        out = []
        if self.failures:
            out.append(f"fails at instance {self.failures[0]} of {len(self.failures)} failures")
        out += [f"mutant alive: {name}" for name, at in self.mutants.items() if at == ALIVE]
        out += [f"a tenth is not noticed: {what}" for what, size in self.noticed.items() if not size > 0]
        if self.tight is not None and not self.tight["holds"]:
            out.append("the tight instance breaks the bound")
        if self.kind == "bound" and self.best < SMALL and not self.loose:
            out.append(f"only {self.best:.2f} of the bound is reached, and the page does not say why")
        if self.exact not in ("", "proved"):
            out.append(f"z3: {self.exact}")
        return out

    @property
    def verdict(self) -> str:
        return "; ".join(self.troubles) or "holds"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict}


Chunk = tuple[list[tuple[int, Measurement]], float]


def _quiet() -> None:
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")


def _instances(name: str, seed: int, first: int, stop: int) -> Chunk:
    claim, start = claim_named(name), time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [(k, claim.measure(seed, k)) for k in range(first, stop)], time.perf_counter() - start


def kills(claim: Claim, mutant: str, seed: int, tries: int = MUTANT_TRIES) -> int:
    """The first instance on which the check fails for the mutant; BY_SEARCH or ALIVE where none of ``tries`` does."""
    return failure(claim, claim.mutants[mutant], seed, tries)


def failure(claim: Claim, part: Any, seed: int, tries: int) -> int:
    """The first instance on which the check fails for ``part``; BY_SEARCH where the instance of the search alone does, ALIVE where none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if claim.tight is not None and tries and not _tight(claim, part).holds:
            return BY_SEARCH
        for k in range(tries):
            if not claim.measure(seed, k, part).holds:
                return k
    return ALIVE


def _tight(claim: Claim, part: Any) -> Measurement:
    assert claim.tight is not None
    try:
        return claim.tight(part)
    except ERRORS as error:
        return Measurement(float("inf"), 0.0, note=f"{type(error).__name__}: {error}")


def least_noticed(make: Callable[[float], Any], claim: Claim, seed: int, tries: int) -> float:
    """The least of ``SIZES``, from the largest on, at which the check still fails; 0 where it never does."""
    found = 0.0
    for size in SIZES:
        if failure(claim, make(size), seed, tries) == ALIVE:
            break
        found = size
    return found


Rest = tuple[dict[str, int], dict[str, float], str, float, dict[str, Any] | None, float]


def _rest(name: str, seed: int, tries: int, exact: bool) -> Rest:
    """Mutants, deviations, exact proof and tight instance of one claim."""
    claim, start = claim_named(name), time.perf_counter()
    mutants = {m: kills(claim, m, seed, tries) for m in claim.mutants}
    noticed = (
        {what: least_noticed(make, claim, seed, min(tries, DEVIATION_TRIES)) for what, make in claim.deviations.items()} if tries else {}
    )
    words, seconds = "", 0.0
    if claim.exact is not None and exact:
        begun = time.perf_counter()
        proved = claim.exact.prove(False)
        seconds = time.perf_counter() - begun
        words = "not proved" if not proved else "also proves the broken formula" if claim.exact.prove(True) else "proved"
    tight = None
    if claim.tight is not None:
        m = claim.tight(claim.part)
        tight = {"measured": m.measured, "bound": m.bound, "ratio": m.ratio, "holds": m.holds, "note": m.note}
    return mutants, noticed, words, seconds, tight, time.perf_counter() - start


def run(
    claims: Sequence[Claim],
    *,
    instances: int,
    seed: int,
    workers: int = 2,
    tries: int = MUTANT_TRIES,
    exact: bool = True,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> list[Result]:
    """Every claim with at most ``instances`` of its instances. ``progress(claim, jobs done, jobs in all)``."""
    results = {c.name: Result(c.name, c.title, c.kind, c.whose, seed, loose=c.loose) for c in claims}
    jobs: list[tuple[str, tuple[Any, ...]]] = [(c.name, (_rest, c.name, seed, tries, exact)) for c in claims]
    for c in claims:
        total = min(instances, c.instances)
        jobs += [(c.name, (_instances, c.name, seed, k, min(total, k + CHUNK))) for k in range(0, total, CHUNK)]
    if workers <= 1:
        _quiet()
        for done, (name, (function, *arguments)) in enumerate(jobs, start=1):
            _collect(results[name], function(*arguments))
            progress(name, done, len(jobs))
    else:
        _parallel(jobs, results, workers, progress)
    for r in results.values():
        r.failures.sort()
    return [results[c.name] for c in claims]


def _parallel(
    jobs: list[tuple[str, tuple[Any, ...]]], results: dict[str, Result], workers: int, progress: Callable[[str, int, int], None]
) -> None:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_quiet) as pool:
        open_jobs: dict[Future[Any], str] = {pool.submit(function, *arguments): name for name, (function, *arguments) in jobs}
        done = 0
        while open_jobs:
            ready, _ = wait(open_jobs, return_when=FIRST_COMPLETED)
            for future in ready:
                name = open_jobs.pop(future)
                _collect(results[name], future.result())
                done += 1
                progress(name, done, len(jobs))


def _collect(result: Result, found: Any) -> None:
    if len(found) == 6:
        result.mutants, result.noticed, result.exact, result.exact_seconds, result.tight, seconds = found
        result.seconds += seconds
        return
    measured, seconds = found
    result.seconds += seconds
    for number, m in measured:
        result.instances += 1
        result.points.append((m.measured, m.bound))
        if not m.holds:
            result.failures.append(number)
        if result.worst_number < 0 or (m.ratio, -number) > (result.ratio, -result.worst_number):
            result.ratio, result.worst_number = m.ratio, number
            result.worst = {"measured": m.measured, "bound": m.bound, "note": m.note}
