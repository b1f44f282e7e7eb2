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
from torch import Tensor

import fairopt as fo

if TYPE_CHECKING:
    from fairopt.experiments.data.tabular import Parts

Sensitive = Mapping[str, npt.NDArray[np.str_]]
Space = Literal["value", "probability", "logit"]
Output = Literal["score", "decision"]


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
