"""The reductions rival: fairlearn's ExponentiatedGradient (Agarwal, Beygelzimer, Dudik, Langford, Wallach 2018).

A randomised mixture of classifiers that were fitted on reweighted rows. It asks for dozens of fits; its oracle is logistic regression, or
gradient boosting with few trees.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

import fairopt as fo
from fairopt.basics.errors import MissingExtraError
from fairopt.experiments.methods.base import Goal, Method, Output, Predictor, Recipe, Sensitive
from fairopt.experiments.methods.postprocessing import parity_attribute

if TYPE_CHECKING:
    from fairopt.experiments.data.tabular import Parts


class ExponentiatedGradient(Method):
    """Trained on the training rows; the recipe, which is of networks, is not read. Its draws are replaced by their probabilities."""

    name = "ExponentiatedGradient"
    output: ClassVar[Output] = "decision"

    def __init__(self, iterations: int = 30, oracle: Literal["logistic", "boosting"] = "logistic", trees: int = 40) -> None:
        self.iterations, self.oracle, self.trees = iterations, oracle, trees

    def fit(self, parts: Parts, goal: Goal, recipe: Recipe, seed: int) -> Predictor:
        try:
            from fairlearn.reductions import DemographicParity, EqualizedOdds
            from fairlearn.reductions import ExponentiatedGradient as Reduction
        except ImportError as error:
            raise MissingExtraError("ExponentiatedGradient needs fairlearn: pip install fairlearn==0.15.0") from error
        attribute = parity_attribute(goal, self.name)
        moment = EqualizedOdds if isinstance(goal.notion, fo.EqualizedOdds) else DemographicParity
        # fairlearn bounds |group - all|: two groups on both sides may be twice as far apart.
        bound = goal.tolerance / 2
        model = Reduction(self._oracle(seed), moment(difference_bound=bound), eps=max(bound, 1e-3), max_iter=self.iterations)
        train = parts.train
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas and scikit-learn warn about fairlearn's own calls
            model.fit(train.x.double().numpy(), train.y.long().numpy(), sensitive_features=train.sensitive[attribute])

        def predict(x: Tensor, sensitive: Sensitive) -> Tensor:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                decided = torch.from_numpy(model._pmf_predict(x.double().numpy())[:, 1].astype("float64"))
            return decided.clamp(0.0, 1.0)  # the mixture's weights sum to 1 up to rounding

        return predict

    def _oracle(self, seed: int) -> Any:
        """The classifier that is fitted on reweighted rows."""
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.linear_model import LogisticRegression

        if self.oracle == "boosting":
            return HistGradientBoostingClassifier(max_iter=self.trees, max_leaf_nodes=15, early_stopping=False, random_state=seed)
        return LogisticRegression(solver="newton-cholesky", max_iter=50)
