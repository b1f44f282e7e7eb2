"""A pool of processes that are the ranks of gloo groups of 1 to 4: started once, for it takes seconds."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).with_name("worker.py")


class Failed(Exception):
    """What a case raised on some rank: its class's name and its words."""

    def __init__(self, rank: int, name: str, words: str, trace: str) -> None:
        super().__init__(f"rank {rank}: {name}: {words}\n{trace}")
        self.name, self.words = name, words


class Pool:
    """``size`` ranks, which run cases together."""

    def __init__(self, size: int, folder: Path, seconds: float = 60.0) -> None:
        file = folder / f"ranks {id(self)}"
        self.last: list[tuple[bool, Any]] = []
        self.processes = [
            subprocess.Popen(
                [sys.executable, str(WORKER), str(rank), str(size), str(file), str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            for rank in range(size)
        ]

    def outcomes(self, members: int, name: str, arguments: list[dict[str, Any]] | dict[str, Any]) -> list[tuple[bool, Any]]:
        """(whether it went well, what it returned or raised) of each of the first ``members`` ranks."""
        given = [arguments] * members if isinstance(arguments, dict) else arguments
        for rank, process in enumerate(self.processes):
            assert process.stdin is not None
            pickle.dump((members, name, given[min(rank, members - 1)]), process.stdin)
            process.stdin.flush()
        self.last = []
        for rank in range(len(self.processes)):
            self.last.append(self.answer(rank))
        return self.last[:members]

    def answer(self, rank: int) -> tuple[bool, Any]:
        """The next answer of one rank; EOFError where it is gone."""
        stdout = self.processes[rank].stdout
        assert stdout is not None
        found: tuple[bool, Any] = pickle.load(stdout)
        return found

    def run(self, members: int, name: str, arguments: list[dict[str, Any]] | dict[str, Any]) -> list[Any]:
        """What each rank returned. Raises Failed where one raised."""
        found = self.outcomes(members, name, arguments)
        for rank, (well, what) in enumerate(found):
            if not well:
                raise Failed(rank, *what)
        return [what for _, what in found]

    def close(self) -> None:
        for process in self.processes:
            if process.stdin is not None and not process.stdin.closed:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Four ranks that live as long as the session."""
    made = Pool(4, tmp_path_factory.mktemp("pool"))
    yield made
    made.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Callable[[int, float], Pool]]:
    """Makes pools that may be broken."""
    made: list[Pool] = []

    def make(size: int, seconds: float) -> Pool:
        made.append(Pool(size, tmp_path, seconds))
        return made[-1]

    yield make
    for one in made:
        one.close()
