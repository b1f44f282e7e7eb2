"""What frozen shifts give on the population they were calibrated for (claim Q1).

With probability >= confidence over the calibration sample, for all constraints at once,

    population gap <= calibration gap + R * sum over the groups of the row of abs(scale) * sqrt(log(2 K / alpha) / (2 n_g)),

uniformly over the shift (scores at a shift rise with the score, by any distance; Dvoretzky-Kiefer-Wolfowitz with Massart's
constant, K groups). A group with several shifts inside it (overlapping attributes) is
bounded cell by cell, plus R times the total variation of its cell shares, itself bounded by Bretagnolle-Huber-Carol.
Residual rows add the same margin for the mean target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, log, sqrt

import numpy as np
import numpy.typing as npt

from fairopt.basics.sparse import absolute
from fairopt.contract.problem import ProjectionProblem


@dataclass(frozen=True)
class PopulationBound:
    """One constraint on the population: gap <= bound with the stated confidence (all constraints of the layer at once).

    constraint       which one, in words
    gap              on the calibration data, with the frozen shifts (for one-sided rows the distance beyond the limit)
    limit            what the notion asked for
    margin           what sampling may add; under a guarantee what was taken off the limit, so that limit - margin was left to work with
    bound            gap + margin, no more than scores inside the bounds can reach, None where the scores have no bounds; under a guarantee
                     the limit, or more where the rows were too few
    held_out_margin  what a sample not used for fitting would allow (no union over shifts, nor over groups: the population's extreme pair
                     is a fixed one); None under a guarantee
    confidence       of the bound
    vacuous          the bound says no more than the bounds of the scores do

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> sex = rng.choice(["f", "m"], 4000)
        >>> layer = fo.FairnessLayer(fo.DemographicParity("sex", tolerance=0.1), bounds=(0, 1))
        >>> (promise,) = layer.freeze(rng.beta(5, 5, 4000), sensitive_features={"sex": sex}, guarantee=0.95).guarantees
        >>> promise.bound, promise.margin < 0.05, promise.confidence, promise.vacuous
        (0.1, True, 0.95, False)
    """

    constraint: str
    gap: float
    limit: float
    margin: float | None
    bound: float | None
    held_out_margin: float | None
    confidence: float
    vacuous: bool = False

    @classmethod
    def of(
        cls, constraint: str, gap: float, limit: float, margin: float | None, held_out_margin: float | None, confidence: float, most: float
    ) -> PopulationBound:
        """With the bound clipped to ``most``, the largest gap that the bounds of the scores allow."""
        bound = None if margin is None else min(gap + margin, most)
        return cls(constraint, gap, limit, margin, bound, held_out_margin, confidence, vacuous=bound is None or not bound < most)


def population_bounds(
    problem: ProjectionProblem,
    values: npt.NDArray[np.float64],
    cell_shifts: npt.NDArray[np.float64],
    lb: float,
    ub: float,
    confidence: float,
) -> tuple[PopulationBound, ...]:
    """Claim Q1 for every constraint of ``problem``, whose rows have the ``values`` (m,) at the frozen scores: see ``mean_rows``."""
    rows = problem.rows
    width = ub - lb
    finite = isfinite(width)
    alpha = 1.0 - confidence
    mask_margin = _mask_margins(problem, cell_shifts, alpha) if finite else np.full(rows.masks.shape[0], inf)
    sampled = mask_margin * (width if finite else 1.0)
    if problem.used_targets:  # residual rows: the mean target is estimated too (targets inside the bounds)
        sampled = sampled * 2.0
    margins = abs(rows.scales) @ np.where(np.isfinite(sampled), sampled, 0.0)  # (m,)
    share = (rows.scales**2) @ (1.0 / rows.mask_counts)  # (m,)
    most = furthest(problem, lb, ub)
    out = []
    for k, (label, gap, limit) in enumerate(gaps_of(values, problem)):
        r = k - problem.linear
        if r < 0:
            parts, margin = float(share[k]), float(margins[k])
        else:
            part = problem.range_slices[r]
            parts = float(np.sort(share[part])[-2:].sum())
            margin = _range_margin(values[part], margins[part], float(problem.ratio[r]))
        held = sqrt(log(1.0 / alpha) * parts / 2.0) * width if finite else None
        out.append(PopulationBound.of(label, gap, limit, margin if finite else None, held, confidence, most[k]))
    return tuple(out)


def mean_rows(problem: ProjectionProblem, y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(m,) the rows at scores y (n,)."""
    sums = np.bincount(problem.rows.cell.numpy(), weights=y, minlength=problem.rows.masks.shape[1])
    return rows_at(problem, sums.astype(np.float64))


