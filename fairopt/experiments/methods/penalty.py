"""Penalties on the gaps: the usual rival, and the paper's strict one.

    loss + strength * sum over the constraints of the whole gap, tolerance or not (Troxell, Roemer, Montufar 2026)

Values with a finite box come out of a scaled sigmoid, as in the paper, for nothing else would keep them inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fairopt.experiments.methods.base import Goal, Method, Predictor, Recipe, Sensitive
from fairopt.experiments.methods.network import loss, network, scores_of, train
from fairopt.experiments.methods.violation import excess_of

if TYPE_CHECKING:
    from fairopt.experiments.data.tabular import Part, Parts

STRICT = 5000.0


class Penalty(Method):
    """strength: the price of a gap of 1, in units of the loss."""

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength
        self.name = "penalty"

    def fit(self, parts: Parts, goal: Goal, recipe: Recipe, seed: int) -> Predictor:
        model = network(parts.train.x.shape[1], recipe, seed)
        whole = goal.within(0.0)

        def scores(x: Tensor) -> Tensor:
            return boxed(model(x)[:, 0], goal)

        def objective(part: Part) -> Tensor:
            said = scores(part.x)
            return loss(said, part.y, goal.space) + self.strength * excess_of(said, part, whole).relu().sum()

        def predict(x: Tensor, sensitive: Sensitive) -> Tensor:
            with torch.no_grad():
                return scores(x)

        train(model, objective, parts, recipe, seed)
        return predict


class StrictPenalty(Penalty):
    """The strength that the paper takes where it wants the gap to vanish."""

    def __init__(self) -> None:
        super().__init__(STRICT)
        self.name = "strict penalty"


def boxed(raw: Tensor, goal: Goal) -> Tensor:
    """The network's output in the goal's space, inside its box where that is finite."""
    if goal.space != "value" or goal.bounds is None:
        return scores_of(raw, goal)
    low, high = goal.bounds
    return low + (high - low) * torch.sigmoid(raw)
