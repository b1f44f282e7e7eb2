"""The network as it is, without any regard for groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from fairopt.experiments.methods.base import Goal, Method, Recipe
from fairopt.experiments.methods.network import NetworkPredictor, loss, network, scores_of, train

if TYPE_CHECKING:
    from fairopt.experiments.data.tabular import Part, Parts


class Plain(Method):
    """Least loss; the goal gives the space alone."""

    name = "plain network"

    def fit(self, parts: Parts, goal: Goal, recipe: Recipe, seed: int) -> NetworkPredictor:
        model = network(parts.train.x.shape[1], recipe, seed)

        def objective(part: Part) -> Tensor:
            return loss(scores_of(model(part.x)[:, 0], goal), part.y, goal.space)

        train(model, objective, parts, recipe, seed)
        return NetworkPredictor(model, goal)
