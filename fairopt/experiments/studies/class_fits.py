"""The fits of the study ``classes``: sets in bands, and class probabilities of every method, served as one batch and row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

import fairopt as fo
from fairopt.basics.errors import InputError, MissingExtraError
from fairopt.experiments.data.tabular import Dataset, Encoder, Part, Parts
from fairopt.experiments.evidence.cells import Rows
from fairopt.experiments.evidence.parts import GROUP, dataset, groups_of, places_of
from fairopt.experiments.evidence.protocol import STRENGTHS, TOLERANCES
from fairopt.experiments.methods.base import Recipe
from fairopt.experiments.methods.network import MARGIN, network, train

PARTS = ("validation", "test")
BATCH, ROWS = "batch", "row by row"
PLAIN, FAIRRET = "plain", "fairret"
DISTANCES: dict[str, Literal["squared", "kl"]] = {"squared": "squared", "KL": "kl"}
RECIPES = tuple(Recipe(hidden, 0.1, 60, 128, 3e-3, 1e-3, patience=8) for hidden in ((32,), (64, 32)))
FARTHEST = 15.0  # logits are kept so near each other that no class has probability 0
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """A set, its attributes, and how its target becomes classes: cut at ``edges``, at quintiles of the training rows, or as it stands."""

    data: str
    attributes: tuple[str, ...]
    edges: tuple[float, ...] | Literal["quintiles", "as it stands"]
    classes: int


ASKED = {
    "classes": (Asked("student", ("sex",), (9.5, 11.5, 13.5, 15.5), 5),),
    "classes-final": (Asked("law", ("race",), "quintiles", 5), Asked("compas", ("race", "sex"), "as it stands", 3)),
}


@dataclass(frozen=True)
class Fit:
    """One fit: method, and place and word of its setting."""

    method: str
    setting: int
    word: str
    tolerance: float = 0.0
    strength: float = 0.0
    distance: Literal["squared", "kl"] = "squared"


def fits() -> tuple[Fit, ...]:
    """All of them; rows of a table are methods."""
    found = [Fit(PLAIN, 0, "the better of two recipes")]
    for word, distance in DISTANCES.items():
        for k, t in enumerate(TOLERANCES):
            found += [Fit(f"{name} ({word})", k, f"tolerance {t:g}", t, distance=distance) for name in ("projected", "layer")]
    return (*found, *(Fit(FAIRRET, k, f"strength {s:g}", strength=s) for k, s in enumerate(STRENGTHS)))


def classes_of(asked: Asked, target: Floats, train_target: Floats) -> Floats:
    """(n,) the class of each row."""
    if asked.edges == "as it stands":
        return target
    edges = np.quantile(train_target, (0.2, 0.4, 0.6, 0.8)) if asked.edges == "quintiles" else np.array(asked.edges)
    return np.digitize(target, edges).astype(np.float64)


@dataclass
class Ground:
    """One set and seed."""

    asked: Asked
    seed: int
    data: Path | None = None
    _rows: dict[str, Rows] = field(default_factory=dict)

    @cached_property
    def parts(self) -> dict[str, Part]:
        """train, calibration, validation, test; the target is the class. The group is a feature."""
        data = _dataset(self.asked, self.data)
        groups = groups_of(data, self.asked.attributes)
        places = places_of(data, groups, self.seed, values=True)
        train = places["train"]
        encoder = Encoder.fit(data.features[train], data.names, categories=data.categories)
        kinds = np.unique(groups[train])[1:]
        classes = classes_of(self.asked, data.target, data.target[train])
        made = {}
        for name, rows in places.items():
            known = torch.from_numpy((groups[rows][:, None] == kinds).astype(np.float32))
            x = torch.cat([encoder.encode(data.features[rows]), known], dim=1)
            made[name] = Part(x, torch.from_numpy(classes[rows]).to(torch.float32), {GROUP: groups[rows]})
            self._rows[name] = Rows(rows, classes[rows], groups[rows], values=True)
        self._encoder = encoder
        return made

    def rows(self, part: str) -> Rows:
        """What figures of a part are made of."""
        assert self.parts
        return self._rows[part]

    @cached_property
    def fit_parts(self) -> Parts:
        """What a method may see; the test part is there and not read."""
        p = self.parts
        return Parts(p["train"], p["calibration"], p["test"], self._encoder, self.asked.data, "regression")

    @cached_property
    def plain(self) -> tuple[Callable[[Tensor], Tensor], Recipe]:
        """The plain network, the better of two recipes on the calibration rows."""
        made = [(trained(self, recipe), recipe) for recipe in RECIPES]
        part = self.parts["calibration"]
        losses = [float(cross_entropy(torch.softmax(logits(part.x), 1), part.y)) for logits, _ in made]
        return made[int(np.argmin(losses))]


def _dataset(asked: Asked, path: Path | None) -> Dataset:
    if asked.edges != "as it stands":
        return dataset(asked.data, path)
    from fairopt.experiments.data import compas

    return compas.load(path, two_races=True, levels=True)


def cross_entropy(probabilities: Tensor, y: Tensor) -> Tensor:
    return F.nll_loss(probabilities.clamp(MARGIN, 1.0).log(), y.long())


def trained(ground: Ground, recipe: Recipe, fit: Fit | None = None) -> Callable[[Tensor], Tensor]:
    """Logits (n, C) of a network that was trained plainly, through the layer, or with fairret's penalty."""
    parts = ground.fit_parts
    model = network(parts.train.x.shape[1], recipe, ground.seed, ground.asked.classes)
    layer = layer_of(fit) if fit is not None and fit.method.startswith("layer") else None
    penalty = _fairret(np.unique(parts.train.sensitive[GROUP])) if fit is not None and fit.method == FAIRRET else None

    def logits(x: Tensor) -> Tensor:
        raw: Tensor = model(x)
        return near(raw)

    def objective(part: Part) -> Tensor:
        raw = logits(part.x)
        said = torch.softmax(raw, 1) if layer is None else layer(raw, sensitive_features={GROUP: part.sensitive[GROUP]})
        loss = cross_entropy(said, part.y)
        return loss if penalty is None or fit is None else loss + fit.strength * penalty(said, part.sensitive[GROUP])

    train(model, objective, parts, recipe, ground.seed)
    model.eval()

    def predict(x: Tensor) -> Tensor:
        with torch.no_grad():
            return logits(x)

    return predict


