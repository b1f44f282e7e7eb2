"""What frozen shifts give on the population they were calibrated for (claim Q1).

With probability >= confidence over the calibration sample, for all constraints at once,

    population gap <= calibration gap + R * sum over the groups of the row of abs(scale) * sqrt(log(2 K / alpha) / (2 n_g)),

uniformly over the shift (Dvoretzky-Kiefer-Wolfowitz with Massart's constant, K groups). A group with several shifts inside it (overlapping
attributes) is bounded cell by cell, plus R times the total variation of its cell shares, itself bounded by Bretagnolle-Huber-Carol.
Residual rows add the same margin for the mean target.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite, log, sqrt

import numpy as np
import numpy.typing as npt

from fairopt.basics.sparse import absolute
from fairopt.contract.problem import ProjectionProblem


@dataclass(frozen=True)
class PopulationBound:
    """One constraint on the population: gap <= bound with the stated confidence (all constraints of the layer at once).

    gap: on the calibration data, with the frozen shifts (for one-sided rows the distance beyond the limit); margin: what sampling may add;
    bound = gap + margin, None where the scores have no bounds. held_out_margin: what a sample not used for fitting would allow (no
    union over shifts, nor over groups: the population's extreme pair is a fixed one).
    """

    constraint: str
    gap: float
    limit: float
    margin: float | None
    bound: float | None
    held_out_margin: float | None
    confidence: float


def population_bounds(
    problem: ProjectionProblem, y: npt.NDArray[np.float64], cell_shifts: npt.NDArray[np.float64], lb: float, ub: float, confidence: float
) -> tuple[PopulationBound, ...]:
    """Claim Q1 for every constraint of ``problem`` at the frozen scores ``y`` (n,)."""
    rows = problem.rows
    sums = np.bincount(rows.cell.numpy(), weights=y, minlength=rows.masks.shape[1])
    values = rows.coefficients @ sums + rows.offset  # (m,)
    width = ub - lb
    finite = isfinite(width)
    alpha = 1.0 - confidence
    mask_margin = _mask_margins(problem, cell_shifts, alpha) if finite else np.full(rows.masks.shape[0], inf)
    sampled = mask_margin * (width if finite else 1.0)
    if problem.used_targets:  # residual rows: the mean target is estimated too (targets inside the bounds)
        sampled = sampled * 2.0
    margins = abs(rows.scales) @ np.where(np.isfinite(sampled), sampled, 0.0)  # (m,)
    share = (rows.scales**2) @ (1.0 / rows.mask_counts)  # (m,)
    out = []
    for k, label in enumerate(problem.constraint_labels[: problem.linear]):
        low, high = float(problem.lower[k]), float(problem.upper[k])
        gap, limit = (abs(float(values[k])), high) if low == -high else (max(low - float(values[k]), float(values[k]) - high), 0.0)
        held = sqrt(log(1.0 / alpha) * float(share[k]) / 2.0) * width if finite else None
        margin = float(margins[k]) if finite else None
        out.append(PopulationBound(label, gap, limit, margin, None if margin is None else gap + margin, held, confidence))
    for r, part in enumerate(problem.range_slices):
        label = problem.constraint_labels[problem.linear + r]
        ratio = float(problem.ratio[r])
        gap = ratio * float(values[part].max()) - float(values[part].min())
        pair = np.sort(share[part])[-2:]
        held = sqrt(log(1.0 / alpha) * float(pair.sum()) / 2.0) * width if finite else None
        margin = _range_margin(values[part], margins[part], ratio) if finite else None
        out.append(PopulationBound(label, gap, float(problem.width[r]), margin, None if margin is None else gap + margin, held, confidence))
    return tuple(out)


def _range_margin(values: npt.NDArray[np.float64], margins: npt.NDArray[np.float64], ratio: float) -> float:
    """How far ratio * max - min can grow when each value moves by at most its margin."""
    return float(ratio * ((values + margins).max() - values.max()) - ((values - margins).min() - values.min()))


def _mask_margins(problem: ProjectionProblem, cell_shifts: npt.NDArray[np.float64], alpha: float) -> npt.NDArray[np.float64]:
    """(M,) sampling error of each mask's mean in units of the box, all at once with probability 1 - alpha.

    One shift in the mask: sqrt(log(2 U / alpha) / (2 n)). Several: the share-weighted errors of its cells plus the total variation of
    the shares,
    TV <= 1/2 sqrt(2 (C log 2 + log(U / alpha)) / n) for C cells. U counts every such statement made (masks, cells, share vectors), and
    residual rows' means.
    """
    rows = problem.rows
    masks, counts = rows.masks, rows.counts
    used = np.flatnonzero(absolute(rows.scales).sum(0))
    mixed = [j for j in used if np.ptp(cell_shifts[masks[j]]) > 0]
    cells = sorted({int(c) for j in mixed for c in np.flatnonzero(masks[j])})
    statements = (len(used) - len(mixed)) + len(cells) + len(mixed)
    if problem.used_targets:
        statements *= 2
    out = np.zeros(masks.shape[0])
    for j in used:
        n = float(counts[masks[j]].sum())
        if j not in mixed:
            out[j] = sqrt(log(2.0 * statements / alpha) / (2.0 * n))
            continue
        inside = counts[masks[j]].astype(np.float64)
        errors = np.sqrt(log(2.0 * statements / alpha) / (2.0 * inside))
        shares = 0.5 * sqrt(2.0 * (len(inside) * log(2.0) + log(statements / alpha)) / n)
        out[j] = float((inside / n) @ errors) + min(1.0, shares)
    return np.minimum(out, 1.0)
