"""How the estimators train: one network, or the mean of several on few rows, each with a fairness layer behind it.

Few rows: five networks, each trained on four fifths of the rows and judged on the last fifth, all begin at the linear model
(``estimators_start``). How many epochs are kept is decided for all of them together, by the mean of the five validation figures; and none
is kept where that mean is not better than the start's by one standard error (Breiman et al. 1984, the 1 SE rule): the least of many noisy
figures is always a little better.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fairopt.layer.fairness_layer import FairnessLayer
from fairopt.layer.model import FairModel
from fairopt.notions.groups import Missing
from fairopt.training.estimators.network import Members, Network
from fairopt.training.estimators.start import Linear, Start
from fairopt.training.history import EpochDone, History
from fairopt.training.inputs.columns import Groups
from fairopt.training.inputs.parameters import FEW, chosen_batch, chosen_members
from fairopt.training.inputs.split import Shares, members_of
from fairopt.training.loop import fit
from fairopt.training.sampler import StratifiedBatches
from fairopt.training.stopping import EarlyStopping

Index = npt.NDArray[np.int64]
Loss = Callable[[Tensor, Tensor], Tensor]  # scores (n,), targets (n,) -> losses (n,)
State = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """loss of each row; units: location and scale of the scores; classes: targets are classes; outputs: their number where it is above
    two; the rest: the estimators' parameters."""

    loss: Loss
    units: tuple[float, float]
    classes: bool
    members: int | Literal["auto"]
    hidden: Sequence[int]
    dropout: float
    epochs: int
    batch_size: int | Literal["auto"] | None
    learning_rate: float
    weight_decay: float
    distance: float
    early_stopping: bool
    patience: int
    missing_group: Missing
    verbose: bool
    outputs: int = 1


@dataclass(frozen=True, eq=False)
class Trained:
    """network; shares: of several members every row of training is ``train``; histories: one a member; epochs: how many were kept."""

    network: Network | Members
    shares: Shares
    histories: tuple[History, ...]
    epochs: int


@dataclass(eq=False)
class _Run:
    """One member's training: figures[e] and states[e] after e epochs, 0 being the start; empty where nothing is judged."""

    history: History
    figures: list[float]
    states: list[State]


