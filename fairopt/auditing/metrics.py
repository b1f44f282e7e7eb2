"""A user's own metrics in an audit: a name and a function of targets, values and weights, as fairlearn's ``MetricFrame`` takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np

from fairopt.auditing.sample import Sample, is_binary
from fairopt.basics.arrays import Array, BoolArray
from fairopt.basics.columns import real_vector
from fairopt.basics.errors import InputError

TAKEN = (
    "mean_score", "selection_rate", "base_rate", "true_positive_rate", "false_positive_rate", "accuracy", "mean_target",
    "mean_squared_error", "mean_residual",
)  # fmt: skip
NO_INTERVAL = "a metric of the user's: no interval"


@dataclass(frozen=True)
class Metric:
    """``function(targets, values)`` -> a number, or ``function(targets, values, sample_weight=weights)`` where the audit got weights.

    targets (n,), values (n,): decisions as 0 and 1, or the scores themselves (``of="score"``); scikit-learn's metrics fit.
    InputError for what is no function, and for another ``of``.

    Examples:
        >>> from fairopt.auditing import Metric
        >>> brier = Metric(lambda targets, scores: ((targets - scores) ** 2).mean(), of="score")
        >>> notion, features = fo.DemographicParity("sex", tolerance=0.1), {"sex": ["f", "m"]}
        >>> report = fo.audit([0.25, 0.75], notion, sensitive_features=features, targets=[0, 1], metrics={"Brier score": brier})
        >>> [value for measure, value in zip(report.groups["measure"], report.groups["value"]) if measure == "Brier score"]
        [0.0625, 0.0625, 0.0625]
    """

    function: Callable[..., Any]
    of: Literal["decision", "score"] = "decision"

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InputError(f"metric: got {self.function!r}, expected a function of targets and values")
        if self.of not in ("decision", "score"):
            raise InputError(f"metric of: got {self.of!r}, expected 'decision' or 'score'")


@dataclass(frozen=True, eq=False)
class Metrics:
    """Metrics by name, on targets (n,), scores (n,), decisions (n,) or None, and weights (n,) or None."""

    by_name: Mapping[str, Metric]
    targets: Array
    scores: Array
    decisions: Array | None
    weights: Array | None

    def figure(self, name: str, who: BoolArray) -> tuple[float | None, str]:
        """The metric among ``who`` (n,): a finite number, or None and why. A function may refuse a group, such as one of a single label."""
        if not who.any():
            return None, "nobody in the group"
        try:
            value = self._called(name, who)
        except (ValueError, ZeroDivisionError) as error:
            return None, f"not defined: {type(error).__name__}: {error}"
        return (value, NO_INTERVAL) if isfinite(value) else (None, f"not defined: {value}")

    def overall(self, name: str) -> float | None:
        """The metric of everybody; None where it is no finite number. InputError where the function fails even there."""
        who = np.ones(len(self.targets), dtype=np.bool_)
        try:
            value = self._called(name, who)
        except Exception as error:
            raise InputError(f"metrics[{name!r}]: the function failed on all samples: {type(error).__name__}: {error}") from error
        return value if isfinite(value) else None

    def _called(self, name: str, who: BoolArray) -> float:
        metric = self.by_name[name]
        values = self.scores if metric.of == "score" else self.decisions
        assert values is not None  # checked when the metrics were read
        beside = {} if self.weights is None else {"sample_weight": self.weights[who]}
        found = np.asarray(metric.function(_labels(self.targets)[who], _labels(values)[who], **beside))
        if found.ndim or found.dtype.kind not in "biuf":
            raise InputError(f"metrics[{name!r}]: got {found!r}, expected one number")
        return float(found)


def read_metrics(metrics: Any, sample_weight: Any, *, targets: Array | None, scores: Array, decisions: Array | None) -> Metrics | None:
    """InputError for what is no mapping from names to functions, for names that are taken, absent targets or decisions, bad weights."""
    if metrics is None:
        if sample_weight is not None:
            raise InputError("sample_weight: got weights without metrics, expected metrics= too: nothing else is weighted")
        return None
    if not isinstance(metrics, Mapping) or not metrics:
        raise InputError(f"metrics: got {metrics!r}, expected a mapping from names to functions, e.g. {{'f1': sklearn.metrics.f1_score}}")
    by_name = {}
    for name, given in metrics.items():
        if not isinstance(name, str) or not name or name in TAKEN:
            raise InputError(f"metrics: got the name {name!r}, expected text that is no measure of the audit's own ({', '.join(TAKEN)})")
        by_name[name] = given if isinstance(given, Metric) else Metric(given)
        if by_name[name].of == "decision" and decisions is None:
            raise InputError(f"metrics[{name!r}]: it is of decisions, and there are none; expected threshold=, or Metric(..., of='score')")
    if targets is None:
        raise InputError("metrics: got no targets, expected one a sample")
    weights = None if sample_weight is None else real_vector(sample_weight, len(targets), "sample_weight")
    if weights is not None and not (weights >= 0).all():
        raise InputError(f"sample_weight: got {float(weights.min())}, expected numbers >= 0")
    return Metrics(by_name, targets, scores, decisions, weights)


def sample_metrics(sample: Sample, metrics: Any, sample_weight: Any) -> Metrics | None:
    """``read_metrics`` for an audit's sample."""
    return read_metrics(metrics, sample_weight, targets=sample.targets, scores=sample.scores, decisions=sample.decisions)


def _labels(values: Array) -> Any:
    """0 and 1 as integers, as classification metrics want them."""
    return values.astype(np.int64) if is_binary(values) else values
