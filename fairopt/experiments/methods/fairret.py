"""fairret: a penalty on each group's rate relative to the overall one (Buyl, Defrance, De Bie 2024), with the package ``fairret``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.errors import MissingExtraError
from fairopt.experiments.methods.base import Goal, Method, Predictor, Recipe
from fairopt.experiments.methods.network import NetworkPredictor, loss, network, scores_of, train
from fairopt.experiments.methods.postprocessing import parity_attribute

if TYPE_CHECKING:
    from fairopt.experiments.data.tabular import Part, Parts


class Fairret(Method):
    """loss + strength * NormLoss of the positive rate, or of the true and false positive rates: sum over groups of |rate / overall - 1|."""

    name = "fairret"

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def fit(self, parts: Parts, goal: Goal, recipe: Recipe, seed: int) -> Predictor:
        try:
            from fairret.loss import NormLoss
            from fairret.statistic import FalsePositiveRate, PositiveRate, TruePositiveRate
        except ImportError as error:
            raise MissingExtraError("fairret is absent: pip install --no-deps fairret==0.1.3") from error
        attribute = parity_attribute(goal, self.name)
        rates: tuple[Any, ...] = (PositiveRate,) if not goal.notion.needs_targets else (TruePositiveRate, FalsePositiveRate)
        terms = [NormLoss(rate()) for rate in rates]
        model = network(parts.train.x.shape[1], recipe, seed)
        groups = np.unique(parts.train.sensitive[attribute])

        def objective(part: Part) -> Tensor:
            raw = model(part.x)
            one_hot = torch.from_numpy(part.sensitive[attribute][:, None] == groups).to(raw.dtype)  # (n, K)
            facts = (part.y[:, None],) if goal.notion.needs_targets else ()
            added = sum((term(raw, one_hot, *facts) for term in terms), start=torch.zeros((), device=raw.device))
            return loss(scores_of(raw[:, 0], goal), part.y, goal.space) + self.strength * added

        train(model, objective, parts, recipe, seed)
        return NetworkPredictor(model, goal)
