"""``FrozenMaps``: notions about labels, served without labels. One affine map a group, fitted on calibration rows whose labels are known.

The layer moves samples of one group by their label (equal opportunity, equalized odds), so its shift cannot be frozen. What can: the
scores y = a_g z + b_g with 0 <= a_g <= 1 that stay in the box, the nearest ones whose calibration means meet the notion,

    minimise  sum over g and i in g of (a_g z_i + b_g - z_i)^2     subject to  the notion's rows, which are linear in (a, b).

That is a projection again: with H_g = sum of (z_i, 1)(z_i, 1)^T = L_g L_g^T and v_g = L_g^T ((a_g, b_g) - (1, 0)) the objective is
|v|^2, and fairopt's own solver takes it. A map mixes the score with a constant, as the derived predictors of Hardt, Price and Srebro
(2016) mix decisions; a = 0 and one b for all is always fair, so parity of any kind has a solution.

Population bound: the mean of y over a cell (group and label) is a_g mean(z) + b_g, so it errs by a_g times the error of mean(z),
whatever was fitted. Hoeffding for every cell of calibration rows at once, U of them:
    abs(error) <= a_g R sqrt(log(2 U / alpha) / (2 n))
A mean over several groups errs by the share-weighted errors, plus R times the total variation of the shares: see
``fairopt.layer.population_bound``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, log, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import Array, IntArray
from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.basics.sparse import absolute
from fairopt.contract.problem import HARD, ProjectionProblem
from fairopt.contract.rows import Rows
from fairopt.layer.by_group import ByGroup
from fairopt.layer.fairness_layer import FairnessLayer
from fairopt.layer.freezing import group_keys
from fairopt.layer.frozen import FrozenLayer
from fairopt.layer.population_bound import PopulationBound, furthest, gaps_of
from fairopt.solve import solve

RIDGE = 1e-6  # of the mean square of z: where a group's scores are all the same, prefer a = 1
BROKEN = 1e-6  # in units of the scores' width


def moves_by_label(problem: ProjectionProblem, keys: IntArray) -> bool:
    """Whether the layer moves samples of one combination of groups (keys (n,)) in different ways, so that no shift can be frozen.

    UnsupportedError for rows with a weight of their own a sample: no function of the groups can serve these.
    """
    rows = problem.rows
    if rows.dense is not None:
        raise UnsupportedError(
            "the notion has rows with a weight of their own for each sample, as ScoreCovariance has; nothing can be frozen"
        )
    pairs = np.unique(np.stack([keys, rows.cell.numpy()]), axis=1)  # (2, P): combinations and their cells, sorted
    same = pairs[0, 1:] == pairs[0, :-1]
    columns = np.asarray(rows.coefficients)[:, pairs[1]]  # (m, P)
    return bool((columns[:, 1:] != columns[:, :-1])[:, same].any())


class FrozenMaps(ByGroup):
    """``forward(scores, groups)``: clip(slopes[groups] * scores + offsets[groups], lb, ub); ``index`` turns group values into ``groups``.

    slopes, offsets (G + 1,) float64 buffers; the last pair is (1, 0), for ``unknown``. keys, attributes, bounds, space: as in FrozenLayer.
    """

    slopes: Tensor
    offsets: Tensor

    def __init__(
        self,
        attributes: Sequence[str],
        keys: Sequence[tuple[Any, ...]],
        slopes: Sequence[float],
        offsets: Sequence[float],
        *,
        lb: float,
        ub: float,
        space: str,
        bounds: Sequence[PopulationBound],
    ) -> None:
        if not len(keys) == len(slopes) == len(offsets):
            raise InputError(f"slopes, offsets: got {len(slopes)} and {len(offsets)}, expected one a key, {len(keys)}")
        super().__init__(FrozenLayer(attributes, keys, [0.0] * len(keys), lb=lb, ub=ub, space=space, guarantees=bounds, on_unknown="pass"))
        self.lb, self.ub, self.space, self.bounds = float(lb), float(ub), space, tuple(bounds)
        self.register_buffer("slopes", torch.tensor([*slopes, 1.0], dtype=torch.float64, device="cpu"))
        self.register_buffer("offsets", torch.tensor([*offsets, 0.0], dtype=torch.float64, device="cpu"))

    def forward(self, scores: Tensor, groups: Tensor) -> Tensor:
        """Scores for ``scores`` (n,) and ``groups`` (n,) int64 in [0, unknown]; same shape, dtype and device."""
        z = torch.sigmoid(scores) if self.space == "probability" else scores
        slopes, offsets = (t.to(z.device)[groups].to(z.dtype) for t in (self.slopes, self.offsets))
        return (slopes * z.clamp(self.lb, self.ub) + offsets).clamp(self.lb, self.ub)

    def table(self) -> list[dict[str, Any]]:
        """One row a group: its values, slope and offset."""
        rows = zip(self.keys, self.slopes.tolist(), self.offsets.tolist(), strict=False)
        return [{**dict(zip(self.attributes, key, strict=True)), "slope": a, "offset": b} for key, a, b in rows]


@dataclass(frozen=True, eq=False)
class _Data:
    """Calibration scores z (n,) in the box, the key of each, and the sums over (cell, key): counts and of z, both (C, K)."""

    z: Array
    key: IntArray
    counts: Array
    sums: Array


def freeze_maps(
    layer: FairnessLayer,
    scores: Tensor,
    *,
    sensitive_features: Mapping[str, Any],
    targets: Any,
    confidence: float,
) -> FrozenMaps:
    """Fit the maps on calibration ``scores`` (n,) with ``targets`` (n,).

    UnsupportedError where no affine maps meet the notion.
    """
    lb, ub = (
        (-inf, inf)
        if layer.bounds is None
        else (float(b) if b is not None else s * inf for b, s in zip(layer.bounds, (-1, 1), strict=True))
    )
    problem = layer.prepare(scores.shape[0], sensitive_features, targets).problem
    z = (torch.sigmoid(scores) if layer.space == "probability" else scores).detach().cpu().double().clamp(lb, ub).numpy()
    names = layer.notion.attributes
    keys, position = group_keys(names, sensitive_features, len(z))
    data = _summed(z, position, problem.rows, len(keys))
    slopes, offsets = _fitted(data, problem, lb, ub)
    fair = np.clip(slopes[data.key] * z + offsets[data.key], lb, ub)
    values = _values(fair, problem.rows)
    worst = _violation(values, problem)
    if worst > BROKEN * (ub - lb if isfinite(ub - lb) else max(1.0, float(np.ptp(z)))):
        raise UnsupportedError(f"{layer.notion!r}: no affine map a group inside the bounds meets it (off by {worst:.2g} at best)")
    bounds = _population(data, problem, values, slopes, (lb, ub), confidence)
    return FrozenMaps(names, keys, slopes.tolist(), offsets.tolist(), lb=lb, ub=ub, space=layer.space, bounds=bounds)


def _summed(z: Array, key: IntArray, rows: Rows, keys: int) -> _Data:
    cells = rows.masks.shape[1]
    both = rows.cell.numpy() * keys + key
    counts = np.bincount(both, minlength=cells * keys).reshape(cells, keys).astype(np.float64)
    sums = np.bincount(both, weights=z, minlength=cells * keys).reshape(cells, keys).astype(np.float64)
    return _Data(z, key, counts, sums)


def _fitted(data: _Data, problem: ProjectionProblem, lb: float, ub: float) -> tuple[Array, Array]:
    """Slopes (K,) and offsets (K,) of the projection."""
    keys = data.counts.shape[1]
    size = data.counts.sum(0)
    square = np.bincount(data.key, weights=data.z**2, minlength=keys)
    total = data.sums.sum(0)
    by_slope, by_offset = problem.rows.coefficients @ data.sums, problem.rows.coefficients @ data.counts  # (m, K)
    maps = np.stack([by_slope, by_offset], axis=2)  # (m, K, 2): the rows on (a, b)
    # inside the box: 0 <= a <= 1, and the ends of the box do not leave it
    kinds = [((1.0, 0.0), 0.0, 1.0)]
    kinds += [((lb, 1.0), lb, inf)] if isfinite(lb) else []
    kinds += [((ub, 1.0), -inf, ub)] if isfinite(ub) else []
    inside = np.zeros((len(kinds), keys, keys, 2))
    for j, (pair, _, _) in enumerate(kinds):
        inside[j, np.arange(keys), np.arange(keys)] = pair
    linear = np.concatenate([maps[: problem.linear], inside.reshape(-1, keys, 2)])
    lower = np.concatenate([problem.lower, *(np.full(keys, low) for _, low, _ in kinds)])
    upper = np.concatenate([problem.upper, *(np.full(keys, high) for _, _, high in kinds)])
    every = np.concatenate([linear, maps[problem.linear :]])  # (M, K, 2)
    offset = np.zeros(len(every))
    offset[: problem.linear], offset[len(linear) :] = problem.rows.offset[: problem.linear], problem.rows.offset[problem.linear :]
    offset = offset + every[:, :, 0].sum(1)  # the rows at (a, b) = (1, 0), where v = 0
    ridge = RIDGE * np.maximum(square, size * 1e-12)
    hessian = np.stack([np.stack([square + ridge, total], -1), np.stack([total, size], -1)], -2)  # (K, 2, 2)
    back = np.linalg.inv(np.linalg.cholesky(hessian).transpose(0, 2, 1))  # v -> (a, b) - (1, 0)
    weights = np.einsum("mki,kij->mkj", every, back).reshape(len(every), 2 * keys)
    n = 2 * keys
    dual = ProjectionProblem(
        rows=Rows(
            cell=torch.zeros(n, dtype=torch.int64, device="cpu"),
            masks=np.ones((1, 1), dtype=bool),
            scales=np.zeros((len(every), 1)),
            offset=offset,
            dense=torch.from_numpy(np.ascontiguousarray(weights)),
            dense_rows=np.arange(len(every)),
        ),
        lower=lower,
        upper=upper,
        width=problem.width,
        ratio=problem.ratio,
        range_starts=problem.range_starts + (len(linear) - problem.linear),
        softness=(*problem.softness[: problem.linear], *(HARD,) * (len(linear) - problem.linear), *problem.softness[problem.linear :]),
        labels=tuple(f"row {k}" for k in range(len(every))),
        constraint_labels=tuple(f"row {k}" for k in range(len(linear) + problem.ranges)),
    )
    solution = solve(torch.zeros(n, dtype=torch.float64, device="cpu"), dual, certify=False)
    moved = np.einsum("kij,kj->ki", back, solution.scores.numpy().reshape(keys, 2))
    return np.clip(1.0 + moved[:, 0], 0.0, 1.0), moved[:, 1]


def _values(y: Array, rows: Rows) -> Array:
    """(m,) the notion's rows at y."""
    return np.asarray(rows.coefficients @ np.bincount(rows.cell.numpy(), weights=y, minlength=rows.masks.shape[1]) + rows.offset)


