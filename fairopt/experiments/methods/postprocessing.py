"""Methods that change what the plain network says, the rows that they are fitted on, and the goals that they can serve."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

import fairopt as fo
from fairopt.basics.errors import UnsupportedError
from fairopt.experiments.methods.base import Goal, Method, Predictor, Recipe
from fairopt.experiments.methods.plain import Plain

if TYPE_CHECKING:
    from fairopt.experiments.data.tabular import Part, Parts

Pool = Literal["validation", "all"]


class PostProcessing(Method):
    """A method that changes what another predictor says. ``fit`` puts it behind the plain network.

    Those that are fitted themselves have a pool: the validation part, which the network was not trained on, or training and validation.
    """

    def fit(self, parts: Parts, goal: Goal, recipe: Recipe, seed: int) -> Predictor:
        return self.adjust(Plain().fit(parts, goal, recipe, seed), parts, goal, seed)

    @abstractmethod
    def adjust(self, base: Predictor, parts: Parts, goal: Goal, seed: int) -> Predictor:
        """A predictor made of ``base``, whose scores are in the goal's space."""


def pooled(parts: Parts, pool: Pool) -> Part:
    """The rows that a post-processing method is fitted on."""
    first, second = parts.train, parts.validation
    if pool == "validation":
        return second
    sensitive = {name: np.concatenate([values, second.sensitive[name]]) for name, values in first.sensitive.items()}
    return type(first)(torch.cat([first.x, second.x]), torch.cat([first.y, second.y]), sensitive)


def parity_attribute(goal: Goal, method: str) -> str:
    """The one attribute of a goal that packages for classifiers know: demographic parity or equalized odds of probabilities."""
    notion = goal.notion
    if type(notion) not in (fo.DemographicParity, fo.EqualizedOdds) or goal.space != "probability" or len(notion.attributes) != 1:
        expected = "demographic parity or equalized odds of probabilities"
        raise UnsupportedError(f"{method}: got {notion!r} in space {goal.space!r}, expected {expected}")
    return notion.attributes[0]
