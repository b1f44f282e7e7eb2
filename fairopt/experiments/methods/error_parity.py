"""error-parity behind the plain network (Cruz, Hardt 2024): the best randomised thresholds per group, by a linear program.

The package needs ecos, whose licence is the GPL 3: it is in the experiments' own requirements alone, and its row says so where it is
absent. It reads the group at prediction.
"""

from __future__ import annotations

import inspect
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

Floats = npt.NDArray[np.float64]


class ErrorParity(PostProcessing):
    """RelaxedThresholdOptimizer at the goal's tolerance. Its draws are replaced by their probabilities."""

    name = "error-parity"
    output: ClassVar[Output] = "decision"

    def __init__(self, pool: Pool = "validation") -> None:
        self.pool = pool

    def adjust(self, base: Predictor, parts: Parts, goal: Goal, seed: int) -> Predictor:
        try:
            import ecos  # noqa: F401 - the package takes it by name
            from error_parity import RelaxedThresholdOptimizer
        except ImportError as error:
            raise MissingExtraError("error-parity needs ecos (GPL 3): pip install --no-deps error-parity==0.3.12 ecos==2.0.14") from error
        attribute = parity_attribute(goal, self.name)
        part = pooled(parts, self.pool)
        groups = np.unique(part.sensitive[attribute])
        model = RelaxedThresholdOptimizer(
            predictor=lambda scores: scores,
            constraint="equalized_odds" if isinstance(goal.notion, fo.EqualizedOdds) else "demographic_parity",
            tolerance=goal.tolerance,
        )
        scores = base(part.x, part.sensitive).double().numpy()
        model.fit(scores, part.y.double().numpy(), group=np.searchsorted(groups, part.sensitive[attribute]), y_scores=scores)
        by_group = {str(groups[code]): classifier for code, classifier in model._realized_classifier.group_to_clf.items()}

        def predict(x: Tensor, sensitive: Sensitive) -> Tensor:
            said = base(x, sensitive).double().numpy()
            decided = np.zeros_like(said)
            for name, classifier in by_group.items():
                rows = sensitive[attribute] == name
                decided[rows] = expected(classifier, said[rows])
            return torch.from_numpy(decided)

        return predict


def expected(classifier: Any, scores: Floats) -> Floats:
    """(n,) probability that one of the package's classifiers decides 1, its random draws averaged out."""
    if hasattr(classifier, "classifiers"):
        parts = [p * expected(c, scores) for c, p in zip(classifier.classifiers, classifier.probabilities, strict=True)]
        return np.asarray(np.sum(parts, axis=0), dtype=np.float64)
    if hasattr(classifier, "target_fpr"):  # a coin, regardless of the score
        return np.full(len(scores), float(classifier.target_fpr))
    if hasattr(classifier, "threshold"):
        return np.asarray(classifier(scores), dtype=np.float64)
    return np.full(len(scores), float(inspect.getclosurevars(classifier).nonlocals["fpr_rand"]))  # the same coin as a closure
