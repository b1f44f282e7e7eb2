"""One cell, measured inside its worker: times, peak memory, and the numbers that the judge compares."""

from __future__ import annotations

import gc
import re
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from fairopt.basics.arrays import Array
from fairopt.basics.errors import FairoptWarning, MissingExtraError, UnsupportedError
from fairopt.contract.backend import Backend
from fairopt.contract.problem import ProjectionProblem
from fairopt.contract.ranges_as_pairs import as_pairs, untaken
from fairopt.contract.registry import BackendLike, resolve
from fairopt.layer.classes import PreparedClasses
from fairopt.layer.prepared import Prepared
from fairopt.race import memory
from fairopt.race.cells import Cell
from fairopt.race.draw import VARIANTS, Drawn, draw, in_positions
from fairopt.race.settings import Settings
from fairopt.testing.optimality import written_out
from fairopt.testing.score_map import ScoreMap

# ok: an answer came back (its status says how good); absent: not installed; broken: fails at import; unsupported: declared so;
# error: raised; memory, time: beyond its limit; crashed: the process died; skipped: a smaller problem of the kind had no time or memory.
Outcome = Literal["ok", "absent", "broken", "unsupported", "error", "memory", "time", "crashed", "skipped"]
_LEAST = 3  # timed calls, unless one takes more than all the time there is
_NO_MEMORY = ("can't allocate memory", "not enough memory", "Unable to allocate", "bad_alloc", "Cannot allocate memory")


@dataclass
class Measured:
    """What a worker sends back. Seconds, bytes; ``y``, ``gradient`` through the front door, ``raw`` by the solver alone: one number a
    position of the problem."""

    outcome: Outcome
    message: str = ""
    status: str = ""
    iterations: int = 0
    setup: float | None = None
    forward: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)
    solver: list[float] = field(default_factory=list)
    memory: int | None = None
    y: Array | None = None
    gradient: Array | None = None
    raw: Array | None = None
    fingerprint: str = ""


def measure(cell: Cell, like: BackendLike, settings: Settings, base: int) -> Measured:
    """Measure a cell; ``base``: resident bytes after import. Whatever the backend raises becomes the outcome."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FairoptWarning)  # the status says it
            return _measured(cell, like, settings, base)
    except Exception as error:  # noqa: BLE001 - a backend may raise anything, and the race goes on
        return failed(error)


def failed(error: Exception) -> Measured:
    """The outcome that an exception stands for, with its type, its words and the line it came from."""
    words = re.sub(r", problem [0-9a-f]{64}", "", f"{type(error).__name__}: {error}".strip())  # one failure in many cells is one line
    if isinstance(error, MissingExtraError):
        return Measured("absent", str(error))
    if isinstance(error, UnsupportedError):
        return Measured("unsupported", str(error))
    if isinstance(error, MemoryError) or any(said in words for said in _NO_MEMORY):
        return Measured("memory", words)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename.replace(chr(92), '/').rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    return Measured("error", f"{words}{where}")


def _measured(cell: Cell, like: BackendLike, settings: Settings, base: int) -> Measured:
    drawn = draw(cell.subject, settings.seed)
    gc.collect()
    memory.reset()
    start = time.perf_counter()
    prepared = drawn.prepare()
    x, solution = _forward(prepared, cell, like, drawn.scores[0])
    solution.scores.backward(drawn.cotangent)
    setup = time.perf_counter() - start
    assert x.grad is not None
    status = "VACUOUS" if solution.certificate.vacuous else solution.status.name
    found = Measured("ok", solution.message, status, solution.iterations, setup)
    found.fingerprint = drawn.fingerprint
    found.y, found.gradient = in_positions(solution.scores.detach()).numpy(), in_positions(x.grad).numpy()
    if not (torch.isfinite(solution.scores).all() and torch.isfinite(x.grad).all()):
        return Measured("error", "returned NaN or infinity", solution.status.name)
    found.forward, found.backward = _timed(prepared, cell, like, drawn, settings)
    found.memory = max(memory.peak() - base, 0)
    backend = resolve(like)
    found.raw, found.solver = _alone(backend, drawn.problem(prepared), drawn, settings)
    return found


def _forward(prepared: Prepared | PreparedClasses, cell: Cell, like: BackendLike, scores: Tensor) -> tuple[Tensor, Any]:
    x = scores.clone().requires_grad_(True)
    return x, prepared.project(x, backend=like, gradient=cell.gradient, return_solution=True)


def _timed(
    prepared: Prepared | PreparedClasses, cell: Cell, like: BackendLike, drawn: Drawn, settings: Settings
) -> tuple[list[float], list[float]]:
    """Seconds of each forward and each backward call."""
    forward: list[float] = []
    backward: list[float] = []

    def once(k: int) -> None:
        x = drawn.scores[1 + k % VARIANTS].clone().requires_grad_(True)
        start = time.perf_counter()
        y = prepared.project(x, backend=like, gradient=cell.gradient)
        middle = time.perf_counter()
        torch.autograd.backward(y, drawn.cotangent)
        end = time.perf_counter()
        forward.append(middle - start)
        backward.append(end - middle)

    _repeat(once, settings)
    return forward, backward


def _alone(backend: Backend, problem: ProjectionProblem, drawn: Drawn, settings: Settings) -> tuple[Array | None, list[float]]:
    """The solver's own answer to the judged scores, before the front door polishes it, and seconds of ``solve`` by itself."""
    name = drawn.subject.dtype
    table = drawn.scores if name in backend.capabilities.dtypes else drawn.scores.double()
    scores = torch.stack([in_positions(one) for one in table])
    others = untaken(problem, backend.capabilities)
    if others:
        problem = as_pairs(problem, others).problem  # as the front door does
    seconds: list[float] = []

    def once(k: int) -> None:
        start = time.perf_counter()
        backend.solve(scores[1 + k % VARIANTS], problem)
        seconds.append(time.perf_counter() - start)

    first = backend.solve(scores[0], problem)
    _repeat(once, settings)
    if first.y is not None:
        return first.y.detach().double().cpu().numpy(), seconds
    if first.prices is None:
        return None, seconds
    return ScoreMap(problem, written_out(problem), scores[0].double().numpy()).at(first.prices)[0], seconds


def _repeat(once: Callable[[int], None], settings: Settings) -> None:
    """Call until the repeats or the seconds are used up; without the garbage collector, as timeit does."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        for k in range(settings.repeats):
            once(k)
            spent = time.perf_counter() - start
            if spent > settings.seconds and (k + 1 >= _LEAST or spent > _LEAST * settings.seconds):
                return
    finally:
        gc.enable()
