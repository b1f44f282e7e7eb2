"""How scores are served, and what is measured of it: in exact batches, all at once, or as a stream of small batches as they come.

The targets enter the error alone. Nothing that is sent depends on them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import fairopt as fo
from fairopt.basics.errors import InputError
from fairopt.experiments.data.tabular import Part
from fairopt.experiments.methods.base import Goal
from fairopt.experiments.studies.four_ways import exact_batches

# The rows of a batch are drawn with this seed, which gives back the figures that were measured for the paper's package.
BATCH_SEED = 0
# A stream aims a little below the tolerance: the pooled rule ends slightly above what it aims at.
AIM = 0.95


@dataclass(frozen=True)
class Served:
    """What was sent, measured.

    error          mean squared error
    gap            largest minus smallest group mean of all rows together
    batch_gap      the largest gap within a batch; None where batches were not projected one by one
    certified      batches whose status was CERTIFIED, of ``batches``; None where nothing was promised
    left_out       rows that no batch took
    """

    error: float
    gap: float
    batch_gap: float | None
    certified: int | None
    batches: int
    left_out: int

    def record(self) -> dict[str, float | int | None]:
        return asdict(self)


def serve(scores: Tensor, part: Part, attribute: str, goal: Goal, size: int | None, *, project: bool) -> Served:
    """``scores`` (n,) in exact batches of ``size`` (None: all rows as one), each projected, or clamped to the box alone."""
    group = part.sensitive[attribute]
    everyone = [np.arange(len(group))]
    batches, left_out = (everyone, 0) if size is None else exact_batches(group, size, BATCH_SEED)
    if not batches:
        raise InputError(f"size: got {size}, expected a size of which {len(group)} rows give at least one batch")
    if not project:
        rows = np.concatenate(batches)
        sent = _clamped(scores, goal)[rows]
        return Served(_error(sent, part, rows), _gap(sent, group[rows]), None, None, len(batches), left_out)
    solutions = [
        fo.project(scores[rows], goal.notion, sensitive_features={attribute: group[rows]}, bounds=goal.bounds, return_solution=True)
        for rows in batches
    ]
    rows = np.concatenate(batches)
    sent = np.concatenate([solution.scores.numpy() for solution in solutions])
    return Served(
        error=_error(sent, part, rows),
        gap=_gap(sent, group[rows]),
        batch_gap=max(_gap(s.scores.numpy(), group[own]) for s, own in zip(solutions, batches, strict=True)),
        certified=sum(solution.certificate.status is fo.Status.CERTIFIED for solution in solutions),
        batches=len(batches),
        left_out=left_out,
    )


def stream(
    scores: Tensor, part: Part, calibration: Tensor, calibration_groups: npt.NDArray[np.str_], attribute: str, goal: Goal, size: int
) -> Served:
    """``scores`` (n,) in the order of the rows, ``size`` at a time, whatever groups come: frozen shifts, then the pooled rule.

    The shifts of the groups are fitted on ``calibration`` (m,), scores of other rows, without targets; the controller keeps what is left of
    the gap. Alone, the controller would first clip every score into the box, and in a tight box lose their order.
    """
    if goal.bounds is None:
        raise InputError("bounds: got None, expected a box: streams need one")
    group = part.sensitive[attribute]
    layer = fo.FairnessLayer(goal.notion, bounds=goal.bounds)
    frozen = layer.freeze(calibration, sensitive_features={attribute: calibration_groups})
    shifted = frozen.predict(scores, sensitive_features={attribute: group}).numpy()
    controller = fo.streaming.PooledParity(goal.make(AIM * goal.tolerance), bounds=goal.bounds)
    starts = range(0, len(group), size)
    steps = [controller.step(shifted[k : k + size], sensitive_features={attribute: group[k : k + size]}) for k in starts]
    sent = np.concatenate([np.asarray(step.scores) for step in steps])
    rows = np.arange(len(group))
    return Served(_error(sent, part, rows), _gap(sent, group), None, None, len(steps), 0)


def _clamped(scores: Tensor, goal: Goal) -> npt.NDArray[np.float64]:
    inside: npt.NDArray[np.float64] = (scores if goal.bounds is None else torch.clamp(scores, *goal.bounds)).double().numpy()
    return inside


def _error(sent: npt.NDArray[np.float64], part: Part, rows: npt.NDArray[np.int64]) -> float:
    target = part.y.double().numpy()[rows]
    return float(np.mean((sent - target) ** 2))


def _gap(sent: npt.NDArray[np.float64], group: npt.NDArray[np.str_]) -> float:
    means = [float(sent[group == name].mean()) for name in np.unique(group)]
    return max(means) - min(means)