def _violation(values: Array, problem: ProjectionProblem) -> float:
    """The largest violation of a hard constraint."""
    linear = values[: problem.linear]
    each = [
        *np.maximum(problem.lower - linear, linear - problem.upper),
        *(q * values[s].max() - values[s].min() - w for s, w, q in zip(problem.range_slices, problem.width, problem.ratio, strict=True)),
    ]
    return max((float(d) for d, s in zip(each, problem.softness, strict=True) if s.kind == "hard"), default=0.0)


def _population(
    data: _Data, problem: ProjectionProblem, values: Array, slopes: Array, box: tuple[float, float], confidence: float
) -> tuple[PopulationBound, ...]:
    """What holds in the population, for every constraint."""
    width = box[1] - box[0]
    rows, alpha = problem.rows, 1.0 - confidence
    used = np.flatnonzero(absolute(rows.scales).sum(0))
    members = np.asarray(rows.masks).astype(np.float64) @ data.counts  # (M, K) samples of each key in each mask
    statements = int((members[used] > 0).sum()) + int(((members[used] > 0).sum(1) > 1).sum())
    residual = np.zeros(rows.m)  # rows with the mean of a value in them: that mean is sampled too
    for row, _, mask, _ in rows.offset_terms:
        residual[row] = max(residual[row], float(mask >= 0))
    statements *= 2 if residual.any() else 1
    own, plain = np.zeros(len(members)), np.zeros(len(members))  # errors of mean y, and of the mean of a value, in widths
    for j in used:
        inside = np.flatnonzero(members[j])
        n, each = float(members[j].sum()), members[j][inside]
        errors = np.sqrt(log(2.0 * statements / alpha) / (2.0 * each))
        shares = min(1.0, 0.5 * sqrt(2.0 * (len(inside) * log(2.0) + log(statements / alpha)) / n)) if len(inside) > 1 else 0.0
        own[j] = min(1.0, float((each / n) @ (errors * slopes[inside])) + shares)
        plain[j] = min(1.0, float((each / n) @ errors) + shares)
    if not isfinite(width):
        own, plain, width = np.zeros(len(members)), np.zeros(len(members)), inf
    scales = absolute(rows.scales)
    margins = scales @ own + residual * (scales @ plain)  # (m,) in widths
    unit = width if isfinite(width) else 1.0
    out = []
    for k, ((label, gap, limit), reach) in enumerate(zip(gaps_of(values, problem), furthest(problem, *box), strict=True)):
        margin = float(margins[k]) * unit if k < problem.linear else 0.0
        if k >= problem.linear:
            part, ratio = problem.range_slices[k - problem.linear], float(problem.ratio[k - problem.linear])
            margin = float(ratio * (values[part] + margins[part] * unit).max() - (values[part] - margins[part] * unit).min()) - gap
        out.append(PopulationBound.of(label, gap, limit, margin if isfinite(width) else None, None, confidence, reach))
    return tuple(out)
