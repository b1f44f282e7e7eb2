"""Fair decisions: ``fairopt.FairDecisions`` behind any predictor."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

import fairopt as fo
from fairopt.experiments.methods.base import Goal, Output, Predictor, Sensitive
from fairopt.experiments.methods.expected import Floats, parity
from fairopt.experiments.methods.postprocessing import Pool, PostProcessing, pooled

if TYPE_CHECKING:
    from fairopt.experiments.data.tabular import Parts


class FairDecisions(PostProcessing):
    """Thresholds fitted on ``pool``.

    inductive=False: each batch that is predicted is solved itself; no target enters, and demographic parity is exact on it.
    inductive=True: the thresholds of the pool decide, each row without the others.
    """

    output: ClassVar[Output] = "decision"

    def __init__(self, inductive: bool = False, pool: Pool = "all") -> None:
        self.inductive, self.pool = inductive, pool
        self.batchwise = not inductive
        self.name = "fair decisions, frozen" if inductive else "fair decisions"

    def adjust(self, base: Predictor, parts: Parts, goal: Goal, seed: int) -> Predictor:
        attribute = parity(goal.notion)[0]
        rows = pooled(parts, self.pool)
        model = fo.FairDecisions(goal.notion, random_state=seed).fit(
            probabilities(base, rows.x, rows.sensitive), rows.y.long().numpy(), {attribute: rows.sensitive[attribute]}
        )
        serve = model.predict_proba if self.inductive else model.transduce

        def decided(x: Tensor, sensitive: Sensitive) -> Tensor:
            return torch.from_numpy(serve(probabilities(base, x, sensitive), {attribute: sensitive[attribute]})[:, 1].copy())

        return decided


def probabilities(base: Predictor, x: Tensor, sensitive: Sensitive) -> Floats:
    """(n,) what ``base`` says, as float64."""
    return np.asarray(base(x, sensitive).double().numpy())