def rows_at(problem: ProjectionProblem, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(m,) the rows where the scores of each cell have the ``sums`` (C,)."""
    return np.asarray(problem.rows.coefficients @ sums + problem.rows.offset)


def promised_bounds(
    problem: ProjectionProblem,
    values: npt.NDArray[np.float64],
    most: Sequence[float],
    *,
    margin: float | None,
    excess: float,
    guarantee: float,
) -> tuple[PopulationBound, ...]:
    """What a guarantee says of every constraint at the calibration rows' values (m,): its limit, and ``excess`` where they were too few.

    margin: what was taken off the limits; None: what the calibration gap is below them.
    """
    out = []
    for (label, gap, limit), reach in zip(gaps_of(values, problem), most, strict=True):
        bound = min(limit + excess, reach)
        taken = limit - gap if margin is None else margin
        out.append(PopulationBound(label, gap, limit, taken, bound, None, guarantee, vacuous=not bound < reach))
    return tuple(out)


def gaps_of(values: npt.NDArray[np.float64], problem: ProjectionProblem) -> list[tuple[str, float, float]]:
    """(constraint, gap, limit) at the values (m,) of the rows; of one-sided rows the distance beyond the limit, and 0."""
    out = []
    for k, label in enumerate(problem.constraint_labels[: problem.linear]):
        low, high = float(problem.lower[k]), float(problem.upper[k])
        f = float(values[k])
        out.append((label, abs(f), high) if low == -high else (label, max(low - f, f - high), 0.0))
    for r, part in enumerate(problem.range_slices):
        gap = float(problem.ratio[r]) * float(values[part].max()) - float(values[part].min())
        out.append((problem.constraint_labels[problem.linear + r], gap, float(problem.width[r])))
    return out


def furthest(problem: ProjectionProblem, lb: float, ub: float) -> list[float]:
    """(constraints) the largest gap that scores in [lb, ub] can have."""
    least, largest = reach_of_rows(problem, lb, ub)
    out = []
    for k, (low, high) in enumerate(zip(problem.lower.tolist(), problem.upper.tolist(), strict=True)):
        one, other = float(least[k]), float(largest[k])
        out.append(max(abs(one), abs(other)) if low == -high else max(low - one, other - high))
    ratios = problem.ratio.tolist()
    return out + [q * float(largest[s].max()) - float(least[s].min()) for q, s in zip(ratios, problem.range_slices, strict=True)]


def reach_of_rows(problem: ProjectionProblem, lb: float, ub: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(m,) the least and the largest value of each row in any population, for scores in [lb, ub] (and targets there, in residual rows)."""
    rows = problem.rows
    whole = np.asarray(rows.coefficients) * rows.counts  # (m, C)
    up, down = np.maximum(whole, 0.0).sum(1), np.maximum(-whole, 0.0).sum(1)
    with np.errstate(invalid="ignore"):
        least = np.where(up > 0, up * lb, 0.0) - np.where(down > 0, down * ub, 0.0)
        largest = np.where(up > 0, up * ub, 0.0) - np.where(down > 0, down * lb, 0.0)
    least, largest = least + rows.offset, largest + rows.offset
    for row in {row for row, _, mask, _ in rows.offset_terms if mask >= 0}:  # the mean target is the sample's, not the population's
        largest[row] = (up[row] + down[row]) * (ub - lb)
        least[row] = -largest[row]
    return least, largest


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
