"""``fairopt.FairPostprocessor`` behind scores that are there already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fairopt.basics.errors import UnsupportedError
from fairopt.experiments.methods.base import Goal, Predictor, Sensitive
from fairopt.experiments.methods.postprocessing import PostProcessing, parity_attribute
from fairopt.experiments.methods.threshold import given_scores
from fairopt.notions.parity import Parity

if TYPE_CHECKING:
    from fairopt.experiments.data.tabular import Parts


class Postprocessor(PostProcessing):
    """Shifts a group, fitted on the calibration rows (``parts.validation``); each later row by itself."""

    name = "FairPostprocessor"

    def adjust(self, base: Predictor, parts: Parts, goal: Goal, seed: int) -> Predictor:
        from fairopt import FairPostprocessor

        if isinstance(goal.notion, Parity) and goal.notion.needs_targets:
            raise UnsupportedError(f"{self.name}: got {goal.notion!r}, expected a notion that one shift a group serves")
        attribute = parity_attribute(goal, self.name) if goal.space == "probability" else goal.notion.attributes[0]
        rows = parts.validation
        said = np.asarray(base(rows.x, rows.sensitive).double().numpy())[:, None]
        values = goal.space == "value"
        y = rows.y.double().numpy() if values else rows.y.long().numpy()
        behind = given_values().fit(said, y) if values else given_scores().fit(said, y)
        model = FairPostprocessor(behind, goal.notion, prefit=True, bounds=goal.bounds, random_state=seed)
        model.fit(said, y, {attribute: rows.sensitive[attribute]})

        def predict(x: Tensor, sensitive: Sensitive) -> Tensor:
            scores = np.asarray(base(x, sensitive).double().numpy())[:, None]
            asked = {attribute: sensitive[attribute]}
            found = model.predict(scores, asked) if values else model.predict_proba(scores, asked)[:, 1]
            return torch.from_numpy(np.array(found, dtype=np.float64))

        return predict


def given_values() -> Any:
    """A scikit-learn regressor whose only feature is the prediction."""
    from sklearn.base import BaseEstimator, RegressorMixin

    class Given(RegressorMixin, BaseEstimator):  # type: ignore[misc]
        def fit(self, x: Any, y: Any) -> Given:
            self.n_features_in_ = 1
            return self

        def predict(self, x: Any) -> npt.NDArray[np.float64]:
            return np.asarray(x, dtype=np.float64)[:, 0]

    return Given()
