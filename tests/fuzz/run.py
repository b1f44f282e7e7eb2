"""The fuzzer: ``python tests/fuzz/run.py --draws 1000 --seed 7``, ``--minutes 10``, ``--replay 7:123``, ``--jobs 2``.

Takes fairopt from PYTHONPATH (or wherever Python finds it). Each draw is made from (seed, number) alone. Draws run in worker processes: a
call that takes more than 10 s of processor time is a fault, and so is one that brings its process down. Exit code 1 on any fault.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

for _word in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_word, "1")
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]
sys.path.append(str(Path(__file__).resolve().parents[2]))  # last: PYTHONPATH names the fairopt under test

import torch

import fairopt
from tests.fuzz.call import source_of
from tests.fuzz.draw import Draw, describe
from tests.fuzz.judge import Verdict, examine
from tests.fuzz.shrink import shrunk

HANG = 10.0  # seconds of processor time for one call
PLACE = re.compile(r"[\w/]+\.py:\d+")
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


def judged(d: Draw, seconds: float = HANG) -> Verdict:
    """The verdict on a draw; a hang and a failure of the judge itself are verdicts too."""
    try:
        return examine(d, guard=lambda: guard(seconds))
    except Hang:
        return Verdict([("hang", f"no end in {seconds:g} s")], [], "hang")
    except Exception as error:
        import traceback

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
            yield worker.index, Verdict([("hang", f"killed after {STUCK:g} s on the wall")], [], "hang"), STUCK
            workers[workers.index(worker)] = fresh = Worker(context, seed)
            idle.append(fresh)
    for worker in workers:
        with contextlib.suppress(OSError):
            worker.pipe.send(None)
        worker.process.join(2)
        worker.stop()


def report(
    seed: int, found: dict[str, list[tuple[int, str]]], statuses: Counter[str], notes: Counter[str], total: int, seconds: float
) -> None:
    print(f"\n{total} draws of seed {seed} in {seconds:.0f} s; fairopt from {Path(fairopt.__file__).parent}")
    print("answers   " + ", ".join(f"{k} {v}" for k, v in statuses.most_common()))
    if notes:
        print("notes     " + ", ".join(f"{k} {v}" for k, v in notes.most_common(12)))
    for kind, cases in sorted(found.items(), key=lambda item: -len(item[1])):
        print(f"{len(cases):6}  {kind:36} " + " ".join(f"{seed}:{i}" for i, _ in sorted(cases)[:6]))
        if kind in ("foreign warning", "backward raises", "foreign exception"):
            places = Counter(word for _, words in cases for word in set(PLACE.findall(words)))
            print(" " * 10 + ", ".join(f"{place} {count}" for place, count in places.most_common(10)))
    print(f"{sum(len(v) for v in found.values())} faults")


def show(d: Draw, verdict: Verdict, *, shrink: bool = True, kind: str = "") -> None:
    print(
        f"--- {d['seed']}:{d['index']}  {verdict.status}  "
        + "; ".join(f"{k}: {w}" for k, w in verdict.faults)
        + (f"  notes {verdict.notes}" if verdict.notes else "")
    )
    print("      " + source_of(d))
    if shrink and verdict.faults:
        kind = kind or verdict.faults[0][0]
        smaller, words = shrunk(d, kind, lambda e: judged(e, 3.0))
        print(f"  shrunk to n = {smaller['n']}: {words}\n      {source_of(smaller)}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Draw problems, call fairopt, judge its answers by rational arithmetic and a solver of another make."
    )
    parser.add_argument("--seed", type=int, default=None, help="default: from the clock, printed")
    parser.add_argument("--draws", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first draw")
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--replay", nargs="*", default=[], metavar="SEED:NUMBER")
    parser.add_argument("--show", type=int, default=1, help="cases shown of each kind, shrunk")
    parser.add_argument("--only", default="", help="show faults whose kind contains this")
    a = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if a.replay:
        bad = False
        for word in a.replay:
            seed, index = (int(v) for v in word.split(":"))
            d = describe(seed, index)
            verdict = judged(d)
            bad |= bool(verdict.faults)
            show(d, verdict)
        return int(bad)
    seed = int(time.time()) if a.seed is None else a.seed
    draws = a.draws or (0 if a.minutes else 1000)
    print(f"seed {seed}", flush=True)
    found: dict[str, list[tuple[int, str]]] = {}
    statuses: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    noted: dict[str, list[int]] = {}
    total, start = 0, time.monotonic()
    slowest = (0.0, -1)
    for index, verdict, seconds in verdicts(seed, a.first, draws, a.minutes, a.jobs):
        total += 1
        statuses[verdict.status] += 1
        notes.update(verdict.notes)
        for note in verdict.notes:
            noted.setdefault(note, []).append(index)
        slowest = max(slowest, (seconds, index))
        for kind, words in verdict.faults:
            found.setdefault(kind, []).append((index, words))
            if len(found[kind]) == 1:
                print(f"  {seed}:{index}  {kind}: {words[:200]}", flush=True)
    report(seed, found, statuses, notes, total, time.monotonic() - start)
    for note, where in noted.items():
        print(f"  note {note}: " + " ".join(f"{seed}:{i}" for i in sorted(where)[:6]))
    print(f"slowest draw {seed}:{slowest[1]}, {slowest[0]:.1f} s")
    for kind, cases in found.items():
        if a.only in kind:
            for index, words in sorted(cases)[: a.show]:
                show(describe(seed, index), Verdict([(kind, words)], [], ""), kind=kind)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
