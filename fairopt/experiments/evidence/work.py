"""The run: cells cut into jobs of one task and seed, on a few processes; what is there already costs nothing."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from fairopt.experiments.evidence.candidates import Ground, candidates
from fairopt.experiments.evidence.cells import folder_of, make_cell, path_of, write_cell, write_rows
from fairopt.experiments.evidence.parts import cut
from fairopt.experiments.evidence.protocol import LIMIT_S, Task
from fairopt.experiments.reproduce import OnProgress, Progress
from fairopt.experiments.threads import one_thread


@dataclass(frozen=True)
class Job:
    """One task and seed. data: as ``Settings.data``; settings: how many of each method's six, for a quick look; None: all."""

    task: Task
    seed: int
    root: Path
    data: Path | None = None
    settings: int | None = None
    limit_s: float = LIMIT_S


@one_thread()
def run_job(job: Job) -> int:
    """Make what is missing; returns how many cells were made."""
    missing = [
        c
        for c in candidates(job.task)
        if (job.settings is None or c.setting < job.settings) and not path_of(job.root, job.task, job.seed, c).exists()
    ]
    folder = folder_of(job.root, job.task, job.seed)
    if not missing and (folder / "rows.npz").exists():
        return 0
    ground = Ground(job.task, job.seed, cut(job.task, job.seed, job.data))
    for candidate in missing:
        write_cell(path_of(job.root, job.task, job.seed, candidate), make_cell(candidate, ground, job.limit_s))
    write_rows(folder, ground)
    return len(missing)


def run(jobs: Sequence[Job], on_progress: OnProgress, processes: int) -> None:
    """All jobs; one process runs them here. Stopped, each leaves its finished cells."""
    done = 0
    if processes == 1 or len(jobs) == 1:
        for job in jobs:
            run_job(job)
            done += 1
            on_progress(Progress("tasks x seeds", done, len(jobs)))
        return
    before = os.environ.copy()
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))  # the new processes read them
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    try:
        for future in as_completed([pool.submit(run_job, job) for job in jobs]):
            future.result()
            done += 1
            on_progress(Progress("tasks x seeds", done, len(jobs)))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        os.environ.clear()
        os.environ.update(before)
