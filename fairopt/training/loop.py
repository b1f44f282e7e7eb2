"""``fit``: a training loop with early stopping, schedules, progress, and checkpoints that resume to the same bits."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from fairopt.basics.errors import InputError
from fairopt.training.bar import Bar, bar
from fairopt.training.checkpoint import load_checkpoint, save_checkpoint
from fairopt.training.gaps_by_notion import GapRecorder
from fairopt.training.history import EpochDone, History
from fairopt.training.state import FORMAT, Stateful, check_format, cuda_in_use, parts_of, set_epoch
from fairopt.training.stopping import EarlyStopping

log = logging.getLogger("fairopt")
Batch = TypeVar("Batch")
Keep = Literal["best", "last"]


def fit(
    model: nn.Module,
    step: Callable[[Batch], Tensor],
    batches: Iterable[Batch],
    *,
    optimizer: Optimizer,
    epochs: int,
    validate: Callable[[], float] | None = None,
    scheduler: LRScheduler | ReduceLROnPlateau | None = None,
    stopping: EarlyStopping | None = None,
    keep: Keep = "best",
    checkpoint: str | Path | None = None,
    state: Mapping[str, Stateful] | None = None,
    seed: int | None = None,
    on_epoch: Callable[[EpochDone], None] = lambda _: None,
    progress: bool = False,
    gaps: bool = True,
) -> History:
    """Train ``model`` in place, and leave it in eval mode.

    step        one batch -> its loss, a scalar; ``fit`` calls backward and the optimizer
    batches     iterated anew each epoch: a DataLoader, a sampler, a list. One with ``set_epoch`` is told the epoch, counted from 0
    validate    the figure after an epoch, lower is better; called in eval mode and without gradients
    scheduler   stepped after each epoch, ReduceLROnPlateau with the figure. A schedule by batches: step it in a hook of the optimizer
                (``register_step_post_hook``) and give it in ``state``
    keep        "best": the state with the least figure is loaded at the end; "last". Without ``validate`` the last one stays
    checkpoint  a file, written after each epoch. If it is there, training goes on from it and ends with the bits that one run without a
                break would have given: model with the layer's groups, optimizer, schedule, sampler or DataLoader generator, random
                states, early stopping, history, ``state``. ``epochs`` counts from the very first
    state       more that belongs to the run, such as a streaming controller: anything with state_dict and load_state_dict
    seed        torch's random numbers are drawn from it and the caller's are left as they were; None: from the global state
    on_epoch    hears of each epoch when it is over, after the checkpoint
    progress    a bar on standard error; needs rich
    gaps        whether the history has the gaps of each epoch, where the model has a fairness layer: of the scores that it gave in
                training, and in ``validate``, all batches together

    InputError for bad arguments, a loss or figure that is not finite, and a checkpoint of another run.

    Examples:
        >>> from fairopt.training import StratifiedBatches, fit
        >>> x, sex = torch.randn(40, 2), torch.tensor([0, 1]).repeat(20)
        >>> layer = fo.FairnessLayer(fo.DemographicParity("sex", tolerance=0.1), space="probability")
        >>> model = fo.FairModel(torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Flatten(0)), layer)
        >>> def loss(rows):
        ...     fair = model(x[rows], sensitive_features={"sex": sex[rows]})
        ...     return torch.nn.functional.binary_cross_entropy(fair, (x[rows, 0] > 0).float())
        >>> optimizer = torch.optim.Adam(model.parameters())
        >>> history = fit(model, loss, StratifiedBatches({"sex": sex}, 20), optimizer=optimizer, epochs=2, seed=0)
        >>> len(history), history.epochs[-1].gap("training") <= 0.1
        (2, True)
    """
    _check(model, batches, optimizer, epochs, validate, scheduler, stopping, keep, seed)
    run = _Run(model, optimizer, scheduler, stopping, batches, state or {}, seed, keep)
    recorder = GapRecorder(model if gaps else nn.Identity())
    with _seeded(seed), recorder, bar(progress, epochs, batches) as shown:
        if checkpoint is not None and Path(checkpoint).exists():
            load_checkpoint(checkpoint, run.parts)
            log.info("fit: goes on from %s, %d epochs done", checkpoint, len(run.history))
            shown.resumed(len(run.history))
        while len(run.history) < epochs and not run.history.stopped:
            done = _epoch(run, step, batches, validate, shown, recorder)
            if checkpoint is not None:
                save_checkpoint(checkpoint, run.parts)
            on_epoch(done)
    if run.best_state is not None:
        model.load_state_dict(run.best_state)
    model.eval()
    return run.history


class _Run:
    """Everything that changes from epoch to epoch. As a part of the checkpoint: seed, history, best state."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler | ReduceLROnPlateau | None,
        stopping: EarlyStopping | None,
        batches: object,
        state: Mapping[str, Stateful],
        seed: int | None,
        keep: Keep,
    ) -> None:
        self.model, self.optimizer, self.scheduler, self.stopping, self.seed, self.keep = model, optimizer, scheduler, stopping, seed, keep
        self.history = History()
        self.best_state: dict[str, Any] | None = None
        own: dict[str, Stateful | None] = {
            "run": self,
            "model": model,
            "optimizer": optimizer,
            "scheduler": scheduler,
            "stopping": stopping,
        }
        own |= parts_of(batches)
        taken = sorted(own.keys() & state.keys())
        if taken:
            raise InputError(f"state: got the name(s) {taken}, expected others: fit saves these itself")
        self.parts: dict[str, Stateful] = {**{name: part for name, part in own.items() if part is not None}, **state}

    def record(self, done: EpochDone) -> None:
        stop = self.stopping is not None and done.validation is not None and self.stopping.update(done.validation)
        self.history = replace(self.history, epochs=(*self.history.epochs, done), stopped=stop)
        if done.improved and self.keep == "best":
            self.best_state = copy.deepcopy(self.model.state_dict())

    def state_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, "seed": self.seed, "history": self.history.to_dict(), "best": self.best_state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_format(state, "fit")
        if state["seed"] != self.seed:
            raise InputError(f"seed: got {self.seed!r}, expected {state['seed']!r}, with which the checkpoint's run began")
        self.history, self.best_state = History.from_dict(state["history"]), state["best"]


