"""``fairopt reproduce inside``: when is the layer inside training better than projecting afterwards? See docs/experiments/PROTOCOL.md."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fairopt as fo
from fairopt.basics.errors import FairoptWarning
from fairopt.basics.table import Table
from fairopt.experiments.data.tabular import Part, Parts
from fairopt.experiments.evidence.comparisons import Comparison
from fairopt.experiments.evidence.seeds import compared_over_seeds
from fairopt.experiments.evidence.verdicts import interval, losses_and_wins
from fairopt.experiments.evidence.written import protocol_words
from fairopt.experiments.marks import FITTING, LIBRARY
from fairopt.experiments.measure import by_group
from fairopt.experiments.methods.base import Recipe
from fairopt.experiments.methods.network import loss as loss_of
from fairopt.experiments.methods.network import network, train
from fairopt.experiments.methods.projection import moved_scores
from fairopt.experiments.reproduce import OnProgress, Progress, Result, Section, Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies.inside_worlds import GROUP, LOSSES, World, parts_of, worlds

EPOCHS, PATIENCE, RATE, DECAY = 40, 8, 3e-3, 1e-3
TEMPERATURE = 0.1  # of differences of probabilities inside the pairwise loss: they are at most 1
BOX = (1e-4, 1 - 1e-4)
INSIDE, AFTER = "inside", "after"
SERVINGS = {"batch": "served as one batch", "frozen": "served row by row, shifts frozen on calibration rows"}
FIGURES = tuple(f"{who} {how} {what}" for who in (AFTER, INSIDE) for how in ("raw", *SERVINGS) for what in ("loss", "gap"))
MADE_BY = (*LIBRARY, *FITTING, "experiments/studies/inside.py", "experiments/studies/inside_worlds.py")
Record = Mapping[str, Any]


def run(settings: Settings, store: Store, on_progress: OnProgress) -> Result:
    """quick: the centre of each loss, one seed, three epochs."""
    asked = tuple(w for w in worlds() if not settings.quick or (w.data == "made" and w.what == "centre"))
    epochs = 3 if settings.quick else EPOCHS
    store.hold({"epochs": epochs, "patience": PATIENCE, "rate": RATE, "decay": DECAY}, MADE_BY)
    total = sum(len(settings.seeds_or(range(w.seeds))) for w in asked)
    torch.set_num_threads(1)
    found: dict[str, list[Record]] = {}
    done = 0
    for world in asked:
        for seed in settings.seeds_or(range(world.seeds)):
            key = {"world": _plain(world), "seed": seed}
            found.setdefault(world.name, []).append(store.cell(key, lambda w=world, s=seed: cell(w, s, settings.data, epochs)))  # type: ignore[misc]
            done += 1
            on_progress(Progress("worlds x seeds", done, total))
    return result(settings, asked, found)


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


# The page --------------------------------------------------------------------------------------------------------------------------


def result(settings: Settings, asked: Sequence[World], found: Mapping[str, Sequence[Record]]) -> Result:
    """The page of finished cells."""
    named = []
    sections = []
    right: list[bool] = []
    for loss in LOSSES:
        for how, words in SERVINGS.items():
            own = [w for w in asked if w.loss == loss]
            compared = compared_over_seeds([_difference(w, found[w.name], how) for w in own])
            named += [((w.name, words), c) for w, c in zip(own, compared, strict=True)]
            sections.append(_section(loss, how, own, found, compared))
            right += [agrees(w, c) for w, c in zip(own, compared, strict=True) if c.p is not None]
    seeds = {world.data: len(found[world.name]) for world in asked}
    text = (
        f"{protocol_words()}. A network trained through the projection, against one projected after training, both served alike; "
        f"{', '.join(f'{n} seeds of {data}' for data, n in seeds.items())}, no row in common. Differences are inside minus after, "
        "paired, of the test rows; of a loss, so less is better. Brackets: 95 % intervals over seeds. Holm's correction within each table."
    )
    first = losses_and_wins(("world", "serving"), named, "minus the loss")
    if right:
        said = f"What the protocol's theory said beforehand agrees with {sum(right)} of {len(right)} outcomes."
        first = Section(first.title, first.rows, verdicts=(*first.verdicts, said))
    return Result(settings.name, "When is the layer inside training better?", text, (first, *sections), _cells(asked, found, settings))


def _difference(world: World, records: Sequence[Record], how: str) -> tuple[str, str, list[float], list[float]]:
    """Quality is minus the loss."""
    quality = [r[f"{AFTER} {how} loss"] - r[f"{INSIDE} {how} loss"] for r in records]
    gap = [r[f"{INSIDE} {how} gap"] - r[f"{AFTER} {how} gap"] for r in records]
    return INSIDE, AFTER, quality, gap


def agrees(world: World, compared: Comparison) -> bool:
    """Whether the outcome was said beforehand. "No difference" agrees with nothing shown, which is less than shown to be none."""
    return (
        compared.outcome
        in {
            "wins": ("wins",),
            "no difference": ("no difference shown",),
            "no win": ("no difference shown", "loses"),
        }[world.expected]
    )


def _section(loss: str, how: str, own: Sequence[World], found: Mapping[str, Sequence[Record]], compared: Sequence[Comparison]) -> Section:
    columns = (
        "changed", f"plain network: {loss}", "its gap", f"after: {loss}", f"inside: {loss}", "inside - after", "95 %", "p, corrected",
        "gap, after", "gap, inside", "95 % of the difference of gaps", "inside", "said beforehand",
    )  # fmt: skip
    rows = []
    for world, one in zip(own, compared, strict=True):
        mean = {name: float(np.mean([r[name] for r in found[world.name]])) for name in FIGURES}
        rows.append(
            (
                world.what if world.data == "made" else f"credit: {world.what}",
                mean[f"{AFTER} raw loss"], mean[f"{AFTER} raw gap"], mean[f"{AFTER} {how} loss"], mean[f"{INSIDE} {how} loss"],
                -one.quality.estimate, _turned(one), one.p,
                mean[f"{AFTER} {how} gap"], mean[f"{INSIDE} {how} gap"], interval(one.gap), one.outcome_or_none, world.expected,
            )
        )  # fmt: skip
    return Section(f"{loss}: {SERVINGS[how]}", Table(columns, tuple(rows)))


def _turned(one: Comparison) -> str | None:
    """The interval of the loss's difference, which is minus that of the quality."""
    low, high = one.quality.low, one.quality.high
    return None if low is None or high is None else f"[{-high:.4f}, {-low:.4f}]"


def _cells(asked: Sequence[World], found: Mapping[str, Sequence[Record]], settings: Settings) -> Table:
    rows = [
        (world.name, seed, *(record[name] for name in FIGURES))
        for world in asked
        for seed, record in zip(settings.seeds_or(range(world.seeds)), found[world.name], strict=True)
    ]
    return Table(("world", "seed", *FIGURES), tuple(rows))


def remade(line: Mapping[str, str], data: Path | None) -> dict[str, float]:
    """The figures of one line of the stored cells, made again."""
    (world,) = (w for w in worlds() if w.name == line["world"])
    return cell(world, int(line["seed"]), data)
