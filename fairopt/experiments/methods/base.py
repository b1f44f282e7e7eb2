"""What a method is: something that is fitted on a training and a validation part and then predicts from features and groups alone.

All methods get the same data, the same recipe of the network and the same seed, and answer in the same space; one that cannot serve a
goal says so with UnsupportedError, one whose package is absent with MissingExtraError. A predictor has no argument for targets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import fairopt as fo
from fairopt.basics.errors import UnsupportedError

if TYPE_CHECKING:
    from fairopt.experiments.data.tabular import Part, Parts

Sensitive = Mapping[str, npt.NDArray[np.str_]]
Space = Literal["value", "probability", "logit"]
Output = Literal["score", "decision"]
Pool = Literal["validation", "all"]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. ``batch_size`` None takes all rows at once. The state with the least validation loss is kept.

    patience  epochs without a lower validation loss that are waited for before training ends; None: all ``epochs`` are run
    """

    hidden: tuple[int, ...] = (32,)
    dropout: float = 0.2
    epochs: int = 60
    batch_size: int | None = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    patience: int | None = None


@dataclass(frozen=True)
class Goal:
    """What is asked of the scores.

    make        tolerance -> notion
    tolerance   of the notion; a method with a knob of its own (a penalty's strength) reads the notion alone
    bounds      the box of the scores, in ``space``; None is open
    space       "probability": networks give logits, predictors probabilities; "logit": logits throughout; "value": values throughout
    """

    make: Callable[[float], fo.Notion]
    tolerance: float
    bounds: tuple[float, float] | None = None
    space: Space = "value"

    @property
    def notion(self) -> fo.Notion:
        return self.make(self.tolerance)

    def within(self, tolerance: float) -> Goal:
        """The same goal at another tolerance."""
        return replace(self, tolerance=tolerance)


class Predictor(Protocol):
    """x (n, d) float32 and the groups by attribute (n,) -> (n,) scores in the goal's space, or probabilities of the decision 1.

    All n rows are predicted at once: a predictor may use that they form one batch.
    """

    def __call__(self, x: Tensor, sensitive: Sensitive) -> Tensor: ...


class Method(ABC):
    """name: the words of its row in a table.

    reference  a trivial one, which every other method should beat
    output     "score": decided at 1/2 (0 for logits); "decision": the probability that the decision is 1, drawn for each sample
    batchwise  the prediction of a row depends on the other rows of the call
    """

    name: str
    reference: ClassVar[bool] = False
    output: ClassVar[Output] = "score"
    batchwise: bool = False

    @abstractmethod
    def fit(self, parts: Parts, goal: Goal, recipe: Recipe, seed: int) -> Predictor:
        """Learn from ``parts.train`` and ``parts.validation``; ``parts.held_out`` is not touched."""


class PostProcessing(Method):
    """A method that changes what another predictor says. ``fit`` puts it behind the plain network.

    Those that are fitted themselves have a pool: the validation part, which the network was not trained on, or training and validation.
    """

    def fit(self, parts: Parts, goal: Goal, recipe: Recipe, seed: int) -> Predictor:
        from fairopt.experiments.methods.plain import Plain

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
