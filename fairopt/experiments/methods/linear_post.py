"""A linear rule behind any probabilities (after LinearPost; Xian, Zhao 2024): linear in p, from the prices of a linear program.

    max  mean d_i (2 p_i - 1)   subject to   |sum_i w_ie d_i / sum_i w_ie - q_e| <= tolerance / 2  for each group and event,  0 <= d <= 1

over the calibration rows, with w = 1 (parity), p (among positives), 1 - p (among negatives): no label is used. A later row is decided by
itself: 1 where its gain less the prices of its group's rows is above 0. As in the paper gains are blurred by a little noise, for where
prices leave many rows at 0 no rule without a draw meets the limits; here draws are replaced by their probabilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.errors import FairoptError
from fairopt.basics.extras import missing
from fairopt.experiments.methods.base import Goal, Output, Predictor, Sensitive
from fairopt.experiments.methods.expected import Events, Floats, Groups, parity
from fairopt.experiments.methods.postprocessing import PostProcessing

if TYPE_CHECKING:
    from fairopt.experiments.data.tabular import Parts


NOISE = 1e-2  # half the width of the noise, in units of the gain


class LinearPost(PostProcessing):
    """Fitted on the calibration rows, which are ``parts.validation``. It reads the group at prediction."""

    name = "linear rule"
    output: ClassVar[Output] = "decision"

    def adjust(self, base: Predictor, parts: Parts, goal: Goal, seed: int) -> Predictor:
        attribute, tolerance, events = parity(goal.notion)
        rows = parts.validation
        p = np.asarray(base(rows.x, rows.sensitive).double().numpy())
        prices = prices_of(p, rows.sensitive[attribute], tolerance, events, seed)

        def decide(x: Tensor, sensitive: Sensitive) -> Tensor:
            said = np.asarray(base(x, sensitive).double().numpy())
            gain = 2 * said - 1
            for group, per_event in prices.items():
                own = sensitive[attribute] == group
                gain[own] -= sum(price * weight(said[own], event) for price, event in zip(per_event, events, strict=True))
            return torch.from_numpy(np.clip(0.5 + gain / (2 * NOISE), 0.0, 1.0))

        return decide


def weight(p: Floats, event: int | None) -> Floats:
    """(n,) how far each row belongs to the event, by its probability p (n,)."""
    return np.ones_like(p) if event is None else p if event == 1 else 1 - p


def prices_of(p: Floats, groups: Groups, tolerance: float, events: Events, seed: int) -> dict[str, tuple[float, ...]]:
    """group -> price of one unit of weight, an event; in units of the gain 2 p - 1. FairoptError where the program is not solved."""
    try:
        from scipy.optimize import linprog
        from scipy.sparse import csr_array, vstack
    except ImportError as error:
        raise missing("the linear rule needs scipy", "experiments") from error
    kinds, n = np.unique(groups), len(p)
    gain = 2 * p - 1 + np.random.default_rng(seed).uniform(-NOISE, NOISE, n)
    rows, totals = [], []
    for group in kinds:
        for k, event in enumerate(events):
            weights = np.where(groups == group, weight(p, event), 0.0)
            totals.append(float(weights.sum()))
            level = np.zeros(len(events))
            level[k] = -1.0
            rows.append(np.concatenate([weights / totals[-1], level]))
    rates = csr_array(np.stack(rows))
    found = linprog(
        -np.concatenate([gain / n, np.zeros(len(events))]),
        A_ub=vstack([rates, -rates]).tocsr(),
        b_ub=np.full(2 * len(rows), tolerance / 2),
        bounds=[(0.0, 1.0)] * (n + len(events)),
        method="highs-ds",
    )
    if found.status != 0:
        raise FairoptError(f"linear rule: the program was not solved: {found.message}")
    marginals = -np.asarray(found.ineqlin.marginals)  # >= 0: what a unit of the limit is worth
    net = (marginals[: len(rows)] - marginals[len(rows) :]) * n / np.array(totals)
    per = net.reshape(len(kinds), len(events))
    return {str(group): tuple(float(v) for v in per[i]) for i, group in enumerate(kinds)}
