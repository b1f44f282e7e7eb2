"""``fairopt reproduce inside``: when is the layer inside training better than projecting afterwards? See docs/experiments/PROTOCOL.md."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fairopt as fo
from fairopt.basics.errors import FairoptWarning
from fairopt.experiments.data.tabular import Part, Parts
from fairopt.experiments.marks import FITTING, LIBRARY
from fairopt.experiments.measure import by_group
from fairopt.experiments.methods.base import Recipe
from fairopt.experiments.methods.network import loss as loss_of
from fairopt.experiments.methods.network import network, train
from fairopt.experiments.methods.projection import moved_scores
from fairopt.experiments.reproduce import OnProgress, Progress, Result, Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies.inside_report import AFTER, FIGURES, INSIDE, Record, result
from fairopt.experiments.studies.inside_worlds import GROUP, World, parts_of, worlds
from fairopt.experiments.threads import one_thread

EPOCHS, PATIENCE, RATE, DECAY = 40, 8, 3e-3, 1e-3
TEMPERATURE = 0.1  # of differences of probabilities inside the pairwise loss: they are at most 1
BOX = (1e-4, 1 - 1e-4)
MADE_BY = (*LIBRARY, *FITTING, "experiments/studies/inside.py", "experiments/studies/inside_worlds.py")


@one_thread()
def run(settings: Settings, store: Store, on_progress: OnProgress) -> Result:
    """quick: the centre of each loss, one seed, three epochs."""
    asked = tuple(w for w in worlds() if not settings.quick or (w.data == "made" and w.what == "centre"))
    epochs = 3 if settings.quick else EPOCHS
    store.hold({"epochs": epochs, "patience": PATIENCE, "rate": RATE, "decay": DECAY}, MADE_BY)
    total = sum(len(settings.seeds_or(range(w.seeds))) for w in asked)
    found: dict[str, list[Record]] = {}
    done = 0
    for world in asked:
        for seed in settings.seeds_or(range(world.seeds)):
            key = {"world": _plain(world), "seed": seed}
            found.setdefault(world.name, []).append(store.cell(key, lambda w=world, s=seed: cell(w, s, settings.data, epochs)))  # type: ignore[misc]
            done += 1
            on_progress(Progress("worlds x seeds", done, total))
    seeds = {w.name: settings.seeds_or(range(w.seeds)) for w in asked}
    return result(settings.name, asked, seeds, found)


def _plain(world: World) -> dict[str, Any]:
    return {**asdict(world), "hidden": list(world.hidden)}


def cell(world: World, seed: int, data: Path | None = None, epochs: int = EPOCHS) -> dict[str, Any]:
    """Both networks of one world and seed, and the figures of their test rows, in ``FIGURES``, to seven digits."""
    parts = parts_of(world, seed, data)
    figures: dict[str, float] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FairoptWarning)  # a group is absent from a small batch
        for who in (AFTER, INSIDE):
            predict = trained(world, parts, seed, inside=who == INSIDE, epochs=epochs)
            for how, said in served(world, parts, predict).items():
                figures[f"{who} {how} loss"] = figure(world, said, parts.held_out)
                means = by_group(said.double().numpy(), parts.held_out.sensitive[GROUP]).values()
                figures[f"{who} {how} gap"] = max(means) - min(means)
    return {name: round(figures[name], 7) for name in FIGURES}


def trained(world: World, parts: Parts, seed: int, *, inside: bool, epochs: int = EPOCHS) -> Callable[[Tensor], Tensor]:
    """A network of the world's recipe; its scores before any projection."""
    recipe = Recipe(world.hidden, 0.0, epochs, world.batch, RATE, DECAY, PATIENCE)
    model = network(parts.train.x.shape[1], recipe, seed)
    layer = layer_of(world) if inside else None

    def objective(part: Part) -> Tensor:
        said = scores(world, model, part.x)
        if layer is not None:
            said = layer(moved_scores(said, world.distance), sensitive_features={GROUP: part.sensitive[GROUP]})
        return trained_for(world, said, part.y)

    train(model, objective, parts, recipe, seed)
    model.eval()

    def predict(x: Tensor) -> Tensor:
        with torch.no_grad():
            return scores(world, model, x)

    return predict


def layer_of(world: World) -> fo.FairnessLayer:
    bounds = None if world.loss == "squared error" else BOX
    return fo.FairnessLayer(fo.DemographicParity(GROUP, tolerance=world.tolerance), bounds=bounds, distance=world.distance)


def scores(world: World, model: nn.Module, x: Tensor) -> Tensor:
    """Values, or probabilities."""
    raw: Tensor = model(x)[:, 0]
    return raw if world.loss == "squared error" else torch.sigmoid(raw)


def trained_for(world: World, said: Tensor, y: Tensor) -> Tensor:
    """What is minimised: squared error, log loss, or the logistic loss of all pairs of a positive and a negative."""
    if world.loss != "1 - AUC":
        return loss_of(said, y, "value" if world.loss == "squared error" else "probability")
    apart = said[y == 1][:, None] - said[y == 0]
    return F.softplus(-apart / TEMPERATURE).mean() if apart.numel() else said.sum() * 0.0


def figure(world: World, said: Tensor, part: Part) -> float:
    """The loss on the page."""
    if world.loss != "1 - AUC":
        return float(trained_for(world, said.double(), part.y.double()))
    from sklearn.metrics import roc_auc_score

    return 1.0 - float(roc_auc_score(part.y.numpy(), said.double().numpy()))


def served(world: World, parts: Parts, predict: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """serving -> the scores of the test rows; "raw": without any projection."""
    raw, calibration = predict(parts.held_out.x), moved_scores(predict(parts.validation.x), world.distance)
    layer = layer_of(world)
    frozen = layer.freeze(calibration, sensitive_features={GROUP: parts.validation.sensitive[GROUP]}, on_unknown="pass")
    asked = {GROUP: parts.held_out.sensitive[GROUP]}
    moved = moved_scores(raw, world.distance)
    batch = fo.project(moved, layer.notion, sensitive_features=asked, bounds=layer.bounds, distance=world.distance)
    row_by_row: Tensor = frozen.predict(moved, sensitive_features=asked)
    return {"raw": raw, "batch": batch, "frozen": row_by_row}


def remade(line: Mapping[str, str], data: Path | None) -> dict[str, float]:
    """The figures of one line of the stored cells, made again."""
    (world,) = (w for w in worlds() if w.name == line["world"])
    return cell(world, int(line["seed"]), data)
