"""Fair decisions: the projection of sharp scores, whose answers are probabilities of the decision 1 with the gap asked for, exactly.

    s_i = 1/2 + (p_i - 1/2) / temperature,   y = nearest to s in [0, 1]^n with the rows within the tolerance

For temperature -> 0 the distance ||y - s||^2 becomes expected error: y maximises sum (2 p_i - 1) y_i, the expected number of right
decisions, over all (randomised) decisions whose rates differ by at most the tolerance. Its answer is a threshold a group, with a
randomised edge: demographic parity moves 1/2 by a constant a group (claim L8, y_i = clip(s_i - theta_g, 0, 1)). Equalized odds takes
the rows of ``expected``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from fairopt.experiments.methods.base import Goal, Output, Predictor, Recipe, Sensitive
from fairopt.experiments.methods.calibrate import Calibration
from fairopt.experiments.methods.expected import Floats, Groups, Moves, compiled, parity
from fairopt.experiments.methods.layer import Layer
from fairopt.experiments.methods.postprocessing import Pool, PostProcessing, pooled
from fairopt.experiments.methods.references import Linear

if TYPE_CHECKING:
    from fairopt.experiments.data.tabular import Parts

TEMPERATURE = 1e-3


class FairDecisions(PostProcessing):
    """Sharp scores of the plain network, calibrated per group on ``pool``, projected.

    inductive=False: each batch that is predicted is projected itself; no target enters, and demographic parity is exact on it.
    inductive=True: the prices of the pool decide; a row is decided without the others.
    """

    output: ClassVar[Output] = "decision"

    def __init__(self, inductive: bool = False, pool: Pool = "all", temperature: float = TEMPERATURE) -> None:
        self.inductive, self.pool, self.temperature = inductive, pool, temperature
        self.batchwise = not inductive
        self.name = "fair decisions, frozen" if inductive else "fair decisions"

    def adjust(self, base: Predictor, parts: Parts, goal: Goal, seed: int) -> Predictor:
        attribute, tolerance, events = parity(goal.notion)
        rows = pooled(parts, self.pool)
        calibration = Calibration.fit(probabilities(base, rows.x, rows.sensitive), rows.y.double().numpy(), rows.sensitive[attribute])

        def calibrated(x: Tensor, sensitive: Sensitive) -> tuple[Floats, Groups]:
            groups = sensitive[attribute]
            return calibration(probabilities(base, x, sensitive), groups), groups

        def decided(x: Tensor, sensitive: Sensitive) -> Tensor:
            p, groups = calibrated(x, sensitive)
            return compiled(tolerance, events, p, groups, (0.0, 1.0)).project(torch.from_numpy(self._sharp(p)))

        if not self.inductive:
            return decided
        p, groups = calibrated(rows.x, rows.sensitive)
        prepared = compiled(tolerance, events, p, groups, (0.0, 1.0))
        prices = prepared.project(torch.from_numpy(self._sharp(p)), return_solution=True).prices
        moves = Moves.of(prepared, np.asarray(prices, dtype=np.float64), p, groups, events)

        def frozen(x: Tensor, sensitive: Sensitive) -> Tensor:
            p, groups = calibrated(x, sensitive)
            return torch.from_numpy(np.clip(self._sharp(p) - moves(p, groups), 0.0, 1.0))

        return frozen

    def _sharp(self, p: Floats) -> Floats:
        return 0.5 + (p - 0.5) / self.temperature


class LayerDecisions(FairDecisions):
    """Fair decisions behind a network that was trained with the fairness layer inside, both at the goal's tolerance."""

    def __init__(self, pool: Pool = "all") -> None:
        super().__init__(pool=pool)
        self.name = "fairness layer + fair decisions"

    def fit(self, parts: Parts, goal: Goal, recipe: Recipe, seed: int) -> Predictor:
        return self.adjust(Layer().network(parts, goal, recipe, seed), parts, goal, seed)


class LinearDecisions(FairDecisions):
    """Fair decisions behind logistic regression: a reference that trains no network."""

    reference: ClassVar[bool] = True

    def __init__(self, pool: Pool = "all") -> None:
        super().__init__(pool=pool)
        self.name = "linear + fair decisions"

    def fit(self, parts: Parts, goal: Goal, recipe: Recipe, seed: int) -> Predictor:
        return self.adjust(Linear().fit(parts, goal, recipe, seed), parts, goal, seed)


def probabilities(base: Predictor, x: Tensor, sensitive: Sensitive) -> Floats:
    """(n,) what ``base`` says, as float64."""
    return np.asarray(base(x, sensitive).double().numpy())
