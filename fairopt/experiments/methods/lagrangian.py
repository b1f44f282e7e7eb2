"""The Lagrangian rival: one multiplier a constraint, raised while the constraint is broken, with the package ``cooper-optim``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fairopt.basics.errors import MissingExtraError
from fairopt.experiments.methods.base import Goal, Method, Predictor, Recipe, Sensitive
from fairopt.experiments.methods.network import loss, network, train
from fairopt.experiments.methods.penalty import boxed
from fairopt.experiments.methods.violation import excess_of

if TYPE_CHECKING:
    from fairopt.experiments.data.tabular import Part, Parts


# What an excess of 1 costs where states are compared, in units of the loss.
PRICE = 3.0


class Lagrangian(Method):
    """min over the network, max over multipliers >= 0, of loss + multipliers . (gap - tolerance).

    rate: step of the multipliers, ascent with plain gradients. The multipliers move, so the Lagrangian of one epoch is no measure of
    another's state: kept is the state with the least loss + PRICE * (what the gaps exceed the tolerance by), on the validation part.
    """

    name = "Lagrangian (cooper)"

    def __init__(self, rate: float = 0.2) -> None:
        self.rate = rate

    def fit(self, parts: Parts, goal: Goal, recipe: Recipe, seed: int) -> Predictor:
        try:
            import cooper
        except ImportError as error:
            raise MissingExtraError("the Lagrangian needs cooper: pip install cooper-optim==1.0.1") from error
        model = network(parts.train.x.shape[1], recipe, seed)
        count = int(excess_of(parts.train.y, parts.train, goal).shape[0])
        multiplier = cooper.multipliers.DenseMultiplier(num_constraints=count)
        constraint = cooper.Constraint(cooper.ConstraintType.INEQUALITY, multiplier=multiplier)
        ascent = torch.optim.SGD(multiplier.parameters(), lr=self.rate, maximize=True)

        def scores(x: Tensor) -> Tensor:
            return boxed(model(x)[:, 0], goal)

        def objective(part: Part) -> Tensor:
            said = scores(part.x)
            broken = cooper.ConstraintState(violation=excess_of(said, part, goal))
            state = cooper.CMPState(loss=loss(said, part.y, goal.space), observed_constraints={constraint: broken})
            primal: Tensor = state.compute_primal_lagrangian().lagrangian
            ascent.zero_grad()
            state.compute_dual_lagrangian().backward()
            ascent.step()
            multiplier.post_step_()
            return primal

        def judged(part: Part) -> Tensor:
            said = scores(part.x)
            return loss(said, part.y, goal.space) + PRICE * excess_of(said, part, goal).relu().sum()

        def predict(x: Tensor, sensitive: Sensitive) -> Tensor:
            with torch.no_grad():
                return scores(x)

        train(model, objective, parts, recipe, seed, judged=judged)
        return predict