class Data:
    """All rows of fit; ``take`` gives some of them on the device."""

    def __init__(
        self, features: Tensor, y: Tensor, weight: Tensor | None, groups: Groups, needs_targets: bool, device: torch.device
    ) -> None:
        self.features, self.y = features.to(device), y.to(device)
        self.weight = None if weight is None else weight.to(device)
        self.groups, self.needs_targets, self.device = groups, needs_targets, device

    def inputs(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """(n, d) features of the rows on the CPU."""
        return self.features.cpu()[torch.from_numpy(rows)]

    def start(self, network: Network, rows: npt.NDArray[np.int64], units: tuple[float, float], *, classes: bool) -> Start:
        """The linear models of the rows, in the units of the network."""
        y = (self.y.cpu()[torch.from_numpy(rows)] - units[0]) / units[1]
        weight = None if self.weight is None else self.weight.cpu()[torch.from_numpy(rows)].numpy()
        return Start(network.standardised(self.inputs(rows)).numpy(), y.numpy(), weight, classes=classes)

    def take(self, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor | None, Groups, Tensor | None]:
        """features, y, weights, groups, and y again where the notion needs targets."""
        at = torch.from_numpy(rows).to(self.device)
        y = self.y[at]
        groups = {name: column[rows] for name, column in self.groups.items()}
        return self.features[at], y, None if self.weight is None else self.weight[at], groups, y if self.needs_targets else None


def train_members(
    data: Data, layer: FairnessLayer, parts: Shares, strata: Index, recipe: Recipe, generator: np.random.Generator
) -> Trained:
    """Train on the rows of ``parts``; strata (n,) are group * (2, or the classes) + label."""
    seed = int(generator.integers(2**31))
    rows = np.sort(np.concatenate([parts.train, parts.validation]))
    count = chosen_members(recipe.members, len(rows))
    each = members_of(parts, strata, count, generator, validates=recipe.early_stopping) if count > 1 else [parts]
    networks = [_network(data, rows, recipe, seed + k) for k in range(count)]
    start = data.start(networks[0], rows, recipe.units, classes=recipe.classes) if len(rows) < FEW and recipe.outputs == 1 else None
    runs: list[_Run] = []
    begun: list[Linear | None] = []
    for k, (network, own) in enumerate(zip(networks, each, strict=True)):
        begun.append(None if start is None else start.begin(network, np.searchsorted(rows, own.train)))
        model = FairModel(network, layer).to(data.device)
        runs.append(_trained(model, data, own, strata % max(2, recipe.outputs), recipe, seed + k, heard=k == 0))
    kept = kept_epochs([run.figures for run in runs], from_linear=begun[0] is not None)
    for network, run, began in zip(networks, runs, begun, strict=True):
        if run.states:
            network.load_state_dict(run.states[kept])
        if start is not None:
            start.finish(network, began)
    if count > 1:
        parts = Shares(rows, rows[:0], parts.calibration)
    epochs = kept if runs[0].figures else len(runs[0].history)
    return Trained(networks[0] if count == 1 else Members(networks), parts, tuple(run.history for run in runs), epochs)


def kept_epochs(figures: Sequence[Sequence[float]], *, from_linear: bool) -> int:
    """How many epochs all members keep. figures[k][e]: of member k after e epochs, lower is better.

    The least mean over the members, of those epochs that all of them had. Where they began at the linear model (``from_linear``) it must be
    better than their start by more than one standard error over the members, else 0.
    """
    longest = min(map(len, figures))
    if not longest:
        return 0
    table = np.array([one[:longest] for one in figures])  # (members, epochs + 1)
    first = 0 if from_linear else min(1, longest - 1)
    best = first + int(table.mean(0)[first:].argmin())
    gains = table[:, 0] - table[:, best]
    error = gains.std(ddof=1) / sqrt(len(gains)) if len(gains) > 1 else 0.0
    return best if not from_linear or gains.mean() > error else 0


def _network(data: Data, rows: Index, recipe: Recipe, seed: int) -> Network:
    location, scale = recipe.units
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(data.inputs(rows), recipe.hidden, recipe.dropout, location=location, scale=scale, outputs=recipe.outputs)


def _trained(model: FairModel, data: Data, parts: Shares, labels: Index, recipe: Recipe, seed: int, *, heard: bool) -> _Run:
    """heard: whether the history gets the gaps of each epoch."""

    def mean_loss(rows: Index) -> Tensor:
        x, y, weight, groups, targets = data.take(rows)
        fair, moved = model.with_distance(x, sensitive_features=groups, targets=targets)
        losses = recipe.loss(fair, y)
        mean = losses.mean() if weight is None else (weight * losses).sum() / weight.sum().clamp_min(1e-300)
        return mean if recipe.distance == 0 else mean + recipe.distance / recipe.units[1] ** 2 * moved

    cells: dict[str, Any] = {name: column[parts.train] for name, column in data.groups.items()}
    if data.needs_targets:
        cells["(label)"] = labels[parts.train]
    size = chosen_batch(recipe.batch_size, len(parts.train))
    batches = StratifiedBatches(cells, size, seed=seed, missing_group=recipe.missing_group)
    stops = recipe.early_stopping and len(parts.validation) > 0
    figures, states = _judged(model, lambda: float(mean_loss(parts.validation))) if stops else ([], [])

    def remember(done: EpochDone) -> None:
        if done.validation is not None:
            figures.append(done.validation)
            states.append(copy.deepcopy(model.network.state_dict()))

    history = fit(
        model,
        lambda batch: mean_loss(parts.train[batch]),
        batches,
        optimizer=torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay),
        epochs=recipe.epochs,
        validate=(lambda: float(mean_loss(parts.validation))) if stops else None,
        stopping=EarlyStopping(recipe.patience) if stops else None,
        seed=seed,
        on_epoch=remember,
        progress=recipe.verbose,
        gaps=heard and recipe.outputs == 1,
    )
    return _Run(history, figures, states)


def _judged(model: FairModel, validate: Callable[[], float]) -> tuple[list[float], list[State]]:
    """The validation figure before training, and the state that has it."""
    model.eval()
    with torch.no_grad():
        return [validate()], [copy.deepcopy(model.network.state_dict())]
