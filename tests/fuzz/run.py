"""The fuzzer: ``python tests/fuzz/run.py --draws 1000 --seed 7``, ``--minutes 10``, ``--replay 7:123``, ``--jobs 2``.

Takes fairopt from PYTHONPATH (or wherever Python finds it). Each draw is made from (seed, number) alone. Draws run in worker processes: a
call that takes more than 10 s of processor time is a fault, and so is one that brings its process down. Exit code 1 on any fault.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path

for _word in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_word, "1")
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]
sys.path.append(str(Path(__file__).resolve().parents[2]))  # last: PYTHONPATH names the fairopt under test

import torch

import fairopt
from tests.fuzz.call import source_of
from tests.fuzz.draw import Draw, describe
from tests.fuzz.judge import Verdict
from tests.fuzz.shrink import shrunk
from tests.fuzz.workers import judged, verdicts

PLACE = re.compile(r"[\w/]+\.py:\d+")


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
