"""Projection after training: the nearest scores that meet the notion exactly, for any predictor.

Where the notion needs no targets, each batch that is predicted is projected itself. Where it does, no label is known when a score is
sent: residual notions get the shift of each group that the validation part asks for (a frozen layer); rates among positives or
negatives take the probabilities of the labels (``expected``), calibrated per group on the validation part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

import fairopt as fo
from fairopt.basics.errors import UnsupportedError
from fairopt.experiments.methods.base import Goal, Predictor, Sensitive
from fairopt.experiments.methods.expected import Floats, compiled, parity
from fairopt.experiments.methods.postprocessing import PostProcessing
from fairopt.notions.parity import Parity
from fairopt.training.decisions.calibration import Calibration

if TYPE_CHECKING:
    from fairopt.experiments.data.tabular import Part, Parts

Nearest = Literal["squared", "kl"]
LEAST = 3e-7  # a probability of 0 or 1 has no divergence: what a float32 logit of 15 gives


def moved_scores(scores: Tensor, nearest: Nearest) -> Tensor:
    """Scores as the distance wants them."""
    return scores.clamp(LEAST, 1 - LEAST) if nearest == "kl" else scores


def asked(sensitive: Sensitive, notion: fo.Notion) -> dict[str, object]:
    """The columns that ``notion`` reads."""
    return {name: sensitive[name] for name in notion.attributes}


def frozen(base: Predictor, part: Part, goal: Goal, nearest: Nearest = "squared") -> fo.FrozenLayer:
    """Shifts per group with which ``base`` meets the notion on ``part``, targets used. UnsupportedError where one would need the label."""
    layer = fo.FairnessLayer(goal.notion, bounds=goal.bounds, distance=nearest)
    scores = moved_scores(base(part.x, part.sensitive), nearest)
    targets = part.y if goal.notion.needs_targets else None
    return layer.freeze(scores, sensitive_features=asked(part.sensitive, goal.notion), targets=targets, on_unknown="pass")


class Projection(PostProcessing):
    """``fo.project`` behind the plain network. inductive: the frozen shifts of the validation part even where no targets are needed.

    nearest: the distance, "squared" or "kl"; rates among positives or negatives have squares alone.
    """

    def __init__(self, inductive: bool = False, nearest: Nearest = "squared") -> None:
        self.inductive, self.nearest = inductive, nearest
        self.batchwise = not inductive
        self.name = "projection, frozen" if inductive else "projection"

    def adjust(self, base: Predictor, parts: Parts, goal: Goal, seed: int) -> Predictor:
        notion = goal.notion
        if isinstance(notion, Parity) and notion.needs_targets and not self.inductive:
            if self.nearest != "squared":
                raise UnsupportedError(f"projection: got nearest={self.nearest!r} for {notion!r}, expected 'squared'")
            return _expected(base, parts.validation, goal)
        if self.inductive or notion.needs_targets:
            layer = frozen(base, parts.validation, goal, self.nearest)

            def shifted(x: Tensor, sensitive: Sensitive) -> Tensor:
                fair: Tensor = layer.predict(moved_scores(base(x, sensitive), self.nearest), sensitive_features=asked(sensitive, notion))
                return fair

            return shifted

        def projected(x: Tensor, sensitive: Sensitive) -> Tensor:
            scores, asks = moved_scores(base(x, sensitive), self.nearest), asked(sensitive, notion)
            return fo.project(scores, notion, sensitive_features=asks, bounds=goal.bounds, distance=self.nearest)

        return projected


def _expected(base: Predictor, part: Part, goal: Goal) -> Predictor:
    """Projection with the labels' probabilities in the rows, which scores must be able to say."""
    attribute, tolerance, events = parity(goal.notion)
    if goal.space == "value":
        raise UnsupportedError(
            f"projection: got {goal.notion!r} of values, expected probabilities or logits: no label is known at prediction"
        )

    def chances(scores: Tensor) -> Floats:
        return np.asarray((torch.sigmoid(scores) if goal.space == "logit" else scores).double().numpy())

    calibration = Calibration.fit(chances(base(part.x, part.sensitive)), part.y.double().numpy(), part.sensitive[attribute])

    def projected(x: Tensor, sensitive: Sensitive) -> Tensor:
        scores, groups = base(x, sensitive), sensitive[attribute]
        return compiled(tolerance, events, calibration(chances(scores), groups), groups, goal.bounds).project(scores)

    return projected
