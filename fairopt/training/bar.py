"""The progress bar of ``fit``: rich where it is asked for, nothing otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fairopt.basics.extras import missing
from fairopt.training.history import EpochDone

if TYPE_CHECKING:
    from rich.progress import Progress


class Bar:
    """Hears what happens, and shows nothing."""

    def resumed(self, epochs: int) -> None:
        """``epochs`` were done before."""

    def batch(self) -> None:
        """One more batch is done."""

    def epoch(self, done: EpochDone, best: EpochDone | None) -> None:
        """One more epoch is done."""


class RichBar(Bar):
    """A bar that grows with each batch where their number is known, else with each epoch."""

    def __init__(self, progress: Progress, epochs: int, batches: object) -> None:
        self._progress = progress
        self._by_batch = isinstance(batches, Sized)
        self._steps = len(batches) if isinstance(batches, Sized) else 1
        self._epochs = epochs
        self._task = progress.add_task(f"epoch 0/{epochs}", total=max(1, epochs * self._steps))

    def resumed(self, epochs: int) -> None:
        self._progress.update(self._task, completed=epochs * self._steps, description=f"epoch {epochs}/{self._epochs}")

    def batch(self) -> None:
        if self._by_batch:
            self._progress.advance(self._task)

    def epoch(self, done: EpochDone, best: EpochDone | None) -> None:
        words = [f"epoch {done.epoch}/{self._epochs}", f"loss {done.loss:.4g}"]
        if best is not None and best.validation is not None:
            words.append(f"best {best.validation:.4g} in epoch {best.epoch}")
        self._progress.update(self._task, completed=done.epoch * self._steps, description=", ".join(words))


@contextmanager
def bar(shown: bool, epochs: int, batches: object) -> Iterator[Bar]:
    """A bar on standard error while the block runs. MissingExtraError without rich."""
    if not shown:
        yield Bar()
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError as error:
        raise missing("progress=True needs rich", "cli") from error
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield RichBar(progress, epochs, batches)
