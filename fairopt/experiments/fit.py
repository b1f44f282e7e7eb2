"""One training loop for every method, so that a difference between two methods is no difference between two loops."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from fairopt.experiments.data.tabular import Part, Parts

Loss = Callable[[Tensor, Tensor], Tensor]


class Forward(Protocol):
    """Rows of one part -> probabilities (n,). Targets never enter."""

    def __call__(self, part: Part, rows: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. ``batch_size`` None takes all rows at once. The state with the least validation loss is kept."""

    hidden: tuple[int, ...] = (32,)
    dropout: float = 0.2
    epochs: int = 60
    batch_size: int | None = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3


@dataclass(frozen=True)
class Fitted:
    """seconds: mean training time of an epoch, validation left out; best_epoch counts from 0."""

    seconds: float
    best_epoch: int
    best_loss: float


def network(inputs: int, recipe: Recipe, seed: int) -> nn.Sequential:
    """A multilayer perceptron with one output; its initial weights depend on ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for width in recipe.hidden:
            layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(recipe.dropout)]
            inputs = width
        return nn.Sequential(*layers, nn.Linear(inputs, 1))


def fit(
    model: nn.Module,
    forward: Forward,
    loss: Loss,
    parts: Parts,
    recipe: Recipe,
    seed: int,
    on_epoch: Callable[[int], None] = lambda _: None,
) -> Fitted:
    """Train ``model`` in place with AdamW on shuffled batches of ``parts.train``; ``on_epoch`` hears how many epochs are done.

    ``forward`` must use ``model``. Order of the rows and dropout depend on ``seed`` alone.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    everyone = torch.arange(len(parts.validation))
    best, best_epoch, best_loss, seconds = copy.deepcopy(model.state_dict()), 0, float("inf"), 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for epoch in range(recipe.epochs):
            start = time.perf_counter()
            model.train()
            for rows in torch.split(torch.randperm(len(parts.train)), recipe.batch_size or len(parts.train)):
                optimizer.zero_grad()
                loss(forward(parts.train, rows), parts.train.y[rows]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            seconds += time.perf_counter() - start
            model.eval()
            with torch.no_grad():
                now = loss(forward(parts.validation, everyone), parts.validation.y).item()
            if now < best_loss:
                best, best_epoch, best_loss = copy.deepcopy(model.state_dict()), epoch, now
            on_epoch(epoch + 1)
    model.load_state_dict(best)
    model.eval()
    return Fitted(seconds / max(recipe.epochs, 1), best_epoch, best_loss)
