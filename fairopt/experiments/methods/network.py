"""The network that all methods share, its loss, and how a method trains it: one loop, so that a difference is no difference of loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairopt.experiments.methods.base import Goal, Recipe, Sensitive, Space
from fairopt.training import EarlyStopping, fit

if TYPE_CHECKING:
    from fairopt.experiments.data.tabular import Part, Parts

# Probabilities are kept this far from 0 and 1 inside the loss, so that it stays finite.
MARGIN = 1e-6

Objective = Callable[["Part"], Tensor]


def network(inputs: int, recipe: Recipe, seed: int, outputs: int = 1) -> nn.Sequential:
    """A multilayer perceptron; its initial weights depend on ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for width in recipe.hidden:
            layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(recipe.dropout)]
            inputs = width
        return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def scores_of(raw: Tensor, goal: Goal) -> Tensor:
    """What the network says, in the goal's space: its output as it is, or the sigmoid of it."""
    return torch.sigmoid(raw) if goal.space == "probability" else raw


def loss(scores: Tensor, targets: Tensor, space: Space) -> Tensor:
    """Cross-entropy of probabilities or logits (n,), squared error of values (n,): the mean over the samples."""
    if space == "value":
        return F.mse_loss(scores, targets)
    if space == "logit":
        return F.binary_cross_entropy_with_logits(scores, targets)
    return F.binary_cross_entropy(scores.clamp(MARGIN, 1 - MARGIN), targets)


class Shuffled:
    """The rows of a part in random batches, the same order for the same seed and epoch. All rows are used in every epoch."""

    def __init__(self, part: Part, batch_size: int | None, seed: int) -> None:
        self.part, self.size, self.seed, self.epoch = part, batch_size or len(part), seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Part]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        for rows in torch.split(torch.randperm(len(self.part), generator=generator, device="cpu"), self.size):
            yield self.part.take(rows)


def train(model: nn.Module, objective: Objective, parts: Parts, recipe: Recipe, seed: int, *, judged: Objective | None = None) -> None:
    """Minimise ``objective`` of the training batches with AdamW; kept is the state with the least figure of the validation part.

    The figure is ``judged``, without which ``objective``; a method whose objective moves while it trains has to say one that does not.
    ``objective`` must use ``model``. Order of the rows and dropout depend on ``seed`` alone.
    """
    figure = objective if judged is None else judged
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    fit(
        model,
        objective,
        Shuffled(parts.train, recipe.batch_size, seed),
        optimizer=optimizer,
        epochs=recipe.epochs,
        validate=lambda: figure(parts.validation).item(),
        stopping=EarlyStopping(recipe.patience) if recipe.patience is not None else None,
        seed=seed,
    )


class NetworkPredictor:
    """A trained network as a predictor; ``hidden`` shows its last hidden layer."""

    def __init__(self, model: nn.Sequential, goal: Goal) -> None:
        self.model, self.goal = model.eval(), goal

    def __call__(self, x: Tensor, sensitive: Sensitive) -> Tensor:
        with torch.no_grad():
            return scores_of(self.model(x)[:, 0], self.goal)

    def hidden(self, x: Tensor) -> Tensor:
        """(n, width): what the last linear map sees."""
        with torch.no_grad():
            seen: Tensor = self.model[:-1](x)
            return seen
