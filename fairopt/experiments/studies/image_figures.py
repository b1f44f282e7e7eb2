"""Held-out scores of images measured: as they are, or projected as one batch, in the space where parity is asked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import fairopt as fo
from fairopt.experiments.measure import measure
from fairopt.experiments.methods.base import Goal
from fairopt.experiments.methods.projection import asked
from fairopt.experiments.studies.four_ways import Rows

# Probabilities are kept this far from 0 and 1 where their logits are taken.
MARGIN = 1e-9
SWEPT = ("accuracy", "score_gap", "decision_gap")


def measured(scores: Tensor, rows: Rows, goal: Goal, *, project: bool, sweep: tuple[float, ...] = ()) -> dict[str, Any]:
    """Figures of ``scores`` (n,), projected or not; of projected probabilities also at the tolerances ``sweep``. Plain JSON values."""
    if not project:
        return figures(scores, rows, goal) | {"certified": None}
    solution = _project(scores, rows, goal)
    found = figures(solution.scores, rows, goal) | {"certified": solution.certificate.status is fo.Status.CERTIFIED}
    if sweep:
        swept = {tolerance: figures(_project(scores, rows, goal.within(tolerance)).scores, rows, goal) for tolerance in sweep}
        found["sweep"] = [{"tolerance": tolerance, **{name: f[name] for name in SWEPT}} for tolerance, f in swept.items()]
    return found


def _project(scores: Tensor, rows: Rows, goal: Goal) -> fo.Solution:
    return fo.project(scores, goal.notion, sensitive_features=asked(rows.sensitive, goal.notion), bounds=goal.bounds, return_solution=True)


def figures(scores: Tensor, rows: Rows, goal: Goal) -> dict[str, Any]:
    """Of scores in the goal's space: how good, how far apart in logits, probabilities and decisions, how many pairs keep the tolerance."""
    logits = torch.logit(scores, eps=MARGIN) if goal.space == "probability" else scores
    probabilities = scores if goal.space == "probability" else torch.sigmoid(scores)
    sensitive = asked(rows.sensitive, goal.notion)
    found = measure(probabilities, rows.y, rows.sensitive, goal.notion)
    pairs = fo.gaps(scores, goal.notion, sensitive_features=sensitive, threshold=None)["status"]
    return {
        "accuracy": found.accuracy,
        "auc": found.auc,
        "log_loss": found.log_loss,
        "score_gap": found.score_gap,
        "decision_gap": found.decision_gap,
        "logit_gap": max(fo.gaps(logits, goal.notion, sensitive_features=sensitive, threshold=None)["gap"]),
        "pairs": len(pairs),
        "pairs_met": sum(status == "met" for status in pairs),
        "met": all(status == "met" for status in pairs),
    }
