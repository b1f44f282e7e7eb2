"""What is said of held-out scores: how good they are, how far apart the groups are, and whether a notion holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

import fairopt as fo
from fairopt.basics.errors import InputError
from fairopt.basics.extras import missing


@dataclass(frozen=True)
class Measured:
    """Figures of one set of held-out probabilities.

    accuracy       share of right decisions at 0.5
    auc            area under the ROC curve
    log_loss       mean of -log(probability of what happened): what the networks are trained for
    score_gap      largest minus smallest group mean of the probability
    decision_gap   largest minus smallest share of positive decisions at 0.5
    means          group mean of the probability, by group
    violation      see ``held``
    met            see ``held``
    """

    accuracy: float
    auc: float
    log_loss: float
    score_gap: float
    decision_gap: float
    means: dict[str, float]
    violation: float
    met: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Fitted:
    """Figures of one set of held-out values. mse: mean squared error; gap: the notion's largest; violation, met: see ``held``."""

    mse: float
    gap: float
    violation: float
    met: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(probabilities: Tensor, target: Tensor, sensitive: Mapping[str, npt.NDArray[Any]], notion: fo.Notion) -> Measured:
    """Figures of ``probabilities`` (n,) against ``target`` (n,), both on the CPU. Both classes and all groups must occur.

    The group figures are of the notion's one attribute; targets do not enter them unless the notion is about targets.
    """
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError as error:
        raise missing("the area under the curve needs scikit-learn", "experiments") from error
    (attribute,) = notion.attributes
    group = sensitive[attribute]
    p, y = probabilities.detach().double().numpy(), target.double().numpy()
    if not len(p) == len(y) == len(group):
        raise InputError(f"probabilities, target and group: lengths {len(p)}, {len(y)}, {len(group)}; expected the same")
    decisions = (p >= 0.5).astype(np.float64)
    means, rates = by_group(p, group), by_group(decisions, group)
    _, violation, met = held(probabilities, notion, sensitive, target)
    with np.errstate(divide="ignore"):
        log_loss = float(-np.log(np.where(y == 1, p, 1 - p)).mean())
    return Measured(
        accuracy=float((decisions == y).mean()),
        auc=float(roc_auc_score(y, p)),
        log_loss=log_loss,
        score_gap=max(means.values()) - min(means.values()),
        decision_gap=max(rates.values()) - min(rates.values()),
        means=means,
        violation=violation,
        met=met,
    )


def measure_values(values: Tensor, target: Tensor, sensitive: Mapping[str, npt.NDArray[Any]], notion: fo.Notion) -> Fitted:
    """Figures of ``values`` (n,) against ``target`` (n,), both on the CPU."""
    if values.shape != target.shape:
        raise InputError(f"values and target: shapes {tuple(values.shape)}, {tuple(target.shape)}; expected the same")
    gap, violation, met = held(values, notion, sensitive, target)
    return Fitted(float(((values.double() - target.double()) ** 2).mean()), gap, violation, met)


def held(scores: Tensor, notion: fo.Notion, sensitive: Mapping[str, npt.NDArray[Any]], target: Tensor) -> tuple[float, float, bool]:
    """(largest gap, how far the worst is outside its limit, whether all limits are met: decided exactly, as ``fo.gaps`` does)."""
    asked = {name: sensitive[name] for name in notion.attributes}
    found = fo.gaps(scores, notion, sensitive_features=asked, targets=target if notion.needs_targets else None, threshold=None)
    pairs = [(row["gap"], row["limit"]) for row in found if row["status"] != "absent"]
    met = all(row["status"] != "broken" for row in found)
    outside = max(0.0, *(gap - limit for gap, limit in pairs)) if pairs else 0.0
    return max((gap for gap, _ in pairs), default=0.0), 0.0 if met else outside, met


def by_group(values: npt.NDArray[np.float64], group: npt.NDArray[np.str_]) -> dict[str, float]:
    """Mean of ``values`` (n,) in each group, sorted by name."""
    return {str(g): float(values[group == g].mean()) for g in np.unique(group)}


def group_means(values: Tensor, groups: npt.NDArray[np.str_]) -> dict[str, Fraction]:
    """The exact mean of ``values`` (n,) in each of ``groups`` (n,), sorted by name. Values must be finite."""
    exact = [Fraction(v) for v in values.detach().double().tolist()]
    means = {}
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        means[str(group)] = sum((exact[i] for i in own), Fraction(0)) / len(own)
    return means


def gap(values: Tensor, groups: npt.NDArray[np.str_]) -> Fraction:
    """Largest minus smallest group mean."""
    means = group_means(values, groups).values()
    return max(means) - min(means)
