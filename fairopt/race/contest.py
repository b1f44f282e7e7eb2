"""``compare``: run the cells, one worker process a backend, and keep every finished one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fairopt.basics.errors import FairoptError, InputError
from fairopt.basics.finished_cells import Record
from fairopt.contract.backend import Backend
from fairopt.contract.registry import BackendLike, check_declared, installed, load
from fairopt.race.cells import PACE, PRESETS, Cell, Grid, cells
from fairopt.race.machine import machine, versions, without_paths
from fairopt.race.result import Race
from fairopt.race.settings import Settings
from fairopt.race.store import Store

Contestants = Mapping[str, BackendLike] | Sequence[BackendLike]
# Found at start, before anything is measured: cheap to try again, and perhaps installed by then.
_RETRIED = {"absent", "broken"}


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` cells are finished; ``backend``: the one whose turn it is; ``record``: the last finished cell, if any.

    Examples:
        >>> from fairopt.race import Progress
        >>> told = []
        >>> on_progress = told.append
        >>> on_progress(Progress(1, 4, "dual_newton"))
        >>> told[0].done, told[0].total
        (1, 4)
    """

    done: int
    total: int
    backend: str
    record: Record | None = None


def compare(
    backends: Contestants | None = None,
    *,
    preset: str | None = None,
    notions: Sequence[str] = ("demographic_parity",),
    n: Sequence[int] = (64, 1024),
    groups: Sequence[int] = (2,),
    dtypes: Sequence[str] = ("float64",),
    boxes: Sequence[str] | None = None,
    gradients: Sequence[str] = ("implicit",),
    distances: Sequence[str] = ("squared",),
    classes: Sequence[int] = (1,),
    finished: str | Path | None = None,
    settings: Settings | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Race:
    """Race backends on drawn problems, each in a process of its own on one thread, and judge every answer against a reference.

    backends   names, classes or instances, or a mapping label -> one of these; None: all that are installed, families member by member
    preset     "quick", "kinds" (of distances and outputs) or "full", in place of the grid that the next eight arguments span
    notions    of demographic_parity, equal_opportunity, equalized_odds, two_attributes, mean_residual, impact_ratio (tolerance 0.05)
    n, groups  samples and groups;  dtypes  float64, float32;  gradients  implicit, native
    boxes      none, inactive, active; by default none and active
    distances  squared, or kl for probabilities;  classes  1: one score a sample; more: class probabilities, which have no other box
    finished   a file of finished cells: a race that was stopped goes on from it. Written cell by cell
    on_progress  is told of each cell when it is over, and of how many there are
    settings   repeats, seconds a cell, limits of time and memory, seed; by default the preset's pace

    A backend that is absent, broken at import, raises, dies or exceeds a limit is recorded as that. Workers are spawned: a script calls
    this under ``if __name__ == "__main__"``. Raises InputError for bad arguments and for a file of other settings. Source: DESIGN 3.

    Examples:
        >>> settings = fo.race.Settings(repeats=3, seconds=0.01)
        >>> race = fo.compare(["closed_form"], n=[8], boxes=["none"], settings=settings)
        >>> race.table()["outcome"], len(race.failures())
        (('ok',), 0)
    """
    contestants = named(backends)
    if preset is None:
        chosen = (notions, n, groups, dtypes, boxes, gradients, distances, classes)
        grids: Iterable[Grid] = [Grid(*(None if values is None else tuple(values) for values in chosen))]  # type: ignore[arg-type]
    elif preset in PRESETS:
        grids = PRESETS[preset]
    else:
        raise InputError(f"preset: got {preset!r}, expected one of {', '.join(PRESETS)}")
    wanted = cells(list(contestants), grids)
    if settings is None:
        seconds, limit = PACE[preset]
        settings = Settings(seconds=seconds, time_limit=limit)
    path = None if finished is None else Path(finished)
    with Store(path, settings, machine(), versions()) as store:
        _run(contestants, wanted, store, settings, on_progress or _silent)
        return Race(tuple(store.records[cell] for cell in wanted), store.header)


def named(backends: Contestants | None) -> dict[str, BackendLike]:
    """Label -> backend. InputError for an unknown name, a label that comes twice, or what cannot be sent to another process."""
    from fairopt.race.worker import check_sendable

    if backends is None:
        return {name: name for name in everyone()}
    if isinstance(backends, str) or not isinstance(backends, (Mapping, Sequence)):
        raise InputError(f"backends: got {backends!r}, expected a list of names, classes or instances, or a mapping label -> backend")
    pairs = list(backends.items()) if isinstance(backends, Mapping) else [(_label(like), like) for like in backends]
    found: dict[str, BackendLike] = {}
    for label, like in pairs:
        if label in found:
            raise InputError(f"backends: two of them are called {label!r}, expected a mapping label -> backend")
        if isinstance(like, str) and like.partition(":")[0] not in installed():
            raise InputError(f"backends: got {like!r}, expected some of {', '.join(installed()) or '(none installed)'}")
        if isinstance(like, str):
            _check_member(like)
        check_sendable(label, like)
        found[label] = like
    return found


def _check_member(name: str) -> None:
    """InputError where ``family:member`` names a member that the family, which is installed, has not."""
    family, colon, member = name.partition(":")
    try:
        members = load(family).members if colon else ()
    except (FairoptError, SystemExit):  # its cells will say why
        return
    if colon and member not in members:
        raise InputError(f"backends: got {name!r}, expected one of {', '.join(f'{family}:{m}' for m in members) or family}")


def everyone() -> list[str]:
    """Every installed backend, families member by member. One that cannot be loaded keeps its name: its cells will say why."""
    names: list[str] = []
    for name in installed():
        try:
            members = load(name).members
        except (FairoptError, SystemExit):
            members = ()
        names.extend(f"{name}:{member}" for member in members) if members else names.append(name)
    return names


def _label(like: BackendLike) -> str:
    if isinstance(like, str):
        return like
    if isinstance(like, Backend) or (isinstance(like, type) and issubclass(like, Backend)):
        check_declared(like)
        return like.name
    raise InputError(f"backends: got {like!r}, expected a name, a Backend class or an instance")


def _silent(_: Progress) -> None:
    """Nobody watches."""


def _run(
    contestants: Mapping[str, BackendLike], wanted: list[Cell], store: Store, settings: Settings, tell: Callable[[Progress], None]
) -> None:
    from fairopt.race.judge import Judge

    judge = Judge(settings.seed)
    done = 0
    for label, like in contestants.items():
        turn = _Turn(label, like, settings, judge)
        tell(Progress(done, len(wanted), label))
        try:
            for cell in (c for c in wanted if c.backend == label):
                record = store.records.get(cell)
                if record is None or record["outcome"] in _RETRIED:
                    record = turn.take(cell)
                    store.add(cell, record)
                else:
                    turn.remember(cell, record["outcome"])
                done += 1
                tell(Progress(done, len(wanted), label, record))
        finally:
            turn.end()


class _Turn:
    """One backend's turn: its worker, started when a cell is to be measured and again after a failure."""

    def __init__(self, label: str, like: BackendLike, settings: Settings, judge: Any) -> None:
        self.label, self.like, self.settings, self.judge = label, like, settings, judge
        self.worker: Any = None
        self.import_seconds: float | None = None
        self.unusable: Any = None
        self.given_up: dict[tuple[object, ...], tuple[int, str]] = {}

    def remember(self, cell: Cell, outcome: str) -> None:
        """Larger problems of a kind that ran out of time or memory are not tried."""
        if outcome in ("time", "memory"):
            self.given_up[_kind(cell)] = (cell.subject.n, outcome)

    def take(self, cell: Cell) -> Record:
        """Measure and judge a cell; every way to fail becomes its outcome."""
        from fairopt.race.measure import Measured

        smaller = self.given_up.get(_kind(cell))
        if smaller is not None and smaller[0] < cell.subject.n:
            measured = Measured("skipped", f"n = {smaller[0]} was beyond the limit of {smaller[1]}")
        else:
            measured = self._measure(cell)
        self.remember(cell, measured.outcome)
        return self._record(cell, measured)

    def _measure(self, cell: Cell) -> Any:
        from fairopt.race.measure import Measured
        from fairopt.race.worker import START_LIMIT, Dead, Slow, Worker

        if self.unusable is not None:
            return self.unusable
        limit, what = START_LIMIT, "importing the backend"
        try:
            if self.worker is None:
                worker = Worker(self.like, self.settings)
                self.import_seconds = worker.import_seconds
                if worker.unusable is not None:
                    self.unusable = worker.unusable
                    worker.stop()
                    return self.unusable
                self.worker = worker
            limit, what = self.settings.time_limit, "the cell"
            return self.worker.measure(cell, limit)
        except Dead as death:
            self.end()
            return Measured("crashed", str(death) if what == "the cell" else f"{what}: {death}")
        except Slow:
            self.end()
            return Measured("time", f"{what} took more than {limit:g} s")

    def _record(self, cell: Cell, measured: Any) -> Record:
        judged = self.judge.judge(cell.subject, measured) if measured.outcome == "ok" else None
        return {
            **cell.to_dict(), "outcome": measured.outcome, "status": measured.status, "message": without_paths(measured.message),
            "iterations": measured.iterations, "import_seconds": self.import_seconds, "setup_seconds": measured.setup,
            "forward_seconds": measured.forward, "backward_seconds": measured.backward, "solver_seconds": measured.solver,
            "memory_bytes": measured.memory,
            "violation": judged and judged.violation, "y_error": judged and judged.y_error,
            "solver_y_error": judged and judged.solver_y_error, "gradient_error": judged and judged.gradient_error,
            "reference": judged and judged.reference,
        }  # fmt: skip

    def end(self) -> None:
        if self.worker is not None:
            self.worker.stop()
            self.worker = None


def _kind(cell: Cell) -> tuple[object, ...]:
    subject = cell.subject
    return replace(subject, n=0), cell.gradient