def near(logits: Tensor) -> Tensor:
    """No class further than ``FARTHEST`` below the likeliest."""
    return torch.maximum(logits, logits.detach().amax(1, keepdim=True) - FARTHEST)


def layer_of(fit: Fit) -> fo.FairnessLayer:
    notion = fo.DemographicParity(GROUP, tolerance=fit.tolerance)
    return fo.FairnessLayer(notion, space="probability", outputs="simplex", distance=fit.distance, groups="from data")


def _fairret(groups: npt.NDArray[np.str_]) -> Callable[[Tensor, npt.NDArray[np.str_]], Tensor]:
    """The package's penalty on the positive rate, one class against the rest, summed over the classes."""
    try:
        from fairret.loss import NormLoss
        from fairret.statistic import PositiveRate
    except ImportError as error:
        raise MissingExtraError("fairret is absent: pip install --no-deps fairret==0.1.3") from error
    term: Any = NormLoss(PositiveRate())

    def penalty(said: Tensor, own: npt.NDArray[np.str_]) -> Tensor:
        one_hot = torch.from_numpy(own[:, None] == groups).to(said.dtype)
        total: Tensor = sum((term(said[:, [c]], one_hot, pred_as_logit=False) for c in range(said.shape[1])), start=said.sum() * 0.0)
        return total

    return penalty


def outputs(ground: Ground, fit: Fit) -> dict[str, dict[str, Floats]]:
    """serving -> part -> (n, C) probabilities of validation and test rows. No target is in reach."""
    plain, recipe = ground.plain
    logits = trained(ground, recipe, fit) if fit.method == FAIRRET or fit.method.startswith("layer") else plain
    if fit.method in (PLAIN, FAIRRET):
        said = {name: _array(torch.softmax(logits(ground.parts[name].x), 1)) for name in PARTS}
        return {BATCH: said, ROWS: said}
    calibration = ground.parts["calibration"]
    frozen = layer_of(fit).freeze_classes(
        logits(calibration.x), sensitive_features={GROUP: calibration.sensitive[GROUP]}, on_unknown="pass"
    )
    found: dict[str, dict[str, Floats]] = {BATCH: {}, ROWS: {}}
    for name in PARTS:
        part = ground.parts[name]
        raw, asked = logits(part.x), {GROUP: part.sensitive[GROUP]}
        with torch.no_grad():
            found[BATCH][name] = _array(layer_of(fit).eval()(raw, sensitive_features=asked))
            found[ROWS][name] = _array(frozen(raw, frozen.index(asked)))
    return found


def _array(said: Tensor) -> Floats:
    values = np.round(said.double().numpy(), 6)
    if not np.isfinite(values).all():
        raise InputError("classes: a method gave probabilities that are no numbers")
    return values


def table_of(record: Mapping[str, Any], serving: str, part: str) -> Floats:
    return np.array(record[serving][part], dtype=np.float64)
