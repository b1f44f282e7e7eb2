"""The process of one backend: imports it, says so, then measures cell after cell. ``Worker`` is its handle in the parent."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import tempfile
import time
import warnings
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairopt.basics.errors import BackendError, InputError, MissingExtraError
from fairopt.contract.registry import BackendLike, absent, load
from fairopt.race.cells import Cell
from fairopt.race.settings import Settings

if TYPE_CHECKING:
    from fairopt.race.measure import Measured

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1")
START_LIMIT = 120.0  # seconds for a process to import torch and its solver


def main(connection: Connection, like: BackendLike, settings: Settings, log: str) -> None:
    """The worker's life: ("ready", import seconds) or ("unusable", Measured), then a Measured for each Cell, until None comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is the parent's business
    _quiet(log)
    import torch

    from fairopt.race import memory
    from fairopt.race.measure import measure

    torch.set_num_threads(1)
    start = time.perf_counter()
    unusable = _import(like)
    if unusable is not None:
        connection.send(("unusable", unusable))
        return
    _warm_up(like, settings)
    base = memory.resident()
    memory.limit(settings.memory_limit)
    connection.send(("ready", time.perf_counter() - start))
    while (cell := connection.recv()) is not None:
        connection.send(measure(cell, like, settings, base))


def _quiet(log: str) -> None:
    """What solvers print goes to a file: its last line tells what a crash was."""
    sink = os.open(log, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(sink, descriptor)
    os.close(sink)


def _import(like: BackendLike) -> Measured | None:
    """None, or why the backend cannot be used: absent, or broken at import."""
    from fairopt.race.measure import Measured

    try:
        cls = load(like.partition(":")[0]) if isinstance(like, str) else like if isinstance(like, type) else type(like)
    except MissingExtraError as error:
        return Measured("absent", str(error))
    except (BackendError, SystemExit) as error:
        return Measured("broken", f"{type(error).__name__}: {error}")
    if reason := absent(cls):
        return Measured("absent", reason)
    for module in cls.requires:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(module)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a broken installation may raise anything
            return Measured("broken", f"importing {module}: {type(error).__name__}: {error}")
    return None


def _warm_up(like: BackendLike, settings: Settings) -> None:
    """One tiny problem, so that whatever is loaded on first use is there. A failure is left to the first cell, which will show it."""
    from fairopt.race.cells import Subject
    from fairopt.race.measure import measure

    tiny = Cell("", Subject("demographic_parity", 8, 2, "float64", "none"))
    measure(tiny, like, Settings(repeats=1, seconds=0.0, seed=settings.seed), 0)


class Dead(Exception):
    """The worker ended without an answer; the words say how."""


class Slow(Exception):
    """No answer within the limit."""


class Worker:
    """A running worker. ``unusable``: why its backend cannot be raced, or None; ``import_seconds``: what loading it took."""

    def __init__(self, like: BackendLike, settings: Settings) -> None:
        descriptor, self._log = tempfile.mkstemp(prefix="fairopt-race-", suffix=".log")
        os.close(descriptor)
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=main, args=(theirs, like, settings, self._log), daemon=True)
        before = {name: os.environ.get(name) for name in ONE_THREAD}
        os.environ.update(ONE_THREAD)  # BLAS libraries read it when they are loaded
        try:
            self._process.start()
        except BaseException:
            Path(self._log).unlink(missing_ok=True)
            raise
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        theirs.close()
        self.import_seconds: float | None = None
        self.unusable: Measured | None = None
        try:
            word, value = self._answer(START_LIMIT)
        except BaseException:
            self.stop()
            raise
        if word == "ready":
            self.import_seconds = value
        else:
            self.unusable = value

    def measure(self, cell: Cell, limit: float) -> Measured:
        """Raises Dead or Slow; the worker is then of no more use."""
        self._connection.send(cell)
        measured: Measured = self._answer(limit)
        return measured

    def _answer(self, limit: float) -> Any:
        if not wait([self._connection, self._process.sentinel], limit):
            raise Slow
        try:
            if self._connection.poll():
                return self._connection.recv()
        except (EOFError, ConnectionResetError):
            pass  # it died: said below
        self._process.join(5)
        raise Dead(self._death())

    def _death(self) -> str:
        code = self._process.exitcode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        lines = [line.strip() for line in Path(self._log).read_text(errors="replace").splitlines() if line.strip()]
        return f"the process ended with {how}" + (f"; its last words: {lines[-1][-300:]}" if lines else "")

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._connection.close()
        Path(self._log).unlink(missing_ok=True)


def check_sendable(label: str, like: BackendLike) -> None:
    """InputError for a class or instance that another process cannot be given."""
    import pickle

    try:
        pickle.dumps(like)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(f"backends: {label!r} cannot be sent to another process ({error}); define its class in a module") from error


__all__ = ["Dead", "Slow", "Worker", "check_sendable", "main"]
