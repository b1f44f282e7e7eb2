"""Draws in processes of their own: a call that hangs and one that brings its process down are verdicts, and the run goes on."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from fairopt.solve import road
from tests.fuzz.draw import Draw, describe
from tests.fuzz.judge import Project, Verdict, examine

HANG = 10.0  # seconds of processor time for one call
STUCK = 90.0  # seconds on the wall for a draw with its judgement, after which its process is killed


class Hang(BaseException):
    """The call took too long."""


def _ring(*_: Any) -> None:
    raise Hang


@contextlib.contextmanager
def guard(seconds: float = HANG) -> Iterator[None]:
    """Raise Hang in the block after ``seconds`` of this process's time."""
    old = signal.signal(signal.SIGPROF, _ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)


def judged(d: Draw, seconds: float = HANG, project: Project | None = None) -> Verdict:
    """The verdict on a draw; a hang and a failure of the judge itself are verdicts too."""
    try:
        return examine(d, project, guard=lambda: guard(seconds))
    except Hang:
        return Verdict([("hang", f"no end in {seconds:g} s")], [], "hang")
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        words = f"{type(error).__name__}: {error} [{Path(last.filename).name}:{last.lineno}]"
        return Verdict([("judge failed", words)], [], "judge failed")


def work(pipe: Connection, seed: int) -> None:
    torch.set_num_threads(1)
    while True:
        index = pipe.recv()
        if index is None:
            return
        start = time.process_time()
        try:
            d = describe(seed, index)
        except Exception as error:
            verdict = Verdict([("draw failed", f"{type(error).__name__}: {error}")], [], "draw failed")
        else:
            verdict = judged(d)
        pipe.send((index, verdict, time.process_time() - start))


class Worker:
    def __init__(self, context: Any, seed: int) -> None:
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, seed), daemon=True)
        self.process.start()
        theirs.close()
        self.index, self.since = -1, 0.0

    def send(self, index: int) -> None:
        self.index, self.since = index, time.monotonic()
        self.pipe.send(index)

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def verdicts(seed: int, first: int, draws: int, minutes: float, jobs: int) -> Iterator[tuple[int, Verdict, float]]:
    """(index, verdict, seconds) of each draw as it ends; a draw that brings its process down or blocks it is one of them."""
    road.warm_up()  # what is compiled once a machine is no hang of a draw
    context = multiprocessing.get_context("fork")
    end = time.monotonic() + 60 * minutes if minutes else float("inf")
    last = first + draws if draws else float("inf")
    following = first
    workers = [Worker(context, seed) for _ in range(jobs)]
    idle = list(workers)
    while True:
        while idle and following < last and time.monotonic() < end:
            idle.pop().send(following)
            following += 1
        busy = [w for w in workers if w not in idle]
        if not busy:
            break
        for ready in wait([w.pipe for w in busy], timeout=5.0):
            worker = next(w for w in busy if w.pipe is ready)
            try:
                yield worker.pipe.recv()
                idle.append(worker)
            except EOFError:
                worker.process.join()
                code = worker.process.exitcode
                yield worker.index, Verdict([("process ended", f"exit code {code}")], [], "process ended"), 0.0
                workers[workers.index(worker)] = fresh = Worker(context, seed)
                idle.append(fresh)
        for worker in [w for w in workers if w not in idle and time.monotonic() - w.since > STUCK]:
            worker.stop()
            yield worker.index, Verdict([("stuck", f"the call or its judgement: killed after {STUCK:g} s on the wall")], [], "stuck"), STUCK
            workers[workers.index(worker)] = fresh = Worker(context, seed)
            idle.append(fresh)
    for worker in workers:
        with contextlib.suppress(OSError):
            worker.pipe.send(None)
        worker.process.join(2)
        worker.stop()
