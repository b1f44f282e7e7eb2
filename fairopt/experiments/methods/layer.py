"""The fairness layer inside training: the network learns to be projected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

import fairopt as fo
from fairopt.experiments.methods.base import Goal, Predictor, Recipe
from fairopt.experiments.methods.network import NetworkPredictor, loss, network, scores_of, train
from fairopt.experiments.methods.postprocessing import PostProcessing
from fairopt.experiments.methods.projection import Nearest, Projection, asked

if TYPE_CHECKING:
    from fairopt.experiments.data.tabular import Part, Parts


FARTHEST = 15.0


class Layer(PostProcessing):
    """A ``FairnessLayer`` behind the network in training and after; distance: weight of mean (y - z)^2 in the loss.

    The distance term reaches samples that the box has clamped (``FairModel.with_distance``). Predictions: as ``Projection``, so that
    no target is used, whatever the notion. nearest: the layer's distance, inside training and after, "squared" or "kl".
    """

    def __init__(self, distance: float = 0.0, inductive: bool = False, nearest: Nearest = "squared") -> None:
        self.distance, self.inductive, self.nearest = distance, inductive, nearest
        self.batchwise = not inductive
        self.name = "fairness layer, frozen" if inductive else "fairness layer"

    def fit(self, parts: Parts, goal: Goal, recipe: Recipe, seed: int) -> Predictor:
        return self.adjust(self.network(parts, goal, recipe, seed), parts, goal, seed)

    def adjust(self, base: Predictor, parts: Parts, goal: Goal, seed: int) -> Predictor:
        """The layer behind a network that was trained with it."""
        return Projection(self.inductive, self.nearest).adjust(base, parts, goal, seed)

    def network(self, parts: Parts, goal: Goal, recipe: Recipe, seed: int) -> NetworkPredictor:
        """The trained network without its layer."""
        model = network(parts.train.x.shape[1], recipe, seed)
        notion = goal.notion
        layer = fo.FairnessLayer(notion, bounds=goal.bounds, distance=self.nearest)

        def objective(part: Part) -> Tensor:
            raw = model(part.x)[:, 0]
            # A probability that rounds to 0 or 1 has no divergence: no logit of float32 beyond this.
            raw = scores_of(raw.clamp(-FARTHEST, FARTHEST) if self.nearest == "kl" else raw, goal)
            targets = part.y if notion.needs_targets else None
            fair = layer(raw, sensitive_features=asked(part.sensitive, notion), targets=targets)
            said = loss(fair, part.y, goal.space)
            return said + self.distance * torch.mean((fair - raw) ** 2) if self.distance else said

        train(model, objective, parts, recipe, seed)
        return NetworkPredictor(model, goal)
