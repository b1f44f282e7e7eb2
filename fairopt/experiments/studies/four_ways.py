"""A given network trained in each of the paper's ways: plain (which serves projection too), with a penalty, with the layer inside.

For experiments that bring a network of their own; ``fairopt.experiments.methods`` builds multilayer perceptrons. Every way has the same
batches, with the groups' shares of the whole, so that a difference between two ways is no difference between two loops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

import fairopt as fo
from fairopt.basics.errors import InputError
from fairopt.experiments.data.tabular import Part, Sensitive
from fairopt.experiments.methods.base import Goal, Recipe
from fairopt.experiments.methods.network import loss, scores_of
from fairopt.experiments.methods.projection import asked
from fairopt.experiments.methods.violation import excess
from fairopt.training import StratifiedBatches, fit

Parameters = Callable[[nn.Module], list[dict[str, object]]]
BLOCK = 1024  # rows that a network sees at once where no gradient is asked for


class Rows(Protocol):
    """Rows of a data set, in memory (``Part``) or read when they are taken; y (n,), sensitive attribute -> (n,)."""

    @property
    def y(self) -> Tensor: ...

    @property
    def sensitive(self) -> Sensitive: ...

    def __len__(self) -> int: ...

    def take(self, rows: Tensor) -> Part: ...


@dataclass(frozen=True)
class Trained:
    """seconds: mean training time of an epoch; figure: what was minimised, on the validation part, at the state that was kept."""

    seconds: float
    best_epoch: int
    figure: float


def train(
    network: nn.Module,
    training: Rows,
    validation: Rows,
    goal: Goal,
    recipe: Recipe,
    seed: int,
    *,
    penalty: float | None = None,
    layer: fo.FairnessLayer | None = None,
    parameters: Parameters | None = None,
    on_epoch: Callable[[int], None] = lambda _: None,
) -> Trained:
    """Train ``network``, x -> (n,), in place with Adam and a cosine schedule; the state with the least validation figure is kept.

    Minimised is the loss of the goal's space: of the network's scores; of them with ``penalty`` times their gaps added, tolerance or not;
    or of the layer's answer to them. Targets enter the loss alone, unless the notion is about them. The network may be on any device; what
    follows it is on the CPU.

    penalty     values come out of ``squashed``
    layer       fed the scores in the goal's space: a layer with space="value"
    parameters  the optimizer's parameter groups, where they are not all alike
    """
    if penalty is not None and layer is not None:
        raise InputError("penalty, layer: got both, expected at most one of the two")
    groups = network.parameters() if parameters is None else parameters(network)
    optimizer = torch.optim.Adam(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    size = min(recipe.batch_size or len(training), len(training))
    batches = StratifiedBatches(asked(training.sensitive, goal.notion), size, seed=seed)
    whole = goal.within(0.0).notion  # what a penalty is on

    def objective(raw: Tensor, rows: Rows) -> Tensor:
        """raw (n,): what the network says of ``rows``, in the goal's space."""
        targets = rows.y if whole.needs_targets else None
        if layer is not None:
            return loss(layer(raw, sensitive_features=asked(rows.sensitive, whole), targets=targets), rows.y, goal.space)
        if penalty is None:
            return loss(raw, rows.y, goal.space)
        said = squashed(raw, goal)
        problem = fo.compile(whole, sensitive_features=asked(rows.sensitive, whole), targets=targets).problem
        return loss(said, rows.y, goal.space) + penalty * excess(said, problem).relu().sum()

    def step(rows: list[int]) -> Tensor:
        part = training.take(torch.as_tensor(rows, device="cpu"))
        return objective(_said(network, part, goal), part)

    if layer is not None:
        layer.train()
    history = fit(
        network,
        step,
        batches,
        optimizer=optimizer,
        epochs=recipe.epochs,
        validate=lambda: objective(predict(network, validation, goal).float(), validation).item(),
        scheduler=CosineAnnealingLR(optimizer, max(recipe.epochs, 1)),
        seed=seed,
        on_epoch=lambda done: on_epoch(done.epoch),
        gaps=False,
    )
    if layer is not None:
        layer.eval()
    best = history.best
    if best is None or best.validation is None:
        raise InputError(f"epochs: got {recipe.epochs}, expected at least one")
    return Trained(history.seconds, best.epoch, best.validation)


def predict(network: nn.Module, rows: Rows, goal: Goal) -> Tensor:
    """(n,) float64 on the CPU: what ``network`` says in eval mode, in the goal's space."""
    network.eval()
    with torch.no_grad():
        blocks = torch.split(torch.arange(len(rows), device="cpu"), BLOCK)
        return torch.cat([_said(network, rows.take(block), goal) for block in blocks]).double()


def _said(network: nn.Module, part: Part, goal: Goal) -> Tensor:
    """(n,) on the CPU, in the goal's space."""
    first = next(network.parameters())
    raw: Tensor = network(part.x.to(first.device))
    return scores_of(raw.cpu(), goal)


def squashed(scores: Tensor, goal: Goal) -> Tensor:
    """Values into the goal's box by a sigmoid with slope 1 at its middle; probabilities and logits as they are."""
    if goal.space != "value" or goal.bounds is None:
        return scores
    low, high = goal.bounds
    return low + (high - low) * torch.sigmoid(4 * (scores - (low + high) / 2) / (high - low))


def exact_batches(group: npt.NDArray[np.str_], size: int, seed: int) -> tuple[list[npt.NDArray[np.int64]], int]:
    """Batches of exactly ``size`` rows that all have the same number of each group, and how many rows are left over. The paper's way.

    Group g has size * its share of them, rounded (largest remainders up), at least 1.
    """
    names, counts = np.unique(group, return_counts=True)
    if size < len(names) or size > len(group):
        raise InputError(f"size: got {size}, expected from {len(names)} (one of each group) to {len(group)} (all rows)")
    each = _apportioned(size, counts)
    draw = np.random.default_rng(seed)
    rows = [draw.permutation(np.flatnonzero(group == name)) for name in names]
    number = min(len(own) // int(k) for own, k in zip(rows, each, strict=True))
    batches = [np.concatenate([own[j * k : (j + 1) * k] for own, k in zip(rows, each, strict=True)]) for j in range(number)]
    return batches, len(group) - number * size


def _apportioned(size: int, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """``size`` shared out in proportion to ``counts``: each gets its share rounded down, at least 1, the largest remainders one more."""
    shares = size * counts / counts.sum()
    each: npt.NDArray[np.int64] = np.maximum(1, shares.astype(np.int64))
    while each.sum() > size:
        each[each.argmax()] -= 1
    each[np.argsort(each - shares, kind="stable")[: size - each.sum()]] += 1
    return each
