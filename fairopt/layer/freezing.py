"""Fitting the shifts of a fairness layer on calibration scores, so that single rows are served without a solver.

Where a shift depends on the groups alone it can be frozen. Where it depends on the label (equal opportunity, equalized odds) it cannot:
the label is not known when the score is sent.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from math import inf
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fairopt.basics.columns import numbers, plain_values, read_features
from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.basics.sparse import same_columns
from fairopt.contract.registry import BackendLike
from fairopt.layer.frozen import FrozenLayer, Key, OnUnknown
from fairopt.layer.population_bound import population_bounds
from fairopt.layer.prepared import Prepared
from fairopt.notions import Notion


class Freezable(Protocol):
    """What is frozen: a ``FairnessLayer``, or what behaves like one."""

    @property
    def notion(self) -> Notion: ...
    @property
    def bounds(self) -> Any: ...
    @property
    def space(self) -> str: ...
    @property
    def backend(self) -> BackendLike: ...
    def train(self) -> Self: ...
    def prepare(self, n: int, sensitive_features: Any, targets: Any = None) -> Prepared: ...


def freeze(
    layer: Freezable,
    scores: Any,
    *,
    sensitive_features: Any,
    targets: Any = None,
    confidence: float = 0.95,
    on_unknown: OnUnknown = "error",
) -> FrozenLayer:
    """Fit the shifts of ``layer`` on calibration ``scores`` (n,) or (n, 1) and bound what they give on the population.

    scores      a tensor, or any other container of numbers (numpy, pandas, polars, pyarrow, a list)

    on_unknown  what the frozen layer does with groups that calibration had not, and with missing ones: see ``FrozenLayer``.

    Raises UnsupportedError where a shift would depend on the label, or on more than the groups (weights, per-sample bounds, covariance
    rows).
    """
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence: expected a number in (0, 1), got {confidence!r}")
    lb, ub = _scalar_bounds(layer.bounds)
    raw = numbers(scores, None, "scores").detach().cpu()  # (n,)
    calibrated = copy.deepcopy(layer).train()  # a copy: calibration may show groups that training had not
    sensitive_features = read_features(sensitive_features, layer.notion.attributes)
    prepared = calibrated.prepare(raw.shape[0], sensitive_features, targets)
    problem = prepared.problem
    if problem.rows.dense is not None:
        raise UnsupportedError(f"freeze: {layer.notion!r} has rows with a weight of its own a sample; its shift is not one number a group")
    z = (torch.sigmoid(raw) if layer.space == "probability" else raw).double()
    solution = prepared.project(z, backend=layer.backend, return_solution=True)
    cell_shifts = np.asarray(solution.prices, dtype=np.float64) @ problem.rows.coefficients  # (C,)
    names = layer.notion.attributes
    cell = problem.rows.cell.numpy()  # (n,)
    keys, code = group_keys(names, sensitive_features, len(cell))
    shifts = []
    for k in range(len(keys)):
        cells = np.unique(cell[code == k])
        if not same_columns(problem.rows.coefficients, cells):
            raise UnsupportedError(
                f"freeze: {layer.notion!r} moves samples of one group by their label, which is unknown when a score is sent; freeze "
                "a notion without labels (DemographicParity), or one on residuals (MeanResidual), whose shift depends on the group alone"
            )
        shifts.append(float(cell_shifts[cells[0]]))
    frozen_y = np.clip(z.numpy() - np.array(shifts)[code], lb, ub)
    bounds = population_bounds(problem, frozen_y, cell_shifts, lb, ub, confidence)
    return FrozenLayer(
        names, keys, shifts, lb=lb, ub=ub, space=layer.space, bounds=bounds, notion=repr(layer.notion), on_unknown=on_unknown
    )


def group_keys(names: Sequence[str], sensitive_features: Any, n: int) -> tuple[list[Key], npt.NDArray[np.int64]]:
    """The combinations of values that occur, sorted, and the position (n,) of each sample's."""
    columns = [plain_values(sensitive_features[name], f"sensitive_features[{name!r}]") for name in names]
    rows = list(zip(*columns, strict=True))
    keys = sorted(set(rows), key=lambda row: [(v is None, type(v).__name__, v if v is not None else 0) for v in row])
    position = {key: k for k, key in enumerate(keys)}
    return keys, np.array([position[row] for row in rows], dtype=np.int64).reshape(n)


def _scalar_bounds(bounds: Any) -> tuple[float, float]:
    if bounds is None:
        return -inf, inf
    low, high = bounds
    for b in (low, high):
        if isinstance(b, Tensor) and b.numel() > 1:
            raise UnsupportedError("freeze: bounds of its own for each sample cannot be frozen; give one pair of numbers")
    return (-inf if low is None else float(low)), (inf if high is None else float(high))
