"""Freezing a layer whose groups are known in probability: a shift a group, and a sample is moved by its probabilities' mean of them.

A row of such a notion weighs sample i by sum_g c_g P_ig / mass_g, so that A'p is linear in P: with shifts s_g the answer is
clip(z_i - sum_g P_ig s_g, lb, ub). Nothing but P is needed where scores are sent, and a sample whose group is known for certain has P of 0
and 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairopt.basics.arrays import Array
from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.basics.soft import Soft
from fairopt.contract.problem import ProjectionProblem

LINEAR = 1e-9  # of the largest shift: how far from linear in P rounding may leave the moves
APART = 1e-5  # the least singular value of P over the largest: below it, shifts are not told apart by these rows


def soft_attribute(names: Sequence[str], features: Mapping[str, Any]) -> Soft | None:
    """The only attribute of a notion where it is known in probability; None where none is. UnsupportedError beside others."""
    given = [features.get(name) for name in names]
    found = [soft for soft in given if isinstance(soft, Soft) and not soft.is_certain]
    if not found:
        return None
    if len(names) > 1:
        raise UnsupportedError(f"freeze: groups known in probability beside other attributes ({', '.join(names)}): not supported")
    return found[0]


def soft_shifts(problem: ProjectionProblem, prices: Array, soft: Soft, notion: str) -> dict[Any, float]:
    """The shift of each group with any probability: (A'p / w)_i = sum_g P_ig s_g.

    UnsupportedError where there are none: where labels or weights move scores too; InputError where these rows do not tell them apart.
    """
    moves = prices @ problem.rows.matrix().numpy()
    if problem.weights is not None:
        moves = moves / problem.weights.numpy()
    used = np.flatnonzero(soft.probabilities.any(0))
    p = soft.probabilities[:, used]
    shifts, _, rank, singular = np.linalg.lstsq(p, moves, rcond=APART)
    if not (rank == used.size and singular[-1] > APART * singular[0]):
        raise InputError(
            f"freeze: sensitive_features: the probabilities of {[soft.values[k] for k in used.tolist()]!r} depend on each other linearly in"
            f" these {len(soft)} rows, so that the shift of a sample with others is not determined; calibrate with more, or other, rows"
        )
    if not float(np.abs(p @ shifts - moves).max()) <= LINEAR * float(np.abs(moves).max()):
        raise UnsupportedError(
            f"freeze: {notion} moves samples by more than the probabilities of their groups (by a label, a weight, another attribute), "
            "which is unknown when a score is sent; freeze a notion on the groups alone, such as DemographicParity"
        )
    return {soft.values[k]: float(s) for k, s in zip(used.tolist(), shifts, strict=True)}
