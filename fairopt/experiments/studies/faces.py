"""CelebA and FairFace as in the paper, where the images are given: parity of logits between all pairs of groups.

Source: Troxell, Roemer, Montufar 2026: CelebA with 4 groups (6 pairs) within 1e-3, FairFace with 14 groups (91 pairs) within 1e-4;
ResNet-18 and SimpleCNN are two of their five networks. What they predict is not said in what we have: here CelebA's "Smiling", and whether
a person of FairFace is 30 or older. ``emoji`` is the stand-in that runs without these images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import fairopt as fo
from fairopt.basics.errors import InputError
from fairopt.experiments.data import faces as data
from fairopt.experiments.data.faces import Faces
from fairopt.experiments.methods.base import Goal, Recipe
from fairopt.experiments.methods.convolutional import ResNet18, SmallCNN
from fairopt.experiments.reproduce import OnProgress, Progress, Result, Settings
from fairopt.experiments.store import Store
from fairopt.experiments.studies.four_ways import Rows, predict, train
from fairopt.experiments.studies.image_figures import measured
from fairopt.experiments.studies.image_tables import CONSTANT, LAYER, PENALTY, PLAIN, PROJECTED, paper_table, section

RECIPE = Recipe(hidden=(32, 64, 128), dropout=0.3, epochs=10, batch_size=256, learning_rate=1e-3, weight_decay=1e-4)
STRENGTH = 1.0
Networks = dict[str, Callable[[int], nn.Module]]


@dataclass(frozen=True)
class Plan:
    """What differs between the two: how the images are loaded, and the paper's tolerance on logits."""

    load: Callable[[Path | None, int], Faces]
    tolerance: float
    sides: dict[str, int]


def _celeba(path: Path | None, side: int) -> Faces:
    return data.celeba(path, side=side)


def _fairface(path: Path | None, side: int) -> Faces:
    return data.fairface(path, side=side)


SIDES = {"SimpleCNN": 64, "ResNet-18": 128}
PLANS = {"celeba": Plan(_celeba, 1e-3, SIDES), "fairface": Plan(_fairface, 1e-4, SIDES)}


def run(settings: Settings, store: Store, on_progress: OnProgress) -> Result:
    """``settings.name`` is "celeba" or "fairface"; quick: SimpleCNN for one epoch. A GPU is used where there is one."""
    recipe = replace(RECIPE, epochs=1) if settings.quick else RECIPE
    return run_with(settings, store, on_progress, recipe, ("SimpleCNN",) if settings.quick else tuple(SIDES))


def run_with(settings: Settings, store: Store, on_progress: OnProgress, recipe: Recipe, networks: tuple[str, ...]) -> Result:
    """As ``run`` with another recipe and choice of networks."""
    if settings.name not in PLANS:
        raise InputError(f"experiment: got {settings.name!r}, expected one of {', '.join(PLANS)}")
    plan = PLANS[settings.name]
    seeds = settings.seeds_or((0,))
    store.hold({"recipe": asdict(recipe), "tolerance": plan.tolerance, "strength": STRENGTH})
    sections = []
    for number, name in enumerate(networks):
        faces = plan.load(settings.data, plan.sides[name])
        runs = []
        for seed in seeds:
            runs.append(store.cell({"network": name, "seed": seed}, lambda n=name, f=faces, s=seed: _one(n, f, plan, recipe, s)))  # type: ignore[misc]
            on_progress(Progress(settings.name, number * len(seeds) + len(runs), len(networks) * len(seeds)))
        paper = paper_table((settings.name,), "The paper's accuracies:") if number == 0 else None
        sections.append(section(f"{faces.name}, {name}: parity of logits", runs, paper))
    text = (
        f"{settings.name}: all pairs of groups within {plan.tolerance:g} on the logits, held-out images served as one batch; seeds "
        f"{', '.join(map(str, seeds))}; {recipe.epochs} epochs of Adam, batches of {recipe.batch_size} with the groups' shares; penalty of "
        f"strength {STRENGTH:g}. No prediction uses a held-out target."
    )
    return Result(settings.name, f"Face images: {settings.name}", text, tuple(sections))


def _network(name: str, side: int, recipe: Recipe, seed: int) -> nn.Module:
    """On the GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    made: nn.Module = ResNet18(seed) if name == "ResNet-18" else SmallCNN(side, recipe.hidden, recipe.dropout, seed)
    return made.to(device)


def _one(name: str, faces: Faces, plan: Plan, recipe: Recipe, seed: int) -> dict[str, Any]:
    """method -> figures of the held-out images."""

    def make(tolerance: float) -> fo.Notion:
        return fo.DemographicParity(faces.group, tolerance=tolerance)

    goal = Goal(make, plan.tolerance, None, "logit")

    def scores(**how: Any) -> Tensor:
        network = _network(name, plan.sides[name], recipe, seed)
        train(network, faces.train, faces.validation, goal, recipe, seed, **how)
        return predict(network, faces.held_out, goal)

    plain = scores()
    rows: Rows = faces.held_out
    constant = torch.logit(faces.train.y.double().mean()).expand(len(rows))
    return {
        CONSTANT: measured(constant, rows, goal, project=False),
        PLAIN: measured(plain, rows, goal, project=False),
        PROJECTED: measured(plain, rows, goal, project=True),
        PENALTY: measured(scores(penalty=STRENGTH), rows, goal, project=False),
        LAYER: measured(scores(layer=fo.FairnessLayer(goal.notion)), rows, goal, project=True),
    }
