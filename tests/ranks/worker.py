"""One rank of a pool: ``python worker.py RANK SIZE FILE SECONDS`` runs cases of ``cases.py`` as they come on stdin, and answers on stdout.

A task is a pickled (members, name, arguments); the case gets a process group of the first ``members`` ranks. Ranks beyond them answer None.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import sys
import traceback
from datetime import timedelta
from pathlib import Path


def main(rank: int, size: int, file: str, seconds: float) -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a case prints is no answer
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    wait = timedelta(seconds=seconds)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=size, timeout=wait)
    groups = [dist.new_group(list(range(k + 1)), timeout=wait) for k in range(size)]
    spec = importlib.util.spec_from_file_location("rank_cases", Path(__file__).with_name("cases.py"))
    assert spec is not None
    assert spec.loader is not None
    cases = importlib.util.module_from_spec(spec)
    sys.modules["rank_cases"] = cases
    spec.loader.exec_module(cases)
    while True:
        try:
            members, name, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            found = getattr(cases, name)(groups[members - 1], rank, members, **arguments) if rank < members else None
            answer = pickle.dumps((True, found))
        except Exception as error:  # noqa: BLE001  the answer is the error
            answer = pickle.dumps((False, (type(error).__name__, str(error), traceback.format_exc())))
        answers.write(answer)
        answers.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
