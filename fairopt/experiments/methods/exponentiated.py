"""The reductions rival: fairlearn's ExponentiatedGradient (Agarwal, Beygelzimer, Dudik, Langford, Wallach 2018).

A randomised mixture of classifiers that were fitted on reweighted rows. It asks for dozens of fits; its oracle is logistic regression, or
gradient boosting with few trees. The features of the boosting are cut into quantiles once: scikit-learn would do so in every fit, with
that fit's weights, which takes nine tenths of its time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import fairopt as fo
from fairopt.basics.errors import MissingExtraError
from fairopt.experiments.methods.base import Goal, Method, Output, Predictor, Recipe, Sensitive
from fairopt.experiments.methods.postprocessing import parity_attribute

if TYPE_CHECKING:
    from fairopt.experiments.data.tabular import Parts


BINS = 255  # most values of a feature that boosting tells apart, as in scikit-learn
Floats = npt.NDArray[np.float64]


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
        features = _coded(train.x) if self.oracle == "boosting" else _plain
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas and scikit-learn warn about fairlearn's own calls
            model.fit(features(train.x), train.y.long().numpy(), sensitive_features=train.sensitive[attribute])

        def predict(x: Tensor, sensitive: Sensitive) -> Tensor:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                decided = torch.from_numpy(model._pmf_predict(features(x))[:, 1].astype("float64"))
            return decided.clamp(0.0, 1.0)  # the mixture's weights sum to 1 up to rounding

        return predict

    def _oracle(self, seed: int) -> Any:
        """The classifier that is fitted on reweighted rows."""
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.linear_model import LogisticRegression

        if self.oracle == "boosting":
            return HistGradientBoostingClassifier(max_iter=self.trees, max_leaf_nodes=15, early_stopping=False, random_state=seed)
        return LogisticRegression(solver="newton-cholesky", max_iter=50)


def _plain(x: Tensor) -> Floats:
    """(n, p) the features as they are."""
    return x.double().numpy()


def _coded(train: Tensor) -> Callable[[Tensor], Floats]:
    """x (n, p) -> (n, p) the quantile of the training rows in which each value lies; at most BINS a feature."""
    edges = [np.unique(np.quantile(column, np.arange(1, BINS) / BINS)) for column in _plain(train).T]

    def code(x: Tensor) -> Floats:
        return np.stack([np.searchsorted(cuts, c, side="right") for cuts, c in zip(edges, _plain(x).T, strict=True)], 1).astype(np.float64)

    return code