def _epoch(
    run: _Run,
    step: Callable[[Batch], Tensor],
    batches: Iterable[Batch],
    validate: Callable[[], float] | None,
    shown: Bar,
    recorder: GapRecorder,
) -> EpochDone:
    number = len(run.history)
    rate = float(run.optimizer.param_groups[0]["lr"])
    set_epoch(batches, number)
    recorder.begin("training")
    start = time.perf_counter()
    loss = _train(run, step, batches, number, shown)
    seconds = time.perf_counter() - start
    recorder.begin("validation")
    figure = None if validate is None else _validate(run.model, validate, number)
    if isinstance(run.scheduler, ReduceLROnPlateau):
        assert figure is not None  # checked at the start
        run.scheduler.step(figure)
    elif run.scheduler is not None:
        run.scheduler.step()
    best = run.history.best
    improved = figure is not None and (best is None or best.validation is None or figure < best.validation)
    done = EpochDone(number + 1, loss, figure, improved, rate, seconds, recorder.said())
    run.record(done)
    shown.epoch(done, run.history.best)
    return done


def _train(run: _Run, step: Callable[[Batch], Tensor], batches: Iterable[Batch], number: int, shown: Bar) -> float:
    """One pass over ``batches``; returns the mean loss."""
    run.model.train()
    total: Tensor | None = None  # stays on its device: one look at the end, no wait after each batch
    count = 0
    for batch in batches:
        run.optimizer.zero_grad()
        loss = step(batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise InputError(f"step: got {got}, expected the loss, a tensor with one number")
        loss.backward()  # type: ignore[no-untyped-call]
        run.optimizer.step()
        now = loss.detach().reshape(()).double()
        total = now if total is None else total + now
        count += 1
        shown.batch()
    if total is None:
        raise InputError(f"batches: got none in epoch {number + 1}, expected at least one")
    mean = float(total) / count
    if not math.isfinite(mean):
        raise InputError(f"step: the mean loss of epoch {number + 1} is {mean}, expected a finite number; try a smaller learning rate")
    return mean


def _validate(model: nn.Module, validate: Callable[[], float], number: int) -> float:
    model.eval()
    with torch.no_grad():
        figure = float(validate())
    if not math.isfinite(figure):
        raise InputError(f"validate: got {figure} after epoch {number + 1}, expected a finite number")
    return figure


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """With a seed, torch's random states are set from it and given back at the end."""
    if seed is None:
        yield
        return
    devices = list(range(torch.cuda.device_count())) if cuda_in_use() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _check(
    model: object,
    batches: object,
    optimizer: object,
    epochs: object,
    validate: object,
    scheduler: object,
    stopping: object,
    keep: object,
    seed: object,
) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(f"model: got {type(model).__name__}, expected a torch.nn.Module")
    if not isinstance(optimizer, Optimizer) or isinstance(optimizer, LBFGS):
        raise InputError(f"optimizer: got {type(optimizer).__name__}, expected a torch.optim.Optimizer that needs no closure")
    if not isinstance(batches, Iterable) or isinstance(batches, Iterator):
        raise InputError(
            f"batches: got {type(batches).__name__}, expected what can be iterated anew each epoch, such as a DataLoader or a list"
        )
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 0:
        raise InputError(f"epochs: got {epochs!r}, expected a whole number >= 0")
    if scheduler is not None and not isinstance(scheduler, (LRScheduler, ReduceLROnPlateau)):
        raise InputError(f"scheduler: got {type(scheduler).__name__}, expected one of torch.optim.lr_scheduler")
    if stopping is not None and not isinstance(stopping, EarlyStopping):
        raise InputError(f"stopping: got {type(stopping).__name__}, expected an EarlyStopping")
    if validate is None and stopping is not None:
        raise InputError("validate: got None, expected a function that gives the figure, for stopping needs one")
    if validate is None and isinstance(scheduler, ReduceLROnPlateau):
        raise InputError("validate: got None, expected a function that gives the figure, for ReduceLROnPlateau needs one")
    if keep not in ("best", "last"):
        raise InputError(f"keep: got {keep!r}, expected 'best' or 'last'")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise InputError(f"seed: got {seed!r}, expected a whole number or None")
