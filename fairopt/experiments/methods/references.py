"""Trivial references: a constant, and a linear or logistic model. What does not beat them is not worth its trouble."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from fairopt.basics.extras import missing
from fairopt.experiments.methods.base import Goal, Method, Predictor, Recipe, Sensitive
from fairopt.experiments.methods.postprocessing import PostProcessing
from fairopt.experiments.methods.projection import Projection

if TYPE_CHECKING:
    from fairopt.experiments.data.tabular import Parts


class Constant(Method):
    """The mean target of the training rows for everyone."""

    name = "constant"
    reference: ClassVar[bool] = True

    def fit(self, parts: Parts, goal: Goal, recipe: Recipe, seed: int) -> Predictor:
        mean = parts.train.y.double().mean()
        value = torch.logit(mean) if goal.space == "logit" else mean
        return lambda x, sensitive: value.to(x.dtype).expand(x.shape[0]).clone()


class Linear(Method):
    """Logistic regression, or least squares where the target is a number. Fitted on the training rows, without a random part."""

    name = "linear model"
    reference: ClassVar[bool] = True

    def fit(self, parts: Parts, goal: Goal, recipe: Recipe, seed: int) -> Predictor:
        try:
            from sklearn.linear_model import LinearRegression, LogisticRegression
        except ImportError as error:
            raise missing("the linear reference needs scikit-learn", "experiments") from error
        model = LinearRegression() if goal.space == "value" else LogisticRegression(max_iter=1000)
        model.fit(parts.train.x.double().numpy(), parts.train.y.double().numpy())
        weights = torch.from_numpy(model.coef_).double().reshape(-1)
        intercept = float(model.intercept_ if goal.space == "value" else model.intercept_[0])

        def predict(x: Tensor, sensitive: Sensitive) -> Tensor:
            raw = x.double() @ weights + intercept
            return (torch.sigmoid(raw) if goal.space == "probability" else raw).to(x.dtype)

        return predict


class LinearProjected(PostProcessing):
    """The linear model, its predictions projected: exact, and without any training of a network."""

    name = "linear + projection"
    reference: ClassVar[bool] = True
    batchwise = True

    def fit(self, parts: Parts, goal: Goal, recipe: Recipe, seed: int) -> Predictor:
        return self.adjust(Linear().fit(parts, goal, recipe, seed), parts, goal, seed)

    def adjust(self, base: Predictor, parts: Parts, goal: Goal, seed: int) -> Predictor:
        return Projection().adjust(base, parts, goal, seed)
