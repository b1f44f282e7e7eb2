"""fairlearn's ThresholdOptimizer behind the plain network (Hardt, Price, Srebro 2016): thresholds per group, drawn between two of them.

It reads the group at prediction.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import fairopt as fo
from fairopt.basics.errors import MissingExtraError
from fairopt.experiments.methods.base import Goal, Output, Predictor, Sensitive
from fairopt.experiments.methods.postprocessing import Pool, PostProcessing, parity_attribute, pooled

if TYPE_CHECKING:
    from fairopt.experiments.data.tabular import Parts


class ThresholdOptimizer(PostProcessing):
    """Demographic parity within the goal's tolerance; equalized odds exactly, for fairlearn relaxes nothing there."""

    name = "ThresholdOptimizer"
    output: ClassVar[Output] = "decision"

    def __init__(self, pool: Pool = "validation", grid: int = 1000) -> None:
        self.pool, self.grid = pool, grid

    def adjust(self, base: Predictor, parts: Parts, goal: Goal, seed: int) -> Predictor:
        try:
            from fairlearn.postprocessing import ThresholdOptimizer as Optimizer
        except ImportError as error:
            raise MissingExtraError("ThresholdOptimizer needs fairlearn: pip install fairlearn==0.15.0") from error
        attribute = parity_attribute(goal, self.name)
        odds = isinstance(goal.notion, fo.EqualizedOdds)
        model = Optimizer(
            estimator=given_scores(),
            constraints="equalized_odds" if odds else "demographic_parity",
            prefit=True,
            predict_method="predict_proba",
            grid_size=self.grid,
            tol=None if odds else goal.tolerance,
        )
        part = pooled(parts, self.pool)
        scores = base(part.x, part.sensitive).double().numpy()[:, None]  # (n, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fairlearn warns that it cannot tell whether the estimator is fitted
            model.fit(scores, part.y.long().numpy(), sensitive_features=part.sensitive[attribute])

        def predict(x: Tensor, sensitive: Sensitive) -> Tensor:
            said = base(x, sensitive).double().numpy()[:, None]
            decided: npt.NDArray[np.float64] = model._pmf_predict(said, sensitive_features=sensitive[attribute])[:, 1]
            return torch.from_numpy(np.asarray(decided, dtype=np.float64))

        return predict


def given_scores() -> Any:
    """A scikit-learn classifier whose only feature is the probability."""
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        classes_ = np.array([0, 1])

        def fit(self, x: Any, y: Any) -> Given:
            self.n_features_in_ = 1
            return self

        def predict_proba(self, x: Any) -> npt.NDArray[np.float64]:
            p = np.asarray(x, dtype=np.float64)[:, 0]
            return np.stack([1 - p, p], axis=1)

        def predict(self, x: Any) -> npt.NDArray[np.int64]:
            return (self.predict_proba(x)[:, 1] >= 0.5).astype(np.int64)

    return Given()
