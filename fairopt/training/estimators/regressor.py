"""``FairRegressor``: a regressor for scikit-learn whose predictions meet a parity notion."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.errors import InputError
from fairopt.basics.table import Table
from fairopt.notions.groups import Missing
from fairopt.training.estimators.base import FairEstimator, Floats
from fairopt.training.inputs.columns import Cuts
from fairopt.training.inputs.notion import NotionLike

# after `estimators`, which says what to install where scikit-learn is absent
from sklearn.base import RegressorMixin  # isort: skip
from sklearn.metrics import r2_score  # isort: skip
from sklearn.utils import check_array, column_or_1d  # isort: skip


class FairRegressor(RegressorMixin, FairEstimator):  # type: ignore[misc]
    """One number a row; the predictions meet ``notion``, whose tolerance is in the target's units.

    Parameters, attributes and guarantees are those of ``FairClassifier``, but for:

    bounds    of the predictions, (low, high); None is open. ``guarantees_`` bound the population only where both are given
    notion    DemographicParity (means within a tolerance), MeanResidual and ResidualParity (mean errors), GroupMeanBound, ...; notions
              on the groups of one label, such as EqualizedOdds, are for targets 0 and 1

    Mean residuals need targets: known in ``fit``, where the shift of each group is frozen, and not asked for in ``predict``.

    Examples:
        >>> from fairopt.training import FairRegressor
        >>> generator = np.random.default_rng(0)
        >>> X, sex = generator.normal(size=(300, 3)), generator.choice(["f", "m"], 300)
        >>> y = X[:, 0] + (sex == "m")
        >>> model = FairRegressor(fo.DemographicParity("sex", tolerance=0.05), hidden=(), members=1, epochs=5, random_state=0)
        >>> model.fit(X, y, sensitive_features={"sex": sex}).predict(X[:2], sensitive_features={"sex": sex[:2]}).shape
        (2,)
    """

    def __init__(
        self,
        notion: NotionLike | None = None,
        *,
        tolerance: float | None = None,
        intersect: bool = False,
        sensitive_columns: Any = None,
        keep_sensitive: bool = False,
        cuts: Cuts | None = None,
        missing_group: Missing = "error",
        bounds: tuple[float | None, float | None] | None = None,
        backend: Any = "auto",
        hidden: tuple[int, ...] = (64,),
        dropout: float = 0.0,
        epochs: int = 200,
        members: int | Literal["auto"] = "auto",
        batch_size: int | Literal["auto"] | None = "auto",
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-3,
        distance: float = 0.0,
        early_stopping: bool = True,
        patience: int = 20,
        validation_fraction: float = 0.1,
        calibration_fraction: float = 0.2,
        confidence: float = 0.95,
        device: str = "cpu",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.notion = notion
        self.tolerance = tolerance
        self.intersect = intersect
        self.sensitive_columns = sensitive_columns
        self.keep_sensitive = keep_sensitive
        self.cuts = cuts
        self.missing_group = missing_group
        self.bounds = bounds
        self.backend = backend
        self.hidden = hidden
        self.dropout = dropout
        self.epochs = epochs
        self.members = members
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.distance = distance
        self.early_stopping = early_stopping
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.calibration_fraction = calibration_fraction
        self.confidence = confidence
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sensitive_features: Any = None, sample_weight: Any = None) -> FairRegressor:
        """Fit on X (n, d) and targets y (n,). sample_weight (n,) >= 0 weighs the loss; group means stay unweighted."""
        read = self._read(X, y, sensitive_features)
        targets = self._numbers(y)
        location, scale = float(targets.mean()), float(targets.std()) or 1.0

        def squared(prediction: Tensor, target: Tensor) -> Tensor:
            return ((prediction - target) / scale) ** 2

        self._fit(
            read, targets, sample_weight, space="value", bounds=self.bounds, loss=squared, classes=False, units=(location, scale)
        )  # fmt: skip
        return self

    def predict(self, X: Any, sensitive_features: Any = None) -> Floats:
        """(n,) predictions, each row by itself through the frozen layer."""
        return self._frozen_scores(X, sensitive_features, "predict")[0]

    def transduce(self, X: Any, sensitive_features: Any = None, *, return_solution: bool = False) -> Any:
        """(n,) predictions of the batch X as a whole: the notion holds on it exactly. With ``return_solution`` the Solution instead.

        Raises UnsupportedError for notions that need targets.
        """
        solution = self._transduced(X, sensitive_features)
        return solution if return_solution else solution.scores.numpy()

    def score(self, X: Any, y: Any, sample_weight: Any = None, sensitive_features: Any = None) -> float:
        """R squared of ``predict``."""
        return float(r2_score(y, self.predict(X, sensitive_features), sample_weight=sample_weight))

    def gaps(self, X: Any, y: Any = None, sensitive_features: Any = None) -> Table:
        """What ``notion_`` says of the predictions for X, pair by pair (``fairopt.gaps``). y where the notion needs targets."""
        return self._gaps(X, None if y is None else torch.from_numpy(self._numbers(y)), sensitive_features)

    def _numbers(self, y: Any) -> Floats:
        """y as (n,) finite numbers."""
        values: Floats = column_or_1d(check_array(y, ensure_2d=False, dtype=np.float64, input_name="y"), warn=True)
        if not np.isfinite(values).all():
            raise InputError("y: expected finite numbers")
        return values
