"""What is said of held-out probabilities: how good they are, and how far apart the groups are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fairopt.errors import InputError, MissingExtraError


@dataclass(frozen=True)
class Measured:
    """Figures of one set of held-out probabilities.

    accuracy       share of right decisions at 0.5
    auc            area under the ROC curve
    log_loss       mean of -log(probability of what happened): what the networks are trained for
    score_gap      largest minus smallest group mean of the probability
    decision_gap   largest minus smallest share of positive decisions at 0.5
    means          group mean of the probability, by group
    violation      how far the notion's worst row is outside its limit: from the certificate where there is one, else from score_gap
    certified      the status was CERTIFIED; None where nothing was promised
    seconds        of training an epoch; None where there are no epochs
    """

    accuracy: float
    auc: float
    log_loss: float
    score_gap: float
    decision_gap: float
    means: dict[str, float]
    violation: float
    certified: bool | None = None
    seconds: float | None = None


def measure(
    probabilities: Tensor,
    target: Tensor,
    group: npt.NDArray[np.str_],
    tolerance: float,
    *,
    violation: float | None = None,
    certified: bool | None = None,
    seconds: float | None = None,
) -> Measured:
    """Figures of ``probabilities`` (n,) against ``target`` (n,), both on the CPU. Both classes and all groups must occur."""
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError as error:
        raise MissingExtraError("the area under the curve needs scikit-learn: pip install 'fairopt[experiments]'") from error
    p = probabilities.detach().double().numpy()
    y = target.double().numpy()
    if not len(p) == len(y) == len(group):
        raise InputError(f"probabilities, target and group: lengths {len(p)}, {len(y)}, {len(group)}; expected the same")
    decisions = (p >= 0.5).astype(np.float64)
    means, rates = by_group(p, group), by_group(decisions, group)
    score_gap = max(means.values()) - min(means.values())
    return Measured(
        accuracy=float((decisions == y).mean()),
        auc=float(roc_auc_score(y, p)),
        log_loss=float(-np.log(np.where(y == 1, p, 1 - p)).mean()),
        score_gap=score_gap,
        decision_gap=max(rates.values()) - min(rates.values()),
        means=means,
        violation=max(0.0, score_gap - tolerance) if violation is None else violation,
        certified=certified,
        seconds=seconds,
    )


def by_group(values: npt.NDArray[np.float64], group: npt.NDArray[np.str_]) -> dict[str, float]:
    """Mean of ``values`` (n,) in each group, sorted by name."""
    return {str(g): float(values[group == g].mean()) for g in np.unique(group)}
